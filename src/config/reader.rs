//! Reading settings out of sections: finds a key, turns its node into a value, notes the value with its origin, and when
//! something is wrong notes that and goes on with the default, so that one run finds every error.

use super::effective::{Effective, Step};
use super::errors::ConfigError;
use super::raw::{Node, Origin, Value};
use super::schema::{self, Kind};
use super::section::Section;
use super::values::{self, Problem, Unit};
use std::collections::HashMap;

/// What a reading has come to so far.
pub(super) struct Reader {
    file: String,
    /// Everything that is wrong.
    pub(super) errors: Vec<ConfigError>,
    /// What is allowed and most likely not meant.
    pub(super) warnings: Vec<String>,
    /// Every value in effect.
    pub(super) effective: Effective,
}

/// A value with where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    /// The value; the default where the one written is wrong.
    pub(super) value: T,
    /// Where it was written.
    pub(super) origin: Origin,
    /// Its dotted path.
    pub(super) path: String,
    /// Whether the value is what was meant; comparing a wrong one with others would only make more errors.
    pub(super) sound: bool,
}

impl<T> Setting<T> {
    /// Whether someone wrote it.
    pub(super) fn written(&self) -> bool {
        self.origin != Origin::Default
    }
}

/// A key as it was found.
struct Found<'t> {
    name: String,
    node: &'t Node,
}

impl Reader {
    pub(super) fn new(file: &str, errors: Vec<ConfigError>) -> Self {
        Reader { file: file.to_owned(), errors, warnings: Vec::new(), effective: Effective::new(file) }
    }

    /// Notes what is wrong with the value at a path.
    pub(super) fn error(&mut self, origin: &Origin, path: &str, problem: Problem) {
        let Problem { found, right } = problem;
        let path = path.to_owned();
        self.errors.push(ConfigError {
            file: self.file.clone(),
            origin: origin.clone(),
            column: None,
            path,
            found,
            right,
        });
    }

    /// Notes what is most likely not meant.
    pub(super) fn warn(&mut self, origin: &Origin, path: &str, text: &str) {
        self.warnings.push(match origin {
            Origin::Default => format!("{}: {path}: {text}", self.file),
            Origin::Line(line) => format!("{}:{line}: {path}: {text}", self.file),
            Origin::Environment(name) => format!("environment {name}: {text}"),
        });
    }

    /// The section below `processor`.
    pub(super) fn root<'t>(&mut self, node: &'t Node) -> Section<'t> {
        self.section_at(Vec::new(), String::new(), Some(node))
    }

    /// The section of this name in another.
    pub(super) fn section<'t>(&mut self, parent: &Section<'t>, name: &str) -> Section<'t> {
        let schema = if parent.schema.is_empty() { name.to_owned() } else { format!("{}.{name}", parent.schema) };
        self.section_at(parent.step(name), schema, parent.node(name))
    }

    /// The item of a list as a section with the keys that the schema has below the list.
    pub(super) fn item<'t>(&mut self, parent: &Section<'t>, name: &str, index: usize, node: &'t Node) -> Section<'t> {
        let schema = if parent.schema.is_empty() { name.to_owned() } else { format!("{}.{name}", parent.schema) };
        let mut steps = parent.step(name);
        steps.push(Step::Item(index));
        self.section_at(steps, schema, Some(node))
    }

    /// A section whose place may hold a word instead, which then stands for its `type`. Gives the node of the type too.
    pub(super) fn choice<'t>(
        &mut self,
        section: Section<'t>,
        node: Option<&'t Node>,
    ) -> (Section<'t>, Option<&'t Node>) {
        match node {
            Some(word) if word.scalar().is_some() && !word.is_null() => (section, Some(word)),
            _ => {
                let of_type = section.node("type");
                (section, of_type)
            }
        }
    }

    fn section_at<'t>(&mut self, steps: Vec<Step>, schema: String, node: Option<&'t Node>) -> Section<'t> {
        let mut section = Section { steps, schema, entries: &[], origin: Origin::Default };
        let Some(node) = node else { return section };
        section.origin = node.origin.clone();
        let kind =
            schema::KEYS.iter().find(|known| known.path == section.schema).map_or(Kind::Section, |known| known.kind);
        match &node.value {
            Value::Map(entries) => {
                section.entries = entries;
                self.check_names(&section, kind != Kind::Map);
            }
            _ if node.is_null() => {}
            Value::Scalar { .. } if matches!(kind, Kind::Choice | Kind::Items) => {}
            _ => {
                let right = match kind {
                    Kind::Map => "names and values".to_owned(),
                    _ => format!("a section with the keys {}", known_names(&section.schema)),
                };
                self.error(&node.origin, &section.path(), Problem::expected(node, right));
            }
        }
        section
    }

    /// Reports keys that nobody knows, and keys that are there twice.
    fn check_names(&mut self, section: &Section<'_>, only_known: bool) {
        let mut first: HashMap<&str, &Origin> = HashMap::new();
        for (key, _) in section.entries {
            let path = section.path_of(&key.name);
            if let Some(earlier) = first.get(key.name.as_str()) {
                let found = match earlier {
                    Origin::Line(line) => format!("written twice, first in line {line}"),
                    Origin::Environment(name) => format!("written twice, and set by {name}"),
                    Origin::Default => "written twice".to_owned(),
                };
                self.error(&key.origin, &path, Problem::new(found, "write each key once"));
                continue;
            }
            first.insert(&key.name, &key.origin);
            if only_known && schema::child(&section.schema, &key.name).is_none() {
                let right = suggestion(&section.schema, &key.name);
                self.error(&key.origin, &path, Problem::new("unknown key", right));
            }
        }
    }

    fn found<'t>(&mut self, section: &Section<'t>, name: &str) -> Option<Found<'t>> {
        section.node(name).map(|node| Found { name: name.to_owned(), node })
    }

    /// A setting with a default.
    pub(super) fn setting<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, Problem>,
        show: impl Fn(&T) -> String,
    ) -> Setting<T> {
        let found = self.found(section, name);
        self.take(section, name, found, default, parse, show)
    }

    /// A setting whose node the caller found.
    pub(super) fn setting_at<'t, T>(
        &mut self,
        section: &Section<'t>,
        name: &str,
        node: Option<&'t Node>,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, Problem>,
        show: impl Fn(&T) -> String,
    ) -> Setting<T> {
        let found = node.map(|node| Found { name: name.to_owned(), node });
        self.take(section, name, found, default, parse, show)
    }

    /// A setting that may be absent; `null` is absent too.
    pub(super) fn optional<T>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        default: Option<T>,
        parse: impl FnOnce(&Node) -> Result<T, Problem>,
        show: impl Fn(&T) -> String,
    ) -> Setting<Option<T>> {
        let parse = |node: &Node| if node.is_null() { Ok(None) } else { parse(node).map(Some) };
        self.setting(section, name, default, parse, |value| value.as_ref().map_or_else(|| "null".to_owned(), &show))
    }

    fn take<T>(
        &mut self,
        section: &Section<'_>,
        shown_name: &str,
        found: Option<Found<'_>>,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, Problem>,
        show: impl Fn(&T) -> String,
    ) -> Setting<T> {
        let setting = match found {
            None => Setting { value: default, origin: Origin::Default, path: section.path_of(shown_name), sound: true },
            Some(Found { name, node }) => {
                let path = section.path_of(&name);
                let origin = node.origin.clone();
                match parse(node) {
                    Ok(value) => Setting { value, origin, path, sound: true },
                    Err(problem) => {
                        self.error(&origin, &path, problem);
                        Setting { value: default, origin, path, sound: false }
                    }
                }
            }
        };
        self.effective.add(section.step(shown_name), show(&setting.value), setting.origin.clone());
        setting
    }

    /// Text with a default.
    pub(super) fn text(&mut self, section: &Section<'_>, name: &str, default: String) -> Setting<String> {
        self.setting(section, name, default, values::text, |text| values::quote(text))
    }

    /// Text that may be absent.
    pub(super) fn optional_text(
        &mut self,
        section: &Section<'_>,
        name: &str,
        default: Option<String>,
    ) -> Setting<Option<String>> {
        self.optional(section, name, default, values::text, |text| values::quote(text))
    }

    /// A truth value.
    pub(super) fn flag(&mut self, section: &Section<'_>, name: &str, default: bool) -> Setting<bool> {
        self.setting(section, name, default, values::flag, bool::to_string)
    }

    /// A whole number from `least` to `most`.
    pub(super) fn whole(
        &mut self,
        section: &Section<'_>,
        name: &str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Setting<u64> {
        self.setting(section, name, default, |node| values::whole(node, least..=most), u64::to_string)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy + PartialEq>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        what: &str,
        default: T,
        words: &[(&str, T)],
    ) -> Setting<T> {
        self.setting(section, name, default, |node| values::word(node, what, words), |value| word_of(value, words))
    }

    /// A duration in milliseconds; `least` is 0 or 1.
    pub(super) fn duration(
        &mut self,
        section: &Section<'_>,
        base: &str,
        unit: Unit,
        default: i64,
        least: i64,
    ) -> Setting<i64> {
        let shown = format!("{base}{}", unit.suffix());
        let found = self.found_duration(section, base, &shown);
        let unit_here = found.as_ref().and_then(|found| (found.name == shown).then_some(unit));
        let parse = |node: &Node| bounded_duration(node, unit_here, least);
        self.take(section, &shown, found, default, parse, |millis| values::in_unit(*millis, unit))
    }

    /// A duration in milliseconds that may be absent; `null` and `never` are absent too.
    pub(super) fn optional_duration(
        &mut self,
        section: &Section<'_>,
        base: &str,
        unit: Unit,
        default: Option<i64>,
    ) -> Setting<Option<i64>> {
        let shown = format!("{base}{}", unit.suffix());
        let found = self.found_duration(section, base, &shown);
        let unit_here = found.as_ref().and_then(|found| (found.name == shown).then_some(unit));
        let parse = |node: &Node| match node.scalar() {
            Some("never") => Ok(None),
            _ if node.is_null() => Ok(None),
            _ => bounded_duration(node, unit_here, 1).map(Some),
        };
        let show =
            |millis: &Option<i64>| millis.map_or_else(|| "null".to_owned(), |millis| values::in_unit(millis, unit));
        self.take(section, &shown, found, default, parse, show)
    }

    /// A duration by either of its names; both at once contradict each other.
    fn found_duration<'t>(&mut self, section: &Section<'t>, base: &str, with_unit: &str) -> Option<Found<'t>> {
        let (plain, suffixed) = (self.found(section, base), self.found(section, with_unit));
        if let (Some(plain), Some(_)) = (&plain, &suffixed) {
            let problem = Problem::new(format_args!("given together with {with_unit}"), "write one of the two");
            self.error(&plain.node.origin, &section.path_of(base), problem);
        }
        suffixed.or(plain)
    }

    /// A list; a scalar is a list of one, or where `commas` says so, of its parts between commas. Every item that is wrong is
    /// reported; equal items are reported too.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        default: Vec<T>,
        commas: bool,
        parse: impl Fn(&Node) -> Result<T, Problem>,
        show: impl Fn(&T) -> String,
    ) -> Setting<Vec<T>> {
        let mut setting = Setting { value: default, origin: Origin::Default, path: section.path_of(name), sound: true };
        if let Some(node) = section.node(name) {
            setting.origin = node.origin.clone();
            match items(node, commas) {
                None => {
                    self.error(&node.origin, &setting.path, Problem::expected(node, "a list"));
                    setting.sound = false;
                }
                Some(items) => {
                    let before = self.errors.len();
                    let values = self.items(&setting.path, &items, parse, &show);
                    setting.sound = self.errors.len() == before;
                    if setting.sound {
                        setting.value = values;
                    }
                }
            }
        }
        self.effective.add(section.step(name), flow(setting.value.iter().map(show)), setting.origin.clone());
        setting
    }

    fn items<T: PartialEq>(
        &mut self,
        path: &str,
        nodes: &[Node],
        parse: impl Fn(&Node) -> Result<T, Problem>,
        show: impl Fn(&T) -> String,
    ) -> Vec<T> {
        let mut values: Vec<T> = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            match parse(node) {
                Ok(value) if values.contains(&value) => {
                    let problem = Problem::new(format_args!("{} is there twice", show(&value)), "write each item once");
                    self.error(&node.origin, &format!("{path}[{index}]"), problem);
                }
                Ok(value) => values.push(value),
                Err(problem) => self.error(&node.origin, &format!("{path}[{index}]"), problem),
            }
        }
        values
    }

    /// Names and values of the user's own, in the order written.
    pub(super) fn map<'t>(&mut self, section: &Section<'t>, name: &str) -> Section<'t> {
        let map = self.section(section, name);
        if map.entries.is_empty() {
            self.effective.add(section.step(name), "{}".to_owned(), map.origin.clone());
        }
        map
    }

    /// Notes a value that has no setting of its own, such as one entry of a map.
    pub(super) fn show(&mut self, section: &Section<'_>, name: &str, value: String, origin: &Origin) {
        self.effective.add(section.step(name), value, origin.clone());
    }
}

/// `[a, b]`.
pub(super) fn flow(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// The word that stands for a value.
pub(super) fn word_of<T: PartialEq>(value: &T, words: &[(&str, T)]) -> String {
    words
        .iter()
        .find(|(_, candidate)| candidate == value)
        .map_or_else(|| "null".to_owned(), |(word, _)| (*word).to_owned())
}

/// The items of a list, or of what counts as one.
pub(super) fn items(node: &Node, commas: bool) -> Option<Vec<Node>> {
    match &node.value {
        Value::List(items) => Some(items.clone()),
        Value::Map(_) => None,
        Value::Scalar { .. } if node.is_null() => None,
        Value::Scalar { text, quoted } if commas => Some(
            text.split(',')
                .map(|part| Node {
                    origin: node.origin.clone(),
                    value: Value::Scalar { text: part.trim().to_owned(), quoted: *quoted },
                })
                .collect(),
        ),
        Value::Scalar { .. } => Some(vec![node.clone()]),
    }
}

fn bounded_duration(node: &Node, unit: Option<Unit>, least: i64) -> Result<i64, Problem> {
    match values::duration(node, unit)? {
        millis if millis < least => Err(Problem::expected(node, "a duration above 0")),
        millis => Ok(millis),
    }
}

fn known_names(schema: &str) -> String {
    schema::children(schema).map(|known| known.spellings().swap_remove(0)).collect::<Vec<_>>().join(", ")
}

/// What is right in place of an unknown key: the nearest name here, or the place where the name belongs, or all names here.
fn suggestion(schema: &str, name: &str) -> String {
    let spellings: Vec<String> = schema::children(schema).flat_map(|known| known.spellings()).collect();
    if let Some(nearest) = values::nearest(name, spellings.iter().map(String::as_str)) {
        return format!("did you mean {nearest}?");
    }
    match schema::elsewhere(name) {
        Some(place) => format!("it belongs at {place}"),
        None => format!("known here: {}", known_names(schema)),
    }
}
