//! The sink operator: hands results to the sinks, and lets the frontier pass when they are written.
//!
//! The model: each batch is submitted and its capability kept until the hub acknowledges the batch's ticket. So the frontier
//! behind this operator says which results are written by every sink, on every worker of every process.
//!
//! In a job that takes checkpoints it says when all results of an epoch have been handed over. What it holds for that is what
//! everybody waits for who must know that no worker is in the epoch any more.

use super::{ResultBatch, Ticket};
use crate::checkpoint::WorkerEpochs;
use crate::time::{Epoch, Time};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

/// Called from any thread to wake a worker.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What the sink operator needs from its surroundings.
pub struct SinkSettings {
    /// Takes a batch without waiting.
    pub submit: Rc<dyn Fn(ResultBatch) -> Ticket>,
    /// The last ticket up to which everything is written.
    pub acknowledged: Rc<dyn Fn() -> Ticket>,
    /// Registers what is to be called, from any thread, when that advances.
    pub on_acknowledged: Box<dyn FnOnce(Waker)>,
    /// What the worker's operators share about epochs, in a job that takes checkpoints.
    pub epochs: Option<WorkerEpochs>,
    /// Told of each epoch of which this worker has handed over all results.
    pub end_epoch: Rc<dyn Fn(Epoch)>,
    /// Told the input's frontier and how many batches wait, after each turn.
    pub observer: Box<dyn FnMut(Option<Time>, usize)>,
}

/// The streams that leave the sink operator. Nothing flows there; they are there to be watched.
pub struct SinkOutputs<'scope> {
    /// Its frontier says which results are written by every sink.
    pub written: Stream<'scope, Time, Vec<()>>,
    /// Its frontier says, by its epoch, which results have been handed to the sinks, in a job that takes checkpoints.
    pub taken: Stream<'scope, Time, Vec<()>>,
}

/// The port of [`SinkOutputs::written`].
const WRITTEN: usize = 0;
/// The port of [`SinkOutputs::taken`].
const TAKEN: usize = 1;

/// Builds the sink operator.
pub fn sink<'scope>(
    results: Stream<'scope, Time, Vec<ResultBatch>>,
    mut settings: SinkSettings,
) -> SinkOutputs<'scope> {
    let scope = results.scope();
    let mut builder = OperatorBuilder::new("sink".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.worker().sync_activator_for(address.to_vec());
    (settings.on_acknowledged)(Arc::new(move || {
        // The worker has ended: there is nobody left to wake.
        let _ = activator.activate();
    }));
    if let Some(epochs) = &settings.epochs {
        epochs.wake_on_news(scope.activator_for(address));
    }
    let mut input = builder.new_input(results, Pipeline);
    let (_written, written_stream) = builder.new_output::<Vec<()>>();
    let (_taken, taken_stream) = builder.new_output::<Vec<()>>();

    builder.build_reschedule(move |mut capabilities| {
        let mut end = settings.epochs.take().map(|epochs| EpochEnd::new(epochs, capabilities.swap_remove(TAKEN)));
        drop(capabilities);
        let mut waiting: VecDeque<(Ticket, Capability<Time>)> = VecDeque::new();
        move |frontiers: &[MutableAntichain<Time>]| {
            input.for_each(|capability, batches| {
                let time = *capability.stamp().iter().next().expect("results are sent with one capability");
                for batch in batches.drain(..) {
                    let ticket = (settings.submit)(batch);
                    waiting.push_back((ticket, capability.delayed(&time, WRITTEN)));
                }
            });
            if let Some(end) = &mut end {
                end.look(&frontiers[0], &*settings.end_epoch);
            }
            let acknowledged = (settings.acknowledged)();
            while waiting.front().is_some_and(|(ticket, _)| *ticket <= acknowledged) {
                waiting.pop_front();
            }
            (settings.observer)(frontiers[0].frontier().iter().copied().min(), waiting.len());
            !waiting.is_empty()
        }
    });
    SinkOutputs { written: written_stream, taken: taken_stream }
}

/// Says when all results of an epoch have been handed to the sinks.
struct EpochEnd {
    epochs: WorkerEpochs,
    epoch: Epoch,
    /// In the epoch, as long as it has not ended. It keeps the operator alive when there is no more input.
    holds: Capability<Time>,
}

impl EpochEnd {
    fn new(epochs: WorkerEpochs, mut capability: Capability<Time>) -> Self {
        let epoch = epochs.first().epoch;
        capability.downgrade(&capability.time().in_epoch(epoch));
        Self { epochs, epoch, holds: capability }
    }

    fn look(&mut self, frontier: &MutableAntichain<Time>, end_epoch: &dyn Fn(Epoch)) {
        let may_come = frontier.frontier().iter().any(|time| time.epoch() <= self.epoch);
        if may_come || !self.epochs.ends(self.epoch) {
            return;
        }
        tracing::trace!(target: "checkpoint", "all results of epoch {} are with the sinks", self.epoch);
        end_epoch(self.epoch);
        self.epoch = self.epoch.next();
        self.holds.downgrade(&self.holds.time().in_epoch(self.epoch));
    }
}
