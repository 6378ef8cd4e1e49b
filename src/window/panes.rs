//! What triggers go by: a pane for each window and key that has events and has not fired at its end.
//!
//! Kept only where there are triggers. A pane of tumbling and sliding windows is known by the window's end and the key; that of a
//! session by the session's accumulators, as its bounds move, and it remembers the early results that stand: when the session has
//! other bounds the next time it emits, they are taken back.
//!
//! Snapshots. A pane that was to be written by the snapshot under way is written before it changes.

use super::keys::{KeySlot, KeyTable};
use super::record::{PaneOf, PaneRecord, pane_key, put_pane};
use super::trigger::{Completeness, OpenWindow, Triggers};
use crate::aggregate::AccumulatorId;
use crate::checkpoint::Changes;
use crate::event::{DefinitionIndex, GroupingKey};
use crate::sink::{Firing, ResultOp, ResultRow, TimeWindow};
use crate::time::EventTime;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// What a pane is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PaneId {
    /// The window that ends here, and a key.
    Window(EventTime, KeySlot),
    /// A session.
    Session(AccumulatorId),
}

/// One window and key.
#[derive(Clone, Debug)]
pub(super) struct Pane {
    pub key: KeySlot,
    events: u64,
    events_since_firing: u64,
    last_event: EventTime,
    firings: u32,
    fired_at: EventTime,
    complete_at_firing: f64,
    /// Early results that stand, of sessions.
    standing: Vec<ResultRow>,
    /// Whether what they showed is forgotten.
    is_purged: bool,
    /// Whether the next snapshot writes it, the one under way, or none.
    written_by: WrittenBy,
    /// Whether it has a record in the store, or in the snapshot under way.
    is_stored: bool,
}

/// Which snapshot writes a pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WrittenBy {
    Nobody,
    UnderWay,
    Next,
}

/// What snapshots know of panes.
struct PaneTracking {
    definition: DefinitionIndex,
    /// Those that the next snapshot writes.
    changed: HashSet<PaneId>,
    /// Those that the snapshot under way has still to look at.
    pending: Vec<PaneId>,
    /// What belongs to the snapshot under way and was written before its turn.
    saved: Changes,
    /// What the next snapshot deletes.
    deleted: Changes,
}

impl PaneId {
    fn of(self) -> PaneOf {
        match self {
            PaneId::Window(end, _) => PaneOf::Window(end),
            PaneId::Session(id) => PaneOf::Session(id),
        }
    }
}

impl Pane {
    fn write(&self, id: PaneId, definition: DefinitionIndex, keys: &KeyTable, out: &mut Changes) {
        let record = PaneRecord {
            of: id.of(),
            key: keys.key(self.key),
            events: self.events,
            events_since_firing: self.events_since_firing,
            last_event: self.last_event,
            firings: self.firings,
            fired_at: self.fired_at,
            complete_at_firing: self.complete_at_firing,
            standing: self.standing.clone(),
            is_purged: self.is_purged,
        };
        out.put_with(&pane_key(definition, &record.key, record.of), |value| put_pane(value, &record));
    }

    /// What becomes of the early results of a session that now emits for `window`: the revision of what it emits, and the
    /// retractions of those that had other bounds. What was purged stays, as nothing later holds it.
    pub(super) fn replaced(&self, window: TimeWindow, firing: Firing, fired_at: EventTime) -> (u32, Vec<ResultRow>) {
        let same = self.standing.iter().filter(|row| row.window == window).map(|row| row.revision + 1).max();
        let gone = self.standing.iter().filter(|row| row.window != window && !self.is_purged);
        let retraction = |row: &ResultRow| ResultRow { op: ResultOp::Retract, firing, fired_at, ..row.clone() };
        (same.unwrap_or(0), gone.map(retraction).collect())
    }

    /// What triggers are shown of it.
    fn open<'k>(&self, window: TimeWindow, key: &'k GroupingKey, turn: &Turn) -> OpenWindow<'k> {
        OpenWindow {
            window,
            key,
            events: self.events,
            events_since_firing: self.events_since_firing,
            last_event: self.last_event,
            firings: self.firings,
            since_firing: turn.now.since(self.fired_at).into(),
            complete: turn.completeness.share(window.end),
            complete_at_firing: self.complete_at_firing,
        }
    }
}

/// What is the same for all panes in one turn of the operator.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// The wall clock.
    pub now: EventTime,
    pub completeness: Completeness,
}

/// The panes of one definition on one worker.
pub(super) struct Panes {
    pub triggers: Triggers,
    pub turn: Turn,
    panes: HashMap<PaneId, Pane>,
    /// Early results that were made and not taken yet.
    pub made: Vec<ResultRow>,
    /// Whether a trigger has asked to purge what other windows share.
    pub purge_refused: bool,
    /// Where snapshots are taken.
    tracking: Option<PaneTracking>,
}

impl Panes {
    pub(super) fn new(triggers: Triggers) -> Self {
        let turn = Turn { now: EventTime::MIN, completeness: Completeness::default() };
        Self { triggers, turn, panes: HashMap::new(), made: Vec::new(), purge_refused: false, tracking: None }
    }

    /// Takes note of changes from now on; there are no panes yet.
    pub(super) fn track(&mut self, definition: DefinitionIndex) {
        debug_assert!(self.panes.is_empty());
        self.tracking = Some(PaneTracking {
            definition,
            changed: HashSet::new(),
            pending: Vec::new(),
            saved: Changes::default(),
            deleted: Changes::default(),
        });
    }

    /// A pane, which is about to be changed.
    fn touch(&mut self, id: PaneId, keys: &KeyTable) -> Option<&mut Pane> {
        let pane = self.panes.get_mut(&id)?;
        if let Some(tracking) = &mut self.tracking {
            if pane.written_by == WrittenBy::UnderWay {
                pane.write(id, tracking.definition, keys, &mut tracking.saved);
            }
            if pane.written_by != WrittenBy::Next {
                pane.written_by = WrittenBy::Next;
                tracking.changed.insert(id);
            }
        }
        Some(pane)
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, id: PaneId, key: KeySlot, time: EventTime, keys: &KeyTable) {
        let now = self.turn.now;
        self.panes.entry(id).or_insert_with(|| Pane {
            key,
            events: 0,
            events_since_firing: 0,
            last_event: time,
            firings: 0,
            fired_at: now,
            complete_at_firing: 0.0,
            standing: Vec::new(),
            is_purged: false,
            written_by: WrittenBy::Nobody,
            is_stored: false,
        });
        let Some(pane) = self.touch(id, keys) else { return };
        pane.events += 1;
        pane.events_since_firing += 1;
        pane.last_event = pane.last_event.max(time);
    }

    pub(super) fn get(&self, id: PaneId) -> Option<&Pane> {
        self.panes.get(&id)
    }

    /// Whether a trigger makes it fire now.
    pub(super) fn should_fire(&self, id: PaneId, window: TimeWindow, key: &GroupingKey) -> bool {
        let pane = self.panes.get(&id);
        pane.is_some_and(|pane| self.triggers.should_fire(&pane.open(window, key, &self.turn)))
    }

    /// Whether a trigger has it purged, now that it has fired.
    pub(super) fn should_purge(&self, pane: &Pane, window: TimeWindow, key: &GroupingKey) -> bool {
        self.triggers.should_purge(&pane.open(window, key, &self.turn))
    }

    /// Takes note of an early result for the window that it is of.
    pub(super) fn fired(&mut self, id: PaneId, window: TimeWindow, keys: &KeyTable) {
        let (complete, now) = (self.turn.completeness.share(window.end), self.turn.now);
        if let Some(pane) = self.touch(id, keys) {
            pane.firings += 1;
            pane.events_since_firing = 0;
            pane.fired_at = now;
            pane.complete_at_firing = complete;
        }
    }

    /// Remembers early results that stand, in place of those before.
    pub(super) fn stand(&mut self, id: PaneId, standing: Vec<ResultRow>, keys: &KeyTable) {
        if let Some(pane) = self.touch(id, keys) {
            pane.standing = standing;
        }
    }

    /// Forgets the content of a pane.
    pub(super) fn purged(&mut self, id: PaneId, keys: &KeyTable) {
        if let Some(pane) = self.touch(id, keys) {
            pane.events = 0;
            pane.is_purged = true;
        }
    }

    /// Lets go of a pane.
    pub(super) fn remove(&mut self, id: PaneId, keys: &KeyTable) -> Option<Pane> {
        self.touch(id, keys);
        let pane = self.panes.remove(&id)?;
        if let Some(tracking) = &mut self.tracking {
            tracking.changed.remove(&id);
            if pane.is_stored {
                tracking.deleted.delete(&pane_key(tracking.definition, keys.get(pane.key), id.of()));
            }
        }
        Some(pane)
    }

    /// Makes one pane of those of two sessions.
    pub(super) fn merge(&mut self, into: AccumulatorId, from: AccumulatorId, keys: &KeyTable) {
        let Some(absorbed) = self.remove(PaneId::Session(from), keys) else { return };
        let into = PaneId::Session(into);
        let Some(pane) = self.touch(into, keys) else {
            return self.insert(into, absorbed, keys);
        };
        pane.events += absorbed.events;
        pane.events_since_firing += absorbed.events_since_firing;
        pane.last_event = pane.last_event.max(absorbed.last_event);
        pane.firings = pane.firings.max(absorbed.firings);
        pane.fired_at = pane.fired_at.min(absorbed.fired_at);
        pane.complete_at_firing = pane.complete_at_firing.min(absorbed.complete_at_firing);
        pane.standing.extend(absorbed.standing);
    }

    /// Adds a pane where there is none.
    fn insert(&mut self, id: PaneId, pane: Pane, keys: &KeyTable) {
        self.panes.insert(id, Pane { written_by: WrittenBy::Nobody, is_stored: false, ..pane });
        self.touch(id, keys);
    }

    /// Adds a pane that an earlier run had.
    pub(super) fn restore(
        &mut self,
        id: PaneId,
        key: KeySlot,
        record: PaneRecord,
        window_name: Option<&Arc<str>>,
        keys: &KeyTable,
    ) {
        let named = |row| ResultRow { window_name: window_name.cloned(), ..row };
        let pane = Pane {
            key,
            events: record.events,
            events_since_firing: record.events_since_firing,
            last_event: record.last_event,
            firings: record.firings,
            fired_at: record.fired_at,
            complete_at_firing: record.complete_at_firing,
            standing: record.standing.into_iter().map(named).collect(),
            is_purged: record.is_purged,
            written_by: WrittenBy::Nobody,
            is_stored: false,
        };
        self.insert(id, pane, keys);
    }

    /// Makes pending what has changed.
    pub(super) fn freeze(&mut self) {
        let Some(tracking) = &mut self.tracking else { return };
        debug_assert!(tracking.pending.is_empty(), "a snapshot is written to its end before the next is begun");
        tracking.pending.extend(tracking.changed.drain());
        for id in &tracking.pending {
            if let Some(pane) = self.panes.get_mut(id) {
                (pane.written_by, pane.is_stored) = (WrittenBy::UnderWay, true);
            }
        }
    }

    /// What the next snapshot deletes.
    pub(super) fn take_deleted(&mut self) -> Changes {
        self.tracking.as_mut().map_or_else(Changes::default, |tracking| std::mem::take(&mut tracking.deleted))
    }

    /// Writes what is pending until `out` has so many bytes. Returns whether that was all.
    pub(super) fn write(&mut self, keys: &KeyTable, out: &mut Changes, until_bytes: usize) -> bool {
        let Some(tracking) = &mut self.tracking else { return true };
        out.append(&mut tracking.saved);
        while out.bytes() < until_bytes {
            let Some(id) = tracking.pending.pop() else { return true };
            let pane = self.panes.get_mut(&id);
            if let Some(pane) = pane.filter(|pane| pane.written_by == WrittenBy::UnderWay) {
                pane.written_by = WrittenBy::Nobody;
                pane.write(id, tracking.definition, keys, out);
            }
        }
        tracking.pending.is_empty()
    }

    /// Makes all of them changed ones.
    pub(super) fn change_all(&mut self, keys: &KeyTable) {
        for id in self.ids() {
            self.touch(id, keys);
        }
    }

    /// All panes, in an order that does not depend on the hash.
    pub(super) fn ids(&self) -> Vec<PaneId> {
        let mut ids: Vec<PaneId> = self.panes.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn are_none(&self) -> bool {
        self.panes.is_empty()
    }
}
