//! The thread that keeps the log and the gauges up to date.

use super::frontier_log::FrontierLog;
use super::processor::ProcessorMetrics;
use super::snapshot::Snapshot;
use super::status::StatusBoard;
use crate::error::ProcessorResult;
use crate::runtime::Control;
use crate::time::EventTime;
use std::thread::JoinHandle;
use std::time::Duration;

/// A snapshot of the board, with the lags that the metrics know.
pub fn observe(board: &StatusBoard, metrics: &ProcessorMetrics) -> Snapshot {
    let mut snapshot = board.snapshot();
    for partition in &mut snapshot.partitions {
        partition.lag = metrics.consumer_lag(&partition.status.name);
    }
    snapshot
}

/// Brings the gauges of watermarks, frontiers, views and the age of checkpoints up to date.
pub fn export_snapshot(snapshot: &Snapshot, metrics: &ProcessorMetrics, now: EventTime) {
    for partition in &snapshot.partitions {
        let status = &partition.status;
        let shown = !status.closed && status.watermark != EventTime::MIN;
        metrics.set_watermark(&status.name, shown.then_some(status.watermark), now);
    }
    let last = snapshot.checkpoints.as_ref().and_then(|checkpoints| checkpoints.last.as_ref());
    metrics.set_checkpoint_age(last.map(|last| last.at), now);
    snapshot.views.iter().for_each(|view| metrics.set_view(view, now));
    for operator in &snapshot.operators {
        let least = operator.least().and_then(|(_, status)| status.event_time());
        metrics.set_frontier(operator.name, least.filter(|time| *time != EventTime::MIN), now);
    }
}

/// Starts the thread that, every `interval`, writes the frontier's advances to the log, warns when it has not moved for
/// `stuck_after` while events arrive, and brings the gauges up to date. It ends with the run, after a last look.
pub fn spawn_reporter(
    board: StatusBoard,
    metrics: ProcessorMetrics,
    control: Control,
    interval: Duration,
    stuck_after: Duration,
) -> ProcessorResult<JoinHandle<()>> {
    let switch = control.clone();
    let report = move || {
        let mut log = FrontierLog::new(stuck_after);
        loop {
            let stopping = control.sleep(interval);
            let (snapshot, now) = (observe(&board, &metrics), EventTime::now());
            export_snapshot(&snapshot, &metrics, now);
            for line in log.tick(&snapshot, now) {
                line.write();
            }
            if stopping {
                return;
            }
        }
    };
    switch.spawn("reporter", report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Offset, PartitionName, WorkerIndex};
    use crate::metrics::PartitionStatus;
    use crate::time::{Epoch, Time};

    fn status(watermark: EventTime, closed: bool) -> PartitionStatus {
        PartitionStatus {
            name: PartitionName { topic: "t".into(), partition: 0 },
            watermark,
            max_seen: watermark,
            position: Offset(1),
            idle: false,
            closed,
            last_event_at: None,
            records: 1,
        }
    }

    #[test]
    fn gauges_follow_the_board_and_go_with_what_they_showed() {
        let (board, metrics) = (StatusBoard::new(), ProcessorMetrics::new());
        let time = EventTime::from_millis(2_000);
        let export = || export_snapshot(&observe(&board, &metrics), &metrics, EventTime::from_millis(5_000));
        board.set_partition(WorkerIndex(0), status(EventTime::MIN, false));
        board.set_operator_frontier(WorkerIndex(0), "window", Some(Time::new(Epoch::FIRST, EventTime::MIN)));
        export();
        assert!(!metrics.render().contains("watermark_seconds{") && !metrics.render().contains("frontier_seconds{"));
        board.set_partition(WorkerIndex(0), status(time, false));
        board.set_operator_frontier(WorkerIndex(0), "window", Some(Time::new(Epoch::FIRST, time)));
        export();
        let page = metrics.render();
        assert!(page.contains("watermark_lag_seconds{partition=\"0\",topic=\"t\"} 3\n"), "{page}");
        assert!(page.contains("frontier_seconds{operator=\"window\"} 2\n"), "{page}");
        board.set_partition(WorkerIndex(0), status(time, true));
        board.set_operator_frontier(WorkerIndex(0), "window", None);
        export();
        assert!(!metrics.render().contains("watermark_seconds{") && !metrics.render().contains("frontier_seconds{"));
    }

    #[test]
    fn the_thread_ends_with_the_run_after_a_last_look() {
        let (board, metrics, control) = (StatusBoard::new(), ProcessorMetrics::new(), Control::new());
        let long = Duration::from_secs(3_600);
        let thread =
            spawn_reporter(board.clone(), metrics.clone(), control.clone(), long, long).expect("a thread starts");
        board.set_partition(WorkerIndex(0), status(EventTime::from_millis(2_000), false));
        control.stop();
        thread.join().expect("it does not panic");
        assert!(metrics.render().contains("watermark_seconds{partition=\"0\",topic=\"t\"} 2\n"));
    }
}
