//! What triggers go by: a pane for each window and key that has events and has not fired at its end.
//!
//! Kept only where there are triggers. A pane of tumbling and sliding windows is known by the window's end and the key; that of a
//! session by the session's accumulators, as its bounds move, and it remembers the early results that stand: when the session has
//! other bounds the next time it emits, they are taken back.

use super::keys::KeySlot;
use super::trigger::{Completeness, OpenWindow, Triggers};
use crate::aggregate::AccumulatorId;
use crate::event::GroupingKey;
use crate::sink::{Firing, ResultOp, ResultRow, TimeWindow};
use crate::time::EventTime;
use hashbrown::HashMap;

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
}

impl Pane {
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
}

impl Panes {
    pub(super) fn new(triggers: Triggers) -> Self {
        let turn = Turn { now: EventTime::MIN, completeness: Completeness::default() };
        Self { triggers, turn, panes: HashMap::new(), made: Vec::new(), purge_refused: false }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, id: PaneId, key: KeySlot, time: EventTime) {
        let now = self.turn.now;
        let pane = self.panes.entry(id).or_insert_with(|| Pane {
            key,
            events: 0,
            events_since_firing: 0,
            last_event: time,
            firings: 0,
            fired_at: now,
            complete_at_firing: 0.0,
            standing: Vec::new(),
            is_purged: false,
        });
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
    pub(super) fn fired(&mut self, id: PaneId, window: TimeWindow) {
        let complete = self.turn.completeness.share(window.end);
        if let Some(pane) = self.panes.get_mut(&id) {
            pane.firings += 1;
            pane.events_since_firing = 0;
            pane.fired_at = self.turn.now;
            pane.complete_at_firing = complete;
        }
    }

    /// Remembers early results that stand, in place of those before.
    pub(super) fn stand(&mut self, id: PaneId, standing: Vec<ResultRow>) {
        if let Some(pane) = self.panes.get_mut(&id) {
            pane.standing = standing;
        }
    }

    /// Forgets the content of a pane.
    pub(super) fn purged(&mut self, id: PaneId) {
        if let Some(pane) = self.panes.get_mut(&id) {
            pane.events = 0;
            pane.is_purged = true;
        }
    }

    /// Lets go of a pane.
    pub(super) fn remove(&mut self, id: PaneId) -> Option<Pane> {
        self.panes.remove(&id)
    }

    /// Makes one pane of those of two sessions.
    pub(super) fn merge(&mut self, into: AccumulatorId, from: AccumulatorId) {
        let Some(absorbed) = self.panes.remove(&PaneId::Session(from)) else { return };
        match self.panes.entry(PaneId::Session(into)) {
            hashbrown::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(absorbed);
            }
            hashbrown::hash_map::Entry::Occupied(mut pane) => {
                let pane = pane.get_mut();
                pane.events += absorbed.events;
                pane.events_since_firing += absorbed.events_since_firing;
                pane.last_event = pane.last_event.max(absorbed.last_event);
                pane.firings = pane.firings.max(absorbed.firings);
                pane.fired_at = pane.fired_at.min(absorbed.fired_at);
                pane.complete_at_firing = pane.complete_at_firing.min(absorbed.complete_at_firing);
                pane.standing.extend(absorbed.standing);
            }
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
