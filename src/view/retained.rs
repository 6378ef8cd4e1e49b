//! The results that views read: one a window and key as it stands, and those that are not closed.
//!
//! The model: results come in with the time at which they were sent and wait; a closing says that everything before an event time is
//! there, and turns what waited into changes of facts: the fact that stood before goes, the new one comes. A view does not see facts
//! of windows that end before its horizon, the closed frontier less what it keeps; as the horizon moves on, facts leave. No timely,
//! no I/O: the operator around it has those.

use super::fact_table::FactTable;
use super::{Fact, View};
use crate::event::{DefinitionIndex, GroupingKey, KeyGroup};
use crate::sink::{ResultBatch, ResultOp, ResultRow, TimeWindow};
use crate::time::{Epoch, EventTime, Span, Time};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Which result: in the order of windows' ends, so that what has expired is at the front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The window's end.
    pub end: EventTime,
    /// The window's start.
    pub start: EventTime,
    /// The group.
    pub key: GroupingKey,
}

impl Identity {
    /// Of a result of this window and key.
    pub fn of(window: TimeWindow, key: &GroupingKey) -> Self {
        Self { end: window.end, start: window.start, key: key.clone() }
    }
}

/// A result that waits for its closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The epoch in which it was sent.
    pub epoch: Epoch,
    /// The window definition.
    pub definition: DefinitionIndex,
    /// The result, or the one that is taken back.
    pub fact: Fact,
    /// Whether it is taken back.
    pub is_retraction: bool,
}

/// What one view has of the results.
#[derive(Clone, Copy, Debug)]
struct Reader {
    definition: DefinitionIndex,
    keeps: Span,
    /// Facts of windows that end before this have left.
    horizon: EventTime,
}

/// A change of the facts that the view at a place sees.
pub type FactChange = (usize, Fact, isize);

/// What has changed since it was last taken, for checkpoints.
#[derive(Debug, Default)]
pub struct Dirty {
    /// The facts, by definition.
    pub facts: BTreeSet<(DefinitionIndex, Identity)>,
    /// Results that wait, or waited, by their numbers.
    pub waiting: BTreeMap<u64, Waited>,
}

/// Where a result waits, or waited.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// When it was sent.
    pub sent: EventTime,
    /// The window definition.
    pub definition: DefinitionIndex,
    /// The key's.
    pub group: KeyGroup,
}

/// The results that the views of one worker read.
#[derive(Debug)]
pub struct Retained {
    readers: Vec<Reader>,
    facts: BTreeMap<DefinitionIndex, FactTable>,
    /// By the time at which they were sent, then by their number: the order in which they came.
    waiting: BTreeMap<EventTime, BTreeMap<u64, Waiting>>,
    last_number: u64,
    /// Where the newest of a window and key waits, of those that wait.
    newest: HashMap<(DefinitionIndex, Identity), (EventTime, u64)>,
    closed: EventTime,
    dirty: Option<Dirty>,
}

impl Retained {
    /// For these views.
    pub fn new(views: &[View]) -> Self {
        let reader = |view: &View| Reader { definition: view.definition, keeps: view.keeps(), horizon: EventTime::MIN };
        Self {
            readers: views.iter().map(reader).collect(),
            facts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_number: 0,
            newest: HashMap::new(),
            closed: EventTime::MIN,
            dirty: None,
        }
    }

    /// Takes note of changes from now on.
    pub fn track_changes(&mut self) {
        self.dirty.get_or_insert_default();
    }

    /// What has changed since it was last taken.
    pub fn take_dirty(&mut self) -> Dirty {
        self.dirty.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Up to where everything is closed.
    pub fn closed(&self) -> EventTime {
        self.closed
    }

    /// The fact that stands.
    pub fn fact(&self, definition: DefinitionIndex, identity: &Identity) -> Option<&Fact> {
        self.facts.get(&definition)?.get(identity)
    }

    /// The result of this number, if it waits.
    pub fn waiting(&self, sent: EventTime, number: u64) -> Option<&Waiting> {
        self.waiting.get(&sent)?.get(&number)
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.facts.values().map(FactTable::len).sum()
    }

    /// Whether there is no fact.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the results were sent that wait, each time once.
    pub fn waiting_times(&self) -> impl Iterator<Item = EventTime> {
        self.waiting.keys().copied()
    }

    /// Takes results that were sent at this time. Results of definitions that no view reads are left out. Returns whether one waits now.
    pub fn receive(&mut self, time: Time, batch: &ResultBatch) -> bool {
        if self.readers.iter().all(|reader| reader.definition != batch.definition) {
            return false;
        }
        for row in batch.rows.iter() {
            self.wait(time.event_time(), Waiting::of(time.epoch(), batch.definition, row));
        }
        !batch.rows.is_empty()
    }

    /// Of a window and key the newer is never closed before the older: results for rows that came behind the frontier may have been sent
    /// at a later time than those that revise them.
    fn wait(&mut self, time: EventTime, waiting: Waiting) {
        self.last_number += 1;
        let identity = (waiting.definition, Identity::of(waiting.fact.window, &waiting.fact.key));
        let newest = self.newest.entry(identity).or_insert((time, 0));
        *newest = (newest.0.max(time), self.last_number);
        let time = newest.0;
        if let Some(dirty) = &mut self.dirty {
            dirty.waiting.insert(self.last_number, waiting.is_at(time));
        }
        self.waiting.entry(time).or_default().insert(self.last_number, waiting);
    }

    /// Everything that was sent before `frontier`, in this epoch or earlier ones, is there: appends what that changes.
    pub fn close(&mut self, epoch: Epoch, frontier: EventTime, changes: &mut Vec<FactChange>) {
        self.closed = self.closed.max(frontier);
        let waited = self.take_closed(epoch, frontier);
        self.expire(changes);
        for (number, waiting) in waited {
            self.apply(number, waiting, changes);
        }
    }

    /// What waited before the frontier, in the order in which it came.
    fn take_closed(&mut self, epoch: Epoch, frontier: EventTime) -> BTreeMap<u64, Waiting> {
        let later = self.waiting.split_off(&frontier);
        let mut closed = BTreeMap::new();
        for (time, of_time) in std::mem::replace(&mut self.waiting, later) {
            let (now, later): (BTreeMap<_, _>, BTreeMap<_, _>) =
                of_time.into_iter().partition(|(_, waiting)| waiting.epoch <= epoch);
            if let Some(dirty) = &mut self.dirty {
                dirty.waiting.extend(now.iter().map(|(number, waiting)| (*number, waiting.is_at(time))));
            }
            closed.extend(now);
            if !later.is_empty() {
                self.waiting.insert(time, later);
            }
        }
        closed
    }

    /// Lets facts go that are before the horizons.
    fn expire(&mut self, changes: &mut Vec<FactChange>) {
        let closed = self.closed;
        for (place, reader) in self.readers.iter_mut().enumerate() {
            let horizon = closed.saturating_sub(reader.keeps).max(reader.horizon);
            if let Some(facts) = self.facts.get(&reader.definition) {
                changes.extend(facts.ending(reader.horizon..horizon).map(|fact| (place, fact.clone(), -1)));
            }
            reader.horizon = horizon;
        }
        for (definition, facts) in &mut self.facts {
            let gone = facts.expire(horizon_of(&self.readers, *definition));
            if let Some(dirty) = &mut self.dirty {
                dirty.facts.extend(gone.into_iter().map(|identity| (*definition, identity)));
            }
        }
    }

    fn apply(&mut self, number: u64, waiting: Waiting, changes: &mut Vec<FactChange>) {
        let Waiting { definition, fact, is_retraction, .. } = waiting;
        let identity = Identity::of(fact.window, &fact.key);
        if let Entry::Occupied(newest) = self.newest.entry((definition, identity.clone()))
            && newest.get().1 == number
        {
            newest.remove();
        }
        if fact.window.end < horizon_of(&self.readers, definition) {
            return;
        }
        let new = (!is_retraction).then_some(fact);
        let old = self.facts.entry(definition).or_default().replace(&identity, new.clone());
        let sees = |(_, reader): &(usize, &Reader)| reader.definition == definition && identity.end >= reader.horizon;
        for (place, _) in self.readers.iter().enumerate().filter(sees) {
            changes.extend(old.iter().map(|old| (place, old.clone(), -1)));
            changes.extend(new.iter().map(|new| (place, new.clone(), 1)));
        }
        if let Some(dirty) = &mut self.dirty {
            dirty.facts.insert((definition, identity));
        }
    }

    /// Puts a fact back that a checkpoint had.
    pub fn restore_fact(&mut self, definition: DefinitionIndex, fact: Fact) {
        let identity = Identity::of(fact.window, &fact.key);
        if let Some(dirty) = &mut self.dirty {
            dirty.facts.insert((definition, identity.clone()));
        }
        self.facts.entry(definition).or_default().replace(&identity, Some(fact));
    }

    /// Everything before this was closed.
    pub fn restore_closed(&mut self, closed: EventTime) {
        self.closed = closed;
    }

    /// Puts a result back that waited. Those of one key come in the order of their numbers.
    pub fn restore_waiting(&mut self, time: EventTime, waiting: Waiting) {
        self.wait(time, waiting);
    }

    /// After a checkpoint's records have been put back: what each view sees of the facts.
    pub fn restored(&mut self, changes: &mut Vec<FactChange>) {
        self.expire(&mut Vec::new());
        for (place, reader) in self.readers.iter().enumerate() {
            if let Some(facts) = self.facts.get(&reader.definition) {
                changes.extend(facts.ending(reader.horizon..).map(|fact| (place, fact.clone(), 1)));
            }
        }
    }
}

impl Waiting {
    fn is_at(&self, sent: EventTime) -> Waited {
        Waited { sent, definition: self.definition, group: self.fact.key.key_group() }
    }

    fn of(epoch: Epoch, definition: DefinitionIndex, row: &ResultRow) -> Self {
        Self { epoch, definition, fact: Fact::of(row), is_retraction: row.op == ResultOp::Retract }
    }
}

/// The earliest horizon of a definition's readers.
fn horizon_of(readers: &[Reader], definition: DefinitionIndex) -> EventTime {
    let of_definition = readers.iter().filter(|reader| reader.definition == definition);
    of_definition.map(|reader| reader.horizon).min().unwrap_or(EventTime::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Firing;
    use crate::view::{Leaderboard, ViewKind};

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn row(revision: u32) -> ResultBatch {
        let row = ResultRow {
            window: TimeWindow { start: at(30), end: at(40) },
            window_name: None,
            key: GroupingKey::everything(),
            names: ["count".into()].into(),
            values: vec![crate::sink::ResultValue::Count(u64::from(revision))],
            revision,
            op: ResultOp::Upsert,
            firing: Firing::Late,
            fired_at: at(0),
            complete: None,
            accumulators: None,
            view: None,
        };
        [row].into_iter().collect()
    }

    #[test]
    fn the_newer_result_wins_although_it_was_sent_at_an_earlier_time() {
        let kind = Leaderboard { by: "count".into(), top: 1, smallest: false, per: Vec::new() };
        let (name, retain) = ("v".into(), Span::from_secs(10));
        let view = View { name, definition: DefinitionIndex::default(), retain, kind: ViewKind::Leaderboard(kind) };
        let mut retained = Retained::new(&[view]);
        retained.receive(Time::new(Epoch::FIRST, at(100)), &row(0));
        retained.receive(Time::new(Epoch::FIRST, at(60)), &row(1));
        let mut changes = Vec::new();
        retained.close(Epoch::FIRST, at(70), &mut changes);
        assert_eq!(changes, [], "the older is not closed");
        retained.close(Epoch::FIRST, at(101), &mut changes);
        let identity = Identity { end: at(40), start: at(30), key: GroupingKey::everything() };
        let fact = retained.fact(DefinitionIndex::default(), &identity).expect("it stands");
        assert_eq!(fact.number("count"), Some(1.0));
        let sum: isize = changes.iter().map(|(_, _, change)| change).sum();
        assert_eq!(sum, 1, "one stands: {changes:?}");
        assert!(retained.newest.is_empty());
        // What comes later waits for its own time.
        retained.receive(Time::new(Epoch::FIRST, at(110)), &row(2));
        assert_eq!(retained.waiting_times().collect::<Vec<_>>(), [at(110)]);
    }
}
