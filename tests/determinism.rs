//! The same input gives the same bytes with any number of workers and processes: generated events with disorder, late and
//! malformed ones, in eight files, with windows that are refined more than once.

#[path = "support/job.rs"]
mod job;

use kafka_broker::process::free_addresses;
use llm_optimizer_processor::config::GeneratorConfig;
use llm_optimizer_processor::runtime::Control;
use llm_optimizer_processor::source::generator::generate;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FILES: usize = 8;
const EVENTS: u64 = 40_000;
/// How long two processes may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// How often free ports are looked for, should another program take one of them in between.
const ATTEMPTS: usize = 3;

/// What comes out of a run, each sorted: results without their timestamps, late records, dead letters.
#[derive(Debug, PartialEq)]
struct Output {
    results: Vec<String>,
    late: Vec<String>,
    dead: Vec<String>,
}

/// Writes the events into files, a partition each.
fn write_input(directory: &Path) -> Vec<PathBuf> {
    let config = GeneratorConfig {
        rate: None,
        count: Some(EVENTS),
        keys: NonZeroU32::new(12).expect("not zero"),
        seed: 20_260_921,
        disorder: Duration::from_secs(2),
        late_share: 0.02,
        malformed_share: 0.005,
        partitions: NonZeroU32::new(FILES as u32).expect("not zero"),
    };
    let mut texts = vec![Vec::new(); FILES];
    let generated = generate(&config, &Control::new(), &mut |partition, payload| {
        let text = &mut texts[partition as usize];
        text.extend_from_slice(payload);
        text.push(b'\n');
        Ok(())
    });
    assert_eq!(generated.expect("the generator fails for nothing"), EVENTS);
    let write = |(number, text)| {
        let path = directory.join(format!("partition-{number}.jsonl"));
        std::fs::write(&path, text).expect("a temporary directory takes files");
        path
    };
    texts.into_iter().enumerate().map(write).collect()
}

/// The sections of a job that differ.
#[derive(Clone, Copy)]
struct Job {
    event: &'static str,
    windows: &'static str,
}

/// The configuration of a run that writes into this directory.
fn yaml(job: Job, files: &[PathBuf], out: &Path) -> String {
    let Job { event, windows } = job;
    let files: Vec<String> = files.iter().map(|path| job::quoted(path)).collect();
    let path = |name: &str| job::quoted(&out.join(name));
    format!(
        "processor:\n  source: {{type: file, paths: [{}]}}\n  event: {event}\n  buffer_size: 2000\n  \
         windows: {{{windows}}}\n  watermark: {{max_out_of_orderness: 1500ms}}\n  \
         error_handling: {{policy: dead_letter, dead_letter_file: {}}}\n  sinks: [{{type: file, path: {}}}]\n  \
         late: {{sink: {{type: file, path: {}}}}}\n  metrics: {{enabled: false}}\n",
        files.join(", "),
        path("dead.jsonl"),
        path("results.jsonl"),
        path("late.jsonl")
    )
}

/// What so many processes wrote into a directory. Processes after the first have their index in the names of their files.
fn output(out: &Path, processes: usize) -> Output {
    let paths = |name: &str| -> Vec<PathBuf> {
        let path = |process| match process {
            0 => out.join(format!("{name}.jsonl")),
            process => out.join(format!("{name}.{process}.jsonl")),
        };
        (0..processes).map(path).collect()
    };
    let lines = |name: &str| {
        let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let text: String = paths(name).into_iter().map(read).collect();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let results = paths("results").iter().flat_map(|path| job::results(path)).collect();
    Output { results: job::sorted(results), late: lines("late"), dead: lines("dead") }
}

fn run_workers(job: Job, files: &[PathBuf], workers: usize) -> Output {
    let out = tempfile::tempdir().expect("a temporary directory");
    let summary = job::run(&yaml(job, files, out.path()), workers);
    let output = output(out.path(), 1);
    assert_eq!(summary.results, output.results.len() as u64);
    assert_eq!(summary.dropped_late(), output.late.len() as u64);
    assert_eq!(summary.bad(), output.dead.len() as u64);
    output
}

/// A process of the test; it is ended with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless the test fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two processes with two workers each, on free ports of this machine.
fn run_processes(job: Job, files: &[PathBuf]) -> Output {
    for _ in 0..ATTEMPTS {
        let out = tempfile::tempdir().expect("a temporary directory");
        let failures = try_processes(job, files, out.path());
        if failures.is_empty() {
            return output(out.path(), 2);
        }
        let port_taken = failures.iter().any(|failure| failure.contains("in use"));
        assert!(port_taken, "{}", failures.join("\n"));
    }
    panic!("no two free ports in {ATTEMPTS} attempts");
}

/// Returns what the processes say that failed.
fn try_processes(job: Job, files: &[PathBuf], out: &Path) -> Vec<String> {
    let config = out.join("processor.yaml");
    std::fs::write(&config, yaml(job, files, out)).expect("a temporary directory takes files");
    let hostfile = out.join("hosts");
    std::fs::write(&hostfile, free_addresses(2).join("\n")).expect("a temporary directory takes files");
    let log = |index: usize| out.join(format!("process-{index}.log"));
    let start = |index: usize| {
        let log = std::fs::File::create(log(index)).expect("a temporary directory takes files");
        let child = Command::new(env!("CARGO_BIN_EXE_processor"))
            .args(["run", "-w", "2", "-n", "2", "-p", &index.to_string()])
            .arg("--config")
            .arg(&config)
            .arg("-h")
            .arg(&hostfile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Process(child.expect("the binary of this package starts"))
    };
    let mut processes = [start(0), start(1)];
    let deadline = Instant::now() + TIME_LIMIT;
    let mut failures = Vec::new();
    for (index, process) in processes.iter_mut().enumerate() {
        let said = || std::fs::read_to_string(log(index)).unwrap_or_default();
        loop {
            match process.0.try_wait().expect("a child can be waited for") {
                Some(status) if status.success() => break,
                Some(status) => {
                    failures.push(format!("process {index}: {status}\n{}", said()));
                    break;
                }
                None if Instant::now() > deadline => {
                    failures.push(format!("process {index} does not end\n{}", said()));
                    break;
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        if !failures.is_empty() {
            break;
        }
    }
    failures
}

/// Compares in a way that does not print megabytes.
fn assert_same(what: &str, found: &Output, right: &Output) {
    for (part, found, right) in [
        ("results", &found.results, &right.results),
        ("late", &found.late, &right.late),
        ("dead", &found.dead, &right.dead),
    ] {
        let difference = found.iter().zip(right).find(|(found, right)| found != right);
        assert_eq!(difference, None, "{what}: {part}");
        assert_eq!(found.len(), right.len(), "{what}: {part}");
    }
}

fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.contains(what)).count()
}

/// Runs the job in every way; it has at least so many windows, counted per key.
fn check(job: Job, windows: usize) {
    let input = tempfile::tempdir().expect("a temporary directory");
    let files = write_input(input.path());
    let alone = run_workers(job, &files, 1);
    assert!(count(&alone.results, "\"firing\":\"on_time\"") >= windows, "windows and keys");
    assert!(count(&alone.results, "\"firing\":\"late\"") > 100, "refinements");
    if job.windows.contains("session") {
        assert!(count(&alone.results, "\"op\":\"retract\"") > 50, "retractions");
    } else {
        assert!(count(&alone.results, "\"revision\":2,") > 10, "refinements of refinements");
    }
    assert!(count(&alone.late, "\"reason\":\"late\"") > 100, "late records");
    assert!(count(&alone.dead, "\"reason\":\"malformed\"") > 20, "dead letters");
    for workers in [2, 3, 8] {
        assert_same(&format!("{workers} workers"), &run_workers(job, &files, workers), &alone);
    }
    assert_same("two processes", &run_processes(job, &files), &alone);
}

/// A record's place: file and offset.
type Place = (usize, u64);

/// The records of each kind, by their places.
#[derive(Debug, Default, PartialEq)]
struct Decisions {
    on_time: BTreeSet<Place>,
    /// Accepted, for a window that had ended by their partition's watermark.
    refining: BTreeSet<Place>,
    dropped: BTreeSet<Place>,
    unreadable: BTreeSet<Place>,
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Where each event is, by its id, which is its key as well.
fn places(files: &[PathBuf]) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for (file, path) in files.iter().enumerate() {
        let mut offset = 0;
        for line in std::fs::read_to_string(path).expect("it was written").lines() {
            if let Ok(event) = serde_json::from_str::<serde_json::Value>(line) {
                assert_eq!(places.insert(text_of(&event["id"]), (file, offset)), None, "ids are unique");
            }
            offset += line.len() as u64 + 1;
        }
    }
    places
}

fn decisions(output: &Output, files: &[PathBuf], places: &BTreeMap<String, Place>) -> Decisions {
    let mut decisions = Decisions::default();
    for line in &output.results {
        // The time of firing was cut off, and the brace with it.
        let result: serde_json::Value = serde_json::from_str(&format!("{line}}}")).expect("JSON");
        assert_eq!((&result["results"]["count"], &result["revision"]), (&1.into(), &0.into()), "{line}");
        let place = places[&text_of(&result["key"]["id"])];
        let kind = if result["firing"] == "late" { &mut decisions.refining } else { &mut decisions.on_time };
        assert!(kind.insert(place), "twice: {line}");
    }
    for (lines, kind) in [(&output.late, &mut decisions.dropped), (&output.dead, &mut decisions.unreadable)] {
        for line in lines {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let file = files.iter().position(|file| record["topic"] == file.to_str().expect("text")).expect("a file");
            assert!(kind.insert((file, record["offset"].as_u64().expect("an offset"))), "twice: {line}");
        }
    }
    decisions
}

#[test]
fn every_record_meets_the_same_decision_at_any_number_of_workers_and_in_any_batches() {
    let input = tempfile::tempdir().expect("a temporary directory");
    let files = write_input(input.path());
    let places = places(&files);
    let decide = |workers, buffer_size: usize| {
        let out = tempfile::tempdir().expect("a temporary directory");
        let job = Job { event: "{key: [id], values: [data.latency_ms]}", windows: TUMBLING };
        let text = yaml(job, &files, out.path())
            .replace("buffer_size: 2000", &format!("buffer_size: {buffer_size}"))
            .replace("allowed_lateness: 1m", "allowed_lateness: 3s");
        job::run(&text, workers);
        decisions(&output(out.path(), 1), &files, &places)
    };
    let alone = decide(1, 2_000);
    let sizes = [&alone.on_time, &alone.refining, &alone.dropped, &alone.unreadable].map(BTreeSet::len);
    assert_eq!(sizes.iter().sum::<usize>() as u64, EVENTS, "each record is of one kind");
    assert!(sizes.iter().all(|size| *size > 50), "all kinds are there: {sizes:?}");
    for (workers, buffer_size) in [(1, 1), (1, 64), (2, 3), (2, 100_000), (3, 100), (3, 5_000), (8, 10), (8, 2_000)] {
        let found = decide(workers, buffer_size);
        // Not with `assert_eq!`, which would print them all.
        for (what, found, right) in [
            ("on time", &found.on_time, &alone.on_time),
            ("refining", &found.refining, &alone.refining),
            ("dropped", &found.dropped, &alone.dropped),
            ("unreadable", &found.unreadable, &alone.unreadable),
        ] {
            let differing = found.symmetric_difference(right).next();
            assert_eq!(differing, None, "{workers} workers, {buffer_size} rows in flight: {what}");
        }
    }
}
const TUMBLING: &str = "tumbling: {size: 5s, allowed_lateness: 1m}";

#[test]
fn listed_fields() {
    let event = "{key: [data.model, data.region], values: [data.latency_ms]}";
    check(Job { event, windows: TUMBLING }, 90);
}

#[test]
fn fields_as_they_come_and_the_default_key() {
    check(Job { event: "{}", windows: TUMBLING }, 8);
}

#[test]
fn sliding_windows() {
    let windows = "sliding: {size: 5s, slide: 700ms, offset: 300ms, allowed_lateness: 1m}";
    check(Job { event: "{key: [data.model, data.region], values: [data.latency_ms]}", windows }, 500);
}

#[test]
fn sessions() {
    let event = "{key: [metadata.user], values: [data.latency_ms]}";
    check(Job { event, windows: "session: {gap: 900ms, allowed_lateness: 1m}" }, 500);
    check(Job { event, windows: "session: {gap: 900ms, max_length: 2s, allowed_lateness: 1m}" }, 500);
}
