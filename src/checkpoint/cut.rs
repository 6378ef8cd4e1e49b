//! Where a source was at the end of an epoch.
//!
//! The model: a checkpoint has one cut of each partition, from the worker that reads it. Where a run is asked to end before a worker
//! knows its partitions, that worker hands on the cuts of the checkpoint that the run began with, of all partitions: of two cuts of
//! one partition the one that is [ahead](PartitionCut::is_ahead_of) counts.

use crate::event::{Offset, PartitionName};
use crate::time::EventTime;
use crate::time::disorder::Disorder;
use std::collections::BTreeMap;

/// One partition at the end of an epoch: everything that the next record is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCut {
    /// Which.
    pub name: PartitionName,
    /// The first record of the next epoch.
    pub next: Offset,
    /// The latest event time seen; [`EventTime::MIN`] before the first event. With `max_out_of_orderness` it is the watermark.
    pub max_seen: EventTime,
    /// Read to its end, and silent.
    pub idle: bool,
    /// It was idle, and the frontier may be ahead of its watermark since.
    pub returned: bool,
    /// It has ended.
    pub closed: bool,
    /// Records taken, of any kind, since the job began.
    pub records: u64,
    /// How far its events were behind the latest ones before them.
    pub disorder: Disorder,
}

impl PartitionCut {
    /// Whether it was taken after another one of the same partition, with something read in between. Records are counted since the
    /// job began, which offsets are not: they begin anew with a topic that was made anew.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        let place = |cut: &Self| (cut.records, cut.closed, cut.next);
        place(self) > place(other)
    }
}

/// The cuts of one checkpoint, by partition.
#[derive(Clone, Debug, Default)]
pub struct Cuts(BTreeMap<PartitionName, PartitionCut>);

impl Cuts {
    /// Takes one more.
    pub fn insert(&mut self, cut: PartitionCut) {
        match self.0.get_mut(&cut.name) {
            Some(known) if cut.is_ahead_of(known) => *known = cut,
            Some(_) => {}
            None => _ = self.0.insert(cut.name.clone(), cut),
        }
    }

    /// Those of all partitions, by name.
    pub fn into_map(self) -> BTreeMap<PartitionName, PartitionCut> {
        self.0
    }
}

impl FromIterator<PartitionCut> for Cuts {
    fn from_iter<I: IntoIterator<Item = PartitionCut>>(cuts: I) -> Self {
        let mut all = Self::default();
        cuts.into_iter().for_each(|cut| all.insert(cut));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(partition: i32, next: i64, records: u64) -> PartitionCut {
        PartitionCut {
            name: PartitionName { topic: "a".into(), partition },
            next: Offset(next),
            max_seen: EventTime::MIN,
            idle: false,
            returned: false,
            closed: false,
            records,
            disorder: Disorder::default(),
        }
    }

    #[test]
    fn of_two_cuts_of_a_partition_the_one_that_has_more_of_it_counts() {
        let ended = PartitionCut { closed: true, ..cut(2, 7, 7) };
        // A topic that was made anew has smaller offsets.
        let all = [cut(0, 5, 5), cut(0, 9, 9), cut(1, 2, 30), cut(1, 20, 20), ended.clone(), cut(2, 7, 7)];
        let expected = [cut(0, 9, 9), cut(1, 2, 30), ended];
        for cuts in [all.to_vec(), all.iter().rev().cloned().collect()] {
            let cuts: Vec<_> = cuts.into_iter().collect::<Cuts>().into_map().into_values().collect();
            assert_eq!(cuts, expected);
        }
    }
}
