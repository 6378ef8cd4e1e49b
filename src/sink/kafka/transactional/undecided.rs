//! Transactions whose end was never written: found in the logs.
//!
//! The model: a commit is answered when the transaction's coordinator has it in its log; the records that end the transaction in
//! each partition are written after that. A coordinator that finds a partition without a leader at that moment may take the
//! partition for deleted and leave it out (Kafka 4.3 does: a single broker has such a moment when it stops, and when it comes back).
//! The coordinator then knows of no transaction, and nobody ends it in that partition: readers of committed records wait there for
//! ever, and the next transaction of the same producer decides about the old one too. An abort can be left out as well.
//!
//! So a commit that was answered counts only when every partition's last stable offset is behind the transaction's first record
//! there ([`ProgressTopic::is_ended`]); until then its chunk is kept. And a producer that has taken its id looks
//! ([`ProgressTopic::look`]) what of the shard's last transaction is undecided: by then the coordinator is through with it, and
//! nothing but this producer will end it. See `repair` for what it does.

use super::progress::{Failed, PARTITION, ProgressTopic};
use super::reach::{ABORTED, Aborted, RECORDS, Reach, decode};
use super::waiting::rest;
use crate::error::ProcessorResult;
use crate::sink::SinkContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the end of a transaction may take after the commit was answered, before it counts as lost. It takes milliseconds where
/// all partitions have leaders.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// The same where another's transaction stands before it, which hides whether it has ended.
const HIDDEN_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long one question may take.
const LOOK: Duration = Duration::from_secs(2);

/// The shard's last marker, whatever became of it.
#[derive(Clone, Debug)]
pub(super) struct LastMarker {
    pub offset: i64,
    pub value: Vec<u8>,
    pub reach: Reach,
}

/// What was found of a shard.
#[derive(Debug)]
pub(super) enum Found {
    /// Everything is decided, and by the coordinator.
    InOrder,
    /// What is undecided of the last transaction is hidden behind another's, at this place.
    Hidden(String),
    /// Something of the shard's may be open: what of the last transaction is, and in which partitions of the results anything is.
    Open { undecided: Aborted, topic: String, open: Vec<i32> },
    /// All is decided, some of it by this program.
    Aborted { last: LastMarker, aborted: Aborted, is_committed: bool },
}

/// What the progress topic has of a shard.
#[derive(Default)]
struct Trace {
    last: Option<LastMarker>,
    /// By signs since the last marker.
    sign: Option<Aborted>,
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
            let mut is_hidden = true;
            for (topic, first) in &mut left {
                let stable = self.until_it_works(context, || self.stable(topic, first.keys()))?;
                first.retain(|partition, first| stable.get(partition).is_some_and(|stable| stable <= first));
                is_hidden &= first.iter().all(|(partition, first)| stable.get(partition) < Some(first));
            }
            let Some((topic, first)) = left.iter().find(|(_, first)| !first.is_empty()) else { return Ok(Ok(())) };
            let (partition, offset) = first.first_key_value().expect("it is not empty");
            let reason = format!(
                "the broker has answered a commit and not written its end: {topic}[{partition}] is not decided at offset {offset}"
            );
            if begun.elapsed() >= if is_hidden { HIDDEN_PATIENCE } else { END_PATIENCE } {
                return Ok(Err(reason));
            }
            if begun.elapsed() >= END_PATIENCE {
                context.waiting(&reason);
            }
            rest(context, pause, &reason)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What has become of a shard's last transaction. Its producer has taken its id; where it has aborted what was open in all
    /// partitions (`has_aborted`), what is open of others does not matter.
    pub fn look(&self, key: &[u8], results: &str, has_aborted: bool, context: &SinkContext) -> ProcessorResult<Found> {
        let trace = self.until_it_works(context, || self.trace(key))?;
        let last = trace.last.as_ref();
        let topic = last.map_or(results, |last| if last.reach.topic.is_empty() { results } else { &last.reach.topic });
        let open = self.until_it_works(context, || self.open_partitions(topic))?;
        let markers = self.until_it_works(context, || self.open_partitions(self.name()))?;
        let mut undecided = Aborted::default();
        if let Some(last) = last {
            for (stable, first, partition) in last
                .reach
                .first
                .iter()
                .filter_map(|(partition, first)| Some((*open.get(partition)?, *first, *partition)))
            {
                if stable < first {
                    return Ok(Found::Hidden(format!("{topic}[{partition}] is decided up to offset {stable}")));
                }
                undecided.partitions.extend((stable == first).then_some(partition));
            }
            match markers.get(&PARTITION) {
                Some(stable) if *stable < last.offset => {
                    return Ok(Found::Hidden(format!("{} is decided up to offset {stable}", self.name())));
                }
                stable => undecided.marker = stable == Some(&last.offset),
            }
        }
        if undecided != Aborted::default() || !open.is_empty() && !has_aborted {
            if let Some(sign) = trace.sign {
                undecided.join(sign);
            }
            return Ok(Found::Open { undecided, topic: topic.to_owned(), open: open.into_keys().collect() });
        }
        let (Some(last), Some(aborted)) = (trace.last, trace.sign) else { return Ok(Found::InOrder) };
        let is_committed = self.until_it_works(context, || self.is_committed(&last, &aborted))?;
        Ok(Found::Aborted { last, aborted, is_committed })
    }

    /// Whether what is not aborted of a transaction is visible: all of it is, or nothing.
    fn is_committed(&self, last: &LastMarker, aborted: &Aborted) -> Result<bool, Failed> {
        let marker = (self.name(), PARTITION, last.offset);
        let first = last.reach.first.iter().filter(|(partition, _)| !aborted.partitions.contains(partition));
        let results = first.map(|(partition, offset)| (&last.reach.topic[..], *partition, *offset));
        for (topic, partition, offset) in results.chain((!aborted.marker).then_some(marker)) {
            if self.first_committed(topic, partition, offset)? == Some(offset) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last marker with this key, and the signs after it.
    fn trace(&self, key: &[u8]) -> Result<Trace, Failed> {
        let mut trace = Trace::default();
        self.scan("read_uncommitted", Offset::Beginning, |message| {
            if message.key() != Some(key) {
                return Ok(true);
            }
            let wrong = |reason: String| self.no_marker(message.offset(), &reason);
            match message.payload() {
                Some(value) => {
                    let reach = decode(message, RECORDS).map_err(wrong)?.unwrap_or_default();
                    let last = LastMarker { offset: message.offset(), value: value.to_vec(), reach };
                    trace = Trace { last: Some(last), sign: None };
                }
                None => {
                    if let Some(aborted) = decode(message, ABORTED).map_err(wrong)? {
                        trace.sign.get_or_insert_default().join(aborted);
                    }
                }
            }
            Ok(true)
        })?;
        Ok(trace)
    }

    /// The partitions of a topic in which a transaction is open, and their last stable offsets.
    fn open_partitions(&self, topic: &str) -> Result<BTreeMap<i32, i64>, Failed> {
        // Of a shard that has sent nothing but markers.
        if topic.is_empty() {
            return Ok(BTreeMap::new());
        }
        let reader = self.uncommitted_reader()?;
        let metadata = reader.fetch_metadata(Some(topic), LOOK)?;
        let partitions: Vec<i32> =
            metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
        let stable = self.stable(topic, partitions.iter())?;
        let ends = ends_for(reader, topic, partitions.iter())?;
        Ok(stable
            .into_iter()
            .filter(|(partition, stable)| ends.get(partition).is_some_and(|end| stable < end))
            .collect())
    }

    /// The last stable offsets of some partitions; one that is missing is not there.
    fn stable<'a>(&self, topic: &str, partitions: impl Iterator<Item = &'a i32>) -> Result<BTreeMap<i32, i64>, Failed> {
        ends_for(self.committed_reader()?, topic, partitions)
    }

    /// The end of the topic for readers of committed records.
    pub(super) fn stable_end(&self) -> Result<i64, Failed> {
        let stable = self.stable(self.name(), [PARTITION].iter())?;
        stable.get(&PARTITION).copied().ok_or_else(|| Failed::Away("its end is not known".to_owned()))
    }

    /// The end of the topic, whatever becomes of its records.
    pub(super) fn end(&self) -> Result<i64, Failed> {
        let ends = ends_for(self.uncommitted_reader()?, self.name(), [PARTITION].iter())?;
        ends.get(&PARTITION).copied().ok_or_else(|| Failed::Away("its end is not known".to_owned()))
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

/// Up to where a reader may read some partitions, all asked at once; one that is missing is not there.
fn ends_for<'a, C: rdkafka::consumer::ConsumerContext>(
    reader: &BaseConsumer<C>,
    topic: &str,
    partitions: impl Iterator<Item = &'a i32>,
) -> Result<BTreeMap<i32, i64>, Failed> {
    let mut asked = TopicPartitionList::new();
    for &partition in partitions {
        asked.add_partition_offset(topic, partition, Offset::End)?;
    }
    if asked.count() == 0 {
        return Ok(BTreeMap::new());
    }
    let told = reader.offsets_for_times(asked, LOOK)?;
    let mut ends = BTreeMap::new();
    for element in told.elements() {
        match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => drop(ends.insert(element.partition(), offset)),
            // Where a topic is gone, so is what was open in it.
            (Err(error), _) if is_unknown(&error) => {}
            (Err(error), _) => return Err(error.into()),
            (Ok(()), other) => {
                return Err(Failed::Away(format!("{topic}[{}] ends at {other:?}", element.partition())));
            }
        }
    }
    Ok(ends)
}

fn is_unknown(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}
