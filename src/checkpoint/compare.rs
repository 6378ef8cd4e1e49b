//! How one checkpoint differs from another.
//!
//! The model: cuts are compared partition by partition. Windows are compared key group by key group, so that no more than one group
//! of each checkpoint is held at a time: a slice is the same by its definition, key and bounds, a session by its definition, key
//! and start, whatever worker it is on. Of the other tables the numbers of records are compared.

use super::contents::EntryContent;
use super::manifest::Manifest;
use super::reader::SnapshotReader;
use super::{CheckpointStore, Cuts, PartitionCut, Table, read_cut};
use crate::error::ProcessorResult;
use crate::event::{DefinitionIndex, GroupingKey, PartitionName};
use crate::time::{Epoch, EventTime};
use crate::window::{EntryOf, RecordContent, RecordView};
use std::collections::{BTreeMap, BTreeSet};

/// How the second checkpoint differs from the first.
#[derive(Debug)]
pub struct Comparison {
    /// The manifests of both.
    pub manifests: (Manifest, Manifest),
    /// Partitions that are not where they were.
    pub cuts: Vec<(PartitionName, Option<PartitionCut>, Option<PartitionCut>)>,
    /// Windows, slices and sessions.
    pub entries: EntryCounts,
    /// Records of the tables that have as many or not, in both.
    pub tables: BTreeMap<Table, (u64, u64)>,
}

/// How many windows, slices and sessions there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// In the second alone.
    pub added: u64,
    /// In the first alone.
    pub removed: u64,
    /// In both, with another content.
    pub changed: u64,
    /// The same in both.
    pub unchanged: u64,
}

/// One window, slice or session that is not the same.
#[derive(Clone, Debug)]
pub struct EntryDifference {
    /// In the first.
    pub before: Option<EntryContent>,
    /// In the second.
    pub after: Option<EntryContent>,
}

/// By what an entry is the same in both.
type Identity = (DefinitionIndex, EventTime, Option<EventTime>, GroupingKey);

/// Compares two checkpoints, of which every file is checked; calls `show` with each entry that is not the same.
pub fn compare(
    store: &CheckpointStore,
    first: Epoch,
    second: Epoch,
    mut show: impl FnMut(EntryDifference) -> ProcessorResult<()>,
) -> ProcessorResult<Comparison> {
    let (before, after) = (Side::open(store, first)?, Side::open(store, second)?);
    let mut entries = EntryCounts::default();
    for definition in before.definitions()?.union(&after.definitions()?) {
        for group in 0..before.manifest.key_groups.max(after.manifest.key_groups) {
            let prefix = group_prefix(*definition, group);
            let (mut left, right) = (before.entries(&prefix)?, after.entries(&prefix)?);
            for (identity, content) in right {
                match left.remove(&identity) {
                    Some(same) if same == content => entries.unchanged += 1,
                    Some(other) => {
                        entries.changed += 1;
                        show(EntryDifference { before: Some(other), after: Some(content) })?;
                    }
                    None => {
                        entries.added += 1;
                        show(EntryDifference { before: None, after: Some(content) })?;
                    }
                }
            }
            for content in left.into_values() {
                entries.removed += 1;
                show(EntryDifference { before: Some(content), after: None })?;
            }
        }
    }
    let cuts = moved(before.cuts()?, after.cuts()?);
    let mut tables = BTreeMap::new();
    for table in Table::ALL {
        tables.insert(table, (before.count(table)?, after.count(table)?));
    }
    Ok(Comparison { manifests: (before.manifest, after.manifest), cuts, entries, tables })
}

fn group_prefix(definition: DefinitionIndex, group: u32) -> [u8; 4] {
    let [high, low] = (group as u16).to_be_bytes();
    [Table::Entry as u8, definition.0, high, low]
}

type CutsByName = BTreeMap<PartitionName, PartitionCut>;

fn moved(
    before: CutsByName,
    mut after: CutsByName,
) -> Vec<(PartitionName, Option<PartitionCut>, Option<PartitionCut>)> {
    let mut cuts = Vec::new();
    for (name, cut) in before {
        let now = after.remove(&name);
        if now.as_ref() != Some(&cut) {
            cuts.push((name, Some(cut), now));
        }
    }
    cuts.extend(after.into_iter().map(|(name, cut)| (name, None, Some(cut))));
    cuts.sort_by(|one, other| one.0.cmp(&other.0));
    cuts
}

/// One of the two.
struct Side {
    manifest: Manifest,
    readers: Vec<SnapshotReader>,
}

impl Side {
    fn open(store: &CheckpointStore, epoch: Epoch) -> ProcessorResult<Self> {
        let manifest = store.load(epoch)?;
        let readers = store.snapshots(&manifest).collect::<ProcessorResult<_>>()?;
        Ok(Self { manifest, readers })
    }

    fn each(&self, prefix: &[u8], mut one: impl FnMut(&[u8], &[u8]) -> ProcessorResult<()>) -> ProcessorResult<()> {
        for reader in &self.readers {
            for record in reader.scan(prefix) {
                let (key, value) = record?;
                one(&key, &value)?;
            }
        }
        Ok(())
    }

    fn definitions(&self) -> ProcessorResult<BTreeSet<DefinitionIndex>> {
        let mut definitions = BTreeSet::new();
        self.each(&[Table::Window as u8], |key, _| {
            definitions.extend(key.get(1).map(|definition| DefinitionIndex(*definition)));
            Ok(())
        })?;
        Ok(definitions)
    }

    fn cuts(&self) -> ProcessorResult<CutsByName> {
        let mut cuts = Cuts::default();
        self.each(&[Table::Cut as u8], |key, value| {
            cuts.insert(read_cut(key, value)?);
            Ok(())
        })?;
        Ok(cuts.into_map())
    }

    fn count(&self, table: Table) -> ProcessorResult<u64> {
        let mut count = 0;
        self.each(&[table as u8], |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    fn entries(&self, prefix: &[u8]) -> ProcessorResult<BTreeMap<Identity, EntryContent>> {
        let mut entries = BTreeMap::new();
        self.each(prefix, |key, value| {
            let view = RecordView::read(key, value)?;
            if let RecordContent::Entry(entry) = &view.content {
                let content = EntryContent::of(view.definition, entry);
                entries.insert(identity(&content), content);
            }
            Ok(())
        })?;
        Ok(entries)
    }
}

fn identity(entry: &EntryContent) -> Identity {
    let window = entry.of.window();
    let end = match entry.of {
        EntryOf::Slice { .. } => Some(window.end),
        EntryOf::Session { .. } => None,
    };
    (entry.definition, window.start, end, entry.key.clone())
}
