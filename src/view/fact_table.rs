//! The facts of one window definition.
//!
//! The model: a fact is found by its window and key at the cost of one place in memory, however many there are; which windows end
//! when is noted beside, so that what expires is found without looking at what stays. A place may be noted twice, where a fact was
//! taken away and came back; whoever goes through them asks whether there is still something.

use super::Fact;
use super::retained::Identity;
use crate::time::EventTime;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeBounds;

/// Facts by window and key.
#[derive(Debug, Default)]
pub struct FactTable {
    facts: HashMap<Identity, Fact>,
    /// By the window's end; each fact is here.
    places: BTreeMap<EventTime, Vec<Identity>>,
}

impl FactTable {
    /// The fact that stands.
    pub fn get(&self, identity: &Identity) -> Option<&Fact> {
        self.facts.get(identity)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Puts a fact where there may be another, or takes that away. Returns what was there.
    pub fn replace(&mut self, identity: &Identity, new: Option<Fact>) -> Option<Fact> {
        match (self.facts.entry(identity.clone()), new) {
            (Entry::Occupied(mut there), Some(new)) => Some(there.insert(new)),
            (Entry::Occupied(there), None) => Some(there.remove()),
            (Entry::Vacant(place), Some(new)) => {
                place.insert(new);
                self.places.entry(identity.end).or_default().push(identity.clone());
                None
            }
            (Entry::Vacant(_), None) => None,
        }
    }

    /// Those of windows that end within some times, each once.
    pub fn ending(&self, ends: impl RangeBounds<EventTime>) -> impl Iterator<Item = &Fact> {
        self.places.range(ends).flat_map(|(_, places)| {
            let mut places: Vec<&Identity> = places.iter().collect();
            places.sort_unstable();
            places.dedup();
            places.into_iter().filter_map(|place| self.facts.get(place))
        })
    }

    /// Lets those of windows go that end before a time. Returns what they were.
    pub fn expire(&mut self, before: EventTime) -> Vec<Identity> {
        let mut gone = Vec::new();
        while let Some(first) = self.places.first_entry().filter(|first| *first.key() < before) {
            gone.extend(first.remove().into_iter().filter(|place| self.facts.remove(place).is_some()));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::GroupingKey;
    use crate::sink::TimeWindow;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn fact(end: i64, key: &str) -> Fact {
        let window = TimeWindow { start: at(end - 10), end: at(end) };
        let key = GroupingKey::from_fields(&[("k", key)]);
        Fact { window, key, names: [].into(), figures: [].into(), accumulators: [].into() }
    }

    fn put(table: &mut FactTable, fact: &Fact, is_there: bool) -> Option<Fact> {
        table.replace(&Identity::of(fact.window, &fact.key), is_there.then(|| fact.clone()))
    }

    #[test]
    fn a_fact_that_came_back_is_there_once_and_leaves_once() {
        let (mut table, [early, late]) = (FactTable::default(), [fact(20, "a"), fact(30, "a")]);
        for _ in 0..3 {
            assert_eq!(put(&mut table, &early, true), None);
            assert_eq!(put(&mut table, &early, false), Some(early.clone()));
        }
        put(&mut table, &early, true);
        put(&mut table, &late, true);
        assert_eq!(put(&mut table, &late, true), Some(late.clone()));
        assert_eq!(table.ending(at(20)..at(30)).collect::<Vec<_>>(), [&early]);
        assert_eq!(table.ending(..).collect::<Vec<_>>(), [&early, &late]);
        assert_eq!(table.ending(at(20)..at(20)).count(), 0);
        assert_eq!(table.expire(at(30)), [Identity::of(early.window, &early.key)]);
        assert_eq!((table.len(), table.expire(at(30))), (1, vec![]));
    }
}
