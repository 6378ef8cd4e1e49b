//! The shipped files, and what `validate` prints as one.

use crate::checkout::ROOT;
use crate::loading::{load_with, no_env, yaml_files};
use llm_optimizer_processor::config::{self, *};
use llm_optimizer_processor::time::Span;
use std::collections::BTreeSet;

#[test]
fn every_shipped_file_loads_without_a_warning_and_reads_back_as_itself() {
    let files: Vec<_> = yaml_files("config").into_iter().chain(yaml_files("config/examples")).collect();
    assert_eq!(files.len(), 8);
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
    let text = std::fs::read_to_string(ROOT.join("config/processor.yaml")).unwrap();
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
    let config = config::load(&ROOT.join("config/processor-dev.yaml"), no_env()).unwrap().config;
    assert!(matches!(config.source, SourceConfig::Generator(_)));
    assert_eq!(config.windows.kind, WindowKind::tumbling(Span::from_secs(10)));
    assert_eq!(config.sinks, [SinkConfig::Console]);
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((config.consumer, config.producer), (None, None));
}

#[test]
fn any_setting_printed_by_validate_can_be_fed_back() {
    for text in [
        "processor: {source: {type: generator, rate: null, count: 5}, watermark: {idle_timeout: never}}",
        "processor: {windows: {sliding: {size: 100s}}, event: {values: payload.*, filter: {a: [b, 'c d']}}}",
        "processor: {error_handling: {policy: dead_letter}, delivery: exactly_once, sinks: [kafka, {type: file, path: p}], \
         state: {backend: rocksdb, retain: 5, memory_limit: 1.5GiB, tolerable_failures: 1}, checkpoint_timeout: 5m}",
        "processor: {late: {sink: {type: file, path: 'a b.jsonl'}}, metrics: {enabled: false}, logging: {format: json}}",
    ] {
        let first = load_with(text, &[]);
        let second = load_with(&first.report(), &[]);
        assert_eq!(second.config, first.config, "{}", first.report());
    }
}
