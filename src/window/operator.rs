//! The window operator: rows in, results out, driven by the frontier.
//!
//! The model: a batch goes into the [`WindowState`]; the operator holds a capability at the earliest time at which results may
//! come, and at later times that it was told of; when the input's frontier reaches such a time, the results are sent with it and
//! the capability moves on to the next. So the output's frontier is the earliest window that has not fired, and whoever watches it
//! knows which results are complete.
//!
//! Each batch is acknowledged to its sender when it is in its windows, unless the sinks are behind: then the acknowledgements
//! wait, the senders run out of credit, and the readers stop.

use super::state::{WindowState, WindowStateSettings};
use crate::event::RowBatch;
use crate::exchange::flow::Acknowledgement;
use crate::sink::{ResultBatch, ResultRow};
use crate::time::{EventTime, Time};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
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
    /// The windows and aggregates.
    pub state: WindowStateSettings,
    /// The wall clock, for [`ResultRow::fired_at`].
    pub clock: Rc<dyn Fn() -> EventTime>,
    /// The frontier behind the sinks: results of windows that end before it are written. `None` when all are.
    pub written: Rc<dyn Fn() -> Option<EventTime>>,
    /// Whether the sinks have more results than they should.
    pub sinks_are_behind: Rc<dyn Fn() -> bool>,
    /// Told after each turn what happened in it.
    pub observer: Box<dyn FnMut(WindowTurn<'_>)>,
}

/// What happened in one turn of the operator.
pub struct WindowTurn<'a> {
    /// The windows as they are now.
    pub state: &'a mut WindowState,
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
pub fn window<'scope>(rows: Stream<'scope, Time, Vec<RowBatch>>, settings: WindowSettings) -> WindowOutputs<'scope> {
    // A worker alone has nobody to exchange with.
    match rows.scope().peers() {
        1 => window_with(rows, Pipeline, settings),
        _ => window_with(rows, Exchange::new(|batch: &RowBatch| u64::from(batch.receiver.0)), settings),
    }
}

fn window_with<'scope>(
    rows: Stream<'scope, Time, Vec<RowBatch>>,
    pact: impl ParallelizationContract<Time, Vec<RowBatch>>,
    settings: WindowSettings,
) -> WindowOutputs<'scope> {
    let scope = rows.scope();
    let mut builder = OperatorBuilder::new("window".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut input = builder.new_input(rows, pact);
    let (results, results_stream) = builder.new_output::<Vec<ResultBatch>>();
    let (acknowledgements, acknowledgements_stream) = builder.new_output::<Vec<Acknowledgement>>();
    let (_needs, needs_stream) = match settings.state.windowing.ends_are_known() {
        true => (None, None),
        false => {
            let (needs, stream) = builder.new_output::<Vec<()>>();
            (Some(needs), Some(stream))
        }
    };
    let mut results = OutputBuilder::<_, CapacityContainerBuilder<Vec<ResultBatch>>>::from(results);
    let mut acknowledgements =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Acknowledgement>>>::from(acknowledgements);

    builder.build(move |capabilities| {
        drop(capabilities);
        let mut operator = WindowOperator::new(settings, activator);
        move |frontiers| {
            input.for_each(|capability, batches| operator.take(&capability, batches));
            operator.acknowledge(|capability, acknowledgement| {
                acknowledgements.activate().session(capability).give(acknowledgement);
            });
            operator.fire(&frontiers[0], |capability, batch| results.activate().session(capability).give(batch));
            operator.move_needs();
            operator.report(&frontiers[0]);
        }
    });
    WindowOutputs { results: results_stream, acknowledgements: acknowledgements_stream, needs: needs_stream }
}

/// Ports of the operator's outputs.
const RESULTS: usize = 0;
const ACKNOWLEDGEMENTS: usize = 1;
const NEEDS: usize = 2;

struct WindowOperator {
    state: WindowState,
    settings: WindowSettings,
    activator: Activator,
    /// What allows results to be sent, by its time: none is later than the earliest time at which there may be some.
    held: BTreeMap<EventTime, Capability<Time>>,
    /// At the earliest time from which rows are needed.
    needs: Option<Capability<Time>>,
    unacknowledged: Vec<(Capability<Time>, Acknowledgement)>,
    read_at_micros: Vec<i64>,
}

impl WindowOperator {
    fn new(settings: WindowSettings, activator: Activator) -> Self {
        Self {
            state: WindowState::new(settings.state.clone()),
            settings,
            activator,
            held: BTreeMap::new(),
            needs: None,
            unacknowledged: Vec::new(),
            read_at_micros: Vec::new(),
        }
    }

    /// Puts batches into their windows.
    fn take(&mut self, capability: &InputCapability<Time>, batches: &mut Vec<RowBatch>) {
        let sent_at = *capability.stamp().iter().next().expect("a source sends with one capability");
        let held = &mut self.held;
        for batch in batches.drain(..) {
            self.state.apply(&batch, |time| {
                let time = Time::new(sent_at.epoch(), time.max(sent_at.event_time()));
                held.entry(time.event_time()).or_insert_with(|| capability.delayed(&time, RESULTS));
            });
            if let Some(needed) = self.state.needed_from()
                && self.needs.as_ref().is_none_or(|needs| needs.time().event_time() > needed)
            {
                let time = Time::new(sent_at.epoch(), needed.max(sent_at.event_time()));
                self.needs = Some(capability.delayed(&time, NEEDS));
            }
            let acknowledgement = Acknowledgement { sender: batch.sender, rows: batch.len() as u64 };
            self.unacknowledged.push((capability.delayed(&sent_at, ACKNOWLEDGEMENTS), acknowledgement));
            self.read_at_micros.push(batch.read_at_micros);
        }
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
        let frontier = event_time_of(frontier).unwrap_or(EventTime::MAX);
        while let Some(due) = self.state.next_due(frontier) {
            if (self.settings.sinks_are_behind)() {
                self.activator.activate_after(BACKLOG_PAUSE);
                break;
            }
            let mut rows: Vec<ResultRow> = Vec::new();
            let fired_at = (self.settings.clock)();
            let done = self.state.fire(due, fired_at, RESULTS_PER_TURN, &mut rows);
            if !rows.is_empty() {
                send(self.capability_at(self.state.output_time(due)), Arc::from(rows));
            }
            if !done {
                self.activator.activate();
                break;
            }
        }
        self.move_capabilities();
        if self.state.next_due(frontier).is_none() {
            self.state.purge(frontier);
        }
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
        self.state.note_written((self.settings.written)().unwrap_or(EventTime::MAX));
        match (self.state.needed_from(), &mut self.needs) {
            (Some(needed), Some(needs)) if needed > needs.time().event_time() => {
                needs.downgrade(&Time::new(needs.time().epoch(), needed));
            }
            (None, needs) => *needs = None,
            _ => {}
        }
        if self.state.waits_for_written() {
            self.activator.activate_after(WRITTEN_PAUSE);
        }
    }

    /// Moves what is held to the earliest time at which there may be results.
    fn move_capabilities(&mut self) {
        let Some(next) = self.state.next_output_time() else { return self.held.clear() };
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
        let turn = WindowTurn { state: &mut self.state, frontier, read_at_micros: &self.read_at_micros };
        (self.settings.observer)(turn);
        self.read_at_micros.clear();
    }
}

/// The least event time that may still come; `None` when nothing may.
pub fn event_time_of(frontier: &MutableAntichain<Time>) -> Option<EventTime> {
    frontier.frontier().iter().map(Time::event_time).min()
}
