//! The window operator: rows in, results out, driven by the frontier.
//!
//! The model: a batch goes into the [`WindowState`]; for each time at which results may come the operator holds a capability;
//! when the input's frontier passes such a time, the results are sent with it and the capability is dropped. So the output's
//! frontier is the earliest window that has not fired, and whoever watches it knows which results are complete.
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

/// What the window operator needs from its surroundings.
pub struct WindowSettings {
    /// The windows and aggregates.
    pub state: WindowStateSettings,
    /// The wall clock, for [`ResultRow::fired_at`].
    pub clock: Rc<dyn Fn() -> EventTime>,
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
            operator.report(&frontiers[0]);
        }
    });
    WindowOutputs { results: results_stream, acknowledgements: acknowledgements_stream }
}

/// Ports of the operator's outputs.
const RESULTS: usize = 0;
const ACKNOWLEDGEMENTS: usize = 1;

struct WindowOperator {
    state: WindowState,
    settings: WindowSettings,
    activator: Activator,
    /// What allows results to be sent at a time, for every time at which there may be some.
    held: BTreeMap<EventTime, Capability<Time>>,
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
                return;
            }
            let mut rows: Vec<ResultRow> = Vec::new();
            let fired_at = (self.settings.clock)();
            let done = self.state.fire(due, fired_at, RESULTS_PER_TURN, &mut rows);
            let capability = self.held.get(&due.time()).expect("a capability is held for every time that may be due");
            if !rows.is_empty() {
                send(capability, Arc::from(rows));
            }
            if !done {
                self.activator.activate();
                return;
            }
            self.release(due.time());
        }
        self.state.purge(frontier);
    }

    /// Drops the capability of a time at which nothing will be due any more. A window is due when the frontier reaches its end,
    /// late rows judged against the same time only when it has passed it.
    fn release(&mut self, time: EventTime) {
        if !self.state.is_expected_at(time) {
            self.held.remove(&time);
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
