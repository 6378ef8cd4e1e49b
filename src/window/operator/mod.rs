//! The window operator: rows in, results out, driven by the frontier.
//!
//! The model: a batch goes into the [`WindowState`] of each window definition; the operator holds a capability at the earliest time at which results may
//! come, and at later times that it was told of; when the input's frontier reaches such a time, the results are sent with it and
//! the capability moves on to the next. So the output's frontier is the earliest window that has not fired, and whoever watches it
//! knows which results are complete. The definitions of a job share the rows and the capabilities; what is due first fires first,
//! of whichever it is.
//!
//! In a job that takes checkpoints the windows are frozen at the end of each epoch: when no row of the epoch can come any more, and
//! what is due at the frontier has fired. Batches of the next epoch that are there by then wait in a stash, and hold the frontier
//! as windows see it where they are; they are let in when every worker is through with the epoch, so that no result of the next one
//! is among those of this one. What is frozen is encoded some at a time, while new batches come in.
//!
//! Each batch is acknowledged to its sender when it is in its windows, unless the sinks are behind: then the acknowledgements
//! wait, the senders run out of credit, and the readers stop.

mod epochs;
mod stash;

use self::stash::Stashed;
use super::cold::MemoryLimit;
use super::state::{Due, WindowState, WindowStateSettings};
use super::trigger::{ASKED_EVERY, Completeness};
use crate::checkpoint::{Changes, WorkerEpochs};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::RowBatch;
use crate::exchange::flow::Acknowledgement;
use crate::exchange::wire::{Batches, Damage};
use crate::runtime::Control;
use crate::sink::{ResultBatch, ResultRow};
use crate::time::{Epoch, EventTime, Time};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ExchangeCore, ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

/// Results that are made at a time: few enough that the worker turns to its other operators in between.
const RESULTS_PER_TURN: usize = 4096;
/// How long the operator sleeps while the sinks are behind and nothing else wakes it.
const BACKLOG_PAUSE: Duration = Duration::from_millis(2);

/// How long it waits for results to be written before it looks again which rows are still needed.
const WRITTEN_PAUSE: Duration = Duration::from_millis(50);

/// What the window operator needs from its surroundings.
pub struct WindowSettings {
    /// The windows and aggregates, one a definition, at least one.
    pub states: Vec<WindowStateSettings>,
    /// The wall clock, for [`ResultRow::fired_at`].
    pub clock: Rc<dyn Fn() -> EventTime>,
    /// The frontier behind the sinks: results of windows that end before it are written. `None` when all are.
    pub written: Rc<dyn Fn() -> Option<EventTime>>,
    /// Whether the sinks have more results than they should.
    pub sinks_are_behind: Rc<dyn Fn() -> bool>,
    /// How far the partitions of all workers have come, for triggers.
    pub completeness: Rc<dyn Fn() -> Completeness>,
    /// The run's switch.
    pub control: Control,
    /// What the worker's operators share about epochs, in a job that takes checkpoints.
    pub epochs: Option<WorkerEpochs>,
    /// How much memory each definition's windows may take.
    pub memory_limit: Option<MemoryLimit>,
    /// Gives each definition's windows what they were in the checkpoint from which the job goes on, before anything else.
    pub restore: Option<Restore>,
    /// Told after each turn what happened in it.
    pub observer: Box<dyn FnMut(WindowTurn<'_>)>,
}

/// Fills windows from a checkpoint.
pub type Restore = Box<dyn FnOnce(&mut [WindowState]) -> ProcessorResult<()>>;

/// What happened in one turn of the operator.
pub struct WindowTurn<'a> {
    /// The windows as they are now, by definition.
    pub states: &'a mut [WindowState],
    /// The input's frontier; `None` when there will be no more input.
    pub frontier: Option<Time>,
    /// When the rows taken in this turn were read, microseconds since 1970, one a batch.
    pub read_at_micros: &'a [i64],
}

/// The streams that leave the window operator.
pub struct WindowOutputs<'scope> {
    /// The results.
    pub results: Stream<'scope, Time, Vec<ResultBatch>>,
    /// What was taken in, for the senders.
    pub acknowledgements: Stream<'scope, Time, Vec<Acknowledgement>>,
    /// Nothing flows here. Its frontier says which rows are still needed, where that cannot be known from the rows: those of
    /// which the time plus the allowed lateness is not before it.
    pub needs: Option<Stream<'scope, Time, Vec<()>>>,
}

/// Builds the window operator on a stream of batches.
pub fn window<'scope>(rows: Stream<'scope, Time, Batches>, settings: WindowSettings) -> WindowOutputs<'scope> {
    // A worker alone has nobody to exchange with.
    match rows.scope().peers() {
        1 => window_with(rows, Pipeline, settings),
        _ => {
            let receiver = |batch: &RowBatch| u64::from(batch.receiver.0);
            window_with(rows, ExchangeCore::<CapacityContainerBuilder<Batches>, _>::new(receiver), settings)
        }
    }
}

fn window_with<'scope>(
    rows: Stream<'scope, Time, Batches>,
    pact: impl ParallelizationContract<Time, Batches>,
    settings: WindowSettings,
) -> WindowOutputs<'scope> {
    let scope = rows.scope();
    let mut builder = OperatorBuilder::new("window".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut input = builder.new_input(rows, pact);
    let (results, results_stream) = builder.new_output::<Vec<ResultBatch>>();
    let (acknowledgements, acknowledgements_stream) = builder.new_output::<Vec<Acknowledgement>>();
    let (_needs, needs_stream) = match settings.states.iter().all(|state| state.windowing.ends_are_known()) {
        true => (None, None),
        // Checkpoints say by themselves from where rows are needed.
        false if settings.epochs.is_some() => (None, None),
        false => {
            let (needs, stream) = builder.new_output::<Vec<()>>();
            (Some(needs), Some(stream))
        }
    };
    let mut results = OutputBuilder::<_, CapacityContainerBuilder<Vec<ResultBatch>>>::from(results);
    let mut acknowledgements =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Acknowledgement>>>::from(acknowledgements);

    if let Some(epochs) = &settings.epochs {
        epochs.wake_on_news(scope.activator_for(builder.operator_info().address));
    }

    builder.build(move |mut capabilities| {
        let for_results = capabilities.swap_remove(RESULTS);
        drop(capabilities);
        let mut operator = WindowOperator::new(settings, activator, for_results);
        move |frontiers| {
            operator.begin_turn();
            operator.let_in_stash();
            input.for_each(|capability, batches| match batches.received() {
                // What comes behind rows that could not be read may not be understood without them.
                _ if operator.settings.control.has_failed() => {}
                Ok(batches) => operator.receive(&capability, batches),
                Err(damage) => operator.settings.control.fail(unreadable(damage)),
            });
            operator.ask_triggers();
            operator.send_early(&mut |capability, batch| results.activate().session(capability).give(batch));
            operator.acknowledge(|capability, acknowledgement| {
                acknowledgements.activate().session(capability).give(acknowledgement);
            });
            operator.fire(&frontiers[0], |capability, batch| results.activate().session(capability).give(batch));
            operator.look_after_memory();
            operator.end_epoch(&frontiers[0]);
            operator.write_snapshot();
            operator.move_needs();
            operator.report(&frontiers[0]);
        }
    });
    WindowOutputs { results: results_stream, acknowledgements: acknowledgements_stream, needs: needs_stream }
}

/// What another process has sent is no message: one of the two computes wrongly, or something between them.
fn unreadable(damage: Damage) -> ProcessorError {
    ProcessorError::Runtime(format!("rows that another process has sent cannot be read: {damage}"))
}

/// Ports of the operator's outputs.
const RESULTS: usize = 0;
const ACKNOWLEDGEMENTS: usize = 1;
const NEEDS: usize = 2;

struct WindowOperator {
    /// One a definition.
    states: Vec<WindowState>,
    settings: WindowSettings,
    activator: Activator,
    /// What allows results to be sent, by its time: none is later than the earliest time at which there may be some.
    held: BTreeMap<EventTime, Capability<Time>>,
    /// At the earliest time from which rows are needed.
    needs: Option<Capability<Time>>,
    /// When triggers were last asked about open windows.
    last_asked: Option<Instant>,
    unacknowledged: Vec<(Capability<Time>, Acknowledgement)>,
    read_at_micros: Vec<i64>,
    /// The epoch that the windows are in.
    epoch: Epoch,
    /// Keeps whoever comes after from believing that the epoch has ended, and the operator alive when there is no more input; `None`
    /// without checkpoints.
    holds_epoch: Option<Capability<Time>>,
    /// Batches of the next epoch.
    stash: Vec<Stashed>,
    /// The epoch whose snapshot is being encoded.
    writing: Option<Writing>,
    /// The epoch whose snapshot is not known to be stored.
    unstored: Option<Epoch>,
    /// Whether it has asked for a checkpoint, for the sake of memory.
    has_asked: bool,
}

/// A snapshot that is being encoded.
struct Writing {
    epoch: Epoch,
    frontier: Option<EventTime>,
    /// The definition that is next.
    place: usize,
    /// What is encoded and not handed over.
    changes: Option<Changes>,
}

impl WindowOperator {
    fn new(mut settings: WindowSettings, activator: Activator, capability: Capability<Time>) -> Self {
        let first = settings.epochs.as_ref().map(WorkerEpochs::first);
        let restore = settings.restore.take();
        let mut operator = Self {
            states: settings.states.iter().cloned().map(WindowState::new).collect(),
            settings,
            activator,
            held: BTreeMap::new(),
            needs: None,
            last_asked: None,
            unacknowledged: Vec::new(),
            read_at_micros: Vec::new(),
            epoch: first.map_or(Epoch::FIRST, |first| first.epoch),
            holds_epoch: first.map(|first| {
                let mut capability = capability;
                capability.downgrade(&Time::new(first.epoch, first.frontier));
                capability
            }),
            stash: Vec::new(),
            writing: None,
            unstored: None,
            has_asked: false,
        };
        if operator.settings.epochs.is_some() {
            operator.states.iter_mut().for_each(WindowState::track_changes);
        }
        if let Some(limit) = operator.settings.memory_limit.take() {
            operator.states.iter_mut().for_each(|state| state.limit_memory(limit.clone()));
        }
        if let Some(restore) = restore
            && let Err(error) = operator.restore(restore)
        {
            operator.settings.control.fail(error);
        }
        operator
    }

    /// Gives the windows what they were, and takes what their results need.
    fn restore(&mut self, restore: Restore) -> ProcessorResult<()> {
        restore(&mut self.states)?;
        if let Some(holds) = &self.holds_epoch {
            self.held.insert(holds.time().event_time(), holds.clone());
        }
        self.move_capabilities();
        Ok(())
    }

    fn begin_turn(&mut self) {
        if self.has_triggers() {
            let (now, completeness) = ((self.settings.clock)(), (self.settings.completeness)());
            self.states.iter_mut().for_each(|state| state.begin_turn(now, &completeness));
        }
    }

    fn has_triggers(&self) -> bool {
        self.states.iter().any(WindowState::has_triggers)
    }

    /// Asks triggers about open windows, if it is time.
    fn ask_triggers(&mut self) {
        if !self.states.iter().any(WindowState::has_panes) {
            return;
        }
        self.activator.activate_after(ASKED_EVERY);
        // What it makes would be among the results of the epoch before.
        if !self.all_are_in_this_epoch() {
            return;
        }
        let now = Instant::now();
        let is_time = self.last_asked.is_none_or(|last| now.duration_since(last) >= ASKED_EVERY);
        if is_time && !(self.settings.sinks_are_behind)() {
            self.last_asked = Some(now);
            self.states.iter_mut().for_each(WindowState::ask_triggers);
        }
    }

    /// Sends the results that triggers have asked for. Any capability will do: what an early result may say later is held by its
    /// window.
    fn send_early(&mut self, send: &mut impl FnMut(&Capability<Time>, ResultBatch)) {
        if !self.has_triggers() {
            return;
        }
        if self.has_lost_state() {
            return;
        }
        for state in &mut self.states {
            let rows = state.take_early();
            if !rows.is_empty() {
                let (_, capability) = self.held.first_key_value().expect("an open window holds a capability");
                send(capability, ResultBatch::new(state.definition(), rows));
            }
            if state.has_refused_to_purge() {
                self.settings.control.fail(ProcessorError::Config(
                    "a trigger has asked to purge a window that shares its content with others: sliding windows cannot be \
                     purged; should_purge must return false for them"
                        .into(),
                ));
            }
        }
    }

    /// Takes batches as they come: those of a later epoch wait.
    fn receive(&mut self, capability: &InputCapability<Time>, batches: &mut Vec<RowBatch>) {
        let sent_at = *capability.stamp().iter().next().expect("a source sends with one capability");
        let results = capability.delayed(&sent_at, RESULTS);
        let acknowledgements = capability.delayed(&sent_at, ACKNOWLEDGEMENTS);
        if self.must_wait(sent_at.epoch()) {
            return self.put_away(results, acknowledgements, std::mem::take(batches));
        }
        if let Some(needed) = self.take(&results, &acknowledgements, batches)
            && self.needs.as_ref().is_none_or(|needs| needs.time().event_time() > needed)
            && self.settings.epochs.is_none()
        {
            let time = Time::new(sent_at.epoch(), needed.max(sent_at.event_time()));
            self.needs = Some(capability.delayed(&time, NEEDS));
        }
    }

    /// Puts batches into their windows. Returns from where rows are needed, where that is not known from the rows.
    fn take(
        &mut self,
        results: &Capability<Time>,
        acknowledgements: &Capability<Time>,
        batches: &mut Vec<RowBatch>,
    ) -> Option<EventTime> {
        let sent_at = *results.time();
        let held = &mut self.held;
        for batch in batches.drain(..) {
            for state in &mut self.states {
                state.apply(&batch, |time| {
                    let time = Time::new(sent_at.epoch(), time.max(sent_at.event_time()));
                    held.entry(time.event_time()).or_insert_with(|| results.delayed(&time));
                });
            }
            let acknowledgement = Acknowledgement { sender: batch.sender, rows: batch.len() as u64 };
            self.unacknowledged.push((acknowledgements.clone(), acknowledgement));
            self.read_at_micros.push(batch.read_at_micros);
        }
        self.states.iter().filter_map(WindowState::needed_from).min()
    }

    fn acknowledge(&mut self, mut send: impl FnMut(&Capability<Time>, Acknowledgement)) {
        if self.unacknowledged.is_empty() {
            return;
        }
        if (self.settings.sinks_are_behind)() {
            self.activator.activate_after(BACKLOG_PAUSE);
            return;
        }
        for (capability, acknowledgement) in self.unacknowledged.drain(..) {
            send(&capability, acknowledgement);
        }
    }

    /// Sends the results that are due, and forgets what can no longer change.
    fn fire(&mut self, frontier: &MutableAntichain<Time>, mut send: impl FnMut(&Capability<Time>, ResultBatch)) {
        let frontier = self.frontier_of_windows(frontier);
        // Sinks take what a turn has sent after it: until then they cannot be seen to be behind.
        let mut left = RESULTS_PER_TURN;
        while let Some((place, due)) = self.next_due(frontier) {
            // Rows that have waited until now may have made some: they come before the result at the window's end.
            self.send_early(&mut send);
            if (self.settings.sinks_are_behind)() {
                self.activator.activate_after(BACKLOG_PAUSE);
                break;
            }
            let mut rows: Vec<ResultRow> = Vec::new();
            let fired_at = (self.settings.clock)();
            let state = &mut self.states[place];
            let done = state.fire(due, fired_at, left, &mut rows);
            left = left.saturating_sub(rows.len());
            if self.has_lost_state() {
                return;
            }
            let state = &self.states[place];
            if !rows.is_empty() {
                let (time, definition) = (state.output_time(due), state.definition());
                send(self.capability_at(time), ResultBatch::new(definition, rows));
            }
            if !done || left == 0 {
                self.activator.activate();
                break;
            }
        }
        self.send_early(&mut send);
        self.move_capabilities();
        for state in &mut self.states {
            if state.next_due(frontier).is_none() {
                state.purge(frontier);
            }
        }
    }

    /// The frontier as windows see it: batches that wait hold it back.
    fn frontier_of_windows(&self, frontier: &MutableAntichain<Time>) -> EventTime {
        let stashed = self.stash.iter().map(|stashed| stashed.results.time().event_time());
        stashed.chain(event_time_of(frontier)).min().unwrap_or(EventTime::MAX)
    }

    /// What is due next, of all definitions, with the definition's place.
    fn next_due(&mut self, frontier: EventTime) -> Option<(usize, Due)> {
        let due = |(place, state): (usize, &mut WindowState)| {
            let due = state.next_due(frontier)?;
            Some((state.output_time(due), place, due))
        };
        let first = self.states.iter_mut().enumerate().filter_map(due).min_by_key(|(time, place, _)| (*time, *place));
        first.map(|(_, place, due)| (place, due))
    }

    /// The capability with which results of this time are sent: the latest that is not after it. Where rows came behind the
    /// frontier, from a partition that was idle, it is the first after it.
    fn capability_at(&self, time: EventTime) -> &Capability<Time> {
        let before = self.held.range(..=time).next_back();
        let (_, capability) =
            before.or_else(|| self.held.first_key_value()).expect("a capability is held as long as results may come");
        capability
    }

    /// Lets go of rows that are not needed any more.
    fn move_needs(&mut self) {
        if self.needs.is_none() {
            return;
        }
        let written = (self.settings.written)().unwrap_or(EventTime::MAX);
        self.states.iter_mut().for_each(|state| state.note_written(written));
        match (self.states.iter().filter_map(WindowState::needed_from).min(), &mut self.needs) {
            (Some(needed), Some(needs)) if needed > needs.time().event_time() => {
                needs.downgrade(&Time::new(needs.time().epoch(), needed));
            }
            (None, needs) => *needs = None,
            _ => {}
        }
        if self.states.iter().any(WindowState::waits_for_written) {
            self.activator.activate_after(WRITTEN_PAUSE);
        }
    }

    /// Moves what is held to the earliest time at which there may be results.
    fn move_capabilities(&mut self) {
        let next = self.states.iter().filter_map(WindowState::next_output_time).min();
        let Some(next) = next else { return self.held.clear() };
        let mut latest = None;
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() < next) {
            latest = Some(entry.remove());
        }
        if let Some(mut capability) = latest
            && !self.held.contains_key(&next)
        {
            capability.downgrade(&Time::new(capability.time().epoch(), next));
            self.held.insert(next, capability);
        }
    }

    fn report(&mut self, frontier: &MutableAntichain<Time>) {
        let frontier = frontier.frontier().iter().copied().min();
        let turn = WindowTurn { states: &mut self.states, frontier, read_at_micros: &self.read_at_micros };
        (self.settings.observer)(turn);
        self.read_at_micros.clear();
    }
}

/// The least event time that may still come; `None` when nothing may.
pub fn event_time_of(frontier: &MutableAntichain<Time>) -> Option<EventTime> {
    frontier.frontier().iter().map(Time::event_time).min()
}
