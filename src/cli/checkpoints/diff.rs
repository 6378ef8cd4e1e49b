//! `processor checkpoints diff`.

use super::words::{entry, frontier, time};
use crate::checkpoint::{self, CheckpointStore, Comparison, EntryDifference, Figures, PartitionCut};
use crate::cli::arguments::DiffOptions;
use crate::cli::text::{print, push_table};
use crate::error::{ExitCode, ProcessorResult};
use crate::metrics::group_digits;
use crate::time::{Epoch, EventTime};
use std::fmt::Write;

pub(super) fn diff(store: &CheckpointStore, options: &DiffOptions) -> ProcessorResult<ExitCode> {
    let (first, second) = (Epoch::new(options.first), Epoch::new(options.second));
    let mut differences = Vec::new();
    let comparison = checkpoint::compare(store, first, second, |difference| {
        if differences.len() < options.limit {
            differences.push(difference);
        }
        Ok(())
    })?;
    print(&told(&comparison, &differences)?)
}

fn told(comparison: &Comparison, differences: &[EntryDifference]) -> ProcessorResult<String> {
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
    push_entries(&mut text, comparison, differences)?;
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

fn push_entries(text: &mut String, comparison: &Comparison, differences: &[EntryDifference]) -> ProcessorResult<()> {
    let counts = comparison.entries;
    let _ = writeln!(
        text,
        "\nwindows, slices and sessions: {} added, {} removed, {} changed, {} the same",
        group_digits(counts.added),
        group_digits(counts.removed),
        group_digits(counts.changed),
        group_digits(counts.unchanged)
    );
    let (before, after) = &comparison.manifests;
    let (mut old, mut new) = (Figures::new(before)?, Figures::new(after)?);
    for difference in differences {
        match (&difference.before, &difference.after) {
            (Some(one), Some(other)) => {
                let _ = writeln!(text, "  ~ {}", entry(before, &mut old, one)?);
                let _ = writeln!(text, "    {}", entry(after, &mut new, other)?);
            }
            (Some(one), None) => {
                let _ = writeln!(text, "  - {}", entry(before, &mut old, one)?);
            }
            (None, Some(other)) => {
                let _ = writeln!(text, "  + {}", entry(after, &mut new, other)?);
            }
            (None, None) => {}
        }
    }
    let rest = counts.added + counts.removed + counts.changed - differences.len() as u64;
    if rest > 0 {
        let _ = writeln!(text, "  {} more; --limit N shows more", group_digits(rest));
    }
    Ok(())
}

fn push_tables(text: &mut String, comparison: &Comparison) {
    text.push_str("\nrecords\n");
    let mut table = vec![["of", "before", "after"].map(str::to_owned).to_vec()];
    for (of, (before, after)) in comparison.tables.iter().filter(|(_, counts)| **counts != (0, 0)) {
        table.push(vec![of.name().to_owned(), group_digits(*before), group_digits(*after)]);
    }
    push_table(text, &table);
}
