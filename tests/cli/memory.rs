//! A job whose windows are many times what `state.memory_limit` allows.

use super::program::{Live, Place, without_times};
use llm_optimizer_processor::time::EventTime;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

const WINDOWS: u64 = 75;
/// Of each window; with four values each, 117 keys have some 34 events each: more than are kept as they are.
const EVENTS: u64 = 4_000;
const KEYS: u64 = 117;

/// The next number of a generator that every test run repeats.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Each window has keys of its own, and all windows stay open; a few events come late, for any window before. The values of a key
/// are so far apart that its percentiles take some kilobytes.
fn events() -> String {
    let (mut lines, mut random) = (String::new(), 7);
    for window in 0..WINDOWS {
        for number in 0..EVENTS {
            let is_late = next(&mut random).is_multiple_of(500);
            let of = if is_late { next(&mut random) % (window + 1) } else { window };
            let time = EventTime::from_millis((1_790_000_000_000 + of * 10_000 + number * 10_000 / EVENTS) as i64);
            let key = of * KEYS + next(&mut random) % KEYS;
            let _ = write!(
                lines,
                r#"{{"id":"1","timestamp":"{time}","source":"s","event_type":"metric","data":{{"model":"{key}""#
            );
            for field in ["a", "b", "c", "d"] {
                let exponent = (next(&mut random) % 11_600) as f64 / 1_000.0;
                let _ = write!(lines, r#","{field}":{:.6}"#, exponent.exp2());
            }
            lines.push_str("}}\n");
        }
    }
    lines
}

fn yaml(limit: &str) -> String {
    format!(
        "processor:\n  parallelism: 2\n  checkpoint_interval: 1s\n  source: {{type: file, paths: [events.jsonl]}}\n  \
         sinks: [{{type: file, path: results.jsonl}}]\n  \
         event: {{key: [data.model], values: [data.a, data.b, data.c, data.d]}}\n  \
         windows: {{tumbling: {{size: 10s, allowed_lateness: 1h}}}}\n  watermark: {{max_out_of_orderness: 5s}}\n  \
         aggregation: {{enabled: [count, sum, min, max, percentile], percentiles: [50, 99], relative_error: 0.001}}\n  \
         metrics: {{enabled: false}}\n  state: {{backend: rocksdb, path: state, checkpoint_path: c{limit}}}\n"
    )
}

/// The most memory that a process has had, in kB; `None` where it has ended.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Runs the job to its end: its results, and the most memory it had.
fn run(place: &Place, limit: &str) -> (Vec<String>, u64) {
    place.write("c.yaml", yaml(limit));
    let mut live = Live::start(&mut place.command(&["run", "--config", "c.yaml"]));
    let mut most = 0;
    while live.child.try_wait().expect("a child").is_none() {
        most = peak(live.child.id()).unwrap_or(0).max(most);
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, said) = live.end_within(Duration::from_secs(1));
    assert_eq!(code, Some(0), "{said}");
    let results = without_times(&place.read("results.jsonl"));
    for folder in ["c", "state"] {
        fs::remove_dir_all(place.path(folder)).expect("removed");
    }
    fs::remove_file(place.path("results.jsonl")).expect("removed");
    (results, most)
}

#[test]
fn windows_that_are_many_times_the_memory_limit_come_to_the_same_results_in_less_memory() {
    let place = Place::new();
    place.write("events.jsonl", events());
    let (expected, unlimited) = run(&place, "");
    let (results, limited) = run(&place, ", memory_limit: 16MiB");
    assert!(expected.len() as u64 > WINDOWS * KEYS, "{} results", expected.len());
    assert!(results == expected, "{} results, and {} without a limit", results.len(), expected.len());
    println!("{unlimited} kB without a limit, {limited} kB with");
    // The program itself is in both, with some 60 MB.
    assert!(limited * 4 < unlimited * 3, "{limited} kB with a limit, {unlimited} kB without");
}
