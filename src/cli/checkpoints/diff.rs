//! `processor checkpoints diff`.

use super::views::fact_line;
use super::words::{entry, frontier, time};
use crate::checkpoint::{
    self, Changed, CheckpointStore, Comparison, Difference, EntryContent, EntryCounts, Figures, PartitionCut,
};
use crate::cli::arguments::DiffOptions;
use crate::cli::text::{print, push_table};
use crate::error::{ExitCode, ProcessorResult};
use crate::event::DefinitionIndex;
use crate::metrics::group_digits;
use crate::time::{Epoch, EventTime};
use crate::view::Fact;
use std::fmt::Write;

pub(super) fn diff(store: &CheckpointStore, options: &DiffOptions) -> ProcessorResult<ExitCode> {
    let (first, second) = (Epoch::new(options.first), Epoch::new(options.second));
    let (mut entries, mut facts) = (Vec::new(), Vec::new());
    let comparison = checkpoint::compare(store, first, second, |difference| {
        match difference {
            Difference::Entry(entry) if entries.len() < options.limit => entries.push(entry),
            Difference::Fact(fact) if facts.len() < options.limit => facts.push(fact),
            Difference::Entry(_) | Difference::Fact(_) => {}
        }
        Ok(())
    })?;
    print(&told(&comparison, &entries, &facts)?)
}

type FactOf = (DefinitionIndex, Fact);

fn told(
    comparison: &Comparison,
    entries: &[Changed<EntryContent>],
    facts: &[Changed<FactOf>],
) -> ProcessorResult<String> {
    let (before, after) = &comparison.manifests;
    let mut text = format!(
        "from checkpoint {} to {}\n{}, then {}\n",
        before.epoch.number(),
        after.epoch.number(),
        frontier(before),
        frontier(after)
    );
    let meaning = before.fingerprint.differences(&after.fingerprint);
    if !meaning.is_empty() {
        text.push_str("\nwhat the state means\n");
        for part in meaning {
            let side = |text: Option<&str>| text.unwrap_or("nothing").to_owned();
            let _ = writeln!(text, "  {}: {} -> {}", part.name, side(part.checkpoint), side(part.configuration));
        }
    }
    push_cuts(&mut text, comparison);
    push_entries(&mut text, comparison, entries)?;
    push_facts(&mut text, comparison, facts)?;
    push_tables(&mut text, comparison);
    Ok(text)
}

fn push_cuts(text: &mut String, comparison: &Comparison) {
    if comparison.cuts.is_empty() {
        text.push_str("\nno partition has moved\n");
        return;
    }
    text.push_str("\npartitions that have moved\n");
    let mut table = vec![["partition", "next", "", "records", "latest event", ""].map(str::to_owned).to_vec()];
    for (name, before, after) in &comparison.cuts {
        let next = |cut: &Option<PartitionCut>| cut.as_ref().map_or("-".to_owned(), |cut| cut.next.to_string());
        let seen = |cut: &Option<PartitionCut>| {
            time(cut.as_ref().map(|cut| cut.max_seen).filter(|seen| *seen != EventTime::MIN))
        };
        let records = |cut: &Option<PartitionCut>| cut.as_ref().map_or(0, |cut| i128::from(cut.records));
        table.push(vec![
            name.to_string(),
            next(before),
            format!("-> {}", next(after)),
            format!("{:+}", records(after) - records(before)),
            seen(before),
            format!("-> {}", seen(after)),
        ]);
    }
    push_table(text, &table);
}

fn push_entries(text: &mut String, comparison: &Comparison, entries: &[Changed<EntryContent>]) -> ProcessorResult<()> {
    let (before, after) = &comparison.manifests;
    let (mut old, mut new) = (Figures::new(before)?, Figures::new(after)?);
    push_counts(text, "windows, slices and sessions", comparison.entries);
    push_changes(text, entries, |one| entry(before, &mut old, one), |one| entry(after, &mut new, one))?;
    push_rest(text, comparison.entries, entries.len());
    Ok(())
}

/// Nothing in jobs without views.
fn push_facts(text: &mut String, comparison: &Comparison, facts: &[Changed<FactOf>]) -> ProcessorResult<()> {
    if comparison.facts == EntryCounts::default() {
        return Ok(());
    }
    let (before, after) = &comparison.manifests;
    push_counts(text, "results of views", comparison.facts);
    let line = |manifest, (definition, fact): &FactOf| Ok(fact_line(manifest, *definition, fact));
    push_changes(text, facts, |one| line(before, one), |one| line(after, one))?;
    push_rest(text, comparison.facts, facts.len());
    Ok(())
}

fn push_counts(text: &mut String, what: &str, counts: EntryCounts) {
    let _ = writeln!(
        text,
        "\n{what}: {} added, {} removed, {} changed, {} the same",
        group_digits(counts.added),
        group_digits(counts.removed),
        group_digits(counts.changed),
        group_digits(counts.unchanged)
    );
}

fn push_changes<T>(
    text: &mut String,
    changes: &[Changed<T>],
    mut old: impl FnMut(&T) -> ProcessorResult<String>,
    mut new: impl FnMut(&T) -> ProcessorResult<String>,
) -> ProcessorResult<()> {
    for change in changes {
        let _ = match change {
            Changed::Otherwise(one, other) => writeln!(text, "  ~ {}\n    {}", old(one)?, new(other)?),
            Changed::Removed(one) => writeln!(text, "  - {}", old(one)?),
            Changed::Added(other) => writeln!(text, "  + {}", new(other)?),
        };
    }
    Ok(())
}

fn push_rest(text: &mut String, counts: EntryCounts, shown: usize) {
    let rest = counts.different() - shown as u64;
    if rest > 0 {
        let _ = writeln!(text, "  {} more; --limit N shows more", group_digits(rest));
    }
}

fn push_tables(text: &mut String, comparison: &Comparison) {
    text.push_str("\nrecords\n");
    let mut table = vec![["of", "before", "after"].map(str::to_owned).to_vec()];
    for (of, (before, after)) in comparison.tables.iter().filter(|(_, counts)| **counts != (0, 0)) {
        table.push(vec![of.name().to_owned(), group_digits(*before), group_digits(*after)]);
    }
    push_table(text, &table);
}
