//! Where late records and dead letters go.
//!
//! The model: sources hand single records to a [`SideOutput`]; one thread writes them to a [`SideSink`]. The queue is bounded in
//! records and bytes, so that a flood of bad records slows the readers instead of filling the memory. Records become durable in the
//! order in which they were given, so that [`SideOutput::written`] says which are; see [`super::SideOutputs`].
//!
//! How it fails: as the result sinks do; a sender never waits for an output of a run that has failed.

use super::context::{SinkContext, SinkObserver, Trouble};
use super::lane::{Attempts, GaveUp, LaneThread, end_limits, finish_lanes};
use super::lines::LineFile;
use super::{RetryPolicy, SideRecord, encode_side_record};
use crate::config::FileMode;
use crate::error::ProcessorResult;
use crate::runtime::Control;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Records that may wait.
const MOST_RECORDS: usize = 8_192;
/// Bytes of payloads that may wait; one larger record is taken when nothing else waits.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How late a waiting sender notices that the run has failed.
const SENDER_PATIENCE: Duration = Duration::from_millis(50);

/// A place for late records or dead letters. It runs on a thread of its own, so that it may block.
pub trait SideSink: Send {
    /// Called once, on the sink's thread, before anything else. An error ends the run.
    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        let _ = context;
        Ok(())
    }

    /// Takes records. After an error it is called again with the same records, and none must be written twice.
    fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()>;

    /// Returns when everything written is as durable as this sink can make it.
    fn flush(&mut self) -> ProcessorResult<()>;

    /// The orderly end. Not called when the run has failed.
    fn close(&mut self) -> ProcessorResult<()> {
        self.flush()
    }
}

/// A handle on the output of late records, or of dead letters. Clones are the same output.
#[derive(Clone)]
pub struct SideOutput {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    context: SinkContext,
    queue: Arc<Queue>,
    thread: LaneThread,
}

/// The queue between senders and the thread.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    records: Vec<SideRecord>,
    bytes: usize,
    ended: bool,
}

impl Queue {
    /// Waits for room; the record is dropped when the run has failed meanwhile, or when the output has ended.
    fn put(&self, record: SideRecord, context: &SinkContext) {
        let size = record.payload.len();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.ended {
                tracing::warn!(target: "sink", sink = context.name(), "a record after the end is dropped");
                return;
            }
            let fits = waiting.records.len() < MOST_RECORDS && waiting.bytes + size <= MOST_BYTES;
            if fits || waiting.records.is_empty() {
                break;
            }
            if context.control().has_failed() {
                return;
            }
            let woken = self.changed.wait_timeout(waiting, SENDER_PATIENCE);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        context.handed_over(1);
        waiting.bytes += size;
        waiting.records.push(record);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Takes all that waits into `batch`, which comes empty; waits for something where `patient`. Returns whether more may come.
    fn take(&self, batch: &mut Vec<SideRecord>, patient: bool) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while patient && waiting.records.is_empty() && !waiting.ended {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(batch, &mut waiting.records);
        waiting.bytes = 0;
        let more = !(waiting.ended && batch.is_empty());
        drop(waiting);
        self.changed.notify_all();
        more
    }

    fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.changed.notify_all();
    }
}

impl SideOutput {
    /// An output without a destination: who sends has counted the record, and nothing is kept of it.
    pub fn counted_only() -> SideOutput {
        SideOutput { shared: None }
    }

    /// An output to `sink`, under `name` in logs and metrics.
    pub fn start(
        name: &str,
        sink: Box<dyn SideSink>,
        retry: RetryPolicy,
        observer: Arc<dyn SinkObserver>,
        control: Control,
    ) -> ProcessorResult<SideOutput> {
        let context = SinkContext::new(name, observer, control);
        let queue = Arc::new(Queue::default());
        let lane = Lane {
            sink,
            queue: Arc::clone(&queue),
            attempts: Attempts { context: context.clone(), policy: retry },
            batch: Vec::new(),
            unflushed: 0,
            unflushed_since: Instant::now(),
        };
        let thread = LaneThread::start(&context, move || lane.run())?;
        Ok(SideOutput { shared: Some(Arc::new(Shared { context, queue, thread })) })
    }

    /// Hands over one record. It may wait for room, but not once the run has failed; then the record is dropped.
    pub fn send(&self, record: SideRecord) {
        if let Some(shared) = &self.shared {
            shared.queue.put(record, &shared.context);
        }
    }

    /// Whether everything sent so far is durable.
    pub fn is_settled(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.context.pending() == 0)
    }

    /// Records that it has been given.
    pub fn given(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.context.given())
    }

    /// Records that are durable.
    pub fn written(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.context.done())
    }

    /// What keeps the output from working at the moment.
    pub fn trouble(&self) -> Option<Trouble> {
        self.shared.as_ref().and_then(|shared| shared.context.trouble())
    }

    /// The end: writes what waits, closes the destination and waits for its thread, about 8 s at most. Returns how many records
    /// it took.
    pub fn finish(&self) -> ProcessorResult<u64> {
        let Some(shared) = &self.shared else { return Ok(0) };
        shared.context.begin_closing();
        shared.queue.end();
        let (drain, give_up) = end_limits(Some(shared.context.control()));
        let drained = Instant::now() + drain;
        finish_lanes(&[(&shared.context, &shared.thread)], drained, drained + give_up)?;
        Ok(shared.context.done())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl std::fmt::Debug for SideOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.shared {
            Some(shared) => write!(f, "SideOutput({:?})", shared.context),
            None => f.write_str("SideOutput(counted only)"),
        }
    }
}

/// Flushed after this many records, or this long, even while more are waiting.
const FLUSH_RECORDS: u64 = 10_000;
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// The destination, on its thread.
struct Lane {
    sink: Box<dyn SideSink>,
    queue: Arc<Queue>,
    attempts: Attempts,
    batch: Vec<SideRecord>,
    unflushed: u64,
    unflushed_since: Instant,
}

impl Lane {
    fn run(mut self) {
        // The reason is with the run or in the context. Senders that wait for room notice that the run has failed.
        let _: Result<(), GaveUp> = self.work();
    }

    fn work(&mut self) -> Result<(), GaveUp> {
        let context = self.attempts.context.clone();
        self.attempts.once("opening", || self.sink.open(context.clone()))?;
        context.set_ready();
        loop {
            self.batch.clear();
            let more = self.queue.take(&mut self.batch, self.unflushed == 0);
            if context.is_over() {
                return Err(GaveUp);
            }
            if self.batch.is_empty() {
                self.flush()?;
                if more {
                    continue;
                }
                break;
            }
            self.write()?;
        }
        if context.is_closing() {
            self.attempts.retrying("closing", || self.sink.close())?;
            context.set_closed();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), GaveUp> {
        self.attempts.retrying("writing", || self.sink.write(&self.batch))?;
        if self.unflushed == 0 {
            self.unflushed_since = Instant::now();
        }
        self.unflushed += self.batch.len() as u64;
        if self.unflushed >= FLUSH_RECORDS || self.unflushed_since.elapsed() >= FLUSH_INTERVAL {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), GaveUp> {
        if self.unflushed > 0 {
            self.attempts.retrying("flushing", || self.sink.flush())?;
            self.attempts.context.took(self.unflushed_since.elapsed());
            self.attempts.context.delivered(self.unflushed);
            self.unflushed = 0;
        }
        Ok(())
    }
}

/// Side records as JSON lines, appended to a file.
pub(super) struct FileSide {
    lines: LineFile,
}

impl FileSide {
    pub fn open(path: &Path) -> ProcessorResult<Self> {
        Ok(FileSide { lines: LineFile::open(path, FileMode::Append)? })
    }
}

impl SideSink for FileSide {
    fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()> {
        self.lines.append(|out| {
            for record in records {
                encode_side_record(record, out);
                out.push(b'\n');
            }
        })
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.lines.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProcessorError;
    use crate::sink::NoObserver;
    use crate::sink::side_encode::tests::late_record;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    const QUICK: RetryPolicy =
        RetryPolicy { max_retries: 2, initial_delay: Duration::from_millis(1), max_delay: Duration::from_millis(2) };

    #[derive(Default)]
    struct Script {
        taken: Mutex<Vec<Vec<u8>>>,
        held: AtomicBool,
        failures: AtomicU64,
        panics: AtomicBool,
    }

    struct Fake(Arc<Script>);

    impl SideSink for Fake {
        fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()> {
            assert!(!self.0.panics.load(Ordering::SeqCst), "the sink's own mistake");
            while self.0.held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let failing = self.0.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if failing.is_ok() {
                return Err(ProcessorError::Sink("no space".into()));
            }
            self.0.taken.lock().unwrap().extend(records.iter().map(|record| record.payload.clone()));
            Ok(())
        }

        fn flush(&mut self) -> ProcessorResult<()> {
            Ok(())
        }
    }

    fn start(control: &Control) -> (SideOutput, Arc<Script>) {
        let script = Arc::new(Script::default());
        let sink = Box::new(Fake(Arc::clone(&script)));
        (SideOutput::start("late", sink, QUICK, Arc::new(NoObserver), control.clone()).unwrap(), script)
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn records_arrive_in_order_and_settle() {
        let control = Control::new();
        let (output, script) = start(&control);
        assert!(output.is_settled());
        script.held.store(true, Ordering::SeqCst);
        script.failures.store(2, Ordering::SeqCst);
        for number in 0..100u8 {
            output.send(late_record(&[number]));
        }
        assert!(!output.is_settled());
        script.held.store(false, Ordering::SeqCst);
        wait_until("settled", || output.is_settled());
        assert_eq!(output.finish().unwrap(), 100);
        assert_eq!(*script.taken.lock().unwrap(), (0..100u8).map(|number| vec![number]).collect::<Vec<_>>());
        output.send(late_record(b"after the end"));
        assert!(output.is_settled());
    }

    #[test]
    fn a_flood_waits_for_room_in_records_and_bytes() {
        for (count, size) in [(MOST_RECORDS * 3, 1), (12, MOST_BYTES / 4), (3, MOST_BYTES * 2)] {
            let control = Control::new();
            let (output, script) = start(&control);
            script.held.store(true, Ordering::SeqCst);
            let sender = output.clone();
            let sending = std::thread::spawn(move || {
                for _ in 0..count {
                    sender.send(late_record(&vec![7; size]));
                }
            });
            let pending = || output.shared.as_ref().unwrap().context.pending() as usize;
            wait_until("the sender is stuck", || {
                let before = pending();
                std::thread::sleep(Duration::from_millis(100));
                before > 0 && pending() == before
            });
            assert!(!sending.is_finished(), "{count} records of {size} bytes should not fit");
            let pending = pending();
            // What the sink has been given, and what waits.
            assert!(pending <= 2 * MOST_RECORDS && (pending - 1) * size <= 2 * MOST_BYTES.max(size), "{pending}");
            script.held.store(false, Ordering::SeqCst);
            sending.join().unwrap();
            assert_eq!(output.finish().unwrap(), count as u64);
        }
    }

    #[test]
    fn a_sender_does_not_wait_for_a_run_that_has_failed() {
        let control = Control::new();
        let (output, script) = start(&control);
        script.failures.store(u64::MAX, Ordering::SeqCst);
        for _ in 0..3 * MOST_RECORDS {
            output.send(late_record(b"x"));
        }
        assert!(control.has_failed());
        let failure = control.take_failure().unwrap().to_string();
        assert_eq!(failure, "sink: `late`, writing: no space (gave up after 2 retries)");
        assert!(!output.is_settled());
        assert!(output.finish().is_err());
    }

    #[test]
    fn a_panic_fails_the_run() {
        let control = Control::new();
        let (output, script) = start(&control);
        script.panics.store(true, Ordering::SeqCst);
        output.send(late_record(b"x"));
        wait_until("the run failed", || control.has_failed());
        let failure = control.take_failure().unwrap().to_string();
        assert_eq!(failure, "sink: sink `late` panicked while writing: the sink's own mistake");
        assert!(output.finish().is_err());
    }

    #[test]
    fn a_file_of_side_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("late.jsonl");
        let sink = Box::new(FileSide::open(&path).unwrap());
        let output = SideOutput::start("late", sink, QUICK, Arc::new(NoObserver), Control::new()).unwrap();
        output.send(late_record(b"{}"));
        output.send(late_record(&[0xff]));
        assert_eq!(output.finish().unwrap(), 2);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["payload"], "{}");
        assert_eq!(lines[1]["payload_encoding"], "base64");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn without_a_destination_there_is_nothing_to_wait_for() {
        let output = SideOutput::counted_only();
        output.send(late_record(b"x"));
        assert!(output.is_settled());
        assert_eq!(output.finish().unwrap(), 0);
    }
}
