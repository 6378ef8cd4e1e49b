//! `kafka`: the connections for reading and for writing.

use super::{millis, non_zero};
use crate::config::librdkafka;
use crate::config::model::{ConsumerConfig, Delivery, OffsetReset, ProducerConfig, SourceConfig};
use crate::config::raw::{Node, Origin};
use crate::config::reader::{Reader, Setting};
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use std::collections::BTreeMap;

const DEFAULT_SERVERS: &str = "localhost:9092";
const DEFAULT_TOPIC: &str = "feedback-events";

const RESETS: [(&str, OffsetReset); 2] = [("earliest", OffsetReset::Earliest), ("latest", OffsetReset::Latest)];
const CODECS: [(&str, &str); 5] =
    [("none", "none"), ("gzip", "gzip"), ("snappy", "snappy"), ("lz4", "lz4"), ("zstd", "zstd")];
const ACKS: [(&str, &str); 4] = [("all", "all"), ("1", "1"), ("0", "0"), ("-1", "all")];

/// Properties that the program sets itself, with what sets them; for both connections, then for one.
const OWNED: [(&str, &str); 3] =
    [("bootstrap.servers", "bootstrap_servers"), ("metadata.broker.list", "bootstrap_servers"), ("client.id", "job")];
const OWNED_BY_CONSUMER: [(&str, &str); 13] = [
    ("group.id", "group_id"),
    ("auto.offset.reset", "auto_offset_reset"),
    ("session.timeout.ms", "session_timeout_ms"),
    ("enable.auto.commit", "enable_auto_commit"),
    ("auto.commit.enable", "enable_auto_commit"),
    ("auto.commit.interval.ms", "the program itself"),
    ("enable.auto.offset.store", "the program itself"),
    ("enable.partition.eof", "the program itself"),
    ("partition.assignment.strategy", "the program itself"),
    ("group.instance.id", "the program itself"),
    ("group.protocol", "the program itself"),
    ("log.connection.close", "the program itself"),
    ("log.queue", "the program itself"),
];
const OWNED_BY_PRODUCER: [(&str, &str); 7] = [
    ("compression.type", "compression_type"),
    ("compression.codec", "compression_type"),
    ("acks", "acks"),
    ("request.required.acks", "acks"),
    ("retries", "retries"),
    ("message.send.max.retries", "retries"),
    ("transactional.id", "delivery: exactly_once"),
];

/// The sections below `kafka`.
pub(super) struct Kafka<'t> {
    consumer: Section<'t>,
    producer: Section<'t>,
}

/// What asks for a producer: the place and what it is.
pub(super) type Need = (Origin, String);

impl<'t> Kafka<'t> {
    /// Finds the sections.
    pub(super) fn open(reader: &mut Reader, root: &Section<'t>) -> Self {
        let section = reader.section(root, "kafka");
        Kafka { consumer: reader.section(&section, "consumer"), producer: reader.section(&section, "producer") }
    }

    /// Whether `kafka.producer` is there.
    pub(super) fn producer_written(&self) -> bool {
        self.producer.written()
    }

    /// Reads `kafka.consumer`, where it is there or needed.
    pub(super) fn consumer(&self, reader: &mut Reader, source: &SourceConfig, job: &str) -> Option<ConsumerConfig> {
        let section = &self.consumer;
        if !section.written() && *source != SourceConfig::Kafka {
            return None;
        }
        let bootstrap_servers = servers(reader, section, DEFAULT_SERVERS);
        let group_id = reader.text(section, "group_id", job.to_owned());
        let default = vec![DEFAULT_TOPIC.to_owned()];
        let topics = reader.list(section, "topics", default, true, topic, |topic| values::quote(topic));
        if topics.sound && topics.value.is_empty() {
            reader.error(&topics.origin, &topics.path, Problem::expected("an empty list", "at least one topic"));
        }
        let auto_offset_reset =
            reader.word(section, "auto_offset_reset", "offset to begin at", OffsetReset::Earliest, &RESETS);
        let session_timeout = reader.duration(section, "session_timeout", Unit::Millis, 30_000, 1);
        if session_timeout.value > 3_600_000 {
            let found = values::in_unit(session_timeout.value, Unit::Millis);
            reader.error(
                &session_timeout.origin,
                &session_timeout.path,
                Problem::expected(found, "at most 3600000 (1h)"),
            );
        }
        let max_poll_records = reader.whole(section, "max_poll_records", 2000, 1, 1_000_000);
        let enable_auto_commit = reader.flag(section, "enable_auto_commit", true);
        let wait_for_topics = reader.flag(section, "wait_for_topics", false);
        let properties = properties(reader, section, &OWNED_BY_CONSUMER);
        Some(ConsumerConfig {
            bootstrap_servers,
            group_id: group_id.value,
            topics: topics.value,
            auto_offset_reset: auto_offset_reset.value,
            session_timeout: millis(session_timeout.value),
            max_poll_records: non_zero(max_poll_records.value),
            enable_auto_commit: enable_auto_commit.value,
            wait_for_topics: wait_for_topics.value,
            properties,
        })
    }

    /// Where dead letters go when nothing is said, if Kafka is known at all.
    pub(super) fn dead_letter_topic(&self, consumer: Option<&ConsumerConfig>, job: &str) -> Option<String> {
        match consumer.and_then(|consumer| consumer.topics.first()) {
            Some(topic) => Some(format!("{topic}.dead-letter")),
            None => self.producer.written().then(|| format!("{job}.dead-letter")),
        }
    }

    /// Reads `kafka.producer`, where it is there or needed; gives it where it is needed.
    pub(super) fn producer(
        &self,
        reader: &mut Reader,
        need: Option<Need>,
        consumer: Option<&ConsumerConfig>,
        read_topics: &[String],
        job: &str,
        delivery: &Setting<Delivery>,
    ) -> Option<ProducerConfig> {
        let section = &self.producer;
        if !section.written() && need.is_none() {
            return None;
        }
        if let (Some((origin, path)), None, None) = (&need, consumer, section.node("bootstrap_servers")) {
            let found = "needs Kafka, while no brokers are named";
            reader.error(origin, path, Problem::new(found, "write kafka.producer.bootstrap_servers too"));
        }
        let default = consumer.map_or(DEFAULT_SERVERS, |consumer| &consumer.bootstrap_servers);
        let bootstrap_servers = servers(reader, section, default);
        let result_topic =
            reader.setting(section, "result_topic", format!("{job}-results"), topic, |topic| values::quote(topic));
        if read_topics.contains(&result_topic.value) {
            let found = format!(
                "{:?} is one of kafka.consumer.topics, so that results would be read as events",
                result_topic.value
            );
            reader.error(&result_topic.origin, &result_topic.path, Problem::new(found, "name a topic of its own"));
        }
        let compression_type = reader.word(section, "compression_type", "codec", "lz4", &CODECS);
        let acks = reader.word(section, "acks", "number of acknowledgements", "all", &ACKS);
        if delivery.value == Delivery::ExactlyOnce && acks.value != "all" {
            let found = format!("{}, while delivery is exactly_once", acks.value);
            reader.error(&acks.origin, &acks.path, Problem::expected(found, "all"));
        }
        let retries =
            reader.optional(section, "retries", None, |node| values::whole(node, 0..=i32::MAX as u64), u64::to_string);
        let properties = properties(reader, section, &OWNED_BY_PRODUCER);
        if acks.value != "all" && properties.get("enable.idempotence").is_some_and(|value| value == "true") {
            let found = format!("{}, while properties have enable.idempotence: true", acks.value);
            reader.error(&acks.origin, &acks.path, Problem::expected(found, "all"));
        }
        need.map(|_| ProducerConfig {
            bootstrap_servers,
            result_topic: result_topic.value,
            compression_type: compression_type.value.to_owned(),
            acks: acks.value.to_owned(),
            retries: retries.value.and_then(|retries| u32::try_from(retries).ok()),
            properties,
        })
    }
}

fn servers(reader: &mut Reader, section: &Section<'_>, default: &str) -> String {
    let default = default.split(',').map(str::to_owned).collect();
    let servers = reader.list(section, "bootstrap_servers", default, true, server, |server| values::quote(server));
    if servers.sound && servers.value.is_empty() {
        reader.error(&servers.origin, &servers.path, Problem::expected("an empty list", "at least one host:port"));
    }
    servers.value.join(",")
}

/// `host`, `host:port`, `[v6]:port`, each with or without `PROTOCOL://` before it.
fn server(node: &Node) -> Result<String, Problem> {
    const RIGHT: &str = "host:port, such as kafka-1.example.org:9092";
    let text = values::text(node).map_err(|problem| Problem::expected(problem.found, RIGHT))?;
    let address = text.split_once("://").map_or(text.as_str(), |(_, address)| address);
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() => match rest.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if rest.is_empty() => ("v6", None),
            None => ("", None),
        },
        Some(_) => ("", None),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let host_ok = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c));
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    match host_ok && port_ok {
        true => Ok(text),
        false => Err(Problem::expected(node, RIGHT)),
    }
}

/// Whether Kafka takes it as the name of a topic.
pub(super) fn is_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A topic.
pub(super) fn topic(node: &Node) -> Result<String, Problem> {
    let name = values::text(node).map_err(|problem| Problem::expected(problem.found, "the name of a topic"))?;
    match is_name(&name) {
        true => Ok(name),
        false => Err(Problem::expected(node, "the name of a topic: 1 to 249 letters, digits, '.', '_' or '-'")),
    }
}

fn properties(reader: &mut Reader, section: &Section<'_>, owned: &[(&str, &str)]) -> BTreeMap<String, String> {
    let map = reader.map(section, "properties");
    let mut properties = BTreeMap::new();
    for (key, node) in map.entries {
        let path = map.path_of(&key.name);
        if let Some((_, owner)) = OWNED.iter().chain(owned).find(|(name, _)| *name == key.name) {
            let by_key =
                section.node(owner).is_some() || crate::config::schema::child(&section.path(), owner).is_some();
            let owner = if by_key { section.path_of(owner) } else { (*owner).to_owned() };
            let problem = Problem::new(format_args!("a property that {owner} sets"), "leave it out here");
            reader.error(&key.origin, &path, problem);
            continue;
        }
        let value = match values::any_scalar(node) {
            Ok(value) => librdkafka::check(&key.name, &value).map(|()| value),
            Err(problem) => Err(problem),
        };
        match value {
            Ok(value) => {
                reader.show(&map, &key.name, values::quote(&value), &key.origin);
                properties.insert(key.name.clone(), value);
            }
            Err(problem) => reader.error(&key.origin, &path, problem),
        }
    }
    properties
}
