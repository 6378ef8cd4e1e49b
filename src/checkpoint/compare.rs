//! How one checkpoint differs from another.
//!
//! The model: cuts are compared partition by partition. Windows are compared key group by key group, so that no more than one group
//! of each checkpoint is held at a time: a slice is the same by its definition, key and bounds, a session by its definition, key
//! and start, whatever worker it is on. So are the results that views have. Of the other tables the numbers of records are compared.

use super::contents::EntryContent;
use super::manifest::Manifest;
use super::reader::SnapshotReader;
use super::{CheckpointStore, Cuts, PartitionCut, Table, read_cut};
use crate::error::ProcessorResult;
use crate::event::{DefinitionIndex, GroupingKey, PartitionName};
use crate::time::{Epoch, EventTime};
use crate::view::Fact;
use crate::view::record::ViewRecord;
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
    /// Results that views have.
    pub facts: EntryCounts,
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

/// Something that is not the same.
#[derive(Clone, Debug)]
pub enum Difference {
    /// A window, slice or session.
    Entry(Changed<EntryContent>),
    /// A result that views have.
    Fact(Changed<(DefinitionIndex, Fact)>),
}

/// How it is not the same.
#[derive(Clone, Debug)]
pub enum Changed<T> {
    /// In the second alone.
    Added(T),
    /// In the first alone.
    Removed(T),
    /// In both, in the first so, in the second otherwise.
    Otherwise(T, T),
}

/// By what an entry is the same in both.
type Identity = (DefinitionIndex, EventTime, Option<EventTime>, GroupingKey);

/// Compares two checkpoints, of which every file is checked; calls `show` with each entry that is not the same.
pub fn compare(
    store: &CheckpointStore,
    first: Epoch,
    second: Epoch,
    mut show: impl FnMut(Difference) -> ProcessorResult<()>,
) -> ProcessorResult<Comparison> {
    let (before, after) = (Side::open(store, first)?, Side::open(store, second)?);
    let (mut entries, mut facts) = (EntryCounts::default(), EntryCounts::default());
    for definition in before.definitions()?.union(&after.definitions()?) {
        for group in 0..before.manifest.key_groups.max(after.manifest.key_groups) {
            let prefix = group_prefix(Table::Entry, *definition, group);
            entries.compare(before.entries(&prefix)?, after.entries(&prefix)?, |one| show(Difference::Entry(one)))?;
            let prefix = group_prefix(Table::Fact, *definition, group);
            facts.compare(before.facts(&prefix)?, after.facts(&prefix)?, |one| show(Difference::Fact(one)))?;
        }
    }
    let cuts = moved(before.cuts()?, after.cuts()?);
    let mut tables = BTreeMap::new();
    for table in Table::ALL {
        tables.insert(table, (before.count(table)?, after.count(table)?));
    }
    Ok(Comparison { manifests: (before.manifest, after.manifest), cuts, entries, facts, tables })
}

impl EntryCounts {
    /// How many are not the same.
    pub fn different(self) -> u64 {
        self.added + self.removed + self.changed
    }

    fn compare<K: Ord, T: PartialEq>(
        &mut self,
        mut before: BTreeMap<K, T>,
        after: BTreeMap<K, T>,
        mut show: impl FnMut(Changed<T>) -> ProcessorResult<()>,
    ) -> ProcessorResult<()> {
        for (identity, content) in after {
            match before.remove(&identity) {
                Some(same) if same == content => self.unchanged += 1,
                Some(other) => {
                    self.changed += 1;
                    show(Changed::Otherwise(other, content))?;
                }
                None => {
                    self.added += 1;
                    show(Changed::Added(content))?;
                }
            }
        }
        self.removed += before.len() as u64;
        before.into_values().try_for_each(|content| show(Changed::Removed(content)))
    }
}

fn group_prefix(table: Table, definition: DefinitionIndex, group: u32) -> [u8; 4] {
    let [high, low] = (group as u16).to_be_bytes();
    [table as u8, definition.0, high, low]
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

    fn facts(&self, prefix: &[u8]) -> ProcessorResult<FactsByKey> {
        let mut facts = BTreeMap::new();
        self.each(prefix, |key, value| {
            if let ViewRecord::Fact(definition, fact) = ViewRecord::read(key, value)? {
                facts.insert(key.to_vec(), (definition, fact));
            }
            Ok(())
        })?;
        Ok(facts)
    }
}

/// By the keys of their records, which are the same whatever worker they are on.
type FactsByKey = BTreeMap<Vec<u8>, (DefinitionIndex, Fact)>;

fn identity(entry: &EntryContent) -> Identity {
    let window = entry.of.window();
    let end = match entry.of {
        EntryOf::Slice { .. } => Some(window.end),
        EntryOf::Session { .. } => None,
    };
    (entry.definition, window.start, end, entry.key.clone())
}
