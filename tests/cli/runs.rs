//! What comes out, whatever it comes out of and goes into.

use super::program::Live;
use super::program::{EVENTS, Place, RESULTS, SUMMARY, config, eventually, finish, without_times};
use std::io::Write;
use std::time::Duration;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).expect("packed");
    packer.finish().expect("packed")
}

#[test]
fn plain_packed_and_piped_input_give_the_same() {
    let place = Place::new();
    place.write("plain.jsonl", EVENTS);
    place.write("gzip.jsonl.gz", gzip(EVENTS.as_bytes()));
    place.write("zstd.jsonl.zst", zstd::encode_all(EVENTS.as_bytes(), 0).expect("packed"));
    for name in ["plain.jsonl", "gzip.jsonl.gz", "zstd.jsonl.zst"] {
        place.write("c.yaml", config(&format!("{{type: file, paths: [{name}]}}"), "stdout"));
        let said = place.run(&["--config", "c.yaml"]);
        assert_eq!(said.code, Some(0), "{name}: {said:?}");
        assert_eq!(without_times(&said.out), RESULTS, "{name}");
        assert!(said.err.lines().any(|line| line.starts_with(SUMMARY)), "{name}: {said:?}");
        assert!(said.err.contains("in no window: late: 1, malformed: 1"), "{name}: {said:?}");
        assert!(!said.err.contains('\x1b') && !said.err.contains('%'), "no bar and no colours in a pipe: {said:?}");
    }
    place.write("c.yaml", config("stdin", "stdout"));
    for arguments in [&["--config", "c.yaml"][..], &["run", "-c", "c.yaml", "-w", "3"]] {
        let said = finish(&mut place.command(arguments), EVENTS);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(without_times(&said.out), RESULTS);
        assert!(said.err.contains(SUMMARY), "{said:?}");
    }
}

#[test]
fn several_files_are_several_partitions() {
    let place = Place::new();
    std::fs::create_dir(place.path("in")).expect("a folder");
    place.write("in/1.jsonl", EVENTS);
    place.write("in/2.jsonl.gz", gzip(EVENTS.as_bytes()));
    place.write("other.jsonl.zst", zstd::encode_all(EVENTS.as_bytes(), 0).expect("packed"));
    place.write("c.yaml", config("{type: file, paths: [\"in/*.jsonl*\", other.jsonl.zst]}", "stdout"));
    let said = place.run(&["--config", "c.yaml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let results = without_times(&said.out);
    assert_eq!(results.len(), 3);
    // Each file judges lateness by its own watermark: the late event is late in each.
    assert!(results[0].contains(r#""results":{"count":9,"sum":270.0,"max":60.0}"#), "{results:?}");
    assert!(results[1].contains(r#""results":{"count":3,"sum":16.5,"max":5.5}"#), "{results:?}");
    assert!(
        said.err.contains("15 events, 3 windows (0 refined), 0 late accepted, 3 late dropped, 3 bad, "),
        "{said:?}"
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let place = Place::new();
    place.write("events.jsonl", EVENTS);
    place.write("c.yaml", config("{type: file, paths: [absent]}", "console"));
    let environment = [
        ("PROCESSOR_SOURCE__PATHS", "events.jsonl"),
        ("PROCESSOR_SINKS", "stdout"),
        ("PROCESSOR_EVENT__KEY", "[]"),
        ("PROCESSOR_AGGREGATION__ENABLED", "count,percentile"),
        ("PROCESSOR_AGGREGATION__PERCENTILES", "50,99.9"),
        ("PROCESSOR_WATERMARK__MAX_OUT_OF_ORDERNESS_SECS", "60"),
    ];
    let said = place.run_with(&["--config", "c.yaml"], &environment);
    assert_eq!(said.code, Some(0), "{said:?}");
    let results = without_times(&said.out);
    assert_eq!(results.len(), 2, "{results:?}");
    // With a minute of disorder allowed, the late event is on time.
    assert!(results[0].contains(r#""key":{},"results":{"count":5,"p50":10.0,"p99.9":60.0}"#), "{results:?}");
    assert!(said.err.contains("6 events, 2 windows"), "{said:?}");
}

#[test]
fn several_sinks_get_the_same_and_the_late_and_the_bad_go_aside() {
    let place = Place::new();
    place.write("events.jsonl", EVENTS);
    place.write("kept.jsonl", "what was there before\n");
    let sinks = "[{type: stdout}, {type: file, path: new/atomic.jsonl, mode: atomic}, {type: file, path: kept.jsonl, mode: append}]";
    let aside = "  late: {sink: {type: file, path: late.jsonl}}\n  error_handling: {policy: dead_letter, dead_letter_file: bad.jsonl}\n";
    place.write("c.yaml", config("{type: file, paths: [events.jsonl]}", sinks) + aside);
    let said = place.run(&["--config", "c.yaml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(without_times(&said.out), RESULTS);
    assert_eq!(place.read("new/atomic.jsonl"), said.out);
    assert_eq!(place.read("kept.jsonl"), format!("what was there before\n{}", said.out));

    let record = |name: &str| -> serde_json::Value { serde_json::from_str(&place.read(name)).expect("one record") };
    let (late, bad) = (record("late.jsonl"), record("bad.jsonl"));
    let line = |text: &str| EVENTS.lines().find(|line| line.contains(text)).expect("it is there");
    let offset = |text: &str| EVENTS.find(line(text)).expect("it is there");
    assert_eq!(late["reason"], "late");
    assert_eq!(late["topic"], "events.jsonl");
    assert_eq!(late["offset"], offset("\"id\":\"6\""));
    assert_eq!(late["payload"], line("\"id\":\"6\""));
    assert_eq!(late["watermark"], "2026-09-21T14:14:20.000Z");
    assert_eq!(late["late_by_ms"], 21_000);
    assert_eq!(bad["reason"], "malformed");
    assert_eq!(bad["offset"], offset("no JSON"));
    assert_eq!(bad["payload"], "no JSON");
    assert_eq!(bad["payload_encoding"], "utf-8");
}

#[test]
fn a_table_in_a_pipe_is_plain_text() {
    let place = Place::new();
    place.write("c.yaml", config("stdin", "console"));
    let said = finish(&mut place.command(&["--config", "c.yaml"]), EVENTS);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains('\x1b'), "{said:?}");
    let lines: Vec<Vec<&str>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["window", "2026-09-21", "14:13:00", "to", "14:14:00", "UTC"], "{said:?}");
    assert_eq!(lines[1], ["model", "count", "sum", "max"], "{said:?}");
    assert_eq!(lines[2][..2], ["a", "3"], "{said:?}");
    assert_eq!(lines[3][..2], ["b", "1"], "{said:?}");
}

#[test]
fn a_late_event_within_the_allowed_lateness_refines_its_result() {
    let place = Place::new();
    place.write("c.yaml", config("stdin", "stdout").replace("size: 1m", "size: 1m, allowed_lateness: 1m"));
    let said = finish(&mut place.command(&["--config", "c.yaml"]), EVENTS);
    assert_eq!(said.code, Some(0), "{said:?}");
    let results = without_times(&said.out);
    let refinement = results.iter().find(|line| line.contains("\"revision\":1")).expect("a refinement");
    assert!(refinement.contains(r#""key":{"model":"b"},"results":{"count":2,"sum":13.5,"max":8.0}"#), "{refinement}");
    assert!(refinement.contains(r#""firing":"late""#), "{refinement}");
    assert!(said.err.contains("6 events, 3 windows (1 refined), 1 late accepted, 0 late dropped, 1 bad, "), "{said:?}");
}

#[test]
fn with_json_logs_every_line_is_a_record() {
    let place = Place::new();
    place.write(
        "c.yaml",
        config("stdin", "[{type: file, path: r.jsonl}]").replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}"),
    );
    let said = finish(&mut place.command(&["--config", "c.yaml", "--log-json", "--log", "debug"]), EVENTS);
    assert_eq!(said.code, Some(0), "{said:?}");
    let records: Vec<serde_json::Value> =
        said.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    for record in &records {
        for name in ["timestamp", "level", "target", "message"] {
            assert!(record[name].is_string(), "{record} lacks {name}");
        }
    }
    let last = records.last().expect("a summary");
    assert_eq!(last["message"], "the run is over");
    assert_eq!((&last["events"], &last["windows"], &last["bad"]), (&5.into(), &3.into(), &1.into()), "{last}");
    assert_eq!(last["dropped"], serde_json::json!({"late": 1, "malformed": 1}));

    let said =
        place.run_with(&["--config", "c.yaml", "--log-json"], &[("PROCESSOR_SOURCE", "{type: file, paths: [cut.gz]}")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    place.write("cut.gz", "no gzip");
    let said =
        place.run_with(&["--config", "c.yaml", "--log-json"], &[("PROCESSOR_SOURCE", "{type: file, paths: [cut.gz]}")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let last: serde_json::Value = serde_json::from_str(said.err.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "ERROR");
    assert!(last["message"].as_str().is_some_and(|message| message.contains("cut.gz")), "{last}");
}

#[test]
fn appended_results_are_there_while_it_runs_and_atomic_ones_at_the_end() {
    let place = Place::new();
    place.write(
        "c.yaml",
        config("stdin", "[{type: file, path: a.jsonl, mode: append}, {type: file, path: b.jsonl, mode: atomic}]"),
    );
    let mut live = Live::start(&mut place.command(&["--config", "c.yaml"]));
    let mut stdin = live.child.stdin.take().expect("piped");
    stdin.write_all(EVENTS.as_bytes()).expect("it reads");
    // The watermark has passed the end of the first window, not of the second.
    eventually("appended result", || match std::fs::read_to_string(place.path("a.jsonl")) {
        Ok(text) if text.lines().count() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(!place.path("b.jsonl").exists(), "an atomic file appears at the end");
    drop(stdin);
    let (code, err) = live.end_within(Duration::from_secs(10));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(without_times(&place.read("a.jsonl")), RESULTS);
    assert_eq!(place.read("b.jsonl"), place.read("a.jsonl"));
    assert_eq!(place.names(), ["a.jsonl", "b.jsonl", "c.yaml"], "nothing is left over");
}
