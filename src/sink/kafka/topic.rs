//! Plain records into a topic: what `processor generate --topic` uses.

use crate::error::{ProcessorError, ProcessorResult};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Message};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one attempt to connect or to deliver the rest may take before the writer gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it waits for room in the producer's queue at a time.
const ROOM: Duration = Duration::from_millis(10);

/// Keeps the first delivery that failed.
#[derive(Clone, Default)]
struct FirstFailure(Arc<Mutex<Option<String>>>);

impl ClientContext for FirstFailure {}

impl ProducerContext for FirstFailure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| format!("{}[{}]: {error}", message.topic(), message.partition()));
        }
    }
}

/// Writes payloads without keys to the partitions it is told.
pub struct TopicWriter {
    producer: ThreadedProducer<FirstFailure>,
    failure: FirstFailure,
    topic: String,
    partitions: i32,
}

impl TopicWriter {
    /// Connects. Fails where the broker does not answer, the topic is missing, or a property is none of librdkafka's.
    pub fn new(servers: &str, topic: &str, properties: Vec<(String, String)>) -> ProcessorResult<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers).set("linger.ms", "20").set("enable.idempotence", "true");
        for (key, value) in properties {
            config.set(key, value);
        }
        let failure = FirstFailure::default();
        let producer: ThreadedProducer<FirstFailure> = config
            .create_with_context(failure.clone())
            .map_err(|error| ProcessorError::Config(format!("the Kafka producer: {error}")))?;
        let metadata = producer
            .client()
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(|error| ProcessorError::Kafka(format!("{servers} does not answer: {error}")))?;
        let partitions = metadata.topics().first().map_or(0, |found| found.partitions().len());
        if partitions == 0 {
            return Err(ProcessorError::Kafka(format!(
                "the topic `{topic}` does not exist on {servers}; create it first"
            )));
        }
        Ok(Self { producer, failure, topic: topic.to_owned(), partitions: partitions as i32 })
    }

    /// Queues one record for partition `partition` modulo the topic's partitions; waits where the queue is full.
    pub fn write(&mut self, partition: i32, payload: &[u8]) -> ProcessorResult<()> {
        let mut record =
            BaseRecord::<(), [u8]>::to(&self.topic).partition(partition.rem_euclid(self.partitions)).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return self.check(),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(ROOM);
                    self.check()?;
                }
                Err((error, _)) => {
                    return Err(ProcessorError::Kafka(format!("cannot write to {}: {error}", self.topic)));
                }
            }
        }
    }

    /// Waits until everything is delivered.
    pub fn finish(self) -> ProcessorResult<()> {
        self.producer.flush(PATIENCE).map_err(|error| {
            ProcessorError::Kafka(format!("not everything was delivered to {}: {error}", self.topic))
        })?;
        self.check()
    }

    fn check(&self) -> ProcessorResult<()> {
        match self.failure.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(ProcessorError::Kafka(format!("a record was not delivered: {failure}"))),
            None => Ok(()),
        }
    }
}
