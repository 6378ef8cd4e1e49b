//! Late records and dead letters as Kafka records: the original bytes, and what is known of them in headers.

use super::delivery::{Delivery, Outgoing, Oversize, RecordHeader};
use super::producer_config;
use crate::config::ProducerConfig;
use crate::error::ProcessorResult;
use crate::sink::side_encode::provenance;
use crate::sink::{SideRecord, SideSink, SinkContext};

/// The largest record that is tried as it is; the broker may take less.
const LARGEST: &str = "33554432";

/// Writes side records to one topic.
pub(in crate::sink) struct KafkaSide {
    delivery: Delivery,
}

impl KafkaSide {
    pub fn new(config: &ProducerConfig, job: &str, topic: &str) -> ProcessorResult<Self> {
        let mut client = producer_config(config, job);
        if !config.properties.contains_key("message.max.bytes") {
            client.set("message.max.bytes", LARGEST);
        }
        Ok(KafkaSide { delivery: Delivery::new(client, topic, Oversize::Cut)? })
    }
}

impl SideSink for KafkaSide {
    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.delivery.open(context)
    }

    fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()> {
        for side in records {
            self.delivery.push(record(side));
        }
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.delivery.settle()
    }
}

/// The original key, value and headers, followed by the headers that say where the record came from and why it is here.
fn record(side: &SideRecord) -> Outgoing {
    let mut headers: Vec<RecordHeader> = side.headers.clone();
    headers.extend(provenance(side).into_iter().map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))));
    Outgoing { key: side.key.clone(), value: Some(side.payload.clone()), headers: headers.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::side_encode::tests::late_record;

    #[test]
    fn the_original_record_is_kept_and_explained() {
        let record = record(&late_record(&[0xff, 0]));
        assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(record.value.as_deref(), Some(&[0xff, 0][..]));
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| {
                (name.as_str(), value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned()))
            })
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            headers,
            [
                ("trace", text("abc")),
                ("empty", None),
                ("reason", text("late")),
                ("topic", text("feedback-events")),
                ("partition", text("3")),
                ("offset", text("181")),
                ("timestamp", text("2023-11-14T22:13:20.123Z")),
                ("watermark", text("2023-11-14T22:13:24.334Z")),
                ("late_by_ms", text("4211")),
                ("detail", text("4.211 s behind what is accepted")),
            ]
        );
    }
}
