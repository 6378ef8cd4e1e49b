//! From the job's configuration to librdkafka's: a pure function.
//!
//! # Memory
//!
//! `buffer_size` bounds the rows of a worker that are in flight; what librdkafka reads ahead is bounded by it too (formulas in
//! [`FetchLimits`]). One more response per broker may be under way when a limit is reached, so a worker's client holds at most
//! `queued_bytes + brokers * fetch_bytes` of payload (before decompression for the part under way), and a few hundred bytes of
//! librdkafka's own for each record.

use crate::config::{ConsumerConfig, OffsetReset};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::WorkerIndex;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use std::num::NonZeroUsize;

/// Properties that the reader needs as they are, with what to use instead.
const OWNED: [(&str, &str); 14] = [
    ("bootstrap.servers", "use kafka.consumer.bootstrap_servers"),
    ("metadata.broker.list", "use kafka.consumer.bootstrap_servers"),
    ("group.id", "use kafka.consumer.group_id"),
    ("auto.offset.reset", "use kafka.consumer.auto_offset_reset"),
    ("session.timeout.ms", "use kafka.consumer.session_timeout_ms"),
    (
        "enable.auto.commit",
        "use kafka.consumer.enable_auto_commit; offsets are committed after their results are acknowledged",
    ),
    (
        "auto.commit.enable",
        "use kafka.consumer.enable_auto_commit; offsets are committed after their results are acknowledged",
    ),
    ("auto.commit.interval.ms", "offsets are committed as their results are acknowledged, about once a second"),
    ("enable.auto.offset.store", "offsets are committed after their results are acknowledged"),
    ("enable.partition.eof", "the reader needs it to tell an idle partition from a slow broker"),
    ("group.instance.id", "partitions are assigned by worker, without group membership"),
    ("group.protocol", "partitions are assigned by worker, without group membership"),
    ("log.connection.close", "the reader needs it to tell an idle partition from a broken connection"),
    ("log.queue", "the reader needs it to pass librdkafka's log lines on"),
];

/// Whether `kafka.consumer.properties` may not set this property, and what to do instead.
fn refused_property(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|(owned, _)| *owned == name).map(|(_, instead)| *instead)
}

/// How much librdkafka reads ahead for one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchLimits {
    /// Records read ahead: twice `buffer_size`, so that one half is refilled while the other is worked on; 1,000 to 1,000,000.
    pub queued_records: usize,
    /// Bytes read ahead: 1 KiB a record; 4 MiB to 64 MiB.
    pub queued_bytes: usize,
    /// Bytes of one response: half of `queued_bytes`.
    pub fetch_bytes: usize,
    /// Bytes of one partition in a response: a quarter of `fetch_bytes`, 1 MiB at most. A larger record still comes, alone.
    pub partition_bytes: usize,
}

const MIB: usize = 1 << 20;

impl FetchLimits {
    pub(super) fn of(buffer_size: NonZeroUsize) -> Self {
        let queued_records = buffer_size.get().saturating_mul(2).clamp(1_000, 1_000_000);
        let queued_bytes = (queued_records * 1024).clamp(4 * MIB, 64 * MIB);
        let fetch_bytes = queued_bytes / 2;
        Self { queued_records, queued_bytes, fetch_bytes, partition_bytes: (fetch_bytes / 4).min(MIB) }
    }
}

/// The client of one worker. `buffer_size` is in rows, as in the configuration.
///
/// The error is [`ProcessorError::Config`]: a property that the reader owns, or one that librdkafka does not take.
pub fn consumer_config(
    consumer: &ConsumerConfig,
    job: &str,
    worker: WorkerIndex,
    buffer_size: NonZeroUsize,
) -> ProcessorResult<ClientConfig> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &consumer.bootstrap_servers)
        .set("client.id", format!("{job}-reader-{worker}"))
        .set("group.id", &consumer.group_id)
        // What became of records that are gone (deleted by retention under a slow reader): librdkafka applies it and warns.
        .set("auto.offset.reset", reset_word(consumer.auto_offset_reset))
        .set("session.timeout.ms", consumer.session_timeout.as_millis().to_string())
        // librdkafka wants it no shorter than the session's.
        .set("max.poll.interval.ms", consumer.session_timeout.as_millis().max(300_000).to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // A flipped bit must be an error and not a number in a result; CRC-32C in hardware costs little.
        .set("check.crcs", "true")
        // Small requests are not to wait for each other's acknowledgements.
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        // Connections that break are news: what was known of a partition's end is void then.
        .set("log.connection.close", "true")
        .set("topic.metadata.refresh.interval.ms", "10000");
    set_limits(&mut client, consumer, FetchLimits::of(buffer_size));
    for (name, value) in &consumer.properties {
        if let Some(instead) = refused_property(name) {
            return Err(ProcessorError::Config(format!(
                "kafka.consumer.properties: {name} cannot be set there: {instead}"
            )));
        }
        client.set(name, value);
    }
    let debug = consumer.properties.contains_key("debug");
    client.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    client
        .create_native_config()
        .map_err(|error| ProcessorError::Config(format!("kafka.consumer.properties: {}", config_message(&error))))?;
    Ok(client)
}

fn set_limits(client: &mut ClientConfig, consumer: &ConsumerConfig, limits: FetchLimits) {
    // librdkafka refuses a fetch.max.bytes below message.max.bytes.
    let largest_message =
        consumer.properties.get("message.max.bytes").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    client
        .set("queued.min.messages", limits.queued_records.to_string())
        .set("queued.max.messages.kbytes", (limits.queued_bytes / 1024).to_string())
        .set("fetch.max.bytes", limits.fetch_bytes.max(largest_message).to_string())
        .set("fetch.message.max.bytes", limits.partition_bytes.to_string())
        // When the queue is full, how soon to look again; librdkafka's 1 s would starve a fast worker with a small queue.
        .set("fetch.queue.backoff.ms", "10");
}

fn reset_word(reset: OffsetReset) -> &'static str {
    match reset {
        OffsetReset::Earliest => "earliest",
        OffsetReset::Latest => "latest",
    }
}

/// librdkafka's description, which names the property; without the value that rdkafka's own text adds.
fn config_message(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _) if description.contains(name.as_str()) => description.clone(),
        KafkaError::ClientConfig(_, description, name, _) => format!("{name}: {description}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn consumer(properties: &[(&str, &str)]) -> ConsumerConfig {
        ConsumerConfig {
            bootstrap_servers: "localhost:9092".into(),
            group_id: "readers".into(),
            topics: vec!["feedback-events".into()],
            auto_offset_reset: OffsetReset::Latest,
            session_timeout: Duration::from_secs(30),
            max_poll_records: NonZeroUsize::new(500).unwrap(),
            enable_auto_commit: true,
            wait_for_topics: false,
            properties: properties.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<BTreeMap<_, _>>(),
        }
    }

    fn config(properties: &[(&str, &str)], buffer_size: usize) -> ProcessorResult<ClientConfig> {
        consumer_config(&consumer(properties), "feedback", WorkerIndex(3), NonZeroUsize::new(buffer_size).unwrap())
    }

    #[test]
    fn the_job_s_keys_arrive() {
        let config = config(&[], 10_000).unwrap();
        for (name, value) in [
            ("bootstrap.servers", "localhost:9092"),
            ("group.id", "readers"),
            ("client.id", "feedback-reader-3"),
            ("auto.offset.reset", "latest"),
            ("session.timeout.ms", "30000"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn the_buffer_bounds_what_is_read_ahead() {
        let limits = |size| FetchLimits::of(NonZeroUsize::new(size).unwrap());
        assert_eq!(
            limits(10_000),
            FetchLimits {
                queued_records: 20_000,
                queued_bytes: 20_480_000,
                fetch_bytes: 10_240_000,
                partition_bytes: MIB
            }
        );
        assert_eq!(limits(1).queued_records, 1_000);
        assert_eq!(limits(1).queued_bytes, 4 * MIB);
        assert_eq!(limits(1).partition_bytes, MIB / 2);
        assert_eq!(limits(usize::MAX).queued_records, 1_000_000);
        assert_eq!(limits(usize::MAX).queued_bytes, 64 * MIB);
    }

    #[test]
    fn librdkafka_takes_every_size_of_buffer() {
        for buffer_size in [1, 1_000, 10_000, 50_000, usize::MAX] {
            let consumer = config(&[], buffer_size).unwrap().create::<rdkafka::consumer::BaseConsumer>();
            assert!(consumer.is_ok(), "{buffer_size}: {:?}", consumer.err());
        }
    }

    #[test]
    fn properties_win_where_they_may() {
        let config = config(&[("isolation.level", "read_uncommitted"), ("message.max.bytes", "40000000")], 10).unwrap();
        assert_eq!(config.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(config.get("fetch.max.bytes"), Some("40000000"));
        assert!(config.create::<rdkafka::consumer::BaseConsumer>().is_ok());
    }

    #[test]
    fn properties_that_the_reader_owns_are_refused() {
        for (name, instead) in OWNED {
            let error = config(&[(name, "1")], 10).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, ProcessorError::Config(_)), "{text}");
            assert!(text.contains(name) && text.contains(instead), "{text}");
        }
    }

    #[test]
    fn what_librdkafka_does_not_know_is_said_by_name() {
        let error = config(&[("fetch.mix.bytes", "1")], 10).unwrap_err().to_string();
        assert_eq!(error, "kafka.consumer.properties: No such configuration property: \"fetch.mix.bytes\"");
        let error = config(&[("fetch.min.bytes", "many")], 10).unwrap_err().to_string();
        assert!(error.contains("fetch.min.bytes"), "{error}");
        let error = config(&[("sasl.pasword", "hidden")], 10).unwrap_err().to_string();
        assert!(!error.contains("hidden"), "{error}");
    }

    #[test]
    fn every_security_and_codec_feature_is_built_in() {
        let features = ClientConfig::new().create_native_config().unwrap().get("builtin.features").unwrap();
        for feature in ["gzip", "snappy", "lz4", "zstd", "ssl", "sasl_scram", "sasl_plain", "sasl_oauthbearer"] {
            assert!(features.split(',').any(|built_in| built_in == feature), "{feature} is not among {features}");
        }
    }
}
