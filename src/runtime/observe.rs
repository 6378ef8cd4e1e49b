//! From what the operators and sinks see to metrics, status and summary.

use super::InputContext;
use super::state_size::SizeScan;
use super::summary::Summary;
use crate::event::WorkerIndex;
use crate::metrics::{
    PartitionMetrics, PartitionStatus, ProcessorMetrics, SinkMetrics, SinkStatus, SourceState, StatusBoard,
    WorkerMetrics,
};
use crate::sink::{SinkHub, SinkObserver};
use crate::source::kafka::SourceObserver;
use crate::source::operator::SourceTurn;
use crate::source::{Intake, Partition, Polled};
use crate::time::{EventTime, Time};
use crate::window::{WindowCounts, WindowState, WindowTurn};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the status of partitions is written.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How often what costs something (the size of the state) is measured.
const SIZE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the distributions of disorder are copied.
const DISORDER_INTERVAL: Duration = Duration::from_secs(1);

/// What one worker did, shared by the observers of its operators.
pub type Tally = Rc<RefCell<Summary>>;

/// Follows a worker's source.
pub struct SourceWatch {
    worker: WorkerIndex,
    metrics: ProcessorMetrics,
    worker_metrics: WorkerMetrics,
    board: StatusBoard,
    partitions: Vec<PartitionMetrics>,
    /// The names of the window definitions.
    definitions: Vec<Arc<str>>,
    tally: Tally,
    last_status: Option<Instant>,
    last_disorder: Option<Instant>,
    /// Records of each partition when its disorder was last copied.
    copied_at: Vec<u64>,
    state: Option<SourceState>,
    holds: Option<Option<Time>>,
    closed_idle: bool,
}

impl SourceWatch {
    /// For one worker of a job with window definitions of these names.
    pub fn new(
        worker: WorkerIndex,
        metrics: &ProcessorMetrics,
        board: &StatusBoard,
        definitions: Vec<Arc<str>>,
        tally: Tally,
    ) -> Self {
        Self {
            worker,
            definitions,
            metrics: metrics.clone(),
            worker_metrics: metrics.worker(worker),
            board: board.clone(),
            partitions: Vec::new(),
            tally,
            last_status: None,
            last_disorder: None,
            copied_at: Vec::new(),
            state: None,
            holds: None,
            closed_idle: false,
        }
    }

    /// Takes note of a turn.
    pub fn turn(&mut self, turn: SourceTurn<'_>, in_flight: usize) {
        for partition in turn.intake.partitions().skip(self.partitions.len()) {
            self.partitions.push(self.metrics.partition(&partition.name));
        }
        self.count(&turn);
        self.note_state(&turn);
        let now = Instant::now();
        let finished = turn.polled == Some(Polled::Finished);
        if finished || self.last_status.is_none_or(|last| now.duration_since(last) >= STATUS_INTERVAL) {
            self.last_status = Some(now);
            self.worker_metrics.set_in_flight(0, in_flight as u64);
            for partition in turn.intake.partitions() {
                self.board.set_partition(self.worker, status_of(partition, now));
            }
            self.note_frontier(turn.holds);
            if self.closed_idle != turn.closed_idle {
                self.closed_idle = turn.closed_idle;
                self.board.set_closed_idle(self.worker, turn.closed_idle);
            }
            if finished || self.last_disorder.is_none_or(|last| now.duration_since(last) >= DISORDER_INTERVAL) {
                self.last_disorder = Some(now);
                self.note_disorder(turn.intake);
            }
        }
    }

    /// Copies the distributions that have grown.
    fn note_disorder(&mut self, intake: &Intake) {
        self.copied_at.resize(intake.partitions().len(), 0);
        for (partition, copied_at) in intake.partitions().zip(&mut self.copied_at) {
            if *copied_at != partition.records {
                *copied_at = partition.records;
                self.board.set_disorder(&partition.name, partition.disorder.clone());
            }
        }
    }

    fn count(&mut self, turn: &SourceTurn<'_>) {
        let counts = &turn.counts;
        let mut tally = self.tally.borrow_mut();
        for (slot, reason, count) in &counts.dropped {
            self.partitions[slot.0 as usize].record_rejected(*reason, *count);
            *tally.dropped.entry(*reason).or_default() += count;
        }
        for (slot, definition, reason, count) in &counts.refused {
            let window = self.definitions[definition.0 as usize].as_ref();
            self.partitions[slot.0 as usize].record_refused(window, *reason, *count);
            tally.refused += count;
        }
        if counts.events > 0 {
            self.worker_metrics.record_events_processed(counts.events);
            self.worker_metrics.record_events_late(counts.late);
            self.board.note_events(self.worker, counts.events);
        }
        if counts.filtered > 0 {
            self.worker_metrics.record_events_filtered(counts.filtered);
        }
        if counts.tombstones > 0 {
            self.worker_metrics.record_tombstones(counts.tombstones);
        }
        tally.events += counts.events;
        tally.late += counts.late;
        tally.filtered += counts.filtered;
        tally.tombstones += counts.tombstones;
        tally.replayed += counts.replayed;
    }

    fn note_state(&mut self, turn: &SourceTurn<'_>) {
        let state = match turn.polled {
            Some(Polled::Finished) => SourceState::Finished,
            Some(_) if turn.intake.is_ready() => SourceState::Running,
            _ => return,
        };
        if self.state.as_ref() != Some(&state) {
            self.board.set_source_state(self.worker, state.clone());
            self.state = Some(state);
        }
    }

    /// The source operator has no input; what it holds is its frontier.
    fn note_frontier(&mut self, holds: Option<Time>) {
        if self.holds != Some(holds) {
            self.holds = Some(holds);
            self.board.set_operator_frontier(self.worker, "source", holds);
        }
    }
}

fn status_of(partition: &Partition, now: Instant) -> PartitionStatus {
    let last_event_at =
        partition.last_record.map(|at| EventTime::now().saturating_sub(now.saturating_duration_since(at).into()));
    PartitionStatus {
        name: partition.name.clone(),
        watermark: partition.watermark.watermark(),
        max_seen: partition.watermark.max_seen(),
        position: partition.position,
        idle: partition.idle,
        closed: partition.closed,
        last_event_at,
        records: partition.records,
    }
}

/// Follows a worker's window operator.
pub struct WindowWatch {
    worker: WorkerIndex,
    metrics: WorkerMetrics,
    board: StatusBoard,
    tally: Tally,
    frontier: Option<Option<Time>>,
    last_size: Option<Instant>,
    size: SizeScan,
}

impl WindowWatch {
    /// For one worker.
    pub fn new(worker: WorkerIndex, metrics: &ProcessorMetrics, board: &StatusBoard, tally: Tally) -> Self {
        let metrics = metrics.worker(worker);
        Self {
            worker,
            metrics,
            board: board.clone(),
            tally,
            frontier: None,
            last_size: None,
            size: SizeScan::default(),
        }
    }

    /// Takes note of a turn.
    pub fn turn(&mut self, turn: WindowTurn<'_>) {
        if !turn.read_at_micros.is_empty() {
            let now = chrono::Utc::now().timestamp_micros();
            for read_at in turn.read_at_micros {
                let micros = u64::try_from(now - read_at).unwrap_or(0);
                self.metrics.record_processing_latency(Duration::from_micros(micros));
            }
        }
        let counts = turn.states.iter_mut().map(WindowState::take_counts).sum();
        if counts != WindowCounts::default() {
            self.count(counts);
        }
        let states = &*turn.states;
        self.tally.borrow_mut().open = states.iter().map(|state| state.unfired_windows() as u64).sum();
        if self.frontier != Some(turn.frontier) {
            self.frontier = Some(turn.frontier);
            self.board.set_operator_frontier(self.worker, "window", turn.frontier);
        }
        self.measure(states, turn.frontier.is_none());
    }

    /// Brings the sizes up to date, some of it in each turn, at the end of the input all of it.
    fn measure(&mut self, states: &[WindowState], is_last: bool) {
        let now = Instant::now();
        if !is_last && self.last_size.is_some_and(|last| now.duration_since(last) < SIZE_INTERVAL) {
            return;
        }
        let size = match is_last {
            true => Some(states.iter().map(|state| state.heap_bytes() as u64).sum()),
            false => self.size.turn(states),
        };
        if let Some(size) = size {
            self.last_size = Some(now);
            self.metrics.set_windows_open(states.iter().map(|state| state.open_windows() as u64).sum());
            self.metrics.set_state_size(size);
        }
    }

    fn count(&self, counts: WindowCounts) {
        self.metrics.record_windows_fired(counts.fired);
        self.metrics.record_early_results(counts.early);
        self.metrics.record_windows_refined(counts.refined);
        self.metrics.record_results_retracted(counts.retracted);
        self.metrics.record_events_in_no_window(counts.in_no_window);
        let mut tally = self.tally.borrow_mut();
        tally.windows += counts.fired;
        tally.early += counts.early;
        tally.refined += counts.refined;
        tally.retracted += counts.retracted;
        tally.in_no_window += counts.in_no_window;
    }
}

/// Follows a worker's sink operator.
pub struct SinkWatch {
    worker: WorkerIndex,
    board: StatusBoard,
    frontier: Option<Option<Time>>,
}

impl SinkWatch {
    /// For one worker.
    pub fn new(worker: WorkerIndex, board: &StatusBoard) -> Self {
        Self { worker, board: board.clone(), frontier: None }
    }

    /// Takes note of a turn.
    pub fn turn(&mut self, frontier: Option<Time>) {
        if self.frontier != Some(frontier) {
            self.frontier = Some(frontier);
            self.board.set_operator_frontier(self.worker, "sink", frontier);
        }
    }
}

/// Tells the metrics what the sinks do.
pub struct MetricsSinkObserver {
    metrics: ProcessorMetrics,
    sinks: Mutex<HashMap<String, SinkMetrics>>,
}

impl MetricsSinkObserver {
    /// For all sinks of a run.
    pub fn new(metrics: &ProcessorMetrics) -> Arc<Self> {
        Arc::new(Self { metrics: metrics.clone(), sinks: Mutex::default() })
    }

    fn with(&self, sink: &str, tell: impl FnOnce(&SinkMetrics)) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        tell(sinks.entry(sink.to_owned()).or_insert_with(|| self.metrics.sink(sink)));
    }
}

impl SinkObserver for MetricsSinkObserver {
    fn sent(&self, sink: &str, rows: u64) {
        self.with(sink, |metrics| metrics.record_results(rows));
    }

    fn latency(&self, sink: &str, latency: Duration) {
        self.with(sink, |metrics| metrics.record_latency(latency));
    }

    fn error(&self, sink: &str) {
        self.with(sink, SinkMetrics::record_error);
    }

    /// All outputs to Kafka are one connection: the latest word of any holds.
    fn broker_answers(&self, _sink: &str, answers: bool) {
        self.metrics.set_broker_up("producer", answers);
    }
}

/// Tells metrics and status what a worker's Kafka reader sees.
pub struct KafkaObserver {
    worker: WorkerIndex,
    metrics: ProcessorMetrics,
    board: StatusBoard,
}

impl KafkaObserver {
    /// For the worker of the context.
    pub fn new(context: &InputContext) -> Self {
        Self { worker: context.worker, metrics: context.metrics.clone(), board: context.board.clone() }
    }
}

impl SourceObserver for KafkaObserver {
    fn lag(&self, partition: &crate::event::PartitionName, records: i64) {
        self.metrics.partition(partition).set_consumer_lag(u64::try_from(records).unwrap_or(0));
    }

    fn broker_state(&self, up: bool, detail: String) {
        self.metrics.set_broker_up("consumer", up);
        let state = if up { SourceState::Running } else { SourceState::Waiting { detail } };
        self.board.set_source_state(self.worker, state);
    }
}

/// Writes the state of the sinks to the board until the run ends.
pub fn sink_statuses(hub: &SinkHub, board: &StatusBoard) {
    for sink in hub.statuses() {
        board.set_sink(SinkStatus {
            name: sink.name.as_str().into(),
            unacknowledged: sink.pending,
            acknowledged: sink.done,
            trouble: sink.trouble,
        });
    }
}
