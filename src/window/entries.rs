//! Entries: one for each key in each slice that has an event.
//!
//! An entry's id is its index into the accumulators of every value field, and into the revisions here.

use super::keys::KeySlot;
use super::tracking::Tracking;
use crate::aggregate::AccumulatorId;
use hashbrown::HashMap;

/// The entries of one slice, by key.
///
/// Key slots are dense, so an array indexed by slot finds an entry in one access. It reaches as far as it is filled to a fair
/// part; keys beyond that (a slice with few of many keys) are in a map.
#[derive(Debug, Default)]
pub struct SliceEntries {
    /// The entry's id plus one; 0 where the key has none, or has it in the map.
    near: Vec<u32>,
    far: HashMap<KeySlot, AccumulatorId>,
    all: Vec<(KeySlot, AccumulatorId)>,
}

/// The array may be this many times as long as there are entries, and this long in any case.
const NEAR_PER_ENTRY: usize = 8;
const NEAR_AT_LEAST: usize = 64;

impl SliceEntries {
    /// The entry of a key.
    #[inline]
    pub fn get(&self, key: KeySlot) -> Option<AccumulatorId> {
        match self.near.get(key.0 as usize) {
            Some(id) if *id != 0 => Some(AccumulatorId::from_index(*id as usize - 1)),
            _ if self.far.is_empty() => None,
            _ => self.far.get(&key).copied(),
        }
    }

    /// Adds the entry of a key that has none.
    #[cold]
    pub fn insert(&mut self, key: KeySlot, id: AccumulatorId) {
        debug_assert!(self.get(key).is_none(), "one entry a key");
        self.all.push((key, id));
        let place = key.0 as usize;
        let reach = (self.all.len() * NEAR_PER_ENTRY).max(NEAR_AT_LEAST);
        if place >= self.near.len() && place < reach {
            self.near.resize(place + 1, 0);
        }
        match self.near.get_mut(place) {
            Some(near) => *near = id.index() as u32 + 1,
            None => {
                self.far.insert(key, id);
            }
        }
    }

    /// All entries, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (KeySlot, AccumulatorId)> + '_ {
        self.all.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

/// Gives out entry ids and keeps the entries' revisions.
#[derive(Default)]
pub struct EntryTable {
    pub(super) revisions: Vec<u32>,
    free: Vec<AccumulatorId>,
    /// Ids in use that are no entry.
    scratch: usize,
    /// Where snapshots are taken.
    pub(super) tracking: Option<Box<Tracking>>,
}

impl EntryTable {
    /// An id that no live entry has.
    #[inline]
    pub fn create(&mut self) -> AccumulatorId {
        if let Some(id) = self.free.pop() {
            self.revisions[id.index()] = 0;
            return id;
        }
        self.revisions.push(0);
        AccumulatorId::from_index(self.revisions.len() - 1)
    }

    /// Gives an id back.
    pub fn remove(&mut self, id: AccumulatorId) {
        self.free.push(id);
    }

    /// An id for accumulators in between: it is used like an entry's and not counted as one.
    pub fn create_scratch(&mut self) -> AccumulatorId {
        self.scratch += 1;
        self.create()
    }

    /// Gives such an id back.
    pub fn remove_scratch(&mut self, id: AccumulatorId) {
        self.scratch -= 1;
        self.remove(id);
    }

    /// The revision of the entry's next result; each call counts one further.
    pub fn next_revision(&mut self, id: AccumulatorId) -> u32 {
        let revision = &mut self.revisions[id.index()];
        *revision += 1;
        *revision - 1
    }

    /// Sets the revision of the entry's next result.
    pub(super) fn set_revision(&mut self, id: AccumulatorId, revision: u32) {
        self.revisions[id.index()] = revision;
    }

    /// How many ids there are, live or free.
    pub fn capacity(&self) -> usize {
        self.revisions.len()
    }

    /// How many entries are live.
    pub fn len(&self) -> usize {
        self.revisions.len() - self.free.len() - self.scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_near_and_far() {
        let mut entries = SliceEntries::default();
        let keys = [5u32, 1_000_000, 63, 64, 400, 7, 2_000_000_000, 65];
        for (index, key) in keys.into_iter().enumerate() {
            assert_eq!(entries.get(KeySlot(key)), None);
            entries.insert(KeySlot(key), AccumulatorId::from_index(index));
        }
        for (index, key) in keys.into_iter().enumerate() {
            assert_eq!(entries.get(KeySlot(key)), Some(AccumulatorId::from_index(index)), "{key}");
        }
        assert_eq!(entries.len(), keys.len());
        assert_eq!(entries.iter().map(|(key, _)| key.0).collect::<Vec<_>>(), keys);
    }

    #[test]
    fn a_slice_with_few_of_many_keys_has_a_short_array() {
        let mut entries = SliceEntries::default();
        for index in 0..1000u32 {
            entries.insert(KeySlot(index * 1000), AccumulatorId::from_index(index as usize));
        }
        assert!(entries.near.len() <= 1000 * NEAR_PER_ENTRY, "{}", entries.near.len());
        assert!((0..1000u32).all(|index| entries.get(KeySlot(index * 1000)).is_some()));
        assert!((0..1000u32).all(|index| entries.get(KeySlot(index * 1000 + 1)).is_none()));
    }

    #[test]
    fn ids_are_given_out_again() {
        let mut table = EntryTable::default();
        let (a, b) = (table.create(), table.create());
        assert_eq!((table.next_revision(a), table.next_revision(a), table.next_revision(b)), (0, 1, 0));
        table.remove(a);
        assert_eq!(table.len(), 1);
        let again = table.create();
        assert_eq!((again, table.next_revision(again)), (a, 0));
    }
}
