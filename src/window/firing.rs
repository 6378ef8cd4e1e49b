//! When windows fire, and what comes of it: the part of [`WindowState`] that the frontier drives.

use super::keys::KeySlot;
use super::panes::PaneId;
use super::results::{Label, ResultMaker};
use super::session_state::SessionState;
use super::state::{Due, InProgress, Slice, WindowState, Work, add_entry};
use super::tables::Tables;
use crate::sink::{Firing, ResultOp, ResultRow, TimeWindow};
use crate::time::EventTime;
use std::collections::BTreeMap;

impl WindowState {
    /// Windows that end at or before this make no results: an earlier run has completed them, or has forgotten what was in them.
    pub(super) fn closed_before(&self) -> EventTime {
        self.settings.closed.get().max(self.forgotten)
    }

    /// Where windows see the frontier: those that wait for late events are behind it.
    fn shifted(&self, frontier: EventTime) -> EventTime {
        match frontier {
            EventTime::MAX => EventTime::MAX,
            frontier => frontier.saturating_sub(self.settings.windowing.delay()),
        }
    }

    /// What is due next when the frontier is here: what is in progress, else the earliest; a window before its refinements.
    pub fn next_due(&mut self, frontier: EventTime) -> Option<Due> {
        if let Some(firing) = &self.firing {
            return Some(firing.due);
        }
        let frontier = self.shifted(frontier);
        if self.sessions.is_some() {
            return self.next_due_of_sessions(frontier);
        }
        let window = self.unfired.first().copied().filter(|end| *end <= frontier);
        earlier(window, self.refinements.due(frontier))
    }

    /// The earliest time at which something is due as far as is known; `None` where nothing is.
    pub fn next_output_time(&self) -> Option<EventTime> {
        let in_progress = self.firing.as_ref().map(|firing| firing.due.time());
        let sessions = self.sessions.as_ref().and_then(SessionState::next_time);
        let times = [in_progress, self.unfired.first().copied(), self.refinements.first(), sessions];
        times.into_iter().flatten().min().map(|time| time.saturating_add(self.settings.windowing.delay()))
    }

    /// The time of its results in the dataflow.
    pub fn output_time(&self, due: Due) -> EventTime {
        due.time().saturating_add(self.settings.windowing.delay())
    }

    /// Appends up to `limit` results of what is due. Returns whether that was all of it.
    pub fn fire(&mut self, due: Due, fired_at: EventTime, limit: usize, results: &mut Vec<ResultRow>) -> bool {
        let mut progress = match self.firing.take() {
            Some(progress) => progress,
            None => self.begin(due, fired_at),
        };
        debug_assert_eq!(progress.due, due, "what is due is fired to its end before the next");
        let enough = results.len().saturating_add(limit);
        while results.len() < enough {
            if let Some(row) = progress.made.pop() {
                results.push(row);
            } else if let Some(work) = progress.work.pop() {
                self.do_work(work, progress.firing, fired_at, &mut progress.made);
            } else {
                break;
            }
        }
        let done = progress.work.is_empty() && progress.made.is_empty();
        match done {
            true => self.finish(due),
            false => self.firing = Some(progress),
        }
        done
    }

    fn do_work(&mut self, work: Work, firing: Firing, fired_at: EventTime, made: &mut Vec<ResultRow>) {
        let closed_before = self.closed_before();
        let Self {
            keys, entries, stores, names, fields, fields_by_name, counts, sliding, slices, settings, panes, ..
        } = self;
        let mut tables = Tables { keys, entries, stores };
        let takes_accumulators = settings.takes_accumulators;
        let window_name = settings.name.as_ref();
        let mut maker = ResultMaker { window_name, names, fields, fields_by_name, counts, takes_accumulators };
        let label = |window, key, revision| Label {
            window,
            key,
            revision,
            op: ResultOp::Upsert,
            firing,
            fired_at,
            complete: None,
        };
        // What triggers have purged and nothing came to after.
        let has_panes = panes.is_some();
        match work {
            Work::Entry { id, .. } | Work::Session { id, .. } if has_panes && tables.is_empty(id) => {}
            Work::Entry { window, key, id, purges } => {
                let revision = tables.next_revision(id);
                made.push(maker.make(label(window, key, revision), id, &mut tables));
                if purges {
                    tables.clear(id);
                }
            }
            Work::Session { window, key, id, revision, purges } => {
                made.push(maker.make(label(window, key, revision), id, &mut tables));
                if purges {
                    tables.clear(id);
                }
            }
            Work::Combined { window, key } => {
                let sliding = sliding.as_mut().expect("only windows of several slices are combined");
                let revision = sliding.revisions.next(window.end, key);
                let id = sliding.combined(key, &mut tables);
                made.push(maker.make(label(window, key, revision), id, &mut tables));
            }
            Work::Again { key, mut ends } => {
                ends.retain(|end| *end > closed_before);
                let sliding = sliding.as_mut().expect("only windows of several slices are combined");
                sliding.again(key, &ends, slices, &mut tables, |window, id, revision, tables| {
                    made.push(maker.make(label(window, key, revision), id, tables));
                });
                made.reverse();
            }
        }
    }

    fn begin(&mut self, due: Due, fired_at: EventTime) -> InProgress {
        let mut made = Vec::new();
        let (firing, work) = match due {
            Due::Window { end } if self.sessions.is_some() => {
                let (retracted, work) = self.begin_sessions(end, fired_at);
                made = retracted;
                (Firing::OnTime, work)
            }
            Due::Window { end } => (Firing::OnTime, self.begin_window(end)),
            Due::Refinements { watermark } if self.sessions.is_some() => {
                let (retracted, work) = self.refine_sessions(watermark, fired_at);
                made = retracted;
                (Firing::Late, work)
            }
            Due::Refinements { watermark } if self.sliding.is_some() => (Firing::Late, self.refine_several(watermark)),
            Due::Refinements { watermark } => (Firing::Late, self.refine(watermark)),
        };
        InProgress { due, firing, work, made }
    }

    fn begin_window(&mut self, end: EventTime) -> Vec<Work> {
        self.unfired.remove(&end);
        let is_closed = end <= self.closed_before();
        let Self { keys, entries, stores, sliding, slices, fired_entries, .. } = self;
        if let Some(sliding) = sliding {
            let window = sliding.window(end);
            let keys = sliding.begin(end, slices, &mut Tables { keys, entries, stores });
            keys.iter().for_each(|key| {
                self.close_pane(window, *key);
            });
            return keys.into_iter().filter(|_| !is_closed).map(|key| Work::Combined { window, key }).collect();
        }
        let slice = slices.get_mut(&end).expect("a window that is due is there");
        slice.fired = true;
        *fired_entries += slice.entries.len();
        let window = slice.window;
        let entries: Vec<_> = slice.entries.iter().collect();
        let work = |(key, id)| Work::Entry { window, key, id, purges: self.close_pane(window, key) };
        let work: Vec<Work> = entries.into_iter().map(work).collect();
        if is_closed { Vec::new() } else { work }
    }

    /// After the last result of what was due.
    fn finish(&mut self, due: Due) {
        let Self { keys, entries, stores, sliding, slices, unfired, fired_entries, .. } = self;
        let (Due::Window { end }, Some(sliding)) = (due, sliding) else { return };
        for through in sliding.finish(end, slices, &mut Tables { keys, entries, stores }) {
            let slice = slices.get_mut(&through).expect("what is through was found among the slices");
            if !slice.fired {
                slice.fired = true;
                *fired_entries += slice.entries.len();
            }
        }
        if sliding.goes_on(end, slices) {
            unfired.extend(sliding.after(end));
        }
    }

    /// Adds the late rows of a watermark to their windows, where each slice is a window. Returns what changed, each once.
    fn refine(&mut self, watermark: EventTime) -> Vec<Work> {
        let mut changed = Vec::new();
        let closed_before = self.closed_before();
        for late in self.take_refinements(watermark) {
            let window = self.settings.windowing.slice(late.time);
            let Self { keys, entries, stores, slices, fired_entries, .. } = self;
            // No slice: no key had an event in this window before it ended.
            let slice = slices.entry(window.end).or_insert_with(|| Slice::new(window, true, true));
            debug_assert!(slice.fired, "a window fires before its refinements");
            let key = late.key;
            let id = slice.entries.get(key).unwrap_or_else(|| {
                *fired_entries += 1;
                add_entry(slice, key, keys, entries, stores)
            });
            Tables { keys, entries, stores }.add_waiting(id, late);
            changed.push((window, key, id));
        }
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|(window, ..)| window.end > closed_before);
        changed.into_iter().map(|(window, key, id)| Work::Entry { window, key, id, purges: false }).collect()
    }

    /// Adds the late rows of a watermark to their slices. Returns the windows around these that had fired, by key; the others see the
    /// rows when they fire.
    fn refine_several(&mut self, watermark: EventTime) -> Vec<Work> {
        let kept_from = watermark.saturating_sub(self.settings.windowing.kept_after_firing());
        let mut changed: BTreeMap<KeySlot, Vec<EventTime>> = BTreeMap::new();
        for late in self.take_refinements(watermark) {
            let slice = self.settings.windowing.slice(late.time);
            let ends = changed.entry(late.key).or_default();
            let slicing = self.settings.windowing.slicing().expect("windows of several slices have slices");
            let all = slicing.ends(slice).expect("a row that waits is in a window");
            let windows = self.sliding.as_ref().expect("only these are refined here");
            let mut end = Some(all.first);
            while let Some(fired) = end.filter(|end| *end <= watermark.min(all.last)) {
                // Others are gone: the row came from a partition that was left behind while it was idle.
                if fired > kept_from {
                    ends.push(fired);
                }
                end = windows.after(fired);
            }
            self.unfired.extend(end.filter(|end| *end <= all.last));
            while let (Some(open), Some(panes)) = (end.filter(|end| *end <= all.last), &mut self.panes) {
                panes.note(PaneId::Window(open, late.key), late.key, late.time, &self.keys);
                end = windows.after(open);
            }
            self.add_late(slice, all.last <= watermark, late);
        }
        let next = self.unfired.first().copied();
        let Self { keys, entries, stores, sliding, slices, .. } = self;
        let mut tables = Tables { keys, entries, stores };
        let sliding = sliding.as_mut().expect("only these are refined here");
        changed.keys().for_each(|key| sliding.renew(*key, next, slices, &mut tables));
        let again = changed.into_iter().map(|(key, mut ends)| {
            ends.sort_unstable();
            ends.dedup();
            Work::Again { key, ends }
        });
        again.collect()
    }

    /// Adds a late row to its slice; `is_through`: the slice's last window has fired.
    fn add_late(&mut self, window: TimeWindow, is_through: bool, late: super::refinement::Refinement) {
        let Self { keys, entries, stores, slices, fired_entries, .. } = self;
        let slice = slices.entry(window.end).or_insert_with(|| Slice::new(window, true, is_through));
        let id = slice.entries.get(late.key).unwrap_or_else(|| {
            *fired_entries += usize::from(slice.fired);
            add_entry(slice, late.key, keys, entries, stores)
        });
        Tables { keys, entries, stores }.add_waiting(id, late);
    }

    /// Forgets the windows that can no longer change, once nothing is due.
    pub fn purge(&mut self, frontier: EventTime) {
        debug_assert!(self.next_due(frontier).is_none(), "what is due is fired before anything is forgotten");
        let frontier = self.shifted(frontier);
        let kept = self.settings.windowing.kept_after_firing();
        let until = if frontier == EventTime::MAX { frontier } else { frontier.saturating_sub(kept) };
        self.purged_until = self.purged_until.max(until);
        self.purge_sessions(until);
        let Self { keys, entries, stores, sliding, slices, settings, fired_entries, .. } = self;
        // Before their slices, whose entries hold the keys.
        if let Some(sliding) = sliding {
            sliding.purge(until, keys, entries.tracking.as_deref_mut());
        }
        let mut tables = Tables { keys, entries, stores };
        while let Some(entry) = slices.first_entry() {
            let slicing = settings.windowing.slicing().expect("there are slices");
            let window = entry.get().window;
            let last_end = slicing.ends(window).map_or(window.end, |ends| ends.last);
            if last_end.saturating_add(kept) > frontier {
                break;
            }
            let slice = entry.remove();
            *fired_entries -= if slice.fired { slice.entries.len() } else { 0 };
            slice.entries.iter().for_each(|(key, id)| tables.remove(key, id));
        }
    }

    /// Entries that are held: windows of one slice and sessions counted per key; of windows of several slices, their slices.
    pub fn open_windows(&self) -> usize {
        self.entries.len()
    }

    /// Those of windows that have not fired.
    pub fn unfired_windows(&self) -> usize {
        let fired_sessions = self.sessions.as_ref().map_or(0, |sessions| sessions.table.fired());
        self.entries.len() - self.fired_entries - fired_sessions
    }
}

pub(super) fn earlier(window: Option<EventTime>, refinements: Option<EventTime>) -> Option<Due> {
    match (window, refinements) {
        (Some(end), Some(watermark)) if watermark < end => Some(Due::Refinements { watermark }),
        (Some(end), _) => Some(Due::Window { end }),
        (None, Some(watermark)) => Some(Due::Refinements { watermark }),
        (None, None) => None,
    }
}
