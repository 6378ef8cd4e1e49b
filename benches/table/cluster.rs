//! Processes of one job on one machine: what it costs that they are several.
//!
//! Files are read by the program itself, started as a user does; parsed rows by this program, in processes of its own that
//! are linked as the program's are.

use super::events::{TUMBLING, file_source, folder, write_files};
use super::files::bench_config;
use super::measure::{Table, wall};
use super::rows::{Row, Rows, run_rows_on};
use kafka_broker::process::free_addresses;
use llm_optimizer_processor::event::WorkerIndex;
use llm_optimizer_processor::runtime::Topology;
use rand::{RngExt, SeedableRng};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_processor");
/// Each of four files has so many events, and each is read under four names.
const EVENTS: u64 = 1_000_000;
const NAMES: u64 = 4;
/// Runs of each side, in turn.
const RUNS: usize = 5;
/// Rows of each worker.
const ROWS: u64 = 40_000_000;
/// How long processes without events are watched.
const WATCHED: Duration = Duration::from_secs(20);
/// How long they are let begin before.
const BEGIN: Duration = Duration::from_secs(5);

pub fn run(table: &mut Table) {
    table.run(&[("cluster-files", files), ("cluster-rows", rows), ("cluster-idle", idle)]);
}

fn hostfile(folder: &Path, processes: usize) -> PathBuf {
    let path = folder.join("hosts");
    std::fs::write(&path, free_addresses(processes).join("\n")).expect("written");
    path
}

/// Starts the processes of a job by the program, without what they say.
fn start(config: &Path, hosts: &Path, processes: usize, threads: usize) -> Vec<Child> {
    let start = |process: usize| {
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg("--config").arg(config).arg("-h").arg(hosts);
        for (option, value) in [("-w", threads), ("-n", processes), ("-p", process)] {
            command.arg(option).arg(value.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    };
    (0..processes).map(start).collect()
}

/// The same files, by the workers of one process and by one worker each of two.
fn files(table: &mut Table) {
    let folder = folder();
    let files = write_files(folder.path(), 4, 4 * EVENTS);
    let names = files.iter().flat_map(|file| {
        (0..NAMES).map(move |name| {
            let link = file.with_extension(format!("{name}.jsonl"));
            std::fs::hard_link(file, &link).expect("a further name");
            link
        })
    });
    let source = file_source(&names.collect::<Vec<_>>());
    let config = folder.path().join("c.yaml");
    let out = folder.path().join("results.jsonl");
    let text = format!(
        "processor:\n  source: {source}\n  event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
         windows: {TUMBLING}\n  watermark: {{max_out_of_orderness_secs: 5}}\n  \
         sinks: [{{type: file, path: {out:?}, mode: atomic}}]\n  metrics: {{enabled: false}}\n"
    );
    std::fs::write(&config, text).expect("written");
    let time = |processes, threads| {
        let hosts = hostfile(folder.path(), processes);
        wall(|| {
            for mut child in start(&config, &hosts, processes, threads) {
                assert!(child.wait().expect("it ends").success(), "{processes} processes of {threads} workers");
            }
        })
    };
    let mut pairs: Vec<(Duration, Duration)> = (0..RUNS).map(|_| (time(1, 2), time(2, 1))).collect();
    let ratio = |pair: &(Duration, Duration)| pair.0.as_secs_f64() / pair.1.as_secs_f64();
    pairs.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
    let (one, two) = pairs[RUNS / 2];
    let range = format!("{:.2} to {:.2}", ratio(&pairs[0]), ratio(&pairs[RUNS - 1]));
    let name = format!("JSON lines files, 2 processes of 1 worker to 1 of 2, median of {RUNS}, {range} (wall)");
    table.ratio(&name, one, two, 4 * EVENTS * NAMES, ">= 0.85");
}

/// Rows that are parsed already, between the workers of one process and between two processes.
fn rows(table: &mut Table) {
    let folder = folder();
    let time = |processes: usize, threads: usize| {
        let hosts = hostfile(folder.path(), processes);
        let start = |process: usize| {
            let case = format!("--child=exchange:{process}:{processes}:{threads}:{}", hosts.display());
            Command::new(std::env::current_exe().expect("this program"))
                .arg(case)
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts")
        };
        let children: Vec<Child> = (0..processes).map(start).collect();
        let said = |child: Child| {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{output:?}");
            Duration::from_nanos(String::from_utf8_lossy(&output.stdout).trim().parse().expect("nanoseconds"))
        };
        children.into_iter().map(said).max().expect("a process")
    };
    let (mut within, mut between) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        within = within.min(time(1, 2));
        between = between.min(time(2, 1));
    }
    let name = "parsed rows of each worker, 2 processes of 1 worker on loopback to 1 of 2 (wall)";
    table.ratio(name, within, between, ROWS, "");
    let speed = |time: Duration| format!("{:.1} M rows/s a worker", ROWS as f64 / 1e6 / time.as_secs_f64());
    table.figure("the same, half of the rows going to the other worker", &speed(within), &speed(between), "");
}

/// One process of [`rows`]: says how long it took from its first row to its end.
pub fn child(case: &str) {
    let mut parts = case.splitn(4, ':');
    let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("a number");
    let (process, processes, threads) = (number(), number(), number());
    let hosts = PathBuf::from(parts.next().expect("a hostfile"));
    let threads = NonZeroUsize::new(threads).expect("a worker");
    let topology = Topology::new(threads, processes, process, Some(&hosts)).expect("a hostfile");
    let begun: Arc<OnceLock<Instant>> = Arc::default();
    let first = Arc::clone(&begun);
    let summary = run_rows_on(&topology, bench_config("[stdout]"), move |worker| some_rows(worker, Arc::clone(&first)));
    assert_eq!(summary.events, ROWS * threads.get() as u64);
    println!("{}", begun.get().expect("it has begun").elapsed().as_nanos());
}

/// A million rows of 1,000 keys again and again, each time two minutes later.
fn some_rows(worker: WorkerIndex, begun: Arc<OnceLock<Instant>>) -> Rows {
    const LAP: u64 = 1_000_000;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(u64::from(worker.0));
    let row = |index: u64| Row {
        time: 1_700_000_000_000 + (index * 120_000 / LAP) as i64 - random.random_range(0..2_000),
        key: random.random_range(0..1_000),
        value: 50.0 * (1.0 + 99.0 * random.random::<f64>().powi(3)),
    };
    let rows: Vec<Row> = (0..LAP).map(row).collect();
    Box::new((0..ROWS).map(move |index| {
        if index == 0 {
            begun.get_or_init(Instant::now);
        }
        let Row { time, key, value } = rows[(index % LAP) as usize];
        Row { time: time + (index / LAP * 120_000) as i64, key, value }
    }))
}

/// Three processes that wait for a source which says nothing: the share of a core that each takes.
fn idle(table: &mut Table) {
    let folder = folder();
    let config = folder.path().join("c.yaml");
    let text = "processor:\n  source: stdin\n  sinks: [{type: stdout}]\n  windows: {tumbling: {size: 1m}}\n  \
                metrics: {listen: \"127.0.0.1:0\"}\n";
    std::fs::write(&config, text).expect("written");
    let mut children = start(&config, &hostfile(folder.path(), 3), 3, 1);
    std::thread::sleep(BEGIN);
    let before: Vec<Duration> = children.iter().map(|child| cpu_of(child.id())).collect();
    std::thread::sleep(WATCHED);
    let shares: Vec<String> = children
        .iter()
        .zip(before)
        .map(|(child, before)| {
            let share = (cpu_of(child.id()) - before).as_secs_f64() / WATCHED.as_secs_f64();
            format!("{:.2} %", share * 100.0)
        })
        .collect();
    for child in &mut children {
        assert!(child.try_wait().expect("a child").is_none(), "it has ended");
        child.kill().expect("it ends");
        child.wait().expect("it has ended");
    }
    table.figure("three processes without events, CPU of each in 20 s", "", &shares.join(", "), "< 1 % of a core");
}

/// The CPU time of a process so far, in hundredths of a second.
fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it is there");
    let (_, figures) = stat.rsplit_once(") ").expect("the name is in brackets");
    let ticks: u64 = figures.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
