//! What is closed: the steps in which all views of a job move on, the same on every worker.
//!
//! The model: each batch of results leaves a [`Stamp`], which the first worker collects. When the frontier shows that everything
//! before an event time is there, it says a [`Closing`] to all workers, if something is: from then on that belongs to the views'
//! content. One worker decides, so all agree in which epoch a window closes; the closing travels in its epoch, so the epoch does not
//! end before every worker has done what it says. Closings are in one order, in epoch and in event time: the times of changes in
//! the views' dataflows are a chain, and no view ever stands between two of them.
//!
//! A result of a later epoch than the one that is closing may be there already. It belongs to a later closing, and so does all that
//! is not before it: a closing never has a part of a window.

use super::retained::Retained;
use crate::sink::ResultBatch;
use crate::time::{Epoch, EventTime, Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// Results were sent at this time. In the order of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    event_time: EventTime,
    epoch: Epoch,
}

impl Stamp {
    /// Of this time.
    pub fn of(time: Time) -> Self {
        Self { event_time: time.event_time(), epoch: time.epoch() }
    }
}

/// Everything that was sent before an event time, in an epoch or before it, is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The worker that is told.
    worker: u64,
    /// The epoch.
    pub epoch: Epoch,
    /// The event time.
    pub frontier: EventTime,
}

/// When closings are said. The decisions of the first worker, without timely.
#[derive(Debug)]
pub struct Closer {
    stamps: BTreeSet<Stamp>,
    epoch: Epoch,
}

/// What the closer makes of a frontier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// To be said, in this order.
    pub closings: Vec<(Epoch, EventTime)>,
    /// What it may still say is not before this; `None`: nothing.
    pub next: Option<(Epoch, EventTime)>,
}

impl Closer {
    /// One that has seen nothing, in a run that begins with this epoch.
    pub fn new(epoch: Epoch) -> Self {
        Self { stamps: BTreeSet::new(), epoch }
    }

    /// Results were sent.
    pub fn note(&mut self, stamp: Stamp) {
        self.stamps.insert(stamp);
    }

    /// Results of these times may still come: a frontier.
    pub fn look(&mut self, frontier: &[Time]) -> Closed {
        let event_time = frontier.iter().map(Time::event_time).min().unwrap_or(EventTime::MAX);
        let epoch = frontier.iter().map(Time::epoch).min();
        let mut closings = Vec::new();
        loop {
            closings.extend(self.close(event_time).map(|until| (self.epoch, until)));
            let later = self.stamps.iter().map(|stamp| stamp.epoch).filter(|epoch| *epoch > self.epoch).min();
            match later.into_iter().chain(epoch).min() {
                Some(next) if next > self.epoch => self.epoch = next,
                Some(_) => break,
                None => return Closed { closings, next: None },
            }
        }
        let next = self.first_of_later_epochs().into_iter().fold(event_time, EventTime::min);
        Closed { closings, next: Some((self.epoch, next)) }
    }

    /// Takes what can be closed in this epoch. Returns until where.
    fn close(&mut self, event_time: EventTime) -> Option<EventTime> {
        let until = self.first_of_later_epochs().into_iter().fold(event_time, EventTime::min);
        let is_closed = |stamp: &Stamp| stamp.epoch <= self.epoch && stamp.event_time < until;
        let last = self.stamps.iter().filter(|stamp| is_closed(stamp)).map(|stamp| stamp.event_time).next_back()?;
        self.stamps.retain(|stamp| stamp.epoch > self.epoch || stamp.event_time >= until);
        // At the end of the input there is no frontier to name.
        Some(if until == EventTime::MAX { last.saturating_add(Span::from_millis(1)) } else { until })
    }

    fn first_of_later_epochs(&self) -> Option<EventTime> {
        self.stamps.iter().find(|stamp| stamp.epoch > self.epoch).map(|stamp| stamp.event_time)
    }
}

/// Builds the operators that say closings. `restored`: what waits from an earlier run, on this worker; `first`: the run's first epoch.
pub fn closings<'scope>(
    results: Stream<'scope, Time, Vec<ResultBatch>>,
    restored: &Retained,
    first: Epoch,
) -> Stream<'scope, Time, Vec<Closing>> {
    let restored: Vec<Stamp> = restored.waiting_times().map(|event_time| Stamp { event_time, epoch: first }).collect();
    say_closings(stamps(results, restored), first)
}

/// The times of all batches, and of what was restored.
fn stamps<'scope>(
    results: Stream<'scope, Time, Vec<ResultBatch>>,
    restored: Vec<Stamp>,
) -> Stream<'scope, Time, Vec<Stamp>> {
    let mut builder = OperatorBuilder::new("view-stamps".to_owned(), results.scope());
    let mut input = builder.new_input(results, Pipeline);
    let (output, stream) = builder.new_output::<Vec<Stamp>>();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Stamp>>>::from(output);
    builder.build(move |mut capabilities| {
        let mut beginning = capabilities.pop().map(|capability| (capability, restored));
        move |_frontiers| {
            if let Some((capability, stamps)) = beginning.take() {
                stamps.into_iter().for_each(|stamp| output.activate().session(&capability).give(stamp));
            }
            input.for_each(|capability, batches| {
                let time = *capability.stamp().iter().next().expect("results are sent with one capability");
                if batches.iter().any(|batch| !batch.rows.is_empty()) {
                    let capability = capability.delayed(&time, 0);
                    output.activate().session(&capability).give(Stamp::of(time));
                }
                batches.clear();
            });
        }
    });
    stream
}

/// Has the first worker decide and tell all.
fn say_closings<'scope>(stamps: Stream<'scope, Time, Vec<Stamp>>, first: Epoch) -> Stream<'scope, Time, Vec<Closing>> {
    let scope = stamps.scope();
    let (peers, decides) = (scope.peers() as u64, scope.index() == 0);
    let mut builder = OperatorBuilder::new("view-closings".to_owned(), scope);
    let mut input = builder.new_input(stamps, Exchange::new(|_: &Stamp| 0));
    let (output, stream) = builder.new_output::<Vec<Closing>>();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Closing>>>::from(output);
    builder.build(move |mut capabilities| {
        let mut held: Option<Capability<Time>> = capabilities.pop().filter(|_| decides);
        let mut closer = Closer::new(first);
        move |frontiers: &[MutableAntichain<Time>]| {
            input.for_each(|_capability, stamps| stamps.drain(..).for_each(|stamp| closer.note(stamp)));
            let Some(capability) = &mut held else { return };
            let closed = closer.look(&frontiers[0].frontier());
            for (epoch, frontier) in closed.closings {
                move_on(capability, epoch, frontier);
                let mut output = output.activate();
                let mut session = output.session(&*capability);
                (0..peers).for_each(|worker| session.give(Closing { worker, epoch, frontier }));
            }
            match closed.next {
                Some((epoch, event_time)) => move_on(capability, epoch, event_time),
                None => held = None,
            }
        }
    });
    stream
}

fn move_on(capability: &mut Capability<Time>, epoch: Epoch, event_time: EventTime) {
    let time = Time::new(epoch.max(capability.time().epoch()), event_time.max(capability.time().event_time()));
    capability.downgrade(&time);
}

/// The worker that a closing is for.
pub(super) fn told(closing: &Closing) -> u64 {
    closing.worker
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn time(epoch: u64, millis: i64) -> Time {
        Time::new(Epoch::new(epoch), at(millis))
    }

    fn closer(stamps: &[(u64, i64)]) -> Closer {
        let mut closer = Closer::new(Epoch::FIRST);
        stamps.iter().for_each(|(epoch, millis)| closer.note(Stamp::of(time(*epoch, *millis))));
        closer
    }

    #[test]
    fn what_is_before_the_frontier_is_closed_once() {
        let mut closer = closer(&[(0, 10), (0, 20)]);
        let closed = closer.look(&[time(0, 10)]);
        assert_eq!(closed.closings, [], "more may come at 10");
        let closed = closer.look(&[time(0, 15)]);
        assert_eq!(closed.closings, [(Epoch::FIRST, at(15))]);
        assert_eq!(closer.look(&[time(0, 18)]).closings, [], "nothing new is before it");
        assert_eq!(closer.look(&[]), Closed { closings: vec![(Epoch::FIRST, at(21))], next: None });
    }

    #[test]
    fn an_epoch_closes_what_it_can_before_it_ends() {
        let mut closer = closer(&[(0, 10), (0, 30)]);
        let closed = closer.look(&[time(1, 20)]);
        assert_eq!(closed.closings, [(Epoch::FIRST, at(20))]);
        assert_eq!(closed.next, Some((Epoch::new(1), at(20))));
        assert_eq!(closer.look(&[time(1, 40)]).closings, [(Epoch::new(1), at(40))]);
    }

    #[test]
    fn a_window_that_fires_in_two_epochs_closes_in_the_later() {
        let mut closer = closer(&[(0, 10), (0, 20), (1, 20)]);
        let closed = closer.look(&[time(0, 25), time(1, 30)]);
        assert_eq!(closed.closings, [(Epoch::FIRST, at(20))], "20 is there in part");
        assert_eq!(closed.next, Some((Epoch::FIRST, at(20))));
        assert_eq!(closer.look(&[time(1, 30)]).closings, [(Epoch::new(1), at(30))]);
    }
}
