//! Environment variables over the document.
//!
//! `PROCESSOR_` and the key's path in capitals, `__` between its levels: `PROCESSOR_KAFKA__CONSUMER__TOPICS`. A variable
//! replaces what the file says at that place. Scalars are taken as they are, lists are separated by commas or written as YAML.
//! `properties` and `filter` are YAML maps, whose entries join those of the file, so that a password alone can come from the
//! environment. A variable of that prefix that names no key is an error, since it is most likely a misspelling; only those that
//! Kubernetes sets by itself for a service called `processor` are passed over, and `PROCESSOR_INDEX`, which stands for `-p`.

use super::errors::ConfigError;
use super::raw::{self, Key, Node, Origin, Value};
use super::schema::{self, Kind, Known};
use super::values::{self, Problem};

/// What every variable begins with.
const PREFIX: &str = "PROCESSOR_";
/// The one variable that is no key: the process's index, which is no configuration of the job.
const INDEX: &str = "INDEX";

/// The process's environment, as [`super::load`] takes it. Values that are no UTF-8 keep what can be read of them.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Puts the variables over the document below `processor`.
pub(super) fn overlay(
    root: &mut Node,
    variables: impl Iterator<Item = (String, String)>,
    file: &str,
) -> Vec<ConfigError> {
    let is_key = |name: &str| name.strip_prefix(PREFIX).is_some_and(|rest| rest != INDEX && !set_by_kubernetes(rest));
    let mut ours: Vec<_> = variables.filter(|(name, _)| is_key(name)).collect();
    // Sections before the keys in them, so that the more exact variable wins.
    ours.sort_by_cached_key(|(name, _)| (name.matches("__").count(), name.clone()));
    let mut errors = Vec::new();
    for (name, value) in ours {
        let origin = Origin::Environment(name.clone());
        let problem = match resolve(&name[PREFIX.len()..]) {
            Ok((path, known)) => match node(known, &value, &origin) {
                Ok(node) => {
                    insert(root, &path, known, node);
                    continue;
                }
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        let Problem { found, right } = problem;
        errors.push(ConfigError { file: file.to_owned(), origin, column: None, path: String::new(), found, right });
    }
    errors
}

/// The variables of a Kubernetes service called `processor`: `SERVICE_HOST`, `SERVICE_PORT_HTTP`, `PORT`, `PORT_8080_TCP_ADDR`.
fn set_by_kubernetes(rest: &str) -> bool {
    rest == "SERVICE_HOST"
        || rest == "PORT"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || rest.strip_prefix("PORT_").is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

/// The names of the levels, and the key, that a variable's name stands for.
fn resolve(rest: &str) -> Result<(Vec<String>, &'static Known), Problem> {
    let unknown = || {
        let name = format!("{PREFIX}{rest}");
        let known = variable_names();
        match values::nearest(&name, known.iter().map(String::as_str)) {
            Some(nearest) => Problem::new("no such setting", format_args!("did you mean {nearest}?")),
            None => Problem::new(
                "no such setting",
                "expected PROCESSOR_ and the key's path in capitals, with __ between levels",
            ),
        }
    };
    let mut path = Vec::new();
    let mut section = String::new();
    let mut found: Option<&'static Known> = None;
    for part in rest.split("__") {
        if found.is_some_and(|known| !matches!(known.kind, Kind::Section | Kind::Choice)) {
            return Err(unknown());
        }
        let name = part.to_lowercase();
        let known = schema::child(&section, &name).filter(|_| part.to_uppercase() == part).ok_or_else(unknown)?;
        section = known.path.to_owned();
        path.push(name);
        found = Some(known);
    }
    match found {
        Some(known) if known.kind == Kind::Section => {
            let example =
                schema::children(known.path).next().map_or_else(String::new, |child| variable(&child.written_path()));
            Err(Problem::new(
                "a whole section",
                format_args!("set one variable for each of its keys, such as {example}"),
            ))
        }
        Some(known) => Ok((path, known)),
        None => Err(unknown()),
    }
}

/// The variable of a key.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

/// Every variable that sets something.
pub(super) fn variable_names() -> Vec<String> {
    schema::KEYS
        .iter()
        .filter(|known| known.kind != Kind::Section && !inside_items(known))
        .map(|known| variable(&known.written_path()))
        .collect()
}

fn inside_items(known: &Known) -> bool {
    schema::KEYS.iter().any(|other| other.path == known.parent() && other.kind == Kind::Items)
}

/// The variable's text as the kind of node that its key takes.
fn node(known: &Known, text: &str, origin: &Origin) -> Result<Node, Problem> {
    let text = text.trim();
    let yaml = |right: &str| match raw::parse(text) {
        Ok(Some(mut node)) => {
            node.set_origin(origin);
            Ok(node)
        }
        Ok(None) => Err(Problem::expected("nothing", right)),
        Err(_) => Err(Problem::expected("no valid YAML", right)),
    };
    match known.kind {
        Kind::Map => {
            let right = "a map as YAML, such as {name: value, other.name: value}";
            let node = yaml(right)?;
            match node.value {
                Value::Map(_) => Ok(node),
                _ => Err(Problem::expected("no map", right)),
            }
        }
        Kind::List | Kind::Items if text.starts_with('[') => match yaml("a list as YAML, such as [a, b], or a, b") {
            // `[::1]:9092` begins like a list and is none.
            Err(_) if text.contains("]:") => Ok(comma_list(text, origin)),
            other => other,
        },
        Kind::List | Kind::Items if !text.is_empty() => Ok(comma_list(text, origin)),
        Kind::Choice if text.starts_with('{') => yaml("a word, or a section as YAML, such as {type: file, ...}"),
        _ => {
            let quoted = text.len() >= 2 && (text.starts_with('"') || text.starts_with('\''));
            match yaml("") {
                Ok(node) if quoted && matches!(node.value, Value::Scalar { .. }) => Ok(node),
                _ => Ok(Node::plain(text, origin.clone())),
            }
        }
    }
}

fn comma_list(text: &str, origin: &Origin) -> Node {
    let items = text.split(',').map(|item| Node::plain(item.trim(), origin.clone())).collect();
    Node { origin: origin.clone(), value: Value::List(items) }
}

/// Replaces or adds the node at the path. What is in its way and is no section stays: it is reported where it stands.
fn insert(root: &mut Node, path: &[String], known: &Known, node: Node) {
    let Some((last, sections)) = path.split_last() else { return };
    let origin = node.origin.clone();
    let mut section = root;
    for name in sections {
        let Value::Map(entries) = &mut section.value else { return };
        let index = entries.iter().position(|(key, _)| key.name == *name).unwrap_or_else(|| {
            entries.push((Key { name: name.clone(), origin: origin.clone() }, Node::empty_map(origin.clone())));
            entries.len() - 1
        });
        section = &mut entries[index].1;
        if section.is_null() {
            section.value = Value::Map(Vec::new());
        } else if let Value::Scalar { .. } = section.value {
            // `source: stdin` is short for `source: {type: stdin}`.
            let word = section.clone();
            section.value = Value::Map(vec![(Key { name: "type".to_owned(), origin: word.origin.clone() }, word)]);
        }
    }
    let Value::Map(entries) = &mut section.value else { return };
    // The other spelling of a duration gives way as well, unless it is a variable too: then the two contradict each other.
    entries.retain(|(key, _)| {
        key.name == *last || !known.spellings().contains(&key.name) || matches!(key.origin, Origin::Environment(_))
    });
    put(entries, Key { name: last.clone(), origin }, node, known.kind == Kind::Map);
}

/// Replaces the entry of this name or adds it; `join` puts the entries of a map into the map that is there.
fn put(entries: &mut Vec<(Key, Node)>, key: Key, node: Node, join: bool) {
    let Some((old_key, old)) = entries.iter_mut().find(|(other, _)| other.name == key.name) else {
        entries.push((key, node));
        return;
    };
    match (&mut old.value, node.value) {
        (Value::Map(old), Value::Map(new)) if join => {
            for (key, node) in new {
                put(old, key, node, false);
            }
        }
        (_, value) => (*old_key, *old) = (key, Node { origin: node.origin, value }),
    }
}
