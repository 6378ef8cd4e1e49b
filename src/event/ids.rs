//! Names for what used to be bare integers.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A record's position in its partition: Kafka's offset, or the byte offset of a line in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A worker's index among all workers of all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WorkerIndex(pub u32);

impl fmt::Display for WorkerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition's name for people, side outputs and metrics: topic and number; for a file its path and 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// The topic, or the path of the file, or `stdin`, `generator`.
    pub topic: Arc<str>,
    /// The partition's number in the topic.
    pub partition: i32,
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// A window definition's place among those of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct DefinitionIndex(pub u8);

impl DefinitionIndex {
    /// How many definitions a job may have: a set of them is one word, which goes with every late row.
    pub const MOST: usize = 64;

    /// The definition at this place, which is below [`DefinitionIndex::MOST`].
    pub fn of(place: usize) -> Self {
        debug_assert!(place < Self::MOST);
        DefinitionIndex(place as u8)
    }
}

/// Some of the window definitions of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DefinitionSet(u64);

impl DefinitionSet {
    /// None.
    pub const NONE: Self = DefinitionSet(0);
    /// All that a job may have.
    pub const ALL: Self = DefinitionSet(u64::MAX);

    /// Whether it has none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has this one.
    #[inline]
    pub fn contains(self, definition: DefinitionIndex) -> bool {
        self.0 & (1 << definition.0) != 0
    }

    /// Adds one.
    pub fn insert(&mut self, definition: DefinitionIndex) {
        self.0 |= 1 << definition.0;
    }

    /// The definitions as bits, by their places.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`DefinitionSet::bits`].
    pub(crate) fn from_bits(bits: u64) -> Self {
        DefinitionSet(bits)
    }

    /// Those it has, in order.
    pub fn iter(self) -> impl Iterator<Item = DefinitionIndex> {
        (0..Self::SIZE).map(DefinitionIndex).filter(move |definition| self.contains(*definition))
    }

    const SIZE: u8 = DefinitionIndex::MOST as u8;
}

impl FromIterator<DefinitionIndex> for DefinitionSet {
    fn from_iter<I: IntoIterator<Item = DefinitionIndex>>(definitions: I) -> Self {
        let mut set = Self::NONE;
        definitions.into_iter().for_each(|definition| set.insert(definition));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let places = [0u8, 7, 63];
        let set: DefinitionSet = places.into_iter().map(DefinitionIndex).collect();
        assert_eq!(set.iter().map(|definition| definition.0).collect::<Vec<_>>(), places);
        assert!(set.contains(DefinitionIndex(63)) && !set.contains(DefinitionIndex(62)));
        assert!(DefinitionSet::NONE.is_empty() && DefinitionSet::ALL.contains(DefinitionIndex(63)));
    }
}
