//! Records as they are produced and read.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use std::time::Duration;

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub struct TestRecord {
    /// The partition; the producer chooses where there is none.
    pub partition: Option<i32>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; the producer's clock where there is none.
    pub timestamp: Option<i64>,
}

impl TestRecord {
    /// A record of a value alone.
    pub fn to(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        Self { partition: Some(partition), value: Some(value.into()), ..Self::default() }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Where it was.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970, if it has one.
    pub timestamp: Option<i64>,
}

/// Hands a record to a producer, waiting for room.
pub(crate) fn send<C: ProducerContext<DeliveryOpaque = ()>>(
    producer: &BaseProducer<C>,
    topic: &str,
    record: &TestRecord,
) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
    message.partition = record.partition;
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.timestamp = record.timestamp;
    loop {
        match producer.send(message) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                message = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("topic {topic}: {error}"),
        }
    }
}

/// Copies a record that was read.
pub(crate) fn read_record(message: &BorrowedMessage<'_>) -> ReadRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    ReadRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp: message.timestamp().to_millis(),
    }
}
