//! Settings from the environment.

use crate::card::MINIMAL;
use crate::loading::{load_with, variables};
use llm_optimizer_processor::config::{self, *};
use llm_optimizer_processor::time::Span;

#[test]
fn variables_of_every_kind() {
    let env = [
        ("PROCESSOR_KAFKA__CONSUMER__TOPICS", "a, b"),
        ("PROCESSOR_KAFKA__CONSUMER__BOOTSTRAP_SERVERS", "[::1]:9092,[::2]:9093"),
        ("PROCESSOR_KAFKA__CONSUMER__PROPERTIES", "{client.rack: r1, fetch.min.bytes: 7}"),
        ("PROCESSOR_AGGREGATION__ENABLED", "[count, percentile]"),
        ("PROCESSOR_AGGREGATION__PERCENTILES", "99.9,p50"),
        ("PROCESSOR_EVENT__KEY", "[{field: data.model, default: none}]"),
        ("PROCESSOR_SINKS", "stdout, {type: console}"),
    ];
    // A list between commas holds words; sections need YAML.
    let errors = config::load_str("t", "processor: {}", variables(&env)).unwrap_err().to_string();
    assert!(errors.starts_with("environment PROCESSOR_SINKS: \"{type: console}\" is no sink"), "{errors}");

    let mut env = env.to_vec();
    env[6].1 = "[stdout, {type: file, path: x}]";
    let file = "processor: {kafka: {consumer: {properties: {client.rack: r0, socket.keepalive.enable: true}}}}";
    let config = load_with(file, &env).config;
    let consumer = config.consumer.unwrap();
    assert_eq!(consumer.topics, ["a", "b"]);
    assert_eq!(consumer.bootstrap_servers, "[::1]:9092,[::2]:9093");
    let properties: Vec<_> = consumer.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(properties, [("client.rack", "r1"), ("fetch.min.bytes", "7"), ("socket.keepalive.enable", "true")]);
    assert_eq!(config.aggregation.percentiles, [50.0, 99.9]);
    assert_eq!(config.event.key[0].default.as_deref(), Some("none"));
    assert_eq!(config.sinks[0], SinkConfig::Stdout);
    assert_eq!(config.sinks[1], SinkConfig::File { path: "x".into(), mode: FileMode::Append });
}

#[test]
fn a_variable_wins_over_the_other_spelling_in_the_file() {
    let file = "processor: {windows: {tumbling: {size: 5m}}, source: stdin}";
    let env = [("PROCESSOR_WINDOWS__TUMBLING__SIZE_SECS", "7"), ("PROCESSOR_SOURCE__TYPE", "kafka")];
    let config = load_with(file, &env).config;
    assert_eq!(config.windows.kind, WindowKind::tumbling(Span::from_secs(7)));
    assert_eq!(config.source, SourceConfig::Kafka);
    let config = load_with("processor: {source: {type: file, paths: [a]}}", &[("PROCESSOR_SOURCE", "stdin")]).config;
    assert_eq!(config.source, SourceConfig::Stdin);
}

#[test]
fn what_kubernetes_sets_for_a_service_of_this_name_is_no_setting() {
    let env = [
        ("PROCESSOR_SERVICE_HOST", "10.0.0.1"),
        ("PROCESSOR_SERVICE_PORT", "8080"),
        ("PROCESSOR_SERVICE_PORT_METRICS", "8080"),
        ("PROCESSOR_PORT", "tcp://10.0.0.1:8080"),
        ("PROCESSOR_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ];
    load_with(MINIMAL, &env);
}
