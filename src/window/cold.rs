//! State that is larger than memory: the accumulators of entries that nobody uses stay in the store until somebody does.
//!
//! The model: an entry that is as in the last stored snapshot can be read back from the store, so its accumulators may be dropped
//! here; its place in the columns stays, what the accumulators own beside that goes. Who goes is decided by a clock's hand that goes
//! around over all entries: it takes the mark of use from an entry that has one, and drops one that has none. Entries that have changed
//! cannot be dropped before the next snapshot is stored, so where they are what holds the memory, a snapshot is asked for.
//!
//! Memory is measured now and then, as that looks at every entry: when a snapshot is stored, and after a number of rows that is a
//! multiple of the number of entries. It is measured in several goes, and what is too much then is dropped in several: with millions
//! of entries nobody waits for either.
//!
//! What a run goes on from is put into the store where there is more of it than memory may hold, entry by entry as it is read.
//!
//! How it fails: rows that wait, revisions and what triggers go by are not limited.

use super::record::{RecordContent, RecordView};
use crate::aggregate::{AccumulatorId, AccumulatorStore};
use crate::checkpoint::Changes;
use crate::error::{ProcessorError, ProcessorResult};
use std::rc::Rc;
use std::sync::Arc;

/// Rows between two measurements, at least; and how many for each entry.
const ROWS_AT_LEAST: usize = 4_096;
const ROWS_PER_ENTRY: usize = 2;
/// How many entries are dropped in one go, at least: some of a millisecond.
const DROPS_AT_A_TIME: usize = 1 << 10;
/// How many entries are looked at, to find one that may be dropped for one that was read back.
const LOOKS_FOR_ONE: usize = 16;
/// A snapshot is worth it when this part of what may be held could be dropped after it.
const WORTH_A_SNAPSHOT: usize = 16;

/// Where the records of stored snapshots are read: the worker's own database.
pub trait ColdStore {
    /// The value of a record, as of the last stored snapshot, or as it was put. It may block for as long as the disk takes.
    fn get(&self, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>>;

    /// Puts records of what is restored where they can be read back. The next snapshot has them, as if they were changes of it.
    fn put(&self, records: &Changes) -> ProcessorResult<()>;

    /// What was put is safe from then on, whatever fails later.
    fn flush(&self) -> ProcessorResult<()>;
}

/// How much of the state may be in memory.
#[derive(Clone)]
pub struct MemoryLimit {
    /// Bytes of the accumulators, see [`WindowState::heap_bytes`](super::WindowState::heap_bytes). A place in the columns stays for
    /// every entry, so less than those need has no effect.
    pub bytes: usize,
    /// Where the rest is read back.
    pub cold: Rc<dyn ColdStore>,
}

/// The memory of one definition.
#[derive(Default)]
pub(super) struct Memory {
    pub limit: Option<MemoryLimit>,
    /// Whether there is a snapshot that is not stored: entries are clean then that cannot be read back yet.
    pub in_flight: bool,
    /// Rows since it was last measured.
    pub rows: usize,
    /// What accumulators held when it was last measured, with what was read back since and without what was dropped.
    held: usize,
    /// What changed entries held of it.
    changed: usize,
    hand: usize,
    /// How many entries are still to be looked at, until that is given up.
    left: usize,
    /// The measurement under way.
    pub measuring: Option<Measuring>,
    /// Entries that were read back since some were last dropped.
    read_back: usize,
}

/// What is measured bit by bit: of no single moment, as entries change in between.
#[derive(Default)]
pub(super) struct Measuring {
    /// The next place to be looked at.
    pub place: usize,
    /// What the accumulators before it own,
    pub owned: usize,
    /// and how much of it those of changed entries.
    pub changed: usize,
}

impl Memory {
    /// Begins to measure where it is time to, with so many entries.
    pub(super) fn measure_if_due(&mut self, entries: usize) {
        if self.measuring.is_none() && !self.in_flight && self.rows >= ROWS_AT_LEAST.max(entries * ROWS_PER_ENTRY) {
            self.measure();
        }
    }

    /// Begins to measure, from the first entry, if there is a limit.
    pub(super) fn measure(&mut self) {
        self.measuring = self.limit.is_some().then(Measuring::default);
    }

    /// Takes note of what is held with so many entries, and of what changed ones hold of it.
    pub(super) fn measured(&mut self, held: usize, changed: usize, entries: usize) {
        // Twice around: the first time takes the mark of use away.
        (self.rows, self.held, self.changed, self.left) = (0, held, changed, 2 * entries);
    }

    /// What is held more than may be.
    fn excess(&self) -> usize {
        self.limit.as_ref().map_or(0, |limit| self.held.saturating_sub(limit.bytes))
    }

    /// Whether what may be dropped is not enough, and would be after a snapshot.
    pub(super) fn wants_snapshot(&self) -> bool {
        let is_worth_it = |limit: &MemoryLimit| self.changed > limit.bytes / WORTH_A_SNAPSHOT;
        self.excess() > 0 && self.left == 0 && !self.in_flight && self.limit.as_ref().is_some_and(is_worth_it)
    }

    /// The next place that the hand points to, of so many; `None` where nothing is to be dropped, or was found.
    pub(super) fn next_place(&mut self, places: usize) -> Option<usize> {
        if self.in_flight || self.left == 0 || self.excess() == 0 {
            return None;
        }
        self.left -= 1;
        let place = self.hand % places;
        self.hand = place + 1;
        Some(place)
    }

    /// How many entries may be dropped in one go: more than were read back since the last, so that there is an end to it.
    pub(super) fn take_drops(&mut self) -> usize {
        DROPS_AT_A_TIME.max(2 * std::mem::take(&mut self.read_back))
    }

    /// Takes note of what was dropped at a place.
    pub(super) fn dropped(&mut self, place: usize, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        if let Some(measuring) = self.measuring.as_mut().filter(|measuring| place < measuring.place) {
            measuring.owned = measuring.owned.saturating_sub(bytes);
        }
    }

    /// Takes note of what was read back at a place.
    pub(super) fn was_read_back(&mut self, place: usize, bytes: usize) {
        self.read_back += 1;
        self.held += bytes;
        self.left += LOOKS_FOR_ONE;
        if let Some(measuring) = self.measuring.as_mut().filter(|measuring| place < measuring.place) {
            measuring.owned += bytes;
        }
    }

    /// Reads the accumulators of an entry from its record.
    pub(super) fn read_back(
        &self,
        key: &[u8],
        id: AccumulatorId,
        fields: &[Arc<str>],
        stores: &mut [AccumulatorStore],
    ) -> ProcessorResult<()> {
        let missing = || ProcessorError::State(format!("the record {} is not in the store", key.escape_ascii()));
        let limit = self.limit.as_ref().ok_or_else(missing)?;
        let value = limit.cold.get(key)?.ok_or_else(missing)?;
        let RecordContent::Entry(entry) = RecordView::read(key, &value)?.content else { return Err(missing()) };
        for (name, accumulators) in entry.fields {
            let field = fields.iter().position(|known| **known == *name);
            let field = field.ok_or_else(|| {
                ProcessorError::State(format!(
                    "the record {} has a field `{name}` that is not known",
                    key.escape_ascii()
                ))
            })?;
            stores[field].replace(id, accumulators)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl ColdStore for Nothing {
        fn get(&self, _: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
            Ok(None)
        }

        fn put(&self, _: &Changes) -> ProcessorResult<()> {
            Ok(())
        }

        fn flush(&self) -> ProcessorResult<()> {
            Ok(())
        }
    }

    fn limited(bytes: usize) -> Memory {
        Memory { limit: Some(MemoryLimit { bytes, cold: Rc::new(Nothing) }), ..Memory::default() }
    }

    #[test]
    fn what_changes_before_the_place_of_a_measurement_is_in_it() {
        let mut memory = limited(1_000);
        memory.measure();
        let Some(mut measuring) = memory.measuring.take() else { panic!("it was begun") };
        (measuring.place, measuring.owned) = (5, 300);
        memory.measuring = Some(measuring);
        memory.dropped(4, 100);
        memory.dropped(5, 10);
        memory.was_read_back(0, 30);
        memory.was_read_back(6, 3);
        assert_eq!(memory.measuring.take().map(|measuring| measuring.owned), Some(230));
        assert!(memory.measuring.take().is_none());
    }

    #[test]
    fn what_was_read_back_makes_room_for_itself() {
        let mut memory = limited(1_000);
        memory.measured(1_000, 0, 0);
        assert_eq!(memory.next_place(10), None, "nothing is too much");
        memory.was_read_back(7, 50);
        let places: Vec<usize> = std::iter::from_fn(|| memory.next_place(10)).collect();
        assert_eq!(places.len(), LOOKS_FOR_ONE);
        memory.dropped(3, 50);
        memory.was_read_back(7, 0);
        assert_eq!(memory.next_place(10), None);
    }

    #[test]
    fn more_may_be_dropped_than_was_read_back() {
        let mut memory = limited(0);
        assert_eq!(memory.take_drops(), DROPS_AT_A_TIME);
        (0..DROPS_AT_A_TIME).for_each(|place| memory.was_read_back(place, 1));
        assert_eq!(memory.take_drops(), 2 * DROPS_AT_A_TIME);
        assert_eq!(memory.take_drops(), DROPS_AT_A_TIME);
    }
}
