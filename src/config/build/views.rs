//! `views`: what is made of results.

use super::definitions::own_sinks;
use super::job_name;
use super::output::Placed;
use crate::config::model::{AggregationConfig, EventConfig, SinkConfig, ViewConfig};
use crate::config::raw::Node;
use crate::config::reader::{Reader, Setting, items};
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use crate::config::{WindowConfig, WindowDefinition};
use crate::event::DefinitionIndex;
use crate::time::Span;
use crate::view::check::{DEFAULT_RETAIN, MOST_ROWS, MOST_WINDOWS, Surroundings, step_of};
use crate::view::{Baseline, Compare, Leaderboard, Measure, Regressed, Rollup, View, ViewKind};
use std::sync::Arc;

/// A kind of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Leaderboard,
    Baseline,
    Rollup,
    Compare,
}

const KINDS: [(&str, Kind); 4] = [
    ("leaderboard", Kind::Leaderboard),
    ("baseline", Kind::Baseline),
    ("rollup", Kind::Rollup),
    ("compare", Kind::Compare),
];

/// Keys that belong to some kinds of views and not to others.
const OF_SOME_KINDS: [(&str, &[Kind]); 12] = [
    ("by", &[Kind::Leaderboard]),
    ("top", &[Kind::Leaderboard]),
    ("order", &[Kind::Leaderboard]),
    ("per", &[Kind::Leaderboard]),
    ("of", &[Kind::Baseline, Kind::Compare]),
    ("previous", &[Kind::Baseline]),
    ("days", &[Kind::Baseline]),
    ("regressed", &[Kind::Baseline]),
    ("keep", &[Kind::Rollup]),
    ("field", &[Kind::Compare]),
    ("champion", &[Kind::Compare]),
    ("challenger", &[Kind::Compare]),
];

const ORDERS: [(&str, bool); 2] = [("largest", false), ("smallest", true)];
const MEASURES: [(&str, Measure); 3] =
    [("z_score", Measure::ZScore), ("ratio", Measure::Ratio), ("difference", Measure::Difference)];

const DEFAULT_TOP: u64 = 10;
const DEFAULT_PREVIOUS: u64 = 10;
const DEFAULT_LOOK_BACK: u64 = 10;

/// What views find where they look.
pub(super) struct Around<'a> {
    key_fields: Vec<String>,
    definitions: Vec<(Option<Arc<str>>, &'a WindowConfig, &'a AggregationConfig)>,
}

impl<'a> Around<'a> {
    /// Of the windows that there are.
    pub(super) fn new(
        event: &EventConfig,
        windows: &'a WindowConfig,
        definitions: &'a [WindowDefinition],
        aggregation: &'a AggregationConfig,
    ) -> Self {
        let definitions = match definitions {
            [] => vec![(None, windows, aggregation)],
            several => several.iter().map(|of| (of.name.clone(), &of.windows, &of.aggregation)).collect(),
        };
        Self { key_fields: event.key.iter().map(|field| field.name.clone()).collect(), definitions }
    }

    /// What aggregates of a definition are called.
    fn aggregates(&self, definition: usize) -> Vec<Arc<str>> {
        let plan = crate::aggregate::AggregatePlan::new(self.definitions[definition].2);
        plan.map_or_else(|_| Vec::new(), |plan| plan.names().to_vec())
    }
}

/// Reads `views`; sinks of their own are added to `sinks`.
pub(super) fn build(
    reader: &mut Reader,
    root: &Section<'_>,
    around: &Around<'_>,
    sinks: &mut Vec<Placed<SinkConfig>>,
) -> Vec<ViewConfig> {
    let Some(node) = root.node("views").filter(|node| !node.is_null()) else { return Vec::new() };
    let nodes = nodes(reader, root, node, around.definitions.len());
    let of_all: Vec<usize> = (0..sinks.len()).collect();
    let mut views: Vec<ViewConfig> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let item = reader.item(root, "views", index, node);
        let name = name(reader, &item, &views);
        let kind = kind(reader, &item);
        let definition = window(reader, &item, around);
        let (Some(kind), Some(definition)) = (kind, definition) else { continue };
        reject_foreign(reader, &item, kind);
        let windows = around.definitions[definition].1;
        let least = windows.allowed_lateness.as_millis().max(DEFAULT_RETAIN.as_millis());
        let retain = reader.duration(&item, "retain", Unit::Seconds, least, 0).value;
        let Some(kind) = parameters(reader, &item, kind, windows) else { continue };
        let own = item.node("sinks").map(|_| own_sinks(reader, &item, sinks));
        let view = View {
            name: name.into(),
            definition: DefinitionIndex::of(definition),
            retain: Span::from_millis(retain),
            kind,
        };
        check(reader, &item, &view, around);
        views.push(ViewConfig { view, sinks: Some(own.unwrap_or_else(|| of_all.clone())) });
    }
    views
}

fn nodes(reader: &mut Reader, root: &Section<'_>, node: &Node, definitions: usize) -> Vec<Node> {
    let path = root.path_of("views");
    let right = "a list such as [{name: slowest, type: leaderboard, by: p95, top: 10}]";
    let nodes = items(node, false).unwrap_or_default();
    if nodes.is_empty() {
        let found = if items(node, false).is_some() { "an empty list".to_owned() } else { node.to_string() };
        reader.error(&node.origin, &path, Problem::expected(found, right));
    }
    let most = DefinitionIndex::MOST.saturating_sub(definitions);
    if nodes.len() > most {
        let found = format!("{} views beside {definitions} window definitions", nodes.len());
        reader.error(&node.origin, &path, Problem::expected(found, format!("{most} views at most")));
        return Vec::new();
    }
    nodes
}

fn absent(reader: &mut Reader, item: &Section<'_>, key: &str, right: &str) {
    reader.error(&item.origin, &item.path_of(key), Problem::expected("absent", right));
}

fn name(reader: &mut Reader, item: &Section<'_>, others: &[ViewConfig]) -> String {
    if item.node("name").is_none() {
        absent(reader, item, "name", "the name that changes have, such as slowest");
        return String::new();
    }
    let name = reader.setting(item, "name", String::new(), job_name, |name| values::quote(name));
    if name.sound && others.iter().any(|other| *other.view.name == *name.value) {
        let found = format!("{} is the name of another view", values::quote(&name.value));
        reader.error(&name.origin, &name.path, Problem::new(found, "give each a name of its own"));
    }
    name.value
}

fn kind(reader: &mut Reader, item: &Section<'_>) -> Option<Kind> {
    if item.node("type").is_none() {
        absent(reader, item, "type", &values::one_of(KINDS.iter().map(|(name, _)| *name)));
        return None;
    }
    let kind = reader.word(item, "type", "kind of view", Kind::Leaderboard, &KINDS);
    kind.sound.then_some(kind.value)
}

/// The place of the window definition whose results it reads.
fn window(reader: &mut Reader, item: &Section<'_>, around: &Around<'_>) -> Option<usize> {
    let names: Vec<&str> = around.definitions.iter().filter_map(|(name, ..)| name.as_deref()).collect();
    let window = reader.optional_text(item, "window", None);
    let wrong = |found: String| match names.is_empty() {
        true => Problem::new(found, "leave it out: there is one kind of windows, without a name"),
        false => Problem::expected(found, values::one_of(names.iter().copied())),
    };
    match window.value {
        None if around.definitions.len() == 1 => Some(0),
        None => {
            let right = format!("which windows: {}", values::one_of(names.iter().copied()));
            absent(reader, item, "window", &right);
            None
        }
        Some(name) => {
            let place = around.definitions.iter().position(|(of, ..)| of.as_deref() == Some(&*name));
            if place.is_none() {
                reader.error(&window.origin, &window.path, wrong(values::quote(&name)));
            }
            place
        }
    }
}

fn reject_foreign(reader: &mut Reader, item: &Section<'_>, kind: Kind) {
    let of = |kind: &Kind| KINDS.iter().find(|(_, known)| known == kind).map_or("", |(name, _)| name);
    for (key, _) in item.entries {
        let known = OF_SOME_KINDS.iter().find(|(name, kinds)| *name == key.name && !kinds.contains(&kind));
        if let Some((_, kinds)) = known {
            let found = format!("has no meaning where the type is {}", of(&kind));
            let right =
                format!("leave it out, or write type: {}", kinds.iter().map(of).collect::<Vec<_>>().join(" or "));
            reader.error(&key.origin, &item.path_of(&key.name), Problem::new(found, right));
        }
    }
}

fn parameters(reader: &mut Reader, item: &Section<'_>, kind: Kind, windows: &WindowConfig) -> Option<ViewKind> {
    Some(match kind {
        Kind::Leaderboard => {
            let by = needed(reader, item, "by", "the figure that ranks, such as p95");
            let top = reader.whole(item, "top", DEFAULT_TOP, 1, MOST_ROWS).value as usize;
            let smallest = reader.word(item, "order", "order", false, &ORDERS).value;
            let per = names(reader, item, "per");
            ViewKind::Leaderboard(Leaderboard { by: by?, top, smallest, per })
        }
        Kind::Baseline => {
            let of = needed(reader, item, "of", "the figure that is compared, such as average");
            let (count, daily) = earlier(reader, item);
            let regressed = regressed(reader, item);
            let step = step_of(windows).unwrap_or(Span::from_millis(1));
            ViewKind::Baseline(Baseline { of: of?, count, daily, step, regressed })
        }
        Kind::Rollup => {
            if item.node("keep").is_none() {
                absent(
                    reader,
                    item,
                    "keep",
                    "the key fields that stay, such as [model]; [] is everything in one group",
                );
                return None;
            }
            ViewKind::Rollup(Rollup { by: names(reader, item, "keep") })
        }
        Kind::Compare => {
            let field = needed(reader, item, "field", "the key field that tells the groups apart, such as model");
            let champion = needed(reader, item, "champion", "the field's value of the first group");
            let challenger = needed(reader, item, "challenger", "the field's value of the second group");
            let of = reader.optional_text(item, "of", None).value.map(Into::into);
            ViewKind::Compare(Compare { field: field?, champion: champion?, challenger: challenger?, of })
        }
    })
}

fn needed(reader: &mut Reader, item: &Section<'_>, key: &str, right: &str) -> Option<Arc<str>> {
    if item.node(key).is_none() {
        absent(reader, item, key, right);
        return None;
    }
    let text = reader.text(item, key, String::new());
    text.sound.then(|| text.value.into())
}

fn names(reader: &mut Reader, item: &Section<'_>, key: &str) -> Vec<Arc<str>> {
    let list = reader.list(item, key, Vec::new(), true, values::text, |name| values::quote(name));
    list.value.into_iter().map(Into::into).collect()
}

/// How many windows, and whether they are those of the days before.
fn earlier(reader: &mut Reader, item: &Section<'_>) -> (u32, bool) {
    let whole = |node: &Node| values::whole(node, 1..=MOST_WINDOWS);
    let days = reader.optional(item, "days", None, whole, u64::to_string);
    let default = days.value.is_none().then_some(DEFAULT_PREVIOUS);
    let previous = reader.optional(item, "previous", default, whole, u64::to_string);
    if days.value.is_some() && previous.value.is_some() {
        let problem = Problem::new(format_args!("given together with {}", previous.path), "write one of the two");
        reader.error(&days.origin, &days.path, problem);
    }
    let count = days.value.or(previous.value).unwrap_or(DEFAULT_PREVIOUS);
    (u32::try_from(count).unwrap_or(u32::MAX), days.value.is_some())
}

fn regressed(reader: &mut Reader, item: &Section<'_>) -> Option<Regressed> {
    let is_asked = item.node("regressed").is_some_and(|node| !node.is_null());
    let section = reader.section(item, "regressed");
    let number = |node: &Node| values::number(node, f64::MIN..=f64::MAX);
    let measure = reader.word(&section, "measure", "measure", Measure::ZScore, &MEASURES);
    let above = reader.optional(&section, "above", None, number, f64::to_string);
    let below = reader.optional(&section, "below", None, number, f64::to_string);
    let at = above.value.or(below.value);
    let clear: Setting<Option<f64>> = reader.optional(&section, "clear", at, number, f64::to_string);
    let look_back = reader.whole(&section, "look_back", DEFAULT_LOOK_BACK, 0, MOST_WINDOWS).value;
    match (above.value, below.value) {
        _ if !is_asked => None,
        (Some(_), Some(_)) => {
            let problem = Problem::new(format_args!("given together with {}", above.path), "write one of the two");
            reader.error(&below.origin, &below.path, problem);
            None
        }
        (None, None) => {
            if above.sound && below.sound {
                let problem = Problem::expected("absent", "a number such as 3, or below instead");
                reader.error(&section.origin, &section.path_of("above"), problem);
            }
            None
        }
        _ => Some(Regressed {
            measure: measure.value,
            above: above.value.is_some(),
            at: at?,
            clear: clear.value.or(at)?,
            look_back: u32::try_from(look_back).unwrap_or(u32::MAX),
        }),
    }
}

/// Tells what is wrong with a view, given its windows.
fn check(reader: &mut Reader, item: &Section<'_>, view: &View, around: &Around<'_>) {
    let definition = usize::from(view.definition.0);
    let aggregates = around.aggregates(definition);
    let surroundings = Surroundings {
        windows: around.definitions[definition].1,
        aggregates: &aggregates,
        key_fields: Some(&around.key_fields),
    };
    for problem in view.problems(surroundings) {
        let origin = item.node(problem.key).map_or(&item.origin, |node| &node.origin);
        reader.error(origin, &item.path_of(problem.key), Problem::expected(problem.found, problem.right));
    }
}
