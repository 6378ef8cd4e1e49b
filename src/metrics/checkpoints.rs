//! What becomes of checkpoints: for Prometheus, and for the status board.
//!
//! The model: whoever takes, writes and publishes checkpoints says so to [`CheckpointMetrics`]; what is the case now is a
//! [`CheckpointStatus`] on the board. A failure is an attempt that will be made again, or a checkpoint that takes longer than it
//! should; failures are in a row until a checkpoint is published.

use super::families::Families;
use super::processor::ProcessorMetrics;
use super::status::StatusBoard;
use crate::checkpoint::FailureObserver;
use crate::time::{Epoch, EventTime};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A checkpoint that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Its epoch.
    pub epoch: Epoch,
    /// When it was published.
    pub at: EventTime,
    /// From the announcement that its epoch ends to the commit point; `None` where this process did not publish it.
    pub took: Option<Duration>,
    /// Bytes of all of it; `None` where this process did not publish it.
    pub size: Option<u64>,
    /// Bytes of records that were written for it, the others being those of checkpoints before; `None` where this process did not
    /// publish it.
    pub written: Option<u64>,
    /// Whether it was taken by an earlier run, and this one went on from it.
    pub restored: bool,
}

/// A checkpoint on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCheckpoint {
    /// Its epoch.
    pub epoch: Epoch,
    /// When its end was announced.
    pub since: EventTime,
}

/// Something that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFailure {
    /// When.
    pub at: EventTime,
    /// What was tried, and why it failed, for people.
    pub reason: String,
}

/// How the checkpoints of a run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointStatus {
    /// The newest; `None` before the first.
    pub last: Option<LastCheckpoint>,
    /// The one on its way.
    pub pending: Option<PendingCheckpoint>,
    /// The latest failure of this run.
    pub last_failure: Option<CheckpointFailure>,
    /// Failures since the last checkpoint.
    pub failures_in_a_row: u32,
    /// So many in a row count against the run's health.
    pub tolerable_failures: NonZeroU32,
}

impl CheckpointStatus {
    /// Of a run that takes checkpoints and has none.
    pub fn new(tolerable_failures: NonZeroU32) -> Self {
        Self { last: None, pending: None, last_failure: None, failures_in_a_row: 0, tolerable_failures }
    }

    /// Why they count against the run's health, if they do.
    pub fn trouble(&self) -> Option<String> {
        let failure = self.last_failure.as_ref().filter(|_| self.failures_in_a_row >= self.tolerable_failures.get())?;
        let since = match &self.last {
            Some(last) => format!("since checkpoint {} of {}", last.epoch, last.at),
            None => "and there is no checkpoint yet".to_owned(),
        };
        let failures = match self.failures_in_a_row {
            1 => "failed once".to_owned(),
            many => format!("failed {many} times in a row"),
        };
        Some(format!("taking a checkpoint {failures} {since}: {}", failure.reason))
    }
}

/// Counts what becomes of checkpoints and shows it on the board. Clones count the same.
#[derive(Clone, Debug)]
pub struct CheckpointMetrics {
    metrics: ProcessorMetrics,
    board: StatusBoard,
}

impl CheckpointMetrics {
    /// Of a run that takes checkpoints: the board has a part for them from now on.
    pub fn new(metrics: &ProcessorMetrics, board: &StatusBoard, tolerable_failures: NonZeroU32) -> Self {
        board.set_checkpoint(CheckpointStatus::new(tolerable_failures));
        Self { metrics: metrics.clone(), board: board.clone() }
    }

    fn families(&self) -> &Families {
        self.metrics.families()
    }

    /// The run goes on from this checkpoint, which was published at `at`.
    pub fn restored(&self, epoch: Epoch, at: EventTime, size: u64) {
        self.show(LastCheckpoint { epoch, at, took: None, size: Some(size), written: None, restored: true });
    }

    /// The end of this epoch is announced: its checkpoint is on its way.
    pub fn begun(&self, epoch: Epoch) {
        let pending = PendingCheckpoint { epoch, since: EventTime::now() };
        self.board.update_checkpoint(|status| status.pending = Some(pending));
    }

    /// The checkpoint is published: it took so long, is so large in all, and so many bytes were written for it.
    pub fn published(&self, epoch: Epoch, took: Duration, size: u64, written: u64) {
        let families = self.families();
        families.checkpoint_duration.observe(took.as_secs_f64());
        families.checkpoint_written.with_label_values(NO_LABELS).set(gauge(written));
        families.checkpoints.with_label_values(&["published"]).inc();
        self.show(LastCheckpoint {
            epoch,
            at: EventTime::now(),
            took: Some(took),
            size: Some(size),
            written: Some(written),
            restored: false,
        });
    }

    /// The checkpoint is published, by another process.
    pub fn published_elsewhere(&self, epoch: Epoch) {
        let at = EventTime::now();
        self.show(LastCheckpoint { epoch, at, took: None, size: None, written: None, restored: false });
    }

    /// Something for a checkpoint failed, and will be tried again.
    pub fn failed(&self, what: &str, reason: &str) {
        self.families().checkpoints.with_label_values(&["failed"]).inc();
        self.note_failure(format!("{what} failed: {reason}"));
    }

    /// [`CheckpointMetrics::failed`], for whoever knows nothing of metrics.
    pub fn failure_observer(&self) -> FailureObserver {
        let metrics = self.clone();
        Arc::new(move |what, reason| metrics.failed(what, reason))
    }

    /// The checkpoint takes longer than it may. It is waited for all the same.
    pub fn overdue(&self, epoch: Epoch, timeout: Duration) {
        self.families().checkpoints.with_label_values(&["overdue"]).inc();
        self.note_failure(format!("checkpoint {epoch} is not done after {} s", timeout.as_secs()));
    }

    fn note_failure(&self, reason: String) {
        self.families().checkpoint_failures.inc();
        let failure = CheckpointFailure { at: EventTime::now(), reason };
        self.board.update_checkpoint(|status| {
            status.failures_in_a_row = status.failures_in_a_row.saturating_add(1);
            status.last_failure = Some(failure);
        });
    }

    fn show(&self, last: LastCheckpoint) {
        let families = self.families();
        families.checkpoint_epoch.with_label_values(NO_LABELS).set(gauge(last.epoch.number()));
        if let Some(size) = last.size {
            families.checkpoint_size.with_label_values(NO_LABELS).set(gauge(size));
        }
        self.board.update_checkpoint(|status| {
            if status.pending.is_some_and(|pending| pending.epoch <= last.epoch) {
                status.pending = None;
            }
            status.failures_in_a_row = 0;
            status.last = Some(last);
        });
    }
}

/// Of gauges that are not there before they have a value.
pub(super) const NO_LABELS: &[&str] = &[];

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{HealthLevel, export_snapshot, health};

    fn value(metrics: &ProcessorMetrics, series: &str) -> Option<f64> {
        metrics.render().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn nothing_is_shown_where_no_checkpoints_are_taken() {
        let (metrics, board) = (ProcessorMetrics::new(), StatusBoard::new());
        assert_eq!(board.snapshot().checkpoints, None);
        export_snapshot(&board.snapshot(), &metrics, EventTime::now());
        for series in ["checkpoint_age_seconds ", "checkpoint_size_bytes ", "checkpoint_epoch "] {
            assert_eq!(value(&metrics, series), None, "{series}");
        }
    }

    #[test]
    fn checkpoints_are_counted_and_shown() {
        let (metrics, board) = (ProcessorMetrics::new(), StatusBoard::new());
        let checkpoints = CheckpointMetrics::new(&metrics, &board, NonZeroU32::MIN);
        let status = || board.snapshot().checkpoints.expect("the run takes checkpoints");
        checkpoints.restored(Epoch::new(6), EventTime::from_millis(1_000), 500);
        assert!(status().last.is_some_and(|last| last.restored && last.epoch == Epoch::new(6)));
        checkpoints.begun(Epoch::new(7));
        assert_eq!(status().pending.map(|pending| pending.epoch), Some(Epoch::new(7)));
        checkpoints.published(Epoch::new(7), Duration::from_millis(30), 9_000, 700);
        assert_eq!(status().pending, None);
        let last = status().last.unwrap();
        assert_eq!((last.epoch, last.size, last.written), (Epoch::new(7), Some(9_000), Some(700)));
        export_snapshot(&board.snapshot(), &metrics, last.at.saturating_add(crate::time::Span::from_secs(5)));
        for (series, expected) in [
            ("checkpoint_age_seconds ", 5.0),
            ("checkpoint_size_bytes ", 9_000.0),
            ("checkpoint_written_bytes ", 700.0),
            ("checkpoint_epoch ", 7.0),
            ("checkpoints_total{outcome=\"published\"} ", 1.0),
            ("checkpoint_duration_seconds_count ", 1.0),
            ("checkpoint_duration_seconds_bucket{le=\"0.05\"} ", 1.0),
            ("checkpoint_failures_total ", 0.0),
        ] {
            assert_eq!(value(&metrics, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn failures_in_a_row_count_against_the_health_until_a_checkpoint_is_published() {
        let (metrics, board) = (ProcessorMetrics::new(), StatusBoard::new());
        let checkpoints = CheckpointMetrics::new(&metrics, &board, NonZeroU32::new(2).unwrap());
        let health = || health(&board.snapshot(), EventTime::now());
        checkpoints.failed("writing a snapshot", "no space left on device");
        assert_eq!(health().level, HealthLevel::Ok);
        checkpoints.overdue(Epoch::FIRST, Duration::from_secs(600));
        assert_eq!(health().level, HealthLevel::Degraded);
        checkpoints.failed("writing a snapshot", "no space left on device");
        let expected = "taking a checkpoint failed 3 times in a row and there is no checkpoint yet: writing a snapshot failed: \
                        no space left on device";
        assert_eq!(health().reasons, [expected]);
        checkpoints.published(Epoch::FIRST, Duration::ZERO, 1, 1);
        assert_eq!(health().level, HealthLevel::Ok);
        assert!(board.snapshot().checkpoints.unwrap().last_failure.is_some(), "people may ask what it was");
        assert_eq!(value(&metrics, "checkpoint_failures_total "), Some(3.0));
        assert_eq!(value(&metrics, "checkpoints_total{outcome=\"failed\"} "), Some(2.0));
        assert_eq!(value(&metrics, "checkpoints_total{outcome=\"overdue\"} "), Some(1.0));
        checkpoints.failed("a", "b");
        checkpoints.published_elsewhere(Epoch::new(1));
        let last = board.snapshot().checkpoints.unwrap();
        assert_eq!((last.failures_in_a_row, last.last.unwrap().size), (0, None));
    }
}
