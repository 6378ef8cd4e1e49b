//! What checkpoints cost: 100,000 windows of all aggregates, some 100 MB of state, on one worker.

use super::kafka;
use super::measure::{Table, in_turn_times};
use llm_optimizer_processor::aggregate::AggregatePlan;
use llm_optimizer_processor::checkpoint::{CheckpointStore, RecordKey, Table as RecordTable};
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
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Windows, of one key each.
const KEYS: u64 = 100_000;
/// Values that each window has before anything is measured.
const VALUES: u64 = 100;
/// All rows are in one window of a day.
const BEGIN: i64 = 1_700_006_400_000;

pub fn run(table: &mut Table) {
    if table.wants("checkpoints-throughput") {
        throughput(table);
    }
    if table.wants("checkpoints-stall") {
        stall(table);
    }
    if table.wants("checkpoints-restore") {
        restore(table);
    }
    if table.wants("checkpoints-incremental") {
        incremental(table);
    }
    if table.wants("checkpoints-exactly-once") {
        kafka::exactly_once(table);
    }
}

/// What the worker does with its rows: which keys, how many rows, and when it looked for more.
#[derive(Clone)]
struct Feed {
    /// Keys that rows after the first ones are spread over.
    keys: u64,
    rows: u64,
    /// Stops the run by itself when all rows are read and this has passed.
    turns: Arc<Mutex<Vec<Instant>>>,
    /// When the first rows of all keys are in.
    filled: Arc<Mutex<Option<Instant>>>,
    /// Whether the first rows are left out, because a checkpoint has them.
    is_filled: bool,
}

impl Feed {
    fn new(keys: u64, rows: u64) -> Self {
        Self { keys, rows, turns: Arc::default(), filled: Arc::default(), is_filled: false }
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
    let end = *turns.lock().expect("nobody panicked").last().expect("there were turns");
    end.duration_since(begin)
}

/// Rows over all windows, with a checkpoint each 10 s and without.
fn throughput(table: &mut Table) {
    const ROWS: u64 = 250_000_000;
    let time = |interval: Option<&str>| {
        let folder = tempfile::tempdir().expect("a folder");
        run_feed(folder.path(), interval, &Feed::new(KEYS, ROWS))
    };
    let (without, with) = in_turn_times(2, || time(None), || time(Some("10s")));
    table.ratio("a checkpoint each 10 s to none, 100,000 windows (wall)", without, with, ROWS, ">= 0.97");
}

/// The longest time between two turns of the source, in each second with a checkpoint.
fn stall(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let feed = Feed::new(KEYS, 250_000_000);
    run_feed(folder.path(), Some("1s"), &feed);
    let begin = feed.filled.lock().expect("nobody panicked").expect("the windows were filled");
    let turns = feed.turns.lock().expect("nobody panicked").clone();
    let mut longest: Vec<Duration> = Vec::new();
    for pair in turns.windows(2).filter(|pair| pair[0] >= begin) {
        let second = pair[0].duration_since(begin).as_secs() as usize;
        longest.resize(longest.len().max(second + 1), Duration::ZERO);
        longest[second] = longest[second].max(pair[1] - pair[0]);
    }
    longest.sort_unstable();
    let at = |share: f64| longest[((longest.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let size = newest(folder.path()).bytes() as f64 / 1e6;
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

/// A new process that goes on from a checkpoint of 100,000 windows: until its source is first asked for rows.
fn restore(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder");
    run_feed(folder.path(), Some("1h"), &Feed::new(KEYS, 1));
    let size = newest(folder.path()).bytes() as f64 / 1e6;
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
        let first = turns.lock().expect("nobody panicked")[0];
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
    feed = Feed { is_filled: true, ..Feed::new(KEYS / 10, 100_000_000) };
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
        let (mut seen, mut begun, mut puts) = (first, None, 0);
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
                    puts += manifest.snapshots[0].written.puts;
                    counted += 1;
                }
            }
        }
        let written = bytes_written() - begun.expect("it began");
        let manifest = store.load(seen).expect("it is published");
        let snapshot = store.snapshots(&manifest).next().expect("one worker").expect("it is sound");
        let (mut bytes, mut entries) = (0u64, 0u64);
        for record in snapshot.scan(&RecordKey::plain(RecordTable::Entry, &[]).0).take(10_000) {
            let (key, value) = record.expect("a record");
            if let RecordContent::Entry(entry) = RecordView::read(&key, &value).expect("an entry").content {
                bytes += entry.fields.iter().map(|(_, encoded)| encoded.len() as u64).sum::<u64>();
                entries += 1;
            }
        }
        control.stop();
        (written, puts * bytes / entries, counted)
    })
}

struct FeedInput(Mutex<Option<Feed>>);

impl Input for FeedInput {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let feed = self.0.lock().expect("nobody panicked").take().expect("there is one worker");
        let source = FeedSource {
            control: context.control,
            next: if feed.is_filled { KEYS * VALUES } else { 0 },
            end: KEYS * VALUES + feed.rows,
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
        self.feed.turns.lock().expect("nobody panicked").push(now);
        if self.next >= KEYS * VALUES {
            self.feed.filled.lock().expect("nobody panicked").get_or_insert(now);
        }
        if self.next >= self.end {
            // The windows stay open.
            self.control.stop();
            return Ok(Polled::Nothing(Duration::from_millis(10)));
        }
        self.columns.clear();
        let first = self.next;
        while self.next < self.end && self.next - first < max_records as u64 {
            let row = self.next;
            let (mixed, keys) = (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, self.feed.keys);
            let key = if row < KEYS * VALUES { row % KEYS } else { mixed % keys };
            let value = 50.0 + (row.wrapping_mul(2_654_435_761) % 495_000) as f64 / 100.0;
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
