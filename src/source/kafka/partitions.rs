//! The partitions that a worker reads, and how a record finds its own.

use super::batch::{Record, TopicHandle, TopicId};
use super::brokers::PartitionId;
use super::idleness::Idleness;
use crate::event::PartitionName;
use crate::source::PartitionSlot;

/// One partition, to the worker that reads it.
pub(super) struct Partition {
    pub id: PartitionId,
    pub name: PartitionName,
    pub slot: PartitionSlot,
    /// The next record's offset.
    pub position: i64,
    pub idleness: Idleness,
}

/// A topic, and where its partitions are in [`Partitions::list`].
struct Topic {
    handle: TopicHandle,
    /// By partition number.
    places: Vec<Option<usize>>,
}

/// All of them.
pub(super) struct Partitions {
    topics: Vec<Topic>,
    list: Vec<Partition>,
    /// The partition of the record before: records of a partition come in runs.
    last: Option<(TopicId, i32, usize)>,
}

impl Partitions {
    /// None yet, of these topics.
    pub(super) fn new(topics: Vec<TopicHandle>) -> Self {
        let topics = topics.into_iter().map(|handle| Topic { handle, places: Vec::new() }).collect();
        Self { topics, list: Vec::new(), last: None }
    }

    /// Adds one.
    pub(super) fn add(&mut self, partition: Partition) {
        let places = &mut self.topics[partition.id.topic].places;
        // A partition's number is never negative.
        let number = partition.id.partition.unsigned_abs() as usize;
        if places.len() <= number {
            places.resize(number + 1, None);
        }
        places[number] = Some(self.list.len());
        self.list.push(partition);
    }

    /// The partition of a record or event.
    #[inline]
    pub(super) fn of(&mut self, record: &Record<'_>) -> Option<&mut Partition> {
        let (topic, number) = (record.topic(), record.partition());
        let place = match self.last {
            Some((last_topic, last_number, place)) if last_topic == topic && last_number == number => place,
            _ => {
                let place = self.find(topic, number)?;
                self.last = Some((topic, number, place));
                place
            }
        };
        self.list.get_mut(place)
    }

    fn find(&self, topic: TopicId, number: i32) -> Option<usize> {
        let topic = self.topics.iter().find(|known| known.handle.id() == topic)?;
        *topic.places.get(usize::try_from(number).ok()?)?
    }

    /// By its id.
    pub(super) fn get_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        let place = (*self.topics.get(id.topic)?.places.get(usize::try_from(id.partition).ok()?)?)?;
        self.list.get_mut(place)
    }

    /// By its slot in the intake.
    pub(super) fn by_slot(&self, slot: PartitionSlot) -> Option<&Partition> {
        self.list.iter().find(|partition| partition.slot == slot)
    }

    /// By its name.
    pub(super) fn by_name(&self, name: &PartitionName) -> Option<&Partition> {
        self.list.iter().find(|partition| partition.name == *name)
    }

    /// The topic of a partition.
    pub(super) fn handle(&self, id: PartitionId) -> &TopicHandle {
        &self.topics[id.topic].handle
    }

    /// All of them, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.list.iter()
    }

    /// The same, to change.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.list.iter_mut()
    }
}
