//! `source`: where events come from.

use super::{millis, non_zero_u32};
use crate::config::model::{GeneratorConfig, SourceConfig};
use crate::config::reader::Reader;
use crate::config::schema;
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kafka,
    File,
    Stdin,
    Generator,
}

const KINDS: [(&str, Kind); 4] =
    [("kafka", Kind::Kafka), ("file", Kind::File), ("stdin", Kind::Stdin), ("generator", Kind::Generator)];

/// The keys that go with a kind, without their units' suffixes.
fn keys_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Kafka | Kind::Stdin => &[],
        Kind::File => &["paths"],
        Kind::Generator => {
            &["rate", "count", "keys", "seed", "disorder", "late_share", "malformed_share", "partitions"]
        }
    }
}

/// Reads the section.
pub(super) fn build(reader: &mut Reader, root: &Section<'_>) -> SourceConfig {
    let section = reader.section(root, "source");
    let (section, of_type) = reader.choice(section, root.node("source"));
    let parse = |node: &_| values::word(node, "source", &KINDS);
    let kind = reader
        .setting_at(&section, "type", of_type, Kind::Kafka, parse, |kind| crate::config::reader::word_of(kind, &KINDS));
    if !kind.sound {
        return SourceConfig::Kafka;
    }
    reject_foreign(reader, &section, kind.value);
    match kind.value {
        Kind::Kafka => SourceConfig::Kafka,
        Kind::Stdin => SourceConfig::Stdin,
        Kind::File => file(reader, &section),
        Kind::Generator => SourceConfig::Generator(generator(reader, &section)),
    }
}

/// Reports keys of another kind of source, which would have no effect.
fn reject_foreign(reader: &mut Reader, section: &Section<'_>, kind: Kind) {
    let name = |kind| crate::config::reader::word_of(&kind, &KINDS);
    for (key, _) in section.entries {
        let Some(base) = schema::child("source", &key.name).map(schema::Known::name) else { continue };
        if base == "type" || keys_of(kind).contains(&base) {
            continue;
        }
        let owner = KINDS.iter().find(|(_, kind)| keys_of(*kind).contains(&base)).map_or("", |(name, _)| name);
        let found = format!("has no meaning where source.type is {}", name(kind));
        let right = format!("write source.type: {owner}, or leave it out");
        reader.error(&key.origin, &section.path_of(&key.name), Problem::new(found, right));
    }
}

fn file(reader: &mut Reader, section: &Section<'_>) -> SourceConfig {
    let paths = reader.list(section, "paths", Vec::new(), false, values::text, |path| values::quote(path));
    if paths.sound && paths.value.is_empty() {
        let found = if paths.written() { "an empty list" } else { "absent" };
        let origin = if paths.written() { &paths.origin } else { &section.origin };
        let right = "the files to read, such as [events.jsonl, \"archive/*.jsonl.gz\"]";
        reader.error(origin, &paths.path, Problem::expected(found, right));
    }
    SourceConfig::File { paths: paths.value }
}

fn generator(reader: &mut Reader, section: &Section<'_>) -> GeneratorConfig {
    let most = u64::from(u32::MAX);
    let rate = reader.optional(section, "rate", Some(1000.0), values::positive, f64::to_string);
    let count = reader.optional(section, "count", None, |node| values::whole(node, 1..=u64::MAX), u64::to_string);
    let keys = reader.whole(section, "keys", 48, 1, most);
    let seed = reader.whole(section, "seed", 42, 0, u64::MAX);
    let disorder = reader.duration(section, "disorder", Unit::Seconds, 2000, 0);
    let share = |node: &_| values::number(node, 0.0..=1.0);
    let late_share = reader.setting(section, "late_share", 0.002, share, f64::to_string);
    let malformed_share = reader.setting(section, "malformed_share", 0.001, share, f64::to_string);
    let partitions = reader.whole(section, "partitions", 4, 1, 4096);
    GeneratorConfig {
        rate: rate.value,
        count: count.value,
        keys: non_zero_u32(&keys),
        seed: seed.value,
        disorder: millis(disorder.value),
        late_share: late_share.value,
        malformed_share: malformed_share.value,
        partitions: non_zero_u32(&partitions),
    }
}
