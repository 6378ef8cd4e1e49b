//! A thread that panics ends its process, with a reason: nobody waits for what it would have done.

use super::cluster::{ORDERLY, hostfile, start_with};
use super::program::{Live, Place, config};
use std::time::Duration;

/// Has whoever comes to this place panic, in builds for tests.
const FAILPOINT: &str = "LLM_OPTIMIZER_FAILPOINT";
/// From the start to the end of a process with such a thread.
const LIMIT: Duration = Duration::from_secs(30);

fn end_of(place: &Place, thread: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = place.command(arguments);
    Live::start(command.env(FAILPOINT, format!("{thread}:panic"))).end_within(LIMIT)
}

#[test]
fn every_thread_of_a_process_ends_it_by_its_panic() {
    let place = Place::new();
    let job = config("stdin", "[{type: file, path: r.jsonl}]").replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}");
    place.write(
        "c.yaml",
        job + "  late: {sink: {type: file, path: late.jsonl}}\n  checkpoint_interval: 300ms\n  \
               state: {backend: rocksdb, path: state, checkpoint_path: checkpoints}\n",
    );
    // Standard input stays open and empty: none of these ends by itself.
    for thread in ["signals", "http", "reporter", "sink-status", "sink-file", "sink-late", "snapshot-0", "publish"] {
        let (code, err) = end_of(&place, thread, &["--config", "c.yaml", "-w", "2", "--ignore-checkpoint", "--yes"]);
        assert_eq!(code, Some(1), "{thread}: {err}");
        assert!(err.contains(&format!("the thread `{thread}` panicked: failpoint {thread}")), "{thread}: {err}");
    }
    // What reads standard input is not the end of it: no window may fire.
    let (code, err) = end_of(&place, "stdin", &["--config", "c.yaml", "-w", "2", "--ignore-checkpoint", "--yes"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("the thread that reads it panicked: failpoint stdin"), "{err}");
}

#[test]
fn a_thread_of_a_link_ends_both_processes_by_its_panic() {
    for (thread, failpoint) in [("pulse", "pulse"), ("hear-caller", "hear-caller"), ("timely:recv-1", "news")] {
        let place = Place::new();
        hostfile(&place);
        place.write(
            "c.yaml",
            config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl}]"),
        );
        let arguments = ["--config", "c.yaml", "-w", "1", "-n", "2", "-p", "0", "-h", "hosts"];
        let mut panicking = Live::start(place.command(&arguments).env(FAILPOINT, format!("{failpoint}:panic")));
        let mut other = start_with(&place, 1, 1, &[]);
        let (code, err) = panicking.end_within(LIMIT);
        assert_eq!(code, Some(1), "{thread}: {err}");
        assert!(err.contains(&format!("the thread `{thread}` panicked: failpoint {failpoint}")), "{thread}: {err}");
        if thread == "hear-caller" {
            // It has no link yet, and waits for one.
            other.signal(libc::SIGTERM);
            assert_eq!(other.end_within(ORDERLY).0, Some(0));
        } else {
            let (code, err) = other.end_within(LIMIT);
            assert_eq!(code, Some(75), "{thread}: {err}");
        }
    }
}

#[test]
fn lines_that_cannot_be_passed_on_end_the_group() {
    let place = Place::new();
    hostfile(&place);
    place.write("c.yaml", config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: stdout}]"));
    let (code, err) =
        end_of(&place, "forward-lines", &["launch", "-n", "2", "-w", "1", "--hostfile", "hosts", "--config", "c.yaml"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("the thread `forward-lines` panicked: failpoint forward-lines"), "{err}");
}
