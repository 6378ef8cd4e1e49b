//! What checkpoints cost: 100,000 windows of all aggregates, some 100 MB of state, on one worker.
//!
//! Rows that find their window somewhere in 100 MB take the time of the memory, which other users of the machine change by a third from
//! one half minute to the next. So nothing here compares one run with another: a job with checkpoints is compared with itself in
//! between them, and with a job without while the two take turns, fifty milliseconds each.

use super::kafka;
use super::measure::Table;
use llm_optimizer_processor::aggregate::AggregatePlan;
use llm_optimizer_processor::checkpoint::{CheckpointStore, RecordKey, Table as RecordTable, Written};
use llm_optimizer_processor::config::{self, ProcessorConfig};
use llm_optimizer_processor::error::ProcessorResult;
use llm_optimizer_processor::event::{
    BadRecord, Decoded, Decoder, FieldIndex, GroupingKey, Offset, PartitionName, RowColumns, RowScratch,
};
use llm_optimizer_processor::runtime::{Control, Input, InputContext, Job, SinkPlan, Topology};
use llm_optimizer_processor::sink::{FileSink, IntoSinkSpec};
use llm_optimizer_processor::source::{Intake, KeyAddresses, PartitionSlot, Polled, Source};
use llm_optimizer_processor::time::EventTime;
use llm_optimizer_processor::window::{Naming, RecordContent, RecordView};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Windows, of one key each.
const KEYS: u64 = 100_000;
/// So many that a checkpoint of all is 100 MB.
const LARGE: u64 = 240_000;
/// Values that each window has before anything is measured.
const VALUES: u64 = 100;
/// All rows are in one window of a day.
const BEGIN: i64 = 1_700_006_400_000;

pub fn run(table: &mut Table) {
    table.run(&[
        ("checkpoints-throughput", throughput),
        ("checkpoints-stall", stall),
        ("checkpoints-restore", restore),
        ("checkpoints-incremental", incremental),
        ("checkpoints-exactly-once", kafka::exactly_once),
    ]);
}

/// What the worker does with its rows: which keys, how many rows, and when it looked for more.
#[derive(Clone)]
struct Feed {
    /// How many windows the first rows fill, of one key each.
    windows: u64,
    /// Keys that rows after the first ones are spread over.
    keys: u64,
    rows: u64,
    turns: Arc<Mutex<Vec<Turn>>>,
    /// When the first rows of all keys are in.
    filled: Arc<Mutex<Option<Instant>>>,
    /// Whether the first rows are left out, because a checkpoint has them.
    is_filled: bool,
    /// Of two that take turns since then, which it is.
    turn_of: Option<(Instant, u128)>,
}

/// A turn of the source.
#[derive(Clone, Copy)]
struct Turn {
    at: Instant,
    /// Rows before it.
    rows: u64,
}

/// More than any measurement has.
const MOST_TURNS: usize = 4 << 20;
/// Of two jobs that take turns, how long each has.
const TURN: Duration = Duration::from_millis(50);

impl Feed {
    fn new(keys: u64, rows: u64) -> Self {
        Self {
            windows: KEYS,
            keys,
            rows,
            // Pages that have not been touched take no memory; what has to be copied when it grows would be a stall of the bench's own.
            turns: Arc::new(Mutex::new(Vec::with_capacity(MOST_TURNS))),
            filled: Arc::default(),
            is_filled: false,
            turn_of: None,
        }
    }

    fn has_its_turn(&self, now: Instant) -> bool {
        self.turn_of.is_none_or(|(begin, place)| (now - begin).as_millis() / TURN.as_millis() % 2 == place)
    }
}

/// The configuration: checkpoints in `folder`, one each `interval`; `None`: none at all.
fn configuration(folder: &Path, interval: Option<&str>) -> ProcessorConfig {
    let state = interval.map_or_else(String::new, |interval| {
        let (state, checkpoints) = (folder.join("state"), folder.join("checkpoints"));
        format!(
            "  state: {{backend: rocksdb, path: {state:?}, checkpoint_path: {checkpoints:?}}}\n  checkpoint_interval: {interval}\n"
        )
    });
    let text = format!(
        "processor:\n  job: bench\n  source: generator\n  event: {{key: [data.model], values: [data.latency_ms]}}\n  \
         windows: {{tumbling: {{size: 1d}}}}\n  watermark: {{max_out_of_orderness: 1h}}\n  sinks: [stdout]\n  \
         metrics: {{enabled: false}}\n{state}"
    );
    config::load_str("bench", &text, std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}")).config
}

fn job(folder: &Path, interval: Option<&str>, feed: &Feed) -> Job {
    let config = configuration(folder, interval);
    let sinks = SinkPlan::Given(vec![FileSink::append(folder.join("results.jsonl")).into_sink_spec()]);
    let input = Box::new(FeedInput(Mutex::new(Some(feed.clone()))));
    Job::new(config, input, vec![AggregatePlan::everything()], Naming::Bare, vec!["value".into()], sinks)
        .expect("a job")
}

/// Runs until all rows are in, then asks for the end. Answers how long the rows after the first ones took.
fn run_feed(folder: &Path, interval: Option<&str>, feed: &Feed) -> Duration {
    let job = job(folder, interval, feed);
    let (control, turns, filled) = (job.control.clone(), Arc::clone(&feed.turns), Arc::clone(&feed.filled));
    job.run(&Topology::single(NonZeroUsize::MIN)).expect("the job runs");
    drop(control);
    let begin = filled.lock().expect("nobody panicked").expect("the windows were filled");
    let end = turns.lock().expect("nobody panicked").last().expect("there were turns").at;
    end.duration_since(begin)
}

/// Rows over all windows, with a checkpoint each 10 s and without.
fn throughput(table: &mut Table) {
    // Where the memory of each job lies makes a difference of some hundredths, and so does which is there first.
    let mut measured: Vec<_> = (0..PAIRS).map(|pair| tracking(pair % 2 == 0)).collect();
    measured.sort_by(|one, other| share(one).total_cmp(&share(other)));
    let middle = &measured[PAIRS / 2];
    let (lost, checkpoints, megabytes) = lost_time();
    let ratio = share(middle) * EACH.as_secs_f64() / (EACH.as_secs_f64() + lost);
    let floor = format!("{:.1} ns a row", middle.0.as_nanos() as f64 / 1e6);
    let figure = format!(
        "{ratio:.3}: {:.3} of the speed between checkpoints ({:.3} to {:.3} in {PAIRS} pairs of jobs), {:.0} ms lost by each of \
         {checkpoints} of {megabytes:.0} MB",
        share(middle),
        share(&measured[0]),
        share(&measured[PAIRS - 1]),
        lost * 1e3,
    );
    table.figure("a checkpoint each 10 s to none, 100,000 windows (wall)", &floor, &figure, ">= 0.97");
}

/// How many pairs of jobs are compared.
const PAIRS: usize = 7;

/// What is left of the speed.
fn share((untracked, tracked): &(Duration, Duration)) -> f64 {
    untracked.as_secs_f64() / tracked.as_secs_f64()
}

/// How often checkpoints are reckoned to be taken.
const EACH: Duration = Duration::from_secs(10);

/// The time of a million rows without checkpoints, and with them while none is taken. Both jobs run, and take turns.
fn tracking(without_first: bool) -> (Duration, Duration) {
    const ROWS: u64 = 24_000_000;
    let begin = Instant::now();
    let feeds = [0, 1].map(|place| Feed { turn_of: Some((begin, place)), ..Feed::new(KEYS, ROWS) });
    let mut jobs: Vec<_> = feeds.iter().zip([None, Some("1h")]).collect();
    if !without_first {
        jobs.reverse();
    }
    std::thread::scope(|scope| {
        for (feed, interval) in jobs {
            scope.spawn(move || run_feed(tempfile::tempdir().expect("a folder").path(), interval, feed));
        }
    });
    let per_million = |feed: &Feed| {
        let turns = feed.turns.lock().expect("nobody panicked");
        let filled = feed.filled.lock().expect("nobody panicked").expect("the windows were filled");
        let in_turn =
            |turn: &&[Turn]| turn[0].at >= filled && feed.has_its_turn(turn[0].at) && feed.has_its_turn(turn[1].at);
        let (mut time, mut rows) = (Duration::ZERO, 0);
        for turn in turns.windows(2).filter(in_turn).filter(|turn| turn[1].at - turn[0].at < TURN) {
            time += turn[1].at - turn[0].at;
            rows += turn[1].rows - turn[0].rows;
        }
        time.mul_f64(1e6 / rows as f64)
    };
    (per_million(&feeds[0]), per_million(&feeds[1]))
}

/// How much longer rows take for each checkpoint, in seconds: from one to the next, against a second and a half of the same time in
/// which nothing is written. With how many checkpoints that were, and how large the last one was.
fn lost_time() -> (f64, usize, f64) {
    const INTERVAL: &str = "4s";
    const QUIET: (Duration, Duration) = (Duration::from_millis(1_800), Duration::from_millis(3_300));
    let folder = tempfile::tempdir().expect("a folder");
    let feed = Feed::new(KEYS, 400_000_000);
    let (path, is_over) = (folder.path().to_owned(), Arc::new(AtomicBool::new(false)));
    let watch = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || publications(&path, &is_over)
    });
    run_feed(folder.path(), Some(INTERVAL), &feed);
    is_over.store(true, Ordering::SeqCst);
    let published = watch.join().expect("it watches");
    let filled = feed.filled.lock().expect("nobody panicked").expect("the windows were filled");
    let turns = feed.turns.lock().expect("nobody panicked").clone();
    let rows_at = |at: Instant| turns[turns.partition_point(|turn| turn.at < at).min(turns.len() - 1)];
    // The last one is of the end of the run, and the one before it may be.
    let pairs = published.windows(2).filter(|pair| pair[0] > filled).take(published.len().saturating_sub(4));
    let lost = pairs.map(|pair| {
        let (quiet_from, quiet_to) = (rows_at(pair[0] + QUIET.0), rows_at(pair[0] + QUIET.1));
        let each = (quiet_to.at - quiet_from.at).as_secs_f64() / (quiet_to.rows - quiet_from.rows) as f64;
        let (from, to) = (rows_at(pair[0]), rows_at(pair[1]));
        (to.at - from.at).as_secs_f64() - (to.rows - from.rows) as f64 * each
    });
    let mut lost: Vec<f64> = lost.collect();
    lost.sort_unstable_by(f64::total_cmp);
    assert!(lost.len() >= 5, "{} checkpoints are no measurement", lost.len());
    (lost[lost.len() / 2], lost.len(), changed(folder.path()) as f64 / 1e6)
}

/// When checkpoints were published.
fn publications(folder: &Path, is_over: &AtomicBool) -> Vec<Instant> {
    let (mut published, mut last) = (Vec::new(), None);
    while !is_over.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
        let checkpoints = std::fs::read_dir(folder.join("checkpoints")).into_iter().flatten().flatten();
        let complete = checkpoints.filter(|entry| entry.path().join("manifest.json").exists());
        let newest = complete.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max();
        if newest > last {
            (last, _) = (newest, published.push(Instant::now()));
        }
    }
    published
}

/// The longest time between two turns of the source, in each second with a checkpoint: of so many that the hundredth part is more than
/// one.
fn stall(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let feed = Feed { windows: LARGE, ..Feed::new(LARGE, 1_000_000_000) };
    run_feed(folder.path(), Some("1s"), &feed);
    let begin = feed.filled.lock().expect("nobody panicked").expect("the windows were filled");
    let turns = feed.turns.lock().expect("nobody panicked").clone();
    let mut longest: Vec<Duration> = Vec::new();
    for pair in turns.windows(2).filter(|pair| pair[0].at >= begin) {
        let second = pair[0].at.duration_since(begin).as_secs() as usize;
        longest.resize(longest.len().max(second + 1), Duration::ZERO);
        longest[second] = longest[second].max(pair[1].at - pair[0].at);
    }
    longest.sort_unstable();
    assert!(longest.len() > 100, "{} seconds have no p99", longest.len());
    let at = |share: f64| longest[((longest.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let size = changed(folder.path()) as f64 / 1e6;
    let figure =
        format!("p50 {:.1} ms, p99 {:.1} ms ({} checkpoints of {size:.0} MB)", at(0.5), at(0.99), longest.len());
    table.figure("longest stall of the source in a second with a checkpoint", "", &figure, "p99 <= 20 ms");
}

fn newest(folder: &Path) -> llm_optimizer_processor::checkpoint::Manifest {
    let store = CheckpointStore::offline(folder.join("checkpoints")).expect("checkpoints");
    let listed = store.list().expect("checkpoints");
    let found = listed.iter().rev().find_map(|listed| listed.state.manifest().cloned());
    found.expect("a complete checkpoint")
}

/// Bytes of the records of all windows, as all of them change between two checkpoints but before the last one.
fn changed(folder: &Path) -> u64 {
    let store = CheckpointStore::offline(folder.join("checkpoints")).expect("checkpoints");
    let listed = store.list().expect("checkpoints");
    let complete = listed.iter().filter_map(|listed| listed.state.manifest());
    let written = complete.map(|manifest| manifest.snapshots.iter().map(|snapshot| snapshot.written.bytes).sum());
    written.max().expect("a complete checkpoint")
}

/// A new process that goes on from a checkpoint of 100,000 windows: until its source is first asked for rows.
fn restore(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    run_feed(folder.path(), Some("1h"), &Feed::new(KEYS, 150_000_000));
    let size = changed(folder.path()) as f64 / 1e6;
    let program = std::env::current_exe().expect("this program has a path");
    let once = || {
        let case = format!("--child=restore:{}", folder.path().display());
        let before = Instant::now();
        let output = Command::new(&program).arg(case).output().expect("a child process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let inside = text.trim().parse::<u64>().unwrap_or_else(|_| panic!("microseconds, not {text}"));
        assert!(before.elapsed() >= Duration::from_micros(inside));
        inside
    };
    let least = (0..3).map(|_| once()).min().expect("three runs");
    let figure = format!("{:.2} s ({size:.0} MB)", least as f64 / 1e6);
    table.figure("restoring 100,000 windows, from the process's start to its first rows", "", &figure, "< 1 s");
}

/// What the child of [`restore`] does: prints the microseconds from its start to the first turn of the source.
pub fn child(folder: &str, started: Instant) {
    let feed = Feed { is_filled: true, ..Feed::new(KEYS, 1_000) };
    let job = job(Path::new(folder), Some("1h"), &feed);
    let control: Control = job.control.clone();
    let turns = Arc::clone(&feed.turns);
    let watcher = std::thread::spawn(move || {
        while turns.lock().expect("nobody panicked").is_empty() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let first = turns.lock().expect("nobody panicked")[0].at;
        println!("{}", first.duration_since(started).as_micros());
        control.stop();
    });
    job.run(&Topology::single(NonZeroUsize::MIN)).expect("the job runs");
    watcher.join().expect("there was a turn");
}

/// Bytes that the process has written, files and all.
fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("the kernel counts");
    line.trim().parse().expect("a number")
}

/// Snapshots of what a tenth of the keys changes: all bytes that the process writes, to those of the changed accumulators.
fn incremental(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut feed = Feed::new(KEYS / 10, 1);
    run_feed(folder.path(), Some("1h"), &feed);
    // The first checkpoint of a run holds all there is: what is counted begins after it.
    // More than are read until the watch has seen enough.
    feed = Feed { is_filled: true, ..Feed::new(KEYS / 10, 1 << 40) };
    let job = job(folder.path(), Some("500ms"), &feed);
    let watch = watch_checkpoints(folder.path().to_owned(), job.control.clone());
    job.run(&Topology::single(NonZeroUsize::MIN)).expect("the job runs");
    let (written, changed, checkpoints) = watch.join().expect("checkpoints were taken");
    let ratio = written as f64 / changed as f64;
    let figure = format!(
        "{:.1} MB for {:.1} MB changed in {checkpoints} checkpoints: {ratio:.2}",
        written as f64 / 1e6,
        changed as f64 / 1e6
    );
    table.figure("bytes written to bytes of changed accumulators, a tenth of 100,000 windows", "", &figure, "<= 3");
}

/// Follows the checkpoints of a run from its second one on: the bytes that were written, those of the accumulators that changed,
/// and how many checkpoints that were. Stops the run after ten.
fn watch_checkpoints(folder: std::path::PathBuf, control: Control) -> std::thread::JoinHandle<(u64, u64, usize)> {
    std::thread::spawn(move || {
        let store = CheckpointStore::offline(folder.join("checkpoints")).expect("checkpoints");
        let first = newest(&folder).epoch;
        let (mut seen, mut begun, mut records) = (first, None, Written::default());
        let mut counted = 0;
        while counted < 10 {
            std::thread::sleep(Duration::from_millis(5));
            let Some(epoch) =
                store.epochs().expect("a list").into_iter().rev().find(|epoch| store.manifest(*epoch).is_ok())
            else {
                continue;
            };
            if epoch == seen {
                continue;
            }
            assert!(epoch == seen.next(), "a checkpoint was missed");
            seen = epoch;
            let manifest = store.manifest(epoch).expect("it is published");
            match begun {
                None => begun = Some(bytes_written()),
                Some(_) => {
                    records += manifest.snapshots[0].written;
                    counted += 1;
                }
            }
        }
        let written = bytes_written() - begun.expect("it began");
        let manifest = store.load(seen).expect("it is published");
        let snapshot = store.snapshots(&manifest).next().expect("one worker").expect("it is sound");
        // What is in a record beside its accumulators does not change.
        let (mut beside, mut entries) = (0, 0);
        for record in snapshot.scan(&RecordKey::plain(RecordTable::Entry, &[]).0) {
            let (key, value) = record.expect("a record");
            if let RecordContent::Entry(entry) = RecordView::read(&key, &value).expect("an entry").content
                && entry.key.fields()[0].1.parse::<u64>().is_ok_and(|key| key < KEYS / 10)
            {
                let accumulators: usize = entry.fields.iter().map(|(_, encoded)| encoded.len()).sum();
                beside += (key.len() + value.len() - accumulators) as u64;
                entries += 1;
            }
        }
        control.stop();
        (written, records.bytes - records.puts * beside / entries, counted)
    })
}

struct FeedInput(Mutex<Option<Feed>>);

impl Input for FeedInput {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let feed = self.0.lock().expect("nobody panicked").take().expect("there is one worker");
        let source = FeedSource {
            control: context.control,
            next: if feed.is_filled { feed.windows * VALUES } else { 0 },
            end: feed.windows * VALUES + feed.rows,
            feed,
            slot: None,
            keys: KeyAddresses::default(),
            columns: RowColumns::default(),
        };
        Ok((Box::new(source), Box::new(Keys { fields: ["value".into()] })))
    }
}

struct FeedSource {
    control: Control,
    feed: Feed,
    next: u64,
    end: u64,
    slot: Option<PartitionSlot>,
    keys: KeyAddresses<u64>,
    columns: RowColumns,
}

impl Source for FeedSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        let slot = *self.slot.get_or_insert_with(|| {
            let slot = intake.open_partition(PartitionName { topic: "rows".into(), partition: 0 }, EventTime::MIN);
            intake.set_ready();
            slot
        });
        let now = Instant::now();
        self.feed.turns.lock().expect("nobody panicked").push(Turn { at: now, rows: self.next });
        if self.next >= self.feed.windows * VALUES {
            self.feed.filled.lock().expect("nobody panicked").get_or_insert(now);
        }
        if self.next >= self.end {
            // The windows stay open.
            self.control.stop();
            return Ok(Polled::Nothing(Duration::from_millis(10)));
        }
        if !self.feed.has_its_turn(now) {
            return Ok(Polled::Nothing(Duration::from_millis(1)));
        }
        self.columns.clear();
        let first = self.next;
        while self.next < self.end && self.next - first < max_records as u64 {
            let row = self.next;
            let (mixed, keys) = (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, self.feed.keys);
            let windows = self.feed.windows;
            let key = if row < windows * VALUES { row % windows } else { mixed % keys };
            let value = 50.0 + (row.wrapping_mul(2_654_435_761) % 100_000) as f64 / 100.0;
            let key = self.keys.of(intake, key, |key| key.to_le_bytes().to_vec());
            self.columns.push(EventTime::from_millis(BEGIN + (row % 1_000) as i64), key, &[(FieldIndex(0), value)]);
            self.next += 1;
        }
        intake.rows(slot, Offset(first as i64), &self.columns, &mut |_| Vec::new());
        Ok(Polled::Records((self.next - first) as usize))
    }
}

/// Names keys and fields; there is nothing to decode.
struct Keys {
    fields: [Arc<str>; 1],
}

impl Decoder for Keys {
    fn decode(&mut self, _: &[u8], _: &mut RowScratch) -> Result<Decoded, BadRecord> {
        unreachable!("the rows are parsed already")
    }

    fn render_key(&self, encoded: &[u8]) -> GroupingKey {
        let number = u64::from_le_bytes(encoded.try_into().expect("eight bytes"));
        GroupingKey::from_fields(&[("k", number.to_string())])
    }

    fn fields(&self) -> &[Arc<str>] {
        &self.fields
    }
}
