//! Shows people at a terminal how far the checkpoint that a run goes on from has been checked and loaded.

use super::Control;
use crate::checkpoint::RestoreProgress;
use crate::error::ProcessorResult;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the bar is redrawn; what is done sooner is not shown at all.
const REDRAW: Duration = Duration::from_millis(100);

/// The bar; it is gone when this is dropped, or when there is nothing more to show.
pub struct RestoreBar {
    progress: Arc<RestoreProgress>,
    /// None where standard error is no terminal.
    thread: Option<JoinHandle<()>>,
}

impl RestoreBar {
    /// Draws on standard error, where that is a terminal.
    pub fn draw(progress: Arc<RestoreProgress>, control: &Control) -> ProcessorResult<Self> {
        let shown = Arc::clone(&progress);
        let thread = std::io::stderr()
            .is_terminal()
            .then(|| control.spawn("restore-progress", move || draw_to(&shown, ProgressDrawTarget::stderr())));
        Ok(Self { progress, thread: thread.transpose()? })
    }

    /// Whether nothing is drawn, and nothing will be.
    pub fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for RestoreBar {
    fn drop(&mut self) {
        self.progress.end();
        if let Some(thread) = self.thread.take() {
            // A panic of it has failed the run.
            let _ = thread.join();
        }
    }
}

fn draw_to(progress: &RestoreProgress, target: ProgressDrawTarget) {
    let bar = ProgressBar::with_draw_target(Some(0), target);
    std::thread::sleep(REDRAW);
    while !progress.is_over() {
        show(progress, &bar);
        std::thread::sleep(REDRAW);
    }
    bar.finish_and_clear();
}

fn show(progress: &RestoreProgress, bar: &ProgressBar) {
    let (template, (done, total)) = match progress.records() {
        (_, 0) => ("checking the checkpoint  {wide_bar} {percent:>3}%  {bytes} of {total_bytes}", progress.bytes()),
        records => ("loading the windows  {wide_bar} {percent:>3}%  {human_pos} of about {human_len} records", records),
    };
    if total == 0 {
        return;
    }
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_length(total);
    bar.set_position(done);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(progress: &RestoreProgress) -> String {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        show(progress, &bar);
        format!("{} of {:?}", bar.position(), bar.length())
    }

    #[test]
    fn first_the_check_is_shown_and_then_the_records() {
        let progress = RestoreProgress::new(1);
        assert_eq!(shown(&progress), "0 of Some(0)");
        progress.begin_check(100);
        progress.checked(40);
        assert_eq!(shown(&progress), "40 of Some(100)");
        progress.begin_load(7);
        assert_eq!(shown(&progress), "0 of Some(7)");
        progress.loaded();
        assert_eq!(shown(&progress), "1 of Some(7)");
    }

    #[test]
    fn the_bar_ends_with_what_it_shows() {
        let progress = Arc::new(RestoreProgress::new(1));
        let shown = Arc::clone(&progress);
        let thread = std::thread::spawn(move || draw_to(&shown, ProgressDrawTarget::hidden()));
        let bar = RestoreBar { progress: Arc::clone(&progress), thread: Some(thread) };
        assert!(!bar.is_gone());
        drop(bar);
        assert!(progress.is_over());
    }
}
