//! The producer's librdkafka properties.

use crate::config::ProducerConfig;
use rdkafka::ClientConfig;
use std::collections::BTreeMap;

/// Properties that librdkafka knows by two names, and the name that is used here; without this the order in which both arrive
/// would decide.
const ALIASES: [(&str, &str); 7] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("request.required.acks", "acks"),
    ("compression.codec", "compression.type"),
    ("message.send.max.retries", "retries"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
];

/// The librdkafka properties of a producer of `job`: the configured ones, and under them what makes delivery lossless.
///
/// - `message.timeout.ms` is 0, which is no limit: a broker that is away must not lose results.
/// - `enable.idempotence` is on where `acks` is `all` and retries are allowed (it needs both): no duplicates and no reordering
///   when a connection breaks. Elsewhere one request at a time keeps the order.
/// - `linger.ms` is 5, the queue is bounded to 64 MiB.
///
/// [`ProducerConfig::properties`] come last and win.
pub fn producer_config(config: &ProducerConfig, job: &str) -> ClientConfig {
    let mut properties: BTreeMap<&str, String> = BTreeMap::from([
        ("bootstrap.servers", config.bootstrap_servers.clone()),
        ("client.id", format!("{job}-producer")),
        ("acks", config.acks.clone()),
        ("compression.type", config.compression_type.clone()),
        ("linger.ms", "5".to_owned()),
        ("message.timeout.ms", "0".to_owned()),
        ("queue.buffering.max.kbytes", "65536".to_owned()),
    ]);
    properties.extend(config.retries.map(|retries| ("retries", retries.to_string())));
    for (name, value) in &config.properties {
        let known = ALIASES.iter().find(|(alias, _)| alias == name).map_or(name.as_str(), |(_, known)| known);
        properties.insert(known, value.clone());
    }
    let acks_all = properties.get("acks").is_some_and(|acks| acks == "all" || acks == "-1");
    let retries = properties.get("retries").is_none_or(|retries| retries != "0");
    let idempotence =
        properties.entry("enable.idempotence").or_insert_with(|| (acks_all && retries).to_string()) == "true";
    if !idempotence {
        properties.entry("max.in.flight.requests.per.connection").or_insert_with(|| "1".to_owned());
    }
    let mut client = ClientConfig::new();
    for (name, value) in properties {
        client.set(name, value);
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn configured(acks: &str, properties: &[(&str, &str)]) -> ProducerConfig {
        ProducerConfig {
            bootstrap_servers: "kafka:9092".into(),
            result_topic: "results".into(),
            compression_type: "zstd".into(),
            acks: acks.into(),
            retries: None,
            properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    fn get(config: &ProducerConfig, name: &str) -> Option<String> {
        producer_config(config, "feedback").get(name).map(str::to_owned)
    }

    #[test]
    fn nothing_is_lost_duplicated_or_reordered_by_default() {
        let config = configured("all", &[]);
        for (name, value) in [
            ("bootstrap.servers", "kafka:9092"),
            ("client.id", "feedback-producer"),
            ("acks", "all"),
            ("compression.type", "zstd"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            ("linger.ms", "5"),
        ] {
            assert_eq!(get(&config, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(get(&config, "retries"), None);
        assert_eq!(get(&config, "max.in.flight.requests.per.connection"), None);
    }

    #[test]
    fn without_idempotence_one_request_at_a_time_keeps_the_order() {
        for acks in ["1", "0"] {
            let config = configured(acks, &[]);
            assert_eq!(get(&config, "enable.idempotence").as_deref(), Some("false"));
            assert_eq!(get(&config, "max.in.flight.requests.per.connection").as_deref(), Some("1"));
        }
        let mut config = configured("all", &[]);
        config.retries = Some(0);
        assert_eq!(get(&config, "enable.idempotence").as_deref(), Some("false"));
        assert_eq!(get(&config, "retries").as_deref(), Some("0"));
    }

    #[test]
    fn properties_win_under_either_name() {
        let config = configured(
            "all",
            &[
                ("request.required.acks", "1"),
                ("delivery.timeout.ms", "5000"),
                ("queue.buffering.max.ms", "50"),
                ("max.in.flight", "2"),
                ("security.protocol", "SASL_SSL"),
            ],
        );
        assert_eq!(get(&config, "acks").as_deref(), Some("1"));
        assert_eq!(get(&config, "enable.idempotence").as_deref(), Some("false"));
        assert_eq!(get(&config, "message.timeout.ms").as_deref(), Some("5000"));
        assert_eq!(get(&config, "linger.ms").as_deref(), Some("50"));
        assert_eq!(get(&config, "max.in.flight.requests.per.connection").as_deref(), Some("2"));
        assert_eq!(get(&config, "security.protocol").as_deref(), Some("SASL_SSL"));
        for alias in ["request.required.acks", "delivery.timeout.ms", "queue.buffering.max.ms", "max.in.flight"] {
            assert_eq!(get(&config, alias), None, "one name only");
        }
    }

    #[test]
    fn librdkafka_takes_what_is_made() {
        for acks in ["all", "-1", "1", "0"] {
            for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
                let mut config = configured(acks, &[]);
                config.compression_type = compression.into();
                let created = producer_config(&config, "feedback").create::<rdkafka::producer::BaseProducer>();
                assert!(created.is_ok(), "{acks} {compression}: {:?}", created.err());
            }
        }
    }
}
