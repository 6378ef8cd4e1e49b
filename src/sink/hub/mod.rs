//! From the workers to the sinks.
//!
//! The model: [`SinkHub::submit`] numbers a batch and puts it into the queue of every sink; it never blocks, because a worker
//! that blocks holds up all its partitions. Instead workers look at [`SinkHub::backlog_rows`] and stop reading while it is high.
//! Each sink has one thread, which writes what is queued, flushes when its queue is empty (or after many rows, or a while), and
//! then acknowledges. A ticket is acknowledged when it and all before it are durable in every sink. A sink that does not take the
//! results of a window definition sees their tickets pass by and acknowledges them in order.
//!
//! In a job that takes checkpoints the workers of the process say when they have handed over all results of an epoch. When the last
//! of them has, the end of the epoch goes through the queues like a batch, and each sink prepares for the checkpoint; when that is
//! published, the order to commit goes the same way. See [`ResultSink`].
//!
//! How it fails: see [`super::RetryPolicy`]; a sink that gave up or panicked fails the run through [`Control`], and its tickets
//! are never acknowledged. [`SinkHub::finish`] waits for seconds, not for ever, and names the sink that is stuck.

mod lane;

use self::lane::{Item, Lane, Submitted};
use super::context::{SinkContext, SinkObserver, Trouble};
use super::lane::{Attempts, LaneThread, end_limits, finish_lanes};
use super::{Prepared, ResultBatch, ResultSink, RetryPolicy, SinkRecovery, Ticket};
use crate::error::ProcessorResult;
use crate::event::DefinitionSet;
use crate::runtime::Control;
use crate::time::Epoch;
use crossbeam_channel::{Sender, unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

/// Hears what sinks have to say about epochs. Called on the sinks' threads.
pub trait EpochObserver: Send + Sync {
    /// The sink at this place is prepared for the checkpoint of `epoch`, which must hold this for it.
    fn prepared(&self, place: usize, epoch: Epoch, prepared: Prepared);
    /// What the checkpoint of `epoch` holds for the sink at this place is delivered.
    fn committed(&self, place: usize, epoch: Epoch);
    /// The sink at this place holds back more than it should until the next checkpoint.
    fn wants_epoch_end(&self, place: usize);
}

/// How sinks take part in checkpoints.
pub struct SinkEpochs {
    /// Told how far they are.
    pub observer: Arc<dyn EpochObserver>,
    /// How many workers hand over results.
    pub workers: usize,
    /// What each sink recovers from, in their order.
    pub recoveries: Vec<SinkRecovery>,
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
    /// How many workers take part in epochs.
    workers: usize,
}

/// The submitting side; under one lock, so that every sink sees the batches in the order of their tickets.
struct Queues {
    last: Ticket,
    rows: u64,
    senders: Option<Vec<Sender<Item>>>,
    /// The epoch that ends, and how many workers have handed over all of it.
    ending: (Epoch, usize),
}

impl Queues {
    fn send_to_all(&self, item: impl Fn() -> Item) {
        for sender in self.senders.iter().flatten() {
            // A sink that has gone has failed the run.
            let _ = sender.send(item());
        }
    }
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
        Self::start_with(sinks, retry, metrics, control, None)
    }

    /// The same for a job that takes checkpoints.
    pub fn start_with(
        sinks: Vec<impl Into<RoutedSink>>,
        retry: RetryPolicy,
        metrics: Arc<dyn SinkObserver>,
        control: Control,
        epochs: Option<SinkEpochs>,
    ) -> ProcessorResult<SinkHub> {
        let (workers, observer) = match &epochs {
            Some(epochs) => (epochs.workers, Some(Arc::clone(&epochs.observer))),
            None => (0, None),
        };
        let mut recoveries = epochs.into_iter().flat_map(|epochs| epochs.recoveries);
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
                epochs: observer.clone(),
                recovery: recoveries.next(),
                unflushed: Vec::new(),
                unflushed_rows: 0,
                unflushed_since: Instant::now(),
                kept: Vec::new(),
            };
            senders.push(sender);
            let thread = LaneThread::start(&context, move || lane.run())?;
            lanes.push((context, thread));
        }
        let ending = (Epoch::FIRST, 0);
        let queues = Mutex::new(Queues { last: Ticket(0), rows: 0, senders: Some(senders), ending });
        Ok(SinkHub { shared: Arc::new(Shared { queues, progress, lanes, takes: routes, workers }) })
    }

    /// A worker has handed over all results of `epoch`, and hands over none of a later one before all workers have. Each calls it once
    /// an epoch.
    pub fn end_epoch(&self, epoch: Epoch) {
        let mut queues = self.shared.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (ending, workers) = &mut queues.ending;
        if *ending != epoch {
            debug_assert_eq!(*workers % self.shared.workers.max(1), 0, "epoch {ending:?} has not ended on all workers");
            (*ending, *workers) = (epoch, 0);
        }
        *workers += 1;
        if *workers == self.shared.workers {
            queues.send_to_all(|| Item::EpochEnds(epoch));
        }
    }

    /// The checkpoint of `epoch` is published.
    pub fn commit(&self, epoch: Epoch) {
        let queues = self.shared.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        queues.send_to_all(|| Item::Commit(epoch));
    }

    /// How many sinks there are.
    pub fn sinks(&self) -> usize {
        self.shared.lanes.len()
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
            let _ = sender.send(Item::Batch(Submitted { ticket, rows, at }));
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

#[cfg(test)]
mod tests;
