//! Every metric's name, help text, labels and buckets, in one place.

use super::checkpoints::NO_LABELS;
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// Upper bounds in seconds, 100 µs to 60 s.
const LATENCY_BUCKETS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Upper bounds in seconds, 5 ms to 10 min.
const CHECKPOINT_BUCKETS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

const PARTITION: &[&str] = &["topic", "partition"];
const WORKER: &[&str] = &["worker"];
const SINK: &[&str] = &["sink"];
const OPERATOR: &[&str] = &["operator"];
const VIEW: &[&str] = &["view"];

/// The metrics themselves, registered.
#[derive(Debug)]
pub(super) struct Families {
    pub events_processed: IntCounter,
    pub events_late: IntCounter,
    pub events_dropped: IntCounterVec,
    pub events_refused: IntCounterVec,
    pub events_in_no_window: IntCounter,
    pub events_filtered: IntCounter,
    pub tombstones: IntCounter,
    pub bad_records: IntCounterVec,
    pub errors: IntCounter,
    pub processing_latency: Histogram,
    pub consumer_lag: IntGaugeVec,
    pub broker_up: IntGaugeVec,
    pub watermark: GaugeVec,
    pub watermark_lag: GaugeVec,
    pub frontier: GaugeVec,
    pub frontier_lag: GaugeVec,
    pub state_size: IntGaugeVec,
    pub windows_open: IntGaugeVec,
    pub windows_fired: IntCounter,
    pub results_early: IntCounter,
    pub windows_refined: IntCounter,
    pub results_retracted: IntCounter,
    pub batches_in_flight: IntGaugeVec,
    pub rows_in_flight: IntGaugeVec,
    pub view_rows: IntGaugeVec,
    pub view_frontier: GaugeVec,
    pub view_frontier_lag: GaugeVec,
    pub view_changes: IntCounterVec,
    pub results_sent: IntCounterVec,
    pub sink_latency: HistogramVec,
    pub sink_errors: IntCounterVec,
    pub checkpoint_duration: Histogram,
    pub checkpoint_size: IntGaugeVec,
    pub checkpoint_written: IntGaugeVec,
    pub checkpoint_age: GaugeVec,
    pub checkpoint_epoch: IntGaugeVec,
    pub checkpoints: IntCounterVec,
    pub checkpoint_failures: IntCounter,
    pub partitions_lost: IntCounter,
    pub records_lost: IntCounter,
}

/// Registers metrics. The names are constants of this file and the registry is new, so neither a bad nor a doubled name can
/// occur; a unit test makes every one of them.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("names, labels and buckets are constants that Prometheus accepts");
        self.0.register(Box::new(metric.clone())).expect("each name is registered once in a registry of its own");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn latency_options(name: &str, help: &str) -> HistogramOpts {
        HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec())
    }
}

impl Families {
    pub(super) fn register(registry: &Registry) -> Self {
        let make = Maker(registry);
        Families {
            events_processed: make.counter(
                "events_processed_total",
                "Events read and accepted for windows, on time or late within the allowed lateness.",
            ),
            events_late: make.counter(
                "events_late_total",
                "Events behind their partition's watermark that were accepted because of the allowed lateness.",
            ),
            events_dropped: make.counters(
                "events_dropped_total",
                "Events that no window took because of their time: late, expired or future.",
                &["reason", "topic", "partition"],
            ),
            events_refused: make.counters(
                "events_refused_total",
                "Events that came too late for this window definition while others took them.",
                &["window", "reason", "topic", "partition"],
            ),
            events_in_no_window: make.counter(
                "events_in_no_window_total",
                "Events between two sliding windows whose slide is longer than their size.",
            ),
            events_filtered: make.counter("events_filtered_total", "Events that the configured filter left out."),
            tombstones: make.counter("tombstones_total", "Records without a value, passed over."),
            bad_records: make.counters(
                "bad_records_total",
                "Records that could not be read: malformed, missing_timestamp, missing_key, missing_value, not_a_number, \
                 too_large.",
                &["reason", "topic", "partition"],
            ),
            errors: make.counter("errors_total", "Errors of any kind: bad records, failed writes, lost connections."),
            processing_latency: make.keep(Histogram::with_opts(Maker::latency_options(
                "processing_latency_seconds",
                "Seconds from reading the first record of a batch until its rows are in their windows; one observation a \
                 batch.",
            ))),
            consumer_lag: make.int_gauges(
                "kafka_consumer_lag",
                "Records of the partition that are not read yet: the broker's end offset minus the position.",
                PARTITION,
            ),
            broker_up: make.int_gauges(
                "broker_up",
                "1 while at least one Kafka broker answers, 0 while none does; by connection: consumer, or producer as of its latest delivery.",
                &["connection"],
            ),
            watermark: make.gauges(
                "watermark_seconds",
                "The partition's watermark, in seconds since 1970: no event before it is expected.",
                PARTITION,
            ),
            watermark_lag: make.gauges(
                "watermark_lag_seconds",
                "Seconds by which the partition's watermark is behind the wall clock.",
                PARTITION,
            ),
            frontier: make.gauges(
                "frontier_seconds",
                "The operator's frontier in event time, in seconds since 1970: the least over all workers.",
                OPERATOR,
            ),
            frontier_lag: make.gauges(
                "frontier_lag_seconds",
                "Seconds by which the operator's frontier is behind the wall clock.",
                OPERATOR,
            ),
            state_size: make.int_gauges("state_size_bytes", "Bytes of window state the worker holds.", WORKER),
            windows_open: make.int_gauges(
                "windows_open",
                "Windows (one a key and interval) whose state the worker holds.",
                WORKER,
            ),
            windows_fired: make.counter("windows_fired_total", "Windows that fired because the frontier reached their end."),
            results_early: make.counter(
                "results_early_total",
                "Results before their window's end, because a trigger asked for them.",
            ),
            windows_refined: make.counter(
                "windows_refined_total",
                "Results sent again, with a higher revision, because of a late event.",
            ),
            results_retracted: make.counter(
                "results_retracted_total",
                "Results taken back, because their session became part of another.",
            ),
            batches_in_flight: make.int_gauges(
                "batches_in_flight",
                "Batches the worker has sent into the dataflow that no window has taken yet.",
                WORKER,
            ),
            rows_in_flight: make.int_gauges(
                "rows_in_flight",
                "Rows the worker has sent into the dataflow that no window has taken yet; bounded by buffer_size.",
                WORKER,
            ),
            view_rows: make.int_gauges("view_rows", "Rows of the view, of all windows that it retains.", VIEW),
            view_frontier: make.gauges(
                "view_frontier_seconds",
                "The closed frontier at which the view last changed, in event time, in seconds since 1970.",
                VIEW,
            ),
            view_frontier_lag: make.gauges(
                "view_frontier_lag_seconds",
                "Seconds by which the frontier of the view's last change is behind the wall clock.",
                VIEW,
            ),
            view_changes: make.counters(
                "view_changes_total",
                "Changes of the view that its sinks are told of: rows that came (insert) and went (delete).",
                &["view", "op"],
            ),
            results_sent: make.counters("results_sent_total", "Results the sink has acknowledged.", SINK),
            sink_latency: make.keep(HistogramVec::new(
                Maker::latency_options("sink_latency_seconds", "Seconds from handing a batch of results to the sink until it is acknowledged."),
                SINK,
            )),
            sink_errors: make.counters("sink_errors_total", "Writes to the sink that failed, retried or not.", SINK),
            checkpoint_duration: make.keep(Histogram::with_opts(
                HistogramOpts::new(
                    "checkpoint_duration_seconds",
                    "Seconds from the announcement that an epoch ends until its checkpoint is published.",
                )
                .buckets(CHECKPOINT_BUCKETS.to_vec()),
            )),
            checkpoint_size: make.int_gauges("checkpoint_size_bytes", "Bytes of all of the newest checkpoint.", NO_LABELS),
            checkpoint_written: make.int_gauges(
                "checkpoint_written_bytes",
                "Bytes of records that were written for the newest checkpoint; what has not changed is shared with those before.",
                NO_LABELS,
            ),
            checkpoint_age: make.gauges(
                "checkpoint_age_seconds",
                "Seconds since the newest checkpoint was published: as much input is read again after a crash.",
                NO_LABELS,
            ),
            checkpoint_epoch: make.int_gauges("checkpoint_epoch", "The number of the newest checkpoint.", NO_LABELS),
            checkpoints: make.counters(
                "checkpoints_total",
                "What became of checkpoints: published; failed, an attempt that is made again; overdue, longer than \
                 checkpoint_timeout.",
                &["outcome"],
            ),
            checkpoint_failures: make.counter(
                "checkpoint_failures_total",
                "Attempts for a checkpoint that failed, and checkpoints that were overdue.",
            ),
            partitions_lost: make.counter(
                "source_partitions_lost_total",
                "Partitions that could not go on from their cuts, where the loss was accepted.",
            ),
            records_lost: make.counter(
                "source_records_lost_total",
                "Records that were gone when the job went on from a checkpoint, where the loss was accepted and their number is known.",
            ),
        }
    }
}
