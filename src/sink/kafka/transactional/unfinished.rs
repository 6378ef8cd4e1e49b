//! Transactions whose end was never written.
//!
//! The model: a commit is answered when the transaction's coordinator has it in its log; the markers that end the transaction in
//! each partition are written after that. A coordinator that finds a partition without a leader at that moment may take the
//! partition for deleted and leave it out (Kafka 4.3 does: a single broker has such a moment when it stops, and when it comes back).
//! The coordinator then knows of no transaction, and nobody ever ends it in the partition: readers of committed records
//! wait there for ever, and the next transaction of the same producer decides about the old one too.
//!
//! So a commit that was answered counts only when no partition has the transaction's first record as its last stable offset any
//! more, and a producer that has taken an id looks whether the last marker of it is still undecided. By then the coordinator is
//! through with it: nothing but this producer will end it. [`settlement`] says how. All of it undecided: nobody has seen anything,
//! and it is aborted, by a transaction with a record in each of its partitions; the outbox still has what it held. Something
//! of it visible: it is committed, by its marker once more.
//!
//! To know later where a transaction has records, its marker has a header `first`: `{"topic":"results","first":{"0":12,"3":7}}`.
//!
//! How it fails: a partition that was left out, where the marker and others were not, keeps its readers waiting until the shard's
//! next transaction with a record for it; a warning says so. A transaction of another program, which stands before ours, is waited
//! for only where markers are read.

use super::progress::{Failed, PARTITION, ProgressTopic};
use super::waiting::rest;
use crate::error::ProcessorResult;
use crate::sink::SinkContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The name of the header.
pub(super) const FIRST_HEADER: &str = "first";
/// How long the end of a transaction may take, after the commit was answered or the id was taken, before it counts as lost. Markers
/// take milliseconds where all partitions have leaders.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);

/// Where a transaction's results are: the offset of the first in each partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reach {
    pub topic: String,
    pub first: BTreeMap<i32, i64>,
}

/// What has become of a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Undecided,
    Committed,
    Aborted,
}

/// How to end a transaction that nobody else will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    Abort,
    Commit,
}

/// A marker that is undecided, and the transaction that it is of.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub reach: Reach,
}

/// By what became of it in the partitions of its results; its marker is undecided.
fn settlement(outcomes: impl IntoIterator<Item = Outcome>) -> Settlement {
    match outcomes.into_iter().any(|outcome| outcome == Outcome::Committed) {
        true => Settlement::Commit,
        false => Settlement::Abort,
    }
}

fn is_unknown(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}

impl Reach {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON, and a Vec takes all bytes")
    }

    fn of(message: &impl Message) -> Result<Reach, String> {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let Some(header) = headers.filter(|header| header.key == FIRST_HEADER).last() else {
            return Ok(Reach::default());
        };
        serde_json::from_slice(header.value.unwrap_or_default())
            .map_err(|error| format!("its header {FIRST_HEADER}: {error}"))
    }
}

impl ProgressTopic {
    /// Whether the end of a transaction, the commit of which was answered, is written everywhere. `marker` is the offset of its
    /// marker. Otherwise the error says where it is not.
    pub fn is_ended(
        &self,
        reach: &Reach,
        marker: Option<i64>,
        context: &SinkContext,
    ) -> ProcessorResult<Result<(), String>> {
        let markers = marker.map(|offset| (PARTITION, offset)).into_iter().collect();
        let mut left = [(self.name().to_owned(), markers), (reach.topic.clone(), reach.first.clone())];
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            for (topic, first) in &mut left {
                let stable = self.until_it_works(context, || self.stable(topic, first.keys()))?;
                first.retain(|partition, first| stable.get(partition) == Some(first));
            }
            let Some((topic, first)) = left.iter().find(|(_, first)| !first.is_empty()) else { return Ok(Ok(())) };
            let (partition, offset) = first.first_key_value().expect("it is not empty");
            let reason = format!(
                "the broker has answered a commit and not written its end: {topic}[{partition}] is decided up to offset {offset}"
            );
            if begun.elapsed() >= END_PATIENCE {
                return Ok(Err(reason));
            }
            rest(context, pause, &reason)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A marker with one of these keys, whose producers have taken their ids, that nobody else will decide about.
    pub fn unfinished(&self, keys: &[&[u8]], context: &SinkContext) -> ProcessorResult<Option<Unfinished>> {
        let end = self.until_it_works(context, || self.end())?;
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        let mut undecided_at: Option<(i64, Instant)> = None;
        loop {
            let stable = self.until_it_works(context, || self.stable_end())?;
            if stable >= end {
                return Ok(None);
            }
            let Some((offset, unfinished)) = self.until_it_works(context, || self.first_undecided(keys, stable))?
            else {
                return Ok(None);
            };
            // One that stands behind another's may be decided: the other's end shows it.
            match undecided_at {
                Some((at, since)) if at == stable && offset == stable => {
                    if since.elapsed() >= END_PATIENCE {
                        return Ok(Some(unfinished));
                    }
                }
                _ => undecided_at = Some((stable, Instant::now())),
            }
            let reason = self.open_transaction(stable, end, begun.elapsed());
            context.waiting(&reason);
            rest(context, pause, &reason)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How to end it.
    pub fn settlement(&self, unfinished: &Unfinished, context: &SinkContext) -> ProcessorResult<Settlement> {
        let Reach { topic, first } = &unfinished.reach;
        let stable = self.until_it_works(context, || self.stable(topic, first.keys()))?;
        let mut outcomes = Vec::new();
        for (&partition, &offset) in first {
            let outcome = match stable.get(&partition) {
                Some(&stable) if stable > offset => {
                    let seen = self.until_it_works(context, || self.first_committed(topic, partition, offset))?;
                    if seen == Some(offset) { Outcome::Committed } else { Outcome::Aborted }
                }
                _ => Outcome::Undecided,
            };
            tracing::info!(target: "sink", topic, partition, offset, ?outcome, "a transaction without end");
            outcomes.push(outcome);
        }
        Ok(settlement(outcomes))
    }

    /// The last stable offsets of some partitions; one that is missing is not there or has no leader.
    fn stable<'a>(&self, topic: &str, partitions: impl Iterator<Item = &'a i32>) -> Result<BTreeMap<i32, i64>, Failed> {
        let mut asked = TopicPartitionList::new();
        for &partition in partitions {
            asked.add_partition_offset(topic, partition, Offset::End)?;
        }
        if asked.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let told = self.committed_reader()?.offsets_for_times(asked, LOOK)?;
        let mut stable = BTreeMap::new();
        for element in told.elements() {
            match (element.error(), element.offset()) {
                (Ok(()), Offset::Offset(offset)) => drop(stable.insert(element.partition(), offset)),
                // Where a topic is gone, so is what was open in it.
                (Err(error), _) if is_unknown(&error) => {}
                (Err(error), _) => return Err(error.into()),
                (Ok(()), other) => {
                    return Err(Failed::Away(format!("{topic}[{}] ends at {other:?}", element.partition())));
                }
            }
        }
        Ok(stable)
    }

    pub(super) fn stable_end(&self) -> Result<i64, Failed> {
        let stable = self.stable(self.name(), [PARTITION].iter())?;
        stable.get(&PARTITION).copied().ok_or_else(|| Failed::Away("its end is not known".to_owned()))
    }

    /// The first record from `stable` on that has one of these keys.
    fn first_undecided(&self, keys: &[&[u8]], stable: i64) -> Result<Option<(i64, Unfinished)>, Failed> {
        let mut found = None;
        self.scan("read_uncommitted", Offset::Offset(stable), |message| {
            let key = message.key().unwrap_or_default();
            if !keys.contains(&key) {
                return Ok(true);
            }
            let (value, reach) = (message.payload().unwrap_or_default().to_vec(), Reach::of(message));
            let reach = reach.map_err(|reason| self.no_marker(message.offset(), &reason))?;
            found = Some((message.offset(), Unfinished { key: key.to_vec(), value, reach }));
            Ok(false)
        })?;
        Ok(found)
    }

    /// The offset of the first record from `offset` on that a reader of committed records sees.
    fn first_committed(&self, topic: &str, partition: i32, offset: i64) -> Result<Option<i64>, Failed> {
        let mut seen = None;
        self.scan_partition("read_committed", (topic, partition), Offset::Offset(offset), |message| {
            seen = Some(message.offset());
            Ok(false)
        })?;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_may_have_seen_is_committed_and_all_else_aborted() {
        use Outcome::{Aborted, Committed, Undecided};
        assert_eq!(settlement([]), Settlement::Abort);
        assert_eq!(settlement([Undecided, Undecided]), Settlement::Abort);
        assert_eq!(settlement([Undecided, Aborted]), Settlement::Abort);
        assert_eq!(settlement([Undecided, Committed]), Settlement::Commit);
        assert_eq!(settlement([Committed]), Settlement::Commit);
    }

    #[test]
    fn the_documented_header() {
        let reach = Reach { topic: "results".to_owned(), first: [(0, 12), (3, 7)].into() };
        assert_eq!(reach.encode(), br#"{"topic":"results","first":{"0":12,"3":7}}"#);
        assert_eq!(serde_json::from_slice::<Reach>(&reach.encode()).unwrap(), reach);
    }
}
