//! Sessions of one key, by sorting and by trying.
//!
//! On-time events form sessions by their times alone. Late ones join at the watermark they were judged against, all of one
//! watermark together: before that, the sessions that end by then have fired; after it, what was fired and is no session any more is
//! taken back, and what is a session that has ended is fired.

use super::{Accepted, Contents, KeyResults, Op, Policy, contents};
use std::collections::BTreeMap;

type Bounds = (i64, i64);
/// Events by their places in the list of all.
type Session = Vec<usize>;

pub fn results(events: &[Accepted<'_>], gap: i64, max_length: Option<i64>, policy: Policy) -> KeyResults {
    let mut key = Key { events, gap, max_length, sessions: Vec::new(), standing: BTreeMap::new(), results: Vec::new() };
    let is_late = |event: &Accepted<'_>| {
        policy != Policy::FinalOnly && event.watermark.is_some_and(|watermark| event.time < watermark)
    };
    let all = || 0..events.len();
    let mut on_time: Session = all().filter(|index| !is_late(&events[*index])).collect();
    on_time.sort_by_key(|index| events[*index].time);
    let mut late: BTreeMap<i64, Session> = BTreeMap::new();
    for index in all().filter(|index| is_late(&events[*index])) {
        late.entry(events[index].watermark.expect("late events have one")).or_default().push(index);
    }
    for (watermark, mut rows) in late {
        while on_time.first().is_some_and(|index| events[*index].time < watermark) {
            key.join(on_time.remove(0));
        }
        key.fire(watermark, "on_time", &[]);
        rows.sort_by_key(|index| events[*index].time);
        rows.iter().for_each(|index| key.join(*index));
        key.take_back();
        key.fire(watermark, "late", &rows);
    }
    on_time.into_iter().for_each(|index| key.join(index));
    key.fire(i64::MAX, "on_time", &[]);
    key.results
}

struct Key<'a> {
    events: &'a [Accepted<'a>],
    gap: i64,
    max_length: Option<i64>,
    sessions: Vec<Session>,
    /// What was fired and not taken back: its last revision.
    standing: BTreeMap<Bounds, (u64, Contents)>,
    results: KeyResults,
}

impl Key<'_> {
    fn bounds(&self, session: &[usize]) -> Bounds {
        let times = || session.iter().map(|index| self.events[*index].time);
        let (first, last) = times().min().zip(times().max()).expect("a session has events");
        (first, last + self.gap)
    }

    /// Puts an event where it belongs: into all sessions that it is less than the gap away from, if that is not too long; else into
    /// one of them, rather the one that begins before it; else into one of its own.
    fn join(&mut self, index: usize) {
        let time = self.events[index].time;
        let touched: Vec<usize> = (0..self.sessions.len())
            .filter(|number| {
                let (start, end) = self.bounds(&self.sessions[*number]);
                start - self.gap < time && time < end
            })
            .collect();
        let start = |number: &usize| self.bounds(&self.sessions[*number]).0;
        let before = touched.iter().copied().filter(|number| start(number) <= time).max_by_key(start);
        let after = touched.iter().copied().filter(|number| start(number) > time).min_by_key(start);
        let choices = [[before, after], [before, None], [None, after]];
        let joined = choices.into_iter().map(|choice| choice.into_iter().flatten().collect::<Vec<usize>>());
        let fits = |numbers: &Vec<usize>| {
            let members: Session = numbers.iter().flat_map(|n| self.sessions[*n].clone()).chain([index]).collect();
            let (first, end) = self.bounds(&members);
            self.max_length.is_none_or(|max| end - self.gap - first < max)
        };
        // The first of them has as many as there are.
        let mut numbers = joined.into_iter().find(fits).unwrap_or_default();
        numbers.sort_unstable();
        let mut members = vec![index];
        for number in numbers.into_iter().rev() {
            members.extend(self.sessions.remove(number));
        }
        self.sessions.push(members);
    }

    /// Takes back what stands and is no session any more.
    fn take_back(&mut self) {
        let bounds: Vec<Bounds> = self.sessions.iter().map(|session| self.bounds(session)).collect();
        let gone: Vec<Bounds> = self.standing.keys().copied().filter(|standing| !bounds.contains(standing)).collect();
        for window in gone {
            let (revision, contents) = self.standing.remove(&window).expect("it was found there");
            let contents = Contents { firing: "late", ..contents };
            self.results.push(((window, revision, Op::Retract), contents));
        }
    }

    /// Fires the sessions that have ended by this time, if they have not fired or have one of these new events.
    fn fire(&mut self, until: i64, firing: &'static str, new: &[usize]) {
        for session in &self.sessions {
            let window = self.bounds(session);
            let standing = self.standing.get(&window);
            let is_new = session.iter().any(|index| new.contains(index));
            if window.1 > until || (standing.is_some() && !is_new) {
                continue;
            }
            let revision = standing.map_or(0, |(revision, _)| revision + 1);
            let members: Vec<&Accepted<'_>> = session.iter().map(|index| &self.events[*index]).collect();
            let contents = contents(firing, &members);
            self.standing.insert(window, (revision, contents.clone()));
            self.results.push(((window, revision, Op::Upsert), contents));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(events: &[(i64, Option<i64>)], max_length: Option<i64>) -> Vec<(Bounds, u64, Op, &'static str)> {
        let values = Vec::new();
        let events: Vec<Accepted<'_>> = events
            .iter()
            .map(|(time, watermark)| Accepted { time: *time, watermark: *watermark, values: &values })
            .collect();
        let results = results(&events, 10, max_length, Policy::Refine);
        results.into_iter().map(|((window, revision, op), contents)| (window, revision, op, contents.firing)).collect()
    }

    #[test]
    fn sessions_worked_out_by_hand() {
        use Op::{Retract, Upsert};
        // Exactly the gap apart is apart.
        assert_eq!(
            seen(&[(0, None), (10, None), (19, None)], None),
            [((0, 10), 0, Upsert, "on_time"), ((10, 29), 0, Upsert, "on_time")]
        );
        // A late event within a session that has fired, then one that joins two of them.
        assert_eq!(
            seen(&[(0, None), (5, None), (20, None), (3, Some(40)), (12, Some(50))], None),
            [
                ((0, 15), 0, Upsert, "on_time"),
                ((20, 30), 0, Upsert, "on_time"),
                ((0, 15), 1, Upsert, "late"),
                ((0, 15), 1, Retract, "late"),
                ((20, 30), 0, Retract, "late"),
                ((0, 30), 0, Upsert, "late"),
            ]
        );
        // One that joins a session that has fired and one that has not: it fires when it ends.
        assert_eq!(
            seen(&[(0, None), (18, None), (9, Some(20))], None),
            [((0, 10), 0, Upsert, "on_time"), ((0, 10), 0, Retract, "late"), ((0, 28), 0, Upsert, "on_time")]
        );
        assert_eq!(
            seen(&[(0, None), (6, None), (12, None), (18, None)], Some(12)),
            [((0, 16), 0, Upsert, "on_time"), ((12, 28), 0, Upsert, "on_time")]
        );
    }
}
