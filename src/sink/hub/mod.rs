//! From the workers to the sinks.
//!
//! The model: [`SinkHub::submit`] numbers a batch and puts it into the queue of every sink; it never blocks, because a worker
//! that blocks holds up all its partitions. Instead workers look at [`SinkHub::backlog_rows`] and stop reading while it is high.
//! Each sink has one thread, which writes what is queued, flushes when its queue is empty (or after many rows, or a while), and
//! then acknowledges. A ticket is acknowledged when it and all before it are durable in every sink. A sink that does not take the
//! results of a window definition sees their tickets pass by and acknowledges them in order.
//!
//! How it fails: see [`super::RetryPolicy`]; a sink that gave up or panicked fails the run through [`Control`], and its tickets
//! are never acknowledged. [`SinkHub::finish`] waits for seconds, not for ever, and names the sink that is stuck.

use super::context::{SinkContext, SinkObserver, Trouble};
use super::lane::{Attempts, GaveUp, LaneThread, end_limits, finish_lanes};
use super::{ResultBatch, ResultRow, ResultSink, RetryPolicy, Ticket};
use crate::error::ProcessorResult;
use crate::event::DefinitionSet;
use crate::runtime::Control;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Flushed after this many rows even while more are waiting.
const FLUSH_ROWS: u64 = 10_000;
/// Flushed after this long even while more are waiting.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Called after the acknowledged ticket advanced.
type Waker = Arc<dyn Fn() + Send + Sync>;

/// What all sinks took, at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSummary {
    /// Batches submitted.
    pub batches: u64,
    /// Rows submitted.
    pub rows: u64,
    /// One a sink, in the order given to [`SinkHub::start`].
    pub sinks: Vec<SinkSummary>,
}

/// What one sink took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSummary {
    /// Its name.
    pub name: String,
    /// Rows that became durable in it.
    pub rows: u64,
    /// Failed attempts, whether or not a retry mended them.
    pub errors: u64,
}

/// How one sink is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Rows handed to it that are not durable.
    pub pending: u64,
    /// Rows that are.
    pub done: u64,
    /// What keeps it from working, if anything does.
    pub trouble: Option<String>,
}

/// A sink, and whose results it takes.
pub struct RoutedSink {
    /// The sink.
    pub sink: Box<dyn ResultSink>,
    /// The window definitions whose results it takes.
    pub takes: DefinitionSet,
}

/// A sink that takes all results.
impl From<Box<dyn ResultSink>> for RoutedSink {
    fn from(sink: Box<dyn ResultSink>) -> Self {
        RoutedSink { sink, takes: DefinitionSet::ALL }
    }
}

/// Takes results from all workers to all sinks. Clones are the same hub.
#[derive(Clone)]
pub struct SinkHub {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Mutex<Queues>,
    progress: Arc<Progress>,
    lanes: Vec<(SinkContext, LaneThread)>,
    /// Whose results each takes.
    takes: Vec<DefinitionSet>,
}

/// The submitting side; under one lock, so that every sink sees the batches in the order of their tickets.
struct Queues {
    last: Ticket,
    rows: u64,
    senders: Option<Vec<Sender<Submitted>>>,
}

/// A batch on its way to one sink; without rows where the sink does not take them.
struct Submitted {
    ticket: Ticket,
    rows: Arc<[ResultRow]>,
    at: Instant,
}

/// How far each sink has come.
struct Progress {
    acknowledged: Vec<AtomicU64>,
    announced: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl Progress {
    fn least(&self) -> u64 {
        self.acknowledged.iter().map(|ticket| ticket.load(Ordering::SeqCst)).min().unwrap_or(0)
    }

    /// Sink number `sink` has made everything up to `ticket` durable.
    fn acknowledge(&self, sink: usize, ticket: Ticket) {
        self.acknowledged[sink].store(ticket.0, Ordering::SeqCst);
        let least = self.least();
        if self.announced.fetch_max(least, Ordering::SeqCst) < least {
            let wakers = self.wakers.lock().map(|wakers| wakers.clone()).unwrap_or_default();
            wakers.iter().for_each(|wake| wake());
        }
    }
}

impl SinkHub {
    /// Starts one thread a sink. With no sink at all every batch is acknowledged at once.
    pub fn start(
        sinks: Vec<impl Into<RoutedSink>>,
        retry: RetryPolicy,
        metrics: Arc<dyn SinkObserver>,
        control: Control,
    ) -> ProcessorResult<SinkHub> {
        let progress = Arc::new(Progress {
            acknowledged: sinks.iter().map(|_| AtomicU64::new(0)).collect(),
            announced: AtomicU64::new(0),
            wakers: Mutex::default(),
        });
        let mut senders = Vec::new();
        let (mut lanes, mut routes) = (Vec::new(), Vec::new());
        for (index, sink) in sinks.into_iter().enumerate() {
            let RoutedSink { sink, takes } = sink.into();
            routes.push(takes);
            let name = own_name(sink.name(), &lanes);
            let context = SinkContext::new(&name, Arc::clone(&metrics), control.clone());
            let (sender, queue) = unbounded();
            let lane = Lane {
                index,
                sink,
                queue,
                attempts: Attempts { context: context.clone(), policy: retry },
                progress: Arc::clone(&progress),
                unflushed: Vec::new(),
                unflushed_rows: 0,
                unflushed_since: Instant::now(),
            };
            senders.push(sender);
            let thread = LaneThread::start(context.name(), move || lane.run())?;
            lanes.push((context, thread));
        }
        let queues = Mutex::new(Queues { last: Ticket(0), rows: 0, senders: Some(senders) });
        Ok(SinkHub { shared: Arc::new(Shared { queues, progress, lanes, takes: routes }) })
    }

    /// Hands a batch to every sink that takes it; never blocks. After [`SinkHub::finish`] the batch is dropped and its ticket is never
    /// acknowledged.
    pub fn submit(&self, batch: ResultBatch) -> Ticket {
        let mut queues = self.shared.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        queues.last = Ticket(queues.last.0 + 1);
        queues.rows += batch.rows.len() as u64;
        let (ticket, at) = (queues.last, Instant::now());
        let Some(senders) = &queues.senders else {
            tracing::warn!(target: "sink", rows = batch.rows.len(), "results after the end are dropped");
            return ticket;
        };
        for ((sender, (context, _)), takes) in senders.iter().zip(&self.shared.lanes).zip(&self.shared.takes) {
            let rows = match takes.contains(batch.definition) {
                true => Arc::clone(&batch.rows),
                false => Arc::default(),
            };
            context.handed_over(rows.len() as u64);
            // A sink that has gone has failed the run.
            let _ = sender.send(Submitted { ticket, rows, at });
        }
        ticket
    }

    /// The highest ticket such that it and all before it are durable in every sink.
    pub fn acknowledged(&self) -> Ticket {
        if self.shared.lanes.is_empty() {
            return self.shared.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).last;
        }
        Ticket(self.shared.progress.least())
    }

    /// Rows that were submitted and that the slowest sink has not acknowledged.
    pub fn backlog_rows(&self) -> usize {
        let most = self.shared.lanes.iter().map(|(context, _)| context.pending()).max().unwrap_or(0);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Has `waker` called, on a sink's thread, after each advance of [`SinkHub::acknowledged`].
    pub fn on_acknowledged(&self, waker: Waker) {
        self.shared.progress.wakers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(waker);
    }

    /// How each sink is at the moment, in the order given to [`SinkHub::start`].
    pub fn statuses(&self) -> Vec<SinkState> {
        let state = |(context, _): &(SinkContext, LaneThread)| SinkState {
            name: context.name().to_owned(),
            pending: context.pending(),
            done: context.done(),
            trouble: context.trouble().map(|trouble| trouble.reason),
        };
        self.shared.lanes.iter().map(state).collect()
    }

    /// What keeps sinks from working at the moment.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.shared.lanes.iter().filter_map(|(context, _)| context.trouble()).collect()
    }

    /// The end: delivers what is queued, flushes and closes every sink, and waits for their threads: about 8 s at
    /// most, and less where the end of the run was asked for a while ago.
    ///
    /// Sinks are not closed when the run has failed: a file that appears when it is complete must not appear then. The error
    /// names each sink that did not end in good order, and why.
    pub fn finish(&self) -> ProcessorResult<HubSummary> {
        let (drain, give_up) = end_limits(self.shared.lanes.first().map(|(context, _)| context.control()));
        self.finish_within(drain, give_up)
    }

    fn finish_within(&self, drain: Duration, give_up: Duration) -> ProcessorResult<HubSummary> {
        let (batches, rows) = {
            let mut queues = self.shared.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.shared.lanes.iter().for_each(|(context, _)| context.begin_closing());
            queues.senders = None;
            (queues.last.0, queues.rows)
        };
        let lanes: Vec<_> = self.shared.lanes.iter().map(|(context, thread)| (context, thread)).collect();
        let drained = Instant::now() + drain;
        finish_lanes(&lanes, drained, drained + give_up)?;
        let sinks = lanes
            .iter()
            .map(|(context, _)| SinkSummary {
                name: context.name().to_owned(),
                rows: context.done(),
                errors: context.errors(),
            })
            .collect();
        Ok(HubSummary { batches, rows, sinks })
    }
}

impl std::fmt::Debug for SinkHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SinkHub({} sinks, {:?} acknowledged)", self.shared.lanes.len(), self.acknowledged())
    }
}

/// The name of a sink, with a number where others before it have the same: logs and metrics tell them apart.
fn own_name(name: &str, others: &[(SinkContext, LaneThread)]) -> String {
    let is_taken = |name: &str| others.iter().any(|(other, _)| other.name() == name);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

/// One sink with its queue, on its thread.
struct Lane {
    index: usize,
    sink: Box<dyn ResultSink>,
    queue: Receiver<Submitted>,
    attempts: Attempts,
    progress: Arc<Progress>,
    unflushed: Vec<Submitted>,
    unflushed_rows: u64,
    /// When the first of them was written.
    unflushed_since: Instant,
}

/// What the queue had.
enum Next {
    Batch(Submitted),
    Empty,
    Closed,
}

impl Lane {
    fn run(mut self) {
        // The reason is with the run or in the context; nothing is left to do here.
        let _: Result<(), GaveUp> = self.work();
    }

    fn work(&mut self) -> Result<(), GaveUp> {
        let context = self.attempts.context.clone();
        self.attempts.once("opening", || self.sink.open(context.clone()))?;
        loop {
            let next = self.next();
            if context.is_over() {
                return Err(GaveUp);
            }
            match next {
                Next::Batch(submitted) => self.write(submitted)?,
                Next::Empty => self.flush()?,
                Next::Closed => break,
            }
        }
        self.flush()?;
        if context.is_closing() {
            self.attempts.retrying("closing", || self.sink.close())?;
            context.set_closed();
        }
        Ok(())
    }

    /// Waits for a batch, but no longer than what is unflushed may wait.
    fn next(&self) -> Next {
        if self.unflushed.is_empty() {
            return self.queue.recv().map_or(Next::Closed, Next::Batch);
        }
        let linger = self.sink.linger();
        if linger.is_zero() {
            return match self.queue.try_recv() {
                Ok(submitted) => Next::Batch(submitted),
                Err(TryRecvError::Empty) => Next::Empty,
                Err(TryRecvError::Disconnected) => Next::Closed,
            };
        }
        match self.queue.recv_deadline(self.unflushed_since + linger) {
            Ok(submitted) => Next::Batch(submitted),
            Err(RecvTimeoutError::Timeout) => Next::Empty,
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    fn write(&mut self, submitted: Submitted) -> Result<(), GaveUp> {
        if submitted.rows.is_empty() {
            self.pass_by(submitted);
            return Ok(());
        }
        self.attempts.retrying("writing", || self.sink.write(&submitted.rows))?;
        if self.unflushed.is_empty() {
            self.unflushed_since = Instant::now();
        }
        self.unflushed_rows += submitted.rows.len() as u64;
        self.unflushed.push(submitted);
        let waited = self.unflushed_since.elapsed();
        if self.unflushed_rows >= FLUSH_ROWS || waited >= FLUSH_INTERVAL.max(self.sink.linger()) {
            self.flush()?;
        }
        Ok(())
    }

    /// A ticket without rows for this sink is as durable as those before it.
    fn pass_by(&mut self, submitted: Submitted) {
        match self.unflushed.is_empty() {
            true => self.progress.acknowledge(self.index, submitted.ticket),
            false => self.unflushed.push(submitted),
        }
    }

    fn flush(&mut self) -> Result<(), GaveUp> {
        let Some(last) = self.unflushed.last().map(|submitted| submitted.ticket) else { return Ok(()) };
        self.attempts.retrying("flushing", || self.sink.flush())?;
        let context = &self.attempts.context;
        for submitted in self.unflushed.drain(..).filter(|submitted| !submitted.rows.is_empty()) {
            context.took(submitted.at.elapsed());
            context.delivered(submitted.rows.len() as u64);
        }
        self.unflushed_rows = 0;
        self.progress.acknowledge(self.index, last);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
