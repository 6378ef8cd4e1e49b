//! The reference card's snippets, as printed.

use crate::loading::{load_with, loaded};
use llm_optimizer_processor::config::*;
use llm_optimizer_processor::time::Span;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

pub const MINIMAL: &str = r#"processor:
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
        checkpoint_path_shared: true,
        checkpoint_url: None,
        retain: NonZeroUsize::new(3).unwrap(),
        memory_limit: None,
        tolerable_failures: NonZeroU32::new(3).unwrap(),
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
