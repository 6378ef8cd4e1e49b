//! `windows.definitions`: several windows over one stream, and which sinks take the results of which.

use super::output::{self, Placed};
use super::windows::{self, Kind};
use super::{aggregation, job_name};
use crate::config::model::{AggregationConfig, SinkConfig};
use crate::config::raw::Node;
use crate::config::reader::{Reader, items};
use crate::config::section::Section;
use crate::config::values::{self, Problem};
use crate::config::{LatePolicy, TriggerConfig, WindowConfig, WindowDefinition};
use crate::event::DefinitionIndex;

/// Keys that belong to some kinds of windows and not to others.
const OF_SOME_KINDS: [(&str, &[Kind]); 6] = [
    ("size", &[Kind::Tumbling, Kind::Sliding]),
    ("slide", &[Kind::Sliding]),
    ("gap", &[Kind::Session]),
    ("max_length", &[Kind::Session]),
    ("offset", &[Kind::Tumbling, Kind::Sliding]),
    ("time_zone", &[Kind::Tumbling]),
];

/// Reads `windows` and `sinks`: the one kind of windows or the definitions, and all sinks there are.
pub(super) fn build(
    reader: &mut Reader,
    root: &Section<'_>,
    aggregation: &AggregationConfig,
    has_producer: bool,
) -> (WindowConfig, Vec<WindowDefinition>, Vec<Placed<SinkConfig>>) {
    let section = reader.section(root, "windows");
    let Some(node) = section.node("definitions").filter(|node| !node.is_null()) else {
        let windows = windows::windows(reader, &section);
        return (windows, Vec::new(), output::sinks(reader, root, has_producer));
    };
    reject_single(reader, &section);
    let late_policy = windows::late_policy(reader, &section, LatePolicy::Refine).value;
    let inherited = (late_policy, windows::trigger(reader, &section, TriggerConfig::NONE));
    let nodes = definitions(reader, &section, node);
    let numbered = nodes.iter().enumerate();
    let items: Vec<_> = numbered.map(|(index, node)| reader.item(&section, "definitions", index, node)).collect();
    let mut sinks = sinks_of_all(reader, root, &items, has_producer);
    let of_all: Vec<usize> = (0..sinks.len()).collect();
    let mut definitions: Vec<WindowDefinition> = Vec::new();
    for item in &items {
        let name = name(reader, item, &definitions);
        let Some(windows) = window(reader, item, inherited) else { continue };
        let aggregation = aggregation::build(reader, item, aggregation);
        let own = item.node("sinks").map(|_| own_sinks(reader, item, &mut sinks));
        let sinks = Some(own.unwrap_or_else(|| of_all.clone()));
        definitions.push(WindowDefinition { name: Some(name.into()), windows, aggregation, sinks });
    }
    (windows::default(), definitions, sinks)
}

/// Reads the sinks of all: those of each definition that names none.
fn sinks_of_all(
    reader: &mut Reader,
    root: &Section<'_>,
    items: &[Section<'_>],
    has_producer: bool,
) -> Vec<Placed<SinkConfig>> {
    let all_have_own = !items.is_empty() && items.iter().all(|item| item.node("sinks").is_some());
    match (all_have_own, root.node("sinks")) {
        (true, None) => return Vec::new(),
        (true, Some(node)) => {
            let text = "nothing is written to these sinks: every window definition has its own";
            reader.warn(&node.origin, &root.path_of("sinks"), text);
        }
        (false, _) => {}
    }
    output::sinks(reader, root, has_producer)
}

/// The windows are either one kind or definitions.
fn reject_single(reader: &mut Reader, section: &Section<'_>) {
    for name in ["default_type", "tumbling", "sliding", "session"] {
        if let Some(node) = section.node(name) {
            let right = "make it one of the definitions, or leave it out";
            let problem = Problem::new("given together with windows.definitions", right);
            reader.error(&node.origin, &section.path_of(name), problem);
        }
    }
}

fn definitions(reader: &mut Reader, section: &Section<'_>, node: &Node) -> Vec<Node> {
    let path = section.path_of("definitions");
    let right = "a list such as [{name: hourly, type: tumbling, size: 1h}, {name: visits, type: session, gap: 5m}]";
    let nodes = items(node, false).unwrap_or_default();
    if nodes.is_empty() {
        let found = if items(node, false).is_some() { "an empty list".to_owned() } else { node.to_string() };
        reader.error(&node.origin, &path, Problem::expected(found, right));
    }
    if nodes.len() > DefinitionIndex::MOST {
        let found = format!("{} definitions", nodes.len());
        let right = format!("{} at most; another job may read the same topic", DefinitionIndex::MOST);
        reader.error(&node.origin, &path, Problem::expected(found, right));
        return Vec::new();
    }
    nodes
}

fn name(reader: &mut Reader, item: &Section<'_>, others: &[WindowDefinition]) -> String {
    if item.node("name").is_none() {
        let problem = Problem::expected("absent", "the name that results have, such as hourly");
        reader.error(&item.origin, &item.path_of("name"), problem);
        return String::new();
    }
    let name = reader.setting(item, "name", String::new(), job_name, |name| values::quote(name));
    if name.sound && others.iter().any(|other| other.name.as_deref() == Some(&name.value)) {
        let found = format!("{} is the name of another definition", values::quote(&name.value));
        reader.error(&name.origin, &name.path, Problem::new(found, "give each a name of its own"));
    }
    name.value
}

fn window(reader: &mut Reader, item: &Section<'_>, inherited: (LatePolicy, TriggerConfig)) -> Option<WindowConfig> {
    if item.node("type").is_none() {
        let right = values::one_of(windows::KINDS.iter().map(|(name, _)| *name));
        reader.error(&item.origin, &item.path_of("type"), Problem::expected("absent", right));
        return None;
    }
    let kind = reader.word(item, "type", "kind of window", Kind::Tumbling, &windows::KINDS);
    if !kind.sound {
        return None;
    }
    reject_foreign(reader, item, kind.value);
    for (name, _) in OF_SOME_KINDS.iter().filter(|(name, kinds)| needed(name) && kinds.contains(&kind.value)) {
        let missing = [name.to_string(), format!("{name}_secs")].iter().all(|name| item.node(name).is_none());
        if missing {
            let problem = Problem::expected("absent", "a duration such as 5m");
            reader.error(&item.origin, &item.path_of(name), problem);
        }
    }
    Some(windows::of_kind(reader, item, kind.value, inherited))
}

/// Whether a definition must say it: unlike the one kind of windows, several have no sizes that go without saying.
fn needed(name: &str) -> bool {
    ["size", "slide", "gap"].contains(&name)
}

fn reject_foreign(reader: &mut Reader, item: &Section<'_>, kind: Kind) {
    for (key, _) in item.entries {
        let base = key.name.strip_suffix("_secs").unwrap_or(&key.name);
        if let Some((_, kinds)) = OF_SOME_KINDS.iter().find(|(name, kinds)| *name == base && !kinds.contains(&kind)) {
            let of = |kind: &Kind| windows::KINDS.iter().find(|(_, known)| known == kind).map_or("", |(name, _)| name);
            let found = format!("has no meaning where the type is {}", of(&kind));
            let right =
                format!("leave it out, or write type: {}", kinds.iter().map(of).collect::<Vec<_>>().join(" or "));
            reader.error(&key.origin, &item.path_of(&key.name), Problem::new(found, right));
        }
    }
}

/// Reads a definition's own sinks. Returns their places among all; one that is there already is shared.
pub(super) fn own_sinks(reader: &mut Reader, item: &Section<'_>, all: &mut Vec<Placed<SinkConfig>>) -> Vec<usize> {
    let mut places = Vec::new();
    for sink in output::sinks(reader, item, false) {
        let known = all.iter().position(|other| output::same(&other.output, &sink.output));
        if let Some(known) = known.filter(|known| all[*known].output != sink.output) {
            let found = format!("the file of {}, in another mode", all[known].path());
            reader.error(sink.origin(), sink.path(), Problem::new(found, "write the same mode, or name another file"));
        }
        places.push(known.unwrap_or_else(|| {
            all.push(sink);
            all.len() - 1
        }));
    }
    places
}
