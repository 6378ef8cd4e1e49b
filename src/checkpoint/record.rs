//! What a worker's snapshot is made of: records, each a key and a value, and the changes that lead from one snapshot to the next.
//!
//! A key begins with its table; those that belong to grouping keys go on with the window definition and the key group, so that a
//! worker that owns some key groups reads a range:
//!
//! | part | bytes |
//! |---|---|
//! | table | 1, see [`Table`] |
//! | definition | 1, the place of the window definition (tables of windows) |
//! | key group | 2, big-endian (tables of windows, but for [`Table::Window`]) |
//! | rest | as the table has it |

use crate::event::{DefinitionIndex, KeyGroup};

/// Which kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// What a window definition is apart from its keys: one record a definition.
    Window = 1,
    /// An entry: the accumulators of one key in one slice or session.
    Entry = 2,
    /// The next revision of a window of several slices, for one key.
    Revision = 3,
    /// What triggers go by, for one window and key.
    Pane = 4,
    /// A row that waits for the frontier.
    Waiting = 5,
    /// The cut of one partition.
    Cut = 6,
    /// Results that are not delivered: one record a chunk.
    Outbox = 7,
    /// A window's result as it stands, for views.
    Fact = 8,
    /// A result that views do not see yet.
    Unclosed = 9,
    /// Up to where everything is closed for views: one record.
    View = 10,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 10] = [
        Table::Window,
        Table::Entry,
        Table::Revision,
        Table::Pane,
        Table::Waiting,
        Table::Cut,
        Table::Outbox,
        Table::Fact,
        Table::Unclosed,
        Table::View,
    ];

    /// Those that jobs with views have, and no others.
    pub const OF_VIEWS: [Table; 3] = [Table::Fact, Table::Unclosed, Table::View];

    /// What people call its records.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Window => "definitions",
            Table::Entry => "windows",
            Table::Revision => "revisions",
            Table::Pane => "panes",
            Table::Waiting => "waiting rows",
            Table::Cut => "cuts",
            Table::Outbox => "outbox chunks",
            Table::Fact => "results of views",
            Table::Unclosed => "results before views",
            Table::View => "frontiers of views",
        }
    }

    /// The table of a record's key.
    pub fn of(key: &[u8]) -> Option<Table> {
        let first = *key.first()?;
        Self::ALL.into_iter().find(|table| *table as u8 == first)
    }
}

/// Makes keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub Vec<u8>);

impl RecordKey {
    /// Of a table without definitions and key groups.
    pub fn plain(table: Table, rest: &[u8]) -> Self {
        Self([&[table as u8], rest].concat())
    }

    /// Of what a definition is apart from its keys.
    pub fn of_definition(definition: DefinitionIndex) -> Self {
        Self(vec![Table::Window as u8, definition.0])
    }

    /// Of a record that belongs to a grouping key.
    pub fn of_group(table: Table, definition: DefinitionIndex, group: KeyGroup, rest: &[u8]) -> Self {
        let mut key = Vec::with_capacity(4 + rest.len());
        key.extend([table as u8, definition.0]);
        key.extend((group.0 as u16).to_be_bytes());
        key.extend(rest);
        Self(key)
    }

    /// The definition, the key group and the rest of such a key.
    pub fn split_group(key: &[u8]) -> Option<(DefinitionIndex, KeyGroup, &[u8])> {
        let [_, definition, high, low, rest @ ..] = key else { return None };
        let group = KeyGroup(u32::from(u16::from_be_bytes([*high, *low])));
        Some((DefinitionIndex(*definition), group, rest))
    }
}

/// Changes of records, in the order in which they are made.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    bytes: Vec<u8>,
    /// The lengths of key and value; a deletion has no value.
    lengths: Vec<(u32, Option<u32>)>,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The record's key.
    pub key: &'a [u8],
    /// Its value from now on; `None`: there is no such record any more.
    pub value: Option<&'a [u8]>,
}

impl Changes {
    /// None yet, and room for so many bytes of them.
    pub fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), lengths: Vec::new() }
    }

    /// The record has this value from now on.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_with(key, |bytes| bytes.extend_from_slice(value));
    }

    /// The same; `write` appends the value.
    pub fn put_with(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.lengths.push((key.len() as u32, Some((self.bytes.len() - before) as u32)));
    }

    /// There is no such record any more; nothing happens where there was none.
    pub fn delete(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.lengths.push((key.len() as u32, None));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// None any more; the room stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }

    /// How many bytes of keys and values there is room for.
    pub fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        let mut at = 0;
        self.lengths.iter().map(move |(key, value)| {
            let (from, between) = (at, at + *key as usize);
            at = between + value.unwrap_or(0) as usize;
            Change { key: &self.bytes[from..between], value: value.map(|_| &self.bytes[between..at]) }
        })
    }

    /// Moves those of another to the end of these. It keeps its room, or gets that of these.
    pub fn append(&mut self, other: &mut Changes) {
        if self.is_empty() && self.bytes.capacity() < other.bytes.len() {
            return std::mem::swap(self, other);
        }
        self.bytes.append(&mut other.bytes);
        self.lengths.append(&mut other.lengths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_their_order() {
        let mut changes = Changes::default();
        changes.put(b"a", b"one");
        changes.delete(b"bb");
        let mut more = Changes::default();
        more.put(b"c", b"");
        changes.append(&mut more);
        assert!(more.is_empty());
        let all: Vec<Change<'_>> = changes.iter().collect();
        let change = |key, value| Change { key, value };
        assert_eq!(all, [change(&b"a"[..], Some(&b"one"[..])), change(b"bb", None), change(b"c", Some(b""))]);
        assert_eq!((changes.len(), changes.bytes()), (3, 7));
    }

    #[test]
    fn keys_are_in_the_order_of_their_groups() {
        let key = |group, rest: &[u8]| RecordKey::of_group(Table::Entry, DefinitionIndex(3), KeyGroup(group), rest);
        assert!(key(1, &[255]) < key(2, &[]) && key(255, &[9]) < key(256, &[0]));
        let key = key(255, b"rest");
        assert_eq!(RecordKey::split_group(&key.0), Some((DefinitionIndex(3), KeyGroup(255), &b"rest"[..])));
        assert_eq!(Table::of(&key.0), Some(Table::Entry));
    }
}
