//! Every key that the configuration knows. The one list behind unknown-key errors, environment variables and the check that
//! each key is documented in the shipped production file.

use super::values::Unit;

/// What a key holds, as far as the environment and unknown keys need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Further keys.
    Section,
    /// One scalar.
    Scalar,
    /// A duration; the key is listed without its unit's suffix and may be written with or without it.
    Duration(Unit),
    /// A list of scalars.
    List,
    /// Keys that are the user's own.
    Map,
    /// A word, or a section that begins with `type`.
    Choice,
    /// A list of words or sections; its items' keys are listed below it.
    Items,
}

/// A key: its path and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Dotted, from below `processor`.
    pub(super) path: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
}

const fn key(path: &'static str, kind: Kind) -> Known {
    Known { path, kind }
}

use Kind::{Choice, Items, List, Map, Scalar, Section};
const SECS: Kind = Kind::Duration(Unit::Seconds);
const MILLIS: Kind = Kind::Duration(Unit::Millis);

/// All keys, parents before children.
pub(super) const KEYS: &[Known] = &[
    key("job", Scalar),
    key("parallelism", Scalar),
    key("buffer_size", Scalar),
    key("checkpoint_interval", SECS),
    key("checkpoint_timeout", SECS),
    key("delivery", Scalar),
    key("state", Section),
    key("state.backend", Scalar),
    key("state.path", Scalar),
    key("state.checkpoint_path", Scalar),
    key("state.checkpoint_path_shared", Scalar),
    key("state.retain", Scalar),
    key("state.memory_limit", Scalar),
    key("state.tolerable_failures", Scalar),
    key("cluster", Section),
    key("cluster.secret", Scalar),
    key("cluster.secret_file", Scalar),
    key("cluster.listen", Scalar),
    key("cluster.connect_timeout", SECS),
    key("cluster.failure_timeout", SECS),
    key("source", Choice),
    key("source.type", Scalar),
    key("source.paths", List),
    key("source.rate", Scalar),
    key("source.count", Scalar),
    key("source.keys", Scalar),
    key("source.seed", Scalar),
    key("source.disorder", SECS),
    key("source.late_share", Scalar),
    key("source.malformed_share", Scalar),
    key("source.partitions", Scalar),
    key("event", Section),
    key("event.timestamp", Section),
    key("event.timestamp.field", Scalar),
    key("event.timestamp.format", Scalar),
    key("event.key", Items),
    key("event.key.field", Scalar),
    key("event.key.default", Scalar),
    key("event.values", List),
    key("event.filter", Map),
    key("windows", Section),
    key("windows.default_type", Scalar),
    key("windows.late_policy", Scalar),
    key("windows.trigger", Section),
    key("windows.trigger.every_events", Scalar),
    key("windows.trigger.every", SECS),
    key("windows.trigger.early", Scalar),
    key("windows.trigger.complete", Scalar),
    key("windows.tumbling", Section),
    key("windows.tumbling.size", SECS),
    key("windows.tumbling.offset", SECS),
    key("windows.tumbling.time_zone", Scalar),
    key("windows.tumbling.allowed_lateness", SECS),
    key("windows.sliding", Section),
    key("windows.sliding.size", SECS),
    key("windows.sliding.slide", SECS),
    key("windows.sliding.offset", SECS),
    key("windows.sliding.allowed_lateness", SECS),
    key("windows.session", Section),
    key("windows.session.gap", SECS),
    key("windows.session.max_length", SECS),
    key("windows.session.allowed_lateness", SECS),
    key("windows.definitions", Items),
    key("windows.definitions.name", Scalar),
    key("windows.definitions.type", Scalar),
    key("windows.definitions.size", SECS),
    key("windows.definitions.slide", SECS),
    key("windows.definitions.gap", SECS),
    key("windows.definitions.max_length", SECS),
    key("windows.definitions.offset", SECS),
    key("windows.definitions.time_zone", Scalar),
    key("windows.definitions.allowed_lateness", SECS),
    key("windows.definitions.late_policy", Scalar),
    key("windows.definitions.trigger", Section),
    key("windows.definitions.trigger.every_events", Scalar),
    key("windows.definitions.trigger.every", SECS),
    key("windows.definitions.trigger.early", Scalar),
    key("windows.definitions.trigger.complete", Scalar),
    key("windows.definitions.aggregation", Section),
    key("windows.definitions.aggregation.enabled", List),
    key("windows.definitions.aggregation.percentiles", List),
    key("windows.definitions.aggregation.relative_error", Scalar),
    key("windows.definitions.sinks", Items),
    key("windows.definitions.sinks.type", Scalar),
    key("windows.definitions.sinks.path", Scalar),
    key("windows.definitions.sinks.mode", Scalar),
    key("windows.definitions.sinks.topic", Scalar),
    key("views", Items),
    key("views.name", Scalar),
    key("views.type", Scalar),
    key("views.window", Scalar),
    key("views.retain", SECS),
    key("views.by", Scalar),
    key("views.top", Scalar),
    key("views.order", Scalar),
    key("views.per", List),
    key("views.of", Scalar),
    key("views.previous", Scalar),
    key("views.days", Scalar),
    key("views.regressed", Section),
    key("views.regressed.measure", Scalar),
    key("views.regressed.above", Scalar),
    key("views.regressed.below", Scalar),
    key("views.regressed.clear", Scalar),
    key("views.regressed.look_back", Scalar),
    key("views.keep", List),
    key("views.field", Scalar),
    key("views.champion", Scalar),
    key("views.challenger", Scalar),
    key("views.sinks", Items),
    key("views.sinks.type", Scalar),
    key("views.sinks.path", Scalar),
    key("views.sinks.mode", Scalar),
    key("views.sinks.topic", Scalar),
    key("watermark", Section),
    key("watermark.strategy", Scalar),
    key("watermark.max_out_of_orderness", SECS),
    key("watermark.emit_interval", SECS),
    key("watermark.max_future_skew", SECS),
    key("watermark.idle_timeout", SECS),
    key("watermark.close_idle_after", SECS),
    key("aggregation", Section),
    key("aggregation.enabled", List),
    key("aggregation.percentiles", List),
    key("aggregation.relative_error", Scalar),
    key("error_handling", Section),
    key("error_handling.policy", Scalar),
    key("error_handling.max_retries", Scalar),
    key("error_handling.initial_retry_delay", MILLIS),
    key("error_handling.max_retry_delay", MILLIS),
    key("error_handling.dead_letter_topic", Scalar),
    key("error_handling.dead_letter_file", Scalar),
    key("kafka", Section),
    key("kafka.consumer", Section),
    key("kafka.consumer.bootstrap_servers", List),
    key("kafka.consumer.group_id", Scalar),
    key("kafka.consumer.topics", List),
    key("kafka.consumer.auto_offset_reset", Scalar),
    key("kafka.consumer.session_timeout", MILLIS),
    key("kafka.consumer.max_poll_records", Scalar),
    key("kafka.consumer.enable_auto_commit", Scalar),
    key("kafka.consumer.wait_for_topics", Scalar),
    key("kafka.consumer.properties", Map),
    key("kafka.producer", Section),
    key("kafka.producer.bootstrap_servers", List),
    key("kafka.producer.result_topic", Scalar),
    key("kafka.producer.compression_type", Scalar),
    key("kafka.producer.acks", Scalar),
    key("kafka.producer.retries", Scalar),
    key("kafka.producer.properties", Map),
    key("sinks", Items),
    key("sinks.type", Scalar),
    key("sinks.path", Scalar),
    key("sinks.mode", Scalar),
    key("sinks.topic", Scalar),
    key("late", Section),
    key("late.sink", Choice),
    key("late.sink.type", Scalar),
    key("late.sink.path", Scalar),
    key("late.sink.topic", Scalar),
    key("metrics", Section),
    key("metrics.enabled", Scalar),
    key("metrics.listen", Scalar),
    key("metrics.export_interval", SECS),
    key("logging", Section),
    key("logging.filter", Scalar),
    key("logging.format", Scalar),
];

impl Known {
    /// The last part of the path.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The names under which the key may be written: a duration with the suffix of its unit first, then without.
    pub(super) fn spellings(&self) -> Vec<String> {
        let name = self.name();
        match self.kind {
            Kind::Duration(unit) => vec![format!("{name}{}", unit.suffix()), name.to_owned()],
            _ => vec![name.to_owned()],
        }
    }

    /// The path of the section it is in; empty at the top.
    pub(super) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The whole path as it is best written.
    pub(super) fn written_path(&self) -> String {
        match self.kind {
            Kind::Duration(unit) => format!("{}{}", self.path, unit.suffix()),
            _ => self.path.to_owned(),
        }
    }
}

/// The keys directly in a section.
pub(super) fn children(section: &str) -> impl Iterator<Item = &'static Known> {
    KEYS.iter().filter(move |known| known.parent() == section)
}

/// The key of this name in a section, with or without its unit's suffix.
pub(super) fn child(section: &str, name: &str) -> Option<&'static Known> {
    children(section).find(|known| known.spellings().iter().any(|spelling| spelling == name))
}

/// The one place elsewhere where a key of exactly this name belongs, if there is just one. What several window definitions may
/// have of their own belongs where it is for all.
pub(super) fn elsewhere(name: &str) -> Option<String> {
    let of_all = KEYS
        .iter()
        .filter(|known| !known.path.starts_with("windows.definitions.") && !known.path.starts_with("views."));
    let mut places = of_all.filter(|known| known.spellings().iter().any(|spelling| spelling == name));
    match (places.next(), places.next()) {
        (Some(only), None) => Some(only.written_path()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_no_key_twice() {
        for (index, known) in KEYS.iter().enumerate() {
            let earlier = &KEYS[..index];
            assert!(earlier.iter().all(|other| other.path != known.path), "{} twice", known.path);
            assert!(
                known.parent().is_empty() || earlier.iter().any(|other| other.path == known.parent()),
                "{}",
                known.path
            );
        }
    }

    /// A key that is accepted and then read by nobody would be a setting without effect.
    #[test]
    fn every_key_is_read() {
        let configurations = [
            "processor: {source: {type: file, paths: [a]}, late: {sink: {type: file, path: c}}}",
            "processor: {source: generator, late: {sink: {type: kafka, topic: a}}, kafka: {producer: {bootstrap_servers: h}}}",
            "processor: {windows: {tumbling: {}, sliding: {}, session: {}}, kafka: {producer: {}}, sinks: [{type: file, path: b}]}",
            "processor: {sinks: [kafka], windows: {definitions: [{name: a, type: tumbling, size: 1s, sinks: [{type: file, path: b}]}]}, kafka: {producer: {}}}",
            "processor: {windows: {definitions: [{name: a, type: sliding, size: 1s, slide: 1s, sinks: [{type: kafka}]}]}, kafka: {producer: {}}}",
            "processor: {windows: {definitions: [{name: a, type: session, gap: 1s}]}}",
            "processor: {event: {key: [a, b]}, views: [{name: v, type: leaderboard, by: p95, per: [a], sinks: [{type: file, path: b}]}]}",
            "processor: {views: [{name: v, type: baseline, of: p95, previous: 3, regressed: {above: 3}, sinks: [{type: kafka, topic: t}]}], kafka: {producer: {}}}",
            "processor: {views: [{name: v, type: baseline, of: p95, days: 3, regressed: {below: 3, clear: 4}}]}",
            "processor: {event: {key: [a, b]}, views: [{name: v, type: rollup, keep: [a]}]}",
            "processor: {event: {key: [a, b]}, views: [{name: v, type: compare, field: a, champion: x, challenger: y, of: z}]}",
            "processor: {windows: {definitions: [{name: a, type: session, gap: 1s}]}, views: [{name: v, type: rollup, window: a, retain: 2h, keep: []}]}",
        ];
        let mut read = std::collections::BTreeSet::new();
        for text in configurations {
            let loaded = crate::config::load_str("t", text, std::iter::empty()).unwrap();
            read.extend(loaded.effective.origins().map(|(path, _)| path.replace("[0]", "")));
        }
        let inside_key = |known: &Known| known.parent() == "event.key";
        let leaf = |known: &&Known| children(known.path).next().is_none() && !inside_key(known);
        let unread: Vec<_> =
            KEYS.iter().filter(leaf).map(Known::written_path).filter(|path| !read.contains(path)).collect();
        assert!(unread.is_empty(), "{unread:?}");
    }

    #[test]
    fn durations_answer_to_both_spellings() {
        assert_eq!(child("windows.tumbling", "size_secs").map(|known| known.path), Some("windows.tumbling.size"));
        assert_eq!(child("windows.tumbling", "size").map(|known| known.path), Some("windows.tumbling.size"));
        assert!(child("windows.tumbling", "size_ms").is_none());
        assert_eq!(elsewhere("topics").as_deref(), Some("kafka.consumer.topics"));
        assert_eq!(elsewhere("path"), None);
    }
}
