//! What gives the state of a job its meaning, from its configuration: a pure function.
//!
//! In it is what decides which window and key an event belongs to, what is kept of it, and by which watermark it is judged. Not in
//! it, because state means the same whatever they are: sinks, addresses, parallelism, buffers, logs, the names and number of topics
//! and files (a partition that is gone is refused by the source, by name), the list of percentiles (what is kept answers any),
//! how long idleness takes, and `allowed_lateness`.

use super::JobFingerprint;
use crate::aggregate::AggregatePlan;
use crate::config::{
    EventConfig, FieldPath, GeneratorConfig, LatePolicy, ProcessorConfig, SourceConfig, TimestampFormat, ValueFields,
    ViewConfig, WindowDefinition, WindowKind,
};
use crate::event::KEY_GROUPS;
use crate::time::Span;

/// What is not in a configuration: a window definition's aggregates, custom ones included, and whether it has early results,
/// by triggers of the program's own too.
#[derive(Clone, Copy, Debug)]
pub struct DefinitionParts<'a> {
    /// What is computed.
    pub plan: &'a AggregatePlan,
    /// Whether windows may emit before their end.
    pub has_triggers: bool,
}

impl JobFingerprint {
    /// Of a job; the parts are those of [`ProcessorConfig::window_definitions`], in order.
    pub fn of_job(config: &ProcessorConfig, definitions: &[DefinitionParts<'_>]) -> Self {
        let mut fingerprint = Self::default()
            .with("source", source(&config.source))
            .with("event.timestamp", timestamp(&config.event))
            .with("event.key", key(&config.event))
            .with("event.values", values(&config.event.values))
            .with("event.filter", filter(&config.event))
            .with("watermark.max_out_of_orderness", duration(config.watermark.max_out_of_orderness));
        let named = config.window_definitions();
        if named.iter().any(|definition| definition.name.is_some()) {
            let names: Vec<&str> = named.iter().filter_map(|definition| definition.name.as_deref()).collect();
            fingerprint = fingerprint.with("windows.definitions", format!("[{}]", names.join(", ")));
        }
        for (definition, parts) in named.iter().zip(definitions) {
            let (windows, aggregation) = match &definition.name {
                Some(name) => (format!("windows.{name}"), format!("windows.{name}.aggregation")),
                None => ("windows".to_owned(), "aggregation".to_owned()),
            };
            fingerprint = fingerprint
                .with(windows, of_windows(definition, parts.has_triggers))
                .with(aggregation, parts.plan.kept().join(", "));
        }
        for ViewConfig { view, .. } in &config.views {
            let window = named.get(usize::from(view.definition.0)).and_then(|definition| definition.name.as_deref());
            fingerprint = fingerprint.with(format!("views.{}", view.name), view.meaning(window));
        }
        fingerprint.with("key groups", KEY_GROUPS.to_string())
    }
}

/// Which kind: its partitions' names and offsets mean something else than those of another. The generator's events are what its
/// settings make of them.
fn source(source: &SourceConfig) -> String {
    match source {
        SourceConfig::Kafka => "kafka".to_owned(),
        SourceConfig::File { .. } => "file".to_owned(),
        SourceConfig::Stdin => "stdin".to_owned(),
        SourceConfig::Generator(generator) => {
            let GeneratorConfig { rate, count, keys, seed, disorder, late_share, malformed_share, partitions } =
                generator;
            let clock = if rate.is_some() { "the wall clock's time" } else { "a time of their own" };
            let count = count.map_or_else(|| "no end".to_owned(), |count| format!("{count} events"));
            format!(
                "generator: {count}, {keys} keys, seed {seed}, {partitions} partitions, disorder {}, late {late_share}, malformed \
                 {malformed_share}, in {clock}",
                duration((*disorder).into())
            )
        }
    }
}

fn timestamp(event: &EventConfig) -> String {
    let format = match event.timestamp_format {
        TimestampFormat::Rfc3339 => "rfc3339",
        TimestampFormat::EpochSeconds => "epoch_s",
        TimestampFormat::EpochMillis => "epoch_ms",
        TimestampFormat::EpochMicros => "epoch_us",
        TimestampFormat::EpochNanos => "epoch_ns",
    };
    format!("{} as {format}", path(&event.timestamp_field))
}

fn key(event: &EventConfig) -> String {
    let field = |field: &crate::config::KeyField| match &field.default {
        Some(default) => format!("{} or {default:?}", named(&field.path, &field.name)),
        None => named(&field.path, &field.name),
    };
    format!("[{}]", event.key.iter().map(field).collect::<Vec<_>>().join(", "))
}

/// In any order: values are kept by name.
fn values(values: &ValueFields) -> String {
    match values {
        ValueFields::EveryNumberUnder(under) => format!("{}.*", path(under)),
        ValueFields::Listed(fields) => {
            let mut fields: Vec<String> = fields.iter().map(|field| named(&field.path, &field.name)).collect();
            fields.sort();
            format!("[{}]", fields.join(", "))
        }
    }
}

/// In any order: all conditions must hold, each for one of its values.
fn filter(event: &EventConfig) -> String {
    let condition = |condition: &crate::config::FilterCondition| {
        let mut any_of: Vec<String> = condition.any_of.iter().map(|value| format!("{value:?}")).collect();
        any_of.sort();
        format!("{}: [{}]", path(&condition.path), any_of.join(", "))
    };
    let mut conditions: Vec<String> = event.filter.iter().map(condition).collect();
    conditions.sort();
    format!("{{{}}}", conditions.join(", "))
}

fn of_windows(definition: &WindowDefinition, has_triggers: bool) -> String {
    let kind = match definition.windows.kind {
        WindowKind::Tumbling { size, offset, time_zone } => {
            let zone = time_zone.map_or_else(String::new, |zone| format!(", time zone {}", zone.name()));
            format!("tumbling {}{}{zone}", duration(size), of_offset(offset))
        }
        WindowKind::Sliding { size, slide, offset } => {
            format!("sliding {} every {}{}", duration(size), duration(slide), of_offset(offset))
        }
        WindowKind::Session { gap, max_length } => {
            let most = max_length.map_or_else(String::new, |most| format!(", at most {}", duration(most)));
            format!("session with gaps of {}{most}", duration(gap))
        }
    };
    let late = match definition.windows.late_policy {
        LatePolicy::Refine => "refine",
        LatePolicy::FinalOnly => "final_only",
        LatePolicy::Drop => "drop",
    };
    let early = if has_triggers { ", early results" } else { "" };
    format!("{kind}, late_policy {late}{early}")
}

fn of_offset(offset: Span) -> String {
    if offset.is_zero() { String::new() } else { format!(", offset {}", duration(offset)) }
}

fn duration(span: Span) -> String {
    match span.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

/// Parts that have dots in them stay apart.
fn path(path: &FieldPath) -> String {
    let part = |part: &String| if part.contains(['.', '"']) { format!("{part:?}") } else { part.clone() };
    path.0.iter().map(part).collect::<Vec<_>>().join(".")
}

fn named(field: &FieldPath, name: &str) -> String {
    if field.last() == name { path(field) } else { format!("{} as {name:?}", path(field)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, AggregateKind};

    fn of(text: &str) -> JobFingerprint {
        let config = config::load_str("t.yaml", text, std::iter::empty()).unwrap().config;
        let definitions = config.window_definitions();
        let plans: Vec<AggregatePlan> =
            definitions.iter().map(|definition| AggregatePlan::new(&definition.aggregation).unwrap()).collect();
        let parts: Vec<DefinitionParts<'_>> = plans
            .iter()
            .zip(&definitions)
            .map(|(plan, of)| DefinitionParts { plan, has_triggers: of.windows.trigger != config::TriggerConfig::NONE })
            .collect();
        JobFingerprint::of_job(&config, &parts)
    }

    /// The keys of `settings` in a configuration that has all that they may need.
    fn with(settings: &str) -> JobFingerprint {
        of(&format!("processor:\n  job: j\n  {}\n", settings.replace('\n', "\n  ")))
    }

    #[test]
    fn it_reads_as_people_want_it() {
        let parts = with(
            "source: {type: generator, count: 5, rate: null}\nevent: {key: [data.model, {field: data.region, default: x}], \
             values: [data.b, a.b, data.c], filter: {z: [1, 0], a: b}}\nwindows: {definitions: [{name: m, type: tumbling, size: 1m, \
             offset: 500ms}, {name: v, type: session, gap: 5m, aggregation: {enabled: [count, average]}}]}",
        );
        let texts: Vec<(&str, &str)> =
            parts.parts().iter().map(|part| (part.name.as_str(), part.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (
                    "source",
                    "generator: 5 events, 48 keys, seed 42, 4 partitions, disorder 2s, late 0.002, malformed 0.001, in a time of \
                     their own"
                ),
                ("event.timestamp", "timestamp as rfc3339"),
                ("event.key", "[data.model, data.region or \"x\"]"),
                ("event.values", "[a.b as \"a.b\", data.b as \"data.b\", data.c]"),
                ("event.filter", "{a: [\"b\"], z: [\"0\", \"1\"]}"),
                ("watermark.max_out_of_orderness", "30s"),
                ("windows.definitions", "[m, v]"),
                ("windows.m", "tumbling 60s, offset 500ms, late_policy refine"),
                ("windows.m.aggregation", "count, sum, squares, min, max, percentiles within 0.01"),
                ("windows.v", "session with gaps of 300s, late_policy refine"),
                ("windows.v.aggregation", "count, sum"),
                ("key groups", "256"),
            ]
        );
    }

    const BASE: &str = "watermark: {idle_timeout: 30s}";

    #[test]
    fn what_does_not_change_the_meaning_is_no_part_of_it() {
        for settings in [
            "parallelism: 3",
            "buffer_size: 5",
            "sinks: [stdout]",
            "logging: {filter: debug}",
            "metrics: {enabled: false}",
            "state: {backend: rocksdb, retain: 7, memory_limit: 1GiB}",
            "error_handling: {policy: fail}",
            "windows: {tumbling: {allowed_lateness: 5m}}",
            "windows: {default_type: tumbling, sliding: {size: 7m}}",
            "aggregation: {percentiles: [1, 2]}",
            "aggregation: {enabled: [percentile, stddev, count]}",
            "watermark: {close_idle_after: 3m, max_future_skew: 1s, emit_interval: 1s}",
            "kafka: {consumer: {topics: [a, b], bootstrap_servers: x, group_id: g}}",
        ] {
            assert_eq!(with(settings), with(BASE), "{settings}");
        }
        let values = |values: &str| with(&format!("event: {{values: [{values}]}}"));
        assert_eq!(values("data.a, data.b"), values("data.b, data.a"));
        let files = |paths: &str| with(&format!("source: {{type: file, paths: [{paths}]}}"));
        assert_eq!(files("a"), files("b, c"));
    }

    #[test]
    fn what_changes_the_meaning_is_named() {
        for (settings, name) in [
            ("source: stdin", "source"),
            ("source: {type: generator, seed: 1}", "source"),
            ("event: {timestamp: {field: t}}", "event.timestamp"),
            ("event: {timestamp: {format: epoch_s}}", "event.timestamp"),
            ("event: {key: [source]}", "event.key"),
            ("event: {key: [event_type, source]}", "event.key"),
            ("event: {values: [data.a]}", "event.values"),
            ("event: {filter: {a: b}}", "event.filter"),
            ("watermark: {max_out_of_orderness: 1s}", "watermark.max_out_of_orderness"),
            ("windows: {tumbling: {size: 1m}}", "windows"),
            ("windows: {tumbling: {offset: 1s}}", "windows"),
            ("windows: {tumbling: {size: 1d, time_zone: Europe/Berlin}}", "windows"),
            ("windows: {default_type: sliding}", "windows"),
            ("windows: {default_type: session}", "windows"),
            ("windows: {late_policy: drop}", "windows"),
            ("windows: {trigger: {every_events: 5}}", "windows"),
            ("aggregation: {relative_error: 0.02}", "aggregation"),
            ("aggregation: {enabled: [count]}", "aggregation"),
            ("views: [{name: v, type: rollup, keep: []}]", "views.v"),
        ] {
            let (taken, now) = (with(BASE), with(settings));
            let different: Vec<&str> = taken.differences(&now).iter().map(|difference| difference.name).collect();
            assert_eq!(different, [name], "{settings}");
        }
        let view = |more: &str| with(&format!("views: [{{name: v, type: leaderboard, by: p95{more}}}]"));
        assert_eq!(view(""), view(", top: 10, order: largest, retain: 1h, sinks: [{type: file, path: f}]"));
        for more in [", top: 9", ", order: smallest", ", retain: 2h", ", per: [source]"] {
            let (taken, now) = (view(""), view(more));
            let different: Vec<&str> = taken.differences(&now).iter().map(|difference| difference.name).collect();
            assert_eq!(different, ["views.v"], "{more}");
        }
        let definitions = |text: &str| with(&format!("windows: {{definitions: [{text}]}}"));
        let (a, b) = ("{name: a, type: tumbling, size: 1m}", "{name: b, type: session, gap: 1m}");
        let (one, other) = (definitions(&format!("{a}, {b}")), definitions(&format!("{b}, {a}")));
        assert_eq!(one.differences(&other).iter().map(|part| part.name).collect::<Vec<_>>(), ["windows.definitions"]);
    }

    #[test]
    fn custom_aggregates_are_part_of_what_is_kept() {
        struct Product;
        impl crate::aggregate::CustomAggregate for Product {
            type State = f64;
            fn name(&self) -> &str {
                "product"
            }
            fn create(&self) -> f64 {
                1.0
            }
            fn add(&self, state: &mut f64, value: f64) {
                *state *= value;
            }
            fn merge(&self, state: &mut f64, other: &f64) {
                *state *= other;
            }
            fn result(&self, state: &f64) -> serde_json::Value {
                (*state).into()
            }
        }
        let config = crate::config::AggregationConfig {
            enabled: vec![AggregateKind::Min],
            percentiles: Vec::new(),
            relative_error: 0.01,
        };
        let plan = AggregatePlan::new(&config).unwrap().with_custom(Product).unwrap();
        assert_eq!(plan.kept(), ["count", "min", "custom product"]);
    }
}
