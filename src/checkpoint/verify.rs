//! Whether a checkpoint is what was written, and whether all of it can be read.
//!
//! The model: first the manifest, then the checksum of every file, then, of the workers whose files are right, every record, down
//! to the accumulators; at last what the records say together against what the manifest says. What is found is listed, all of it up
//! to the first fault of each worker's records.

use super::contents::{Figures, RecordText, read_record, within};
use super::fault::Fault;
use super::manifest::{CutSummary, Manifest, SinkShard, WorkerSnapshot};
use super::reader::SnapshotReader;
use super::{CheckpointStore, PartitionCut, ProcessIndex, Table};
use crate::error::ProcessorError;
use crate::event::KeyGroup;
use crate::sink::Shard;
use crate::time::Epoch;
use crate::window::{RecordContent, RecordView};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What there is to say of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Files that the manifest does not know: nothing reads them.
    pub unknown: Vec<String>,
    /// Files that were read.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
    /// Records that were read, by table.
    pub records: BTreeMap<Table, u64>,
}

/// Reads all of a checkpoint.
pub fn verify(store: &CheckpointStore, epoch: Epoch) -> Verification {
    let mut found = Verification::default();
    let manifest = match store.manifest(epoch) {
        Ok(manifest) => manifest,
        Err(fault) => {
            found.faults.push(fault);
            return found;
        }
    };
    let directory = store.directory(epoch);
    let mut said = Said::default();
    for snapshot in store.held(&manifest) {
        let place = directory.join(&snapshot.directory);
        found.unknown.extend(unknown_files(&place, snapshot));
        found.files += snapshot.files.0.len() as u64;
        found.bytes += snapshot.files.bytes();
        let faults = snapshot.files.check_contents(&place);
        if faults.is_empty() {
            found.read_records(&manifest, snapshot, &place, &mut said);
        } else {
            found.faults.extend(faults);
        }
    }
    if found.faults.is_empty() {
        found.faults.extend(said.contradictions(&manifest, &store.directory(epoch).join("manifest.json")));
    }
    found
}

impl Verification {
    fn read_records(&mut self, manifest: &Manifest, snapshot: &WorkerSnapshot, place: &Path, said: &mut Said) {
        if let Err(error) = self.try_read_records(manifest, snapshot, place, said) {
            let why = match error {
                ProcessorError::State(why) => why,
                other => other.to_string(),
            };
            self.faults.push(Fault::content(place, why));
        }
    }

    fn try_read_records(
        &mut self,
        manifest: &Manifest,
        snapshot: &WorkerSnapshot,
        place: &Path,
        said: &mut Said,
    ) -> Result<(), ProcessorError> {
        let reader = SnapshotReader::open_checked(place)?;
        let mut figures = Figures::new(manifest)?;
        for record in reader.scan(&[]) {
            let (key, value) = record?;
            let read = read_record(&key, &value)?;
            if let Some(table) = Table::of(&key) {
                *self.records.entry(table).or_default() += 1;
            }
            match read {
                RecordText::Cut(cut) => said.cuts.push(cut),
                RecordText::Outbox(key, _) => *said.outbox.entry(key.shard).or_default() += 1,
                RecordText::Window(view) => check_view(&view, manifest, snapshot, &mut figures)?,
                // What it can be read for has been read.
                RecordText::View(_) => {}
            }
        }
        Ok(())
    }
}

fn check_view(
    view: &RecordView<'_>,
    manifest: &Manifest,
    snapshot: &WorkerSnapshot,
    figures: &mut Figures,
) -> Result<(), ProcessorError> {
    if let Some(KeyGroup(group)) = view.group {
        let owner = KeyGroup(group).owner(manifest.workers as usize);
        if owner != snapshot.worker {
            let why = format!("a record of key group {group}, which belongs to worker {owner}");
            return Err(ProcessorError::State(why));
        }
    }
    if let RecordContent::Entry(entry) = &view.content {
        for (name, encoded) in &entry.fields {
            figures.read(view.definition, encoded).map_err(|error| within(&format!("{} {name}", entry.key), error))?;
        }
    }
    Ok(())
}

/// What the records say that the manifest says too.
#[derive(Default)]
struct Said {
    cuts: Vec<PartitionCut>,
    outbox: BTreeMap<Shard, u32>,
}

impl Said {
    fn contradictions(&self, manifest: &Manifest, path: &Path) -> Vec<Fault> {
        let mut faults = Vec::new();
        let order = |cut: &CutSummary| (cut.topic.clone(), cut.partition);
        let mut records: Vec<CutSummary> = self.cuts.iter().map(CutSummary::of).collect();
        let mut summaries: Vec<CutSummary> =
            manifest.held().iter().flat_map(|snapshot| snapshot.cuts.iter().cloned()).collect();
        records.sort_by_key(order);
        summaries.sort_by_key(order);
        if records != summaries {
            faults.push(Fault::content(path, "the cuts that it names are not those of the records"));
        }
        let is_held = |sink: &&SinkShard| manifest.part.is_none_or(|ProcessIndex(part)| sink.shard.process == part);
        let sinks = manifest.sinks.iter().filter(is_held);
        let chunks: BTreeMap<Shard, u32> = sinks.map(|sink| (sink.shard, sink.outbox_chunks)).collect();
        let shards: BTreeSet<&Shard> = chunks.keys().chain(self.outbox.keys()).collect();
        for shard in shards {
            let count = |counts: &BTreeMap<Shard, u32>| counts.get(shard).copied().unwrap_or(0);
            let (named, found) = (count(&chunks), count(&self.outbox));
            if named != found {
                let what =
                    format_args!("{named} chunks in the outbox of shard {shard}, and there are {found}").to_string();
                faults.push(Fault::content(path, what));
            }
        }
        faults
    }
}

fn unknown_files(place: &Path, snapshot: &WorkerSnapshot) -> Vec<String> {
    let known: BTreeSet<&str> = snapshot.files.0.iter().map(|file| file.name.as_str()).collect();
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let unknown = entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !known.contains(name)));
    unknown.map(|entry| entry.path().display().to_string()).collect()
}
