//! `sinks`, `late` and `error_handling`: where results go, and what does not become one.

use super::kafka::{Need, topic};
use super::millis;
use crate::config::model::{ErrorHandling, ErrorPolicy, FileMode, SideSinkConfig, SinkConfig, SourceConfig};
use crate::config::raw::{Node, Origin, Value};
use crate::config::reader::{Reader, Setting, items, word_of};
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kafka,
    File,
    Stdout,
    Console,
}

const KINDS: [(&str, Kind); 4] =
    [("kafka", Kind::Kafka), ("file", Kind::File), ("stdout", Kind::Stdout), ("console", Kind::Console)];
const SIDE_KINDS: [(&str, Kind); 2] = [("file", Kind::File), ("kafka", Kind::Kafka)];
const MODES: [(&str, FileMode); 2] = [("append", FileMode::Append), ("atomic", FileMode::Atomic)];
const POLICIES: [(&str, ErrorPolicy); 4] = [
    ("retry", ErrorPolicy::Retry),
    ("skip", ErrorPolicy::Skip),
    ("dead_letter", ErrorPolicy::DeadLetter),
    ("fail", ErrorPolicy::Fail),
];

/// An output with the place that asks for it.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    /// The output.
    pub(super) output: T,
    origin: Origin,
    path: String,
}

impl<T> Placed<T> {
    /// Where it is written.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its dotted path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// Reads the list `sinks` of a section.
pub(super) fn sinks(reader: &mut Reader, root: &Section<'_>, has_producer: bool) -> Vec<Placed<SinkConfig>> {
    let path = root.path_of("sinks");
    let Some(node) = root.node("sinks") else {
        let (word, output) =
            if has_producer { ("kafka", SinkConfig::Kafka { topic: None }) } else { ("console", SinkConfig::Console) };
        reader.show(root, "sinks", format!("[{word}]"), &Origin::Default);
        return vec![Placed { output, origin: Origin::Default, path }];
    };
    let Some(nodes) = items(node, true).filter(|nodes| !nodes.is_empty()) else {
        let found = if items(node, true).is_some() { "an empty list".to_owned() } else { node.to_string() };
        reader.error(
            &node.origin,
            &path,
            Problem::expected(found, "a list such as [{type: kafka}, {type: file, path: results.jsonl}]"),
        );
        return Vec::new();
    };
    let mut sinks: Vec<Placed<SinkConfig>> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let Some(sink) = sink(reader, root, index, node) else { continue };
        if sinks.iter().any(|other| same(&other.output, &sink.output)) {
            reader.error(
                &sink.origin,
                &sink.path,
                Problem::new("a sink that is there already", "write each sink once"),
            );
        }
        sinks.push(sink);
    }
    let has = |wanted: SinkConfig| sinks.iter().find(|sink| sink.output == wanted);
    if let (Some(_), Some(console)) = (has(SinkConfig::Stdout), has(SinkConfig::Console)) {
        let (origin, path) = (console.origin.clone(), console.path.clone());
        reader.warn(&origin, &path, "console and stdout both write to standard output; their lines will be mixed");
    }
    sinks
}

/// Two files are the same sink whatever their modes.
pub(super) fn same(a: &SinkConfig, b: &SinkConfig) -> bool {
    match (a, b) {
        (SinkConfig::File { path: a, .. }, SinkConfig::File { path: b, .. }) => a == b,
        _ => a == b,
    }
}

fn sink(reader: &mut Reader, root: &Section<'_>, index: usize, node: &Node) -> Option<Placed<SinkConfig>> {
    let section = reader.item(root, "sinks", index, node);
    if matches!(node.value, Value::List(_)) {
        return None;
    }
    let (section, of_type) = reader.choice(section, Some(node));
    if of_type.is_none() {
        return missing_type(reader, &section, &node.origin, &KINDS);
    }
    let kind = kind(reader, &section, of_type, "sink", &KINDS)?;
    let own: &[&str] = match kind {
        Kind::File => &["path", "mode"],
        Kind::Kafka => &["topic"],
        Kind::Stdout | Kind::Console => &[],
    };
    reject_foreign(reader, &section, kind, own);
    let output = match kind {
        Kind::Kafka => {
            let topic = reader.optional(&section, "topic", None, topic, |topic: &String| values::quote(topic));
            SinkConfig::Kafka { topic: topic.value }
        }
        Kind::Stdout => SinkConfig::Stdout,
        Kind::Console => SinkConfig::Console,
        Kind::File => {
            let path = file_path(reader, &section, "results.jsonl")?;
            let mode = reader.word(&section, "mode", "mode", FileMode::Append, &MODES);
            SinkConfig::File { path, mode: mode.value }
        }
    };
    Some(Placed { output, origin: node.origin.clone(), path: section.path() })
}

fn missing_type<T>(reader: &mut Reader, section: &Section<'_>, origin: &Origin, kinds: &[(&str, Kind)]) -> Option<T> {
    let right = values::one_of(kinds.iter().map(|(name, _)| *name));
    reader.error(origin, &section.path_of("type"), Problem::expected("absent", right));
    None
}

fn kind<'t>(
    reader: &mut Reader,
    section: &Section<'t>,
    node: Option<&'t Node>,
    what: &str,
    kinds: &[(&str, Kind)],
) -> Option<Kind> {
    let parse = |node: &Node| values::word(node, what, kinds);
    let default = kinds.first().map(|(_, kind)| *kind)?;
    let kind = reader.setting_at(section, "type", node, default, parse, |kind| word_of(kind, kinds));
    kind.sound.then_some(kind.value)
}

fn reject_foreign(reader: &mut Reader, section: &Section<'_>, kind: Kind, allowed: &[&str]) {
    for (key, _) in section.entries {
        let foreign = ["path", "mode", "topic"].contains(&key.name.as_str()) && !allowed.contains(&key.name.as_str());
        if foreign {
            let found = format!("has no meaning where the type is {}", word_of(&kind, &KINDS));
            let right = match (kind, key.name.as_str()) {
                (Kind::Kafka, "path" | "mode") => "write type: file, or leave it out",
                (Kind::File, "topic") => "write type: kafka, or leave it out",
                _ => "leave it out",
            };
            reader.error(&key.origin, &section.path_of(&key.name), Problem::new(found, right));
        }
    }
}

fn file_path(reader: &mut Reader, section: &Section<'_>, example: &str) -> Option<PathBuf> {
    if section.node("path").is_none() {
        let problem = Problem::expected("absent", format_args!("the file to write, such as {example}"));
        reader.error(&section.origin, &section.path_of("path"), problem);
        return None;
    }
    let path = reader.text(section, "path", example.to_owned());
    path.sound.then(|| PathBuf::from(path.value))
}

/// Reads `late`.
pub(super) fn late(reader: &mut Reader, root: &Section<'_>) -> Option<Placed<SideSinkConfig>> {
    let parent = reader.section(root, "late");
    let node = parent.node("sink").filter(|node| !node.is_null());
    let section = reader.section(&parent, "sink");
    let Some(node) = node else {
        let origin = parent.node("sink").map_or(Origin::Default, |node| node.origin.clone());
        reader.show(&parent, "sink", "null".to_owned(), &origin);
        return None;
    };
    if matches!(node.value, Value::List(_)) {
        return None;
    }
    let (section, of_type) = reader.choice(section, Some(node));
    if of_type.is_none() {
        return missing_type(reader, &section, &node.origin, &SIDE_KINDS);
    }
    let kind = kind(reader, &section, of_type, "sink for late records", &SIDE_KINDS)?;
    reject_foreign(reader, &section, kind, if kind == Kind::File { &["path"] } else { &["topic"] });
    let output = match kind {
        Kind::File => SideSinkConfig::File { path: file_path(reader, &section, "late.jsonl")? },
        _ if section.node("topic").is_none() => {
            let problem = Problem::expected("absent", "the topic to write, such as late-events");
            reader.error(&section.origin, &section.path_of("topic"), problem);
            return None;
        }
        _ => {
            let topic = reader.setting(&section, "topic", String::new(), topic, |topic| values::quote(topic));
            SideSinkConfig::Kafka { topic: topic.value }
        }
    };
    Some(Placed { output, origin: node.origin.clone(), path: section.path() })
}

/// Reads `error_handling`; `default_topic` is where dead letters go when nothing is said.
pub(super) fn error_handling(
    reader: &mut Reader,
    root: &Section<'_>,
    default_topic: Option<String>,
) -> (ErrorHandling, Option<Placed<SideSinkConfig>>) {
    let section = reader.section(root, "error_handling");
    let policy = reader.word(&section, "policy", "policy", ErrorPolicy::Skip, &POLICIES);
    let max_retries = reader.whole(&section, "max_retries", 5, 0, u64::from(u32::MAX));
    let initial = reader.duration(&section, "initial_retry_delay", Unit::Millis, 100, 0);
    let longest = reader.duration(&section, "max_retry_delay", Unit::Millis, 30_000, 0);
    if initial.sound && longest.sound && longest.value < initial.value {
        let (at, other) = if longest.written() { (&longest, &initial) } else { (&initial, &longest) };
        let found = format!("{} ms, with {} at {} ms", at.value, other.path, other.value);
        let problem = Problem::new(found, "expected max_retry_delay_ms of at least initial_retry_delay_ms");
        reader.error(&at.origin, &at.path, problem);
    }
    let dead_letter = dead_letter(reader, &section, &policy, default_topic);
    let handling = ErrorHandling {
        policy: policy.value,
        max_retries: u32::try_from(max_retries.value).unwrap_or(u32::MAX),
        initial_retry_delay: millis(initial.value),
        max_retry_delay: millis(longest.value),
        dead_letter: dead_letter.as_ref().map(|placed| placed.output.clone()),
    };
    (handling, dead_letter)
}

fn dead_letter(
    reader: &mut Reader,
    section: &Section<'_>,
    policy: &Setting<ErrorPolicy>,
    default_topic: Option<String>,
) -> Option<Placed<SideSinkConfig>> {
    let in_use = policy.value == ErrorPolicy::DeadLetter;
    let has_file = section.node("dead_letter_file").is_some_and(|node| !node.is_null());
    let default = default_topic.filter(|_| in_use && !has_file);
    let show = |topic: &String| values::quote(topic);
    let topic = reader.optional(section, "dead_letter_topic", default, topic, show);
    let file = reader.optional_text(section, "dead_letter_file", None);
    if policy.sound && !in_use {
        for (path, origin, given) in
            [(&topic.path, &topic.origin, topic.value.is_some()), (&file.path, &file.origin, file.value.is_some())]
        {
            if given {
                let found =
                    format!("has no meaning where error_handling.policy is {}", word_of(&policy.value, &POLICIES));
                reader.error(
                    origin,
                    path,
                    Problem::new(found, "write error_handling.policy: dead_letter, or leave it out"),
                );
            }
        }
    }
    if !in_use {
        return None;
    }
    match (topic.value, file.value) {
        (Some(_), Some(_)) => {
            let problem = Problem::new("given together with dead_letter_topic", "write one of the two");
            reader.error(&file.origin, &file.path, problem);
            None
        }
        (Some(name), None) => {
            let origin = if topic.origin == Origin::Default { policy.origin.clone() } else { topic.origin };
            Some(Placed { output: SideSinkConfig::Kafka { topic: name }, origin, path: topic.path })
        }
        (None, Some(path)) => {
            Some(Placed { output: SideSinkConfig::File { path: path.into() }, origin: file.origin, path: file.path })
        }
        (None, None) => {
            if topic.sound && file.sound {
                let found = "dead_letter, while nothing says where dead letters go";
                let right = "write error_handling.dead_letter_file, or dead_letter_topic with kafka.producer, too";
                reader.error(&policy.origin, &policy.path, Problem::new(found, right));
            }
            None
        }
    }
}

/// Refuses files that appear at the end of a run that has none: what a crash left unwritten would have been committed.
pub(super) fn check_modes(reader: &mut Reader, sinks: &[Placed<SinkConfig>], source: &SourceConfig) {
    if *source != SourceConfig::Kafka {
        return;
    }
    for sink in sinks.iter().filter(|sink| matches!(sink.output, SinkConfig::File { mode: FileMode::Atomic, .. })) {
        let found = "atomic, which writes the file when the input ends; a Kafka topic has no end, and a crash would lose results \
                     whose offsets are committed";
        reader.error(&sink.origin, &format!("{}.mode", sink.path), Problem::new(found, "write mode: append"));
    }
}

/// The first output that needs a producer.
pub(super) fn needs_producer(sinks: &[Placed<SinkConfig>], sides: &[&Placed<SideSinkConfig>]) -> Option<Need> {
    let sink = sinks
        .iter()
        .find(|sink| matches!(sink.output, SinkConfig::Kafka { .. }))
        .map(|sink| (sink.origin.clone(), sink.path.clone()));
    let side = || {
        let side = sides.iter().find(|side| matches!(side.output, SideSinkConfig::Kafka { .. }))?;
        Some((side.origin.clone(), side.path.clone()))
    };
    sink.or_else(side)
}

/// Reports outputs that would write where something else is read or written.
pub(super) fn check_places(
    reader: &mut Reader,
    sinks: &[Placed<SinkConfig>],
    sides: &[&Placed<SideSinkConfig>],
    read_topics: &[String],
    result_topic: Option<&str>,
) {
    for sink in sinks {
        let SinkConfig::Kafka { topic: Some(topic) } = &sink.output else { continue };
        if read_topics.contains(topic) {
            let found = format!("{topic:?} is one of kafka.consumer.topics, so that results would be read as events");
            reader.error(&sink.origin, &format!("{}.topic", sink.path), Problem::new(found, "name a topic of its own"));
        }
    }
    let is_of_results = |topic: &String| {
        let own =
            |sink: &Placed<SinkConfig>| matches!(&sink.output, SinkConfig::Kafka { topic: Some(own) } if own == topic);
        result_topic == Some(topic.as_str()) || sinks.iter().any(own)
    };
    for side in sides {
        let problem = match &side.output {
            SideSinkConfig::Kafka { topic } if read_topics.contains(topic) => {
                let found =
                    format!("{topic:?} is one of kafka.consumer.topics, so that these records would be read again");
                Problem::new(found, "name a topic of its own")
            }
            SideSinkConfig::Kafka { topic } if is_of_results(topic) => {
                Problem::new(format_args!("{topic:?} is the topic of results"), "name a topic of its own")
            }
            SideSinkConfig::File { path }
                if sinks
                    .iter()
                    .any(|sink| matches!(&sink.output, SinkConfig::File { path: other, .. } if other == path)) =>
            {
                Problem::new(
                    format_args!("{:?} is the file of a sink", path.display().to_string()),
                    "name a file of its own",
                )
            }
            _ => continue,
        };
        reader.error(&side.origin, &side.path, problem);
    }
}
