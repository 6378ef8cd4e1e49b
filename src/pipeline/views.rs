//! Views of a pipeline: what is made of its results.

use super::PipelineBuilder;
use super::builder::{RIGHT_NAME, is_name};
use crate::config::ViewConfig;
use crate::event::DefinitionIndex;
use crate::sink::{IntoSinkSpec, SinkSpec};
use crate::time::Span;
use crate::view::check::{DEFAULT_RETAIN, step_of};
use crate::view::{
    Baseline, Compare, Facts, Leaderboard, OwnView, Program, Regressed, Rollup, View, ViewKind, ViewRows,
};
use std::sync::Arc;
use std::time::Duration;

/// A view over the results of a pipeline: it stays right when late events revise them. Its changes go to the sinks of the pipeline, or
/// to its own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
/// use llm_optimizer_processor::*;
/// use chrono::{DateTime, Duration as Length, Utc};
/// use std::time::Duration;
///
/// # let directory = std::env::temp_dir().join(format!("llm-optimizer-processor-views-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// # let path = directory.join("slowest.jsonl");
/// let noon: DateTime<Utc> = "2026-09-21T12:00:00Z".parse().unwrap();
/// let events = (0..600).map(move |n| {
///     FeedbackEvent::new(noon + Length::seconds(n), format!("gateway-{}", n % 7), "metric").with("latency_ms", n % 7)
/// });
/// create_pipeline::<FeedbackEvent>()
///     .with_iterator_source(events)
///     .with_tumbling_window(Duration::from_secs(300))
///     .with_view(ViewSpec::leaderboard("slowest", "average", 1).with_sink(FileSink::append(&path)))
///     .with_sink(StdoutSink)
///     .build()?
///     .run()
///     .await?;
///
/// let changes = std::fs::read_to_string(&path).unwrap();
/// assert_eq!(changes.lines().count(), 2, "one for each window");
/// assert!(changes.contains(r#""key":{"source":"gateway-6","event_type":"metric"},"row":{"rank":1,"average":6.0},"op":"insert""#));
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok(()) }
/// ```
#[must_use = "a view is part of a pipeline once it was told of it"]
pub struct ViewSpec {
    name: String,
    window: Option<String>,
    retain: Option<Duration>,
    kind: ViewKind,
    sinks: Vec<SinkSpec>,
    problems: Vec<String>,
}

impl ViewSpec {
    fn new(name: impl Into<String>, kind: ViewKind) -> Self {
        Self { name: name.into(), window: None, retain: None, kind, sinks: Vec::new(), problems: Vec::new() }
    }

    /// The `top` keys of each window with the largest figure `by`: `average`, `latency_ms.p95`, ... Of equal ones the key is
    /// first whose text is.
    pub fn leaderboard(name: impl Into<String>, by: &str, top: usize) -> Self {
        let view = Leaderboard { by: by.into(), top, smallest: false, per: Vec::new() };
        Self::new(name, ViewKind::Leaderboard(view))
    }

    /// Each key's figure `of` against the key's `previous` windows.
    pub fn baseline(name: impl Into<String>, of: &str, previous: u32) -> Self {
        let step = Span::from_millis(1);
        Self::new(
            name,
            ViewKind::Baseline(Baseline { of: of.into(), count: previous, daily: false, step, regressed: None }),
        )
    }

    /// Each key's figure `of` against the windows at the same time on the `days` before.
    pub fn daily_baseline(name: impl Into<String>, of: &str, days: u32) -> Self {
        let step = Span::from_millis(1);
        Self::new(name, ViewKind::Baseline(Baseline { of: of.into(), count: days, daily: true, step, regressed: None }))
    }

    /// The aggregates over the key fields of these names alone.
    pub fn rollup<'a>(name: impl Into<String>, keep: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(name, ViewKind::Rollup(Rollup { by: keep.into_iter().map(Into::into).collect() }))
    }

    /// Two groups side by side, which differ in one key field.
    pub fn compare(name: impl Into<String>, field: &str, champion: &str, challenger: &str) -> Self {
        let (champion, challenger) = (champion.into(), challenger.into());
        Self::new(name, ViewKind::Compare(Compare { field: field.into(), champion, challenger, of: None }))
    }

    /// A program of one's own over the results as they stand. Window and key together must have one row at most.
    ///
    /// ```
    /// use llm_optimizer_processor::ViewSpec;
    /// use llm_optimizer_processor::view::{Figure, ViewRow};
    ///
    /// // How many keys each window has.
    /// let view = ViewSpec::own("keys", |facts| {
    ///     facts.map(|fact| (fact.window, ())).reduce(|_window, keys, counted| counted.push((keys[0].1 as u64, 1))).map(
    ///         |(window, keys)| ViewRow {
    ///             window,
    ///             key: llm_optimizer_processor::GroupingKey::everything(),
    ///             names: ["keys".into()].into(),
    ///             figures: [Figure::Count(keys)].into(),
    ///         },
    ///     )
    /// });
    /// # drop(view);
    /// ```
    pub fn own(
        name: impl Into<String>,
        program: impl for<'scope> Fn(Facts<'scope>) -> ViewRows<'scope> + Send + Sync + 'static,
    ) -> Self {
        let program: Program = Arc::new(program);
        Self::new(name, ViewKind::Own(OwnView { program, reach: Span::ZERO, version: "1".into() }))
    }

    /// Of a program of one's own: how long before a window the windows end that its rows depend on.
    pub fn with_reach(mut self, reach: Duration) -> Self {
        match &mut self.kind {
            ViewKind::Own(own) => own.reach = reach.into(),
            _ => self.foreign("with_reach", "own"),
        }
        self
    }

    /// Of a program of one's own: what checkpoints know it by. A program that makes something else of the results needs another.
    pub fn with_version(mut self, version: &str) -> Self {
        match &mut self.kind {
            ViewKind::Own(own) => own.version = version.into(),
            _ => self.foreign("with_version", "own"),
        }
        self
    }

    /// Of a leaderboard: the smallest figure is the best.
    pub fn smallest(mut self) -> Self {
        match &mut self.kind {
            ViewKind::Leaderboard(view) => view.smallest = true,
            _ => self.foreign("smallest", "leaderboard"),
        }
        self
    }

    /// Of a leaderboard: one for each of these key fields' values.
    pub fn per<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        match &mut self.kind {
            ViewKind::Leaderboard(view) => view.per = fields.into_iter().map(Into::into).collect(),
            _ => self.foreign("per", "leaderboard"),
        }
        self
    }

    /// Of a baseline: when a window has regressed.
    pub fn regressed(mut self, regressed: Regressed) -> Self {
        match &mut self.kind {
            ViewKind::Baseline(view) => view.regressed = Some(regressed),
            _ => self.foreign("regressed", "baseline"),
        }
        self
    }

    /// Of a comparison: the value field, where results have several.
    pub fn of(mut self, field: &str) -> Self {
        match &mut self.kind {
            ViewKind::Compare(view) => view.of = Some(field.into()),
            _ => self.foreign("of", "compare"),
        }
        self
    }

    fn foreign(&mut self, method: &str, kind: &str) {
        let problem = format!("view {:?}: .{method}(..) has no meaning for a view that is no {kind}", self.name);
        self.problems.push(problem);
    }

    /// The name of the windows whose results it reads, where there are several.
    pub fn over(mut self, window: impl Into<String>) -> Self {
        self.window = Some(window.into());
        self
    }

    /// How long after its end, in event time, a window stays in the view: an hour, or as long as late events are accepted, unless said
    /// otherwise.
    pub fn retain(mut self, retain: Duration) -> Self {
        self.retain = Some(retain);
        self
    }

    /// A sink of its own, instead of those of the pipeline. Several calls add up.
    pub fn with_sink(mut self, sink: impl IntoSinkSpec) -> Self {
        self.sinks.push(sink.into_sink_spec());
        self
    }
}

impl<T> PipelineBuilder<T> {
    /// One more view of the results.
    pub fn with_view(mut self, view: ViewSpec) -> Self {
        self.views.push(view);
        self
    }

    /// Takes down the views; after the windows.
    pub(super) fn define_views(&mut self) {
        let of_all: Vec<usize> = self
            .config
            .definitions
            .first()
            .and_then(|first| first.sinks.clone())
            .map_or_else(|| (0..self.sinks.len()).collect(), |_| (0..self.sinks_of_all).collect());
        let shared = self.sinks.len();
        for spec in std::mem::take(&mut self.views) {
            self.define_view(spec, &of_all);
        }
        if self.config.definitions.is_empty() && self.sinks.len() > shared {
            self.config.sinks_of_windows = Some(of_all);
        }
    }

    fn define_view(&mut self, spec: ViewSpec, of_all: &[usize]) {
        let ViewSpec { name, window, retain, mut kind, sinks, problems } = spec;
        self.problems.extend(problems);
        if !is_name(&name) {
            self.problems.push(format!("the name {name:?} of a view; {RIGHT_NAME}"));
        }
        if self.config.views.iter().any(|other| *other.view.name == *name) {
            self.problems.push(format!("two views are called {name:?}; a name of its own for each would be right"));
        }
        let definitions = self.config.window_definitions();
        let place = match &window {
            None if definitions.len() == 1 => Some(0),
            None => None,
            Some(window) => definitions.iter().position(|of| of.name.as_deref() == Some(&**window)),
        };
        let Some(place) = place else {
            let names: Vec<&str> = definitions.iter().filter_map(|of| of.name.as_deref()).collect();
            self.problems
                .push(format!("view {name:?} does not say which windows; .over(one of {names:?}) would be right"));
            return;
        };
        let windows = &definitions[place].windows;
        if let ViewKind::Baseline(baseline) = &mut kind {
            baseline.step = step_of(windows).unwrap_or(baseline.step);
        }
        let retain = retain.map_or(DEFAULT_RETAIN.max(windows.allowed_lateness), Span::from);
        let own: Vec<usize> = (self.sinks.len()..self.sinks.len() + sinks.len()).collect();
        self.sinks.extend(sinks);
        let sinks = Some(if own.is_empty() { of_all.to_vec() } else { own });
        let view = View { name: name.into(), definition: DefinitionIndex::of(place), retain, kind };
        self.config.views.push(ViewConfig { view, sinks });
    }
}
