//! `processor checkpoints inspect`.

use super::json;
use super::words::{age, count, definition_name, entry, frontier, size, time, watermark};
use crate::checkpoint::{CheckpointStore, Contents, Figures, Manifest, Selection};
use crate::cli::arguments::InspectOptions;
use crate::cli::text::{print, push_columns, push_table};
use crate::error::{ExitCode, ProcessorResult};
use crate::event::DefinitionIndex;
use crate::metrics::{group_digits, short_span};
use crate::time::{Epoch, EventTime};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Windows that are shown where nothing else is asked for.
const LIMIT: usize = 50;
/// Ends of windows that are shown for each definition.
const ENDS: usize = 5;

pub(super) fn inspect(store: &CheckpointStore, options: &InspectOptions) -> ProcessorResult<ExitCode> {
    let limit = options.limit.or((!options.json).then_some(LIMIT));
    let selection = Selection { key: options.key.clone(), limit };
    let contents = Contents::read(store, Epoch::new(options.epoch), &selection)?;
    let text = match options.json {
        true => json::document(&contents)?,
        false => told(store, &contents)?,
    };
    print(&text)
}

fn told(store: &CheckpointStore, contents: &Contents) -> ProcessorResult<String> {
    let manifest = &contents.manifest;
    let mut text = head(store, manifest);
    push_partitions(&mut text, contents);
    push_sinks(&mut text, contents);
    push_sizes(&mut text, contents);
    push_windows(&mut text, contents)?;
    super::views::push_views(&mut text, contents);
    Ok(text)
}

fn head(store: &CheckpointStore, manifest: &Manifest) -> String {
    let mut text = format!(
        "checkpoint {} of the job `{}` in {}\ntaken {} ago, at {}, by {}, start {} of the job\n{}, {}{}, {} key groups\n",
        manifest.epoch.number(),
        manifest.job,
        store.place(),
        age(manifest),
        manifest.created_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        manifest.program,
        manifest.generation.0,
        if manifest.processes == 1 { "1 process".to_owned() } else { format!("{} processes", manifest.processes) },
        count(manifest.workers.into(), "worker"),
        manifest.part.map_or_else(String::new, |part| format!(", the part of process {}", part.0)),
        manifest.key_groups,
    );
    let end = if manifest.finished { "; the input has ended: there is nothing to go on with" } else { "" };
    let _ = writeln!(text, "{}{end}", frontier(manifest));
    text.push_str("\nwhat its state means\n");
    let parts = manifest.fingerprint.parts().iter().map(|part| vec![format!("{}: {}", part.name, part.text)]);
    push_table(&mut text, &parts.collect::<Vec<_>>());
    text
}

fn push_partitions(text: &mut String, contents: &Contents) {
    let manifest = &contents.manifest;
    let _ = writeln!(
        text,
        "\npartitions (watermark: {} behind the latest event)",
        short_span(manifest.max_out_of_orderness)
    );
    let head = ["partition", "next", "watermark", "latest event", "records", "late", "furthest behind", "state"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for cut in &contents.cuts {
        let watermark = watermark(manifest, cut.max_seen);
        let states = [(cut.closed, "ended"), (cut.idle, "idle"), (cut.returned, "returned")];
        let states: Vec<&str> = states.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        table.push(vec![
            cut.name.to_string(),
            cut.next.to_string(),
            time(watermark),
            time(watermark.map(|_| cut.max_seen)),
            group_digits(cut.records),
            group_digits(cut.disorder.late()),
            short_span(cut.disorder.greatest()),
            if states.is_empty() { "active".to_owned() } else { states.join(", ") },
        ]);
    }
    push_columns(text, &table, |column| column == 0 || column + 1 == head.len());
}

fn push_sinks(text: &mut String, contents: &Contents) {
    if contents.manifest.sinks.is_empty() {
        return;
    }
    text.push_str("\nsinks (shard: sink and process)\n");
    for sink in &contents.manifest.sinks {
        let _ = write!(text, "  {}: {}", sink.shard, count(sink.outbox_chunks.into(), "chunk"));
        text.push_str(" to deliver");
        if let Some(file) = &sink.file {
            let _ = write!(text, "; {} up to byte {}", file.path.display(), file.length);
        }
        text.push('\n');
    }
    for chunk in &contents.outbox {
        let (key, epoch, length) = (chunk.key, chunk.key.epoch, size(chunk.bytes as u64));
        let _ = writeln!(text, "  {}: chunk {} of epoch {epoch}: {length}", key.shard, key.chunk);
    }
}

fn push_sizes(text: &mut String, contents: &Contents) {
    text.push_str("\nrecords\n");
    let mut table = vec![["of", "number", "size"].map(str::to_owned).to_vec()];
    for (of, found) in &contents.tables {
        table.push(vec![of.name().to_owned(), group_digits(found.records), size(found.bytes)]);
    }
    push_table(text, &table);
    text.push_str("\nfiles\n");
    let mut table = vec![["directory", "files", "size", "changes", "bytes of changes"].map(str::to_owned).to_vec()];
    for snapshot in &contents.manifest.snapshots {
        table.push(vec![
            snapshot.directory.clone(),
            snapshot.files.0.len().to_string(),
            size(snapshot.files.bytes()),
            group_digits(snapshot.written.puts + snapshot.written.deletions),
            size(snapshot.written.bytes),
        ]);
    }
    push_table(text, &table);
}

fn push_windows(text: &mut String, contents: &Contents) -> ProcessorResult<()> {
    let manifest = &contents.manifest;
    let mut unfired: BTreeMap<DefinitionIndex, BTreeSet<EventTime>> = BTreeMap::new();
    for of in &contents.definitions {
        unfired.entry(of.definition).or_default().extend(&of.unfired);
    }
    for (definition, ends) in unfired.iter().filter(|(_, ends)| !ends.is_empty()) {
        let name = definition_name(manifest, *definition).unwrap_or("windows");
        let ends: Vec<String> = ends
            .iter()
            .take(ENDS)
            .map(ToString::to_string)
            .chain((ends.len() > ENDS).then(|| "...".to_owned()))
            .collect();
        let _ = writeln!(text, "\n{name} will fire at {}", ends.join(", "));
    }
    let entries = &contents.entries;
    let _ = writeln!(text, "\nwindows, slices and sessions: {}", group_digits(entries.all));
    let mut figures = Figures::new(manifest)?;
    for found in &entries.first {
        let _ = writeln!(text, "  {}", entry(manifest, &mut figures, found)?);
    }
    push_rest(text, entries.first.len(), entries.all);
    let waiting = &contents.waiting;
    if waiting.all > 0 {
        let _ = writeln!(text, "\nrows that wait: {}", group_digits(waiting.all));
        for row in &waiting.first {
            let values: Vec<String> = row.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let late = if row.is_late { "  late" } else { "" };
            let name = definition_name(manifest, row.definition).map_or_else(String::new, |name| format!("{name} "));
            let told = values.join(", ");
            let _ = writeln!(text, "  {name}{} {}  {told}  until {}{late}", row.time, row.key, row.until);
        }
        push_rest(text, waiting.first.len(), waiting.all);
    }
    Ok(())
}

pub(super) fn push_rest(text: &mut String, shown: usize, all: u64) {
    let rest = all - shown as u64;
    if rest > 0 {
        let _ = writeln!(text, "  {} more; --limit N shows more, --key TEXT those of some keys", group_digits(rest));
    }
}
