//! The sink operator: hands results to the sinks, and lets the frontier pass when they are written.
//!
//! The model: each batch is submitted and its capability kept until the hub acknowledges the batch's ticket. So the frontier
//! behind this operator says which results are written by every sink, on every worker of every process.

use super::{ResultBatch, Ticket};
use crate::time::Time;
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
    /// Told the input's frontier and how many batches wait, after each turn.
    pub observer: Box<dyn FnMut(Option<Time>, usize)>,
}

/// Builds the sink operator. Nothing flows out of it; its output is there to be watched.
pub fn sink<'scope>(
    results: Stream<'scope, Time, Vec<ResultBatch>>,
    mut settings: SinkSettings,
) -> Stream<'scope, Time, Vec<()>> {
    let scope = results.scope();
    let mut builder = OperatorBuilder::new("sink".to_owned(), scope);
    let address = builder.operator_info().address.to_vec();
    let activator = scope.worker().sync_activator_for(address);
    (settings.on_acknowledged)(Arc::new(move || {
        // The worker has ended: there is nobody left to wake.
        let _ = activator.activate();
    }));
    let mut input = builder.new_input(results, Pipeline);
    let (_output, stream) = builder.new_output::<Vec<()>>();

    builder.build_reschedule(move |capabilities| {
        drop(capabilities);
        let mut waiting: VecDeque<(Ticket, Capability<Time>)> = VecDeque::new();
        move |frontiers: &[MutableAntichain<Time>]| {
            input.for_each(|capability, batches| {
                let time = *capability.stamp().iter().next().expect("results are sent with one capability");
                for batch in batches.drain(..) {
                    let ticket = (settings.submit)(batch);
                    waiting.push_back((ticket, capability.delayed(&time, 0)));
                }
            });
            let acknowledged = (settings.acknowledged)();
            while waiting.front().is_some_and(|(ticket, _)| *ticket <= acknowledged) {
                waiting.pop_front();
            }
            (settings.observer)(frontiers[0].frontier().iter().copied().min(), waiting.len());
            !waiting.is_empty()
        }
    });
    stream
}
