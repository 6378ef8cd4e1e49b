//! Whom the reader hands records to.

use crate::error::ProcessorResult;
use crate::event::{Offset, PartitionName};
use crate::source::{Intake, PartitionSlot, RecordOrigin};
use crate::time::EventTime;

/// The part of the [`Intake`] that the reader uses. Something else may stand in its place to look at a topic's records alone.
pub trait RecordReceiver {
    /// See [`Intake::open_partition`].
    fn open_partition(&mut self, name: PartitionName, closed_before: EventTime) -> PartitionSlot;

    /// See [`Intake::note_closed`]. Whoever has no windows need not know.
    fn note_closed(&mut self, closed_before: EventTime) {
        let _ = closed_before;
    }

    /// See [`Intake::set_ready`].
    fn set_ready(&mut self);

    /// See [`Intake::record`].
    fn record(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()>;

    /// See [`Intake::tombstone`].
    fn tombstone(&mut self, slot: PartitionSlot, offset: Offset);

    /// See [`Intake::set_idle`].
    fn set_idle(&mut self, slot: PartitionSlot, idle: bool);

    /// See [`Intake::set_next`]. Whoever takes no checkpoints need not know.
    fn set_next(&mut self, slot: PartitionSlot, next: Offset) {
        let _ = (slot, next);
    }
}

impl RecordReceiver for Intake {
    fn open_partition(&mut self, name: PartitionName, closed_before: EventTime) -> PartitionSlot {
        Intake::open_partition(self, name, closed_before)
    }

    fn note_closed(&mut self, closed_before: EventTime) {
        Intake::note_closed(self, closed_before);
    }

    fn set_ready(&mut self) {
        Intake::set_ready(self);
    }

    #[inline]
    fn record(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()> {
        Intake::record(self, slot, offset, payload, origin)
    }

    fn tombstone(&mut self, slot: PartitionSlot, offset: Offset) {
        Intake::tombstone(self, slot, offset);
    }

    fn set_idle(&mut self, slot: PartitionSlot, idle: bool) {
        Intake::set_idle(self, slot, idle);
    }

    fn set_next(&mut self, slot: PartitionSlot, next: Offset) {
        Intake::set_next(self, slot, next);
    }
}
