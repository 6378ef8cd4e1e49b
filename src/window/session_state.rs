//! The part of [`WindowState`] that is about sessions: rows in, firing, late rows, and what must be read again after a restart.
//!
//! Offsets. From a row alone nobody knows when its session ends, so whoever commits offsets must be told what sessions need: the
//! first event of any session that is held, or was dropped while its results may not have been written. A session that has ended
//! and been written is gone for the next run, whatever of its rows is read again: its end is at or before `closed_before`, that
//! of every part of it too, and what ends there is not emitted. A session that was open is read again whole.

use super::keys::KeySlot;
use super::panes::PaneId;
use super::record::WaitingKind;
use super::refinement::{Refinement, RefinementStash};
use super::results::{Label, ResultMaker};
use super::sessions::{Placement, SessionTable};
use super::state::{Due, WindowState, Work};
use super::tables::Tables;
use crate::aggregate::AccumulatorId;
use crate::event::RowBatch;
use crate::sink::{Firing, ResultOp, ResultRow, TimeWindow};
use crate::time::EventTime;
use std::collections::BTreeSet;

/// The sessions of one worker, and rows that are not in them yet.
pub(super) struct SessionState {
    pub(super) table: SessionTable,
    /// Rows on time, by their times, where there is a maximum length.
    pub(super) waiting: RefinementStash,
    /// Sessions that were dropped and may not be written: end and first event.
    unwritten: BTreeSet<(EventTime, EventTime)>,
    /// The same by their first events.
    unwritten_firsts: BTreeSet<(EventTime, EventTime)>,
    merges: Vec<(KeySlot, AccumulatorId, AccumulatorId)>,
}

impl SessionState {
    pub(super) fn new(table: SessionTable) -> Self {
        Self {
            table,
            waiting: RefinementStash::new(WaitingKind::OnTime),
            unwritten: BTreeSet::new(),
            unwritten_firsts: BTreeSet::new(),
            merges: Vec::new(),
        }
    }

    /// The earliest time at which something may happen.
    pub(super) fn next_time(&self) -> Option<EventTime> {
        self.table.next_check().into_iter().chain(self.waiting.first()).min()
    }

    /// The earliest event that is not done with.
    fn first_needed(&self) -> Option<EventTime> {
        let unwritten = self.unwritten_firsts.first().map(|(first, _)| *first);
        [self.table.first_event(), self.waiting.first(), unwritten].into_iter().flatten().min()
    }

    /// Lets go of sessions that ended before this time.
    fn written(&mut self, until: EventTime) {
        while let Some((end, first)) = self.unwritten.first().copied().filter(|(end, _)| *end < until) {
            self.unwritten.pop_first();
            self.unwritten_firsts.remove(&(first, end));
        }
    }
}

impl WindowState {
    /// Puts the rows that are not in `skip` into their sessions.
    pub(super) fn apply_to_sessions(
        &mut self,
        batch: &RowBatch,
        skip: &[u32],
        new_output_time: &mut impl FnMut(EventTime),
    ) {
        let before = self.sessions.as_ref().and_then(SessionState::next_time);
        match self.settings.windowing.sessions().is_some_and(|rule| rule.max_length().is_some()) {
            true => self.let_wait(batch, skip),
            false if self.panes.is_some() => self.apply_to_session_panes(batch, skip),
            false => {
                self.find_sessions(batch, skip);
                self.add_values(batch, skip);
                self.merge_sessions();
            }
        }
        let after = self.sessions.as_ref().and_then(SessionState::next_time);
        if let Some(time) = after.filter(|time| before.is_none_or(|before| *time < before)) {
            new_output_time(time);
        }
    }

    /// Finds or opens the session of each row.
    fn find_sessions(&mut self, batch: &RowBatch, skip: &[u32]) {
        let Self { ids, senders, sessions, keys, entries, stores, .. } = self;
        let sessions = sessions.as_mut().expect("these are windows of sessions");
        let mut tables = Tables { keys, entries, stores };
        ids.clear();
        ids.reserve(batch.len());
        let dictionary = senders[&batch.sender].dictionary.keys();
        let mut skip = skip.iter().map(|row| *row as usize).peekable();
        for (row, (time, key)) in batch.times.iter().zip(&batch.keys).enumerate() {
            if skip.next_if_eq(&row).is_some() {
                continue;
            }
            let key = dictionary[*key as usize];
            let merges = &mut sessions.merges;
            let merged = |into, from| merges.push((key, into, from));
            ids.push(sessions.table.take(key, EventTime::from_millis(*time), &mut tables, merged));
        }
    }

    /// Makes one of sessions that have become one, once all values are in.
    fn merge_sessions(&mut self) {
        let Self { sessions, panes, keys, entries, stores, .. } = self;
        let mut tables = Tables { keys, entries, stores };
        for (key, into, from) in sessions.iter_mut().flat_map(|sessions| sessions.merges.drain(..)) {
            tables.merge(into, from);
            tables.remove(key, from);
            if let Some(panes) = panes {
                panes.merge(into, from, tables.keys);
            }
        }
    }

    /// Puts rows aside until the frontier has passed them.
    fn let_wait(&mut self, batch: &RowBatch, skip: &[u32]) {
        let mut skip = skip.iter().map(|row| *row as usize).peekable();
        for row in 0..batch.len() {
            if skip.next_if_eq(&row).is_some() {
                continue;
            }
            let waiting = self.waiting_row(batch, row);
            self.keys.retain(waiting.key);
            let sessions = self.sessions.as_mut().expect("these are windows of sessions");
            sessions.waiting.push(waiting.time, waiting);
        }
    }

    /// What is due next. Rows that have waited for the frontier take effect before what is due after them.
    pub(super) fn next_due_of_sessions(&mut self, frontier: EventTime) -> Option<Due> {
        loop {
            let refinements = self.refinements.due(frontier);
            let sessions = self.sessions.as_mut()?;
            let due = super::firing::earlier(sessions.table.next_end(frontier), refinements);
            if !self.let_in(due.map_or(frontier, Due::time)) {
                return due;
            }
        }
    }

    /// Lets rows into their sessions that have waited and are before this time, in the order of time. Returns whether there were any.
    fn let_in(&mut self, until: EventTime) -> bool {
        let mut any = false;
        loop {
            let first = self.sessions.as_ref().and_then(|sessions| sessions.waiting.due(until));
            let Some(first) = first else { return any };
            any = true;
            self.take_waiting(first).into_iter().for_each(|row| self.put_into_session(row));
        }
    }

    /// Puts one row into its session, and lets go of its key.
    pub(super) fn put_into_session(&mut self, row: Refinement) {
        let Self { sessions, keys, entries, stores, .. } = self;
        let sessions = sessions.as_mut().expect("these are windows of sessions");
        let mut tables = Tables { keys, entries, stores };
        let merges = &mut sessions.merges;
        let (key, time) = (row.key, row.time);
        let id = sessions.table.take(key, time, &mut tables, |into, from| merges.push((key, into, from)));
        tables.add_waiting(id, row);
        self.merge_sessions();
        self.note(PaneId::Session(id), key, time);
    }

    /// Fires the sessions that end here. Returns the early results that are taken back, and what is emitted.
    pub(super) fn begin_sessions(&mut self, end: EventTime, fired_at: EventTime) -> (Vec<ResultRow>, Vec<Work>) {
        let is_closed = end <= self.closed_before();
        let sessions = self.sessions.as_mut().expect("these are windows of sessions");
        let ended = sessions.table.fire_all(end);
        let (mut retracted, mut work) = (Vec::new(), Vec::new());
        for (window, key, id) in ended {
            self.touch(id);
            let (revision, gone, purges) = self.close_session(window, key, id, Firing::OnTime, fired_at);
            if !is_closed {
                retracted.extend(gone);
                work.push(Work::Session { window, key, id, revision, purges });
            }
        }
        self.counts.retracted += retracted.len() as u64;
        (retracted, work)
    }

    /// Lets go of the pane of a session that fires for these bounds. Returns the revision of its result, the early results that are
    /// taken back by it, and whether it is to be purged.
    fn close_session(
        &mut self,
        window: TimeWindow,
        key: KeySlot,
        id: AccumulatorId,
        firing: Firing,
        fired_at: EventTime,
    ) -> (u32, Vec<ResultRow>, bool) {
        let Some(panes) = &mut self.panes else { return (0, Vec::new(), false) };
        let Some(pane) = panes.remove(PaneId::Session(id), &self.keys) else { return (0, Vec::new(), false) };
        let (revision, gone) = pane.replaced(window, firing, fired_at);
        let purges = firing == Firing::OnTime && panes.should_purge(&pane, window, self.keys.get(key));
        if let Some(sessions) = self.sessions.as_mut().filter(|_| revision > 0) {
            sessions.table.fire(key, id, revision);
        }
        (revision, gone, purges)
    }

    /// Lets the late rows of a watermark into their sessions. Returns what is taken back, and what is emitted at once.
    pub(super) fn refine_sessions(&mut self, watermark: EventTime, fired_at: EventTime) -> (Vec<ResultRow>, Vec<Work>) {
        let mut rows = self.take_refinements(watermark);
        rows.sort_by_key(|row| (row.key, row.time));
        let (mut retracted, mut work) = (Vec::new(), Vec::new());
        let mut rows = rows.into_iter().peekable();
        while let Some(key) = rows.peek().map(|row| row.key) {
            let mut changed = Changed { key, fired_at, taken_back: Vec::new(), touched: Vec::new() };
            while let Some(row) = rows.next_if(|row| row.key == key) {
                self.let_in_late(row, &mut changed);
            }
            self.settle_changes(changed, watermark, &mut retracted, &mut work);
        }
        self.counts.retracted += retracted.len() as u64;
        (retracted, work)
    }

    fn let_in_late(&mut self, row: Refinement, changed: &mut Changed) {
        let Self { sessions, keys, entries, stores, names, fields, fields_by_name, counts, settings, panes, .. } = self;
        let table = &mut sessions.as_mut().expect("these are windows of sessions").table;
        let mut tables = Tables { keys, entries, stores };
        let takes_accumulators = settings.takes_accumulators;
        let window_name = settings.name.as_ref();
        let mut maker = ResultMaker { window_name, names, fields, fields_by_name, counts, takes_accumulators };
        let (key, fired_at) = (row.key, changed.fired_at);
        let placement = table.rule.place(table.of(key), row.time);
        let involved = match placement {
            Placement::Opens(_) => 0..0,
            Placement::Joins(place) => place..place + 1,
            Placement::Merges(place) => place..place + 2,
        };
        for place in involved {
            let session = table.of(key)[place];
            if let Some(revision) = session.fired {
                let window = table.rule.window(&session);
                let label = Label {
                    window,
                    key,
                    revision,
                    op: ResultOp::Retract,
                    firing: Firing::Late,
                    fired_at,
                    complete: None,
                };
                changed.taken_back.push((window, revision, maker.make(label, session.id, &mut tables)));
                table.unfire(key, session.id);
            }
        }
        let (id, absorbed) = table.put(key, row.time, placement, &mut tables);
        if let Some(absorbed) = absorbed {
            tables.merge(id, absorbed);
            tables.remove(key, absorbed);
            if let Some(panes) = panes {
                panes.merge(id, absorbed, tables.keys);
            }
            changed.touched.retain(|touched| *touched != absorbed);
        }
        if !changed.touched.contains(&id) {
            changed.touched.push(id);
        }
        if let Some(panes) = panes {
            panes.note(PaneId::Session(id), key, row.time, tables.keys);
        }
        tables.add_waiting(id, row);
    }

    /// Decides what becomes of the sessions that late rows have changed.
    fn settle_changes(
        &mut self,
        mut changed: Changed,
        watermark: EventTime,
        retracted: &mut Vec<ResultRow>,
        work: &mut Vec<Work>,
    ) {
        let closed_before = self.closed_before();
        let key = changed.key;
        for id in changed.touched {
            let table = &mut self.sessions.as_mut().expect("these are windows of sessions").table;
            let session = table.of(key).iter().find(|session| session.id == id);
            let window = table.rule.window(session.expect("a session that was touched is there"));
            if window.end > watermark {
                table.register(key, id);
                continue;
            }
            let same = changed.taken_back.iter().position(|(before, ..)| *before == window);
            let revision = same.map_or(0, |place| changed.taken_back.swap_remove(place).1 + 1);
            table.fire(key, id, revision);
            let (after_early, gone, _) = self.close_session(window, key, id, Firing::Late, changed.fired_at);
            if window.end > closed_before {
                let revision = revision.max(after_early);
                work.push(Work::Session { window, key, id, revision, purges: false });
                retracted.extend(gone);
            }
        }
        let gone = changed.taken_back.into_iter().filter(|(window, ..)| window.end > closed_before);
        retracted.extend(gone.map(|(_, _, row)| row));
    }

    /// Drops the sessions that have fired and ended by this time.
    pub(super) fn purge_sessions(&mut self, until: EventTime) {
        let Self { sessions, keys, entries, stores, .. } = self;
        let Some(SessionState { table, unwritten, unwritten_firsts, .. }) = sessions else { return };
        table.purge(until, &mut Tables { keys, entries, stores }, |first, end| {
            unwritten.insert((end, first));
            unwritten_firsts.insert((first, end));
        });
    }

    /// Takes note of how far results are written: those of windows that end before it.
    pub fn note_written(&mut self, written: EventTime) {
        let until = match written {
            EventTime::MAX => EventTime::MAX,
            written => written.saturating_sub(self.settings.windowing.allowed_lateness()),
        };
        if let Some(sessions) = &mut self.sessions {
            sessions.written(until);
        }
    }

    /// Whether sessions wait for [`WindowState::note_written`].
    pub fn waits_for_written(&self) -> bool {
        self.sessions.as_ref().is_some_and(|sessions| !sessions.unwritten.is_empty())
    }

    /// Where the ends of windows cannot be known from their rows: the earliest time, plus the allowed lateness, of which rows are
    /// still needed. `None` where none are.
    pub fn needed_from(&self) -> Option<EventTime> {
        let sessions = self.sessions.as_ref()?;
        let windowing = &self.settings.windowing;
        let held = sessions.first_needed().map(|first| first.saturating_add(windowing.allowed_lateness()));
        // A late row is less than the allowed lateness behind the watermark for which it waits.
        let late = self.refinements.first().map(|watermark| watermark.saturating_add(windowing.delay()));
        held.into_iter().chain(late).min()
    }
}

/// What the late rows of one key and watermark do.
struct Changed {
    key: KeySlot,
    fired_at: EventTime,
    /// Results that stood before, as they stood.
    taken_back: Vec<(TimeWindow, u32, ResultRow)>,
    /// Sessions that have other rows than before.
    touched: Vec<AccumulatorId>,
}
