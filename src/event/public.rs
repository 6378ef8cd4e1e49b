//! An event together with where and when it was received: what user code that handles single events works with.

use super::{GroupingKey, Offset, PartitionName};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An event with its time, its group and its origin.
///
/// ```
/// use chrono::Utc;
/// use llm_optimizer_processor::GroupingKey;
/// use llm_optimizer_processor::event::{EventTimestamp, ProcessorEvent};
///
/// let key = GroupingKey::from_fields(&[("model", "claude-3-opus"), ("region", "us-west-2")]);
/// let event = ProcessorEvent { key: Some(key), ..ProcessorEvent::new(102.2, EventTimestamp::EventTime(Utc::now())) };
/// assert_eq!(event.map(|millis| millis * 2.0).data, 204.4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessorEvent<T> {
    /// The original event.
    pub data: T,
    /// When it happened, and by whose clock.
    pub timestamp: EventTimestamp,
    /// When this process received it.
    pub processing_time: DateTime<Utc>,
    /// The group it belongs to.
    pub key: Option<GroupingKey>,
    /// Where it came from.
    pub metadata: EventMetadata,
}

impl<T> ProcessorEvent<T> {
    /// An event received now, without key and origin.
    pub fn new(data: T, timestamp: EventTimestamp) -> Self {
        Self { data, timestamp, processing_time: Utc::now(), key: None, metadata: EventMetadata::default() }
    }

    /// The same event in this group.
    pub fn with_key(self, key: GroupingKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same event with this origin.
    pub fn with_metadata(self, metadata: EventMetadata) -> Self {
        Self { metadata, ..self }
    }

    /// The same event with other data.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> ProcessorEvent<U> {
        ProcessorEvent {
            data: change(self.data),
            timestamp: self.timestamp,
            processing_time: self.processing_time,
            key: self.key,
            metadata: self.metadata,
        }
    }
}

/// A time, and by whose clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventTimestamp {
    /// The event's own: when it happened.
    EventTime(DateTime<Utc>),
    /// This process's: when it was handled.
    ProcessingTime(DateTime<Utc>),
    /// The broker's: when it was stored there.
    IngestionTime(DateTime<Utc>),
}

impl EventTimestamp {
    /// This process's clock, now.
    pub fn now() -> Self {
        EventTimestamp::ProcessingTime(Utc::now())
    }

    /// The time, by whosever clock.
    pub fn as_datetime(&self) -> DateTime<Utc> {
        match self {
            Self::EventTime(time) | Self::ProcessingTime(time) | Self::IngestionTime(time) => *time,
        }
    }
}

/// Where an event came from. Members that the source has not are `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMetadata {
    /// The topic, or the path of the file.
    pub topic: Option<String>,
    /// The number of the partition.
    pub partition: Option<i32>,
    /// The offset there; in a file the byte offset of the line.
    pub offset: Option<Offset>,
    /// The record's headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl EventMetadata {
    /// Of a record at this place.
    pub fn at(partition: &PartitionName, offset: Offset) -> Self {
        Self {
            topic: Some(partition.topic.to_string()),
            partition: Some(partition.partition),
            offset: Some(offset),
            headers: Vec::new(),
        }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(header, _)| header == name).and_then(|(_, value)| value.as_deref())
    }
}
