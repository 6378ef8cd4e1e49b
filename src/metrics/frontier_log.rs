//! The frontier in the log: each advance, and a warning with the culprit's name when it stands still.
//!
//! The model: [`FrontierLog::tick`] compares a snapshot with the one before and returns the lines to write; it has no clock and
//! writes nothing itself.

use super::diagnose::{describe_span, diagnose, display_time};
use super::health::frontier_is_stuck;
use super::snapshot::{OperatorStatus, Snapshot};
use crate::time::{EventTime, Span};
use std::collections::BTreeMap;
use std::time::Duration;

/// The least time between two warnings about the same stand-still.
const REPEAT_AFTER: Span = Span::from_secs(60);

/// A line for the log, target `frontier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLine {
    /// An operator's frontier advanced.
    Advance(String),
    /// The frontier moves again after a warning.
    Recovered(String),
    /// The frontier stands still while events arrive.
    Stuck(String),
}

impl LogLine {
    /// Writes it: advances at debug, recovery at info, a stand-still as a warning.
    pub fn write(&self) {
        match self {
            LogLine::Advance(text) => tracing::debug!(target: "frontier", "{text}"),
            LogLine::Recovered(text) => tracing::info!(target: "frontier", "{text}"),
            LogLine::Stuck(text) => tracing::warn!(target: "frontier", "{text}"),
        }
    }
}

/// What was last seen and last said.
#[derive(Debug)]
pub struct FrontierLog {
    stuck_after: Span,
    seen: BTreeMap<&'static str, OperatorStatus>,
    warned: Option<Warned>,
}

/// The stand-still that was warned of.
#[derive(Clone, Copy, Debug)]
struct Warned {
    /// When the frontier had last moved.
    stuck_since: EventTime,
    last_warning: EventTime,
}

impl FrontierLog {
    /// Warns when the frontier has not moved for `stuck_after` while events arrive.
    pub fn new(stuck_after: Duration) -> Self {
        FrontierLog { stuck_after: stuck_after.into(), seen: BTreeMap::new(), warned: None }
    }

    /// The lines for what changed since the last call.
    pub fn tick(&mut self, snapshot: &Snapshot, now: EventTime) -> Vec<LogLine> {
        let mut lines = self.advances(snapshot, now);
        lines.extend(self.recovery(snapshot, now));
        lines.extend(self.warning(snapshot, now));
        lines
    }

    fn advances(&mut self, snapshot: &Snapshot, now: EventTime) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for operator in &snapshot.operators {
            let Some((worker, status)) = operator.least() else { continue };
            if self.seen.insert(operator.name, status) == Some(status) {
                continue;
            }
            lines.push(LogLine::Advance(match status {
                OperatorStatus::Done => format!("operator {} is done", operator.name),
                OperatorStatus::At(time) => {
                    let behind = describe_lag(time.event_time(), now);
                    let (epoch, at) = (time.epoch().number(), display_time(time.event_time()));
                    format!("operator {} is at {at}{behind}, epoch {epoch}; least on worker {worker}", operator.name)
                }
            }));
        }
        lines
    }

    fn recovery(&mut self, snapshot: &Snapshot, now: EventTime) -> Option<LogLine> {
        let stuck_since = self.warned?.stuck_since;
        let (operator, _, status) = snapshot.least_operator()?;
        if operator.changed_at <= stuck_since {
            return None;
        }
        self.warned = None;
        let stood = describe_span(operator.changed_at.since(stuck_since));
        Some(LogLine::Recovered(match status.event_time() {
            Some(at) => {
                format!("the frontier moves again, after {stood}: {}{}", display_time(at), describe_lag(at, now))
            }
            None => format!("the frontier has reached the end, after {stood}"),
        }))
    }

    fn warning(&mut self, snapshot: &Snapshot, now: EventTime) -> Option<LogLine> {
        if !frontier_is_stuck(snapshot, now, self.stuck_after) {
            return None;
        }
        if self.warned.is_some_and(|warned| now.since(warned.last_warning) < REPEAT_AFTER) {
            return None;
        }
        let (operator, ..) = snapshot.least_operator()?;
        self.warned = Some(Warned { stuck_since: operator.changed_at, last_warning: now });
        let diagnosis = diagnose(snapshot, now);
        let stands = describe_span(diagnosis.held_for);
        Some(LogLine::Stuck(format!(
            "the frontier has not moved for {stands} while events arrive: {}",
            diagnosis.reason
        )))
    }
}

fn describe_lag(time: EventTime, now: EventTime) -> String {
    if time == EventTime::MIN {
        String::new()
    } else if time <= now {
        format!(" ({} behind the clock)", describe_span(now.since(time)))
    } else {
        format!(" ({} ahead of the clock)", describe_span(time.since(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Offset, PartitionName, WorkerIndex};
    use crate::metrics::{PartitionStatus, Phase, SourceState, StatusBoard};
    use crate::time::{Epoch, Time};

    const WORKER: WorkerIndex = WorkerIndex(0);

    fn at(secs: i64) -> EventTime {
        EventTime::from_millis(1_700_000_000_000 + secs * 1000)
    }

    fn board() -> StatusBoard {
        let board = StatusBoard::started_at(at(0));
        board.set_phase(Phase::Running);
        board.set_source_state_at(WORKER, SourceState::Running, at(0));
        board
    }

    fn advance(board: &StatusBoard, to: i64, now: i64) {
        board.set_operator_frontier_at(WORKER, "window", Some(Time::new(Epoch::FIRST, at(to))), at(now));
    }

    fn partition(board: &StatusBoard, watermark: i64, now: i64) {
        let status = PartitionStatus {
            name: PartitionName { topic: "feedback-events".into(), partition: 3 },
            watermark: at(watermark),
            max_seen: at(watermark),
            position: Offset(7),
            idle: false,
            closed: false,
            last_event_at: Some(at(now)),
            records: 7,
        };
        board.set_partition_at(WORKER, status, at(now));
    }

    #[test]
    fn one_line_an_advance() {
        let (board, mut log) = (board(), FrontierLog::new(Duration::from_secs(60)));
        assert_eq!(log.tick(&board.snapshot(), at(1)), []);
        advance(&board, 5, 8);
        let text =
            "operator window is at 2023-11-14T22:13:25.000Z (3.0 s behind the clock), epoch 0; least on worker 0";
        assert_eq!(log.tick(&board.snapshot(), at(8)), [LogLine::Advance(text.into())]);
        assert_eq!(log.tick(&board.snapshot(), at(9)), []);
        board.set_operator_frontier_at(WORKER, "window", None, at(10));
        assert_eq!(log.tick(&board.snapshot(), at(10)), [LogLine::Advance("operator window is done".into())]);
    }

    #[test]
    fn a_stand_still_is_warned_of_with_the_culprit_once_a_minute_until_it_moves() {
        let (board, mut log) = (board(), FrontierLog::new(Duration::from_secs(60)));
        advance(&board, 5, 10);
        partition(&board, 5, 10);
        let mut warnings = Vec::new();
        for now in 10..200 {
            board.note_events_at(WORKER, 1, at(now));
            for line in log.tick(&board.snapshot(), at(now)) {
                if let LogLine::Stuck(text) = line {
                    warnings.push((now, text));
                }
            }
        }
        assert_eq!(warnings.iter().map(|(now, _)| *now).collect::<Vec<_>>(), [70, 130, 190]);
        assert!(
            warnings[0].1.starts_with(
                "the frontier has not moved for 60 s while events arrive: partition feedback-events[3] on worker 0 holds the \
                 frontier at 2023-11-14T22:13:25.000Z; it has had no record for 60 s"
            ),
            "{}",
            warnings[0].1
        );
        advance(&board, 190, 200);
        let lines = log.tick(&board.snapshot(), at(200));
        let text = "the frontier moves again, after 3 min 10 s: 2023-11-14T22:16:30.000Z (10 s behind the clock)";
        assert!(lines.contains(&LogLine::Recovered(text.into())), "{lines:?}");
        assert!(log.tick(&board.snapshot(), at(201)).is_empty());
    }

    #[test]
    fn silence_everywhere_is_no_stand_still() {
        let (board, mut log) = (board(), FrontierLog::new(Duration::from_secs(60)));
        advance(&board, 5, 10);
        partition(&board, 5, 10);
        board.note_events_at(WORKER, 1, at(9));
        log.tick(&board.snapshot(), at(10));
        for now in 11..300 {
            assert_eq!(log.tick(&board.snapshot(), at(now)), []);
        }
    }
}
