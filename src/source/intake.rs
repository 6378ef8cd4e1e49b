//! The intake: from payloads to batches of rows. (Interface; the body follows.)

use crate::error::ProcessorResult;
use crate::event::{Offset, PartitionName};
use crate::time::EventTime;

/// A partition, to the intake of the worker that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionSlot(pub u32);

/// What a side output wants to know of a record beyond its payload. Asked only when the record goes there.
pub trait RecordOrigin {
    /// The record's key.
    fn key(&self) -> Option<Vec<u8>> {
        None
    }
    /// The record's headers.
    fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        Vec::new()
    }
}

/// A record with neither key nor headers: a line of a file.
pub struct NoOrigin;

impl RecordOrigin for NoOrigin {}

/// Decodes, judges and routes the records of one worker.
pub struct Intake {}

#[allow(unused_variables)]
impl Intake {
    /// Announces a partition. Until it is closed or idle it holds the frontier back.
    ///
    /// `closed_before` is what [`super::Settled`] said in an earlier run of the same job, or [`EventTime::MIN`].
    pub fn open_partition(&mut self, name: PartitionName, closed_before: EventTime) -> PartitionSlot {
        todo!()
    }

    /// Says that the partitions which exist at the start have all been opened. Before this the worker holds the frontier back
    /// even when it has no partition.
    pub fn set_ready(&mut self) {
        todo!()
    }

    /// Takes one event that is a row already. `raw` makes its bytes for the side output.
    pub fn row(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        row: &mut crate::event::RowScratch,
        raw: &mut dyn FnMut() -> Vec<u8>,
    ) -> ProcessorResult<()> {
        todo!()
    }

    /// Takes one record that is no row. The error is the end of the run, under the policy `fail`.
    pub fn bad(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        bad: crate::event::BadRecord,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()> {
        todo!()
    }

    /// Takes one record. The error is the end of the run: a bad record under the policy `fail`.
    pub fn record(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()> {
        todo!()
    }

    /// Takes one record that is larger than the source reads: it goes where bad records go, with its first bytes.
    pub fn too_large(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        first_bytes: &[u8],
        size: u64,
    ) -> ProcessorResult<()> {
        todo!()
    }

    /// Takes note of a record without a value; it is counted and passed over.
    pub fn tombstone(&mut self, slot: PartitionSlot, offset: Offset) {
        todo!()
    }

    /// Says whether the partition is idle: read to its end, and silent for the idle time-out. An idle partition does not hold
    /// the frontier back; the next record wakes it.
    pub fn set_idle(&mut self, slot: PartitionSlot, idle: bool) {
        todo!()
    }

    /// Says that a partition has ended.
    pub fn close_partition(&mut self, slot: PartitionSlot) {
        todo!()
    }
}
