use super::*;
use crate::event::Offset;
use crate::metrics::{PartitionStatus, SinkStatus, StatusBoard, TimeRules};
use crate::time::{Epoch, Time};
use std::time::Duration;

/// 2023-11-14T22:13:20Z
const START: i64 = 1_700_000_000_000;

fn at(secs: i64) -> EventTime {
    EventTime::from_millis(START + secs * 1000)
}

fn partition(number: i32, watermark: EventTime, last_event_at: Option<EventTime>) -> PartitionStatus {
    PartitionStatus {
        name: PartitionName { topic: "feedback-events".into(), partition: number },
        watermark,
        max_seen: watermark.saturating_add(Span::from_secs(5)),
        position: Offset(100),
        idle: false,
        closed: false,
        last_event_at,
        records: u64::from(last_event_at.is_some()) * 100,
    }
}

/// A board with two running workers, the operator `window` at `frontier` since `changed`.
fn running(frontier: EventTime, changed: EventTime) -> StatusBoard {
    let board = StatusBoard::started_at(at(0));
    board.set_phase(Phase::Running);
    for worker in [0, 1].map(WorkerIndex) {
        board.set_source_state_at(worker, SourceState::Running, at(0));
        board.set_operator_frontier_at(worker, "window", Some(Time::new(Epoch::FIRST, frontier)), changed);
    }
    board
}

fn with_lag(board: &StatusBoard, lag: u64) -> Snapshot {
    let mut snapshot = board.snapshot();
    for partition in &mut snapshot.partitions {
        partition.lag = Some(lag);
    }
    snapshot
}

#[test]
fn before_anything_is_known() {
    let board = StatusBoard::started_at(at(0));
    let answer = diagnose(&board.snapshot(), at(3));
    assert_eq!((answer.cause, answer.reason.as_str()), (Cause::NotStarted, "no worker has started reading yet"));
    assert_eq!((answer.frontier, answer.held_for), (None, Span::from_secs(3)));
}

#[test]
fn a_silent_partition_is_named_with_its_worker_and_why_it_is_not_idle() {
    let board = running(at(50), at(60));
    board.set_partition_at(WorkerIndex(0), partition(0, at(120), Some(at(133))), at(133));
    board.set_partition_at(WorkerIndex(1), partition(3, at(50), Some(at(60))), at(60));
    let answer = diagnose(&board.snapshot(), at(133));
    assert_eq!(answer.cause, Cause::PartitionSilent);
    assert_eq!(answer.held_back_by.partition.as_ref().map(ToString::to_string).as_deref(), Some("feedback-events[3]"));
    assert_eq!(answer.held_back_by.worker, Some(WorkerIndex(1)));
    assert_eq!(answer.held_for, Span::from_secs(73));
    assert_eq!(
        answer.reason,
        "partition feedback-events[3] on worker 1 holds the frontier at 2023-11-14T22:14:10.000Z; it has had no record for 73 s \
         and is not idle because it is not known whether it has been read to its end"
    );
    let why = |snapshot: &Snapshot| diagnose(snapshot, at(133)).reason.split("because ").nth(1).map(str::to_owned);
    assert_eq!(why(&with_lag(&board, 12_000)).as_deref(), Some("12,000 records in it are still to be read"));
    board.set_idle_timeout(None);
    assert_eq!(
        why(&with_lag(&board, 0)).as_deref(),
        Some("no idle time-out is configured (watermark.idle_timeout_secs)")
    );
    board.set_idle_timeout(Some(Duration::from_secs(300)));
    assert_eq!(why(&with_lag(&board, 0)).as_deref(), Some("the idle time-out of 5 min 0 s has not passed"));
}

#[test]
fn an_idle_partition_is_passed_over() {
    let board = running(at(50), at(60));
    let mut idle = partition(3, at(50), Some(at(60)));
    idle.idle = true;
    board.set_partition_at(WorkerIndex(1), idle, at(60));
    let reason = || {
        let answer = diagnose(&board.snapshot(), at(61));
        assert_eq!(answer.cause, Cause::AllIdle);
        answer.reason
    };
    let waits = "every partition is idle; the windows that are open wait for the next event";
    assert_eq!(
        reason(),
        format!("{waits} (watermark.close_idle_after_secs, which is not set, would close them by the clock)")
    );
    let close_idle_after = Some(Duration::from_secs(90));
    board.set_time_rules(TimeRules { max_out_of_orderness: Span::ZERO, close_idle_after });
    assert_eq!(
        reason(),
        format!("{waits}, or until all partitions have been idle for 90 s (watermark.close_idle_after_secs)")
    );
    [0, 1].into_iter().for_each(|worker| board.set_closed_idle(WorkerIndex(worker), true));
    assert!(reason().starts_with(
        "every partition has been idle for 90 s (watermark.close_idle_after_secs): the windows were closed"
    ));
    board.set_partition_at(WorkerIndex(0), partition(0, at(50), Some(at(61))), at(61));
    let answer = diagnose(&board.snapshot(), at(61));
    assert_eq!((answer.cause, answer.held_back_by.worker), (Cause::PartitionSlowest, Some(WorkerIndex(0))));
}

#[test]
fn nothing_seen_yet_anywhere_or_in_one_partition() {
    let board = running(EventTime::MIN, at(0));
    board.set_partition_at(WorkerIndex(0), partition(0, EventTime::MIN, None), at(0));
    board.set_partition_at(WorkerIndex(1), partition(1, EventTime::MIN, None), at(0));
    let answer = diagnose(&board.snapshot(), at(9));
    assert_eq!((answer.cause, answer.reason.as_str()), (Cause::NoEventYet, "no partition has shown an event yet"));
    board.set_partition_at(WorkerIndex(0), partition(0, at(5), Some(at(9))), at(9));
    board.set_idle_timeout(None);
    assert_eq!(
        diagnose(&with_lag(&board, 0), at(9)).reason,
        "partition feedback-events[1] on worker 1 has shown no event yet, and holds the frontier before every event; it is not \
         idle because no idle time-out is configured (watermark.idle_timeout_secs)"
    );
    let mut all_bad = partition(1, EventTime::MIN, Some(at(8)));
    all_bad.records = 4_321;
    board.set_partition_at(WorkerIndex(1), all_bad, at(9));
    assert!(
        diagnose(&board.snapshot(), at(9))
            .reason
            .ends_with("of the 4,321 records read from it none was an event for the windows")
    );
}

#[test]
fn records_without_later_timestamps() {
    let board = running(at(50), at(60));
    board.set_partition_at(WorkerIndex(0), partition(2, at(50), Some(at(60))), at(60));
    board.set_partition_at(WorkerIndex(0), partition(2, at(50), Some(at(90))), at(90));
    let answer = diagnose(&board.snapshot(), at(91));
    assert_eq!(answer.cause, Cause::PartitionNotAdvancing);
    assert!(
        answer
            .reason
            .ends_with("its records come, but none for 31 s has a later timestamp than 2023-11-14T22:14:15.000Z")
    );
}

#[test]
fn a_source_that_waits_explains_the_rest() {
    let board = running(at(50), at(60));
    board.set_partition_at(WorkerIndex(1), partition(3, at(50), Some(at(60))), at(60));
    let detail = "no broker of 127.0.0.1:9092 answers".to_owned();
    board.set_source_state_at(WorkerIndex(1), SourceState::Waiting { detail }, at(61));
    let answer = diagnose(&board.snapshot(), at(81));
    assert_eq!((answer.cause, answer.held_back_by.worker), (Cause::SourceWaiting, Some(WorkerIndex(1))));
    assert_eq!(answer.reason, "the source of worker 1 has waited for 20 s: no broker of 127.0.0.1:9092 answers");
}

#[test]
fn a_sink_or_an_operator_behind_the_partitions() {
    let board = running(at(50), at(60));
    board.set_partition_at(WorkerIndex(0), partition(0, at(70), Some(at(70))), at(70));
    assert_eq!(diagnose(&board.snapshot(), at(61)).cause, Cause::PartitionSlowest, "it may be about to follow");
    let answer = diagnose(&board.snapshot(), at(70));
    assert_eq!((answer.cause, answer.held_back_by.operator), (Cause::OperatorBehind, Some("window")));
    assert_eq!(
        answer.reason,
        "operator window on worker 0 is at 2023-11-14T22:14:10.000Z and has not moved for 10 s, though every partition is further"
    );
    let sink = SinkStatus { name: "kafka".into(), unacknowledged: 12_000, acknowledged: 5, trouble: None };
    board.set_sink(sink.clone());
    let answer = diagnose(&board.snapshot(), at(70));
    assert_eq!((answer.cause, answer.held_back_by.sink.as_deref()), (Cause::SinkBehind, Some("kafka")));
    assert_eq!(answer.reason, "the sink kafka has 12,000 results unacknowledged; the frontier has not moved for 10 s");
    board.set_sink(SinkStatus { unacknowledged: 3, trouble: Some("broker down".into()), ..sink });
    assert!(
        diagnose(&board.snapshot(), at(70))
            .reason
            .starts_with("the sink kafka has 3 results unacknowledged: broker down;")
    );
}

#[test]
fn the_end_of_a_bounded_input() {
    let board = running(at(50), at(60));
    let mut closed = partition(0, at(50), Some(at(60)));
    closed.closed = true;
    board.set_partition_at(WorkerIndex(0), closed, at(60));
    assert_eq!(diagnose(&board.snapshot(), at(61)).cause, Cause::Draining);
    assert_eq!(diagnose(&board.snapshot(), at(90)).cause, Cause::OperatorBehind, "draining does not take this long");
    board.set_phase(Phase::Finished);
    assert_eq!(diagnose(&board.snapshot(), at(91)).cause, Cause::Finished);
    board.set_failure("the disk is full");
    assert_eq!(diagnose(&board.snapshot(), at(91)).reason, "the run has failed: the disk is full");
}

#[test]
fn spans_and_numbers_for_people() {
    let text = |millis| describe_span(Span::from_millis(millis));
    assert_eq!([0, 450, 9_999].map(text), ["0.0 s", "0.4 s", "9.9 s"]);
    assert_eq!([10_000, 119_999, 303_000].map(text), ["10 s", "119 s", "5 min 3 s"]);
    assert_eq!([7_440_000, 200_000_000].map(text), ["2 h 4 min", "2 d 7 h"]);
    assert_eq!([0, 999, 1_000, 1_234_567].map(group_digits), ["0", "999", "1,000", "1,234,567"]);
}
