//! Sessions: per key an ordered set of intervals that events open, extend and join.
//!
//! The model: a session is `[first, last + gap)`; an event less than the gap away from it joins it, and one between two sessions
//! makes them one. On-time events take effect as they come: their time is at or after the frontier, and a session that has fired
//! ended before that, so they change only what has not fired. Late events wait until the frontier has passed the watermark they
//! were judged against, and take effect then, those of one watermark in the order of their times. Sessions that had fired and
//! change by it are taken back (the retraction carries the identity, revision and figures that it takes back), and what they
//! became is emitted at once where it has ended by that watermark, else when it ends. A session whose bounds stay the same keeps
//! its identity and has its next revision.
//!
//! Why the output is a function of the input. Let `w` be a watermark at which late events take effect. A session that ends by
//! `w` can neither hold nor touch an event at or after `w`. The events before `w` that have taken effect are: on-time ones, which
//! were judged against watermarks below `w` and have all come when the frontier has passed `w`; and late ones of watermarks
//! up to `w`. Both are sets that the partitions' contents decide. So the sessions that have ended by `w` are the same in every
//! run, before and after the late events, and these alone are emitted or taken back at `w`. On-time events at or after `w` may
//! have come already or not: they only change sessions that end after `w`, which emit later.
//!
//! With a maximum length the order of events decides where a long session is cut, so on-time events wait as well, until the
//! frontier has passed their times, and take effect in the order of time; see [`SessionRule::place`]. Jobs without a maximum do
//! not pay for that.
//!
//! A session's end moves with every event. What is registered to be looked at is its end at some earlier time: if the session has
//! grown since, it is registered again. So a session costs one registration in a gap's time, not one an event; and that is cheap,
//! as ends are registered in stretches of time without an order, and are put in order only when the frontier comes to the stretch.

use super::assigner::SessionWindowAssigner;
use super::keys::KeySlot;
use super::tables::Tables;
use crate::aggregate::AccumulatorId;
use crate::sink::TimeWindow;
use crate::time::{EventTime, Span};
use std::collections::{BTreeMap, BTreeSet};

/// How exactly ends are registered at first.
const STRETCHES_IN_A_GAP: i64 = 16;

/// A session of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub first: EventTime,
    pub last: EventTime,
    pub id: AccumulatorId,
    /// Where it is registered to be looked at: at its end of some earlier time, or at the beginning of the stretch of that. Never
    /// after its end.
    check: EventTime,
    /// The revision of its result, where it has fired.
    pub fired: Option<u32>,
}

/// What becomes of an event, by the places of sessions in the ordered list of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// It opens a session at this place.
    Opens(usize),
    /// It joins this one.
    Joins(usize),
    /// It makes one of this and the next one.
    Merges(usize),
}

/// The rule by which events find their sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionRule(pub SessionWindowAssigner);

impl SessionRule {
    /// A session's bounds.
    pub(super) fn window(&self, session: &Session) -> TimeWindow {
        TimeWindow { start: session.first, end: session.last.saturating_add(self.0.gap()) }
    }

    /// Where an event belongs among the sessions of its key, which are in the order of their first events.
    ///
    /// It joins the sessions on both sides if it touches both and they are not too long together; else the one that begins before
    /// it, if that does not become too long; else the one after it, likewise; else none. Without a maximum that is: all that it
    /// touches.
    pub(super) fn place(&self, sessions: &[Session], time: EventTime) -> Placement {
        let next = sessions.partition_point(|session| session.first <= time);
        let before = next.checked_sub(1).map(|place| &sessions[place]);
        let before = before.filter(|session| time < self.window(session).end && self.0.fits(session.first, time));
        let after = sessions.get(next);
        let after = after.filter(|session| session.first < self.0.assign(time).end && self.0.fits(time, session.last));
        match (before, after) {
            (Some(before), Some(after)) if self.0.fits(before.first, after.last) => Placement::Merges(next - 1),
            (Some(_), _) => Placement::Joins(next - 1),
            (None, Some(_)) => Placement::Joins(next),
            (None, None) => Placement::Opens(next),
        }
    }
}

/// A session to look at: when, whose, which.
type Registration = (EventTime, KeySlot, AccumulatorId);

/// The sessions of one worker.
pub(super) struct SessionTable {
    pub(super) rule: SessionRule,
    /// By key slot. A session holds its key.
    by_key: Vec<Vec<Session>>,
    /// What has not fired, by when to look: first by stretches of time, then, in the stretch to which the frontier has come, by
    /// ends. Entries of sessions that were merged stay until they are looked at.
    stretches: BTreeMap<EventTime, Vec<(KeySlot, AccumulatorId)>>,
    /// How long a stretch is.
    stretch: Span,
    checks: BTreeSet<Registration>,
    /// What has fired and is kept for late events, by its end. Entries of sessions that have changed stay likewise.
    kept: BTreeSet<Registration>,
    /// Sessions that have fired.
    fired: usize,
    /// The first events of all sessions that are held.
    firsts: BTreeSet<(EventTime, AccumulatorId)>,
}

impl SessionTable {
    pub(super) fn new(rule: SessionWindowAssigner) -> Self {
        Self {
            rule: SessionRule(rule),
            by_key: Vec::new(),
            stretches: BTreeMap::new(),
            stretch: Span::from_millis((rule.gap().as_millis() / STRETCHES_IN_A_GAP).max(1)),
            checks: BTreeSet::new(),
            kept: BTreeSet::new(),
            fired: 0,
            firsts: BTreeSet::new(),
        }
    }

    /// The sessions of a key, in the order of their first events.
    pub(super) fn of(&self, key: KeySlot) -> &[Session] {
        self.by_key.get(key.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The bounds of a session as they are now.
    pub(super) fn window(&self, key: KeySlot, id: AccumulatorId) -> Option<TimeWindow> {
        self.of(key).iter().find(|session| session.id == id).map(|session| self.rule.window(session))
    }

    fn session(&mut self, key: KeySlot, id: AccumulatorId) -> Option<&mut Session> {
        self.by_key.get_mut(key.0 as usize)?.iter_mut().find(|session| session.id == id)
    }

    /// Puts an event that is on time into its session. Where that merges two, `merged` is told: the second is to be added to the
    /// first once all values are in, and dropped.
    #[inline]
    pub(super) fn take(
        &mut self,
        key: KeySlot,
        time: EventTime,
        tables: &mut Tables<'_>,
        merged: impl FnOnce(AccumulatorId, AccumulatorId),
    ) -> AccumulatorId {
        // Most events are of the latest session of their key, and neither touch another nor begin it earlier.
        if let Some(latest) = self.by_key.get_mut(key.0 as usize).and_then(|sessions| sessions.last_mut())
            && latest.first <= time
            && time < self.rule.window(latest).end
            && self.rule.0.fits(latest.first, time)
        {
            debug_assert!(latest.fired.is_none(), "what is on time is after all that has fired");
            latest.last = latest.last.max(time);
            return latest.id;
        }
        let placement = self.rule.place(self.of(key), time);
        let (id, absorbed) = self.put(key, time, placement, tables);
        if let Some(absorbed) = absorbed {
            merged(id, absorbed);
        }
        id
    }

    /// Puts an event where it belongs. Returns its session, and the one that is part of it from now on.
    pub(super) fn put(
        &mut self,
        key: KeySlot,
        time: EventTime,
        placement: Placement,
        tables: &mut Tables<'_>,
    ) -> (AccumulatorId, Option<AccumulatorId>) {
        let slot = key.0 as usize;
        if slot >= self.by_key.len() {
            self.by_key.resize_with(slot + 1, Vec::new);
        }
        let sessions = &mut self.by_key[slot];
        match placement {
            Placement::Opens(place) => {
                let id = tables.create(key);
                let check = self.rule.0.assign(time).end;
                sessions.insert(place, Session { first: time, last: time, id, check, fired: None });
                self.register(key, id);
                self.firsts.insert((time, id));
                (id, None)
            }
            Placement::Joins(place) => {
                let session = &mut sessions[place];
                session.last = session.last.max(time);
                if time < session.first {
                    self.firsts.remove(&(session.first, session.id));
                    self.firsts.insert((time, session.id));
                    session.first = time;
                }
                (session.id, None)
            }
            Placement::Merges(place) => {
                let absorbed = sessions.remove(place + 1);
                self.fired -= usize::from(absorbed.fired.is_some());
                let session = &mut sessions[place];
                session.last = absorbed.last;
                self.firsts.remove(&(absorbed.first, absorbed.id));
                (session.id, Some(absorbed.id))
            }
        }
    }

    /// Adds a session that an earlier run had. `None` if it cannot be beside those that are there.
    pub(super) fn restore(
        &mut self,
        key: KeySlot,
        window: TimeWindow,
        last: EventTime,
        fired: Option<u32>,
        tables: &mut Tables<'_>,
    ) -> Option<AccumulatorId> {
        let slot = key.0 as usize;
        if slot >= self.by_key.len() {
            self.by_key.resize_with(slot + 1, Vec::new);
        }
        let sessions = &mut self.by_key[slot];
        let first = window.start;
        let place = sessions.partition_point(|session| session.first <= first);
        let is_after = place.checked_sub(1).is_none_or(|before| sessions[before].last < first);
        let is_before = sessions.get(place).is_none_or(|after| last < after.first);
        let mut session = Session { first, last, id: AccumulatorId::from_index(0), check: window.end, fired: None };
        if !is_after || !is_before || self.rule.window(&session) != window || !self.rule.0.fits(first, last) {
            return None;
        }
        let id = tables.create(key);
        session.id = id;
        sessions.insert(place, session);
        self.firsts.insert((first, id));
        match fired {
            Some(revision) => self.fire(key, id, revision),
            None => self.register(key, id),
        }
        Some(id)
    }

    /// Marks a session as not fired, because it has changed.
    pub(super) fn unfire(&mut self, key: KeySlot, id: AccumulatorId) {
        if self.session(key, id).is_some_and(|session| session.fired.take().is_some()) {
            self.fired -= 1;
        }
    }

    /// Marks a session as fired with this revision.
    pub(super) fn fire(&mut self, key: KeySlot, id: AccumulatorId, revision: u32) {
        let rule = self.rule;
        let Some(session) = self.session(key, id) else { return };
        let was_fired = session.fired.replace(revision).is_some();
        let end = rule.window(session).end;
        self.kept.insert((end, key, id));
        self.fired += usize::from(!was_fired);
    }

    /// Sees to it that a session which has not fired is looked at when it ends.
    pub(super) fn register(&mut self, key: KeySlot, id: AccumulatorId) {
        self.register_after(key, id, EventTime::MIN);
    }

    /// The same; what ends in a stretch that has begun by `until` is put in order at once.
    fn register_after(&mut self, key: KeySlot, id: AccumulatorId, until: EventTime) {
        let (rule, stretch) = (self.rule, self.stretch.as_millis());
        let Some(session) = self.session(key, id) else { return };
        let end = rule.window(session).end;
        let begin = end.saturating_sub(Span::from_millis(end.as_millis().rem_euclid(stretch)));
        if begin <= until {
            session.check = end;
            self.checks.insert((end, key, id));
        } else {
            session.check = begin;
            self.stretches.entry(begin).or_default().push((key, id));
        }
    }

    /// Puts in order what is registered in stretches that have begun by `until`.
    fn order_stretches(&mut self, until: EventTime) {
        while let Some(stretch) = self.stretches.first_entry().filter(|stretch| *stretch.key() <= until) {
            let (begin, registered) = stretch.remove_entry();
            for (key, id) in registered {
                let open =
                    self.session(key, id).is_some_and(|session| session.fired.is_none() && session.check == begin);
                if open {
                    self.register_after(key, id, until);
                }
            }
        }
    }

    /// The end of the session that ends first, if that is no later than `until`.
    pub(super) fn next_end(&mut self, until: EventTime) -> Option<EventTime> {
        self.order_stretches(until);
        while let Some((check, key, id)) = self.checks.first().copied().filter(|(check, ..)| *check <= until) {
            let rule = self.rule;
            let ended = self.session(key, id).filter(|session| session.fired.is_none() && session.check == check);
            match ended.map(|session| rule.window(session).end) {
                Some(end) if end == check => return Some(end),
                Some(_) => {
                    self.checks.pop_first();
                    self.register_after(key, id, until);
                }
                None => {
                    self.checks.pop_first();
                }
            }
        }
        None
    }

    /// The sessions that end here, which have not fired; from now on they have.
    pub(super) fn fire_all(&mut self, end: EventTime) -> Vec<(TimeWindow, KeySlot, AccumulatorId)> {
        let mut ended = Vec::new();
        while self.next_end(end) == Some(end) {
            let Some((_, key, id)) = self.checks.pop_first() else { break };
            let rule = self.rule;
            let Some(session) = self.session(key, id) else { break };
            ended.push((rule.window(session), key, id));
            self.fire(key, id, 0);
        }
        ended
    }

    /// Drops what has fired and ended by this time; `dropped` is told the first event and the end of each.
    pub(super) fn purge(
        &mut self,
        until: EventTime,
        tables: &mut Tables<'_>,
        mut dropped: impl FnMut(EventTime, EventTime),
    ) {
        while let Some((end, key, id)) = self.kept.first().copied().filter(|(end, ..)| *end <= until) {
            self.kept.pop_first();
            let (rule, Some(sessions)) = (self.rule, self.by_key.get_mut(key.0 as usize)) else { continue };
            let is_it =
                |session: &Session| session.id == id && session.fired.is_some() && rule.window(session).end == end;
            if let Some(place) = sessions.iter().position(is_it) {
                let session = sessions.remove(place);
                self.fired -= 1;
                self.firsts.remove(&(session.first, session.id));
                tables.remove(key, id);
                dropped(session.first, end);
            }
        }
    }

    /// When to look next.
    pub(super) fn next_check(&self) -> Option<EventTime> {
        let stretch = self.stretches.first_key_value().map(|(begin, _)| *begin);
        self.checks.first().map(|(check, ..)| *check).into_iter().chain(stretch).min()
    }

    /// The earliest event of all sessions that are held.
    pub(super) fn first_event(&self) -> Option<EventTime> {
        self.firsts.first().map(|(first, _)| *first)
    }

    /// How many sessions have fired and are kept.
    pub(super) fn fired(&self) -> usize {
        self.fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn session(first: i64, last: i64) -> Session {
        let id = AccumulatorId::from_index(0);
        Session { first: at(first), last: at(last), id, check: at(last), fired: None }
    }

    fn place(max: Option<i64>, sessions: &[(i64, i64)], time: i64) -> Placement {
        let rule = SessionWindowAssigner::of_spans(Span::from_millis(10), max.map(Span::from_millis));
        let sessions: Vec<Session> = sessions.iter().map(|(first, last)| session(*first, *last)).collect();
        SessionRule(rule).place(&sessions, at(time))
    }

    #[test]
    fn an_event_joins_what_is_less_than_the_gap_away() {
        assert_eq!(place(None, &[], 5), Placement::Opens(0));
        assert_eq!(place(None, &[(0, 5)], 14), Placement::Joins(0));
        assert_eq!(place(None, &[(0, 5)], 15), Placement::Opens(1));
        assert_eq!(place(None, &[(20, 25)], 11), Placement::Joins(0));
        assert_eq!(place(None, &[(20, 25)], 10), Placement::Opens(0));
        assert_eq!(place(None, &[(0, 5), (20, 25)], 12), Placement::Merges(0));
        assert_eq!(place(None, &[(0, 5), (20, 25)], 15), Placement::Joins(1));
        assert_eq!(place(None, &[(-9, -5), (0, 5), (20, 25)], 3), Placement::Joins(1));
    }

    #[test]
    fn a_maximum_keeps_sessions_apart() {
        let two: &[(i64, i64)] = &[(0, 5), (20, 25)];
        assert_eq!(place(Some(26), two, 12), Placement::Merges(0));
        assert_eq!(place(Some(25), two, 12), Placement::Joins(0));
        assert_eq!(place(Some(13), two, 13), Placement::Joins(1));
        assert_eq!(place(Some(13), &[(0, 12)], 13), Placement::Opens(1));
        assert_eq!(place(Some(6), two, 12), Placement::Opens(1));
    }
    /// Tables as the operator has them.
    #[derive(Default)]
    struct Owned {
        keys: crate::window::keys::KeyTable,
        entries: crate::window::entries::EntryTable,
    }

    impl Owned {
        fn tables(&mut self) -> Tables<'_> {
            Tables { keys: &mut self.keys, entries: &mut self.entries, stores: &mut [] }
        }
    }

    /// Something that happens to the sessions of two keys.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Event {
            key: usize,
            time: i64,
        },
        /// Fires what has ended by then, and forgets what has fired and ended so much earlier.
        Advance {
            by: i64,
        },
    }

    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
        use proptest::prelude::*;
        let event = (0usize..2, 0i64..120).prop_map(|(key, behind)| Step::Event { key, time: behind });
        proptest::collection::vec(prop_oneof![4 => event, 1 => (1i64..40).prop_map(|by| Step::Advance { by })], 1..120)
    }

    const GAP: i64 = 10;
    const KEPT: i64 = 60;

    /// The same by sorting all times that a key ever had: the intervals between its silences.
    fn intervals(times: &[i64]) -> Vec<(i64, i64)> {
        let mut times = times.to_vec();
        times.sort_unstable();
        let mut found: Vec<(i64, i64)> = Vec::new();
        for time in times {
            match found.last_mut() {
                Some((_, last)) if time < *last + GAP => *last = time,
                _ => found.push((time, time)),
            }
        }
        found
    }

    proptest::proptest! {
        /// Events at random, also before what has fired; what has fired and changes is marked as not fired. A sorted list of
        /// times is the model.
        #[test]
        fn sessions_are_the_intervals_of_their_events(steps in steps()) {
            let rule = SessionWindowAssigner::of_spans(Span::from_millis(GAP), None);
            let (mut table, mut owned) = (SessionTable::new(rule), Owned::default());
            let keys = ["a", "b"].map(|name| owned.keys.intern(crate::event::GroupingKey::from_fields(&[("k", name)])));
            let mut times = [Vec::new(), Vec::new()];
            let mut frontier = 0;
            for step in steps {
                match step {
                    Step::Event { key, time } => {
                        // No further behind than what is kept reaches.
                        let time = frontier - KEPT + time;
                        times[key].push(time);
                        let placement = table.rule.place(table.of(keys[key]), at(time));
                        let (id, absorbed) = table.put(keys[key], at(time), placement, &mut owned.tables());
                        if let Some(absorbed) = absorbed {
                            owned.tables().remove(keys[key], absorbed);
                        }
                        table.unfire(keys[key], id);
                        table.register(keys[key], id);
                    }
                    Step::Advance { by } => {
                        frontier += by;
                        let mut before = EventTime::MIN;
                        while let Some(end) = table.next_end(at(frontier)) {
                            proptest::prop_assert!(end >= before && !table.fire_all(end).is_empty());
                            before = end;
                        }
                        table.purge(at(frontier - KEPT), &mut owned.tables(), |_, _| {});
                    }
                }
                let mut held = 0;
                for (key, times) in keys.iter().zip(&times) {
                    // What has been forgotten ended before all that is still there.
                    let all = intervals(times);
                    let found: Vec<(i64, i64)> =
                        table.of(*key).iter().map(|session| (session.first.as_millis(), session.last.as_millis())).collect();
                    proptest::prop_assert_eq!(&all[all.len() - found.len()..], &found[..]);
                    let forgotten = &all[..all.len() - found.len()];
                    proptest::prop_assert!(forgotten.iter().all(|(_, last)| last + GAP <= frontier - KEPT));
                    held += found.len();
                    let first = found.first().map(|(first, _)| at(*first));
                    proptest::prop_assert!(first.is_none_or(|first| table.first_event() <= Some(first)));
                }
                proptest::prop_assert_eq!(held, owned.entries.len());
                proptest::prop_assert!(table.fired() <= held);
            }
        }
    }
}
