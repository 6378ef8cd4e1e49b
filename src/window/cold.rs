//! State that is larger than memory: the accumulators of entries that nobody uses stay in the store until somebody does.
//!
//! The model: an entry that is as in the last stored snapshot can be read back from the store, so its accumulators may be dropped
//! here; its place in the columns stays, what the accumulators own beside that goes. Who goes is decided by a clock's hand that goes
//! around over all entries: it takes the mark of use from an entry that has one, and drops one that has none. Entries that have changed
//! cannot be dropped before the next snapshot is stored, so where they are what holds the memory, a snapshot is asked for.
//!
//! Memory is measured now and then, as that looks at every entry: when a snapshot is stored, and after a number of rows that is a
//! multiple of the number of entries. What is too much then is dropped in several goes.
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
    /// What accumulators held when it was last measured, less what was dropped since.
    held: usize,
    /// What changed entries held of it.
    changed: usize,
    hand: usize,
    /// How many entries are still to be looked at, until that is given up.
    left: usize,
}

impl Memory {
    /// Whether it is time to measure, with so many entries.
    pub(super) fn is_due(&self, entries: usize) -> bool {
        self.limit.is_some() && !self.in_flight && self.rows >= ROWS_AT_LEAST.max(entries * ROWS_PER_ENTRY)
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

    /// Takes note of what was dropped.
    pub(super) fn dropped(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
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
