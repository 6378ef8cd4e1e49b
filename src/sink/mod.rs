//! Where results, late records and dead letters go.
//!
//! The model: workers hand batches of results to the [`SinkHub`], which gives a ticket for each and never blocks; every sink
//! runs on a thread of its own and acknowledges what is durable; the hub's acknowledged ticket is the least over all sinks.

pub mod operator;
mod result;
mod side;

pub use result::{Firing, ResultBatch, ResultOp, ResultRow, ResultValue, TimeWindow};
pub use side::SideRecord;

use crate::error::ProcessorResult;

/// A place for results. Each runs on a thread of its own, so that it may block.
pub trait ResultSink: Send {
    /// What logs and metrics call it: `kafka`, `file`, `stdout`, `console`, or the user's word.
    fn name(&self) -> &str;

    /// Takes a batch. It may return before the batch is durable.
    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()>;

    /// Returns when everything written is as durable as this sink can make it.
    fn flush(&mut self) -> ProcessorResult<()>;

    /// The orderly end: flushes, and makes visible what waits for the end.
    fn close(&mut self) -> ProcessorResult<()> {
        self.flush()
    }
}

/// The position of a batch in the order in which the hub took batches; 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub u64);
