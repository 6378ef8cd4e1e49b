//! The job: what its input is, what its state is, and what it makes of it. Results do not depend on epochs, processes or crashes.

use crate::broker::Outcome;
use crate::parts::Parts;
use llm_optimizer_processor::checkpoint::protocol::{Delivered, OutboxFingerprint};
use llm_optimizer_processor::sink::{Generation, Shard};
use llm_optimizer_processor::time::Epoch;
use std::collections::BTreeMap;

pub const PARTITIONS: u8 = 3;
const EVENTS: u8 = 6;
/// So many events make a result.
const OF_RESULT: u8 = 2;
/// So many results at most are a chunk.
const CHUNK: usize = 2;

/// A partition: how much of it was read, and what was made of it since the last result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Partition {
    pub next: u8,
    sum: u32,
}

impl Partition {
    pub fn is_at_end(self) -> bool {
        self.next == EVENTS
    }

    /// Reads an event.
    pub fn step(&mut self, partition: u8) -> Option<Outcome> {
        self.sum += (u32::from(partition) + 1) * 1000 + u32::from(self.next);
        self.next += 1;
        let number = (self.next - 1) / OF_RESULT;
        self.next.is_multiple_of(OF_RESULT).then(|| Outcome { partition, number, sum: std::mem::take(&mut self.sum) })
    }
}

/// What a run that was never killed makes.
pub fn all_results() -> Vec<Outcome> {
    let of_partition = |number| {
        let mut partition = Partition::default();
        (0..EVENTS).filter_map(move |_| partition.step(number))
    };
    (0..PARTITIONS).flat_map(of_partition).collect()
}

/// One process's snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub partitions: BTreeMap<u8, Partition>,
    pub shard: Shard,
    pub outbox: Vec<Vec<Outcome>>,
    /// What its shard had delivered before.
    pub after: Option<Delivered>,
    pub generation: Generation,
    /// Who wrote it: by the checksums in the manifest it is found out where it is not who should have.
    pub writer: Writer,
}

/// A start, by its number.
pub type Writer = usize;

/// Where a snapshot is: epoch, worker, and the start that wrote it where the names of directories say it.
pub type Place = (Epoch, u16, Option<Writer>);

/// A published checkpoint.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub snapshots: Vec<Place>,
    pub generation: Generation,
    pub writer: Writer,
    pub is_damaged: bool,
    pub shards: Vec<Shard>,
}

/// What is durable beside the broker.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    pub snapshots: BTreeMap<Place, Snapshot>,
    pub manifests: BTreeMap<Epoch, Manifest>,
    /// Of processes that have disks of their own, in place of the manifests.
    pub parts: Parts,
}

/// What a run restores.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub epoch: Option<Epoch>,
    pub generation: Generation,
    pub partitions: BTreeMap<u8, Partition>,
    pub outboxes: BTreeMap<Shard, Snapshot>,
    pub shards: Vec<Shard>,
}

impl Storage {
    fn is_sound(&self, manifest: &Manifest) -> bool {
        let written = |place: &Place| self.snapshots.get(place).is_some_and(|found| found.writer == manifest.writer);
        !manifest.is_damaged && manifest.snapshots.iter().all(written)
    }

    /// The newest sound one; `None` where there are checkpoints, and none is sound.
    pub fn restore(&self) -> Option<Restored> {
        let sound = self.manifests.iter().rev().find(|(_, manifest)| self.is_sound(manifest));
        let Some((&epoch, manifest)) = sound else { return self.manifests.is_empty().then(Restored::default) };
        Some(self.read(epoch, manifest))
    }

    pub fn read(&self, epoch: Epoch, manifest: &Manifest) -> Restored {
        let (epoch, generation, shards) = (Some(epoch), manifest.generation, manifest.shards.clone());
        let mut restored = Restored { epoch, generation, shards, ..Restored::default() };
        for snapshot in manifest.snapshots.iter().map(|place| &self.snapshots[place]) {
            restored.partitions.extend(&snapshot.partitions);
            restored.outboxes.insert(snapshot.shard, snapshot.clone());
        }
        restored
    }

    /// After all that was ever begun.
    pub fn next_epoch(&self) -> Epoch {
        let begun = self.snapshots.keys().map(|(epoch, ..)| *epoch).chain(self.manifests.keys().copied());
        begun.max().map_or(Epoch::FIRST, |last| Epoch::new(last.number() + 1))
    }

    pub fn remove_incomplete(&mut self) {
        self.snapshots.retain(|(epoch, ..), _| self.manifests.contains_key(epoch));
    }

    /// Keeps two.
    pub fn retain(&mut self) {
        while self.manifests.len() > 2 {
            self.manifests.pop_first();
        }
        let oldest = self.manifests.keys().next().copied().unwrap_or_default();
        self.snapshots.retain(|(epoch, ..), _| *epoch >= oldest);
    }
}

/// As the sink cuts an epoch into chunks: there is one at least.
pub fn chunks(results: &[Outcome]) -> Vec<Vec<Outcome>> {
    match results.is_empty() {
        true => vec![Vec::new()],
        false => results.chunks(CHUNK).map(<[Outcome]>::to_vec).collect(),
    }
}

pub fn fingerprint(writer: Writer, outbox: &[Vec<Outcome>]) -> OutboxFingerprint {
    let bytes = |chunk: &Vec<Outcome>| -> Vec<u8> {
        let of = |result: &Outcome| [&[result.partition, result.number][..], &result.sum.to_le_bytes()].concat();
        writer.to_le_bytes().into_iter().chain(chunk.iter().flat_map(of)).collect()
    };
    OutboxFingerprint::of(&outbox.iter().map(bytes).collect::<Vec<_>>())
}
