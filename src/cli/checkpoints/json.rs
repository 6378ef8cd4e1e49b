//! A checkpoint's content as one JSON document.

use super::views::views_json;
use super::words::{definition_name, watermark};
use crate::checkpoint::{ChunkContent, Contents, DefinitionContent, EntryContent, Figures, Manifest, TableSize};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, GroupingKey};
use crate::sink::{ResultRow, ResultValue, encode_result};
use crate::time::EventTime;
use crate::window::{EntryOf, PaneOf};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Document<'a> {
    manifest: &'a Manifest,
    partitions: Vec<Value>,
    outbox: Vec<Value>,
    records: BTreeMap<&'static str, Value>,
    definitions: Vec<Value>,
    windows: Vec<Window<'a>>,
    windows_found: u64,
    revisions: Vec<Revision<'a>>,
    panes: Vec<Pane<'a>>,
    waiting: Vec<Waiting<'a>>,
    #[serde(skip_serializing_if = "Value::is_null")]
    views: Value,
}

#[derive(Serialize)]
struct Window<'a> {
    definition: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    kind: &'static str,
    start: String,
    end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event: Option<String>,
    key: Box<RawValue>,
    /// By field; `None`: only the program that wrote them can read them.
    results: BTreeMap<&'a str, Option<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_revision: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_revision: Option<u32>,
}

#[derive(Serialize)]
struct Revision<'a> {
    definition: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    end: String,
    key: Box<RawValue>,
    next_revision: u32,
}

#[derive(Serialize)]
struct Pane<'a> {
    definition: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// Of a session there is none.
    end: Option<String>,
    key: Box<RawValue>,
    events: u64,
    events_since_firing: u64,
    last_event: String,
    early_results: u32,
    fired_at: String,
    complete_at_firing: f64,
    /// Early results that stand, as they were sent.
    standing: Vec<Box<RawValue>>,
    purged: bool,
}

#[derive(Serialize)]
struct Waiting<'a> {
    definition: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    late: bool,
    time: String,
    until: String,
    key: Box<RawValue>,
    values: BTreeMap<&'a str, f64>,
}

/// The document, with a line's end.
pub(super) fn document(contents: &Contents) -> ProcessorResult<String> {
    let manifest = &contents.manifest;
    let mut figures = Figures::new(manifest)?;
    let windows = contents.entries.first.iter().map(|entry| window(manifest, &mut figures, entry));
    let document = Document {
        manifest,
        partitions: partitions(contents),
        outbox: outbox(contents),
        records: contents.tables.iter().map(|(table, found)| (table.name(), table_size(*found))).collect(),
        definitions: definitions(contents),
        windows: windows.collect::<ProcessorResult<_>>()?,
        windows_found: contents.entries.all,
        revisions: revisions(contents)?,
        panes: panes(contents)?,
        waiting: waiting(contents)?,
        views: views_json(contents)?,
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| ProcessorError::State(format!("the checkpoint cannot be written as JSON: {error}")))?;
    Ok(text + "\n")
}

fn table_size(found: TableSize) -> Value {
    json!({"records": found.records, "bytes": found.bytes})
}

fn partitions(contents: &Contents) -> Vec<Value> {
    let cut = |cut: &crate::checkpoint::PartitionCut| {
        let watermark = watermark(&contents.manifest, cut.max_seen);
        json!({
            "topic": &*cut.name.topic,
            "partition": cut.name.partition,
            "next": cut.next.0,
            "watermark": watermark.map(|time| time.to_string()),
            "latest_event": watermark.map(|_| cut.max_seen.to_string()),
            "idle": cut.idle,
            "returned": cut.returned,
            "closed": cut.closed,
            "records": cut.records,
            "disorder": {
                "events": cut.disorder.events(),
                "late": cut.disorder.late(),
                "furthest_behind_ms": cut.disorder.greatest().as_millis(),
                "buckets": cut.disorder.buckets().map(|(up_to, events)| json!([up_to.as_millis(), events])).collect::<Vec<_>>(),
            },
        })
    };
    contents.cuts.iter().map(cut).collect()
}

fn outbox(contents: &Contents) -> Vec<Value> {
    let chunk = |chunk: &ChunkContent| {
        json!({
            "sink": chunk.key.shard.sink,
            "process": chunk.key.shard.process,
            "epoch": chunk.key.epoch.number(),
            "chunk": chunk.key.chunk,
            "bytes": chunk.bytes,
            "crc32": chunk.crc32,
        })
    };
    contents.outbox.iter().map(chunk).collect()
}

fn definitions(contents: &Contents) -> Vec<Value> {
    let definition = |of: &DefinitionContent| {
        json!({
            "definition": of.definition.0,
            "name": of.name,
            "purged_until": of.purged_until.to_string(),
            "will_fire_at": of.unfired.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    contents.definitions.iter().map(definition).collect()
}

fn window<'a>(manifest: &'a Manifest, figures: &mut Figures, entry: &'a EntryContent) -> ProcessorResult<Window<'a>> {
    let bounds = entry.of.window();
    let (kind, last, next_revision, fired_revision) = match entry.of {
        EntryOf::Slice { next_revision, .. } => ("slice", None, Some(next_revision), None),
        EntryOf::Session { last, fired, .. } => ("session", Some(last), None, fired),
    };
    let mut results = BTreeMap::new();
    for (name, encoded) in &entry.fields {
        let found = figures.read(entry.definition, encoded)?;
        let members = found.iter().map(|(name, value)| (name.to_string(), figure(value)));
        results.insert(&**name, (!found.is_empty()).then(|| members.collect()));
    }
    Ok(Window {
        definition: entry.definition.0,
        name: definition_name(manifest, entry.definition),
        kind,
        start: bounds.start.to_string(),
        end: bounds.end.to_string(),
        last_event: last.map(|time| time.to_string()),
        key: key_json(&entry.key)?,
        results,
        next_revision,
        fired_revision,
    })
}

pub(super) fn figure(value: &ResultValue) -> Value {
    match value {
        ResultValue::Count(count) => (*count).into(),
        ResultValue::Number(number) => (*number).into(),
        ResultValue::Null => Value::Null,
        ResultValue::Json(json) => json.clone(),
    }
}

/// The key as a value.
pub(super) fn key_value(key: &GroupingKey) -> ProcessorResult<Value> {
    serde_json::from_str(key.as_json())
        .map_err(|error| ProcessorError::State(format!("the key {key} is no JSON: {error}")))
}

fn key_json(key: &GroupingKey) -> ProcessorResult<Box<RawValue>> {
    RawValue::from_string(key.as_json().to_owned())
        .map_err(|error| ProcessorError::State(format!("the key {key} is no JSON: {error}")))
}

fn revisions(contents: &Contents) -> ProcessorResult<Vec<Revision<'_>>> {
    let revision = |(definition, end, key, next): &(DefinitionIndex, EventTime, GroupingKey, u32)| {
        Ok(Revision {
            definition: definition.0,
            name: definition_name(&contents.manifest, *definition),
            end: end.to_string(),
            key: key_json(key)?,
            next_revision: *next,
        })
    };
    contents.revisions.first.iter().map(revision).collect()
}

fn panes(contents: &Contents) -> ProcessorResult<Vec<Pane<'_>>> {
    let pane = |(definition, pane): &(DefinitionIndex, crate::window::PaneRecord)| {
        Ok(Pane {
            definition: definition.0,
            name: definition_name(&contents.manifest, *definition),
            end: match pane.of {
                PaneOf::Window(end) => Some(end.to_string()),
                PaneOf::Session(_) => None,
            },
            key: key_json(&pane.key)?,
            events: pane.events,
            events_since_firing: pane.events_since_firing,
            last_event: pane.last_event.to_string(),
            early_results: pane.firings,
            fired_at: pane.fired_at.to_string(),
            complete_at_firing: pane.complete_at_firing,
            standing: pane.standing.iter().map(result).collect::<ProcessorResult<_>>()?,
            purged: pane.is_purged,
        })
    };
    contents.panes.first.iter().map(pane).collect()
}

fn result(row: &ResultRow) -> ProcessorResult<Box<RawValue>> {
    let mut bytes = Vec::new();
    encode_result(row, &mut bytes);
    serde_json::from_slice(&bytes).map_err(|error| ProcessorError::State(format!("a result is no JSON: {error}")))
}

fn waiting(contents: &Contents) -> ProcessorResult<Vec<Waiting<'_>>> {
    let rows = contents.waiting.first.iter().map(|row| {
        Ok(Waiting {
            definition: row.definition.0,
            name: definition_name(&contents.manifest, row.definition),
            late: row.is_late,
            time: row.time.to_string(),
            until: row.until.to_string(),
            key: key_json(&row.key)?,
            values: row.values.iter().map(|(name, value)| (&**name, *value)).collect(),
        })
    });
    rows.collect()
}
