//! Which offsets are still to be committed: plain data, apart from I/O.

use super::brokers::PartitionId;
use super::commit_metadata::Meaning;
use crate::event::Offset;
use std::collections::BTreeMap;

/// What is committed for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// The first record that is still needed, or that a checkpoint goes on with.
    pub offset: Offset,
    /// Which of the two.
    pub meaning: Meaning,
}

/// Offsets on their way to the group. At most one request is under way, so that an older one cannot overtake a newer one.
#[derive(Debug, Default)]
pub(super) struct Commits {
    waiting: BTreeMap<PartitionId, Commit>,
    under_way: BTreeMap<PartitionId, Commit>,
}

impl Commits {
    /// A newer commit takes the place of an older one that waits.
    pub(super) fn add(&mut self, id: PartitionId, commit: Commit) {
        self.waiting.insert(id, commit);
    }

    /// What to send now; empty where nothing waits or a request is under way.
    pub(super) fn send(&mut self) -> &BTreeMap<PartitionId, Commit> {
        static NOTHING: BTreeMap<PartitionId, Commit> = BTreeMap::new();
        if !self.under_way.is_empty() {
            return &NOTHING;
        }
        self.under_way = std::mem::take(&mut self.waiting);
        &self.under_way
    }

    /// The request that was under way came to an end. Where it failed its offsets wait again, unless there are newer ones.
    pub(super) fn sent(&mut self, succeeded: bool) {
        let under_way = std::mem::take(&mut self.under_way);
        if !succeeded {
            for (id, commit) in under_way {
                self.waiting.entry(id).or_insert(commit);
            }
        }
    }

    /// Whether everything is committed.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(partition: i32) -> PartitionId {
        PartitionId { topic: 0, partition }
    }

    fn commit(offset: i64) -> Commit {
        Commit { offset: Offset(offset), meaning: Meaning::Checkpoint }
    }

    #[test]
    fn one_request_at_a_time() {
        let mut commits = Commits::default();
        commits.add(id(0), commit(1));
        assert_eq!(commits.send().len(), 1);
        commits.add(id(0), commit(2));
        assert!(commits.send().is_empty());
        commits.sent(true);
        assert_eq!(commits.send().get(&id(0)), Some(&commit(2)));
        commits.sent(true);
        assert!(commits.is_done());
    }

    #[test]
    fn what_failed_waits_again_unless_there_is_something_newer() {
        let mut commits = Commits::default();
        commits.add(id(0), commit(1));
        commits.add(id(1), commit(1));
        assert_eq!(commits.send().len(), 2);
        commits.add(id(0), commit(2));
        commits.sent(false);
        assert!(!commits.is_done());
        let again = commits.send();
        assert_eq!((again.get(&id(0)), again.get(&id(1))), (Some(&commit(2)), Some(&commit(1))));
    }
}
