//! The columns behind the windows of one worker, borrowed together: keys, entries, and an accumulator for each entry and field.

use super::entries::EntryTable;
use super::keys::{KeySlot, KeyTable};
use super::refinement::Refinement;
use crate::aggregate::{AccumulatorId, AccumulatorStore};
use crate::sink::TimeWindow;

/// What windows of every kind work on. An id means the same in all stores.
pub(super) struct Tables<'a> {
    pub keys: &'a mut KeyTable,
    pub entries: &'a mut EntryTable,
    /// One a field.
    pub stores: &'a mut [AccumulatorStore],
}

impl Tables<'_> {
    /// A new entry of a key, which is held by it.
    pub(super) fn create(&mut self, key: KeySlot) -> AccumulatorId {
        self.keys.retain(key);
        let id = self.entries.create();
        self.grow(id);
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.created(id, key);
        }
        id
    }

    /// A new entry of a key in a slice.
    pub(super) fn create_in_slice(&mut self, key: KeySlot, window: TimeWindow) -> AccumulatorId {
        let id = self.create(key);
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.is_of_slice(id, window);
        }
        id
    }

    /// Drops an entry of a key.
    pub(super) fn remove(&mut self, key: KeySlot, id: AccumulatorId) {
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.removed(id, self.keys, self.stores);
        }
        self.keys.release(key);
        self.empty(id);
        self.entries.remove(id);
    }

    /// Accumulators that are no entry.
    pub(super) fn create_scratch(&mut self) -> AccumulatorId {
        let id = self.entries.create_scratch();
        self.grow(id);
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.created_scratch(id);
        }
        id
    }

    /// Drops them.
    pub(super) fn remove_scratch(&mut self, id: AccumulatorId) {
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.removed_scratch(id);
        }
        self.empty(id);
        self.entries.remove_scratch(id);
    }

    fn grow(&mut self, id: AccumulatorId) {
        self.stores.iter_mut().for_each(|store| store.grow_to(id.index() + 1));
    }

    fn empty(&mut self, id: AccumulatorId) {
        self.stores.iter_mut().for_each(|store| store.clear(id));
    }

    /// The entry is about to be changed.
    #[inline]
    pub(super) fn touch(&mut self, id: AccumulatorId) {
        if let Some(tracking) = &mut self.entries.tracking
            && !tracking.is_known_changed(id)
        {
            tracking.touch(id, self.keys, self.stores);
        }
    }

    /// The same for all entries of a batch's rows.
    pub(super) fn touch_all(&mut self, ids: &[AccumulatorId]) {
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.touch_all(ids, self.keys, self.stores);
        }
    }

    /// The entry is about to be read.
    #[inline]
    pub(super) fn read(&mut self, id: AccumulatorId) {
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.read(id, self.keys, self.stores);
        }
    }

    /// The revision of the entry's next result; each call counts one further.
    pub(super) fn next_revision(&mut self, id: AccumulatorId) -> u32 {
        self.touch(id);
        self.entries.next_revision(id)
    }

    /// Whether no value was added to the accumulators.
    pub(super) fn is_empty(&mut self, id: AccumulatorId) -> bool {
        self.read(id);
        self.stores.iter().all(|store| store.count(id) == 0)
    }

    /// Empties the accumulators of an entry.
    pub(super) fn clear(&mut self, id: AccumulatorId) {
        self.touch(id);
        self.empty(id);
    }

    /// Adds the values of `from` to `into`.
    pub(super) fn merge(&mut self, into: AccumulatorId, from: AccumulatorId) {
        self.touch(into);
        self.read(from);
        self.stores.iter_mut().for_each(|store| store.merge(into, from));
    }

    /// Gives `into`, which is no entry, the values of two others, instead of those that it has.
    pub(super) fn set_to_sum(&mut self, into: AccumulatorId, one: AccumulatorId, other: AccumulatorId) {
        self.read(one);
        self.read(other);
        self.stores.iter_mut().for_each(|store| store.set_to_sum(into, one, other));
    }

    /// Adds a row that has waited, and lets go of its key.
    pub(super) fn add_waiting(&mut self, id: AccumulatorId, row: Refinement) {
        self.touch(id);
        for (field, value) in row.values {
            self.stores[field].add(id, value);
        }
        self.keys.release(row.key);
    }
}
