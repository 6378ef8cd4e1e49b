//! The orderly end, and the hard one.

use super::program::{BINARY, EVENTS, Live, Place, SUMMARY, config, eventually, without_times};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The orderly end takes less than this.
const ORDERLY: Duration = Duration::from_secs(10);

/// Never ends by itself; some 40 results every 100 ms.
fn endless(sinks: &str) -> String {
    config("{type: generator, rate: 3000, disorder_secs: 0}", sinks)
        .replace("size: 1m", "size: 100ms")
        .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 0s")
        .replace("data.model", "metadata.user")
        .replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}")
}

#[test]
fn sigterm_and_sigint_finish_what_is_in_flight() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let place = Place::new();
        place.write("c.yaml", config("stdin", "[{type: file, path: r.jsonl, mode: atomic}]"));
        let mut live = Live::start(&mut place.command(&["--config", "c.yaml", "--log", "info,frontier=debug"]));
        let mut stdin = live.child.stdin.take().expect("piped");
        stdin.write_all(EVENTS.as_bytes()).expect("it reads");
        // The watermark after the last event; the input stays open.
        live.wait_for("2026-09-21T14:14:20.000Z");
        let asked = Instant::now();
        live.signal(signal);
        let (code, err) = live.end_within(ORDERLY);
        assert_eq!(code, Some(0), "{signal} after {:?}: {err}", asked.elapsed());
        // The first window is complete; the second was open and is not written.
        assert_eq!(without_times(&place.read("r.jsonl")).len(), 2, "{signal}");
        assert!(err.contains(&SUMMARY.replace("3 windows", "2 windows")), "{signal}: {err}");
        assert!(err.contains("1 window was still open"), "{signal}: {err}");
        drop(stdin);
    }
}

#[test]
fn a_live_source_stops_at_once_and_loses_no_result() {
    let place = Place::new();
    place.write("c.yaml", endless("[{type: file, path: r.jsonl}]"));
    let mut live = Live::start(&mut place.command(&["--config", "c.yaml"]));
    eventually("result", || match std::fs::read_to_string(place.path("r.jsonl")) {
        Ok(text) if text.lines().count() > 20 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    live.signal(libc::SIGTERM);
    let (code, err) = live.end_within(ORDERLY);
    assert_eq!(code, Some(0), "{err}");
    let results = without_times(&place.read("r.jsonl"));
    let summary = err.lines().find(|line| line.contains(" windows (")).unwrap_or_else(|| panic!("no summary: {err}"));
    let (_, windows) = summary.split_once(" events, ").expect("the summary's form");
    let windows: usize = windows.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert_eq!(results.len(), windows, "{summary}");
}

#[test]
fn a_reader_that_goes_away_is_the_orderly_end() {
    let place = Place::new();
    place.write("c.yaml", endless("stdout"));
    let mut live = Live::start(&mut place.command(&["--config", "c.yaml"]));
    let mut first = String::new();
    let mut stdout = BufReader::new(live.child.stdout.take().expect("piped"));
    stdout.read_line(&mut first).expect("a result");
    drop(stdout);
    let (code, err) = live.end_within(ORDERLY);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(without_times(&first).len(), 1);
    assert!(err.contains("the reader of standard output is gone") && err.contains(" events, "), "{err}");
    assert!(!err.contains("ERROR") && !err.contains("panicked"), "{err}");
}

/// A run that nobody reads the results of, asked to end when the pipe was full: the orderly end has to wait.
fn unread(place: &Place) -> Live {
    place.write("c.yaml", endless("stdout"));
    let live = Live::start(&mut place.command(&["--config", "c.yaml"]));
    live.wait_for("INFO");
    std::thread::sleep(Duration::from_secs(3));
    live.signal(libc::SIGTERM);
    live
}

#[test]
fn a_reader_that_sleeps_does_not_hold_up_the_end() {
    let place = Place::new();
    let mut live = unread(&place);
    let (code, err) = live.end_within(ORDERLY);
    // Results that nobody took are no orderly end.
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("`stdout` is stuck") && err.contains("rows are not acknowledged"), "{err}");
}

#[test]
fn a_reader_of_the_log_that_goes_away_holds_nothing_up() {
    let place = Place::new();
    place.write("c.yaml", endless("[{type: file, path: r.jsonl}]"));
    let mut command = place.command(&["--config", "c.yaml", "--log", "info,frontier=debug"]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    log.read_line(&mut String::new()).expect("it says something");
    drop(log);
    let written = || std::fs::metadata(place.path("r.jsonl")).map_or(0, |file| file.len());
    eventually("result", || if written() > 0 { Ok(()) } else { Err("nothing is written".to_owned()) });
    let before = written();
    eventually("further result", || if written() > before { Ok(()) } else { Err("no more is written".to_owned()) });
    // SAFETY: kill takes two integers; the child has not been waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) }, 0);
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if begun.elapsed() > ORDERLY => {
                child.kill().expect("a child");
                panic!("still running after {ORDERLY:?}");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let mut live = unread(&place);
    live.wait_for("asked to end");
    std::thread::sleep(Duration::from_millis(300));
    if live.child.try_wait().expect("a child").is_some() {
        panic!("the pipe was not full: {}", live.err());
    }
    let again = Instant::now();
    live.signal(libc::SIGTERM);
    let (code, err) = live.end_within(Duration::from_secs(2));
    assert_eq!(code, Some(1), "after {:?}: {err}", again.elapsed());
}

#[test]
fn generate_stops_when_its_reader_does() {
    let mut child =
        Command::new(BINARY).arg("generate").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("an event");
    drop(stdout);
    assert!(child.wait().expect("it ends").success());
    assert!(line.starts_with("{\"id\":\""), "{line}");
}
