//! Is the run healthy, is it ready: pure functions of a snapshot.

use super::checkpoints::CheckpointStatus;
use super::diagnose::diagnose;
use super::snapshot::{Phase, Snapshot, SourceState};
use crate::time::{EventTime, Span};

/// The frontier may stand still this long while events arrive before that counts against the run's health.
pub const STUCK_AFTER: Span = Span::from_secs(60);

/// How well a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthLevel {
    /// Nothing is wrong.
    Ok,
    /// Alive, and something outside or inside needs a look. Restarting would not help.
    Degraded,
    /// The run has failed.
    Failed,
}

impl HealthLevel {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            HealthLevel::Ok => "ok",
            HealthLevel::Degraded => "degraded",
            HealthLevel::Failed => "failed",
        }
    }
}

/// How well a run is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The worst of the reasons.
    pub level: HealthLevel,
    /// One sentence each; empty where nothing is wrong.
    pub reasons: Vec<String>,
}

/// How well the run is at `now`.
pub fn health(snapshot: &Snapshot, now: EventTime) -> Health {
    if snapshot.phase == Phase::Failed {
        return Health { level: HealthLevel::Failed, reasons: vec![diagnose(snapshot, now).reason] };
    }
    let mut reasons = Vec::new();
    for (worker, view) in &snapshot.workers {
        if let SourceState::Waiting { detail } = &view.source {
            reasons.push(format!("the source of worker {worker} is waiting: {detail}"));
        }
    }
    for sink in &snapshot.sinks {
        if let Some(trouble) = &sink.trouble {
            reasons.push(format!("the sink {} cannot write: {trouble}", sink.name));
        }
    }
    reasons.extend(snapshot.checkpoints.as_ref().and_then(CheckpointStatus::trouble));
    if frontier_is_stuck(snapshot, now, STUCK_AFTER) {
        reasons.push(diagnose(snapshot, now).reason);
    }
    let level = if reasons.is_empty() { HealthLevel::Ok } else { HealthLevel::Degraded };
    Health { level, reasons }
}

/// Whether the least frontier has not moved for `limit` though events came in that time. An operator that is done is not stuck.
pub(super) fn frontier_is_stuck(snapshot: &Snapshot, now: EventTime, limit: Span) -> bool {
    let Some((operator, _, status)) = snapshot.least_operator() else { return false };
    let events_came = snapshot.last_events_at.is_some_and(|last| last > operator.changed_at && now.since(last) < limit);
    status.event_time().is_some() && events_came && now.since(operator.changed_at) >= limit
}

/// Whether the run takes events: its dataflow runs and every source is connected. The error says what is missing.
pub fn readiness(snapshot: &Snapshot) -> Result<(), String> {
    if snapshot.phase != Phase::Running {
        return Err(format!("the run is {}", snapshot.phase.as_str()));
    }
    if snapshot.workers.is_empty() {
        return Err("no worker has started reading yet".into());
    }
    for (worker, view) in &snapshot.workers {
        match &view.source {
            SourceState::Running | SourceState::Finished => {}
            SourceState::Connecting => return Err(format!("the source of worker {worker} is connecting")),
            SourceState::Waiting { detail } => {
                return Err(format!("the source of worker {worker} is waiting: {detail}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::WorkerIndex;
    use crate::metrics::{SinkStatus, StatusBoard};
    use crate::time::{Epoch, Time};

    fn at(secs: i64) -> EventTime {
        EventTime::from_millis(1_700_000_000_000 + secs * 1000)
    }

    #[test]
    fn ready_when_the_dataflow_runs_and_every_source_is_connected() {
        let board = StatusBoard::started_at(at(0));
        assert_eq!(readiness(&board.snapshot()), Err("the run is starting".into()));
        board.set_phase(Phase::Running);
        assert_eq!(readiness(&board.snapshot()), Err("no worker has started reading yet".into()));
        board.set_source_state_at(WorkerIndex(0), SourceState::Running, at(0));
        board.set_source_state_at(WorkerIndex(1), SourceState::Connecting, at(0));
        assert_eq!(readiness(&board.snapshot()), Err("the source of worker 1 is connecting".into()));
        board.set_source_state_at(WorkerIndex(1), SourceState::Finished, at(0));
        assert_eq!(readiness(&board.snapshot()), Ok(()));
        board.set_phase(Phase::Stopping);
        assert_eq!(readiness(&board.snapshot()), Err("the run is stopping".into()));
    }

    #[test]
    fn what_is_wrong_is_listed_and_goes_away() {
        let board = StatusBoard::started_at(at(0));
        assert_eq!(health(&board.snapshot(), at(1)), Health { level: HealthLevel::Ok, reasons: vec![] });
        board.set_phase(Phase::Running);
        board.set_source_state_at(WorkerIndex(0), SourceState::Waiting { detail: "broker down".into() }, at(1));
        let sink =
            SinkStatus { name: "file".into(), unacknowledged: 1, acknowledged: 0, trouble: Some("disk full".into()) };
        board.set_sink(sink.clone());
        let answer = health(&board.snapshot(), at(1));
        assert_eq!(answer.level, HealthLevel::Degraded);
        let expected = ["the source of worker 0 is waiting: broker down", "the sink file cannot write: disk full"];
        assert_eq!(answer.reasons, expected);
        board.set_source_state_at(WorkerIndex(0), SourceState::Running, at(2));
        board.set_sink(SinkStatus { trouble: None, ..sink });
        assert_eq!(health(&board.snapshot(), at(2)).level, HealthLevel::Ok);
        board.set_failure("out of memory");
        let answer = health(&board.snapshot(), at(2));
        assert_eq!(
            (answer.level, answer.reasons),
            (HealthLevel::Failed, vec!["the run has failed: out of memory".into()])
        );
    }

    #[test]
    fn stuck_means_no_move_while_events_come() {
        let board = StatusBoard::started_at(at(0));
        board.set_operator_frontier_at(WorkerIndex(0), "window", Some(Time::new(Epoch::FIRST, at(5))), at(10));
        let stuck = |now| frontier_is_stuck(&board.snapshot(), at(now), STUCK_AFTER);
        assert!(!stuck(100), "no event has come");
        board.note_events_at(WorkerIndex(0), 1, at(60));
        assert!(!stuck(69));
        assert!(stuck(70));
        assert!(!stuck(120), "the last event is a minute old");
        board.note_events_at(WorkerIndex(0), 1, at(120));
        assert!(stuck(120));
        board.set_operator_frontier_at(WorkerIndex(0), "window", None, at(121));
        board.note_events_at(WorkerIndex(0), 1, at(200));
        assert!(!stuck(200), "an operator that is done has nowhere to go");
    }
}
