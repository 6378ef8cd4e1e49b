//! What of a checkpoint is for views, as text and as JSON.

use super::words::{bounds, definition_name, figure};
use crate::checkpoint::{Contents, Manifest, ViewContents};
use crate::error::ProcessorResult;
use crate::event::DefinitionIndex;
use crate::metrics::group_digits;
use crate::sink::ResultValue;
use crate::view::Fact;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// One line: definition, bounds, key, figures.
pub(super) fn fact_line(manifest: &Manifest, definition: DefinitionIndex, fact: &Fact) -> String {
    let name = definition_name(manifest, definition).map_or_else(String::new, |name| format!("{name} "));
    let told: Vec<String> =
        fact.names.iter().zip(figures(fact)).map(|(name, value)| format!("{name} {value}")).collect();
    format!("{name}{} {}  {}", bounds(fact.window), fact.key, told.join(", "))
}

fn figures(fact: &Fact) -> impl Iterator<Item = String> + '_ {
    fact.figures.iter().map(|value| figure(&ResultValue::from(value)))
}

/// Nothing in a job without views.
pub(super) fn push_views(text: &mut String, contents: &Contents) {
    let (manifest, ViewContents { closed, facts, unclosed }) = (&contents.manifest, &contents.views);
    let Some(closed) = closed else { return };
    let _ = writeln!(text, "\nviews are closed up to {closed}");
    let _ = writeln!(text, "results of views: {}", group_digits(facts.all));
    for (definition, fact) in &facts.first {
        let _ = writeln!(text, "  {}", fact_line(manifest, *definition, fact));
    }
    super::inspect::push_rest(text, facts.first.len(), facts.all);
    if unclosed.all > 0 {
        let _ = writeln!(text, "results before views: {}", group_digits(unclosed.all));
        for (sent, row) in &unclosed.first {
            let back = if row.is_retraction { "  taken back" } else { "" };
            let line = fact_line(manifest, row.definition, &row.fact);
            let _ = writeln!(text, "  {line}  epoch {}, sent at {sent}{back}", row.epoch.number());
        }
        super::inspect::push_rest(text, unclosed.first.len(), unclosed.all);
    }
}

/// `null` in a job without views.
pub(super) fn views_json(contents: &Contents) -> ProcessorResult<Value> {
    let ViewContents { closed, facts, unclosed } = &contents.views;
    let Some(closed) = closed else { return Ok(Value::Null) };
    let facts_told = facts.first.iter().map(|(definition, fact)| Ok(fact_json(contents, *definition, fact)?.into()));
    let unclosed_told = unclosed.first.iter().map(|(sent, row)| {
        let mut told = fact_json(contents, row.definition, &row.fact)?;
        told.insert("epoch".to_owned(), row.epoch.number().into());
        told.insert("sent".to_owned(), sent.to_string().into());
        told.insert("taken_back".to_owned(), row.is_retraction.into());
        Ok(told.into())
    });
    Ok(json!({
        "closed": closed.to_string(),
        "results": facts_told.collect::<ProcessorResult<Vec<Value>>>()?,
        "results_found": facts.all,
        "unclosed": unclosed_told.collect::<ProcessorResult<Vec<Value>>>()?,
        "unclosed_found": unclosed.all,
    }))
}

fn fact_json(contents: &Contents, definition: DefinitionIndex, fact: &Fact) -> ProcessorResult<Map<String, Value>> {
    let figures = fact.names.iter().zip(fact.figures.iter());
    let figures = figures.map(|(name, value)| (name.to_string(), super::json::figure(&ResultValue::from(value))));
    let mut told = Map::new();
    told.insert("definition".to_owned(), definition.0.into());
    if let Some(name) = definition_name(&contents.manifest, definition) {
        told.insert("name".to_owned(), name.into());
    }
    told.insert("start".to_owned(), fact.window.start.to_string().into());
    told.insert("end".to_owned(), fact.window.end.to_string().into());
    told.insert("key".to_owned(), super::json::key_value(&fact.key)?);
    told.insert("results".to_owned(), Value::Object(figures.collect()));
    told.insert("accumulator_bytes".to_owned(), fact.accumulators.len().into());
    Ok(told)
}
