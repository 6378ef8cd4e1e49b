//! Keys as dense ids between one sender and one receiver.
//!
//! The model: the sender looks a key up by its encoded bytes (compared in full, so two keys never share an id); a new key gets
//! the next id of its receiver, and its text goes with the next batch. Both sides are bounded: when the sender holds more than
//! its limit, it forgets everything and begins a new generation.

use crate::event::{DictionaryEntry, GroupingKey, WorkerIndex};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

/// Where a key goes and what it is called there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAddress {
    /// The worker that owns the key's group.
    pub receiver: WorkerIndex,
    /// The key's id in the dictionary between this sender and that receiver.
    pub id: u32,
}

struct Known {
    encoded: Box<[u8]>,
    address: KeyAddress,
}

/// The sender's side, for all receivers.
pub struct SenderDictionary {
    known: HashTable<Known>,
    hasher: RandomState,
    next_id: Vec<u32>,
    /// Texts not sent yet, per receiver.
    unsent: Vec<Vec<DictionaryEntry>>,
    generation: u32,
    bytes: usize,
    limit_bytes: usize,
}

/// What a key costs beside its bytes: the table's slot and the allocation's header, roughly.
const OVERHEAD_PER_KEY: usize = 48;

impl SenderDictionary {
    /// For a sender with this many receivers that may hold about `limit_bytes` of keys.
    pub fn new(receivers: usize, limit_bytes: usize) -> Self {
        assert!(receivers > 0, "a sender has a receiver");
        Self {
            known: HashTable::new(),
            hasher: RandomState::default(),
            next_id: vec![0; receivers],
            unsent: vec![Vec::new(); receivers],
            generation: 0,
            bytes: 0,
            limit_bytes,
        }
    }

    /// The address of the key with these bytes; `render` makes its canonical form when it is new.
    #[inline]
    pub fn address(&mut self, encoded: &[u8], render: impl FnOnce(&[u8]) -> GroupingKey) -> KeyAddress {
        let hash = hash_of(&self.hasher, encoded);
        match self.known.find(hash, |known| same_bytes(&known.encoded, encoded)) {
            Some(known) => known.address,
            None => self.learn(hash, encoded, render(encoded)),
        }
    }

    #[cold]
    fn learn(&mut self, hash: u64, encoded: &[u8], key: GroupingKey) -> KeyAddress {
        let receiver = key.key_group().owner(self.next_id.len());
        let slot = receiver.0 as usize;
        let address = KeyAddress { receiver, id: self.next_id[slot] };
        self.next_id[slot] += 1;
        self.unsent[slot].push(DictionaryEntry { id: address.id, key: key.as_json().to_owned() });
        self.bytes += encoded.len() + OVERHEAD_PER_KEY;
        let hasher = &self.hasher;
        let known = Known { encoded: encoded.into(), address };
        self.known.insert_unique(hash, known, |known| hash_of(hasher, &known.encoded));
        address
    }

    /// The texts that the next batch to `receiver` must carry.
    pub fn take_unsent(&mut self, receiver: WorkerIndex) -> Vec<DictionaryEntry> {
        std::mem::take(&mut self.unsent[receiver.0 as usize])
    }

    /// The generation that ids belong to.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it holds more than it should. Batches under way must be sent before [`SenderDictionary::begin_generation`].
    pub fn is_over_limit(&self) -> bool {
        self.bytes > self.limit_bytes
    }

    /// Forgets every key. Ids begin at 0 again, and every text is sent again when its key is next seen. Texts that no batch has
    /// taken belong to keys whose rows all went to the side output.
    pub fn begin_generation(&mut self) {
        self.unsent.iter_mut().for_each(Vec::clear);
        self.known = HashTable::new();
        self.next_id.fill(0);
        self.generation = self.generation.wrapping_add(1);
        self.bytes = 0;
    }
}

/// The bytes alone, without the length that hashing a slice would add: two keys of one hash are told apart by [`same_bytes`].
#[inline]
fn hash_of(hasher: &RandomState, encoded: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(encoded);
    hasher.finish()
}

/// Compares in place by the first and the last bytes, which overlap: keys are some tens of bytes of different lengths, where a
/// loop's end is hard to predict and a call of `memcmp` costs more than the comparison.
#[inline]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        a.first_chunk::<N>() == b.first_chunk::<N>() && a.last_chunk::<N>() == b.last_chunk::<N>()
    }
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        32..=64 => ends::<32>(a, b),
        16..=31 => ends::<16>(a, b),
        8..=15 => ends::<8>(a, b),
        _ => a == b,
    }
}

/// The receiver's side, for one sender: from ids to whatever the receiver calls a key.
#[derive(Debug)]
pub struct ReceiverDictionary<K> {
    generation: u32,
    keys: Vec<K>,
}

impl<K: Copy> Default for ReceiverDictionary<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy> ReceiverDictionary<K> {
    /// Of a sender that has sent nothing.
    pub fn new() -> Self {
        Self { generation: 0, keys: Vec::new() }
    }

    /// Takes note of a batch's generation. Returns the keys of the generation that it ends, to be released.
    pub fn enter(&mut self, generation: u32) -> Vec<K> {
        if generation == self.generation {
            return Vec::new();
        }
        self.generation = generation;
        std::mem::take(&mut self.keys)
    }

    /// Adds the next id.
    pub fn push(&mut self, id: u32, key: K) {
        assert_eq!(id as usize, self.keys.len(), "a sender's ids are dense and arrive in order");
        self.keys.push(key);
    }

    /// All keys of the generation, by id.
    #[inline]
    pub fn keys(&self) -> &[K] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> GroupingKey {
        GroupingKey::from_fields(&[("k", name)])
    }

    #[test]
    fn a_key_keeps_its_address_and_its_text_is_sent_once() {
        let mut dictionary = SenderDictionary::new(3, 1 << 20);
        let first = dictionary.address(b"a", |_| key("a"));
        assert_eq!(dictionary.address(b"a", |_| unreachable!()), first);
        let sent = dictionary.take_unsent(first.receiver);
        assert_eq!(sent, vec![DictionaryEntry { id: 0, key: r#"{"k":"a"}"#.into() }]);
        assert!(dictionary.take_unsent(first.receiver).is_empty());
    }

    #[test]
    fn ids_are_dense_per_receiver_and_follow_the_key_group() {
        let mut dictionary = SenderDictionary::new(4, 1 << 20);
        let mut next = [0u32; 4];
        for n in 0..1000 {
            let name = format!("key-{n}");
            let address = dictionary.address(name.as_bytes(), |_| key(&name));
            assert_eq!(address.receiver, key(&name).key_group().owner(4));
            assert_eq!(address.id, next[address.receiver.0 as usize]);
            next[address.receiver.0 as usize] += 1;
        }
        assert!(next.iter().all(|n| *n > 150), "{next:?}");
    }

    #[test]
    fn a_new_generation_starts_over() {
        let mut dictionary = SenderDictionary::new(1, 100);
        dictionary.address(b"a", |_| key("a"));
        dictionary.address(&[b'b'; 100], |_| key("b"));
        assert!(dictionary.is_over_limit());
        dictionary.begin_generation();
        assert_eq!(dictionary.generation(), 1);
        assert_eq!(dictionary.address(&[b'b'; 100], |_| key("b")).id, 0);
        assert_eq!(dictionary.take_unsent(WorkerIndex(0)).len(), 1);
    }

    #[test]
    fn bytes_are_the_same_where_each_is() {
        let bytes: Vec<u8> = (0..80).collect();
        for length in 0..bytes.len() {
            assert!(same_bytes(&bytes[..length], &bytes.clone()[..length]));
            assert!(!same_bytes(&bytes[..length], &bytes[..length + 1]));
            for place in 0..length {
                let mut other = bytes[..length].to_vec();
                other[place] ^= 1;
                assert!(!same_bytes(&bytes[..length], &other), "{length} {place}");
            }
        }
    }

    #[test]
    fn the_receiver_follows_the_generations() {
        let mut receiver = ReceiverDictionary::new();
        assert!(receiver.enter(0).is_empty());
        receiver.push(0, 'x');
        receiver.push(1, 'y');
        assert_eq!(receiver.keys(), &['x', 'y']);
        assert_eq!(receiver.enter(1), vec!['x', 'y']);
        assert!(receiver.keys().is_empty());
    }
}
