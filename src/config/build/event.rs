//! `event`: how an event is read.

use crate::config::model::{
    EventConfig, FieldPath, FilterCondition, KeyField, TimestampFormat, ValueField, ValueFields,
};
use crate::config::raw::{Node, Origin, Value};
use crate::config::reader::{Reader, flow, items};
use crate::config::section::Section;
use crate::config::values::{self, Problem};

const FORMATS: [(&str, TimestampFormat); 5] = [
    ("rfc3339", TimestampFormat::Rfc3339),
    ("epoch_s", TimestampFormat::EpochSeconds),
    ("epoch_ms", TimestampFormat::EpochMillis),
    ("epoch_us", TimestampFormat::EpochMicros),
    ("epoch_ns", TimestampFormat::EpochNanos),
];

/// The values where nothing is said: every number under `data`.
const DEFAULT_VALUES: &str = "data.*";

/// Reads the section.
pub(super) fn build(reader: &mut Reader, root: &Section<'_>) -> EventConfig {
    let section = reader.section(root, "event");
    let timestamp = reader.section(&section, "timestamp");
    let default = FieldPath::parse("timestamp");
    let timestamp_field = reader.setting(&timestamp, "field", default, field_path, shown);
    let timestamp_format = reader.word(&timestamp, "format", "timestamp format", TimestampFormat::Rfc3339, &FORMATS);
    EventConfig {
        timestamp_field: timestamp_field.value,
        timestamp_format: timestamp_format.value,
        key: key(reader, &section),
        values: value_fields(reader, &section),
        filter: filter(reader, &section),
    }
}

/// A dotted path without empty parts.
fn field_path(node: &Node) -> Result<FieldPath, Problem> {
    const RIGHT: &str = "a dotted path into the event, such as data.model";
    let text = values::text(node).map_err(|problem| Problem::expected(problem.found, RIGHT))?;
    let path = FieldPath::parse(&text);
    match path.0.iter().any(|part| part.trim().is_empty() || part == "*") {
        true => Err(Problem::expected(node, RIGHT)),
        false => Ok(path),
    }
}

fn shown(path: &FieldPath) -> String {
    values::quote(&path.to_string())
}

/// The last part of each path, or the whole of those whose last part is not the only one of its kind.
fn result_names(paths: &[&FieldPath]) -> Vec<String> {
    let unique = |path: &FieldPath| paths.iter().filter(|other| other.last() == path.last()).count() == 1;
    paths.iter().map(|path| if unique(path) { path.last().to_owned() } else { path.to_string() }).collect()
}

/// A key field as written: its path and what stands for an absent one.
type WrittenKey = (FieldPath, Option<String>);

fn key(reader: &mut Reader, section: &Section<'_>) -> Vec<KeyField> {
    let path = section.path_of("key");
    let (fields, origin): (Vec<WrittenKey>, Origin) = match section.node("key") {
        None => (["source", "event_type"].map(|field| (FieldPath::parse(field), None)).to_vec(), Origin::Default),
        Some(node) => match items(node, true) {
            Some(nodes) => (key_items(reader, section, &path, &nodes), node.origin.clone()),
            None => {
                let right = "a list of dotted paths, such as [data.model, data.region], or [] for one group";
                reader.error(&node.origin, &path, Problem::expected(node, right));
                (Vec::new(), node.origin.clone())
            }
        },
    };
    let show = |(path, default): &WrittenKey| match default {
        None => shown(path),
        Some(default) => format!("{{field: {}, default: {}}}", shown(path), values::quote(default)),
    };
    reader.show(section, "key", flow(fields.iter().map(show)), &origin);
    let names = result_names(&fields.iter().map(|(path, _)| path).collect::<Vec<_>>());
    fields.into_iter().zip(names).map(|((path, default), name)| KeyField { path, name, default }).collect()
}

fn key_items(reader: &mut Reader, section: &Section<'_>, path: &str, nodes: &[Node]) -> Vec<WrittenKey> {
    let mut fields: Vec<WrittenKey> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let field = match &node.value {
            Value::Map(_) => key_with_default(reader, section, index, node),
            _ => match field_path(node) {
                Ok(field) => Some((field, None)),
                Err(problem) => {
                    reader.error(&node.origin, &path, problem);
                    None
                }
            },
        };
        match field {
            Some((field, _)) if fields.iter().any(|(other, _)| *other == field) => {
                let problem = Problem::new(format_args!("{} is there twice", shown(&field)), "write each field once");
                reader.error(&node.origin, &path, problem);
            }
            Some(field) => fields.push(field),
            None => {}
        }
    }
    fields
}

/// `{field: data.region, default: unknown}`.
fn key_with_default(reader: &mut Reader, section: &Section<'_>, index: usize, node: &Node) -> Option<WrittenKey> {
    let item = reader.item(section, "key", index, node);
    let Some(field) = item.node("field") else {
        let problem = Problem::expected("absent", "a dotted path into the event, such as data.model");
        reader.error(&node.origin, &item.path_of("field"), problem);
        return None;
    };
    let default = item.node("default").map(values::any_scalar).transpose();
    match (field_path(field), default) {
        (Ok(field), Ok(default)) => Some((field, default)),
        (field, default) => {
            for (name, problem) in [("field", field.err()), ("default", default.err())] {
                if let Some(problem) = problem {
                    reader.error(&node.origin, &item.path_of(name), problem);
                }
            }
            None
        }
    }
}

fn value_fields(reader: &mut Reader, section: &Section<'_>) -> ValueFields {
    let everything = |text: &str| text.strip_suffix(".*").map(FieldPath::parse);
    let parse = |node: &Node| match node.scalar().and_then(everything) {
        Some(path) if path.0.iter().all(|part| !part.is_empty() && part != "*") => Ok(format!("{path}.*")),
        _ => field_path(node).map(|path| path.to_string()),
    };
    let default = vec![DEFAULT_VALUES.to_owned()];
    let fields = reader.list(section, "values", default, true, parse, |text| values::quote(text));
    if fields.sound && fields.value.is_empty() {
        let right = "the fields to aggregate, such as [data.latency_ms], or data.* for every number under data";
        reader.error(&fields.origin, &fields.path, Problem::expected("an empty list", right));
    }
    if let [only] = fields.value.as_slice()
        && let Some(path) = everything(only)
    {
        return ValueFields::EveryNumberUnder(path);
    }
    if let Some(every) = fields.value.iter().find(|text| everything(text).is_some()) {
        let found = format!("{every:?} together with other fields");
        reader.error(
            &fields.origin,
            &fields.path,
            Problem::new(found, format_args!("write {every:?} alone, or the fields by name")),
        );
    }
    let paths: Vec<FieldPath> = fields.value.iter().map(|text| FieldPath::parse(text)).collect();
    let names = result_names(&paths.iter().collect::<Vec<_>>());
    ValueFields::Listed(paths.into_iter().zip(names).map(|(path, name)| ValueField { path, name }).collect())
}

fn filter(reader: &mut Reader, section: &Section<'_>) -> Vec<FilterCondition> {
    let map = reader.map(section, "filter");
    let mut conditions = Vec::new();
    for (key, _) in map.entries {
        let path = match field_path(&Node::plain(key.name.as_str(), key.origin.clone())) {
            Ok(path) => path,
            Err(problem) => {
                reader.error(&key.origin, &map.path(), problem);
                continue;
            }
        };
        let values = reader.list(&map, &key.name, Vec::new(), true, values::any_scalar, |text| values::quote(text));
        if values.sound && values.value.is_empty() {
            let problem = Problem::expected("an empty list, which no event passes", "the values that pass");
            reader.error(&values.origin, &values.path, problem);
        }
        conditions.push(FilterCondition { path, any_of: values.value });
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_where_they_are_unique() {
        let paths = ["data.model", "data.region", "metadata.region"].map(FieldPath::parse);
        assert_eq!(result_names(&paths.each_ref()), ["model", "data.region", "metadata.region"]);
    }
}
