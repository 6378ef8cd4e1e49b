//! The status board: where the parts of a run write what they are doing.
//!
//! The model: one [`StatusBoard`] a process. Workers and sink threads write what they know some times a second; readers take a
//! [`Snapshot`], a plain copy. The board adds the one thing that no single writer knows: since when something has not changed.

use super::checkpoints::CheckpointStatus;
use super::snapshot::{
    OperatorStatus, OperatorView, PartitionStatus, PartitionView, PeerNews, Phase, SinkStatus, Snapshot, SourceState,
    TimeRules, ViewStatus, WorkerView,
};
use crate::event::{PartitionName, WorkerIndex};
use crate::time::disorder::Disorder;
use crate::time::{EventTime, Time};
use crate::view::ViewBoard;
use crate::view::board::Shown;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the parts of a run write what they are doing. Clones are the same board.
#[derive(Clone, Debug)]
pub struct StatusBoard {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    started_at: EventTime,
    phase: Phase,
    phase_since: EventTime,
    failure: Option<String>,
    idle_timeout: Option<Option<Duration>>,
    time_rules: Option<TimeRules>,
    workers: BTreeMap<WorkerIndex, WorkerView>,
    operators: BTreeMap<&'static str, OperatorView>,
    partitions: BTreeMap<PartitionName, PartitionView>,
    sinks: BTreeMap<Arc<str>, SinkStatus>,
    checkpoints: Option<CheckpointStatus>,
    last_events_at: Option<EventTime>,
    peers: BTreeMap<usize, PeerNews>,
    views: ViewBoard,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self::new()
    }
}

impl StatusBoard {
    /// Of a run that starts now.
    pub fn new() -> Self {
        Self::started_at(EventTime::now())
    }

    pub(super) fn started_at(now: EventTime) -> Self {
        StatusBoard {
            state: Arc::new(Mutex::new(State {
                started_at: now,
                phase: Phase::Starting,
                phase_since: now,
                failure: None,
                idle_timeout: None,
                time_rules: None,
                workers: BTreeMap::new(),
                operators: BTreeMap::new(),
                partitions: BTreeMap::new(),
                sinks: BTreeMap::new(),
                checkpoints: None,
                last_events_at: None,
                peers: BTreeMap::new(),
                views: ViewBoard::default(),
            })),
        }
    }

    /// A thread that panicked while it held the lock left at worst an old figure behind.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the run is.
    pub fn set_phase(&self, phase: Phase) {
        self.state().set_phase(phase, EventTime::now());
    }

    /// Says that the run has failed, and why; the phase is [`Phase::Failed`] from then on.
    pub fn set_failure(&self, reason: impl Into<String>) {
        let mut state = self.state();
        state.failure.get_or_insert(reason.into());
        state.set_phase(Phase::Failed, EventTime::now());
    }

    /// Says how long a partition must be silent at its end to be idle; `None` is never. It helps to explain who holds the
    /// frontier back.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) {
        self.state().idle_timeout = Some(timeout);
    }

    /// Says what the run's views are; their content is read from there.
    pub fn set_views(&self, views: ViewBoard) {
        self.state().views = views;
    }

    /// The run's views.
    pub fn views(&self) -> ViewBoard {
        self.state().views.clone()
    }

    /// Says what the rules of time are, for the pages to explain things with.
    pub fn set_time_rules(&self, rules: TimeRules) {
        self.state().time_rules = Some(rules);
    }

    /// Says what a worker's source is doing.
    pub fn set_source_state(&self, worker: WorkerIndex, source: SourceState) {
        self.set_source_state_at(worker, source, EventTime::now());
    }

    pub(super) fn set_source_state_at(&self, worker: WorkerIndex, source: SourceState, now: EventTime) {
        let mut state = self.state();
        let view = state.worker(worker, now);
        if std::mem::discriminant(&view.source) != std::mem::discriminant(&source) {
            view.source_since = now;
        }
        view.source = source;
    }

    /// Says how far an operator is on a worker; `None` is done.
    pub fn set_operator_frontier(&self, worker: WorkerIndex, operator: &'static str, frontier: Option<Time>) {
        self.set_operator_frontier_at(worker, operator, frontier, EventTime::now());
    }

    pub(super) fn set_operator_frontier_at(
        &self,
        worker: WorkerIndex,
        operator: &'static str,
        frontier: Option<Time>,
        now: EventTime,
    ) {
        let mut state = self.state();
        let view = state.operators.entry(operator).or_insert_with(|| OperatorView {
            name: operator,
            workers: BTreeMap::new(),
            changed_at: now,
        });
        let before = view.least().map(|(_, status)| status);
        view.workers.insert(worker, frontier.map_or(OperatorStatus::Done, OperatorStatus::At));
        if view.least().map(|(_, status)| status) != before {
            view.changed_at = now;
        }
    }

    /// Says how a partition is.
    pub fn set_partition(&self, worker: WorkerIndex, status: PartitionStatus) {
        self.set_partition_at(worker, status, EventTime::now());
    }

    pub(super) fn set_partition_at(&self, worker: WorkerIndex, status: PartitionStatus, now: EventTime) {
        let mut state = self.state();
        match state.partitions.get_mut(&status.name) {
            Some(view) => {
                if view.status.watermark != status.watermark {
                    view.changed_at = now;
                }
                view.worker = worker;
                view.status = status;
            }
            None => {
                let view = PartitionView { worker, changed_at: now, lag: None, disorder: Arc::default(), status };
                state.partitions.insert(view.status.name.clone(), view);
            }
        }
    }

    /// Says how far a partition's events were out of order so far; the partition must have been told of.
    pub fn set_disorder(&self, name: &PartitionName, disorder: Disorder) {
        if let Some(view) = self.state().partitions.get_mut(name) {
            view.disorder = Arc::new(disorder);
        }
    }

    /// Says how a sink is.
    pub fn set_sink(&self, status: SinkStatus) {
        self.state().sinks.insert(status.name.clone(), status);
    }

    /// Says how the checkpoints are.
    pub fn set_checkpoint(&self, status: CheckpointStatus) {
        self.state().checkpoints = Some(status);
    }

    /// Changes what was said of checkpoints.
    pub(super) fn update_checkpoint(&self, change: impl FnOnce(&mut CheckpointStatus)) {
        if let Some(status) = &mut self.state().checkpoints {
            change(status);
        }
    }

    /// Says that a worker has read `events` more events.
    pub fn note_events(&self, worker: WorkerIndex, events: u64) {
        self.note_events_at(worker, events, EventTime::now());
    }

    pub(super) fn note_events_at(&self, worker: WorkerIndex, events: u64, now: EventTime) {
        let mut state = self.state();
        state.worker(worker, now).events += events;
        if events > 0 {
            state.last_events_at = Some(now);
        }
    }

    /// Says whether a worker has let windows close because all partitions of all workers have been idle.
    pub fn set_closed_idle(&self, worker: WorkerIndex, closed: bool) {
        self.state().worker(worker, EventTime::now()).closed_idle = closed;
    }

    /// Where the run is.
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// A copy of everything.
    pub fn snapshot(&self) -> Snapshot {
        // A view's step may hold its content for a while; nobody who writes to the board waits for that.
        let views = view_statuses(&self.views());
        let state = self.state();
        Snapshot {
            started_at: state.started_at,
            phase: state.phase,
            phase_since: state.phase_since,
            failure: state.failure.clone(),
            idle_timeout: state.idle_timeout,
            time_rules: state.time_rules,
            workers: state.workers.clone(),
            operators: state.operators.values().cloned().collect(),
            partitions: state.partitions.values().cloned().collect(),
            sinks: state.sinks.values().cloned().collect(),
            checkpoints: state.checkpoints.clone(),
            events: state.workers.values().map(|worker| worker.events).sum(),
            last_events_at: state.last_events_at,
            views,
            peers: state.peers.clone(),
        }
    }

    /// Another process has told how it is.
    pub fn hear_of(&self, process: usize, text: &[u8]) {
        let news = PeerNews { at: EventTime::now(), text: text.into() };
        self.state().peers.insert(process, news);
    }
}

/// Of the views that this process keeps.
fn view_statuses(board: &ViewBoard) -> Vec<ViewStatus> {
    let kept_here = board.list().into_iter().filter(|(shown, _)| shown.is_here);
    kept_here.map(|(Shown { name, frontier, .. }, rows)| ViewStatus { name, rows, frontier }).collect()
}

impl State {
    /// A failed run stays failed.
    fn set_phase(&mut self, phase: Phase, now: EventTime) {
        if self.phase != phase && self.phase != Phase::Failed {
            self.phase = phase;
            self.phase_since = now;
        }
    }

    fn worker(&mut self, worker: WorkerIndex, now: EventTime) -> &mut WorkerView {
        self.workers.entry(worker).or_insert_with(|| WorkerView {
            source: SourceState::Connecting,
            source_since: now,
            events: 0,
            closed_idle: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Epoch;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn time(millis: i64) -> Option<Time> {
        Some(Time::new(Epoch::FIRST, at(millis)))
    }

    #[test]
    fn an_operator_changes_when_its_slowest_worker_does() {
        let board = StatusBoard::started_at(at(0));
        board.set_operator_frontier_at(WorkerIndex(0), "window", time(10), at(1));
        board.set_operator_frontier_at(WorkerIndex(1), "window", time(20), at(2));
        board.set_operator_frontier_at(WorkerIndex(1), "window", time(30), at(3));
        let snapshot = board.snapshot();
        let (operator, worker, status) = snapshot.least_operator().expect("it has shown a frontier");
        assert_eq!((operator.name, worker, status.event_time()), ("window", WorkerIndex(0), Some(at(10))));
        assert_eq!(operator.changed_at, at(1), "worker 1 alone moved");
        board.set_operator_frontier_at(WorkerIndex(0), "window", None, at(4));
        let snapshot = board.snapshot();
        let (operator, worker, _) = snapshot.least_operator().expect("it has shown a frontier");
        assert_eq!((worker, operator.changed_at, operator.is_done()), (WorkerIndex(1), at(4), false));
        board.set_operator_frontier_at(WorkerIndex(1), "window", None, at(5));
        assert!(board.snapshot().operators[0].is_done());
    }

    #[test]
    fn a_failed_run_stays_failed_for_its_first_reason() {
        let board = StatusBoard::new();
        board.set_phase(Phase::Running);
        board.set_failure("the disk is full");
        board.set_failure("a worker ended");
        board.set_phase(Phase::Finished);
        let snapshot = board.snapshot();
        assert_eq!((snapshot.phase, snapshot.failure.as_deref()), (Phase::Failed, Some("the disk is full")));
    }

    #[test]
    fn a_source_waits_since_it_began_to_wait() {
        let board = StatusBoard::started_at(at(0));
        let waiting = |detail: &str| SourceState::Waiting { detail: detail.into() };
        board.set_source_state_at(WorkerIndex(0), waiting("connection refused"), at(5));
        board.set_source_state_at(WorkerIndex(0), waiting("timed out"), at(9));
        let worker = &board.snapshot().workers[&WorkerIndex(0)];
        assert_eq!((worker.source_since, &worker.source), (at(5), &waiting("timed out")));
    }

    #[test]
    fn events_are_summed_over_workers() {
        let board = StatusBoard::started_at(at(0));
        board.note_events_at(WorkerIndex(0), 3, at(1));
        board.note_events_at(WorkerIndex(1), 4, at(2));
        board.note_events_at(WorkerIndex(1), 0, at(3));
        let snapshot = board.snapshot();
        assert_eq!((snapshot.events, snapshot.last_events_at), (7, Some(at(2))));
    }
}
