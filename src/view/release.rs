//! From results to changes of facts: the operator that feeds the views' programs.
//!
//! The model: results go into [`Retained`] as they come and wait; a closing (see [`super::closing`]) turns what it covers into
//! changes, which are sent to each view at the closing's time. Nothing of an epoch is on the way when it has ended, so what is
//! retained then is all that a checkpoint needs; see [`Keeper`].

use super::closing::{Closing, told};
use super::retained::{FactChange, Retained};
use super::{Fact, View};
use crate::sink::ResultBatch;
use crate::time::{EventTime, Time};
use crate::window::event_time_of;
use std::collections::VecDeque;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

/// Changes of facts, as differential dataflow has them.
pub type FactUpdates = Vec<(Fact, Time, isize)>;

/// Keeps what is retained, at the ends of epochs, in a job that takes checkpoints.
pub trait Keeper {
    /// Looked at in each turn: `frontier` is that of all inputs together, and every closing of an ended epoch has been done.
    fn turn(&mut self, retained: &mut Retained, frontier: &[Time]);
    /// Has the operator woken when there is news.
    fn wake_by(&mut self, activator: Activator);
}

/// A closing that is to be done, with what allows its changes to be sent, one a view.
struct Told {
    closing: Closing,
    capabilities: Vec<Capability<Time>>,
}

/// An output of the operator.
type Output = OutputBuilder<Time, CapacityContainerBuilder<FactUpdates>>;

/// Sends changes to the views that they are for.
fn send(outputs: &mut [Output], capabilities: &[Capability<Time>], changes: &mut Vec<FactChange>) {
    let mut of_each: Vec<FactUpdates> = outputs.iter().map(|_| Vec::new()).collect();
    for (view, fact, change) in changes.drain(..) {
        of_each[view].push((fact, *capabilities[view].time(), change));
    }
    for ((mut updates, output), capability) in of_each.into_iter().zip(outputs).zip(capabilities) {
        if !updates.is_empty() {
            output.activate().session(capability).give_container(&mut updates);
        }
    }
}

/// Builds the operator: a stream of changes for each view. `retained` has what an earlier run had.
pub fn release<'scope>(
    results: Stream<'scope, Time, Vec<ResultBatch>>,
    closings: Stream<'scope, Time, Vec<Closing>>,
    mut retained: Retained,
    mut keeper: Option<Box<dyn Keeper>>,
    views: &[View],
) -> Vec<Stream<'scope, Time, FactUpdates>> {
    let scope = results.scope();
    let mut builder = OperatorBuilder::new("view-release".to_owned(), scope);
    let address = builder.operator_info().address;
    if let Some(keeper) = &mut keeper {
        keeper.wake_by(scope.activator_for(address));
    }
    let mut results = builder.new_input(results, Pipeline);
    let mut closings = builder.new_input(closings, Exchange::new(told));
    let mut outputs = Vec::new();
    let mut streams = Vec::new();
    for _ in views {
        let (output, stream) = builder.new_output::<FactUpdates>();
        outputs.push(Output::from(output));
        streams.push(stream);
    }

    builder.build(move |capabilities| {
        let mut beginning = Some(capabilities);
        let mut told: VecDeque<Told> = VecDeque::new();
        let mut changes: Vec<FactChange> = Vec::new();
        move |frontiers: &[MutableAntichain<Time>]| {
            if let Some(capabilities) = beginning.take() {
                retained.restored(&mut changes);
                send(&mut outputs, &capabilities, &mut changes);
            }
            results.for_each(|capability, batches| {
                let time = *capability.stamp().iter().next().expect("results are sent with one capability");
                batches.drain(..).for_each(|batch| {
                    retained.receive(time, &batch);
                });
            });
            closings.for_each(|capability, closings| {
                let time = *capability.stamp().iter().next().expect("closings are said with one capability");
                for closing in closings.drain(..) {
                    let capabilities = (0..outputs.len()).map(|view| capability.delayed(&time, view)).collect();
                    told.push_back(Told { closing, capabilities });
                }
            });
            // A closing may be faster than the last results that it covers.
            let there = event_time_of(&frontiers[0]).unwrap_or(EventTime::MAX);
            let may_come = |epoch| frontiers[0].frontier().iter().any(|time| time.epoch() <= epoch);
            let is_due = |told: &Told| there >= told.closing.frontier || !may_come(told.closing.epoch);
            while told.front().is_some_and(is_due) {
                let Some(Told { closing, capabilities }) = told.pop_front() else { break };
                if let Some(keeper) = &mut keeper {
                    keeper.turn(&mut retained, &[Time::new(closing.epoch, closing.frontier)]);
                }
                retained.close(closing.epoch, closing.frontier, &mut changes);
                send(&mut outputs, &capabilities, &mut changes);
            }
            if let (Some(keeper), true) = (&mut keeper, told.is_empty()) {
                let times: Vec<Time> = frontiers
                    .iter()
                    .flat_map(|frontier| frontier.frontier().iter().copied().collect::<Vec<_>>())
                    .collect();
                keeper.turn(&mut retained, &times);
            }
        }
    });
    streams
}
