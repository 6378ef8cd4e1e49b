//! Early results: the part of [`WindowState`] that triggers drive. See [`super::trigger`] for when, [`super::panes`] for what is
//! kept.
//!
//! With triggers rows go into their windows one at a time, so that a trigger that counts sees each; jobs without triggers do not
//! pay for that. An early result of windows that overlap is combined from the window's slices each time.

use super::keys::KeySlot;
use super::panes::{PaneId, Turn};
use super::results::{Label, ResultMaker};
use super::state::WindowState;
use super::tables::Tables;
use super::trigger::Completeness;
use crate::event::RowBatch;
use crate::sink::{Firing, ResultOp, ResultRow, TimeWindow};
use crate::time::EventTime;

impl WindowState {
    /// Whether there are windows that triggers should be asked about from time to time.
    pub fn has_panes(&self) -> bool {
        self.panes.as_ref().is_some_and(|panes| !panes.are_none())
    }

    /// Whether triggers make windows emit before their end.
    pub fn has_triggers(&self) -> bool {
        self.panes.is_some()
    }

    /// Says what time it is and how far the partitions have come, for what triggers are told from now on.
    pub fn begin_turn(&mut self, now: EventTime, completeness: &Completeness) {
        if let Some(panes) = &mut self.panes {
            panes.turn = Turn { now, completeness: completeness.clone() };
        }
    }

    /// Takes the early results that were made since the last call.
    pub fn take_early(&mut self) -> Vec<ResultRow> {
        self.panes.as_mut().map_or_else(Vec::new, |panes| std::mem::take(&mut panes.made))
    }

    /// Whether a trigger has asked to purge windows that share their content with others.
    pub fn has_refused_to_purge(&self) -> bool {
        self.panes.as_ref().is_some_and(|panes| panes.purge_refused)
    }

    /// Asks the triggers about all open windows.
    pub fn ask_triggers(&mut self) {
        for id in self.panes.iter().flat_map(|panes| panes.ids()).collect::<Vec<_>>() {
            self.ask(id);
        }
    }

    /// Puts the rows that are not in `skip` into their slices one at a time, and asks the triggers after each.
    pub(super) fn apply_to_panes(
        &mut self,
        batch: &RowBatch,
        skip: &[u32],
        new_output_time: &mut impl FnMut(EventTime),
    ) {
        self.find_entries(batch, skip, new_output_time);
        let ids = std::mem::take(&mut self.ids);
        let Self { keys, entries, stores, .. } = self;
        Tables { keys, entries, stores }.touch_all(&ids);
        let mut skip = skip.iter().map(|row| *row as usize).peekable();
        let rows = (0..batch.len()).filter(|row| skip.next_if_eq(row).is_none());
        for (row, id) in rows.zip(&ids) {
            let row = self.waiting_row(batch, row);
            for (field, value) in &row.values {
                self.stores[*field].add(*id, *value);
            }
            let slice = self.settings.windowing.slice(row.time);
            let ends = self.settings.windowing.slicing().and_then(|slicing| slicing.ends(slice));
            let mut end = ends.map(|ends| ends.first);
            while let Some(open) = end {
                self.note(PaneId::Window(open, row.key), row.key, row.time);
                let next = self.sliding.as_ref().and_then(|sliding| sliding.after(open));
                end = next.filter(|next| ends.is_some_and(|ends| *next <= ends.last));
            }
        }
        self.ids = ids;
    }

    /// The same for sessions.
    pub(super) fn apply_to_session_panes(&mut self, batch: &RowBatch, skip: &[u32]) {
        let mut skip = skip.iter().map(|row| *row as usize).peekable();
        for row in (0..batch.len()).filter(|row| skip.next_if_eq(row).is_none()) {
            let row = self.waiting_row(batch, row);
            self.keys.retain(row.key);
            self.put_into_session(row);
        }
    }

    /// Takes note of an event that is in its window, and asks the triggers.
    pub(super) fn note(&mut self, id: PaneId, key: KeySlot, time: EventTime) {
        if let Some(panes) = &mut self.panes {
            panes.note(id, key, time, &self.keys);
            self.ask(id);
        }
    }

    /// The bounds of a pane's window as they are now.
    fn window_of(&self, id: PaneId) -> Option<TimeWindow> {
        match id {
            PaneId::Window(end, _) => match &self.sliding {
                Some(sliding) => Some(sliding.window(end)),
                None => self.slices.get(&end).map(|slice| slice.window),
            },
            PaneId::Session(session) => {
                let key = self.panes.as_ref()?.get(id)?.key;
                self.sessions.as_ref()?.table.window(key, session)
            }
        }
    }

    fn ask(&mut self, id: PaneId) {
        let (Some(window), Some(panes)) = (self.window_of(id), &self.panes) else { return };
        let Some(key) = panes.get(id).map(|pane| pane.key) else { return };
        // What an earlier run has completed makes no results; see `ClosedBefore`.
        if window.end > self.closed_before() && panes.should_fire(id, window, self.keys.get(key)) {
            self.fire_early(id, window);
        }
    }

    fn fire_early(&mut self, id: PaneId, window: TimeWindow) {
        let Self {
            panes, keys, entries, stores, names, fields, fields_by_name, counts, settings, sliding, slices, ..
        } = self;
        let Some(panes) = panes else { return };
        let Some(pane) = panes.get(id) else { return };
        let (key, fired_at) = (pane.key, panes.turn.now);
        let mut tables = Tables { keys, entries, stores };
        let takes_accumulators = settings.takes_accumulators;
        let window_name = settings.name.as_ref();
        let mut maker = ResultMaker { window_name, names, fields, fields_by_name, counts, takes_accumulators };
        let complete = Some(panes.turn.completeness.share(window.end));
        let label =
            |revision| Label { window, key, revision, op: ResultOp::Upsert, firing: Firing::Early, fired_at, complete };
        let mut content = None;
        match (id, sliding) {
            (PaneId::Window(end, _), Some(sliding)) => {
                sliding.again(key, &[end], slices, &mut tables, |_, id, revision, tables| {
                    panes.made.push(maker.make(label(revision), id, tables));
                });
            }
            (PaneId::Window(end, _), None) => {
                let entry = slices.get(&end).and_then(|slice| slice.entries.get(key));
                let entry = entry.expect("a pane of a window has an entry in its slice");
                let revision = tables.next_revision(entry);
                panes.made.push(maker.make(label(revision), entry, &mut tables));
                content = Some(entry);
            }
            (PaneId::Session(session), _) => {
                let (revision, gone) = pane.replaced(window, Firing::Early, fired_at);
                maker.counts.retracted += gone.len() as u64;
                panes.made.extend(gone);
                let row = maker.make(label(revision), session, &mut tables);
                panes.stand(id, vec![row.clone()], tables.keys);
                panes.made.push(row);
                content = Some(session);
            }
        }
        panes.fired(id, window, tables.keys);
        let Some(pane) = panes.get(id) else { return };
        if panes.should_purge(pane, window, tables.keys.get(key)) {
            match content {
                Some(content) => {
                    tables.clear(content);
                    panes.purged(id, tables.keys);
                }
                None => panes.purge_refused = true,
            }
        }
    }

    /// Lets go of the pane of a window and key that fires at its end. Returns whether it is to be purged.
    pub(super) fn close_pane(&mut self, window: TimeWindow, key: KeySlot) -> bool {
        let Some(panes) = &mut self.panes else { return false };
        let Some(pane) = panes.remove(PaneId::Window(window.end, key), &self.keys) else { return false };
        let purges = panes.should_purge(&pane, window, self.keys.get(key));
        panes.purge_refused |= purges && self.sliding.is_some();
        purges && self.sliding.is_none()
    }
}
