//! Results as Kafka records: keyed by window and key, so that a compacted topic holds the latest revision of each.

use super::delivery::{Delivery, Outgoing, Oversize, RecordHeader};
use super::producer_config;
use super::transactional::Chunk;
use crate::config::ProducerConfig;
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::{ResultOp, ResultRow, ResultSink, SinkContext, SinkRecovery, encode_record_key, encode_result};
use std::sync::Arc;

/// The version of the record format, in the header `schema-version`.
const SCHEMA_VERSION: &str = "1";

/// Writes results to the producer's result topic.
pub(in crate::sink) struct KafkaResults {
    delivery: Delivery,
    headers: Arc<[RecordHeader]>,
    topic: String,
}

impl KafkaResults {
    pub fn new(config: &ProducerConfig, job: &str) -> ProcessorResult<Self> {
        let delivery = Delivery::new(producer_config(config, job), &config.result_topic, Oversize::Refuse)?;
        Ok(KafkaResults { delivery, headers: record_headers(job).into(), topic: config.result_topic.clone() })
    }
}

impl ResultSink for KafkaResults {
    fn name(&self) -> &str {
        "kafka"
    }

    /// As that of the sink that delivers exactly once: what is in that one's outbox is delivered by this one.
    fn identity(&self) -> String {
        format!("kafka {}", self.topic)
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.delivery.open(context)
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        for row in rows.iter().filter(|row| !row.is_replaced()) {
            self.delivery.push(record(row, &self.headers));
        }
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.delivery.settle()
    }

    /// A checkpoint of a run that delivered exactly once may hold results that are not visible yet; they are delivered, some
    /// of them perhaps again.
    fn recover(&mut self, recovery: SinkRecovery) -> ProcessorResult<()> {
        for (shard, prepared) in &recovery.prepared {
            for bytes in &prepared.outbox {
                let chunk = Chunk::read(bytes).map_err(|reason| {
                    ProcessorError::State(format!("results that wait for delivery (shard {shard}): {reason}"))
                })?;
                let headers: Arc<[RecordHeader]> = chunk.headers.into();
                for (key, value) in chunk.records {
                    let (key, value) = (Some(key.to_vec()), value.map(<[u8]>::to_vec));
                    self.delivery.push(Outgoing { key, value, headers: Arc::clone(&headers) });
                }
            }
        }
        self.delivery.settle()
    }
}

/// The headers of every result of `job`.
pub(super) fn record_headers(job: &str) -> [RecordHeader; 2] {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    [header("schema-version", SCHEMA_VERSION), header("job", job)]
}

/// Appends the record of a result. Returns whether it has a value: a retraction is a tombstone.
pub(super) fn encode_record(row: &ResultRow, key: &mut Vec<u8>, value: &mut Vec<u8>) -> bool {
    encode_record_key(row, key);
    match row.op {
        ResultOp::Upsert => encode_result(row, value),
        ResultOp::Retract => return false,
    }
    true
}

fn record(row: &ResultRow, headers: &Arc<[RecordHeader]>) -> Outgoing {
    let (mut key, mut value) = (Vec::with_capacity(160), Vec::with_capacity(512));
    let has_value = encode_record(row, &mut key, &mut value);
    Outgoing { key: Some(key), value: Some(value).filter(|_| has_value), headers: Arc::clone(headers) }
}
