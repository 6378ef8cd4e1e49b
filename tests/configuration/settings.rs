//! What settings come to, and what is in effect where they are not there.

use crate::loading::{load_with, loaded};
use llm_optimizer_processor::config::*;
use llm_optimizer_processor::time::Span;
use llm_optimizer_processor::view::{Baseline, Leaderboard, Measure, Regressed, Rollup, ViewKind};
use std::num::NonZeroU64;
use std::time::Duration;

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
fn checkpoints_have_defaults_and_limits() {
    let config = loaded("processor: {state: {backend: rocksdb}}");
    assert_eq!((config.checkpoint_interval, config.checkpoint_timeout.as_secs()), (Some(Duration::from_secs(60)), 600));
    assert_eq!((config.state.retain.get(), config.state.tolerable_failures.get()), (3, 3));
    assert_eq!(config.state.memory_limit, None);
    let text = "processor: {state: {backend: rocksdb, memory_limit: 512MB, retain: 2}, checkpoint_timeout: 5m}";
    let config = loaded(text);
    assert_eq!(config.state.memory_limit, Some(ByteSize(512_000_000)));
    assert_eq!((config.state.retain.get(), config.checkpoint_timeout.as_secs()), (2, 300));
}

#[test]
fn processes_of_several_machines_have_a_secret() {
    let none = loaded("processor:\n").cluster;
    assert_eq!((none.secret, none.secret_file, none.connect_timeout.as_secs()), (None, None, 300));
    let text = "processor: {cluster: {secret: 0123456789abcdef, connect_timeout: 30s}}";
    let cluster = loaded(text).cluster;
    assert_eq!(cluster.connect_timeout.as_secs(), 30);
    assert!(format!("{cluster:?}").contains("***") && !format!("{cluster:?}").contains("0123"), "{cluster:?}");
    assert!(!load_with(text, &[]).report().contains("0123456789"));
    let in_a_file = load_with("processor:\n", &[("PROCESSOR_CLUSTER__SECRET_FILE", "/run/secret")]).config.cluster;
    assert_eq!(in_a_file.secret_file.unwrap().to_str(), Some("/run/secret"));
    let listening = loaded("processor: {cluster: {listen: 0.0.0.0:2101}}").cluster;
    assert_eq!((none.listen, listening.listen), (None, Some(([0, 0, 0, 0], 2101).into())));
    let error = |text| load_str("t.yaml", text, std::iter::empty()).unwrap_err().to_string();
    let nowhere = error("processor: {cluster: {listen: 0.0.0.0:0}}");
    assert!(nowhere.contains("such as 0.0.0.0:2101"), "{nowhere}");
    let short = error("processor: {cluster: {secret: 0123456789abcde}}");
    assert!(short.contains("a secret of 15 bytes") && short.contains("at least 16"), "{short}");
    assert!(!short.contains("0123456789"), "{short}");
    let twice = error("processor: {cluster: {secret: 0123456789abcdef, secret_file: f}}");
    assert!(twice.contains("cluster.secret too") && twice.contains("leave one of them out"), "{twice}");
}

#[test]
fn exactly_once_is_for_what_can_take_back() {
    let text = "processor: {state: {backend: rocksdb}, delivery: exactly_once, sinks: [kafka, console]}";
    assert_eq!(loaded(text).delivery, Delivery::ExactlyOnce);
    // What has an end has a checkpoint there.
    let text = "processor: {state: {backend: rocksdb}, delivery: exactly_once, checkpoint_interval: never, \
                source: {type: file, paths: f}, sinks: [{type: file, path: p}]}";
    assert_eq!(loaded(text).checkpoint_interval, None);
}

#[test]
fn what_cannot_be_read_again_is_a_warning_where_checkpoints_are_taken() {
    let warnings = load_with("processor: {source: stdin, state: {backend: rocksdb}}", &[]).warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("standard input cannot be read again"), "{warnings:?}");
    assert!(load_with("processor: {source: stdin}", &[]).warnings.is_empty());
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
fn definitions_inherit_what_they_do_not_say() {
    let text = "processor: {source: stdin, aggregation: {enabled: [count, percentile], percentiles: [90]}, windows: {late_policy: \
                final_only, trigger: {every: 1s, early: true}, definitions: [{name: a, type: tumbling, size: 5s}, {name: b, type: \
                session, gap: 1m, late_policy: refine, trigger: {every: never, early: false, every_events: 10}, aggregation: \
                {enabled: [max]}, sinks: [stdout, {type: file, path: b}]}, {name: c, type: sliding, size: 5s, slide: 2s, trigger: \
                {complete: 0.9}, sinks: [stdout]}]}, sinks: [{type: file, path: a}]}";
    let loaded = load_with(text, &[]);
    let [a, b, c] = &loaded.config.definitions[..] else { panic!("{:?}", loaded.config.definitions) };
    let names = [a, b, c].map(|definition| definition.name.as_deref().unwrap());
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(a.windows.kind, WindowKind::tumbling(Span::from_secs(5)));
    assert_eq!(
        [a, b, c].map(|of| of.windows.late_policy),
        [LatePolicy::FinalOnly, LatePolicy::Refine, LatePolicy::FinalOnly]
    );
    let second = Some(Duration::from_secs(1));
    assert_eq!(a.windows.trigger, TriggerConfig { every: second, complete: Some(0.5), ..TriggerConfig::NONE });
    assert_eq!(b.windows.trigger, TriggerConfig { every_events: NonZeroU64::new(10), ..TriggerConfig::NONE });
    assert_eq!(c.windows.trigger, TriggerConfig { every: second, complete: Some(0.9), ..TriggerConfig::NONE });
    assert_eq!(a.aggregation, loaded.config.aggregation);
    assert_eq!((b.aggregation.enabled.as_slice(), b.aggregation.percentiles.len()), (&[AggregateKind::Max][..], 0));
    // Equal sinks are one sink.
    assert_eq!(loaded.config.sinks.len(), 3);
    assert_eq!([a, b, c].map(|of| of.sinks.clone().unwrap()), [vec![0], vec![1, 2], vec![1]]);

    let again = load_with(&loaded.effective.render(), &[]);
    assert_eq!(again.config, loaded.config, "{}", loaded.effective.render());
}

#[test]
fn sinks_that_nobody_writes_to_are_told_of() {
    let text = "processor: {source: stdin, windows: {definitions: [{name: a, type: tumbling, size: 5s, sinks: [stdout]}]}, sinks: \
                [{type: file, path: a}]}";
    let warnings = load_with(text, &[]).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("every window definition has its own"), "{warnings:?}");
}

#[test]
fn views_have_defaults_and_sinks_of_their_own() {
    let config = loaded(
        "processor:
  source: stdin
  event: {key: [model, region]}
  sinks: [stdout]
  windows: {tumbling: {size: 1m, allowed_lateness: 2h}}
  views:
    - {name: a, type: leaderboard, by: p95}
    - {name: b, type: baseline, of: latency_ms.average, days: 7, regressed: {measure: ratio, below: 0.5}, retain: 3h}
    - {name: c, type: rollup, keep: [model], sinks: [{type: file, path: c.jsonl}]}
",
    );
    let kinds: Vec<&ViewKind> = config.views.iter().map(|of| &of.view.kind).collect();
    let by = "p95".into();
    assert_eq!(*kinds[0], ViewKind::Leaderboard(Leaderboard { by, top: 10, smallest: false, per: Vec::new() }));
    let regressed = Regressed { measure: Measure::Ratio, above: false, at: 0.5, clear: 0.5, look_back: 10 };
    let (of, step) = ("latency_ms.average".into(), Span::from_secs(60));
    let baseline = Baseline { of, count: 7, daily: true, step, regressed: Some(regressed) };
    assert_eq!(*kinds[1], ViewKind::Baseline(baseline));
    assert_eq!(*kinds[2], ViewKind::Rollup(Rollup { by: vec!["model".into()] }));
    let retained: Vec<i64> = config.views.iter().map(|of| of.view.retain.as_millis() / 3_600_000).collect();
    assert_eq!(retained, [2, 3, 2], "as long as late events are accepted, where nothing is said");
    let sinks: Vec<_> = config.views.iter().map(|of| of.sinks.clone()).collect();
    assert_eq!(sinks, [Some(vec![0]), Some(vec![0]), Some(vec![1])]);
    assert_eq!(config.sinks.len(), 2);
    assert_eq!(config.window_definitions()[0].sinks, Some(vec![0]), "results do not go to a view's own sink");
}
