//! Configurations that are made by programs, with the defaults of those that are read.

use super::model::{ConsumerConfig, OffsetReset, ProcessorConfig, ProducerConfig};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

/// What a pipeline of the library begins with: nothing but defaults, and no pages.
const OF_THE_LIBRARY: &str = "processor: {source: {type: stdin}, sinks: [{type: stdout}], metrics: {enabled: false}}";

impl ProcessorConfig {
    /// The defaults of a configuration file, without pages; whoever takes it says where events come from and where results go.
    pub(crate) fn of_the_library() -> Self {
        super::load_str("the library's defaults", OF_THE_LIBRARY, std::iter::empty())
            .expect("a constant text that a test reads")
            .config
    }
}

impl ConsumerConfig {
    /// How to read these topics from the brokers `host:port,...`, with the defaults of a configuration file: group
    /// `processor`, from the oldest record where nothing was committed. Its fields may be changed.
    ///
    /// ```
    /// use llm_optimizer_processor::ConsumerConfig;
    /// let config = ConsumerConfig { group_id: "mine".into(), ..ConsumerConfig::new("localhost:9092", ["feedback-events"]) };
    /// assert_eq!(config.topics, ["feedback-events"]);
    /// ```
    pub fn new<T: Into<String>>(bootstrap_servers: impl Into<String>, topics: impl IntoIterator<Item = T>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            group_id: "processor".to_owned(),
            topics: topics.into_iter().map(Into::into).collect(),
            auto_offset_reset: OffsetReset::Earliest,
            session_timeout: Duration::from_secs(30),
            max_poll_records: NonZeroUsize::new(2000).expect("2000 is not 0"),
            enable_auto_commit: true,
            wait_for_topics: false,
            properties: BTreeMap::new(),
        }
    }
}

impl ProducerConfig {
    /// How to write to a topic on the brokers `host:port,...`, with the defaults of a configuration file: lz4, acknowledged by
    /// all replicas. Its fields may be changed.
    ///
    /// ```
    /// use llm_optimizer_processor::ProducerConfig;
    /// let config = ProducerConfig { compression_type: "zstd".into(), ..ProducerConfig::new("localhost:9092", "results") };
    /// assert_eq!(config.result_topic, "results");
    /// ```
    pub fn new(bootstrap_servers: impl Into<String>, result_topic: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            result_topic: result_topic.into(),
            compression_type: "lz4".to_owned(),
            acks: "all".to_owned(),
            retries: None,
            properties: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_defaults_of_configuration_files() {
        let text = "processor: {kafka: {consumer: {bootstrap_servers: 'k:9092', topics: [a, b]}, \
                    producer: {bootstrap_servers: 'k:9092', result_topic: results}}}";
        let read = super::super::load_str("test", text, std::iter::empty()).unwrap().config;
        assert_eq!(read.consumer, Some(ConsumerConfig::new("k:9092", ["a", "b"])));
        assert_eq!(read.producer, Some(ProducerConfig::new("k:9092", "results")));
    }

    #[test]
    fn the_defaults_of_the_library_are_a_configuration() {
        let config = ProcessorConfig::of_the_library();
        assert!(!config.metrics.enabled && config.late_sink.is_none());
    }
}
