//! Late rows that wait for their turn.
//!
//! The model: a late row was judged against the watermark `w` that its partition had. If `w` had passed the end of the row's
//! window, the row is a refinement, and takes effect when the frontier passes `w`: by then every partition has come that far.
//! All rows of one window, key and `w` make one revision. So which revisions there are, and what each holds, is a function of
//! the partitions' contents; neither batching nor the number of workers nor timing between partitions shows in the results.
//!
//! Snapshots. A row does not change while it waits; it is written by the snapshot after it came, and its record is deleted by
//! the one after it went. Rows have numbers in the order in which they came, so those that a snapshot writes are a range of them.

use super::keys::{KeySlot, KeyTable};
use super::record::{WaitingKind, put_waiting, waiting_key};
use super::state::WindowState;
use super::tracking::Tracking;
use crate::checkpoint::Changes;
use crate::event::DefinitionIndex;
use crate::time::EventTime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A late row: its values by field, NaN where it has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement {
    /// When it happened.
    pub time: EventTime,
    /// Its key.
    pub key: KeySlot,
    /// `(field, value)` of those it has.
    pub values: Vec<(usize, f64)>,
    /// Its place in the order in which rows of its kind came; the stash gives it.
    pub number: u64,
}

/// The refinements that wait, by the watermark against which they were judged; or other rows by what they wait for.
#[derive(Debug)]
pub struct RefinementStash {
    kind: WaitingKind,
    waiting: BTreeMap<EventTime, Vec<Refinement>>,
    next_number: u64,
    tracking: Option<StashTracking>,
}

/// What snapshots know of rows.
#[derive(Debug, Default)]
struct StashTracking {
    /// Rows below this number have records in the store, or in the snapshot under way, which begins with `pending_from`.
    frozen_below: u64,
    pending_from: u64,
    /// What rows wait for that the next snapshot writes.
    changed: BTreeSet<EventTime>,
    /// What rows wait for that the snapshot under way has still to write.
    pending: BTreeSet<EventTime>,
    /// Whether the next snapshot writes all rows.
    writes_all: bool,
}

impl StashTracking {
    fn is_pending(&self, row: &Refinement) -> bool {
        (self.pending_from..self.frozen_below).contains(&row.number)
    }
}

/// What a row's record is written with.
#[derive(Clone, Copy)]
pub(super) struct RowWriter<'a> {
    pub definition: DefinitionIndex,
    pub keys: &'a KeyTable,
    pub fields: &'a [Arc<str>],
}

impl RowWriter<'_> {
    fn write(&self, kind: WaitingKind, until: EventTime, row: &Refinement, out: &mut Changes) {
        let key = self.keys.get(row.key);
        out.put_with(&waiting_key(self.definition, key, kind, row.number), |value| {
            let values = row.values.iter().map(|(field, value)| (&self.fields[*field], *value));
            put_waiting(value, (until, row.time), key, values);
        });
    }
}

impl RefinementStash {
    /// Without rows.
    pub fn new(kind: WaitingKind) -> Self {
        Self { kind, waiting: BTreeMap::new(), next_number: 0, tracking: None }
    }

    /// Adds one. Returns whether it is the first of its watermark.
    pub fn push(&mut self, watermark: EventTime, mut refinement: Refinement) -> bool {
        refinement.number = self.next_number;
        self.next_number += 1;
        let rows = self.waiting.entry(watermark).or_default();
        rows.push(refinement);
        if let Some(tracking) = &mut self.tracking {
            tracking.changed.insert(watermark);
        }
        rows.len() == 1
    }

    /// The least watermark that the frontier has passed.
    pub fn due(&self, frontier: EventTime) -> Option<EventTime> {
        self.first().filter(|watermark| *watermark < frontier)
    }

    /// The least watermark of which rows wait.
    pub fn first(&self) -> Option<EventTime> {
        self.waiting.first_key_value().map(|(watermark, _)| *watermark)
    }

    /// Takes the rows of this watermark.
    fn take(
        &mut self,
        watermark: EventTime,
        writer: RowWriter<'_>,
        snapshots: Option<&mut Tracking>,
    ) -> Vec<Refinement> {
        let rows = self.waiting.remove(&watermark).unwrap_or_default();
        if let (Some(tracking), Some(snapshots)) = (&mut self.tracking, snapshots) {
            tracking.changed.remove(&watermark);
            let is_unwritten = tracking.pending.remove(&watermark);
            for row in rows.iter().filter(|row| row.number < tracking.frozen_below) {
                if is_unwritten && tracking.is_pending(row) {
                    writer.write(self.kind, watermark, row, &mut snapshots.saved);
                }
                let key = writer.keys.get(row.key);
                snapshots.deleted.delete(&waiting_key(writer.definition, key, self.kind, row.number));
            }
        }
        rows
    }

    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Takes note of changes from now on; there are no rows yet.
    pub(super) fn track(&mut self) {
        debug_assert!(self.waiting.is_empty());
        self.tracking = Some(StashTracking::default());
    }

    /// Makes pending what has changed.
    pub(super) fn freeze(&mut self) {
        if let Some(tracking) = &mut self.tracking {
            debug_assert!(tracking.pending.is_empty(), "a snapshot is written to its end before the next is begun");
            let writes_all = std::mem::take(&mut tracking.writes_all);
            tracking.pending_from = if writes_all { 0 } else { tracking.frozen_below };
            tracking.frozen_below = self.next_number;
            tracking.pending = std::mem::take(&mut tracking.changed);
        }
    }

    /// Writes what is pending until `out` has so many bytes. Returns whether that was all.
    pub(super) fn write(&mut self, writer: RowWriter<'_>, out: &mut Changes, until_bytes: usize) -> bool {
        let Some(tracking) = &mut self.tracking else { return true };
        while out.bytes() < until_bytes {
            let Some(until) = tracking.pending.pop_first() else { return true };
            let rows = self.waiting.get(&until).into_iter().flatten();
            for row in rows.filter(|row| tracking.is_pending(row)) {
                writer.write(self.kind, until, row, out);
            }
        }
        tracking.pending.is_empty()
    }

    /// Makes all rows changed ones.
    pub(super) fn change_all(&mut self) {
        if let Some(tracking) = &mut self.tracking {
            tracking.changed = self.waiting.keys().copied().collect();
            tracking.writes_all = true;
        }
    }
}

impl WindowState {
    /// Takes the late rows of this watermark.
    pub(super) fn take_refinements(&mut self, watermark: EventTime) -> Vec<Refinement> {
        let Self { refinements, settings, keys, fields, entries, .. } = self;
        let writer = RowWriter { definition: settings.definition, keys, fields };
        refinements.take(watermark, writer, entries.tracking.as_deref_mut())
    }

    /// Takes the rows of sessions that have waited until this time.
    pub(super) fn take_waiting(&mut self, time: EventTime) -> Vec<Refinement> {
        let Self { sessions, settings, keys, fields, entries, .. } = self;
        let writer = RowWriter { definition: settings.definition, keys, fields };
        let waiting = sessions.as_mut().map(|sessions| &mut sessions.waiting);
        waiting.map_or_else(Vec::new, |waiting| waiting.take(time, writer, entries.tracking.as_deref_mut()))
    }
}
