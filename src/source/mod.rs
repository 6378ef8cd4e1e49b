//! Where events come from.
//!
//! The model: each worker has one [`Source`], which owns some of the job's partitions. The worker polls it; the source hands
//! each record to the [`Intake`], which decodes it, judges its lateness against its own partition's watermark, and puts the row
//! into the batch for the worker that owns its key. A source never blocks and never looks into a record.

pub mod file;
pub mod generator;
mod idle_close;
mod intake;
pub mod kafka;
mod lines;
pub mod memory;
pub mod operator;
mod partition;
pub mod peers;
mod resume;
pub mod stdin;

pub use intake::{Intake, IntakeCounts, IntakeRules, KeyAddresses, NoOrigin, PartitionSlot, RecordOrigin, SideWriter};
pub use partition::Partition;
pub use resume::{Losses, Resume, StartAt};

use crate::checkpoint::PartitionCut;
use crate::error::ProcessorResult;
use crate::event::Offset;
use crate::time::EventTime;
use std::time::Duration;

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It handed over this many records; there may be more at once.
    Records(usize),
    /// There is nothing now; asking again before this has passed is a waste.
    Nothing(Duration),
    /// There is nothing and never will be: every partition has been closed.
    Finished,
}

/// How far a partition's records are done with: every window that a record before `offset` belongs to is closed, and its
/// results are acknowledged by every sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The partition.
    pub slot: PartitionSlot,
    /// The first record that is still needed.
    pub offset: Offset,
    /// Windows that end at or before this are complete and written; reading again from `offset` must not open them again.
    pub closed_before: EventTime,
}

/// One worker's share of the input. It lives on the worker's thread.
pub trait Source {
    /// Hands at most `max_records` records to `intake`, without waiting for more.
    ///
    /// An error ends the run; what can be waited for (a broker that is down) is no error but logged, shown in the status and
    /// tried again.
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled>;

    /// Told now and then how far the input is settled, for committing offsets. Only partitions that moved are listed.
    fn settled(&mut self, settled: &[Settled]) {
        let _ = settled;
    }

    /// Told that the checkpoint of these cuts, which are of this worker's partitions, is published. A job that takes checkpoints
    /// tells this instead of [`Source::settled`].
    fn checkpointed(&mut self, cuts: &[PartitionCut]) {
        let _ = cuts;
    }

    /// The orderly end, after everything is settled that will be: commits, closes. Waits a few seconds at most.
    fn close(&mut self) -> ProcessorResult<()> {
        Ok(())
    }
}
