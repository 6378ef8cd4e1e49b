//! Partitions that fall silent, come back, or only seem to: what may be closed without them, and what becomes of what they bring.
//!
//! Elsewhere: a partition that never had a record and one that is added while the program runs (`pipeline`), more workers than
//! partitions (`workers`), idleness and its loss as the reader sees it (`source`).

use crate::events::{BASE, closing, event, results_in, results_of_files};
use crate::program::{Program, Setup};
use kafka_broker::process::free_port;
use kafka_broker::{Broker, TestRecord, fresh};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// An event of one key, this many seconds after [`BASE`].
fn at(partition: i32, second: i64) -> TestRecord {
    TestRecord::to(partition, event(BASE + second * 1_000, "m", "r", second as f64))
}

/// Second of the window's start, revision, count, firing; of all results in a topic, sorted.
fn windows_in(broker: &Broker, topic: &str) -> Vec<(i64, u64, u64, String)> {
    let window = |text: &[u8]| {
        let result: Value = serde_json::from_slice(text).expect("results are JSON");
        let start = chrono::DateTime::parse_from_rfc3339(result["window"]["start"].as_str().expect("a start"));
        let second = (start.expect("a time").timestamp_millis() - BASE) / 1_000;
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {result}"));
        let firing = result["firing"].as_str().expect("a word").to_owned();
        (second, number(&result["revision"]), number(&result["results"]["count"]), firing)
    };
    let mut windows: Vec<_> =
        broker.read_all(topic).iter().map(|record| window(record.value.as_deref().expect("no tombstone"))).collect();
    windows.sort();
    windows
}

fn result(second: i64, revision: u64, count: u64, firing: &str) -> (i64, u64, u64, String) {
    (second, revision, count, firing.to_owned())
}

fn late_lines(program: &Program) -> Vec<Value> {
    program.file("late.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Where an operator is, in seconds after [`BASE`].
fn frontier(program: &Program, operator: &str) -> f64 {
    program.metric("frontier_seconds", &[("operator", operator)]) - BASE as f64 / 1_000.0
}

fn frontiers(program: &Program) -> Value {
    serde_json::from_str(&program.page("/frontiers")).unwrap_or_default()
}

fn reason(program: &Program) -> String {
    frontiers(program)["held_back_by"]["reason"].as_str().unwrap_or_default().to_owned()
}

fn events(program: &Program) -> f64 {
    program.metric("events_processed_total", &[])
}

/// A topic, one for results, and a setup with a late output and quick idleness.
fn setup(name: &str, partitions: i32) -> (&'static Broker, Setup, String) {
    let (broker, topic) = (Broker::shared(), fresh(name));
    let results = format!("{topic}-results");
    broker.create_topic(&topic, partitions, &[]);
    broker.create_topic(&results, 1, &[]);
    let setup = Setup { idle_timeout_secs: 1, ..Setup::new(broker.servers(), &topic, &results, &topic) };
    (broker, setup.with("late: {sink: {type: file, path: late.jsonl}}"), results)
}

/// The configuration with windows closed once all have been idle for a second.
fn closing_idle(setup: &Setup) -> String {
    let yaml = setup.yaml();
    let closing = yaml.replace("idle_timeout_secs: 1}", "idle_timeout_secs: 1, close_idle_after_secs: 1}");
    assert_ne!(closing, yaml);
    closing
}

#[test]
fn what_a_returning_partition_brings_refines_a_window_that_is_kept_and_is_expired_for_one_that_is_gone() {
    let (broker, setup, results) = setup("returning", 2);
    let setup = Setup { allowed_lateness_secs: 20, ..setup };
    broker.produce(&setup.topic, "none", [at(0, 1), at(1, 1), at(0, 25)]);
    let mut program = Program::run(&setup);
    // Partition 1 has stopped at 1 s; without it the frontier goes on.
    program.wait_until("the frontier", |program| frontier(program, "sink") >= 23.0);
    assert_eq!(windows_in(broker, &results), [result(0, 0, 2, "on_time")]);

    // By its own watermark it is not late; its window has fired, and is kept until 30 s.
    broker.produce(&setup.topic, "none", [at(1, 2)]);
    program.wait_until("the old record", |program| events(program) == 4.0);
    broker.produce(&setup.topic, "none", [at(0, 60)]);
    program.wait_until("the frontier", |program| frontier(program, "sink") >= 58.0);
    let expected = [result(0, 0, 2, "on_time"), result(0, 1, 3, "late"), result(20, 0, 1, "on_time")];
    assert_eq!(windows_in(broker, &results), expected);

    // Now that window is gone.
    broker.produce(&setup.topic, "none", [at(1, 3)]);
    let expired = [("reason", "expired"), ("partition", "1")];
    program.wait_until("the expired record", |program| program.metric("events_dropped_total", &expired) == 1.0);
    // What it brings from now on is on time.
    broker.produce(&setup.topic, "none", [at(1, 65), at(0, 90), at(1, 90)]);
    program.wait_until("the last window", |program| frontier(program, "sink") >= 88.0);
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let found = windows_in(broker, &results);
    assert_eq!(found[..3], expected);
    assert_eq!(found[3..], [result(60, 0, 2, "on_time")]);
    let late = late_lines(&program);
    assert_eq!(late.len(), 1, "{late:?}");
    assert_eq!(
        (&late[0]["reason"], &late[0]["partition"], &late[0]["offset"]),
        (&"expired".into(), &1.into(), &2.into())
    );
    assert_eq!((&late[0]["late_by_ms"], &late[0]["watermark"]), (&55_000.into(), &"2025-01-01T00:00:58.000Z".into()));
}

#[test]
fn a_broker_that_stalls_with_records_in_it_makes_nothing_idle_and_costs_nothing() {
    let broker = Broker::start();
    broker.create_topic("events", 2, &[]);
    broker.create_topic("results", 1, &[]);
    let setup = Setup { idle_timeout_secs: 2, ..Setup::new(broker.servers(), "events", "results", "g") };
    let setup = setup.with("late: {sink: {type: file, path: late.jsonl}}");
    // Were partition 1 taken to be idle, the frontier would follow partition 0 to 98 s.
    broker.produce("events", "none", [at(0, 1), at(0, 100), at(1, 3)]);
    let mut program = Program::start(
        &setup.yaml().replace("idle_timeout_secs: 2}", "idle_timeout_secs: 2, close_idle_after_secs: 1}"),
        &[],
    );
    program.wait_until("the first events", |program| events(program) == 3.0);
    // While the program stands still records come: at most those of the first call are on their way to it already.
    program.pause();
    broker.produce("events", "none", [at(1, 4)]);
    broker.produce("events", "none", (5..40).map(|second| at(1, second)));
    broker.pause();
    program.resume();
    // Silence for longer than the idle time-out, and the time-out that closes windows.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let page = frontiers(&program);
        let idle = page["partitions"].as_array().is_some_and(|all| all.iter().any(|one| one["idle"] == true));
        assert!(!idle, "{page}");
        assert!(frontier(&program, "window") <= 2.0, "{page}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(events(&program) <= 4.0, "nothing was waiting in the broker: the test shows nothing");
    broker.resume();
    program.wait_until("the waiting records", |program| events(program) == 39.0);
    broker.produce("events", "none", closing(2));
    let expected = results_of_files(&setup, &broker, 2);
    assert_eq!(expected.len(), 5);
    program.wait_until("all results", |program| program.metric("results_sent_total", &[("sink", "kafka")]) >= 5.0);
    assert_eq!(program.metric("events_dropped_total", &[]), 0.0);
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let mut found = results_in(&broker, "results");
    // The windows of the closing events close by the clock where the end was slow in coming.
    found.retain(|key, _| !key.contains("closing"));
    assert_eq!(found, expected);
}

#[test]
fn when_all_is_silent_windows_stay_open_unless_the_clock_may_close_them() {
    let (broker, setup, results) = setup("silent", 2);
    // One worker has no partition.
    let setup = Setup { parallelism: 3, allowed_lateness_secs: 20, ..setup };
    broker.produce(&setup.topic, "none", [at(0, 1), at(1, 2), at(1, 15)]);
    let mut program = Program::run(&setup);
    program.wait_until("all to be idle", |program| reason(program).starts_with("every partition is idle"));
    assert!(reason(&program).contains("watermark.close_idle_after_secs, which is not set"), "{}", reason(&program));
    program.wait_until("the first window", |program| frontier(program, "sink") >= 13.0);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(frontier(&program, "sink"), 13.0, "no clock moves it");
    let ended = program.stop();
    assert!(ended.log.contains("1 window was still open; its result was not written"), "{}", ended.log);
    assert_eq!(windows_in(broker, &results), [result(0, 0, 2, "on_time")]);

    let group = format!("{}-closed", setup.topic);
    let results = format!("{results}-closed");
    broker.create_topic(&results, 1, &[]);
    let setup = Setup { group, producer: format!("result_topic: {results}"), ..setup };
    let mut program = Program::start(&closing_idle(&setup), &[]);
    program.wait_until("the last window", |program| frontier(program, "sink") >= 20.0);
    program.wait_until("the reason", |program| reason(program).contains("the windows were closed"));
    assert_eq!(windows_in(broker, &results), [result(0, 0, 2, "on_time"), result(10, 0, 1, "on_time")]);
    // Both windows are kept for late events: what comes for one refines it, and the clock closes that as well.
    broker.produce(&setup.topic, "none", [at(0, 5)]);
    program.wait_until("the refinement", |program| program.metric("windows_refined_total", &[]) == 1.0);
    // What is new opens a window of its own; when it is closed, the first is gone.
    broker.produce(&setup.topic, "none", [at(0, 33)]);
    program.wait_until("the new window", |program| frontier(program, "sink") >= 40.0);
    broker.produce(&setup.topic, "none", [at(1, 6)]);
    let expired = [("reason", "expired"), ("partition", "1")];
    program.wait_until("the expired record", |program| program.metric("events_dropped_total", &expired) == 1.0);
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("still open"), "{}", ended.log);
    let expected =
        [result(0, 0, 2, "on_time"), result(0, 1, 3, "late"), result(10, 0, 1, "on_time"), result(30, 0, 1, "on_time")];
    assert_eq!(windows_in(broker, &results), expected);
    let late = late_lines(&program);
    assert_eq!((late.len(), &late[0]["reason"], &late[0]["offset"]), (1, &"expired".into(), &2.into()));
}

#[test]
fn the_clock_closes_the_windows_of_two_processes_together() {
    let (broker, setup, results) = setup("silent-cluster", 2);
    broker.produce(&setup.topic, "none", [at(0, 1), at(0, 12), at(1, 2), at(1, 34)]);
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1:{}\n127.0.0.1:{}\n", free_port(), free_port())).expect("a file");
    let arguments =
        |index: &str| ["-n", "2", "-p", index, "-w", "1", "-h", hosts.to_str().expect("text")].map(str::to_owned);
    let mut programs = ["0", "1"].map(|index| Program::start(&closing_idle(&setup), &arguments(index)));
    for program in &mut programs {
        // Also the process whose own events end at 20 s goes to where the other's do.
        program.wait_until("the last window", |program| frontier(program, "sink") >= 40.0);
    }
    programs.iter().for_each(Program::ask_to_end);
    for program in &mut programs {
        let ended = program.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
    let expected = [result(0, 0, 2, "on_time"), result(10, 0, 1, "on_time"), result(30, 0, 1, "on_time")];
    assert_eq!(windows_in(broker, &results), expected);
    // Nothing of it is needed any more.
    let committed = [0, 1].map(|partition| broker.committed(&setup.group, &setup.topic, partition));
    assert_eq!(committed.map(|committed| committed.map(|(offset, _)| offset)), [Some(2), Some(2)]);
}
