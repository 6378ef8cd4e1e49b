//! What a snapshot of the status board is made of.
//!
//! Plain data: whoever wants to tell a person takes a [`Snapshot`] and computes from it. Times of change are those of the wall
//! clock, as [`EventTime`]s, because that is what they are compared with.

use super::checkpoints::CheckpointStatus;
use crate::event::{Offset, PartitionName, WorkerIndex};
use crate::time::disorder::Disorder;
use crate::time::{EventTime, Span, Time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a run is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    /// The dataflow is being built, sources are connecting.
    #[default]
    Starting,
    /// Events flow.
    Running,
    /// Asked to end: no more reading, what is in flight is being finished.
    Stopping,
    /// Ended as it should.
    Finished,
    /// Ended as it should not.
    Failed,
}

impl Phase {
    /// The word on the pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Finished => "finished",
            Phase::Failed => "failed",
        }
    }
}

/// What a worker's source is doing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum SourceState {
    /// Not connected yet.
    #[default]
    Connecting,
    /// Reading, or ready to read.
    Running,
    /// Kept from reading, and trying again.
    Waiting {
        /// For people: what is being waited for, `no broker of 127.0.0.1:9092 answers: connection refused`.
        detail: String,
    },
    /// Every partition has ended.
    Finished,
}

impl SourceState {
    /// The word on the pages.
    pub const fn as_str(&self) -> &'static str {
        match self {
            SourceState::Connecting => "connecting",
            SourceState::Running => "running",
            SourceState::Waiting { .. } => "waiting",
            SourceState::Finished => "finished",
        }
    }
}

/// A partition, as the worker that reads it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub name: PartitionName,
    /// Its watermark; [`EventTime::MIN`] before its first event.
    pub watermark: EventTime,
    /// The latest event time in it; [`EventTime::MIN`] before its first event.
    pub max_seen: EventTime,
    /// The next record to read.
    pub position: Offset,
    /// Read to its end and silent for the idle time-out: it does not hold the frontier back.
    pub idle: bool,
    /// Ended for good.
    pub closed: bool,
    /// The wall clock's time at its last record; `None` before the first.
    pub last_event_at: Option<EventTime>,
    /// How many records were read from it in this run.
    pub records: u64,
}

/// The rules of time that the pages explain things with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRules {
    /// How far behind the latest event an event may be and still be on time.
    pub max_out_of_orderness: Span,
    /// How long every partition must have been idle for the windows that are open to be closed; `None` is never.
    pub close_idle_after: Option<Duration>,
}

/// A sink, as its thread sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Results handed to it that it has not acknowledged.
    pub unacknowledged: u64,
    /// Results it has acknowledged in this run.
    pub acknowledged: u64,
    /// What keeps it from working, for people; `None` where all is well.
    pub trouble: Option<String>,
}

/// The frontier of one operator on one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorStatus {
    /// Nothing earlier than this will come.
    At(Time),
    /// Nothing will come at all.
    Done,
}

impl OperatorStatus {
    /// The event-time coordinate, where it is not done.
    pub fn event_time(self) -> Option<EventTime> {
        match self {
            OperatorStatus::At(time) => Some(time.event_time()),
            OperatorStatus::Done => None,
        }
    }

    /// Orders by how far it has come; being done is furthest.
    fn progress(self) -> (bool, Option<(EventTime, Time)>) {
        match self {
            OperatorStatus::At(time) => (false, Some((time.event_time(), time))),
            OperatorStatus::Done => (true, None),
        }
    }
}

/// One operator over all workers of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorView {
    /// Its name.
    pub name: &'static str,
    /// Its frontier on each worker.
    pub workers: BTreeMap<WorkerIndex, OperatorStatus>,
    /// When the least of them last changed.
    pub changed_at: EventTime,
}

impl OperatorView {
    /// The worker that is furthest behind, with its frontier.
    pub fn least(&self) -> Option<(WorkerIndex, OperatorStatus)> {
        self.workers.iter().map(|(worker, status)| (*worker, *status)).min_by_key(|(_, status)| status.progress())
    }

    /// Whether it is done on every worker.
    pub fn is_done(&self) -> bool {
        self.workers.values().all(|status| *status == OperatorStatus::Done)
    }
}

/// A partition, with what the board and the metrics add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Who reads it.
    pub worker: WorkerIndex,
    /// What that worker said.
    pub status: PartitionStatus,
    /// When its watermark last changed, or the partition was first heard of.
    pub changed_at: EventTime,
    /// Records not read yet, where that is known.
    pub lag: Option<u64>,
    /// How far its events were out of order in this run.
    pub disorder: Arc<Disorder>,
}

impl PartitionView {
    /// Whether it holds the frontier back at all.
    pub fn is_active(&self) -> bool {
        !self.status.idle && !self.status.closed
    }
}

/// A worker and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// What its source is doing.
    pub source: SourceState,
    /// Since when.
    pub source_since: EventTime,
    /// Events it has read.
    pub events: u64,
    /// Whether it has let windows close because all partitions of all workers have been idle.
    pub closed_idle: bool,
}

/// A plain copy of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the board was made.
    pub started_at: EventTime,
    /// Where the run is.
    pub phase: Phase,
    /// Since when.
    pub phase_since: EventTime,
    /// Why it failed, where it did.
    pub failure: Option<String>,
    /// The configured idle time-out: `None` where no one has told, `Some(None)` where partitions never become idle.
    pub idle_timeout: Option<Option<Duration>>,
    /// The other rules of time; `None` where no one has told.
    pub time_rules: Option<TimeRules>,
    /// The workers of this process.
    pub workers: BTreeMap<WorkerIndex, WorkerView>,
    /// The operators, by name.
    pub operators: Vec<OperatorView>,
    /// The partitions, by name.
    pub partitions: Vec<PartitionView>,
    /// The sinks, by name.
    pub sinks: Vec<SinkStatus>,
    /// How the checkpoints are; `None` where the run takes none.
    pub checkpoints: Option<CheckpointStatus>,
    /// Events of all workers.
    pub events: u64,
    /// When the last of them were read.
    pub last_events_at: Option<EventTime>,
    /// The views that this process keeps.
    pub views: Vec<ViewStatus>,
    /// What the other processes of the job have told, by their indices.
    pub peers: BTreeMap<usize, PeerNews>,
}

/// How far a view has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStatus {
    /// Its name.
    pub name: Arc<str>,
    /// How many rows it has.
    pub rows: usize,
    /// The frontier at which it was last changed; [`EventTime::MIN`] before that.
    pub frontier: EventTime,
}

/// How another process is, as it has told itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNews {
    /// When.
    pub at: EventTime,
    /// Its own document of `/frontiers`.
    pub text: Arc<[u8]>,
}

impl Snapshot {
    /// The operator whose frontier is furthest behind, the worker on which it is, and that frontier. `None` before any operator
    /// has shown a frontier.
    pub fn least_operator(&self) -> Option<(&OperatorView, WorkerIndex, OperatorStatus)> {
        self.operators
            .iter()
            .filter_map(|operator| operator.least().map(|(worker, status)| (operator, worker, status)))
            .min_by_key(|(_, _, status)| status.progress())
    }

    /// The active partition whose watermark is furthest behind.
    pub fn least_partition(&self) -> Option<&PartitionView> {
        self.partitions
            .iter()
            .filter(|partition| partition.is_active())
            .min_by_key(|partition| (partition.status.watermark, partition.changed_at))
    }
}
