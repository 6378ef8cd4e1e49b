//! Handles with their labels resolved: what the hot paths hold.

use super::families::Families;
use crate::event::{PartitionName, Reason, WorkerIndex};
use crate::view::ViewOp;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What one worker counts. Every call is an atomic addition: call it per batch, not per event.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    events_processed: IntCounter,
    events_late: IntCounter,
    events_filtered: IntCounter,
    tombstones: IntCounter,
    processing_latency: Histogram,
    windows_fired: IntCounter,
    results_early: IntCounter,
    windows_refined: IntCounter,
    results_retracted: IntCounter,
    events_in_no_window: IntCounter,
    state_size: IntGauge,
    windows_open: IntGauge,
    batches_in_flight: IntGauge,
    rows_in_flight: IntGauge,
}

impl WorkerMetrics {
    pub(super) fn new(families: &Families, worker: WorkerIndex) -> Self {
        let gauge = |gauges: &IntGaugeVec| gauges.with_label_values(&[worker.to_string()]);
        WorkerMetrics {
            events_processed: families.events_processed.clone(),
            events_late: families.events_late.clone(),
            events_filtered: families.events_filtered.clone(),
            tombstones: families.tombstones.clone(),
            processing_latency: families.processing_latency.clone(),
            windows_fired: families.windows_fired.clone(),
            results_early: families.results_early.clone(),
            windows_refined: families.windows_refined.clone(),
            results_retracted: families.results_retracted.clone(),
            events_in_no_window: families.events_in_no_window.clone(),
            state_size: gauge(&families.state_size),
            windows_open: gauge(&families.windows_open),
            batches_in_flight: gauge(&families.batches_in_flight),
            rows_in_flight: gauge(&families.rows_in_flight),
        }
    }

    /// Counts events accepted for windows, late ones included.
    pub fn record_events_processed(&self, n: u64) {
        self.events_processed.inc_by(n);
    }

    /// Counts events that were late and accepted; they are among those of [`WorkerMetrics::record_events_processed`] too.
    pub fn record_events_late(&self, n: u64) {
        self.events_late.inc_by(n);
    }

    /// Counts events that the filter left out.
    pub fn record_events_filtered(&self, n: u64) {
        self.events_filtered.inc_by(n);
    }

    /// Counts records without a value.
    pub fn record_tombstones(&self, n: u64) {
        self.tombstones.inc_by(n);
    }

    /// Notes how long it took from reading a batch's first record until its rows were in their windows.
    pub fn record_processing_latency(&self, latency: Duration) {
        self.processing_latency.observe(latency.as_secs_f64());
    }

    /// Counts windows that fired because the frontier reached their end.
    pub fn record_windows_fired(&self, n: u64) {
        self.windows_fired.inc_by(n);
    }

    /// Counts results before their window's end.
    pub fn record_early_results(&self, n: u64) {
        self.results_early.inc_by(n);
    }

    /// Counts results sent again because of late events.
    pub fn record_windows_refined(&self, n: u64) {
        self.windows_refined.inc_by(n);
    }

    /// Counts results taken back.
    pub fn record_results_retracted(&self, n: u64) {
        self.results_retracted.inc_by(n);
    }

    /// Counts events between two windows.
    pub fn record_events_in_no_window(&self, n: u64) {
        self.events_in_no_window.inc_by(n);
    }

    /// Shows how many bytes of window state the worker holds.
    pub fn set_state_size(&self, bytes: u64) {
        self.state_size.set(clamp(bytes));
    }

    /// Shows how many windows the worker holds state of.
    pub fn set_windows_open(&self, windows: u64) {
        self.windows_open.set(clamp(windows));
    }

    /// Shows what the worker has sent and no window has taken yet.
    pub fn set_in_flight(&self, batches: u64, rows: u64) {
        self.batches_in_flight.set(clamp(batches));
        self.rows_in_flight.set(clamp(rows));
    }
}

/// What one view counts. Every call is an atomic addition.
#[derive(Clone, Debug)]
pub struct ViewMetrics {
    inserted: IntCounter,
    deleted: IntCounter,
}

impl ViewMetrics {
    pub(super) fn new(families: &Families, view: &str) -> Self {
        let of = |op: ViewOp| families.view_changes.with_label_values(&[view, op.as_str()]);
        Self { inserted: of(ViewOp::Insert), deleted: of(ViewOp::Delete) }
    }

    /// Counts a change that the view's sinks are told of.
    pub fn record_change(&self, op: ViewOp) {
        match op {
            ViewOp::Insert => self.inserted.inc(),
            ViewOp::Delete => self.deleted.inc(),
        }
    }
}

/// What is counted of one partition.
#[derive(Clone, Debug)]
pub struct PartitionMetrics {
    rejected: Arc<[(Reason, IntCounter)]>,
    refused: IntCounterVec,
    name: PartitionName,
    errors: IntCounter,
    lag: Arc<LazyGauge>,
}

/// A gauge that appears on the page when it is first set: no value is not the value 0.
#[derive(Debug)]
struct LazyGauge {
    gauges: IntGaugeVec,
    labels: [String; 2],
    made: OnceLock<IntGauge>,
}

impl PartitionMetrics {
    pub(super) fn new(families: &Families, name: &PartitionName) -> Self {
        let number = name.partition.to_string();
        let counter = |reason: Reason| {
            let counters = if reason.is_about_time() { &families.events_dropped } else { &families.bad_records };
            counters.with_label_values(&[reason.as_str(), &*name.topic, number.as_str()])
        };
        PartitionMetrics {
            rejected: Reason::ALL.into_iter().map(|reason| (reason, counter(reason))).collect(),
            refused: families.events_refused.clone(),
            name: name.clone(),
            errors: families.errors.clone(),
            lag: Arc::new(LazyGauge {
                gauges: families.consumer_lag.clone(),
                labels: [name.topic.to_string(), number.clone()],
                made: OnceLock::new(),
            }),
        }
    }

    /// Counts records that made it into no window: among the dropped events where time is the reason, else among the bad records
    /// and the errors.
    pub fn record_rejected(&self, reason: Reason, n: u64) {
        if let Some((_, counter)) = self.rejected.iter().find(|(known, _)| *known == reason) {
            counter.inc_by(n);
        }
        if !reason.is_about_time() {
            self.errors.inc_by(n);
        }
    }

    /// Counts events that came too late for a window definition while others took them.
    pub fn record_refused(&self, window: &str, reason: Reason, n: u64) {
        let number = self.name.partition.to_string();
        self.refused.with_label_values(&[window, reason.as_str(), &*self.name.topic, number.as_str()]).inc_by(n);
    }

    /// Shows how many records of the partition are not read yet.
    pub fn set_consumer_lag(&self, records: u64) {
        let gauge = self.lag.made.get_or_init(|| self.lag.gauges.with_label_values(&self.lag.labels));
        gauge.set(clamp(records));
    }

    /// What [`PartitionMetrics::set_consumer_lag`] was last told.
    pub fn consumer_lag(&self) -> Option<u64> {
        self.lag.made.get().map(|gauge| gauge.get().unsigned_abs())
    }
}

/// What is counted of one sink.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    sent: IntCounter,
    latency: Histogram,
    failed: IntCounter,
    errors: IntCounter,
}

impl SinkMetrics {
    pub(super) fn new(families: &Families, name: &str) -> Self {
        SinkMetrics {
            sent: families.results_sent.with_label_values(&[name]),
            latency: families.sink_latency.with_label_values(&[name]),
            failed: families.sink_errors.with_label_values(&[name]),
            errors: families.errors.clone(),
        }
    }

    /// Counts the results of a batch that the sink has acknowledged, `latency` after it was handed over.
    pub fn record_sent(&self, results: u64, latency: Duration) {
        self.sent.inc_by(results);
        self.latency.observe(latency.as_secs_f64());
    }

    /// Counts results that the sink has acknowledged.
    pub fn record_results(&self, results: u64) {
        self.sent.inc_by(results);
    }

    /// Notes how long a batch took from being handed over to being acknowledged.
    pub fn record_latency(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    /// Counts a write that failed, whether or not it will be tried again.
    pub fn record_error(&self) {
        self.failed.inc();
        self.errors.inc();
    }
}

/// Prometheus's integer gauges are signed.
fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
