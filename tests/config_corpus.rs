//! The configuration from outside: a corpus of wrong ones with every message in full, the shipped files, the reference card's
//! snippets as printed, the environment, origins and secrets.

use llm_optimizer_processor::config::{self, *};
use llm_optimizer_processor::time::Span;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Variables = Vec<(String, String)>;

fn no_env() -> std::iter::Empty<(String, String)> {
    std::iter::empty()
}

fn variables(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Variables>().into_iter()
}

fn load_with(text: &str, env: &[(&str, &str)]) -> Loaded {
    config::load_str("test.yaml", text, variables(env)).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn loaded(text: &str) -> ProcessorConfig {
    load_with(text, &[]).config
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// Each file of the corpus ends with the variables it is read with (`# env: NAME=VALUE`) and every line that must be printed
/// (`# error: LINE`).
#[test]
fn every_wrong_configuration_gets_exactly_its_messages() {
    let files = yaml_files("tests/corpus/config");
    assert!(files.len() >= 100, "only {} files", files.len());
    let mut wrong = String::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = |prefix: &'static str| text.lines().filter_map(move |line| line.strip_prefix(prefix));
        let env: Variables =
            lines("# env: ").map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect();
        let expected = lines("# error: ").collect::<Vec<_>>().join("\n");
        assert!(!expected.is_empty(), "{name} says no message");
        // The document ends where the notes begin.
        let document: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("# env: ") && !line.starts_with("# error: "))
            .collect();
        let actual = match config::load_str(name, &document, env.into_iter()) {
            Ok(_) => "(accepted)".to_owned(),
            Err(errors) => errors.to_string(),
        };
        if actual != expected {
            wrong.push_str(&format!("--- {name}\nexpected:\n{expected}\nactual:\n{actual}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn messages_never_hold_a_secret() {
    for path in yaml_files("tests/corpus/config") {
        let text = std::fs::read_to_string(&path).unwrap();
        let messages = text.lines().filter(|line| line.starts_with("# error: "));
        assert!(messages.into_iter().all(|line| !line.contains("hunter2")), "{}", path.display());
    }
}

#[test]
fn every_shipped_file_loads_without_a_warning_and_reads_back_as_itself() {
    let files: Vec<_> = yaml_files("config").into_iter().chain(yaml_files("config/examples")).collect();
    assert_eq!(files.len(), 7);
    for path in files {
        let loaded = config::load(&path, no_env()).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let again = config::load_str("again.yaml", &loaded.effective.render(), no_env());
        let again = again.unwrap_or_else(|errors| panic!("{errors}\n{}", loaded.effective.render()));
        assert_eq!(again.config, loaded.config, "{}", path.display());
    }
}

#[test]
fn the_production_file_names_every_key_there_is() {
    let text = std::fs::read_to_string(root().join("config/processor.yaml")).unwrap();
    let named = |key: &str| text.contains(&format!("{key}:"));
    // Every key that any configuration has in effect; an unknown one would be an error there.
    let everything = [
        "processor: {source: {type: file, paths: [a]}, sinks: [{type: file, path: b}], late: {sink: {type: file, path: c}}}",
        "processor: {source: generator, late: {sink: {type: kafka, topic: a}}, kafka: {producer: {bootstrap_servers: h}}}",
        "processor: {windows: {tumbling: {}, sliding: {}, session: {}}, kafka: {producer: {}}}",
    ];
    let mut keys = BTreeSet::new();
    for text in everything {
        let loaded = load_with(text, &[]);
        keys.extend(loaded.effective.origins().map(|(path, _)| path.rsplit('.').next().unwrap().to_owned()));
    }
    assert!(keys.len() > 50, "{keys:?}");
    let missing: Vec<_> = keys.iter().filter(|key| !named(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_development_file_is_what_it_says() {
    let config = config::load(&root().join("config/processor-dev.yaml"), no_env()).unwrap().config;
    assert!(matches!(config.source, SourceConfig::Generator(_)));
    assert_eq!(config.windows.kind, WindowKind::tumbling(Span::from_secs(10)));
    assert_eq!(config.sinks, [SinkConfig::Console]);
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((config.consumer, config.producer), (None, None));
}

// The reference card's snippets, as printed.

const MINIMAL: &str = r#"processor:
  parallelism: 4
  windows:
    default_type: "tumbling"
    tumbling:
      size_secs: 300
  kafka:
    consumer:
      bootstrap_servers: "localhost:9092"
      topics: ["feedback-events"]
"#;

const PRODUCTION: &str = r#"processor:
  parallelism: 8
  buffer_size: 10000
  checkpoint_interval_secs: 60

  state:
    backend: "rocksdb"
    path: "/var/lib/optimizer/state"
    checkpoint_path: "/var/lib/optimizer/checkpoints"

  windows:
    tumbling:
      size_secs: 300
      allowed_lateness_secs: 60

  watermark:
    max_out_of_orderness_secs: 30

  aggregation:
    enabled: ["count", "average", "percentile"]
    percentiles: [50, 95, 99]
"#;

const HIGH_THROUGHPUT: &str = "parallelism: 16
buffer_size: 50000
kafka:
  consumer:
    max_poll_records: 2000
";

const LOW_LATENCY: &str = "parallelism: 2
buffer_size: 1000
watermark:
  emit_interval_secs: 1
";

const MEMORY_EFFICIENT: &str = r#"state:
  backend: "rocksdb"
aggregation:
  enabled: ["count", "average"]  # minimal set
"#;

#[test]
fn the_minimal_snippet() {
    let config = loaded(MINIMAL);
    assert_eq!(config.parallelism.get(), 4);
    assert_eq!(config.windows.kind, WindowKind::tumbling(Span::from_secs(300)));
    assert_eq!(config.windows.allowed_lateness, Span::ZERO);
    let consumer = config.consumer.unwrap();
    assert_eq!(consumer.bootstrap_servers, "localhost:9092");
    assert_eq!(consumer.topics, ["feedback-events"]);
    assert_eq!(config.source, SourceConfig::Kafka);
    assert_eq!(config.sinks, [SinkConfig::Console]);
    assert_eq!(config.producer, None);
}

#[test]
fn the_production_snippet() {
    let config = loaded(PRODUCTION);
    assert_eq!(config.parallelism.get(), 8);
    assert_eq!(config.buffer_size.get(), 10_000);
    assert_eq!(config.checkpoint_interval, Some(Duration::from_secs(60)));
    let state = StateConfig {
        backend: StateBackendKind::RocksDb,
        path: Some("/var/lib/optimizer/state".into()),
        checkpoint_path: Some("/var/lib/optimizer/checkpoints".into()),
    };
    assert_eq!(config.state, state);
    assert_eq!(config.windows.kind, WindowKind::tumbling(Span::from_secs(300)));
    assert_eq!(config.windows.allowed_lateness, Span::from_secs(60));
    assert_eq!(config.watermark.max_out_of_orderness, Span::from_secs(30));
    let enabled = [AggregateKind::Count, AggregateKind::Average, AggregateKind::Percentile];
    assert_eq!(config.aggregation.enabled, enabled);
    assert_eq!(config.aggregation.percentiles, [50.0, 95.0, 99.0]);
}

#[test]
fn the_tuning_snippets_stand_without_a_root() {
    let config = loaded(HIGH_THROUGHPUT);
    assert_eq!((config.parallelism.get(), config.buffer_size.get()), (16, 50_000));
    assert_eq!(config.consumer.unwrap().max_poll_records.get(), 2000);
    let config = loaded(LOW_LATENCY);
    assert_eq!((config.parallelism.get(), config.buffer_size.get()), (2, 1000));
    assert_eq!(config.watermark.emit_interval, Some(Duration::from_secs(1)));
    let config = loaded(MEMORY_EFFICIENT);
    assert_eq!(config.state.backend, StateBackendKind::RocksDb);
    assert_eq!(config.state.path, Some("state/processor".into()));
    assert_eq!(config.aggregation.enabled, [AggregateKind::Count, AggregateKind::Average]);
    assert!(config.aggregation.percentiles.is_empty());
}

#[test]
fn the_cards_environment_variables() {
    let env = [
        ("PROCESSOR_PARALLELISM", "8"),
        ("PROCESSOR_STATE__BACKEND", "rocksdb"),
        ("PROCESSOR_KAFKA__CONSUMER__BOOTSTRAP_SERVERS", "kafka:9092"),
        ("PROCESSOR_WATERMARK__MAX_OUT_OF_ORDERNESS_SECS", "60"),
        ("PATH", "/bin"),
    ];
    let loaded = load_with(MINIMAL, &env);
    assert_eq!(loaded.config.parallelism.get(), 8);
    assert_eq!(loaded.config.state.backend, StateBackendKind::RocksDb);
    assert_eq!(loaded.config.consumer.as_ref().unwrap().bootstrap_servers, "kafka:9092");
    assert_eq!(loaded.config.consumer.unwrap().topics, ["feedback-events"]);
    assert_eq!(loaded.config.watermark.max_out_of_orderness, Span::from_secs(60));
    let text = loaded.effective.render();
    let line = |key: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("parallelism:"), "parallelism: 8 # environment PROCESSOR_PARALLELISM");
    assert_eq!(line("backend:"), "backend: rocksdb # environment PROCESSOR_STATE__BACKEND");
    let servers = "bootstrap_servers: [\"kafka:9092\"] # environment PROCESSOR_KAFKA__CONSUMER__BOOTSTRAP_SERVERS";
    assert_eq!(line("bootstrap_servers:"), servers);
    assert_eq!(line("topics:"), "topics: [feedback-events] # test.yaml:10");
    assert_eq!(line("buffer_size:"), "buffer_size: 10000 # default");
}

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

#[test]
fn secrets_are_hidden_whatever_their_origin() {
    let file = r#"processor:
  kafka:
    consumer:
      properties:
        sasl.password: hunter2
        sasl.username: me
        ssl.key.pem: "hunter2\nhunter2"
        sasl.oauthbearer.config: principal=hunter2
        client.rack: https://me:hunter2@rack.example.org
    producer:
      bootstrap_servers: "SASL_SSL://me:hunter2@kafka:9092"
"#;
    // Userinfo is no part of a broker's address, and the message does not repeat it.
    let errors = config::load_str("t.yaml", file, no_env()).unwrap_err().to_string();
    assert!(
        errors.contains("t.yaml:11: kafka.producer.bootstrap_servers[0]: \"SASL_SSL://***@kafka:9092\""),
        "{errors}"
    );
    let file = file.replace("me:hunter2@kafka", "kafka");
    let loaded = load_with(&file, &[("PROCESSOR_KAFKA__PRODUCER__PROPERTIES", "{ssl.key.password: hunter2}")]);
    let report = loaded.report();
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("sasl.username: me"), "{report}");
    assert_eq!(report.matches("\"***\"").count(), 4, "{report}");
    let debug = format!("{:?}", loaded.config);
    assert!(!debug.contains("hunter2"), "{debug}");
    assert_eq!(loaded.config.consumer.unwrap().properties["sasl.password"], "hunter2");
}

#[test]
fn librdkafka_is_asked_about_properties() {
    let file = "processor:
  kafka:
    consumer:
      properties:
        sasl.mechanizm: PLAIN
        fetch.min.bytes: many
        security.protocol: sasl_ssl
";
    let errors = config::load_str("t.yaml", file, no_env()).unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| (error.line().unwrap(), error.path())).collect();
    assert_eq!(
        lines,
        [(5, "kafka.consumer.properties.sasl.mechanizm"), (6, "kafka.consumer.properties.fetch.min.bytes")]
    );
    let secret = "processor: {kafka: {consumer: {properties: {enable.ssl.certificate.verification.token: hunter2}}}}";
    let message = config::load_str("t.yaml", secret, no_env()).unwrap_err().to_string();
    assert!(message.contains("No such configuration property") && !message.contains("hunter2"), "{message}");
    assert!(errors.to_string().contains("No such configuration property: \"sasl.mechanizm\""), "{errors}");
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.yaml");
    let errors = config::load(&path, no_env()).unwrap_err().to_string();
    assert!(errors.starts_with(&format!("{}: cannot be read: No such file", path.display())), "{errors}");
    std::fs::write(&path, b"processor:\n  job: \xff\n").unwrap();
    let errors = config::load(&path, no_env()).unwrap_err().to_string();
    assert_eq!(errors, format!("{}: no UTF-8 in line 2; expected text in UTF-8", path.display()));
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let errors = config::load(&path, no_env()).unwrap_err().to_string();
    assert!(errors.contains("longer than 1 MiB"), "{errors}");
    let errors = config::load(folder.path(), no_env()).unwrap_err().to_string();
    assert!(errors.contains("cannot be read"), "{errors}");
}

#[test]
fn defaults_of_an_empty_section() {
    let config = loaded("processor:\n");
    assert_eq!(config.job, "processor");
    assert_eq!(config.parallelism.get(), std::thread::available_parallelism().unwrap().get());
    assert_eq!(config.buffer_size.get(), 10_000);
    assert_eq!(config.checkpoint_interval, None);
    assert_eq!(config.event.timestamp_format, TimestampFormat::Rfc3339);
    let names: Vec<_> = config.event.key.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["source", "event_type"]);
    assert_eq!(config.event.values, ValueFields::EveryNumberUnder(FieldPath::parse("data")));
    assert_eq!(config.watermark.max_future_skew, Span::from_secs(3600));
    assert_eq!(config.watermark.idle_timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.aggregation.enabled, AggregateKind::ALL);
    assert_eq!(config.aggregation.percentiles, [50.0, 95.0, 99.0]);
    assert_eq!(config.error_handling.policy, ErrorPolicy::Skip);
    assert_eq!(config.error_handling.initial_retry_delay, Duration::from_millis(100));
    let consumer = config.consumer.unwrap();
    assert_eq!((consumer.group_id.as_str(), consumer.max_poll_records.get()), ("processor", 2000));
    assert_eq!(consumer.session_timeout, Duration::from_secs(30));
    assert_eq!(config.sinks, [SinkConfig::Console]);
    assert_eq!((config.producer, config.late_sink), (None, None));
    assert_eq!(config.delivery, Delivery::AtLeastOnce);
}

#[test]
fn a_producer_is_there_where_something_needs_it_and_only_there() {
    let config = loaded("processor: {job: j, kafka: {consumer: {bootstrap_servers: 'a:1,b:2'}}, sinks: [kafka]}");
    let producer = config.producer.unwrap();
    assert_eq!((producer.bootstrap_servers.as_str(), producer.result_topic.as_str()), ("a:1,b:2", "j-results"));
    assert_eq!((producer.compression_type.as_str(), producer.acks.as_str()), ("lz4", "all"));
    let config = loaded("processor: {late: {sink: {type: kafka, topic: l}}}");
    assert_eq!(config.late_sink, Some(SideSinkConfig::Kafka { topic: "l".into() }));
    assert!(config.producer.is_some());
    let config = loaded("processor: {error_handling: {policy: dead_letter}, kafka: {consumer: {topics: [t, u]}}}");
    assert_eq!(config.error_handling.dead_letter, Some(SideSinkConfig::Kafka { topic: "t.dead-letter".into() }));
    assert!(config.producer.is_some());
    let config = loaded("processor: {error_handling: {policy: dead_letter, dead_letter_file: d}}");
    assert_eq!(config.error_handling.dead_letter, Some(SideSinkConfig::File { path: "d".into() }));
    assert_eq!(config.producer, None);
    let config = loaded("processor: {kafka: {producer: {acks: 1}}, sinks: [stdout]}");
    assert_eq!(config.producer, None);
    let config = loaded("processor: {kafka: {producer: {acks: -1}}}");
    assert_eq!(
        (config.sinks, config.producer.unwrap().acks),
        (vec![SinkConfig::Kafka { topic: None }], "all".to_owned())
    );
    let text = "processor: {source: {type: file, paths: f}, kafka: {consumer: {bootstrap_servers: k}}, sinks: [kafka]}";
    let config = loaded(text);
    assert_eq!((config.consumer, config.producer.unwrap().bootstrap_servers), (None, "k".to_owned()));
}

#[test]
fn windows_of_every_kind() {
    let kind = |text: &str| loaded(&format!("processor: {{windows: {{{text}}}}}")).windows.kind;
    let secs = Span::from_secs;
    assert_eq!(kind("default_type: sliding"), WindowKind::sliding(secs(600), secs(60)));
    assert_eq!(kind("session: {gap: 90s}"), WindowKind::session(secs(90)));
    assert_eq!(kind("tumbling: {size: 1h30m}, session: {gap: 9s}"), WindowKind::tumbling(secs(5400)));
    // A size need not be a multiple of the slide.
    assert_eq!(kind("sliding: {size: 10s, slide: 3s}"), WindowKind::sliding(secs(10), secs(3)));
    assert_eq!(kind("tumbling: {size_secs: 0.25}"), WindowKind::tumbling(Span::from_millis(250)));
}

#[test]
fn addresses_to_listen_on() {
    for (text, address) in [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        (":9000", "127.0.0.1:9000"),
        ("9000", "127.0.0.1:9000"),
        ("localhost:9000", "127.0.0.1:9000"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("[::1]:9000", "[::1]:9000"),
    ] {
        let config = loaded(&format!("processor: {{metrics: {{listen: '{text}'}}}}"));
        assert_eq!(config.metrics.listen.to_string(), address, "{text}");
    }
}

#[test]
fn fields_are_named_by_their_last_part_where_it_is_the_only_one() {
    let text = "processor:
  event:
    key: [data.model, data.region, {field: metadata.region, default: nowhere}]
    values: data.latency_ms, data.cost_usd
    filter: {event_type: metric, data.rating: [3, 4]}
";
    let event = loaded(text).event;
    let names: Vec<_> = event.key.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["model", "data.region", "metadata.region"]);
    let ValueFields::Listed(values) = event.values else { panic!() };
    assert_eq!(values.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["latency_ms", "cost_usd"]);
    let filter: Vec<_> = event.filter.iter().map(|one| (one.path.to_string(), one.any_of.join("|"))).collect();
    assert_eq!(filter, [("event_type".into(), "metric".into()), ("data.rating".into(), "3|4".to_owned())]);
    assert!(loaded("processor: {event: {key: []}}").event.key.is_empty());
}

#[test]
fn two_writers_of_standard_output_are_a_warning() {
    let loaded = load_with("processor: {sinks: [stdout, console]}", &[]);
    let warning = "test.yaml:1: sinks[1]: console and stdout both write to standard output; their lines will be mixed";
    assert_eq!(loaded.warnings, [warning]);
    assert!(loaded.report().starts_with("# warning: test.yaml:1: sinks[1]"));
}

#[test]
fn any_setting_printed_by_validate_can_be_fed_back() {
    for text in [
        "processor: {source: {type: generator, rate: null, count: 5}, watermark: {idle_timeout: never}}",
        "processor: {windows: {sliding: {size: 100s}}, event: {values: payload.*, filter: {a: [b, 'c d']}}}",
        "processor: {error_handling: {policy: dead_letter}, delivery: exactly_once, sinks: [kafka, {type: file, path: p}]}",
        "processor: {late: {sink: {type: file, path: 'a b.jsonl'}}, metrics: {enabled: false}, logging: {format: json}}",
    ] {
        let first = load_with(text, &[]);
        let second = load_with(&first.report(), &[]);
        assert_eq!(second.config, first.config, "{}", first.report());
    }
}

#[test]
fn no_damage_to_a_file_makes_a_panic() {
    let text = std::fs::read_to_string(root().join("config/processor.yaml")).unwrap();
    // Comment signs off, so that every key takes part.
    let text: String = text.lines().map(|line| line.replacen("# ", "", 1) + "\n").collect();
    let lines: Vec<&str> = text.lines().collect();
    let mut refused = 0;
    let mut try_one = |text: &str| {
        if let Err(errors) = config::load_str("damaged.yaml", text, no_env()) {
            assert!(errors.iter().next().is_some() && !errors.to_string().is_empty());
            refused += 1;
        }
    };
    for cut in 0..lines.len() {
        try_one(&lines[..cut].join("\n"));
        let without: Vec<&str> = [&lines[..cut], &lines[cut + 1..]].concat();
        try_one(&without.join("\n"));
    }
    for value in
        ["-1", "[]", "{}", "[[x]]", "{a: {b: c}}", "\"\"", "1e999", "\u{1F600}", "99999999999999999999", ".nan", "!x y"]
    {
        let shipped = std::fs::read_to_string(root().join("config/processor.yaml")).unwrap();
        let kept: Vec<&str> = shipped.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        for (index, line) in kept.iter().enumerate() {
            let Some((key, rest)) = line.split_once(':') else { continue };
            let mut changed = kept.clone();
            let line = format!("{key}: {value}");
            changed[index] = &line;
            if !rest.trim().is_empty() {
                try_one(&changed.join("\n"));
            }
        }
    }
    assert!(refused > 300, "{refused}");
}
