//! `Debug` for the parts of the configuration that may hold secrets, so that a log line cannot give them away.

use super::model::{ConsumerConfig, ProducerConfig, SharedSecret};
use super::redact;
use std::collections::BTreeMap;
use std::fmt;

/// Properties with the values of secrets hidden.
struct Properties<'a>(&'a BTreeMap<String, String>);

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str, value: &str| match redact::is_secret(name) {
            true => redact::HIDDEN.to_owned(),
            false => redact::text(value).into_owned(),
        };
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, shown(name, value)))).finish()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(redact::HIDDEN)
    }
}

impl fmt::Debug for ConsumerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `..`, so that a new field cannot be forgotten here.
        let ConsumerConfig {
            bootstrap_servers,
            group_id,
            topics,
            auto_offset_reset,
            session_timeout,
            max_poll_records,
            enable_auto_commit,
            wait_for_topics,
            properties,
        } = self;
        f.debug_struct("ConsumerConfig")
            .field("bootstrap_servers", bootstrap_servers)
            .field("group_id", group_id)
            .field("topics", topics)
            .field("auto_offset_reset", auto_offset_reset)
            .field("session_timeout", session_timeout)
            .field("max_poll_records", max_poll_records)
            .field("enable_auto_commit", enable_auto_commit)
            .field("wait_for_topics", wait_for_topics)
            .field("properties", &Properties(properties))
            .finish()
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProducerConfig { bootstrap_servers, result_topic, compression_type, acks, retries, properties } = self;
        f.debug_struct("ProducerConfig")
            .field("bootstrap_servers", bootstrap_servers)
            .field("result_topic", result_topic)
            .field("compression_type", compression_type)
            .field("acks", acks)
            .field("retries", retries)
            .field("properties", &Properties(properties))
            .finish()
    }
}
