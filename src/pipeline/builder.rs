//! The builder: sources, the meaning of events, sinks; what else can be set is in `settings`.

use super::Pipeline;
use super::input::{MakeDecoder, MemoryInput, PayloadInput};
use super::mapping::{Mapping, ReadJson, read_json};
use super::named_windows::NamedWindows;
use super::views::ViewSpec;
use crate::aggregate::AggregatePlan;
use crate::checkpoint::StartOptions;
use crate::config::{ConsumerConfig, Delivery, ErrorPolicy, FileMode, ProcessorConfig, SourceConfig, StateBackendKind};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, GroupingKey, JsonDecoder, ValueSink};
use crate::metrics::ProcessorMetrics;
use crate::runtime::{ConfiguredInput, Input, Job, SinkPlan};
use crate::sink::{DeadLetterSink, IntoSinkSpec, LateEventHandler, SideSpec, SinkSpec};
use crate::source::memory::EventInput;
use crate::state::{PipelineDirectories, StateBackend};
use crate::time::{EventTime, Span};
use crate::window::{Naming, Triggers};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Begins a pipeline for events of type `T`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
/// use llm_optimizer_processor::*;
/// use chrono::{DateTime, Utc};
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// /// A program's own event.
/// struct Call { at: DateTime<Utc>, model: &'static str, millis: f64 }
///
/// /// A program's own sink.
/// struct Kept(Arc<Mutex<Vec<AggregationResult>>>);
///
/// #[async_trait]
/// impl EventSink<AggregationResult> for Kept {
///     async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
///         self.0.lock().unwrap().push(result);
///         Ok(())
///     }
/// }
///
/// let calls = (0..100).map(|n| Call { at: DateTime::UNIX_EPOCH, model: "claude-3-opus", millis: f64::from(n) });
/// let results = Arc::new(Mutex::new(Vec::new()));
/// let pipeline = create_pipeline::<Call>()
///     .with_iterator_source(calls)
///     .with_timestamp(|call| call.at)
///     .with_key(|call| GroupingKey::from_fields(&[("model", call.model)]))
///     .with_values(|call, values| values.add("millis", call.millis))
///     .with_tumbling_window(Duration::from_secs(60))
///     .with_sink(Kept(Arc::clone(&results)))
///     .build()?;
/// let summary = pipeline.run().await?;
///
/// assert_eq!(summary.events, 100);
/// let results = results.lock().unwrap();
/// assert_eq!(results[0].results["average"], 49.5);
/// # Ok(()) }
/// ```
pub fn create_pipeline<T: Send + 'static>() -> PipelineBuilder<T> {
    PipelineBuilder {
        config: ProcessorConfig::of_the_library(),
        origin: None,
        mapping: Mapping::initial(),
        sinks: Vec::new(),
        named: Vec::new(),
        views: Vec::new(),
        sinks_of_all: 0,
        triggers: Triggers::default(),
        triggers_of_each: Vec::new(),
        late: None,
        dead_letter: None,
        customs: Vec::new(),
        lateness: None,
        has_windows: false,
        metrics: None,
        state: None,
        start: StartOptions::default(),
        problems: Vec::new(),
    }
}

/// A pipeline that is being put together; see [`create_pipeline`].
///
/// What is set twice has its last value; sources, sinks and custom aggregates add up. What is not set has the default of a
/// configuration file: tumbling windows of 5 minutes, 30 s out of order, all aggregates with p50, p95 and p99, as many workers
/// as the machine has cores.
#[must_use = "a builder does nothing until its pipeline is built and run"]
pub struct PipelineBuilder<T> {
    pub(super) config: ProcessorConfig,
    origin: Option<Origin<T>>,
    mapping: Mapping<T>,
    pub(super) sinks: Vec<SinkSpec>,
    pub(super) named: Vec<NamedWindows>,
    pub(super) views: Vec<ViewSpec>,
    /// How many sinks are those of all windows.
    pub(super) sinks_of_all: usize,
    pub(super) triggers: Triggers,
    /// Those of each window definition.
    triggers_of_each: Vec<Triggers>,
    late: Option<SideSpec>,
    dead_letter: Option<SideSpec>,
    pub(super) customs: Vec<AddCustom>,
    /// For windows of whichever kind.
    pub(super) lateness: Option<Span>,
    /// Whether windows without a name were asked for.
    pub(super) has_windows: bool,
    pub(super) metrics: Option<ProcessorMetrics>,
    pub(super) state: Option<Arc<dyn StateBackend>>,
    /// What it goes on from.
    pub(super) start: StartOptions,
    /// What cannot work, for the one error that [`PipelineBuilder::build`] gives.
    pub(super) problems: Vec<String>,
}

/// How often checkpoints are taken where nothing is said.
const DEFAULT_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

/// What a name of a job or of windows is.
pub(super) fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// What would be right for a name.
pub(super) const RIGHT_NAME: &str = "1 to 100 letters, digits, '.', '_' or '-' would be right";

/// Adds a custom aggregate.
pub(super) type AddCustom = Box<dyn FnOnce(AggregatePlan) -> ProcessorResult<AggregatePlan> + Send>;

/// Where events come from.
enum Origin<T> {
    Kafka(ConsumerConfig, ReadJson<T>),
    Files(Vec<String>, ReadJson<T>),
    Memory(EventInput<T>),
}

impl<T> Origin<T> {
    fn what(&self) -> &'static str {
        match self {
            Origin::Kafka(..) => "Kafka",
            Origin::Files(..) => "files",
            Origin::Memory(_) => "iterators and channels",
        }
    }
}

/// Sources of events as JSON.
impl<T: DeserializeOwned + Send + 'static> PipelineBuilder<T> {
    /// Events are records of Kafka topics, each the JSON text of a `T`.
    pub fn with_kafka_source(self, consumer: ConsumerConfig) -> Self {
        self.with_origin(Origin::Kafka(consumer, read_json))
    }

    /// Events are the lines of files, each the JSON text of a `T`: a path or a glob; plain, `.gz` or `.zst`. Each file is a
    /// partition with a watermark of its own. Several calls add up.
    pub fn with_file_source(self, path: impl Into<String>) -> Self {
        self.with_origin(Origin::Files(vec![path.into()], read_json))
    }
}

/// Sources of events that are in the program already, the meaning of events, and sinks.
impl<T: Send + 'static> PipelineBuilder<T> {
    /// Events are the items of an iterator, which is one partition. It is asked for items on a worker's thread: one that blocks
    /// blocks the worker. Several iterators and channels add up.
    pub fn with_iterator_source(self, events: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        self.with_origin(Origin::Memory(EventInput::from_events(events)))
    }

    /// Events are the items of several iterators, each a partition with a watermark of its own.
    pub fn with_partitions<E>(self, partitions: impl IntoIterator<Item = E>) -> Self
    where
        E: IntoIterator<Item = T, IntoIter: Send + 'static>,
    {
        self.with_origin(Origin::Memory(EventInput::with_partitions(partitions)))
    }

    /// Events come through a channel of the crate `crossbeam-channel`, which is one partition; it ends when all senders are
    /// gone. A bounded channel makes its senders wait for a slow pipeline.
    pub fn with_channel_source(self, events: crossbeam_channel::Receiver<T>) -> Self {
        self.with_origin(Origin::Memory(EventInput::from_channel(events)))
    }

    /// Events come through a channel of tokio's, which is one partition; it ends when all senders are gone.
    pub fn with_tokio_channel_source(self, events: tokio::sync::mpsc::Receiver<T>) -> Self {
        self.with_origin(Origin::Memory(EventInput::from_tokio_channel(events)))
    }

    fn with_origin(mut self, new: Origin<T>) -> Self {
        self.origin = match (self.origin.take(), new) {
            (None, new) => Some(new),
            (Some(Origin::Files(mut paths, read)), Origin::Files(more, _)) => {
                paths.extend(more);
                Some(Origin::Files(paths, read))
            }
            (Some(Origin::Memory(events)), Origin::Memory(more)) => Some(Origin::Memory(events.and(more))),
            (Some(old @ Origin::Kafka(..)), Origin::Kafka(..)) => {
                let problem = "two sources of Kafka; one that names all topics would be right";
                self.problems.push(problem.into());
                Some(old)
            }
            (Some(old), new) => {
                let problem = format!("sources of {} and of {}; one kind would be right", old.what(), new.what());
                self.problems.push(problem);
                Some(old)
            }
        };
        self
    }

    /// When an event happened: chrono's time or an [`EventTime`].
    pub fn with_timestamp<Time: Into<EventTime>>(
        mut self,
        timestamp: impl Fn(&T) -> Time + Send + Sync + 'static,
    ) -> Self {
        self.mapping.timestamp = Some(Arc::new(move |event| timestamp(event).into()));
        self.mapping.is_default = false;
        self
    }

    /// Which group an event is in; [`GroupingKey::everything`] is the one group of all.
    pub fn with_key(mut self, key: impl Fn(&T) -> GroupingKey + Send + Sync + 'static) -> Self {
        self.mapping.key = Some(Arc::new(key));
        self.mapping.is_default = false;
        self
    }

    /// What is aggregated: the closure adds an event's numbers by name. Where the events of a window have one name, results are
    /// called `average`; where they have several, `name.average`.
    pub fn with_values(mut self, values: impl Fn(&T, &mut ValueSink<'_>) + Send + Sync + 'static) -> Self {
        self.mapping.values = Some(Arc::new(values));
        self.mapping.is_default = false;
        self
    }

    /// Takes only the events for which `filter` returns true.
    pub fn with_filter(mut self, filter: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.mapping.filter = Some(Arc::new(filter));
        self.mapping.is_default = false;
        self
    }

    /// Writes an event of an iterator or a channel as bytes: the payload of late records and dead letters, which is empty
    /// without it. Records of Kafka and lines of files have their own bytes there.
    pub fn with_payload(mut self, payload: impl Fn(&T) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.mapping.payload = Some(Arc::new(payload));
        self
    }

    /// One more place for results: [`KafkaAggregationSink`](crate::sink::KafkaAggregationSink),
    /// [`FileSink`](crate::sink::FileSink), [`StdoutSink`](crate::sink::StdoutSink),
    /// [`ConsoleSink`](crate::sink::ConsoleSink), or an [`EventSink`](crate::sink::EventSink) of the program's own.
    pub fn with_sink(mut self, sink: impl IntoSinkSpec) -> Self {
        self.sinks.push(sink.into_sink_spec());
        self
    }

    /// Where records go that are too late, expired or of the future. Without it they are counted only.
    pub fn with_late_sink(mut self, late: SideSpec) -> Self {
        self.late = Some(late);
        self
    }

    /// What is done with events that are too late, expired or of the future: as [`PipelineBuilder::with_late_sink`], with a
    /// handler of the program's own, which may be a closure.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
    /// use llm_optimizer_processor::*;
    /// use chrono::{DateTime, Duration as Length, Utc};
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    ///
    /// let noon: DateTime<Utc> = "2026-09-21T12:00:00Z".parse().unwrap();
    /// let at = move |second| FeedbackEvent::new(noon + Length::seconds(second), "gateway", "metric").with("cost_usd", 1);
    /// let late = Arc::new(Mutex::new(Vec::new()));
    /// let kept = Arc::clone(&late);
    ///
    /// create_pipeline::<FeedbackEvent>()
    ///     .with_iterator_source([at(100), at(3), at(70)])
    ///     .with_watermark_generator(BoundedOutOfOrdernessWatermark::new(Duration::from_secs(30)))
    ///     .with_late_event_handler(move |event: SideRecord| {
    ///         kept.lock().unwrap().push((event.reason, event.late_by.map(Duration::from)));
    ///         Ok(())
    ///     })
    ///     .with_sink(StdoutSink)
    ///     .build()?
    ///     .run()
    ///     .await?;
    ///
    /// assert_eq!(*late.lock().unwrap(), [(Reason::Late, Some(Duration::from_secs(67)))]);
    /// # Ok(()) }
    /// ```
    pub fn with_late_event_handler(self, handler: impl LateEventHandler + 'static) -> Self {
        self.with_late_sink(SideSpec::late_events(handler))
    }

    /// What is done with records that cannot be read: as [`PipelineBuilder::with_dead_letter`], with a sink of the program's own,
    /// which may be a closure. Sets the policy [`ErrorPolicy::DeadLetter`].
    pub fn with_dead_letter_sink(self, sink: impl DeadLetterSink + 'static) -> Self {
        self.with_dead_letter(SideSpec::dead_letters(sink))
    }

    /// Where records go that cannot be read; sets the policy [`ErrorPolicy::DeadLetter`].
    pub fn with_dead_letter(mut self, dead_letter: SideSpec) -> Self {
        self.dead_letter = Some(dead_letter);
        self.config.error_handling.policy = ErrorPolicy::DeadLetter;
        self
    }

    /// Checks everything. Opens nothing, but looks for the files of a file source.
    ///
    /// # Errors
    /// [`ProcessorError::Config`] with a line for each mistake; [`ProcessorError::Unsupported`] for what this version does not
    /// do.
    pub fn build(mut self) -> ProcessorResult<Pipeline> {
        self.sinks_of_all = self.sinks.len();
        self.define();
        self.define_views();
        self.place_state();
        self.check();
        let plans = self.plans();
        let (input, naming) = match self.input() {
            Ok((input, naming)) => (Some(input), naming),
            Err(problems) => {
                self.problems.extend(problems);
                (None, Naming::AsTheyCome)
            }
        };
        let (Some(plans), Some(input), true) = (plans, input, self.problems.is_empty()) else {
            return Err(ProcessorError::Config(self.problems.join("\n")));
        };
        let sinks = SinkPlan::Given(self.sinks);
        let mut job = Job::new(self.config, input, plans, naming, Vec::new(), sinks)?
            .with_side_outputs(self.late, self.dead_letter)
            .with_triggers(self.triggers_of_each);
        job.start = self.start;
        if let Some(metrics) = self.metrics {
            job.metrics = metrics;
        }
        Ok(Pipeline::new(job, self.state))
    }

    /// Has checkpoints taken where the backend has a place for them.
    fn place_state(&mut self) {
        let directories = self.state.as_ref().and_then(|state| state.pipeline_directories());
        if let Some(PipelineDirectories { state, checkpoints }) = directories {
            let config = &mut self.config;
            config.state.backend = StateBackendKind::RocksDb;
            (config.state.path, config.state.checkpoint_path) = (Some(state), Some(checkpoints));
            config.checkpoint_interval.get_or_insert(DEFAULT_CHECKPOINT_INTERVAL);
        } else if self.config.delivery == Delivery::ExactlyOnce {
            let problem =
                "delivery exactly once without checkpoints; .with_state_backend(RocksDBStateBackend) would be right";
            self.problems.push(problem.into());
        }
    }

    /// Takes down the windows that have names.
    fn define(&mut self) {
        if let Some(lateness) = self.lateness {
            self.config.windows.allowed_lateness = lateness;
        }
        if self.named.is_empty() {
            return self.triggers_of_each.push(self.triggers.clone());
        }
        let of_all = self.sinks.len();
        for named in std::mem::take(&mut self.named) {
            let triggers = Some(named.triggers()).filter(|own| !own.are_none());
            self.triggers_of_each.push(triggers.unwrap_or_else(|| self.triggers.clone()));
            let definition = named.define(&self.config.aggregation, of_all, &mut self.sinks, &mut self.problems);
            self.config.definitions.push(definition);
        }
        if self.has_windows {
            let problem = "windows with a name and windows without; .with_named_windows(..) for all would be right";
            self.problems.push(problem.into());
        }
        let names: Vec<&str> = self.config.definitions.iter().filter_map(|of| of.name.as_deref()).collect();
        let mut problems = Vec::new();
        for (place, name) in names.iter().enumerate() {
            if !is_name(name) {
                problems.push(format!("the name {name:?} of windows; {RIGHT_NAME}"));
            }
            if names[..place].contains(name) {
                problems.push(format!("two windows are called {name:?}; a name of its own for each would be right"));
            }
        }
        if names.len() > DefinitionIndex::MOST {
            problems.push(format!("{} windows; {} at most would be right", names.len(), DefinitionIndex::MOST));
        }
        self.problems.extend(problems);
    }

    fn check(&mut self) {
        if self.sinks.is_empty() {
            self.problems.push("no sink: nothing says where results go; call .with_sink(..)".into());
        }
        if self.config.aggregation.enabled.is_empty() && self.customs.is_empty() {
            self.problems.push("no aggregate: nothing says what is computed; call .with_aggregates(..)".into());
        }
        if self.config.error_handling.policy == ErrorPolicy::DeadLetter && self.dead_letter.is_none() {
            self.problems.push(
                "the error policy is dead_letter, while nothing says where dead letters go; call .with_dead_letter(..)"
                    .into(),
            );
        }
        let watermark = &self.config.watermark;
        if watermark.close_idle_after.is_some() && watermark.idle_timeout.is_none() {
            self.problems.push(
                "windows are to be closed when all partitions have been idle, while none ever becomes idle; set an idle \
                 time-out too, or leave out .with_close_idle_after(..)"
                    .into(),
            );
        }
        self.problems.extend(delivery_problems(&self.config, &self.sinks));
        if let Some(Origin::Kafka(consumer, _)) = &self.origin {
            let problems = kafka_problems(consumer, [&self.late, &self.dead_letter].into_iter().flatten(), &self.sinks);
            self.problems.extend(problems);
        }
    }

    /// The aggregates of each window definition; `None` where there are problems.
    fn plans(&mut self) -> Option<Vec<Arc<AggregatePlan>>> {
        let mut plan = AggregatePlan::new(&self.config.aggregation);
        for add in std::mem::take(&mut self.customs) {
            plan = plan.and_then(add);
        }
        let definitions = self.config.window_definitions();
        let of_each = |plan: AggregatePlan| -> ProcessorResult<Vec<_>> {
            definitions.iter().map(|definition| plan.with_config(&definition.aggregation).map(Arc::new)).collect()
        };
        plan.and_then(of_each).map_err(|error| self.problems.push(error.to_string())).ok()
    }

    /// The source and the names of results; or what is wrong with it.
    fn input(&mut self) -> Result<(Box<dyn Input>, Naming), Vec<String>> {
        let decoder = self.mapping.decoder();
        let Some(origin) = self.origin.take() else {
            let mut problems = vec![
                "no source: nothing says where events come from; call .with_kafka_source(..), .with_file_source(..), \
                 .with_iterator_source(..), .with_channel_source(..) or .with_tokio_channel_source(..)"
                    .to_owned(),
            ];
            problems.extend(decoder.err().into_iter().flatten());
            return Err(problems);
        };
        let decoder = decoder?;
        let (source, consumer, read) = match origin {
            Origin::Memory(events) => {
                return Ok((Box::new(MemoryInput::new(events, decoder)), Naming::AsTheyCome));
            }
            Origin::Kafka(consumer, read) => (SourceConfig::Kafka, Some(consumer), read),
            Origin::Files(paths, read) => (SourceConfig::File { paths }, None, read),
        };
        (self.config.source, self.config.consumer) = (source, consumer);
        let source = ConfiguredInput::new(self.config.clone()).map_err(|error| vec![error.to_string()])?;
        let (make, naming): (MakeDecoder, Naming) = match self.mapping.is_default {
            true => {
                let event = self.config.event.clone();
                let naming = Naming::of(&event.values);
                (Box::new(move || Box::new(JsonDecoder::new(&event))), naming)
            }
            false => (Box::new(move || read(decoder.clone())), Naming::AsTheyCome),
        };
        Ok((Box::new(PayloadInput::new(source, make)), naming))
    }
}

/// What cannot work about delivery and checkpoints with these sinks.
fn delivery_problems(config: &ProcessorConfig, sinks: &[SinkSpec]) -> Vec<String> {
    let mut problems = Vec::new();
    let takes_checkpoints = config.state.backend == StateBackendKind::RocksDb;
    let is_atomic = |sink: &&SinkSpec| matches!(sink, SinkSpec::File { mode: FileMode::Atomic, .. });
    for sink in sinks.iter().filter(is_atomic).filter(|_| takes_checkpoints) {
        problems.push(format!(
            "the sink {sink:?} writes its file at the end, and a run that goes on from a checkpoint does not write again what was \
             fired before it; FileSink::append would be right"
        ));
    }
    if config.delivery == Delivery::AtLeastOnce {
        return problems;
    }
    // A table for people may stand beside others.
    let beside = sinks.iter().any(SinkSpec::is_exact);
    let may_stay = |sink: &SinkSpec| sink.is_exact() || (beside && matches!(sink, SinkSpec::Console));
    for sink in sinks.iter().filter(|sink| !may_stay(sink) && !is_atomic(sink)) {
        problems.push(format!(
            "the sink {sink:?} cannot take back what it has shown, while delivery is exactly once; Kafka, FileSink::append or a sink \
             that implements EpochSink would be right"
        ));
    }
    problems
}

/// What cannot work about a source of Kafka.
fn kafka_problems<'s>(
    consumer: &ConsumerConfig,
    sides: impl Iterator<Item = &'s SideSpec>,
    sinks: &[SinkSpec],
) -> Vec<String> {
    let mut problems = Vec::new();
    if consumer.bootstrap_servers.trim().is_empty() {
        problems.push("the source of Kafka names no brokers; host:port,... would be right".to_owned());
    }
    if consumer.topics.is_empty() {
        problems.push("the source of Kafka names no topics; at least one would be right".to_owned());
    }
    if consumer.group_id.is_empty() {
        problems.push("the source of Kafka has an empty group_id; the name of a group would be right".to_owned());
    }
    for sink in sinks.iter().filter(|sink| matches!(sink, SinkSpec::File { mode: FileMode::Atomic, .. })) {
        problems.push(format!(
            "the sink {sink:?} writes its file when the input ends; a Kafka topic has no end, and a crash would lose results whose \
             offsets are committed; FileSink::append would be right"
        ));
    }
    let written = sides.filter_map(|side| match side {
        SideSpec::Topic { topic, .. } => Some(topic),
        _ => None,
    });
    let results = sinks.iter().filter_map(|sink| match sink {
        SinkSpec::Kafka(producer) => Some(&producer.result_topic),
        _ => None,
    });
    for topic in written.chain(results).filter(|topic| consumer.topics.contains(topic)) {
        problems.push(format!(
            "the topic `{topic}` is read and written, so that what is written would be read as events; a topic of its own \
             would be right"
        ));
    }
    problems
}

impl<T> fmt::Debug for PipelineBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("events", &std::any::type_name::<T>())
            .field("source", &self.origin.as_ref().map(Origin::what))
            .field("windows", &self.config.windows.kind)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}
