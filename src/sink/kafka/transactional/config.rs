//! The librdkafka properties of transactional producers, and of the clients that look after the progress topic.

use super::super::producer_config;
use crate::config::ProducerConfig;
use crate::error::{ProcessorError, ProcessorResult};
use rdkafka::ClientConfig;

/// How long the broker leaves a transaction open that nobody ends, unless `kafka.producer.properties` say otherwise.
const TRANSACTION_TIMEOUT_MS: u64 = 60_000;
/// What belongs to connections, and not to producing: for the clients that read.
const CONNECTION: [&str; 14] = [
    "api.version.",
    "broker.",
    "client.",
    "connections.",
    "debug",
    "enable.sasl.",
    "enable.ssl.",
    "https.",
    "metadata.",
    "reconnect.",
    "retry.backoff.",
    "sasl.",
    "socket.",
    "topic.metadata.",
];
/// The same, complete names and the rest of the prefixes.
const SECURITY: [&str; 3] = ["security.", "ssl.", "resolve.canonical."];

/// The properties of a producer with the transactional id `id`: those of [`producer_config`], and what transactions need.
///
/// - `transaction.timeout.ms` is 60 s where it is not given, and `message.timeout.ms` is the same: a record that is not delivered
///   by then is not delivered in this transaction.
/// - `linger.ms` is 1 where it is not given: a transaction is waited for.
///
/// What cannot work with transactions is an error that names it.
pub(super) fn transactional_config(config: &ProducerConfig, job: &str, id: &str) -> ProcessorResult<ClientConfig> {
    let mut client = producer_config(config, job);
    let text = |client: &ClientConfig, name: &str| client.get(name).unwrap_or_default().to_owned();
    let acks = text(&client, "acks");
    if acks != "all" && acks != "-1" {
        return Err(unusable("acks", &acks, "all"));
    }
    if client.get("retries").is_some_and(|retries| retries == "0") {
        return Err(unusable("retries", "0", "a number above 0, or none"));
    }
    if text(&client, "enable.idempotence") != "true" {
        return Err(unusable("enable.idempotence", &text(&client, "enable.idempotence"), "true"));
    }
    if let Some(given) = client.get("transactional.id") {
        return Err(unusable("transactional.id", given, "none: the processor makes one for each sink and process"));
    }
    let given = |names: [&str; 2]| config.properties.keys().any(|key| names.contains(&key.as_str()));
    let transaction_timeout = match client.get("transaction.timeout.ms") {
        Some(text) => number("transaction.timeout.ms", text)?,
        None => TRANSACTION_TIMEOUT_MS,
    };
    if given(["message.timeout.ms", "delivery.timeout.ms"]) {
        let message_timeout = number("message.timeout.ms", &text(&client, "message.timeout.ms"))?;
        if message_timeout == 0 || message_timeout > transaction_timeout {
            let right = format!("at most transaction.timeout.ms, which is {transaction_timeout}");
            return Err(unusable("message.timeout.ms", &message_timeout.to_string(), &right));
        }
    } else {
        client.set("message.timeout.ms", transaction_timeout.to_string());
    }
    if !given(["linger.ms", "queue.buffering.max.ms"]) {
        client.set("linger.ms", "1");
    }
    client.set("transaction.timeout.ms", transaction_timeout.to_string()).set("transactional.id", id);
    Ok(client)
}

/// What a client needs that only asks and reads.
pub(super) fn reading_config(config: &ProducerConfig, job: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.bootstrap_servers).set("client.id", format!("{job}-progress"));
    for (name, value) in &config.properties {
        let of_connections = CONNECTION.iter().chain(&SECURITY).any(|prefix| name.starts_with(prefix));
        if of_connections || name == "bootstrap.servers" || name == "metadata.broker.list" {
            let name = if name == "metadata.broker.list" { "bootstrap.servers" } else { name };
            client.set(name, value);
        }
    }
    client
}

fn number(name: &str, text: &str) -> ProcessorResult<u64> {
    text.parse().map_err(|_| unusable(name, text, "a number of milliseconds"))
}

fn unusable(name: &str, value: &str, right: &str) -> ProcessorError {
    ProcessorError::Config(format!(
        "kafka.producer: `{name}: {value}` cannot work with `delivery: exactly_once`, which needs {right}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(properties: &[(&str, &str)]) -> ProducerConfig {
        ProducerConfig {
            bootstrap_servers: "kafka:9092".into(),
            result_topic: "results".into(),
            compression_type: "zstd".into(),
            acks: "all".into(),
            retries: None,
            properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    fn made(properties: &[(&str, &str)]) -> ClientConfig {
        transactional_config(&configured(properties), "feedback", "feedback-0-1").unwrap()
    }

    #[test]
    fn librdkafka_takes_what_is_made() {
        let user =
            [("transaction.timeout.ms", "5000"), ("delivery.timeout.ms", "4000"), ("queue.buffering.max.ms", "7")];
        for (properties, timeout, message, linger) in [(&[][..], "60000", "60000", "1"), (&user, "5000", "4000", "7")] {
            let client = made(properties);
            for (name, value) in [
                ("transactional.id", "feedback-0-1"),
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("transaction.timeout.ms", timeout),
                ("message.timeout.ms", message),
                ("linger.ms", linger),
            ] {
                assert_eq!(client.get(name), Some(value), "{name}");
            }
            client.create::<rdkafka::producer::BaseProducer>().unwrap();
        }
        let client = made(&[("transaction.timeout.ms", "5000")]);
        assert_eq!(client.get("message.timeout.ms"), Some("5000"));
    }

    #[test]
    fn what_cannot_work_with_transactions_is_named() {
        let refused = |config: &ProducerConfig| match transactional_config(config, "feedback", "id") {
            Err(ProcessorError::Config(reason)) => reason,
            other => panic!("{other:?}"),
        };
        for (name, value, part) in [
            ("request.required.acks", "1", "`acks: 1`"),
            ("enable.idempotence", "false", "`enable.idempotence: false`"),
            ("message.send.max.retries", "0", "`retries: 0`"),
            ("transactional.id", "mine", "`transactional.id: mine`"),
            ("message.timeout.ms", "0", "`message.timeout.ms: 0`"),
            ("delivery.timeout.ms", "60001", "transaction.timeout.ms, which is 60000"),
            ("transaction.timeout.ms", "long", "`transaction.timeout.ms: long`"),
        ] {
            let reason = refused(&configured(&[(name, value)]));
            assert!(reason.contains(part) && reason.contains("exactly_once"), "{reason}");
        }
        let mut config = configured(&[]);
        config.acks = "1".into();
        assert!(refused(&config).contains("`acks: 1`"));
        config.acks = "all".into();
        config.retries = Some(0);
        assert!(refused(&config).contains("`retries: 0`"));
    }

    #[test]
    fn readers_get_what_belongs_to_connections() {
        let config =
            configured(&[("sasl.username", "me"), ("linger.ms", "3"), ("ssl.ca.location", "/ca"), ("acks", "all")]);
        let client = reading_config(&config, "feedback");
        assert_eq!(client.get("sasl.username"), Some("me"));
        assert_eq!(client.get("ssl.ca.location"), Some("/ca"));
        assert_eq!(client.get("bootstrap.servers"), Some("kafka:9092"));
        assert_eq!((client.get("linger.ms"), client.get("acks")), (None, None));
    }
}
