//! How far a file run has come: counters that every worker's source adds to, and a bar for people.

use crate::runtime::Control;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of a file run, shared by the sources of all workers of a process.
#[derive(Debug, Default)]
pub struct FileProgress {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    events: AtomicU64,
    files_open: AtomicU64,
}

impl FileProgress {
    /// Bytes read, of the files as they are stored.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Bytes there are to read, of the files as they are stored.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// Records handed over.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Whether every file has been read to its end.
    pub fn is_finished(&self) -> bool {
        self.files_open.load(Ordering::Relaxed) == 0
    }

    pub(super) fn add_file(&self, size: u64) {
        self.bytes_total.fetch_add(size, Ordering::Relaxed);
        self.files_open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_events(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn close_file(&self) {
        self.files_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often the bar is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Draws a bar (share, rate, time left) on standard error until the run is over or asked to stop; returns at once where standard
/// error is no terminal. Meant for a thread of its own; the sources may come later.
pub fn draw(progress: &FileProgress, control: &Control) {
    if std::io::stderr().is_terminal() {
        draw_to(progress, control, ProgressDrawTarget::stderr());
    }
}

fn draw_to(progress: &FileProgress, control: &Control, target: ProgressDrawTarget) {
    let bar = ProgressBar::with_draw_target(Some(progress.bytes_total()), target).with_style(style());
    while !control.sleep(REDRAW) {
        show(progress, &bar);
    }
    show(progress, &bar);
    // Left where it is: below comes the summary.
    bar.abandon();
}

fn show(progress: &FileProgress, bar: &ProgressBar) {
    // A file may have grown since it was counted.
    bar.set_length(progress.bytes_total().max(progress.bytes_done()));
    bar.set_position(progress.bytes_done());
    bar.set_message(progress.events().to_string());
}

fn style() -> ProgressStyle {
    let template = "{wide_bar} {percent:>3}%  {bytes} of {total_bytes}  {rate}  {msg} events  {left} left";
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{}/s", indicatif::HumanBytes(state.per_sec() as u64));
        })
        .with_key("left", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = write!(text, "{}", indicatif::FormattedDuration(state.eta()));
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// Remembers all that was written.
    #[derive(Clone, Debug, Default)]
    struct Recorder(Arc<Mutex<String>>);

    impl indicatif::TermLike for Recorder {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_shows_share_and_events_and_ends_with_the_files() {
        let progress = FileProgress::default();
        progress.add_file(2048);
        progress.add_bytes(2048);
        progress.add_events(17);
        progress.close_file();
        let terminal = Recorder::default();
        let control = Control::new();
        control.stop();
        draw_to(&progress, &control, ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        let shown = terminal.0.lock().unwrap().clone();
        assert!(shown.contains("100%  2.00 KiB of 2.00 KiB"), "{shown}");
        assert!(shown.contains("17 events"), "{shown}");
    }

    #[test]
    fn a_stopped_run_takes_the_bar_along() {
        let progress = FileProgress::default();
        progress.add_file(2048);
        let control = Control::new();
        control.stop();
        draw_to(&progress, &control, ProgressDrawTarget::hidden());
        assert!(!progress.is_finished());
    }
}
