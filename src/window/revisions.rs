//! The revisions of windows of several slices, which have no entry that could hold them.
//!
//! The model: for each window that has emitted and is kept, the next revision of each key. A key is known by its slot, which its
//! entries hold: a window's revisions are forgotten before the slices of the window.

use super::keys::{KeySlot, KeyTable};
use super::record::revision_key;
use super::tracking::Tracking;
use crate::checkpoint::Changes;
use crate::event::{DefinitionIndex, GroupingKey};
use crate::time::EventTime;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The revisions of all windows of a definition.
#[derive(Default)]
pub(super) struct Revisions {
    /// By the windows' ends.
    windows: BTreeMap<EventTime, OfWindow>,
    /// Whether windows may emit more than once.
    are_kept: bool,
    /// Whether snapshots are taken.
    are_tracked: bool,
}

#[derive(Default)]
struct OfWindow {
    next: HashMap<KeySlot, Next>,
    /// Keys whose revision the next snapshot writes.
    changed: Vec<KeySlot>,
}

#[derive(Clone, Copy, Default)]
struct Next {
    revision: u32,
    is_changed: bool,
    /// Whether it has a record in the store, or in the snapshot under way.
    is_stored: bool,
}

/// A revision as it was when a snapshot was begun.
pub(super) struct FrozenRevision {
    end: EventTime,
    key: GroupingKey,
    next: u32,
}

impl FrozenRevision {
    /// Writes its record.
    pub(super) fn write(&self, definition: DefinitionIndex, out: &mut Changes) {
        let key = revision_key(definition, &self.key, self.end);
        out.put_with(&key, |value| super::record::put_revision(value, self.next));
    }
}

impl Revisions {
    /// Where windows may emit more than once they are kept.
    pub(super) fn new(are_kept: bool) -> Self {
        Self { are_kept, ..Self::default() }
    }

    /// Takes note of changes from now on; there are no revisions yet.
    pub(super) fn track(&mut self) {
        debug_assert!(self.windows.is_empty());
        self.are_tracked = true;
    }

    /// The revision of the next result of this window and key; each call counts one further.
    pub(super) fn next(&mut self, end: EventTime, key: KeySlot) -> u32 {
        if !self.are_kept {
            return 0;
        }
        let revision = self.change(end, key);
        *revision += 1;
        *revision - 1
    }

    /// Sets the revision of the next result.
    pub(super) fn set(&mut self, end: EventTime, key: KeySlot, next: u32) {
        if self.are_kept {
            *self.change(end, key) = next;
        }
    }

    fn change(&mut self, end: EventTime, key: KeySlot) -> &mut u32 {
        let window = self.windows.entry(end).or_default();
        let next = window.next.entry(key).or_default();
        if self.are_tracked && !next.is_changed {
            next.is_changed = true;
            window.changed.push(key);
        }
        &mut next.revision
    }

    /// Forgets the windows that end at or before this time. The keys are still held.
    pub(super) fn purge(&mut self, until: EventTime, keys: &KeyTable, tracking: Option<&mut Tracking>) {
        let mut tracking = tracking;
        while let Some(window) = self.windows.first_entry().filter(|window| *window.key() <= until) {
            let (end, window) = window.remove_entry();
            if let Some(tracking) = &mut tracking {
                let stored = window.next.iter().filter(|(_, next)| next.is_stored);
                stored.for_each(|(key, _)| {
                    tracking.deleted.delete(&revision_key(tracking.definition, keys.get(*key), end));
                });
            }
        }
    }

    /// What has changed, as it is now.
    pub(super) fn freeze(&mut self, keys: &KeyTable) -> Vec<FrozenRevision> {
        let mut frozen = Vec::new();
        for (end, window) in &mut self.windows {
            for key in window.changed.drain(..) {
                let next = window.next.get_mut(&key).expect("what has changed is there until its window goes");
                (next.is_changed, next.is_stored) = (false, true);
                frozen.push(FrozenRevision { end: *end, key: keys.key(key), next: next.revision });
            }
        }
        frozen
    }

    /// Makes all of them changed ones.
    pub(super) fn change_all(&mut self) {
        let ids: Vec<(EventTime, KeySlot)> =
            self.windows.iter().flat_map(|(end, window)| window.next.keys().map(|key| (*end, *key))).collect();
        ids.into_iter().for_each(|(end, key)| {
            self.change(end, key);
        });
    }
}
