//! What the intake knows of one partition: its watermark, its position, and which of its records are still needed.

use super::{PartitionSlot, Settled};
use crate::checkpoint::PartitionCut;
use crate::event::{Offset, PartitionName};
use crate::time::disorder::Disorder;
use crate::time::watermark::PartitionWatermark;
use crate::time::{EventTime, Span};
use std::collections::VecDeque;
use std::time::Instant;

/// One partition of one worker.
#[derive(Debug)]
pub struct Partition {
    /// Its name.
    pub name: PartitionName,
    /// Its watermark.
    pub watermark: PartitionWatermark,
    /// How far its events were behind the latest ones before them.
    pub disorder: Disorder,
    /// The record after the last one taken.
    pub position: Offset,
    /// Windows that end at or before this were complete in an earlier run.
    pub closed_before: EventTime,
    /// Read to its end, and silent.
    pub idle: bool,
    /// It was idle, and the frontier may be ahead of its watermark since.
    pub returned: bool,
    /// Nothing more will come.
    pub closed: bool,
    /// Records taken, of any kind.
    pub records: u64,
    /// When the last one came.
    pub last_record: Option<Instant>,
    needed: NeededOffsets,
    /// What was settled last.
    told: Option<(Offset, EventTime)>,
}

impl Partition {
    /// A partition of which nothing was read.
    pub fn new(name: PartitionName, closed_before: EventTime, max_out_of_orderness: Span) -> Self {
        Self {
            name,
            watermark: PartitionWatermark::new(max_out_of_orderness),
            disorder: Disorder::default(),
            position: Offset(0),
            closed_before,
            idle: false,
            returned: false,
            closed: false,
            records: 0,
            last_record: None,
            needed: NeededOffsets::default(),
            told: None,
        }
    }

    /// A partition as its cut has it. What an earlier run has completed is in the checkpoint as well: there is nothing to be told of
    /// it.
    pub fn restored(cut: &PartitionCut, max_out_of_orderness: Span) -> Self {
        Self {
            watermark: PartitionWatermark::restored(max_out_of_orderness, cut.max_seen),
            disorder: cut.disorder.clone(),
            position: cut.next,
            idle: cut.idle,
            returned: cut.returned,
            closed: cut.closed,
            records: cut.records,
            ..Self::new(cut.name.clone(), EventTime::MIN, max_out_of_orderness)
        }
    }

    /// Everything that the next record is judged by, as it is now.
    pub fn cut(&self) -> PartitionCut {
        PartitionCut {
            name: self.name.clone(),
            next: self.position,
            max_seen: self.watermark.max_seen(),
            idle: self.idle,
            returned: self.returned,
            closed: self.closed,
            records: self.records,
            disorder: self.disorder.clone(),
        }
    }

    /// Whether it holds the frontier back.
    pub fn is_active(&self) -> bool {
        !self.idle && !self.closed
    }

    /// Takes note of records from `first` on, until the next call: the latest end of a window that one of them is in.
    pub fn note_needed(&mut self, first: Offset, window_end: EventTime) {
        self.needed.push(first, window_end);
    }

    /// The first record still needed, once every window that ends before `frontier` is closed and written, and what is complete
    /// then; if either has moved. Windows of which records do not know the end need those that are not before `needed`, less the
    /// lateness. Of a partition without a record nothing is known: what an earlier run has said of it holds.
    pub fn settle(
        &mut self,
        slot: PartitionSlot,
        frontier: EventTime,
        needed: EventTime,
        allowed_lateness: Span,
    ) -> Option<Settled> {
        if self.records == 0 {
            return None;
        }
        let offset = self.needed.settle(frontier.min(needed), allowed_lateness, self.position);
        let closed = frontier.saturating_sub(allowed_lateness).saturating_sub(Span::from_millis(1));
        // This run's frontier may still be behind the one at which an earlier run ended.
        let closed_before = closed.max(self.closed_before);
        (self.told != Some((offset, closed_before))).then(|| {
            self.told = Some((offset, closed_before));
            Settled { slot, offset, closed_before }
        })
    }
}

/// Which offsets are needed until when: stretches of records, each with the latest window end in it, ends ascending.
#[derive(Debug, Default)]
struct NeededOffsets {
    stretches: VecDeque<(Offset, EventTime)>,
}

impl NeededOffsets {
    /// A stretch that ends no later than the one before it is needed no longer than that one: it is part of it. So there are
    /// never more stretches than open windows.
    fn push(&mut self, first: Offset, window_end: EventTime) {
        match self.stretches.back() {
            Some((_, end)) if *end >= window_end => {}
            _ => self.stretches.push_back((first, window_end)),
        }
    }

    fn settle(&mut self, frontier: EventTime, allowed_lateness: Span, position: Offset) -> Offset {
        while let Some((_, end)) = self.stretches.front() {
            if end.saturating_add(allowed_lateness) >= frontier {
                break;
            }
            self.stretches.pop_front();
        }
        self.stretches.front().map_or(position, |(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    #[test]
    fn offsets_are_needed_until_their_windows_are_closed() {
        let mut needed = NeededOffsets::default();
        needed.push(Offset(0), at(10));
        needed.push(Offset(5), at(10));
        needed.push(Offset(9), at(20));
        needed.push(Offset(12), at(10));
        needed.push(Offset(15), at(30));
        let no = Span::ZERO;
        assert_eq!(needed.settle(at(10), no, Offset(20)), Offset(0));
        assert_eq!(needed.settle(at(11), no, Offset(20)), Offset(9));
        assert_eq!(needed.settle(at(30), no, Offset(20)), Offset(15));
        assert_eq!(needed.settle(at(31), no, Offset(20)), Offset(20));
    }

    #[test]
    fn lateness_keeps_them_longer() {
        let mut needed = NeededOffsets::default();
        needed.push(Offset(3), at(10));
        assert_eq!(needed.settle(at(15), Span::from_millis(5), Offset(7)), Offset(3));
        assert_eq!(needed.settle(at(16), Span::from_millis(5), Offset(7)), Offset(7));
    }

    fn partition(closed_before: i64) -> Partition {
        let name = PartitionName { topic: "t".into(), partition: 0 };
        Partition::new(name, at(closed_before), Span::ZERO)
    }

    #[test]
    fn a_cut_says_all_that_a_partition_is() {
        let mut partition = partition(0);
        partition.watermark.observe(at(700));
        partition.disorder.record(Span::from_millis(9), true);
        (partition.position, partition.records) = (Offset(12), 4);
        for (idle, returned, closed) in [(true, false, false), (false, true, false), (false, false, true)] {
            (partition.idle, partition.returned, partition.closed) = (idle, returned, closed);
            let restored = Partition::restored(&partition.cut(), Span::ZERO);
            assert_eq!(restored.cut(), partition.cut());
            assert_eq!(restored.watermark, partition.watermark);
            assert_eq!(restored.is_active(), partition.is_active());
        }
    }

    fn settled(offset: i64, closed_before: i64) -> Option<Settled> {
        Some(Settled { slot: PartitionSlot(0), offset: Offset(offset), closed_before: at(closed_before) })
    }

    #[test]
    fn a_partition_without_a_record_says_nothing() {
        let mut partition = partition(500);
        assert_eq!(partition.settle(PartitionSlot(0), at(1_000), EventTime::MAX, Span::ZERO), None);
        assert_eq!(partition.settle(PartitionSlot(0), EventTime::MIN, EventTime::MAX, Span::ZERO), None);
    }

    #[test]
    fn what_is_complete_moves_without_the_offset_and_never_backwards() {
        let mut partition = partition(500);
        (partition.records, partition.position) = (9, Offset(9));
        partition.note_needed(Offset(3), at(2_000));
        let mut settle = |frontier| partition.settle(PartitionSlot(0), frontier, EventTime::MAX, Span::ZERO);
        assert_eq!(settle(EventTime::MIN), settled(3, 500));
        assert_eq!(settle(at(400)), None);
        assert_eq!(settle(at(1_000)), settled(3, 999));
        assert_eq!(settle(at(1_000)), None);
        assert_eq!(settle(at(2_001)), settled(9, 2_000));
    }
    #[test]
    fn records_are_kept_that_a_session_needs_while_what_is_complete_moves_on() {
        let mut partition = partition(0);
        (partition.records, partition.position) = (9, Offset(9));
        partition.note_needed(Offset(3), at(100));
        partition.note_needed(Offset(6), at(200));
        let mut settle =
            |written, needed| partition.settle(PartitionSlot(0), at(written), at(needed), Span::from_millis(50));
        assert_eq!(settle(1_000, 120), settled(3, 949));
        assert_eq!(settle(1_000, 151), settled(6, 949));
        assert_eq!(settle(1_000, 1_000), settled(9, 949));
    }
}
