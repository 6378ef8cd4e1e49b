//! What a person at a terminal sees, in a pseudo-terminal.

use super::checkout::ROOT;
use super::program::{BINARY, Place};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The program in a terminal of 30 lines of 130 columns.
struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn portable_pty::Child + Send + Sync>,
    _master: Box<dyn portable_pty::MasterPty + Send>,
}

impl Terminal {
    fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Terminal {
        let size = PtySize { rows: 30, cols: 130, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let mut command = CommandBuilder::new(BINARY);
        command.args(arguments);
        command.cwd(folder);
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        for (name, value) in environment {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).expect("the program starts");
        let keyboard = pair.master.take_writer().expect("a keyboard");
        let mut output = pair.master.try_clone_reader().expect("a screen");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size.rows, size.cols, 1000)));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("no panic").process(&bytes[..count]);
            }
        });
        Terminal { screen, keyboard, child, _master: pair.master }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    /// Waits until what is on the screen is as expected.
    fn see(&self, what: &str, limit: Duration, expected: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let text = self.text();
            if expected(&text) {
                return text;
            }
            assert!(begin.elapsed() < limit, "no {what} within {limit:?}:\n{text}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn interrupt(&mut self) {
        self.keyboard.write_all(b"\x03").expect("a key");
    }

    fn end_within(&mut self, limit: Duration) -> u32 {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.exit_code();
            }
            assert!(begin.elapsed() < limit, "still running after {limit:?}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
    }
}

const DEVELOPMENT: [&str; 2] = ["--config", "config/processor-dev.yaml"];

/// The start of the window in the heading.
fn window(text: &str) -> Option<String> {
    let heading = text.lines().find(|line| line.starts_with("window "))?;
    heading.split_whitespace().nth(2).map(str::to_owned)
}

#[test]
fn the_development_configuration_shows_results_within_15_seconds() {
    let begin = Instant::now();
    let mut terminal = Terminal::start(&ROOT, &DEVELOPMENT, &[("PROCESSOR_METRICS__LISTEN", "127.0.0.1:0")]);
    let beginning = terminal.see("beginning", Duration::from_secs(5), |text| text.contains("Ctrl-C ends the run"));
    assert!(
        beginning.contains("job dev: events from the built-in generator, windows of 10 s, 2 workers"),
        "{beginning}"
    );
    let text = terminal
        .see("table", Duration::from_secs(15).saturating_sub(begin.elapsed()), |text| text.contains("1 window ·"));
    assert!(window(&text).is_some(), "{text}");
    let titles: Vec<&str> =
        text.lines().find(|line| line.starts_with("model ")).expect("titles").split_whitespace().collect();
    assert_eq!(titles, ["model", "region", "count", "sum", "average", "min", "max", "stddev", "p50", "p95", "p99"]);
    // The first window may have begun just before its end, and then has few keys.
    let rows =
        text.lines().skip_while(|line| !line.starts_with("model ")).skip(1).take_while(|line| !line.is_empty()).count();
    assert!((1..=12).contains(&rows), "{text}");
    let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    assert!(text.contains(&format!("{} · 1 window · {}", many(rows, "key"), many(rows, "result"))), "{text}");
    terminal.interrupt();
    assert_eq!(terminal.end_within(Duration::from_secs(10)), 0);
    let text = terminal.see("summary", Duration::from_secs(2), |text| text.contains("records/s"));
    assert!(text.lines().any(|line| line.contains(&format!(" events, {rows} windows (0 refined), "))), "{text}");
    assert!(text.contains(" · 1 window · "), "the table stays:\n{text}");
}

#[test]
fn the_table_is_drawn_over_itself_as_windows_close() {
    let quick = [
        ("PROCESSOR_METRICS__LISTEN", "127.0.0.1:0"),
        ("PROCESSOR_WINDOWS__TUMBLING__SIZE_SECS", "1"),
        ("PROCESSOR_WATERMARK__MAX_OUT_OF_ORDERNESS_SECS", "2.5"),
    ];
    let mut terminal = Terminal::start(&ROOT, &DEVELOPMENT, &quick);
    let mut windows: Vec<String> = Vec::new();
    while windows.len() < 3 {
        let last = windows.last().cloned();
        let text = terminal.see("next window", Duration::from_secs(15), |text| {
            text.contains(" keys · ") && window(text).is_some_and(|shown| Some(shown) != last)
        });
        assert_eq!(text.matches("window 2").count(), 1, "one heading:\n{text}");
        assert_eq!(text.matches("average").count(), 1, "one table:\n{text}");
        windows.extend(window(&text));
    }
    assert!(windows.is_sorted(), "{windows:?}");
    terminal.interrupt();
    assert_eq!(terminal.end_within(Duration::from_secs(10)), 0);
    let text = terminal.see("summary", Duration::from_secs(2), |text| text.contains("records/s"));
    assert!(!text.contains("INFO"), "no log lines in the table:\n{text}");
}

#[test]
fn a_file_run_has_a_progress_bar() {
    let place = Place::new();
    let said = place.run(&["generate", "--count", "20000", "--output", "events.jsonl"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    place.write(
        "c.yaml",
        "processor:\n  source: {type: file, paths: [events.jsonl]}\n  sinks: [{type: file, path: r.jsonl}]\n  metrics: {enabled: false}\n",
    );
    let mut terminal = Terminal::start(&place.path(""), &["--config", "c.yaml"], &[]);
    assert_eq!(terminal.end_within(Duration::from_secs(20)), 0);
    let text = terminal.see("bar and summary", Duration::from_secs(2), |text| text.contains("records/s"));
    let bar = text.lines().find(|line| line.contains('%')).unwrap_or_else(|| panic!("no bar:\n{text}"));
    for part in ["100%", "MiB of ", "/s", "20000 events", "left"] {
        assert!(bar.contains(part), "{part}: {bar}");
    }
    assert!(!bar.contains("late dropped"), "the summary has a line of its own:\n{text}");
}
