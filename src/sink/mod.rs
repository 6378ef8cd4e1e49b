//! Where results, late records and dead letters go.
//!
//! The model: workers hand batches of results to the [`SinkHub`], which gives a ticket for each and never blocks; every sink
//! runs on a thread of its own and acknowledges what is durable; the hub's acknowledged ticket is the least over all sinks.
//! Late records and dead letters go through a [`SideOutput`] instead, whose queue is bounded: it slows the readers.
//!
//! How it fails: a write that fails is tried again by the [`RetryPolicy`], then the run ends with the sink's reason. A sink
//! that panics ends the run as well. What can be waited for (a broker that is away) is waited for inside the sink, without an
//! end, and shows as trouble: see [`SinkContext`].

mod build;
mod civil;
mod console;
mod context;
mod driver;
mod encode;
mod epoch_sink;
mod epochs;
mod file;
mod handlers;
mod hub;
mod kafka;
mod lane;
mod lines;
pub mod operator;
mod relocation;
mod result;
mod retry;
mod side;
mod side_encode;
mod side_output;
mod side_outputs;
mod side_spec;
mod spec;
mod stdout;
mod user;

pub use build::{build, dead_letter_output, given_side_output, late_output};
pub use context::{NoObserver, SinkContext, SinkObserver, Trouble};
pub use encode::{encode_record_key, encode_result};
pub use epoch_sink::{EpochSink, SinkEpoch};
pub use epochs::{Generation, Prepared, Shard, SinkRecovery};
pub use file::ProcessIdentity;
pub use handlers::{DeadLetterSink, LateEventHandler};
pub use hub::{EpochObserver, HubSummary, RoutedSink, SinkEpochs, SinkHub, SinkState, SinkSummary};
pub use kafka::{TopicWriter, producer_config};
pub use result::{Firing, ResultBatch, ResultOp, ResultRow, ResultValue, TimeWindow, ViewMark};
pub use retry::RetryPolicy;
pub use side::SideRecord;
pub use side_encode::encode_side_record;
pub use side_output::{SideOutput, SideSink};
pub use side_outputs::{SideMark, SideOutputs};
pub use side_spec::SideSpec;
pub use spec::{ConsoleSink, FileSink, IntoSinkSpec, KafkaAggregationSink, SinkSpec, StdoutSink};
pub use user::{EventSink, ResultInfo, to_aggregation_result};

use crate::error::ProcessorResult;
use crate::time::Epoch;
use std::time::Duration;

/// A place for results. Each runs on a thread of its own, so that it may block.
pub trait ResultSink: Send {
    /// What logs and metrics call it: `kafka`, `file`, `stdout`, `console`, or the user's word.
    fn name(&self) -> &str;

    /// What it is among the sinks of a job, whatever their order: with this a checkpoint finds it again.
    fn identity(&self) -> String {
        self.name().to_owned()
    }

    /// Called once, on the sink's thread, before anything else. An error ends the run at once: what can be waited for is
    /// waited for in here.
    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        let _ = context;
        Ok(())
    }

    /// Takes a batch. It may return before the batch is durable.
    ///
    /// After an error it is called again with the same batch, and what the failed call had already done must not be done twice.
    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()>;

    /// Returns when everything written is as durable as this sink can make it. After an error it is called again.
    fn flush(&mut self) -> ProcessorResult<()>;

    /// The orderly end: flushes, and makes visible what waits for the end. Not called when the run has failed.
    fn close(&mut self) -> ProcessorResult<()> {
        self.flush()
    }

    /// What is called once, after [`ResultSink::open`] and before anything is written, in a job that takes checkpoints: the sink
    /// makes what it has written what the checkpoint says. Delivering what the checkpoint still holds is part of it.
    fn recover(&mut self, recovery: SinkRecovery) -> ProcessorResult<()> {
        let _ = recovery;
        Ok(())
    }

    /// All results of `epoch` have been written, and none of a later one. Returns what the checkpoint must hold for the sink;
    /// everything else is durable when this returns.
    fn prepare(&mut self, epoch: Epoch) -> ProcessorResult<Prepared> {
        let _ = epoch;
        self.flush()?;
        Ok(Prepared::default())
    }

    /// The checkpoint of `epoch`, which was prepared before, is published: what it holds for the sink is to be delivered. Returns
    /// when it is.
    fn commit(&mut self, epoch: Epoch) -> ProcessorResult<()> {
        let _ = epoch;
        Ok(())
    }

    /// Whether written results stay invisible until [`ResultSink::commit`].
    fn keeps_until_commit(&self) -> bool {
        false
    }

    /// Whether it holds back more than it should: an epoch that ends soon would be welcome.
    fn wants_epoch_end(&self) -> bool {
        false
    }

    /// How long a written batch may wait for company before it is flushed. Zero flushes as soon as no batch is waiting.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }
}

/// The position of a batch in the order in which the hub took batches; 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub u64);
