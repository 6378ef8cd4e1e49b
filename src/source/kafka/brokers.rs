//! Questions to the brokers, each with a time-out: which partitions a topic has, what the group has committed, where partitions
//! begin and end. They block, so only the helper thread asks.

use super::assignment::Available;
use super::batch::metadata_of;
use super::commit_metadata::{self, Meaning};
use super::context::{Client, error_text};
use crate::error::ProcessorError;
use crate::event::Offset;
use crate::time::EventTime;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use std::sync::Arc;
use std::time::Duration;

/// How long one question may take before it is asked again.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Asking again later may help; the reason.
    Later(String),
    /// Waiting does not help.
    Never(ProcessorError),
}

/// What is known of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TopicState {
    /// It has this many partitions, numbered from 0.
    Partitions(i32),
    /// The brokers do not know it.
    Missing,
}

/// A partition by its topic's place in the sorted list of topics, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PartitionId {
    /// The topic's place.
    pub topic: usize,
    /// The partition's number.
    pub partition: i32,
}

/// What the group has committed.
pub(super) struct Committed {
    /// The offset of each partition that was asked about, in that order.
    pub offsets: Vec<Option<Offset>>,
    /// The latest of all partitions' [`commit_metadata`]; [`EventTime::MIN`] where there is none.
    pub closed_before: EventTime,
    /// Whether some were left out because they are of use together with a checkpoint alone.
    pub of_checkpoints: bool,
}

/// Asks the brokers.
pub(super) struct Brokers {
    pub client: Arc<Client>,
    /// Sorted, without doubles.
    pub topics: Arc<[Arc<str>]>,
    pub group: String,
    pub servers: String,
}

impl Brokers {
    /// Which partitions a topic has.
    pub(super) fn topic_state(&self, topic: usize) -> Result<TopicState, NoAnswer> {
        self.topic_state_within(topic, PATIENCE)
    }

    /// The same, with another time-out.
    pub(super) fn topic_state_within(&self, topic: usize, patience: Duration) -> Result<TopicState, NoAnswer> {
        let name: &str = &self.topics[topic];
        let metadata = self.client.fetch_metadata(Some(name), patience).map_err(|error| self.no_answer(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
            return Err(NoAnswer::Later(format!("{}: the answer about topic {name:?} leaves it out", self.servers)));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None if found.partitions().is_empty() => {
                Err(NoAnswer::Later(format!("topic {name:?} has no partitions yet")))
            }
            None => Ok(TopicState::Partitions(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(TopicState::Missing),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(NoAnswer::Never(ProcessorError::Kafka(format!(
                "{}: not allowed to read topic {name:?}; give the user DESCRIBE and READ on it",
                self.servers
            )))),
            Some(RDKafkaErrorCode::InvalidTopic) => Err(NoAnswer::Never(ProcessorError::Kafka(format!(
                "{}: {name:?} is no topic name (letters, digits, '.', '_' and '-', at most 249 of them)",
                self.servers
            )))),
            Some(code) => Err(NoAnswer::Later(format!("topic {name:?}: {code}"))),
        }
    }

    /// What the group has committed for these partitions.
    pub(super) fn committed(&self, partitions: &[PartitionId]) -> Result<Committed, NoAnswer> {
        if partitions.is_empty() {
            return Ok(Committed { offsets: Vec::new(), closed_before: EventTime::MIN, of_checkpoints: false });
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for id in partitions {
            list.add_partition(&self.topics[id.topic], id.partition);
        }
        let list = self.client.committed_offsets(list, PATIENCE).map_err(|error| self.no_answer(&error))?;
        let offsets = Vec::with_capacity(partitions.len());
        let mut committed = Committed { offsets, closed_before: EventTime::MIN, of_checkpoints: false };
        for id in partitions {
            let offset = self.offset_in(&list, *id)?;
            let metadata = metadata_of(&list, &self.topics[id.topic], id.partition);
            committed.offsets.push(match commit_metadata::parse(&metadata.unwrap_or_default()) {
                Meaning::Needed(closed_before) => {
                    committed.closed_before = committed.closed_before.max(closed_before);
                    offset
                }
                Meaning::Checkpoint => {
                    committed.of_checkpoints = true;
                    None
                }
            });
        }
        Ok(committed)
    }

    /// The records that each of these partitions has.
    pub(super) fn available(&self, partitions: &[PartitionId]) -> Result<Vec<Available>, NoAnswer> {
        let low = self.limits(partitions, rdkafka::Offset::Beginning)?;
        let high = self.limits(partitions, rdkafka::Offset::End)?;
        partitions
            .iter()
            .zip(low.into_iter().zip(high))
            .map(|(id, (low, high))| match (low, high) {
                (Some(low), Some(high)) => Ok(Available { low, high: high.max(low) }),
                _ => Err(NoAnswer::Later(format!(
                    "{}[{}]: no answer about its offsets",
                    self.topics[id.topic], id.partition
                ))),
            })
            .collect()
    }

    /// The end of each of these partitions, as far as there is an answer.
    pub(super) fn ends(&self, partitions: &[PartitionId]) -> Result<Vec<Option<Offset>>, NoAnswer> {
        self.limits(partitions, rdkafka::Offset::End)
    }

    /// Asks each leader once, for all of its partitions.
    fn limits(&self, partitions: &[PartitionId], which: rdkafka::Offset) -> Result<Vec<Option<Offset>>, NoAnswer> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let list = self.list(partitions.iter().map(|id| (*id, which))).map_err(|error| self.no_answer(&error))?;
        // The request takes times, and the protocol's names for "the oldest" and "the next" are the times -2 and -1, which is
        // how librdkafka writes these two offsets as well.
        let list = self.client.offsets_for_times(list, PATIENCE).map_err(|error| self.no_answer(&error))?;
        partitions.iter().map(|id| Ok(self.offset_in(&list, *id).ok().flatten())).collect()
    }

    fn offset_in(&self, list: &TopicPartitionList, id: PartitionId) -> Result<Option<Offset>, NoAnswer> {
        let Some(element) = list.find_partition(&self.topics[id.topic], id.partition) else { return Ok(None) };
        element.error().map_err(|error| self.no_answer(&error))?;
        Ok(match element.offset() {
            rdkafka::Offset::Offset(offset) => Some(Offset(offset)),
            _ => None,
        })
    }

    /// librdkafka's list of partitions with an offset each.
    pub(super) fn list(
        &self,
        partitions: impl Iterator<Item = (PartitionId, rdkafka::Offset)>,
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (id, offset) in partitions {
            list.add_partition_offset(&self.topics[id.topic], id.partition, offset)?;
        }
        Ok(list)
    }

    fn no_answer(&self, error: &KafkaError) -> NoAnswer {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => NoAnswer::Never(ProcessorError::Kafka(format!(
                "{}: not allowed to use group {:?}; give the user READ on it",
                self.servers, self.group
            ))),
            Some(RDKafkaErrorCode::InvalidGroupId) => NoAnswer::Never(ProcessorError::Kafka(format!(
                "{}: {:?} is no group id; set kafka.consumer.group_id",
                self.servers, self.group
            ))),
            _ => NoAnswer::Later(format!("{}: {}", self.servers, error_text(error))),
        }
    }
}
