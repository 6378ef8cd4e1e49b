//! Where sources begin: at the cuts of the checkpoint that was restored.
//!
//! The model: a [`Resume`] says for each partition what [`StartAt`] it is: new, at a record, or ended. A source asks for each
//! partition that it finds before it reads it, and the first worker's asks once for those that are not there any more
//! ([`Resume::vanished`]). The intake takes the rest of a cut (watermark, idleness, statistics) when the partition is opened.
//!
//! How it fails: a partition that has ended is not needed. Any other that is not there any more, or that cannot be read from its
//! cut, is [`ProcessorError::Refused`]: results without its records would be wrong, and nobody would see it. Whoever accepts the
//! loss (`--accept-loss`) goes on at what is nearest, and each loss is logged and counted.

use crate::checkpoint::PartitionCut;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Offset, PartitionName};
use prometheus::IntCounter;
use std::collections::BTreeMap;
use std::fmt::Display;

/// What sources go on from.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// The cuts of the checkpoint that was restored, of all workers.
    pub cuts: BTreeMap<PartitionName, PartitionCut>,
    /// Whether there was one. A job that begins has no cuts either, but its partitions are no later additions.
    pub is_restored: bool,
    /// Whether what cannot be read any more is passed over.
    pub accept_loss: bool,
    /// What was passed over.
    pub losses: Losses,
}

/// Where reading a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The checkpoint does not know it, or there is none.
    New,
    /// This record is the next one.
    Record(Offset),
    /// It has ended: there is nothing to read.
    Ended,
}

impl Resume {
    /// From these cuts of a checkpoint.
    pub fn from_cuts(cuts: impl IntoIterator<Item = PartitionCut>, accept_loss: bool, losses: Losses) -> Self {
        let cuts = cuts.into_iter().map(|cut| (cut.name.clone(), cut)).collect();
        Self { cuts, is_restored: true, accept_loss, losses }
    }

    /// Where a partition begins.
    pub fn start(&self, name: &PartitionName) -> StartAt {
        match self.cuts.get(name) {
            None => StartAt::New,
            Some(cut) if cut.closed => StartAt::Ended,
            Some(cut) => StartAt::Record(cut.next),
        }
    }

    /// Looks for partitions of the checkpoint that are not there any more. Those that have ended are answered: they must be opened,
    /// which keeps them out of the way, so that they are not read again should they come back. Any other is a loss.
    pub fn vanished(&self, is_there: impl Fn(&PartitionName) -> bool) -> ProcessorResult<Vec<PartitionName>> {
        let mut ended = Vec::new();
        for cut in self.cuts.values().filter(|cut| !is_there(&cut.name)) {
            match cut.closed {
                true => ended.push(cut.name.clone()),
                false => self.lose(&cut.name, None, || {
                    format!("it is not there any more; the checkpoint goes on at offset {} of it", cut.next)
                })?,
            }
        }
        Ok(ended)
    }

    /// A partition cannot go on from its cut, for this reason. The error is the refusal; where the loss is accepted it is logged
    /// and counted: `records` is how many are lost, where that is known.
    pub fn lose<D: Display>(
        &self,
        name: &PartitionName,
        records: Option<u64>,
        reason: impl FnOnce() -> D,
    ) -> ProcessorResult<()> {
        let reason = reason();
        if !self.accept_loss {
            return Err(ProcessorError::Refused(format!(
                "{name}: {reason}. Start with --accept-loss to go on without what is lost, or with --ignore-checkpoint to begin anew"
            )));
        }
        self.losses.count(records);
        match records {
            Some(records) => tracing::warn!(target: "source", records, "{name}: {reason}; the loss is accepted"),
            None => tracing::warn!(target: "source", "{name}: {reason}; the loss is accepted"),
        }
        Ok(())
    }
}

/// Counts losses that were accepted. Clones are the same counters.
#[derive(Clone, Debug)]
pub struct Losses {
    partitions: IntCounter,
    records: IntCounter,
}

impl Losses {
    /// With counters that show elsewhere too.
    pub fn counted_by(partitions: IntCounter, records: IntCounter) -> Self {
        Self { partitions, records }
    }

    fn count(&self, records: Option<u64>) {
        self.partitions.inc();
        self.records.inc_by(records.unwrap_or(0));
    }

    /// Partitions that did not go on from their cuts.
    pub fn partitions(&self) -> u64 {
        self.partitions.get()
    }

    /// Records that are known to be lost; of some partitions nobody can say how many it were.
    pub fn records(&self) -> u64 {
        self.records.get()
    }
}

impl Default for Losses {
    fn default() -> Self {
        let counter = |name| IntCounter::new(name, name).expect("the name is a constant that Prometheus accepts");
        Self::counted_by(counter("partitions"), counter("records"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::time::EventTime;
    use crate::time::disorder::Disorder;

    /// A cut at this record.
    pub(crate) fn cut(topic: &str, partition: i32, next: i64) -> PartitionCut {
        PartitionCut {
            name: PartitionName { topic: topic.into(), partition },
            next: Offset(next),
            max_seen: EventTime::MIN,
            idle: false,
            returned: false,
            closed: false,
            records: 0,
            disorder: Disorder::default(),
        }
    }

    fn of(accept_loss: bool) -> Resume {
        let ended = PartitionCut { closed: true, ..cut("c", 0, 7) };
        Resume::from_cuts([cut("a", 0, 5), cut("b", 1, 0), ended], accept_loss, Losses::default())
    }

    #[test]
    fn a_partition_begins_where_its_cut_says() {
        let resume = of(false);
        let start = |topic: &str, partition| resume.start(&PartitionName { topic: topic.into(), partition });
        assert_eq!(start("a", 0), StartAt::Record(Offset(5)));
        assert_eq!(start("b", 1), StartAt::Record(Offset(0)));
        assert_eq!(start("b", 0), StartAt::New);
        assert_eq!(start("c", 0), StartAt::Ended);
    }

    #[test]
    fn what_is_gone_is_refused_by_name_unless_it_has_ended_or_the_loss_is_accepted() {
        let ended = vec![PartitionName { topic: "c".into(), partition: 0 }];
        let only_a = |name: &PartitionName| &*name.topic == "a";
        let refused = of(false).vanished(only_a).unwrap_err();
        assert!(matches!(refused, ProcessorError::Refused(_)));
        assert_eq!(
            refused.to_string(),
            "refused: b[1]: it is not there any more; the checkpoint goes on at offset 0 of it. Start with \
             --accept-loss to go on without what is lost, or with --ignore-checkpoint to begin anew"
        );
        assert_eq!(of(false).vanished(|name| &*name.topic != "c").unwrap(), ended);
        let accepting = of(true);
        assert_eq!(accepting.vanished(only_a).unwrap(), ended);
        assert_eq!((accepting.losses.partitions(), accepting.losses.records()), (1, 0));
    }
}
