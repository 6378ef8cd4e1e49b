//! The builder's settings: windows, time, aggregates, workers.

use super::builder::{RIGHT_NAME, is_name};
use super::{NamedWindows, PipelineBuilder};
use crate::aggregate::CustomAggregate;
use crate::checkpoint::StartOptions;
use crate::config::{AggregateKind, AggregationConfig, Delivery, ErrorPolicy, LatePolicy, WindowKind};
use crate::metrics::ProcessorMetrics;
use crate::sink::RetryPolicy;
use crate::state::StateBackend;
use crate::time::{BoundedOutOfOrdernessWatermark, Span};
use crate::window::WindowTrigger;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Settings. Each has the default of a configuration file.
impl<T: Send + 'static> PipelineBuilder<T> {
    /// How far out of order events may be; 30 s by default.
    pub fn with_watermark_generator(mut self, generator: BoundedOutOfOrdernessWatermark) -> Self {
        self.config.watermark.max_out_of_orderness = generator.max_out_of_orderness();
        self
    }

    /// Fixed windows of `size` that do not overlap; at least a millisecond. By default it is 5 minutes.
    pub fn with_tumbling_window(mut self, size: Duration) -> Self {
        let size = self.positive("a tumbling window's size", size);
        self.has_windows = true;
        self.config.windows.kind = WindowKind::tumbling(size);
        self
    }

    /// Windows of `size`, one every `slide`; each at least a millisecond. Where the slide is longer than the size, events between
    /// two windows are in none.
    pub fn with_sliding_window(mut self, size: Duration, slide: Duration) -> Self {
        let (size, slide) =
            (self.positive("a sliding window's size", size), self.positive("a sliding window's slide", slide));
        self.has_windows = true;
        self.config.windows.kind = WindowKind::sliding(size, slide);
        self
    }

    /// Windows of activity, ended by a silence of `gap`, at least a millisecond.
    pub fn with_session_window(mut self, gap: Duration) -> Self {
        let gap = self.positive("a session window's gap", gap);
        self.has_windows = true;
        self.config.windows.kind = WindowKind::session(gap);
        self
    }

    /// Any kind of window with all that can be said of it: offsets, a time zone, a maximum length of sessions.
    pub fn with_windows(mut self, kind: WindowKind) -> Self {
        self.has_windows = true;
        self.config.windows.kind = kind;
        self
    }

    /// Windows with a name, over the same events as others with other names. Several add up; each event is read and sent to them
    /// once.
    pub fn with_named_windows(mut self, windows: NamedWindows) -> Self {
        self.named.push(windows);
        self
    }

    /// Makes windows emit before their end: [`EveryEvents`](crate::EveryEvents), [`EveryInterval`](crate::EveryInterval),
    /// [`WhenComplete`](crate::WhenComplete), or a [`WindowTrigger`] of the program's own. Several add up: any of them may.
    pub fn with_trigger(mut self, trigger: impl WindowTrigger) -> Self {
        self.triggers.0.push(Arc::new(trigger));
        self
    }

    /// What becomes of late events within the allowed lateness; by default each makes a window that has fired emit again.
    pub fn with_late_policy(mut self, policy: LatePolicy) -> Self {
        self.config.windows.late_policy = policy;
        self
    }

    fn positive(&mut self, what: &str, duration: Duration) -> Span {
        let span = Span::from(duration);
        if span.is_zero() {
            self.problems.push(format!("{what} of {duration:?}; at least 1 ms would be right"));
        }
        span
    }

    /// How long after a window's end late events still make refinements of it; none by default.
    pub fn with_allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = Some(lateness.into());
        self
    }

    /// The least time between two advances of the frontier; by default it advances with each batch.
    pub fn with_emit_interval(mut self, interval: Duration) -> Self {
        self.config.watermark.emit_interval = Some(interval);
        self
    }

    /// How far ahead of the wall clock a timestamp may be; an hour by default.
    pub fn with_max_future_skew(mut self, skew: Duration) -> Self {
        self.config.watermark.max_future_skew = skew.into();
        self
    }

    /// How long a partition of Kafka must have been silent, at its end, to hold nothing back any more; a minute by default,
    /// `None` is never.
    pub fn with_idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.watermark.idle_timeout = timeout;
        self
    }

    /// How long every partition of Kafka must have been idle for the windows that are open to be closed by the wall clock; never,
    /// by default and for `None`: then they wait for the next event.
    pub fn with_close_idle_after(mut self, idle_for: Option<Duration>) -> Self {
        self.config.watermark.close_idle_after = idle_for;
        self
    }

    /// Which aggregates are computed; by default all, with p50, p95 and p99.
    pub fn with_aggregation(mut self, aggregation: AggregationConfig) -> Self {
        self.config.aggregation = aggregation;
        self
    }

    /// These built-in aggregates alone. [`AggregateKind::Percentile`] stands for p50, p95 and p99 unless
    /// [`PipelineBuilder::with_percentiles`] says otherwise. None is right where there are custom ones.
    pub fn with_aggregates(mut self, kinds: impl IntoIterator<Item = AggregateKind>) -> Self {
        self.config.aggregation.enabled = kinds.into_iter().collect();
        self
    }

    /// These percentiles, 0 to 100, in ascending order.
    pub fn with_percentiles(mut self, percentiles: impl IntoIterator<Item = f64>) -> Self {
        self.config.aggregation.percentiles = percentiles.into_iter().collect();
        self
    }

    /// One more aggregate, of the program's own.
    pub fn with_custom_aggregate<A: CustomAggregate>(mut self, aggregate: A) -> Self {
        self.customs.push(Box::new(move |plan| plan.with_custom(aggregate)));
        self
    }

    /// Where state lives. With [`RocksDBStateBackend`](crate::state::RocksDBStateBackend) the pipeline takes checkpoints, goes on from the
    /// newest one when it is started again, and may deliver exactly once; each pipeline needs a backend with directories of its
    /// own. With others the windows are in memory alone.
    pub fn with_state_backend(mut self, backend: Arc<dyn StateBackend>) -> Self {
        self.state = Some(backend);
        self
    }

    /// How often checkpoints are taken; a minute by default, where there is a backend for them.
    pub fn with_checkpoint_interval(mut self, interval: Duration) -> Self {
        self.positive("an interval of checkpoints", interval);
        self.config.checkpoint_interval = Some(interval);
        self
    }

    /// How results are delivered; at least once by default. [`Delivery::ExactlyOnce`] needs a backend that takes checkpoints, and sinks
    /// that can do it: Kafka, files that are appended to, and those of one's own that implement [`EpochSink`](crate::EpochSink).
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.config.delivery = delivery;
        self
    }

    /// What a pipeline that takes checkpoints goes on from; the newest by default.
    pub fn with_start(mut self, start: StartOptions) -> Self {
        self.start = start;
        self
    }

    /// Worker threads, 1 to 1024; by default one a core.
    pub fn with_parallelism(mut self, workers: usize) -> Self {
        match NonZeroUsize::new(workers).filter(|workers| workers.get() <= 1024) {
            Some(workers) => self.config.parallelism = workers,
            None => self.problems.push(format!("a parallelism of {workers}; 1 to 1024 would be right")),
        }
        self
    }

    /// Rows that may be in flight per worker, at least 1; 10,000 by default.
    pub fn with_buffer_size(mut self, rows: usize) -> Self {
        match NonZeroUsize::new(rows) {
            Some(rows) => self.config.buffer_size = rows,
            None => self.problems.push("a buffer size of 0; at least 1 would be right".to_owned()),
        }
        self
    }

    /// The job's name, in client ids and headers of Kafka: 1 to 100 letters, digits, `.`, `_` or `-`; `processor` by default.
    pub fn with_job_name(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        if !is_name(&name) {
            self.problems.push(format!("the job's name {name:?}; {RIGHT_NAME}"));
        }
        self.config.job = name;
        self
    }

    /// What becomes of records that cannot be read; they are counted and passed over by default.
    pub fn with_error_policy(mut self, policy: ErrorPolicy) -> Self {
        self.config.error_handling.policy = policy;
        self
    }

    /// How writes to sinks that fail are tried again; 5 times by default, after 100 ms, 200 ms, ...
    pub fn with_retry_policy(mut self, retry: RetryPolicy) -> Self {
        let errors = &mut self.config.error_handling;
        errors.max_retries = retry.max_retries;
        errors.initial_retry_delay = retry.initial_delay;
        errors.max_retry_delay = retry.max_delay;
        self
    }

    /// Serves `/metrics`, `/health`, `/ready` and `/frontiers` here while the pipeline runs; nowhere by default.
    pub fn with_metrics_listen(mut self, address: SocketAddr) -> Self {
        self.config.metrics.enabled = true;
        self.config.metrics.listen = address;
        self
    }

    /// Counts into `metrics` instead of new ones, which [`Pipeline::metrics`](super::Pipeline::metrics) gives.
    pub fn with_metrics(mut self, metrics: ProcessorMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }
}
