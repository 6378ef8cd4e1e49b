//! Results as Kafka records: keyed by window and key, so that a compacted topic holds the latest revision of each.

use super::delivery::{Delivery, Outgoing, Oversize, RecordHeader};
use super::producer_config;
use crate::config::ProducerConfig;
use crate::error::ProcessorResult;
use crate::sink::{ResultOp, ResultRow, ResultSink, SinkContext, encode_record_key, encode_result};
use std::sync::Arc;

/// The version of the record format, in the header `schema-version`.
const SCHEMA_VERSION: &str = "1";

/// Writes results to the producer's result topic.
pub(in crate::sink) struct KafkaResults {
    delivery: Delivery,
    headers: Arc<[RecordHeader]>,
}

impl KafkaResults {
    pub fn new(config: &ProducerConfig, job: &str) -> ProcessorResult<Self> {
        let delivery = Delivery::new(producer_config(config, job), &config.result_topic, Oversize::Refuse)?;
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        Ok(KafkaResults { delivery, headers: [header("schema-version", SCHEMA_VERSION), header("job", job)].into() })
    }
}

impl ResultSink for KafkaResults {
    fn name(&self) -> &str {
        "kafka"
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.delivery.open(context)
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        for row in rows {
            self.delivery.push(record(row, &self.headers));
        }
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.delivery.settle()
    }
}

/// The record of a result; a retraction is a tombstone.
fn record(row: &ResultRow, headers: &Arc<[RecordHeader]>) -> Outgoing {
    let mut key = Vec::with_capacity(160);
    encode_record_key(row, &mut key);
    let value = match row.op {
        ResultOp::Upsert => {
            let mut value = Vec::with_capacity(512);
            encode_result(row, &mut value);
            Some(value)
        }
        ResultOp::Retract => None,
    };
    Outgoing { key: Some(key), value, headers: Arc::clone(headers) }
}
