//! The counters of one pipeline.

use super::checkpoints::NO_LABELS;
use super::families::Families;
use super::handles::{PartitionMetrics, SinkMetrics, ViewMetrics, WorkerMetrics};
use super::process::ProcessCollector;
use super::snapshot::ViewStatus;
use crate::event::{PartitionName, WorkerIndex};
use crate::source::Losses;
use crate::time::{EventTime, Span};
use prometheus::{GaugeVec, IntGauge, Opts, Registry, TextEncoder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The counters of one pipeline, in a registry of their own. Clones are the same counters.
#[derive(Clone, Debug)]
pub struct ProcessorMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    families: Families,
    partitions: Mutex<BTreeMap<PartitionName, PartitionMetrics>>,
}

impl Default for ProcessorMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcessorMetrics {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry);
        register_build_info(&registry);
        registry
            .register(Box::new(ProcessCollector::new()))
            .expect("the process's metrics have names of their own in a registry of their own");
        ProcessorMetrics { inner: Arc::new(Inner { registry, families, partitions: Mutex::default() }) }
    }

    /// Counts one event accepted for windows.
    pub fn record_event_processed(&self) {
        self.record_events_processed(1);
    }

    /// Counts `n` events accepted for windows.
    pub fn record_events_processed(&self, n: u64) {
        self.inner.families.events_processed.inc_by(n);
    }

    /// Notes how long it took from reading a record until its row was in its windows.
    pub fn record_processing_latency(&self, latency: Duration) {
        self.inner.families.processing_latency.observe(latency.as_secs_f64());
    }

    /// Counts one error of any kind.
    pub fn record_error(&self) {
        self.inner.families.errors.inc();
    }

    /// Says whether a broker answers on `connection`: `consumer` or `producer`.
    pub fn set_broker_up(&self, connection: &str, up: bool) {
        self.inner.families.broker_up.with_label_values(&[connection]).set(i64::from(up));
    }

    /// The handle of one worker: obtained once, used for every batch.
    pub fn worker(&self, worker: WorkerIndex) -> WorkerMetrics {
        WorkerMetrics::new(&self.inner.families, worker)
    }

    /// The handle of one partition: obtained once, used for every batch. The same partition gives the same handle.
    pub fn partition(&self, name: &PartitionName) -> PartitionMetrics {
        let mut partitions = self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = partitions.get(name) {
            return known.clone();
        }
        let made = PartitionMetrics::new(&self.inner.families, name);
        partitions.insert(name.clone(), made.clone());
        made
    }

    /// The handle of one sink, by the name that [`crate::sink::ResultSink::name`] gives.
    pub fn sink(&self, name: &str) -> SinkMetrics {
        SinkMetrics::new(&self.inner.families, name)
    }

    pub(super) fn families(&self) -> &Families {
        &self.inner.families
    }

    /// Counts records that are lost to a job that goes on from a checkpoint, where that was accepted.
    pub fn losses(&self) -> Losses {
        let families = &self.inner.families;
        Losses::counted_by(families.partitions_lost.clone(), families.records_lost.clone())
    }

    /// Shows the age of the newest checkpoint; `None` takes it away.
    pub fn set_checkpoint_age(&self, published_at: Option<EventTime>, now: EventTime) {
        let ages = &self.inner.families.checkpoint_age;
        match published_at {
            Some(at) => ages.with_label_values(NO_LABELS).set(signed_seconds(at, now)),
            // The error says that there was nothing to remove.
            None => drop(ages.remove_label_values(NO_LABELS)),
        }
    }

    /// How many records of the partition are not read yet, where that was ever told.
    pub fn consumer_lag(&self, name: &PartitionName) -> Option<u64> {
        let partitions = self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.get(name).and_then(PartitionMetrics::consumer_lag)
    }

    /// Shows a partition's watermark, and how far it is behind `now`; `None` takes both away (no event yet, or closed).
    pub fn set_watermark(&self, name: &PartitionName, watermark: Option<EventTime>, now: EventTime) {
        let labels = [&*name.topic, &name.partition.to_string()];
        set_time(&self.inner.families.watermark, &self.inner.families.watermark_lag, &labels, watermark, now);
    }

    /// Shows an operator's frontier, and how far it is behind `now`; `None` takes both away (not begun, or done).
    pub fn set_frontier(&self, operator: &str, frontier: Option<EventTime>, now: EventTime) {
        set_time(&self.inner.families.frontier, &self.inner.families.frontier_lag, &[operator], frontier, now);
    }

    /// Shows how many rows a view has, and how far it has come; before its first change, that it has none.
    pub fn set_view(&self, view: &ViewStatus, now: EventTime) {
        let (families, name) = (&self.inner.families, &*view.name);
        families.view_rows.with_label_values(&[name]).set(i64::try_from(view.rows).unwrap_or(i64::MAX));
        let frontier = Some(view.frontier).filter(|frontier| *frontier != EventTime::MIN);
        set_time(&families.view_frontier, &families.view_frontier_lag, &[name], frontier, now);
    }

    /// The handle of one view: obtained once, used for every change.
    pub fn view(&self, name: &str) -> ViewMetrics {
        ViewMetrics::new(&self.inner.families, name)
    }

    /// Everything in Prometheus's text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.inner.registry.gather(), &mut text) {
            tracing::warn!(target: "processor", "the metrics page is incomplete: {error}");
        }
        text
    }
}

/// Sets or removes a pair of gauges: a time, and its distance from the wall clock.
fn set_time(times: &GaugeVec, lags: &GaugeVec, labels: &[&str], time: Option<EventTime>, now: EventTime) {
    match time {
        Some(time) => {
            times.with_label_values(labels).set(time.as_millis() as f64 / 1000.0);
            lags.with_label_values(labels).set(signed_seconds(time, now));
        }
        None => {
            // The error says that there was nothing to remove.
            let _ = times.remove_label_values(labels);
            let _ = lags.remove_label_values(labels);
        }
    }
}

/// From `time` to `now`: negative where `time` is ahead of the clock.
fn signed_seconds(time: EventTime, now: EventTime) -> f64 {
    let seconds = |span: Span| span.as_millis() as f64 / 1000.0;
    if time <= now { seconds(now.since(time)) } else { -seconds(time.since(now)) }
}

fn register_build_info(registry: &Registry) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let options = Opts::new("processor_build_info", "Always 1; the labels say which build this is.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("profile", profile);
    let gauge = IntGauge::with_opts(options).expect("name and labels are constants that Prometheus accepts");
    gauge.set(1);
    registry.register(Box::new(gauge)).expect("each name is registered once in a registry of its own");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;
    use crate::view::ViewOp;

    fn partition(number: i32) -> PartitionName {
        PartitionName { topic: "feedback-events".into(), partition: number }
    }

    fn value(metrics: &ProcessorMetrics, series: &str) -> Option<f64> {
        metrics.render().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn the_calls_of_the_reference_card() {
        let metrics = ProcessorMetrics::new();
        metrics.record_event_processed();
        metrics.record_processing_latency(Duration::from_millis(3));
        metrics.record_error();
        assert_eq!(value(&metrics, "events_processed_total "), Some(1.0));
        assert_eq!(value(&metrics, "errors_total "), Some(1.0));
        assert_eq!(value(&metrics, "processing_latency_seconds_bucket{le=\"0.0025\"} "), Some(0.0));
        assert_eq!(value(&metrics, "processing_latency_seconds_bucket{le=\"0.005\"} "), Some(1.0));
        assert_eq!(value(&metrics, "processing_latency_seconds_count "), Some(1.0));
    }

    #[test]
    fn two_pipelines_count_apart_and_clones_together() {
        let (one, two) = (ProcessorMetrics::new(), ProcessorMetrics::new());
        one.clone().record_events_processed(5);
        two.record_events_processed(7);
        assert_eq!(value(&one, "events_processed_total "), Some(5.0));
        assert_eq!(value(&two, "events_processed_total "), Some(7.0));
    }

    #[test]
    fn rejected_records_are_counted_by_what_was_wrong() {
        let metrics = ProcessorMetrics::new();
        let handle = metrics.partition(&partition(3));
        handle.record_rejected(Reason::Late, 4);
        handle.record_rejected(Reason::NotANumber, 2);
        let dropped = "events_dropped_total{partition=\"3\",reason=\"late\",topic=\"feedback-events\"} ";
        assert_eq!(value(&metrics, dropped), Some(4.0));
        assert_eq!(
            value(&metrics, "bad_records_total{partition=\"3\",reason=\"not_a_number\",topic=\"feedback-events\"} "),
            Some(2.0)
        );
        assert_eq!(
            value(&metrics, "bad_records_total{partition=\"3\",reason=\"malformed\",topic=\"feedback-events\"} "),
            Some(0.0)
        );
        assert_eq!(value(&metrics, "errors_total "), Some(2.0), "a late event is no error");
        assert_eq!(value(&metrics, &dropped.replace("events_dropped", "bad_records")), None);
    }

    #[test]
    fn lag_is_unknown_until_told() {
        let metrics = ProcessorMetrics::new();
        let handle = metrics.partition(&partition(0));
        assert_eq!(metrics.consumer_lag(&partition(0)), None);
        assert!(!metrics.render().contains("kafka_consumer_lag{"));
        handle.set_consumer_lag(0);
        assert_eq!(metrics.consumer_lag(&partition(0)), Some(0));
        metrics.partition(&partition(0)).set_consumer_lag(181);
        assert_eq!(handle.consumer_lag(), Some(181));
        assert_eq!(value(&metrics, "kafka_consumer_lag{partition=\"0\",topic=\"feedback-events\"} "), Some(181.0));
        assert_eq!(metrics.consumer_lag(&partition(1)), None);
    }

    #[test]
    fn times_come_and_go() {
        let metrics = ProcessorMetrics::new();
        let (now, series) = (EventTime::from_millis(100_000), "frontier_lag_seconds{operator=\"window\"} ");
        metrics.set_frontier("window", Some(EventTime::from_millis(97_500)), now);
        assert_eq!(value(&metrics, series), Some(2.5));
        assert_eq!(value(&metrics, "frontier_seconds{operator=\"window\"} "), Some(97.5));
        metrics.set_frontier("window", Some(EventTime::from_millis(101_000)), now);
        assert_eq!(value(&metrics, series), Some(-1.0));
        metrics.set_frontier("window", None, now);
        assert_eq!(value(&metrics, series), None);
        metrics.set_watermark(&partition(1), Some(now), now);
        assert_eq!(value(&metrics, "watermark_lag_seconds{partition=\"1\",topic=\"feedback-events\"} "), Some(0.0));
    }

    #[test]
    fn the_handles_of_workers_and_sinks() {
        let metrics = ProcessorMetrics::new();
        let worker = metrics.worker(WorkerIndex(2));
        worker.record_events_processed(10);
        worker.record_events_late(3);
        worker.record_windows_fired(5);
        worker.record_windows_refined(1);
        worker.set_state_size(4096);
        worker.set_windows_open(12);
        worker.set_in_flight(3, 900);
        let sink = metrics.sink("kafka");
        sink.record_sent(48, Duration::from_millis(20));
        sink.record_error();
        for (series, expected) in [
            ("events_processed_total ", 10.0),
            ("events_late_total ", 3.0),
            ("windows_fired_total ", 5.0),
            ("windows_refined_total ", 1.0),
            ("state_size_bytes{worker=\"2\"} ", 4096.0),
            ("windows_open{worker=\"2\"} ", 12.0),
            ("batches_in_flight{worker=\"2\"} ", 3.0),
            ("rows_in_flight{worker=\"2\"} ", 900.0),
            ("results_sent_total{sink=\"kafka\"} ", 48.0),
            ("sink_errors_total{sink=\"kafka\"} ", 1.0),
            ("errors_total ", 1.0),
            ("sink_latency_seconds_count{sink=\"kafka\"} ", 1.0),
        ] {
            assert_eq!(value(&metrics, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn a_view_shows_its_rows_and_counts_its_changes() {
        let metrics = ProcessorMetrics::new();
        let now = EventTime::from_millis(100_000);
        let mut status = ViewStatus { name: "best".into(), rows: 0, frontier: EventTime::MIN };
        metrics.set_view(&status, now);
        assert_eq!(value(&metrics, "view_rows{view=\"best\"} "), Some(0.0));
        assert!(!metrics.render().contains("view_frontier_seconds{"), "it has not changed yet");
        (status.rows, status.frontier) = (3, EventTime::from_millis(98_500));
        metrics.set_view(&status, now);
        let handle = metrics.view("best");
        [ViewOp::Insert, ViewOp::Insert, ViewOp::Delete].into_iter().for_each(|op| handle.record_change(op));
        for (series, expected) in [
            ("view_rows{view=\"best\"} ", 3.0),
            ("view_frontier_seconds{view=\"best\"} ", 98.5),
            ("view_frontier_lag_seconds{view=\"best\"} ", 1.5),
            ("view_changes_total{op=\"insert\",view=\"best\"} ", 2.0),
            ("view_changes_total{op=\"delete\",view=\"best\"} ", 1.0),
        ] {
            assert_eq!(value(&metrics, series), Some(expected), "{series}");
        }
    }
}
