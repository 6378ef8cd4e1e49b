//! The keys that one worker knows, as dense slots.
//!
//! The model: a slot lives as long as somebody refers to it: an entry of an open window, a stashed late row, or the dictionary
//! of a sender. Keys that fall silent are forgotten with their last window and generation.

use crate::event::GroupingKey;
use hashbrown::HashMap;

/// A key, to the worker that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySlot(pub u32);

#[derive(Debug)]
struct Slot {
    key: Option<GroupingKey>,
    references: u32,
}

/// All keys of one worker.
#[derive(Debug, Default)]
pub struct KeyTable {
    slots: Vec<Slot>,
    free: Vec<KeySlot>,
    by_key: HashMap<GroupingKey, KeySlot>,
}

impl KeyTable {
    /// The slot of a key, with one more reference.
    pub fn intern(&mut self, key: GroupingKey) -> KeySlot {
        if let Some(slot) = self.by_key.get(&key) {
            let slot = *slot;
            self.retain(slot);
            return slot;
        }
        let filled = Slot { key: Some(key.clone()), references: 1 };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot.0 as usize] = filled;
                slot
            }
            None => {
                self.slots.push(filled);
                KeySlot(self.slots.len() as u32 - 1)
            }
        };
        self.by_key.insert(key, slot);
        slot
    }

    /// The slot of a key that is known.
    pub fn find(&self, key: &GroupingKey) -> Option<KeySlot> {
        self.by_key.get(key).copied()
    }

    /// One more reference.
    #[inline]
    pub fn retain(&mut self, slot: KeySlot) {
        self.slots[slot.0 as usize].references += 1;
    }

    /// One reference less; the last one frees the slot.
    pub fn release(&mut self, slot: KeySlot) {
        let entry = &mut self.slots[slot.0 as usize];
        debug_assert!(entry.references > 0, "released more often than retained");
        entry.references -= 1;
        if entry.references == 0
            && let Some(key) = entry.key.take()
        {
            self.by_key.remove(&key);
            self.free.push(slot);
        }
    }

    /// The key of a slot that somebody refers to.
    pub fn get(&self, slot: KeySlot) -> &GroupingKey {
        self.slots[slot.0 as usize].key.as_ref().expect("a slot that is referred to holds its key")
    }

    /// The same, for keeps.
    pub fn key(&self, slot: KeySlot) -> GroupingKey {
        self.get(slot).clone()
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> GroupingKey {
        GroupingKey::from_fields(&[("k", name)])
    }

    #[test]
    fn a_slot_lives_as_long_as_it_is_referred_to() {
        let mut table = KeyTable::default();
        let a = table.intern(key("a"));
        assert_eq!(table.intern(key("a")), a);
        let b = table.intern(key("b"));
        assert_ne!(a, b);
        table.release(a);
        assert_eq!(table.key(a), key("a"));
        table.release(a);
        assert_eq!(table.len(), 1);
        assert_eq!(table.intern(key("c")), a);
        assert_eq!(table.key(b), key("b"));
    }
}
