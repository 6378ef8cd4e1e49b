//! Snapshots: the records that make the windows of one definition, on one worker, what they are at the end of an epoch.
//!
//! The model: [`WindowState::begin_snapshot`] is called when everything has fired that is due at the frontier. It notes what has
//! changed since the snapshot before, and encodes nothing. From then on [`WindowState::write_snapshot`] writes that image, some
//! of it at a time, while rows go on coming and windows go on firing: what they change is written first. So both take a time that
//! follows what has changed, not what there is. [`super::record`] says what is written, [`super::tracking`] how changes are known.
//!
//! A snapshot is changes of records: those of one snapshot after the other, in their order, make the records of the last. They have to
//! be kept in that order by whoever writes them.
//!
//! How it fails: an aggregate that cannot be encoded, or an entry that could not be read back, ends the run: no snapshot is
//! written after that.

use super::cold::MemoryLimit;
use super::record::put_definition;
use super::refinement::RowWriter;
use super::revisions::FrozenRevision;
use super::state::WindowState;
use super::tracking::Tracking;
use crate::checkpoint::{Changes, RecordKey};
use crate::error::{ProcessorError, ProcessorResult};

/// What snapshots are, apart from what is with the windows themselves.
#[derive(Default)]
pub(super) struct Snapshots {
    under_way: Option<UnderWay>,
    /// The definition's record in the store, or in the snapshot under way.
    definition: Vec<u8>,
}

/// What a snapshot has still to write, beside what is with the windows.
struct UnderWay {
    deleted: Changes,
    /// The definition's record, where it has changed.
    definition: Option<Vec<u8>>,
    /// The next one last.
    revisions: Vec<FrozenRevision>,
}

impl WindowState {
    /// Takes note of changes from now on, so that snapshots can be taken. Called before anything else.
    pub fn track_changes(&mut self) {
        debug_assert_eq!((self.entries.capacity(), self.refinements.len()), (0, 0), "before the first row");
        let definition = self.settings.definition;
        let gap = self.settings.windowing.sessions().map(|sessions| sessions.gap());
        let mut tracking = Box::new(Tracking::new(definition, gap));
        tracking.has_fields(&self.fields, &self.fields_by_name);
        self.entries.tracking = Some(tracking);
        self.refinements.track();
        if let Some(sessions) = &mut self.sessions {
            sessions.waiting.track();
        }
        if let Some(sliding) = &mut self.sliding {
            sliding.revisions.track();
        }
        if let Some(panes) = &mut self.panes {
            panes.track(definition);
        }
    }

    /// Keeps no more than so much of the state in memory, as far as that is possible. Changes must be tracked.
    pub fn limit_memory(&mut self, limit: MemoryLimit) {
        debug_assert!(self.entries.tracking.is_some(), "what is to be read back is in snapshots");
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.memory.limit = Some(limit);
        }
    }

    /// Begins a snapshot of the windows as they are now: everything due has fired to its end, and early results were taken. What a
    /// snapshot before has not written yet becomes part of this one.
    pub fn begin_snapshot(&mut self) {
        debug_assert!(self.entries.tracking.is_some(), "snapshots are of what is tracked");
        debug_assert!(self.firing.is_none(), "a firing is in progress");
        debug_assert!(self.panes.as_ref().is_none_or(|panes| panes.made.is_empty()), "early results wait to be taken");
        let mut deleted = Changes::default();
        if self.snapshots.under_way.is_some() {
            let written = self.write_snapshot(&mut deleted, usize::MAX);
            self.remember(written.map(drop));
        }
        let Self { entries, sessions, sliding, panes, refinements, keys, snapshots, settings, unfired, .. } = self;
        let purged_until = self.purged_until;
        entries.freeze(sessions.as_ref().map(|sessions| &sessions.table));
        refinements.freeze();
        if let Some(sessions) = sessions {
            sessions.waiting.freeze();
        }
        if let Some(tracking) = &mut entries.tracking {
            tracking.memory.in_flight = true;
            deleted.append(&mut tracking.deleted);
        }
        if let Some(panes) = panes {
            deleted.append(&mut panes.take_deleted());
            panes.freeze();
        }
        let mut definition = Vec::new();
        put_definition(&mut definition, settings.name.as_deref(), purged_until, unfired.iter().copied());
        let is_new = definition != snapshots.definition;
        if is_new {
            snapshots.definition.clone_from(&definition);
        }
        snapshots.under_way = Some(UnderWay {
            deleted,
            definition: is_new.then_some(definition),
            revisions: sliding.as_mut().map_or_else(Vec::new, |sliding| sliding.revisions.freeze(keys)),
        });
    }

    /// Whether a snapshot was begun and is not written to its end.
    pub fn is_snapshot_under_way(&self) -> bool {
        self.snapshots.under_way.is_some()
    }

    /// Appends about `limit` bytes more of the snapshot that was begun. Returns whether that was the last of it.
    pub fn write_snapshot(&mut self, changes: &mut Changes, limit: usize) -> ProcessorResult<bool> {
        let Self { entries, sessions, panes, refinements, keys, snapshots, settings, stores, fields, .. } = self;
        let (Some(under_way), Some(tracking)) = (&mut snapshots.under_way, &mut entries.tracking) else {
            return Ok(true);
        };
        tracking.check()?;
        let until = changes.bytes().saturating_add(limit.max(1));
        let definition = settings.definition;
        // First: an id that an entry has given back may be that of another by now.
        changes.append(&mut under_way.deleted);
        changes.append(&mut tracking.saved);
        if let Some(value) = under_way.definition.take() {
            changes.put(&RecordKey::of_definition(definition).0, &value);
        }
        let writer = RowWriter { definition, keys, fields };
        let is_done = tracking.write(keys, stores, changes, until)
            && write_revisions(under_way, definition, changes, until)
            && refinements.write(writer, changes, until)
            && sessions.as_mut().is_none_or(|sessions| sessions.waiting.write(writer, changes, until))
            && panes.as_mut().is_none_or(|panes| panes.write(keys, changes, until));
        tracking.check()?;
        if is_done {
            snapshots.under_way = None;
        }
        Ok(is_done)
    }

    /// Takes note that the last snapshot is stored: what is as in it may be read back from there.
    pub fn snapshot_stored(&mut self) {
        debug_assert!(self.snapshots.under_way.is_none(), "what is stored was written to its end");
        let Self { entries, stores, .. } = self;
        if let Some(tracking) = &mut entries.tracking {
            tracking.memory.in_flight = false;
            tracking.memory.measure();
            tracking.look_after_memory(stores);
        }
    }

    /// Looks after memory: asked now and then, it drops some of what may be dropped. Returns whether a snapshot would be welcome,
    /// because more has changed since the last one than may be held.
    pub fn wants_snapshot(&mut self) -> bool {
        let capacity = self.entries.capacity();
        let Self { entries, stores, .. } = self;
        let Some(tracking) = &mut entries.tracking else { return false };
        tracking.memory.measure_if_due(capacity);
        tracking.look_after_memory(stores);
        tracking.memory.wants_snapshot()
    }

    /// How many entries are in the store alone.
    pub fn cold_windows(&self) -> usize {
        self.entries.tracking.as_ref().map_or(0, |tracking| tracking.cold())
    }

    /// Makes everything count as changed: the next snapshot holds all there is.
    pub fn change_all(&mut self) {
        let Self { entries, sessions, sliding, panes, refinements, keys, snapshots, stores, .. } = self;
        if let Some(tracking) = &mut entries.tracking {
            tracking.change_all(keys, stores);
        }
        refinements.change_all();
        if let Some(sessions) = sessions {
            sessions.waiting.change_all();
        }
        if let Some(sliding) = sliding {
            sliding.revisions.change_all();
        }
        if let Some(panes) = panes {
            panes.change_all(keys);
        }
        snapshots.definition.clear();
    }

    /// The first error of what cannot fail where it happens, once: an entry that could not be read back from the store, or written.
    /// Results that were made since are not to be used.
    pub fn take_error(&mut self) -> Option<ProcessorError> {
        self.entries.tracking.as_mut().and_then(|tracking| tracking.take_error())
    }

    fn remember(&mut self, result: ProcessorResult<()>) {
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.note(result);
        }
    }
}

/// Writes revisions until there are so many bytes. Returns whether that was all.
fn write_revisions(
    under_way: &mut UnderWay,
    definition: crate::event::DefinitionIndex,
    changes: &mut Changes,
    until_bytes: usize,
) -> bool {
    while changes.bytes() < until_bytes {
        let Some(revision) = under_way.revisions.pop() else { return true };
        revision.write(definition, changes);
    }
    under_way.revisions.is_empty()
}
