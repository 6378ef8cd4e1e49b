//! Entries: one for each key in each slice that has an event.
//!
//! An entry's id is its index into the accumulators of every value field, and into the revisions here.

use super::keys::KeySlot;
use crate::aggregate::AccumulatorId;
use hashbrown::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes a key slot by one multiplication: slots are dense, so nothing better is needed.
#[derive(Default)]
pub struct SlotHasher(u64);

impl Hasher for SlotHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The entries of one slice, by key.
pub type SliceEntries = HashMap<KeySlot, AccumulatorId, BuildHasherDefault<SlotHasher>>;

/// Gives out entry ids and keeps the entries' revisions.
#[derive(Debug, Default)]
pub struct EntryTable {
    revisions: Vec<u32>,
    free: Vec<AccumulatorId>,
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

    /// The revision of the entry's next result; each call counts one further.
    pub fn next_revision(&mut self, id: AccumulatorId) -> u32 {
        let revision = &mut self.revisions[id.index()];
        *revision += 1;
        *revision - 1
    }

    /// How many ids there are, live or free.
    pub fn capacity(&self) -> usize {
        self.revisions.len()
    }

    /// How many entries are live.
    pub fn len(&self) -> usize {
        self.revisions.len() - self.free.len()
    }
}
