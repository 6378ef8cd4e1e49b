//! A job, and its run from the first thread to the last.

use super::checkpoints::{Meaning, RunCheckpoints};
use super::input::{ConfiguredInput, Input};
use super::observe::{MetricsSinkObserver, sink_statuses};
use super::opening::OpenCheckpoints;
use super::threads::Meeting;
use super::views;
use super::{Control, Summary, Topology};
use crate::aggregate::AggregatePlan;
use crate::checkpoint::{
    AggregationSummary, DefinitionParts, DefinitionSummary, JobFingerprint, Restored, StartOptions,
};
use crate::config::{AggregateKind, ProcessorConfig, ValueFields, WindowDefinition};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, DefinitionSet};
use crate::http;
use crate::metrics::{Phase, ProcessorMetrics, StatusBoard, TimeRules, spawn_reporter};
use crate::sink::{self, ResultSink, RetryPolicy, RoutedSink, SideOutputs, SideSpec, SinkHub, SinkSpec};
use crate::source::file;
use crate::source::{IntakeRules, Resume};
use crate::view::ViewBoard;
use crate::window::{ClosedBefore, Naming, Triggers, WindowSet, WindowStateSettings, Windowing};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the frontier's log and the gauges are brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the frontier may stand still while events arrive before the log names the culprit.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often the state of the sinks is looked at.
const SINK_STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// Which sinks a job has.
pub enum SinkPlan {
    /// Those of the configuration.
    Configured,
    /// These.
    Given(Vec<SinkSpec>),
}

impl SinkPlan {
    /// Whether one of them commits epochs in a way of its own.
    fn commit(&self) -> bool {
        match self {
            SinkPlan::Configured => false,
            SinkPlan::Given(specs) => specs.iter().any(SinkSpec::commits),
        }
    }
}

/// Everything that a run needs.
pub struct Job {
    /// The configuration.
    pub config: ProcessorConfig,
    /// Where events come from.
    pub input: Box<dyn Input>,
    /// How results are named.
    pub naming: Naming,
    /// The value fields that are known before the first event.
    pub fields: Vec<Arc<str>>,
    /// Where results go.
    pub sinks: SinkPlan,
    /// Counts what happens.
    pub metrics: ProcessorMetrics,
    /// Says what is happening.
    pub board: StatusBoard,
    /// Stops it.
    pub control: Control,
    /// What it goes on from.
    pub start: StartOptions,
    definitions: Vec<Definition>,
    windows: WindowSet,
    closed: ClosedBefore,
    /// Side outputs that stand in for those of the configuration, until the run takes them.
    given_late: Mutex<Option<SideSpec>>,
    given_dead_letter: Mutex<Option<SideSpec>>,
}

/// A window definition, checked.
struct Definition {
    name: Option<Arc<str>>,
    windowing: Windowing,
    plan: Arc<AggregatePlan>,
    triggers: Triggers,
    /// The places of its sinks; `None` is all.
    sinks: Option<Vec<usize>>,
}

impl Job {
    /// The definitions, as manifests name them.
    fn definition_summaries(&self) -> Vec<DefinitionSummary> {
        let summary = |of: &Definition| DefinitionSummary {
            name: of.name.as_deref().map(str::to_owned),
            aggregation: AggregationSummary::of(&of.plan),
        };
        self.definitions.iter().map(summary).collect()
    }

    /// The job of a configuration. Opens nothing but looks for the files of a file source.
    pub fn from_config(config: ProcessorConfig) -> ProcessorResult<Self> {
        let input = Box::new(ConfiguredInput::new(config.clone())?);
        let plan = |definition: &WindowDefinition| AggregatePlan::new(&definition.aggregation).map(Arc::new);
        let plans = config.window_definitions().iter().map(plan).collect::<ProcessorResult<_>>()?;
        let naming = Naming::of(&config.event.values);
        let fields = match &config.event.values {
            ValueFields::Listed(fields) => fields.iter().map(|field| field.name.as_str().into()).collect(),
            ValueFields::EveryNumberUnder(_) => Vec::new(),
        };
        Self::new(config, input, plans, naming, fields, SinkPlan::Configured)
    }

    /// A job with an input, aggregates (one plan for each of [`ProcessorConfig::window_definitions`]) and sinks of its own. Fails
    /// for what this version does not do.
    pub fn new(
        config: ProcessorConfig,
        input: Box<dyn Input>,
        plans: Vec<Arc<AggregatePlan>>,
        naming: Naming,
        fields: Vec<Arc<str>>,
        sinks: SinkPlan,
    ) -> ProcessorResult<Self> {
        let windowings = Self::check(&config)?;
        let aggregates: Vec<Vec<Arc<str>>> = plans.iter().map(|plan| plan.names().to_vec()).collect();
        views::check(&config, &aggregates)?;
        let configured = config.window_definitions().into_iter().zip(windowings).zip(plans);
        let definitions: Vec<Definition> = configured
            .map(|((definition, windowing), plan)| Definition {
                name: definition.name,
                windowing,
                plan,
                triggers: Triggers::of(&definition.windows.trigger),
                sinks: definition.sinks,
            })
            .collect();
        let windows = WindowSet::new(definitions.iter().map(|of| (of.name.clone(), of.windowing)));
        let (metrics, board, control) = (ProcessorMetrics::new(), StatusBoard::new(), Control::new());
        Ok(Self {
            config,
            input,
            naming,
            fields,
            sinks,
            metrics,
            board,
            control,
            start: StartOptions::default(),
            definitions,
            windows,
            closed: ClosedBefore::default(),
            given_late: Mutex::default(),
            given_dead_letter: Mutex::default(),
        })
    }

    /// Whether a job of this configuration can be run; if so, the windows of each definition. Fails for what this version does not
    /// do.
    pub fn check(config: &ProcessorConfig) -> ProcessorResult<Vec<Windowing>> {
        let check = |definition: &WindowDefinition| {
            let aggregation = &definition.aggregation;
            if aggregation.enabled == [AggregateKind::Percentile] && aggregation.percentiles.is_empty() {
                return Err(ProcessorError::Config(
                    "aggregation.percentiles is empty; name at least one, such as 95".into(),
                ));
            }
            Windowing::new(&definition.windows)
        };
        config.window_definitions().iter().map(check).collect()
    }

    /// The same job with its late records in `late` and its dead letters in `dead_letter`, where these are given, instead of
    /// where the configuration says. Dead letters are written under the error policy `dead_letter` only.
    pub fn with_side_outputs(self, late: Option<SideSpec>, dead_letter: Option<SideSpec>) -> Self {
        Self { given_late: Mutex::new(late), given_dead_letter: Mutex::new(dead_letter), ..self }
    }

    /// The definitions whose results the sink at this place takes, and after these the views whose changes it takes.
    fn written_to(&self, place: usize) -> DefinitionSet {
        let of_windows = self.definitions.iter().map(|definition| &definition.sinks);
        let of_views = self.config.views.iter().map(|view| &view.sinks);
        let takes = |sinks: &Option<Vec<usize>>| sinks.as_ref().is_none_or(|sinks| sinks.contains(&place));
        let places = of_windows.chain(of_views).enumerate().filter(|(_, sinks)| takes(sinks));
        places.map(|(place, _)| DefinitionIndex::of(place)).collect()
    }

    /// The same job with triggers besides those of the configuration, for each window definition in order.
    pub fn with_triggers(mut self, triggers: Vec<Triggers>) -> Self {
        for (definition, triggers) in self.definitions.iter_mut().zip(triggers) {
            definition.triggers.0.extend(triggers.0);
        }
        self
    }

    /// What gives the job's state its meaning.
    pub(super) fn fingerprint(&self) -> JobFingerprint {
        let parts = |of: &'_ Definition| (Arc::clone(&of.plan), !of.triggers.are_none());
        let parts: Vec<_> = self.definitions.iter().map(parts).collect();
        let parts: Vec<_> =
            parts.iter().map(|(plan, has_triggers)| DefinitionParts { plan, has_triggers: *has_triggers }).collect();
        JobFingerprint::of_job(&self.config, &parts)
    }

    /// Runs the job to its end, on this thread and those it starts. Blocks.
    pub fn run(self, topology: &Topology) -> ProcessorResult<Summary> {
        let started = Instant::now();
        let server = match self.config.metrics.enabled {
            true => Some(http::serve(
                self.config.metrics.listen,
                self.metrics.clone(),
                self.board.clone(),
                self.control.clone(),
            )?),
            false => None,
        };
        let (board, control) = (self.board.clone(), self.control.clone());
        let outcome = Running::start(self, topology).and_then(|running| match running {
            Some(running) => running.finish(topology, started),
            // What went wrong while the processes looked for each other ends the waiting as a stop does.
            None => match control.take_failure() {
                Some(failure) => Err(failure),
                None => Ok(Summary { elapsed: started.elapsed(), ..Summary::default() }),
            },
        });
        match &outcome {
            Ok(_) => board.set_phase(Phase::Finished),
            Err(error) => board.set_failure(error.to_string()),
        }
        // Ends the threads that only look on.
        control.stop();
        drop(server);
        outcome
    }
}

/// A job whose sinks are open.
pub struct Running {
    /// The job.
    pub job: Job,
    /// The furthest that any worker has seen the frontier behind the sinks, milliseconds.
    pub(super) written: Arc<AtomicI64>,
    pub(super) threads: usize,
    hub: SinkHub,
    side_outputs: SideOutputs,
    checkpoints: Option<RunCheckpoints>,
    /// The links to the other processes, until the workers take them.
    meeting: Mutex<Option<Meeting>>,
    /// For each worker of this process, how many rows and results are on the way.
    busy: Vec<AtomicUsize>,
    /// Workers of this process that have ended.
    pub(super) ended: AtomicUsize,
}

impl Running {
    /// Opens everything. `None` where the end was asked for before the processes of the job had found each other.
    fn start(job: Job, topology: &Topology) -> ProcessorResult<Option<Arc<Self>>> {
        job.board.set_idle_timeout(job.config.watermark.idle_timeout);
        job.board.set_time_rules(TimeRules {
            max_out_of_orderness: job.config.watermark.max_out_of_orderness,
            close_idle_after: job.config.watermark.close_idle_after,
        });
        job.board.set_views(ViewBoard::new(job.config.views.iter().map(|config| &config.view)));
        let process = topology.process();
        let meaning = Meaning {
            fingerprint: job.fingerprint(),
            definitions: job.definition_summaries(),
            may_fall_back: !job.sinks.commit(),
            metrics: job.metrics.clone(),
            board: job.board.clone(),
        };
        let opened = OpenCheckpoints::open(&job.config, job.start, topology, &job.control)?;
        let opening = opened.as_ref().map_or_else(|| Ok(Vec::new()), OpenCheckpoints::opening)?;
        // Before anything is begun that other processes could take for the job's.
        let (meeting, openings) = match topology.is_cluster() {
            false => (None, vec![opening]),
            true => match job.meet(topology, opening)? {
                Some((meeting, openings)) => (Some(meeting), openings),
                None => return Ok(None),
            },
        };
        let begin = |opened: OpenCheckpoints| {
            RunCheckpoints::begin(&job.config, meaning, job.start, topology, &job.control, opened, &openings)
        };
        let mut checkpoints = opened.map(begin).transpose()?;
        let observer = MetricsSinkObserver::new(&job.metrics);
        let sinks: Vec<Box<dyn ResultSink>> = match &job.sinks {
            SinkPlan::Configured => sink::build(&job.config, process)?,
            SinkPlan::Given(specs) => {
                let build = |spec: &SinkSpec| spec.build_for(&job.config.job, process, job.config.delivery);
                specs.iter().map(build).collect::<ProcessorResult<_>>()?
            }
        };
        let retry = RetryPolicy::from(&job.config.error_handling);
        let routed = sinks.into_iter().enumerate();
        let sinks = routed.map(|(place, sink)| RoutedSink { sink, takes: job.written_to(place) }).collect();
        let sinks: Vec<RoutedSink> = sinks;
        let epochs = checkpoints.as_mut().map(|checkpoints| checkpoints.sink_epochs(&sinks)).transpose()?;
        let hub = SinkHub::start_with(sinks, retry, observer.clone(), job.control.clone(), epochs)?;
        let late = match take(&job.given_late) {
            Some(spec) => {
                sink::given_side_output("late", spec, &job.config, process, observer.clone(), job.control.clone())?
            }
            None => sink::late_output(&job.config, process, observer.clone(), job.control.clone())?,
        };
        let dead_letter = match take(&job.given_dead_letter) {
            Some(spec) => {
                sink::given_side_output("dead_letter", spec, &job.config, process, observer, job.control.clone())?
            }
            None => sink::dead_letter_output(&job.config, process, observer, job.control.clone())?,
        };
        let busy = (0..topology.threads()).map(|_| AtomicUsize::new(1)).collect();
        Ok(Some(Arc::new(Self {
            job,
            written: Arc::new(AtomicI64::new(i64::MIN)),
            threads: topology.threads(),
            hub,
            side_outputs: SideOutputs { late, dead_letter },
            checkpoints,
            meeting: Mutex::new(meeting),
            busy,
            ended: AtomicUsize::new(0),
        })))
    }

    /// Starts the workers, waits for them, and ends the sinks.
    fn finish(self: Arc<Self>, topology: &Topology, started: Instant) -> ProcessorResult<Summary> {
        let onlookers = self.start_onlookers()?;
        let mut summary =
            self.start_checkpoints().and_then(|()| Arc::clone(&self).work(topology)).unwrap_or_else(|error| {
                self.control().fail(error);
                Summary::default()
            });
        self.job.board.set_phase(Phase::Stopping);
        match self.end_sinks(&mut summary) {
            // What the sinks lack then follows from the failure, which has been told.
            Err(error) if self.control().has_failed() => tracing::debug!(target: "processor", "{error}"),
            // What is not delivered is in no checkpoint as delivered.
            Err(error) if self.control().is_stopping() && self.checkpoints.is_some() => {
                tracing::warn!(target: "checkpoint", "not everything was delivered: the next start delivers the rest: {error}");
            }
            Err(error) => self.control().fail(error),
            Ok(()) => {}
        }
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.finish();
            summary.note_losses(&self.job.metrics.losses());
        }
        sink_statuses(&self.hub, &self.job.board);
        self.control().stop();
        for onlooker in onlookers {
            // What it had to say it has said, a panic too.
            let _ = onlooker.join();
        }
        summary.elapsed = started.elapsed();
        match self.control().take_failure() {
            Some(failure) => Err(failure),
            None => Ok(summary),
        }
    }

    fn start_checkpoints(&self) -> ProcessorResult<()> {
        match &self.checkpoints {
            Some(checkpoints) => checkpoints.start(&self.side_outputs, self.control()),
            None => Ok(()),
        }
    }

    /// Runs the workers, unless an earlier run has come to the end of the input.
    fn work(self: Arc<Self>, topology: &Topology) -> ProcessorResult<Summary> {
        let restored = self.checkpoints.as_ref().and_then(RunCheckpoints::restored).map(Restored::manifest);
        if let Some(finished) = restored.filter(|manifest| manifest.finished) {
            tracing::warn!(
                target: "checkpoint",
                "the job has come to the end of its input in checkpoint {}: there is nothing to do; start with \
                 --ignore-checkpoint to run it again from the beginning",
                finished.epoch
            );
            return Ok(Summary::default());
        }
        self.run_workers(topology)
    }

    /// The links to the other processes; once.
    pub(super) fn take_meeting(&self) -> Option<Meeting> {
        take(&self.meeting)
    }

    /// Where sources go on from.
    pub(super) fn resume(&self) -> Arc<Resume> {
        self.checkpoints.as_ref().map_or_else(Arc::default, RunCheckpoints::resume)
    }

    /// The checkpoints of the run, where it takes some.
    pub(super) fn checkpoints(&self) -> Option<&RunCheckpoints> {
        self.checkpoints.as_ref()
    }

    /// The threads that look on: the frontier's log and the gauges, the state of the sinks, the progress of files.
    fn start_onlookers(self: &Arc<Self>) -> ProcessorResult<Vec<JoinHandle<()>>> {
        let (board, metrics, control) = (self.job.board.clone(), self.job.metrics.clone(), self.control().clone());
        let mut onlookers =
            vec![spawn_reporter(board.clone(), metrics, control.clone(), REPORT_INTERVAL, STUCK_AFTER)?];
        let (hub, watching) = (self.hub.clone(), control.clone());
        onlookers.push(control.spawn("sink-status", move || {
            while !watching.sleep(SINK_STATUS_INTERVAL) {
                sink_statuses(&hub, &board);
            }
        })?);
        if let Some(progress) = self.job.input.file_progress() {
            let running = Arc::clone(self);
            onlookers.push(self.control().spawn("progress", move || {
                // One bar at a time.
                let is_free = || !running.checkpoints().is_some_and(RunCheckpoints::is_restore_shown);
                while !is_free() && !control.sleep(SINK_STATUS_INTERVAL) {}
                drop(running);
                file::draw(&progress, &control);
            })?);
        }
        Ok(onlookers)
    }

    /// Ends the sinks, then the side outputs.
    fn end_sinks(&self, summary: &mut Summary) -> ProcessorResult<()> {
        let hub = self.hub.finish();
        let late = self.side_outputs.late.finish();
        let dead_letter = self.side_outputs.dead_letter.finish();
        summary.note_sinks(&hub?);
        late?;
        dead_letter?;
        Ok(())
    }

    /// The run's switch.
    pub fn control(&self) -> &Control {
        &self.job.control
    }

    /// Takes the results.
    pub fn hub(&self) -> &SinkHub {
        &self.hub
    }

    /// The late output and the dead letters.
    pub fn side_outputs(&self) -> &SideOutputs {
        &self.side_outputs
    }

    /// Worker threads of this process.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// By what rules records are judged.
    pub fn intake_rules(&self) -> IntakeRules {
        let SideOutputs { late, dead_letter } = self.side_outputs.clone();
        IntakeRules {
            watermark: self.job.config.watermark.clone(),
            timestamp_format: self.job.config.event.timestamp_format,
            windows: self.job.windows.clone(),
            closed: self.job.closed.clone(),
            policy: self.job.config.error_handling.policy,
            late: Arc::new(move |record| late.send(record)),
            dead_letter: Arc::new(move |record| dead_letter.send(record)),
        }
    }

    /// Whether rows say how long windows need them.
    pub fn ends_are_known(&self) -> bool {
        self.job.windows.ends_are_known()
    }

    /// What the windows are made of, a definition each.
    pub fn window_states(&self) -> Vec<WindowStateSettings> {
        let settings =
            |(place, definition): (usize, &Definition)| WindowStateSettings {
                definition: DefinitionIndex::of(place),
                name: definition.name.clone(),
                windowing: definition.windowing,
                plan: Arc::clone(&definition.plan),
                naming: self.job.naming,
                fields: self.job.fields.clone(),
                closed: self.job.closed.clone(),
                triggers: definition.triggers.clone(),
                takes_accumulators: self.job.config.views.iter().any(|config| {
                    config.view.definition == DefinitionIndex::of(place) && config.view.reads_accumulators()
                }),
            };
        self.job.definitions.iter().enumerate().map(settings).collect()
    }

    /// What figures of a definition's results are made with.
    pub(super) fn figures_of(&self, definition: DefinitionIndex) -> (Arc<AggregatePlan>, Naming, Vec<Arc<str>>) {
        let plan = &self.job.definitions[usize::from(definition.0)].plan;
        (Arc::clone(plan), self.job.naming, self.job.fields.clone())
    }

    /// Whether windows of any definition emit before their end.
    pub fn has_triggers(&self) -> bool {
        self.job.definitions.iter().any(|definition| !definition.triggers.are_none())
    }

    /// What metrics call the window definitions.
    pub fn definition_names(&self) -> Vec<Arc<str>> {
        self.job.definitions.iter().map(|definition| definition.name.clone().unwrap_or_default()).collect()
    }

    /// Takes note of how much a worker of this process has on the way.
    pub fn set_busy(&self, local: usize, busy: usize) {
        self.busy[local].store(busy, Ordering::SeqCst);
    }

    /// Whether nothing is on the way in this process: no row, no result, no late record and no dead letter.
    pub fn is_drained(&self) -> bool {
        self.busy.iter().all(|busy| busy.load(Ordering::SeqCst) == 0) && self.side_outputs.are_settled()
    }
}

fn take<T>(given: &Mutex<Option<T>>) -> Option<T> {
    given.lock().unwrap_or_else(PoisonError::into_inner).take()
}
