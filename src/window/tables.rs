//! The columns behind the windows of one worker, borrowed together: keys, entries, and an accumulator for each entry and field.

use super::entries::EntryTable;
use super::keys::{KeySlot, KeyTable};
use super::refinement::Refinement;
use crate::aggregate::{AccumulatorId, AccumulatorStore};

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
        id
    }

    /// Drops an entry of a key.
    pub(super) fn remove(&mut self, key: KeySlot, id: AccumulatorId) {
        self.keys.release(key);
        self.clear(id);
        self.entries.remove(id);
    }

    /// Accumulators that are no entry.
    pub(super) fn create_scratch(&mut self) -> AccumulatorId {
        let id = self.entries.create_scratch();
        self.grow(id);
        id
    }

    /// Drops them.
    pub(super) fn remove_scratch(&mut self, id: AccumulatorId) {
        self.clear(id);
        self.entries.remove_scratch(id);
    }

    fn grow(&mut self, id: AccumulatorId) {
        self.stores.iter_mut().for_each(|store| store.grow_to(id.index() + 1));
    }

    /// Whether no value was added to the accumulators.
    pub(super) fn is_empty(&self, id: AccumulatorId) -> bool {
        self.stores.iter().all(|store| store.count(id) == 0)
    }

    /// Empties the accumulators.
    pub(super) fn clear(&mut self, id: AccumulatorId) {
        self.stores.iter_mut().for_each(|store| store.clear(id));
    }

    /// Adds the values of `from` to `into`.
    pub(super) fn merge(&mut self, into: AccumulatorId, from: AccumulatorId) {
        self.stores.iter_mut().for_each(|store| store.merge(into, from));
    }

    /// Gives `into` the values of two others, instead of those that it has.
    pub(super) fn set_to_sum(&mut self, into: AccumulatorId, one: AccumulatorId, other: AccumulatorId) {
        self.stores.iter_mut().for_each(|store| store.set_to_sum(into, one, other));
    }

    /// Adds a row that has waited, and lets go of its key.
    pub(super) fn add_waiting(&mut self, id: AccumulatorId, row: Refinement) {
        for (field, value) in row.values {
            self.stores[field].add(id, value);
        }
        self.keys.release(row.key);
    }
}
