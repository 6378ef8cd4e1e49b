//! Which worker reads which partition, and where it begins: pure functions.

use crate::config::OffsetReset;
use crate::event::{Offset, WorkerIndex};

/// The worker that reads a partition: partition modulo workers, shifted by the topic's place in the sorted list of topics, so
/// that many topics of one partition each do not all fall to worker 0. Every worker computes the same, without asking anybody.
pub(super) fn owner(topic_index: usize, partition: i32, workers: usize) -> WorkerIndex {
    // A partition's number is never negative; a worker count is never zero.
    let sum = topic_index as u64 + u64::from(partition.unsigned_abs());
    WorkerIndex((sum % workers.max(1) as u64) as u32)
}

/// The records that a partition has: `low` is the oldest record's offset, `high` the next record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Available {
    /// The oldest.
    pub low: Offset,
    /// One after the newest.
    pub high: Offset,
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Where an earlier run left off.
    Committed(Offset),
    /// Nothing was committed: the configured end.
    Fresh(Offset),
    /// What was committed is not there; the configured end instead.
    OutOfRange {
        /// The offset that was committed.
        wanted: Offset,
        /// Where reading begins instead.
        begin: Offset,
    },
}

impl Start {
    /// The first record to read.
    pub(super) fn offset(self) -> Offset {
        match self {
            Start::Committed(offset) | Start::Fresh(offset) => offset,
            Start::OutOfRange { begin, .. } => begin,
        }
    }
}

/// Decides where to begin.
pub(super) fn start(committed: Option<Offset>, available: Available, reset: OffsetReset) -> Start {
    let fresh = match reset {
        OffsetReset::Earliest => available.low,
        OffsetReset::Latest => available.high,
    };
    match committed {
        None => Start::Fresh(fresh),
        Some(offset) if available.low <= offset && offset <= available.high => Start::Committed(offset),
        Some(wanted) => Start::OutOfRange { wanted, begin: fresh },
    }
}

/// Decides where to go on from a checkpoint, or says which offset that can be read is nearest.
pub(super) fn go_on(next: Offset, available: Available) -> Result<Offset, Offset> {
    let nearest = next.clamp(available.low, available.high);
    if nearest == next { Ok(next) } else { Err(nearest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_one_topic_go_round_the_workers() {
        let owners: Vec<u32> = (0..6).map(|partition| owner(0, partition, 4).0).collect();
        assert_eq!(owners, [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn topics_of_one_partition_do_not_all_fall_to_the_first_worker() {
        let owners: Vec<u32> = (0..4).map(|topic| owner(topic, 0, 3).0).collect();
        assert_eq!(owners, [0, 1, 2, 0]);
    }

    #[test]
    fn every_partition_has_exactly_one_owner_among_the_workers() {
        for workers in 1..9 {
            for topic in 0..3 {
                for partition in 0..20 {
                    assert!((owner(topic, partition, workers).0 as usize) < workers);
                }
            }
        }
    }

    const AVAILABLE: Available = Available { low: Offset(100), high: Offset(200) };

    #[test]
    fn a_committed_offset_in_range_is_where_reading_goes_on() {
        for offset in [100, 150, 200] {
            for reset in [OffsetReset::Earliest, OffsetReset::Latest] {
                assert_eq!(start(Some(Offset(offset)), AVAILABLE, reset), Start::Committed(Offset(offset)));
            }
        }
    }

    #[test]
    fn without_a_commit_the_configured_end_decides() {
        assert_eq!(start(None, AVAILABLE, OffsetReset::Earliest), Start::Fresh(Offset(100)));
        assert_eq!(start(None, AVAILABLE, OffsetReset::Latest), Start::Fresh(Offset(200)));
    }

    #[test]
    fn a_checkpoint_is_gone_on_from_exactly_or_from_what_is_nearest() {
        for offset in [100, 150, 200] {
            assert_eq!(go_on(Offset(offset), AVAILABLE), Ok(Offset(offset)));
        }
        assert_eq!(go_on(Offset(99), AVAILABLE), Err(Offset(100)));
        assert_eq!(go_on(Offset(201), AVAILABLE), Err(Offset(200)));
    }

    #[test]
    fn a_committed_offset_out_of_range_is_said_to_be_so() {
        for wanted in [99, 201] {
            let decided = start(Some(Offset(wanted)), AVAILABLE, OffsetReset::Earliest);
            assert_eq!(decided, Start::OutOfRange { wanted: Offset(wanted), begin: Offset(100) });
            assert_eq!(decided.offset(), Offset(100));
            assert_eq!(start(Some(Offset(wanted)), AVAILABLE, OffsetReset::Latest).offset(), Offset(200));
        }
    }
}
