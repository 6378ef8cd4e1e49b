//! From the records of snapshots back to windows, at any number of workers.
//!
//! The model: each record of the key groups that this worker owns is given to [`WindowState::restore`], in any order, and the
//! records of the definition of all workers there were; then [`WindowState::finish_restore`] makes what follows from them. All
//! snapshots were taken when everything had fired that was due at one time, the same for all workers. So the ends of windows that
//! will fire, of all workers together, are those after that time; of these this worker has the ones of which it has slices. A
//! slice has fired where none of its windows is among them.
//!
//! What an earlier run forgot of windows stays forgotten: where more lateness is allowed than then, a late row of such a window is
//! dropped here, as a result of it alone would stand in place of the right one.
//!
//! The queues of windows of several slices are empty afterwards: the first window to fire takes in all of its slices, as if it
//! were the first of all.
//!
//! Where memory is limited, entries beyond the limit go on to the worker's own store as they are, under the ids that they have here.
//!
//! How it fails: a record that is damaged, or that cannot be of these windows, is a [`ProcessorError::State`] that says which.

use super::cold::MemoryLimit;
use super::keys::KeySlot;
use super::names::Naming;
use super::panes::PaneId;
use super::record::{
    EntryOf, EntryRecord, PaneOf, PaneRecord, RecordContent, RecordView, WaitingKind, WaitingRecord, entry_key,
};
use super::refinement::Refinement;
use super::state::{Slice, WindowState, add_entry};
use super::tables::Tables;
use crate::aggregate::AccumulatorId;
use crate::checkpoint::Changes;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{GroupingKey, KeyGroup};
use crate::sink::TimeWindow;
use crate::time::EventTime;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included};

/// What has to wait until all records are there.
#[derive(Default)]
pub(super) struct Restoring {
    /// The ends of windows that will fire, of all workers.
    unfired: BTreeSet<EventTime>,
    revisions: Vec<(EventTime, GroupingKey, u32)>,
    panes: Vec<PaneRecord>,
    /// Rows by their kinds and numbers, with what they wait for. Each holds its key.
    rows: Vec<(WaitingKind, u64, EventTime, Refinement)>,
    /// Of sessions with panes: the key and the place that they have here, by their places in the snapshot.
    sessions: HashMap<(KeyGroup, AccumulatorId), (KeySlot, AccumulatorId)>,
    /// Bytes that entries own which are in memory.
    held: usize,
    /// Entries that go to the store.
    cold: Changes,
    has_put: bool,
}

/// Bytes of entries that go to the store at once.
const COLD_PORTION: usize = 1 << 20;

impl WindowState {
    /// Takes in a record of a snapshot of this definition. Called before the first row; after an error the state is of no use.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> ProcessorResult<()> {
        let record = RecordView::read(key, value)?;
        let restored = match record.content {
            _ if record.definition != self.settings.definition => {
                Err(refusal("it is of another window definition".into()))
            }
            RecordContent::Definition { purged_until, unfired, .. } => {
                self.forgotten = self.forgotten.max(purged_until);
                self.purged_until = self.forgotten;
                self.restoring.unfired.extend(unfired);
                Ok(())
            }
            RecordContent::Entry(entry) => self.restore_entry(entry, value),
            RecordContent::Revision { end, key, next } => {
                self.restoring.revisions.push((end, key, next));
                Ok(())
            }
            RecordContent::Pane(pane) => {
                // Where there are no triggers any more, nothing is emitted early.
                self.restoring.panes.extend(self.panes.is_some().then_some(pane));
                Ok(())
            }
            RecordContent::Waiting(row) => self.restore_row(row),
        };
        restored.map_err(|error| ProcessorError::State(format!("the record {}: {}", key.escape_ascii(), text(error))))
    }

    /// Makes what follows from the records. After that the state goes on as if it had never been elsewhere; everything in it that is
    /// not in the store already counts as changed.
    pub fn finish_restore(&mut self) -> ProcessorResult<()> {
        self.put_cold(true)?;
        let restoring = std::mem::take(&mut self.restoring);
        self.restore_firings(restoring.unfired);
        for (end, key, next) in restoring.revisions {
            // A key without an entry has no window that could emit again.
            if let (Some(key), Some(sliding)) = (self.keys.find(&key), &mut self.sliding) {
                sliding.revisions.set(end, key, next);
            }
        }
        let mut rows = restoring.rows;
        rows.sort_by_key(|(kind, number, ..)| (*kind, *number));
        for (kind, _, until, row) in rows {
            match (kind, &mut self.sessions) {
                (WaitingKind::OnTime, Some(sessions)) => sessions.waiting.push(until, row),
                _ => self.refinements.push(until, row),
            };
        }
        for pane in restoring.panes {
            self.restore_pane(pane, &restoring.sessions)?;
        }
        Ok(())
    }

    fn restore_entry(&mut self, entry: EntryRecord<'_>, value: &[u8]) -> ProcessorResult<()> {
        let key = self.keys.intern(entry.key.clone());
        let id = match entry.of {
            EntryOf::Slice { window, next_revision } => self.restore_in_slice(key, window, next_revision),
            EntryOf::Session { window, last, fired } => self.restore_session(key, window, last, fired),
        };
        // The entry holds it.
        self.keys.release(key);
        let id = id?;
        let is_cold = self.memory_limit().is_some_and(|limit| self.restoring.held >= limit.bytes);
        for (name, accumulators) in entry.fields {
            let field = self.restored_field(name)?;
            // What is damaged is found now.
            self.stores[field].replace(id, accumulators)?;
            match is_cold {
                true => self.stores[field].clear(id),
                false => self.restoring.held += self.stores[field].owned_bytes(id),
            }
        }
        if is_cold {
            self.restore_cold(id, &entry.key, value)?;
        }
        if self.panes.is_some() && self.sessions.is_some() {
            self.restoring.sessions.insert((entry.key.key_group(), entry.id), (key, id));
        }
        Ok(())
    }

    fn memory_limit(&self) -> Option<&MemoryLimit> {
        self.entries.tracking.as_ref()?.memory.limit.as_ref()
    }

    /// Leaves an entry to the store.
    fn restore_cold(&mut self, id: AccumulatorId, key: &GroupingKey, value: &[u8]) -> ProcessorResult<()> {
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.restored_cold(id);
        }
        self.restoring.cold.put(&entry_key(self.settings.definition, key, id), value);
        self.put_cold(false)
    }

    /// Gives entries to the store, when there are enough of them or that was all.
    fn put_cold(&mut self, is_all: bool) -> ProcessorResult<()> {
        let bytes = self.restoring.cold.bytes();
        if bytes < COLD_PORTION && !is_all {
            return Ok(());
        }
        let records = std::mem::take(&mut self.restoring.cold);
        self.restoring.has_put |= bytes > 0;
        match self.memory_limit() {
            Some(limit) if bytes > 0 => limit.cold.put(&records)?,
            _ => (),
        }
        match self.memory_limit() {
            Some(limit) if is_all && self.restoring.has_put => limit.cold.flush(),
            _ => Ok(()),
        }
    }

    fn restore_in_slice(
        &mut self,
        key: KeySlot,
        window: TimeWindow,
        next_revision: u32,
    ) -> ProcessorResult<AccumulatorId> {
        let windowing = self.settings.windowing;
        let slicing = windowing.slicing().ok_or_else(|| refusal("it is of a slice, and these are sessions".into()))?;
        if windowing.slice(window.start) != window {
            return Err(refusal(format!("no slice of these windows is from {} to {}", window.start, window.end)));
        }
        let is_in_a_window = slicing.first_end(window).is_some();
        let Self { slices, keys, entries, stores, .. } = self;
        let slice = slices.entry(window.end).or_insert_with(|| Slice::new(window, is_in_a_window, false));
        if slice.entries.get(key).is_some() {
            return Err(refusal(format!("there is another of {} from {}", keys.get(key), window.start)));
        }
        let id = add_entry(slice, key, keys, entries, stores);
        entries.set_revision(id, next_revision);
        Ok(id)
    }

    fn restore_session(
        &mut self,
        key: KeySlot,
        window: TimeWindow,
        last: EventTime,
        fired: Option<u32>,
    ) -> ProcessorResult<AccumulatorId> {
        let Self { sessions, keys, entries, stores, .. } = self;
        let sessions = sessions.as_mut().ok_or_else(|| refusal("it is of a session, and these are slices".into()))?;
        let restored = sessions.table.restore(key, window, last, fired, &mut Tables { keys, entries, stores });
        restored.ok_or_else(|| {
            let bounds = format!("from {} to {}", window.start, window.end);
            refusal(format!("no session {bounds} with the last event at {last} is beside those that are there"))
        })
    }

    /// The index of a field that a record names.
    fn restored_field(&mut self, name: &str) -> ProcessorResult<usize> {
        match self.fields.iter().position(|known| **known == *name) {
            Some(field) => Ok(field),
            None if self.names.naming() == Naming::AsTheyCome => Ok(self.field(&name.into())),
            None => Err(refusal(format!("the field `{name}` is none of those that are configured: {:?}", self.fields))),
        }
    }

    fn restore_row(&mut self, row: WaitingRecord<'_>) -> ProcessorResult<()> {
        let waits = self.settings.windowing.sessions().is_some_and(|rule| rule.max_length().is_some());
        if row.kind == WaitingKind::OnTime && !waits {
            return Err(refusal("rows on time wait for sessions with a maximum length alone".into()));
        }
        let mut values = Vec::with_capacity(row.values.len());
        for (name, value) in row.values {
            values.push((self.restored_field(name)?, value));
        }
        let refinement = Refinement { time: row.time, key: self.keys.intern(row.key), values, number: 0 };
        self.restoring.rows.push((row.kind, row.number, row.until, refinement));
        Ok(())
    }

    /// Which windows will fire, and which slices have.
    fn restore_firings(&mut self, unfired: BTreeSet<EventTime>) {
        let Self { slices, sliding, settings, .. } = self;
        let has_slices = |end: &EventTime| match sliding {
            None => slices.contains_key(end),
            Some(sliding) => slices.range((Excluded(sliding.window(*end).start), Included(*end))).next().is_some(),
        };
        self.unfired.extend(unfired.into_iter().filter(has_slices));
        for slice in slices.values_mut() {
            let ends = settings.windowing.slicing().and_then(|slicing| slicing.ends(slice.window));
            slice.fired = ends.is_some_and(|ends| self.unfired.range(ends.first..=ends.last).next().is_none());
            self.fired_entries += if slice.fired { slice.entries.len() } else { 0 };
        }
    }

    fn restore_pane(
        &mut self,
        pane: PaneRecord,
        sessions: &HashMap<(KeyGroup, AccumulatorId), (KeySlot, AccumulatorId)>,
    ) -> ProcessorResult<()> {
        let found = match pane.of {
            PaneOf::Window(end) => self
                .keys
                .find(&pane.key)
                .filter(|key| self.has_entry(end, *key))
                .map(|key| (PaneId::Window(end, key), key)),
            PaneOf::Session(id) => {
                sessions.get(&(pane.key.key_group(), id)).map(|(key, id)| (PaneId::Session(*id), *key))
            }
        };
        let Some((id, key)) = found.filter(|(_, key)| *self.keys.get(*key) == pane.key) else {
            let (of, key) = (pane.of, pane.key);
            return Err(ProcessorError::State(format!(
                "the record of the pane {of:?} of {key} is of no window that is there"
            )));
        };
        if let Some(panes) = &mut self.panes {
            panes.restore(id, key, pane, self.settings.name.as_ref(), &self.keys);
        }
        Ok(())
    }

    /// Whether a key has an event in the window that ends here.
    fn has_entry(&self, end: EventTime, key: KeySlot) -> bool {
        let start = self.sliding.as_ref().map(|sliding| sliding.window(end).start);
        match start {
            None => self.slices.get(&end).is_some_and(|slice| slice.entries.get(key).is_some()),
            Some(start) => {
                self.slices.range((Excluded(start), Included(end))).any(|(_, slice)| slice.entries.get(key).is_some())
            }
        }
    }
}

fn refusal(why: String) -> ProcessorError {
    ProcessorError::State(why)
}

/// What an error says, without the word for its kind.
fn text(error: ProcessorError) -> String {
    match error {
        ProcessorError::State(text) => text,
        other => other.to_string(),
    }
}
