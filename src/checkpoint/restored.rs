//! A checkpoint that a job goes on from, open for reading.
//!
//! The model: every file of every worker's snapshot has been read and is what it was. The records are read where they are: those of
//! windows by the workers that own their key groups now, whichever worker wrote them; the cuts by all; the outbox by the processes
//! that take over its shards.

use super::{
    CheckpointStore, Cuts, Manifest, PartitionCut, RecordKey, RestoreProgress, SnapshotReader, Table, read_cut,
    read_outbox,
};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, KEY_GROUPS, KeyGroup, WorkerIndex};
use crate::sink::{Generation, Prepared, Shard, SinkRecovery};
use std::collections::BTreeMap;
use std::ops::Range;

/// A checkpoint that a job goes on from. Clones read the same files.
#[derive(Clone, Debug)]
pub struct Restored {
    manifest: Manifest,
    snapshots: Vec<SnapshotReader>,
}

impl Restored {
    /// Checks and opens all snapshots of a checkpoint.
    pub fn open(store: &CheckpointStore, manifest: Manifest) -> ProcessorResult<Self> {
        Self::open_with(store, manifest, &|_| {})
    }

    /// The same; `read` is told how many bytes more were read.
    pub(super) fn open_with(store: &CheckpointStore, manifest: Manifest, read: &dyn Fn(u64)) -> ProcessorResult<Self> {
        let snapshots = store.snapshots_with(&manifest, read).collect::<ProcessorResult<_>>()?;
        Ok(Self { manifest, snapshots })
    }

    /// The same, shown in the progress of the start.
    pub(super) fn open_shown(
        store: &CheckpointStore,
        manifest: Manifest,
        progress: &RestoreProgress,
    ) -> ProcessorResult<Self> {
        progress.begin_check(store.held(&manifest).iter().map(|snapshot| snapshot.files.bytes()).sum());
        Self::open_with(store, manifest, &|bytes| progress.checked(bytes))
    }

    pub(super) fn snapshots(&self) -> &[SnapshotReader] {
        &self.snapshots
    }

    /// About how many records there are in all snapshots.
    pub fn about_records(&self) -> u64 {
        self.snapshots.iter().map(SnapshotReader::about_records).sum()
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The cuts of all partitions.
    pub fn cuts(&self) -> ProcessorResult<Vec<PartitionCut>> {
        let mut cuts = Cuts::default();
        for snapshot in &self.snapshots {
            for record in snapshot.scan(&RecordKey::plain(Table::Cut, &[]).0) {
                let (key, value) = record?;
                cuts.insert(read_cut(&key, &value)?);
            }
        }
        Ok(cuts.into_map().into_values().collect())
    }

    /// Hands the records of one window definition that belong to these key groups to `take`; what a definition is apart from its
    /// keys comes from all workers.
    pub fn windows(
        &self,
        definition: DefinitionIndex,
        groups: Range<u32>,
        mut take: impl FnMut(&[u8], &[u8]) -> ProcessorResult<()>,
    ) -> ProcessorResult<()> {
        for snapshot in &self.snapshots {
            if let Some(value) = snapshot.get(&RecordKey::of_definition(definition).0)? {
                take(&RecordKey::of_definition(definition).0, &value)?;
            }
            for table in [Table::Entry, Table::Revision, Table::Pane, Table::Waiting] {
                let edge = |group| RecordKey::of_group(table, definition, KeyGroup(group), &[]).0;
                for record in snapshot.scan_range(&edge(groups.start), &edge(groups.end)) {
                    let (key, value) = record?;
                    take(&key, &value)?;
                }
            }
        }
        Ok(())
    }

    /// Hands the records of views that belong to these key groups to `take`; up to where everything is closed comes from all workers.
    pub fn views(
        &self,
        definitions: usize,
        groups: Range<u32>,
        mut take: impl FnMut(&[u8], &[u8]) -> ProcessorResult<()>,
    ) -> ProcessorResult<()> {
        for snapshot in &self.snapshots {
            let key = RecordKey::plain(Table::View, &[]).0;
            if let Some(value) = snapshot.get(&key)? {
                take(&key, &value)?;
            }
            let tables = [Table::Fact, Table::Unclosed];
            let of_all = (0..definitions).map(DefinitionIndex::of).flat_map(|of| tables.map(|table| (table, of)));
            for (table, definition) in of_all {
                let edge = |group| RecordKey::of_group(table, definition, KeyGroup(group), &[]).0;
                for record in snapshot.scan_range(&edge(groups.start), &edge(groups.end)) {
                    let (key, value) = record?;
                    take(&key, &value)?;
                }
            }
        }
        Ok(())
    }

    /// What the shards hold that are taken over by `process` of `processes`.
    fn prepared(&self, sink: u16, process: u16, processes: u16) -> ProcessorResult<Vec<(Shard, Prepared)>> {
        let mine = |shard: &Shard| shard.sink == sink && shard.process % processes == process;
        let mut found: BTreeMap<Shard, Prepared> = BTreeMap::new();
        for held in self.manifest.sinks.iter().filter(|held| mine(&held.shard)) {
            let file = held.file.as_ref().map(|file| (file.path.clone(), file.length));
            found.insert(held.shard, Prepared { file, outbox: vec![Vec::new(); held.outbox_chunks as usize] });
        }
        let mut missing: usize = found.values().map(|prepared| prepared.outbox.len()).sum();
        for snapshot in &self.snapshots {
            for record in snapshot.scan(&RecordKey::plain(Table::Outbox, &[]).0) {
                let (key, value) = record?;
                let (name, chunk) = read_outbox(&key, &value)?;
                let place = found.get_mut(&name.shard).and_then(|of| of.outbox.get_mut(name.chunk as usize));
                if let Some(place) = place.filter(|_| name.epoch == self.manifest.epoch) {
                    *place = chunk.to_vec();
                    missing -= 1;
                }
            }
        }
        match missing {
            0 => Ok(found.into_iter().collect()),
            missing => Err(ProcessorError::State(format!(
                "checkpoint {}: {missing} chunks of the outbox that the manifest lists are not there",
                self.manifest.epoch
            ))),
        }
    }
}

/// What the sink at this place of `process` recovers from.
pub fn sink_recovery(
    restored: Option<&Restored>,
    generation: Generation,
    sink: u16,
    process: u16,
    processes: u16,
) -> ProcessorResult<SinkRecovery> {
    let shard = Shard { sink, process };
    let Some(restored) = restored else {
        return Ok(SinkRecovery { shard, generation, ..SinkRecovery::default() });
    };
    let ever = restored.manifest.transactional_shards.iter().copied();
    let taken_over =
        ever.filter(|other| *other != shard && other.sink == sink && other.process % processes == process).collect();
    Ok(SinkRecovery {
        shard,
        generation,
        restored: Some(restored.manifest.epoch),
        prepared: restored.prepared(sink, process, processes)?,
        taken_over,
    })
}

/// The key groups that a worker among `peers` owns.
pub fn key_groups_of(worker: WorkerIndex, peers: usize) -> Range<u32> {
    let peers = peers.max(1) as u64;
    let first = |worker: u64| (worker * u64::from(KEY_GROUPS)).div_ceil(peers) as u32;
    first(u64::from(worker.0))..first(u64::from(worker.0) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_group_has_the_owner_that_the_exchange_sends_it_to() {
        for peers in (1..20).chain([255, 256, 257, 1024]) {
            for worker in 0..peers {
                let worker = WorkerIndex(worker as u32);
                let groups = key_groups_of(worker, peers);
                for group in 0..KEY_GROUPS {
                    assert_eq!(groups.contains(&group), KeyGroup(group).owner(peers) == worker, "{group} {peers}");
                }
            }
        }
    }
}
