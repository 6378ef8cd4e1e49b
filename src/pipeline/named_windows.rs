//! One of several windows over the events of a pipeline.

use crate::config::{AggregateKind, AggregationConfig, LatePolicy, WindowConfig, WindowDefinition, WindowKind};
use crate::sink::{IntoSinkSpec, SinkSpec};
use crate::time::Span;
use crate::window::{Triggers, WindowTrigger};
use std::sync::Arc;
use std::time::Duration;

/// Windows with a name, over the same events as those of other names: with their own lateness, aggregates and sinks, or those of
/// the pipeline. Results carry the name ([`AggregationResult::window`](crate::AggregationResult)'s `name`).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
/// use llm_optimizer_processor::*;
/// use chrono::{Duration as Length, DateTime, Utc};
/// use std::time::Duration;
///
/// let noon: DateTime<Utc> = "2026-09-21T12:00:00Z".parse().unwrap();
/// let events = (0..240).map(move |n| FeedbackEvent::new(noon + Length::seconds(n), "gateway", "metric").with("cost_usd", 1));
/// let summary = create_pipeline::<FeedbackEvent>()
///     .with_iterator_source(events)
///     .with_named_windows(NamedWindows::tumbling("minutely", Duration::from_secs(60)))
///     .with_named_windows(
///         NamedWindows::session("visits", Duration::from_secs(30)).with_aggregates([AggregateKind::Count]),
///     )
///     .with_sink(StdoutSink)
///     .build()?
///     .run()
///     .await?;
/// // Four minutes, and one session.
/// assert_eq!(summary.windows, 5);
/// # Ok(()) }
/// ```
#[must_use = "windows are part of a pipeline once it was told of them"]
pub struct NamedWindows {
    name: String,
    windows: WindowConfig,
    enabled: Option<Vec<AggregateKind>>,
    percentiles: Option<Vec<f64>>,
    sinks: Vec<SinkSpec>,
    triggers: Triggers,
    problems: Vec<String>,
}

impl NamedWindows {
    /// Windows of any kind. Names are 1 to 100 letters, digits, `.`, `_` or `-`.
    pub fn new(name: impl Into<String>, kind: WindowKind) -> Self {
        let windows = WindowConfig::of(kind);
        let (enabled, percentiles) = (None, None);
        Self {
            name: name.into(),
            windows,
            enabled,
            percentiles,
            sinks: Vec::new(),
            triggers: Triggers::default(),
            problems: Vec::new(),
        }
    }

    /// Fixed windows of `size` that do not overlap; at least a millisecond.
    pub fn tumbling(name: impl Into<String>, size: Duration) -> Self {
        Self::new(name, WindowKind::tumbling(size.into())).positive(&[("size", size)])
    }

    /// Windows of `size`, one every `slide`; each at least a millisecond.
    pub fn sliding(name: impl Into<String>, size: Duration, slide: Duration) -> Self {
        Self::new(name, WindowKind::sliding(size.into(), slide.into())).positive(&[("size", size), ("slide", slide)])
    }

    /// Windows of activity, ended by a silence of `gap`, at least a millisecond.
    pub fn session(name: impl Into<String>, gap: Duration) -> Self {
        Self::new(name, WindowKind::session(gap.into())).positive(&[("gap", gap)])
    }

    fn positive(mut self, durations: &[(&str, Duration)]) -> Self {
        for (what, duration) in durations.iter().filter(|(_, duration)| Span::from(*duration).is_zero()) {
            let problem =
                format!("a {what} of {duration:?} of the windows `{}`; at least 1 ms would be right", self.name);
            self.problems.push(problem);
        }
        self
    }

    /// How long after a window's end late events still make refinements of it; none by default.
    pub fn with_allowed_lateness(mut self, lateness: Duration) -> Self {
        self.windows.allowed_lateness = lateness.into();
        self
    }

    /// What becomes of late events within the allowed lateness; by default each makes a window that has fired emit again.
    pub fn with_late_policy(mut self, policy: LatePolicy) -> Self {
        self.windows.late_policy = policy;
        self
    }

    /// These built-in aggregates instead of the pipeline's; custom ones are computed for all windows.
    pub fn with_aggregates(mut self, kinds: impl IntoIterator<Item = AggregateKind>) -> Self {
        self.enabled = Some(kinds.into_iter().collect());
        self
    }

    /// These percentiles, 0 to 100, in ascending order, instead of the pipeline's.
    pub fn with_percentiles(mut self, percentiles: impl IntoIterator<Item = f64>) -> Self {
        self.percentiles = Some(percentiles.into_iter().collect());
        self
    }

    /// Makes these windows emit before their end; see [`WindowTrigger`]. Several add up: any of them may. Without one, the
    /// pipeline's do.
    pub fn with_trigger(mut self, trigger: impl WindowTrigger) -> Self {
        self.triggers.0.push(Arc::new(trigger));
        self
    }

    /// What makes them emit before their end.
    pub(super) fn triggers(&self) -> Triggers {
        self.triggers.clone()
    }

    /// A sink for these results. Windows with sinks of their own do not write to those of the pipeline.
    pub fn with_sink(mut self, sink: impl IntoSinkSpec) -> Self {
        self.sinks.push(sink.into_sink_spec());
        self
    }

    /// What the pipeline runs. Sinks of its own are added to `sinks`, of which the first `of_all` are the pipeline's.
    pub(super) fn define(
        self,
        aggregation: &AggregationConfig,
        of_all: usize,
        sinks: &mut Vec<SinkSpec>,
        problems: &mut Vec<String>,
    ) -> WindowDefinition {
        problems.extend(self.problems);
        let own = sinks.len()..sinks.len() + self.sinks.len();
        let places = if self.sinks.is_empty() { 0..of_all } else { own };
        if places.is_empty() {
            problems
                .push(format!("no sink for the windows `{}`: call .with_sink(..) on them or the pipeline", self.name));
        }
        sinks.extend(self.sinks);
        let enabled = self.enabled.unwrap_or_else(|| aggregation.enabled.clone());
        let percentiles = match (self.percentiles, enabled.contains(&AggregateKind::Percentile)) {
            (Some(percentiles), _) => percentiles,
            (None, true) => aggregation.percentiles.clone(),
            (None, false) => Vec::new(),
        };
        WindowDefinition {
            name: Some(self.name.into()),
            windows: self.windows,
            aggregation: AggregationConfig { enabled, percentiles, relative_error: aggregation.relative_error },
            sinks: Some(places.collect()),
        }
    }
}
