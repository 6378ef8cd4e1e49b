//! What processes of one job hold while one of them stands still, or has a sink that takes nothing: no more than `buffer_size`
//! allows.
//!
//! The bound is the one that the README gives. Each case is run twice: with a small `buffer_size`, where memory must stay within
//! the bound, and with one that lets all of the input be on its way, where it must not: else the measure would show nothing.

use super::interrupted::metric;
use super::program::{Live, Place, eventually};
use kafka_broker::process::free_addresses;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// What the allocator takes for a block of timely's, which is of 1 MiB.
const BLOCK: u64 = 2 * MIB;
/// Rows that each worker may have on the way.
const BUFFER_SIZE: u64 = 500;
/// So many that the input is over before.
const NO_LIMIT: u64 = 100_000_000;
/// A case is over in this time, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(120);
/// 2026-09-21T14:13:00Z, the beginning of a window.
const BASE: i64 = 1_790_000_000_000 - 1_790_000_000_000 % 60_000;
const WINDOW_MS: i64 = 1_000;

/// What rows on their way take in one process at most: those of all workers may be in one place.
fn bound_of_rows(workers: u64, buffer_size: u64, fields: u64) -> u64 {
    workers * buffer_size * (12 + 8 * fields)
}

/// What the links of a process of one worker take besides: four blocks for each direction, of which parts are full.
fn bound_of_links(processes: u64) -> u64 {
    (processes - 1) * 2 * 4 * BLOCK
}

/// What results take that wait for a sink, a KiB each: `buffer_size` of them, and those of a turn.
fn bound_of_results(buffer_size: u64) -> u64 {
    (buffer_size + 4_096) * 1_024
}

/// The most that the process has had in RAM, in bytes; `None` where it has ended.
fn peak_if_there(process: &Live) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1_024)
}

fn peak(process: &Live) -> u64 {
    peak_if_there(process).unwrap_or_else(|| panic!("it has ended: {}", process.err()))
}

/// How much more memory each process has had since `before`.
fn grown(processes: &[Live], before: &[u64]) -> Vec<u64> {
    processes.iter().zip(before).map(|(process, before)| peak(process).saturating_sub(*before)).collect()
}

/// Waits for the end of all, while taking note of how much memory each has had since `before`.
fn end(processes: &mut [Live], before: &[u64], most: &mut [u64]) {
    let begun = Instant::now();
    for (place, process) in processes.iter_mut().enumerate() {
        while process.child.try_wait().expect("a child").is_none() {
            assert!(begun.elapsed() < PATIENCE, "{}", process.err());
            let grown = peak_if_there(process).map_or(0, |peak| peak.saturating_sub(before[place]));
            most[place] = most[place].max(grown);
            std::thread::sleep(Duration::from_millis(20));
        }
        let (code, err) = process.end_within(Duration::from_secs(1));
        assert_eq!(code, Some(0), "{err}");
    }
}

fn time(millis: i64) -> llm_optimizer_processor::time::EventTime {
    llm_optimizer_processor::time::EventTime::from_millis(millis)
}

fn yaml(buffer_size: u64, fields: usize, sinks: &str) -> String {
    let values: Vec<String> = (0..fields).map(|field| format!("data.f{field}")).collect();
    format!(
        "processor:\n  buffer_size: {buffer_size}\n  source: {{type: file, paths: [\"events-*.jsonl\"]}}\n  sinks: {sinks}\n  \
         event: {{key: [data.model], values: [{}]}}\n  windows: {{tumbling: {{size: 1s}}}}\n  \
         watermark: {{max_out_of_orderness: 0s}}\n  aggregation: {{enabled: [count, sum]}}\n  \
         metrics: {{listen: \"127.0.0.1:0\"}}\n  cluster: {{failure_timeout: 90s}}\n",
        values.join(", ")
    )
}

fn hostfile(place: &Place, processes: usize) {
    place.write("hosts", free_addresses(processes).join("\n"));
}

/// All processes, each with one worker.
fn start(place: &Place, processes: usize) -> Vec<Live> {
    hostfile(place, processes);
    let count = processes.to_string();
    let start = |process: usize| {
        let process = process.to_string();
        let arguments = ["--config", "c.yaml", "-w", "1", "-n", &count, "-p", &process, "-h", "hosts"];
        Live::start(&mut place.command(&arguments))
    };
    (0..processes).map(start).collect()
}

fn processed(process: &Live) -> f64 {
    metric(&process.pages(), "events_processed_total")
}

/// Adds the line of an event so long after [`BASE`]. Its number is its first value; `more` are further members of its
/// data.
fn write_event(lines: &mut String, after_ms: u64, model: u64, number: u64, more: &str) {
    let at = time(BASE + after_ms as i64);
    let _ = writeln!(
        lines,
        r#"{{"id":"1","timestamp":"{at}","source":"s","event_type":"metric","data":{{"model":"m{model}","f0":{number}{more}}}}}"#
    );
}

/// What a run came to in which one process, or what reads its results, stood still for a while.
struct Run {
    /// The peak of each process's memory before that.
    before: Vec<u64>,
    /// How much higher it was at the end than that, or than usual.
    grown: Vec<u64>,
    /// The share of the input that was read by then.
    read: f64,
}

/// What the memory of each has usually been, or is at its peak now.
fn usual_or_now(usual: Option<&[u64]>, processes: &[Live]) -> Vec<u64> {
    usual.map_or_else(|| processes.iter().map(peak).collect(), <[u64]>::to_vec)
}

/// Adds the results of a file or a standard output: count and sum of the first field by window and key.
fn gather(lines: &str, fields: usize, into: &mut BTreeMap<(String, String), (u64, f64)>) {
    for line in lines.lines() {
        let result: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let name = |figure: &str| if fields == 1 { figure.to_owned() } else { format!("f0.{figure}") };
        let figures = &result["results"];
        let (count, sum) = (figures[name("count")].as_u64(), figures[name("sum")].as_f64());
        let key = (text(&result["window"]["start"]), text(&result["key"]["model"]));
        let before = into.insert(key, (count.expect("a count"), sum.expect("a sum")));
        assert!(before.is_none(), "a result that came twice: {line}");
    }
}

mod standing_still {
    use super::*;

    const PROCESSES: usize = 3;
    const FIELDS: usize = 40;
    const KEYS: u64 = 29;
    const EVENTS: u64 = 10_000;
    /// The same events again and again: one file of many names.
    const FILES: u64 = 96;
    /// The share of the input after which a process at work has all the memory that it needs for that.
    const WARM: f64 = 0.25;
    const STOP: Duration = Duration::from_secs(2);

    /// Each event has its number as the first value.
    fn write_events(place: &Place) {
        let mut lines = String::new();
        for number in 0..EVENTS {
            let more = (1..FIELDS).map(|field| format!(r#","f{field}":{}.25"#, number % 90 + 10));
            write_event(&mut lines, number, number % KEYS, number, &more.collect::<String>());
        }
        place.write("events-00.jsonl", lines);
        for name in 1..FILES {
            let link = place.path(&format!("events-{name:02}.jsonl"));
            std::fs::hard_link(place.path("events-00.jsonl"), link).expect("a further name");
        }
    }

    fn expected() -> BTreeMap<(String, String), (u64, f64)> {
        let mut results = BTreeMap::new();
        for number in 0..EVENTS {
            let start = time(BASE + number as i64 / WINDOW_MS * WINDOW_MS).to_string();
            let (count, sum) = results.entry((start, format!("m{}", number % KEYS))).or_insert((0, 0.0));
            *count += FILES;
            *sum += (FILES * number) as f64;
        }
        results
    }

    /// Runs the job, with the second process stopped for [`STOP`] at least, until `is_enough`, which is asked with by how much the memory of each is above
    /// `usual`, or above what it was at the stop; asserts that the results are right.
    fn run(place: &Place, buffer_size: u64, usual: Option<&[u64]>, is_enough: impl Fn(&[u64]) -> bool) -> Run {
        place.write("c.yaml", yaml(buffer_size, FIELDS, "[{type: file, path: r.jsonl}]"));
        let mut processes = start(place, PROCESSES);
        let share = (EVENTS * FILES) as f64 / PROCESSES as f64;
        let least = || processes.iter().map(processed).fold(f64::MAX, f64::min) / share;
        eventually("events", || match least() {
            least if least > WARM => Ok(()),
            least => Err(format!("{least}: {}", processes[0].err())),
        });
        let before = usual_or_now(usual, &processes);
        processes[1].signal(libc::SIGSTOP);
        let read = processed(&processes[0]) / share;
        let stopped = Instant::now();
        while stopped.elapsed() < STOP || !is_enough(&grown(&processes, &before)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        processes[1].signal(libc::SIGCONT);
        let mut grown = grown(&processes, &before);
        end(&mut processes, &before, &mut grown);
        let mut results = BTreeMap::new();
        for name in ["r.jsonl", "r.1.jsonl", "r.2.jsonl"] {
            gather(&place.read(name), FIELDS, &mut results);
            std::fs::remove_file(place.path(name)).expect("removed");
        }
        assert_eq!(results, expected());
        Run { before, grown, read }
    }

    #[test]
    fn the_memory_of_all_stays_within_what_buffer_size_allows() {
        let place = Place::new();
        write_events(&place);
        let workers = PROCESSES as u64;
        let bound = bound_of_rows(workers, BUFFER_SIZE, FIELDS as u64) + bound_of_links(PROCESSES as u64);
        let Run { before, grown, read } = run(&place, BUFFER_SIZE, None, |_| true);
        println!("stopped with {:.0} % to go: {grown:?} bytes more, {bound} are allowed", (1.0 - read) * 100.0);
        assert!(read < 0.7, "the input was nearly over: nothing was held back");
        assert!(grown.iter().all(|grown| *grown < bound), "{grown:?} bytes more, {bound} are allowed");

        let begun = Instant::now();
        let is_enough = |grown: &[u64]| grown[0].max(grown[2]) > bound || begun.elapsed() > Duration::from_secs(60);
        let Run { grown, .. } = run(&place, NO_LIMIT, Some(&before), is_enough);
        println!("without a limit: {grown:?} bytes more");
        assert!(
            grown[0].max(grown[2]) > bound,
            "the rows of all the input are {grown:?} bytes: the measure shows nothing"
        );
    }
}

mod slow_sink {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::ChildStdout;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;

    const PROCESSES: usize = 2;
    const KEYS: u64 = 500;
    /// Of each of two files, which are the same.
    const EVENTS: u64 = 300_000;
    /// Events of a window: fewer than there are keys, so that each makes a result.
    const OF_A_WINDOW: u64 = 100;
    /// Results of the second process that are read before nobody does: what a process at work needs anyway it has by then.
    const READ_AT_FIRST: usize = 40_000;
    /// Reading has come to rest when nothing was read for so long.
    const REST: Duration = Duration::from_secs(2);

    fn write_events(place: &Place) {
        let mut lines = String::new();
        for number in 0..EVENTS {
            write_event(&mut lines, number * WINDOW_MS as u64 / OF_A_WINDOW, number % KEYS, number, "");
        }
        place.write("events-0.jsonl", lines);
        std::fs::hard_link(place.path("events-0.jsonl"), place.path("events-1.jsonl")).expect("a further name");
    }

    fn expected() -> BTreeMap<(String, String), (u64, f64)> {
        let start = |number: u64| time(BASE + (number / OF_A_WINDOW) as i64 * WINDOW_MS).to_string();
        let result = |number: u64| ((start(number), format!("m{}", number % KEYS)), (2, 2.0 * number as f64));
        (0..EVENTS).map(result).collect()
    }

    /// Reads so many lines, says so, and reads the rest when it is told to.
    fn read_slowly(out: ChildStdout, lines: usize) -> (Receiver<()>, Sender<()>, JoinHandle<String>) {
        let ((said, pausing), (go_on, told)) = (channel(), channel());
        let read = move || {
            let (mut out, mut text) = (BufReader::new(out), String::new());
            for _ in 0..lines {
                assert!(out.read_line(&mut text).expect("UTF-8") > 0, "{text}");
            }
            said.send(()).expect("somebody waits for it");
            told.recv().expect("somebody says so");
            out.read_to_string(&mut text).expect("UTF-8");
            text
        };
        (pausing, go_on, std::thread::spawn(read))
    }

    /// Runs the job. What the second process writes is read for a while, and then no more until all have come to rest. Asserts that
    /// the results are right.
    fn run(place: &Place, buffer_size: u64, usual: Option<&[u64]>) -> Run {
        place.write("c.yaml", yaml(buffer_size, 1, "[{type: stdout}]"));
        let mut processes = start(place, PROCESSES);
        let [first, second] = [0, 1].map(|process| processes[process].child.stdout.take().expect("piped"));
        let (warm, go_on_first, first) = read_slowly(first, READ_AT_FIRST / 2);
        go_on_first.send(()).expect("it reads");
        let (pausing, go_on, second) = read_slowly(second, READ_AT_FIRST);
        // What a process at work needs anyway both have by then.
        warm.recv_timeout(PATIENCE).expect("results come");
        pausing.recv_timeout(PATIENCE).expect("results come");
        let before = usual_or_now(usual, &processes);
        let (mut last, mut since) = (vec![0.0; PROCESSES], Instant::now());
        while since.elapsed() < REST {
            std::thread::sleep(Duration::from_millis(50));
            let now: Vec<f64> = processes.iter().map(processed).collect();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        let mut grown = grown(&processes, &before);
        println!("at rest: {grown:?} bytes more");
        go_on.send(()).expect("it waits");
        end(&mut processes, &before, &mut grown);
        let mut results = BTreeMap::new();
        [first, second].into_iter().for_each(|out| gather(&out.join().expect("read"), 1, &mut results));
        assert!(results == expected(), "{} results of {EVENTS}, or wrong ones", results.len());
        Run { before, grown, read: last.iter().sum::<f64>() / (2 * EVENTS) as f64 }
    }

    #[test]
    fn readers_of_all_processes_wait_for_a_sink_of_one() {
        let place = Place::new();
        write_events(&place);
        // Each row on its way may be the first of its window and key, which takes a KiB.
        let rows = bound_of_rows(2, BUFFER_SIZE, 1) + 2 * BUFFER_SIZE * 1_024;
        let bound = rows + bound_of_links(2) + bound_of_results(BUFFER_SIZE);
        let Run { before, grown, read } = run(&place, BUFFER_SIZE, None);
        println!("{:.1} % were read: {grown:?} bytes more, {bound} are allowed", read * 100.0);
        assert!(read < 0.6, "{read} of the input was read: nobody was held back");
        assert!(grown.iter().all(|grown| *grown < bound), "{grown:?} bytes more, {bound} are allowed");

        let Run { grown, read, .. } = run(&place, NO_LIMIT, Some(&before));
        println!("without a limit {:.1} % were read: {grown:?} bytes more", read * 100.0);
        assert!(read == 1.0 && grown[1] > bound, "{read} read, {grown:?} bytes more: the measure shows nothing");
    }
}

/// All windows of a run may be due at once: where a partition that held them all open comes to its end.
mod all_at_once {
    use super::*;

    const RESULTS: u64 = 300_000;

    /// Each event is alone in its window; they are all out of order enough for none to be due before the end.
    fn write_events(place: &Place) {
        let mut lines = String::new();
        for number in 0..RESULTS {
            write_event(&mut lines, number * 10, number % 500, number, "");
        }
        place.write("events-0.jsonl", lines);
    }

    /// The most memory until all has come to rest while nobody reads the results.
    fn run(place: &Place, buffer_size: u64) -> u64 {
        let all_open =
            yaml(buffer_size, 1, "[{type: stdout}]").replace("max_out_of_orderness: 0s", "max_out_of_orderness: 10h");
        place.write("c.yaml", all_open);
        let mut process = Live::start(&mut place.command(&["--config", "c.yaml", "-w", "1"]));
        let mut out = process.child.stdout.take().expect("piped");
        eventually("rest", || match processed(&process) {
            all if all == RESULTS as f64 => Ok(()),
            some => Err(format!("{some} events: {}", process.err())),
        });
        let (mut most, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            let now = peak(&process);
            if now > most + MIB / 4 {
                (most, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut text = String::new();
        out.read_to_string(&mut text).expect("UTF-8");
        let (code, err) = process.end_within(Duration::from_secs(10));
        assert_eq!((code, text.lines().count() as u64), (Some(0), RESULTS), "{err}");
        most
    }

    #[test]
    fn they_fire_as_the_sink_takes_their_results() {
        let place = Place::new();
        write_events(&place);
        let (limited, unlimited) = (run(&place, BUFFER_SIZE), run(&place, NO_LIMIT));
        println!("{limited} bytes, and {unlimited} with all results waiting");
        // Results without a limit take some 80 MB.
        assert!(limited + 40 * MIB < unlimited, "{limited} bytes, and {unlimited} with all results waiting");
    }
}
