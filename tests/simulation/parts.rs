//! Processes each of which has a disk of its own, with its part of every checkpoint.

use crate::job::{Manifest, Restored, Storage, Writer};
use llm_optimizer_processor::checkpoint::{Held, Offer, Placement, ProcessIndex, StartFrom, agree};
use llm_optimizer_processor::time::Epoch;
use std::collections::BTreeMap;

/// Whose disks there are: such a job has as many processes at every start.
pub const PROCESSES: u16 = 2;

/// A process's copy of a manifest.
#[derive(Clone, Copy, Debug)]
struct Part {
    writer: Writer,
    is_committed: bool,
    is_damaged: bool,
}

/// What is on the disks beside the snapshots.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    disks: BTreeMap<u16, BTreeMap<Epoch, Part>>,
    manifests: BTreeMap<(Epoch, Writer), Manifest>,
}

impl Parts {
    /// What is to be prepared.
    pub fn announce(&mut self, epoch: Epoch, manifest: Manifest) {
        self.manifests.insert((epoch, manifest.writer), manifest);
    }

    /// A process prepares its part.
    pub fn prepare(&mut self, process: u16, epoch: Epoch, writer: Writer) {
        let part = Part { writer, is_committed: false, is_damaged: false };
        self.disks.entry(process).or_default().insert(epoch, part);
    }

    /// A process's part counts from now on; `false`: it has not prepared it.
    pub fn commit(&mut self, process: u16, epoch: Epoch) -> bool {
        let part = self.disks.entry(process).or_default().get_mut(&epoch);
        part.is_some_and(|part| std::mem::replace(&mut part.is_committed, true) || part.is_committed)
    }

    /// Whether a snapshot of this epoch is part of a checkpoint that counts.
    pub fn counts(&self, process: u16, epoch: Epoch) -> bool {
        self.disks.get(&process).and_then(|disk| disk.get(&epoch)).is_some_and(|part| part.is_committed)
    }

    /// The newest part of the last process is damaged; `false`: it has none.
    pub fn damage(&mut self) -> bool {
        let newest = self.disks.get_mut(&(PROCESSES - 1)).and_then(|disk| disk.values_mut().next_back());
        newest.map(|part| part.is_damaged = true).is_some()
    }

    pub fn repair(&mut self) {
        self.disks.values_mut().flat_map(BTreeMap::values_mut).for_each(|part| part.is_damaged = false);
    }
}

impl Storage {
    /// A process keeps two that count, and what is newer.
    pub fn retain_of(&mut self, process: u16) {
        let disk = self.parts.disks.entry(process).or_default();
        let committed: Vec<Epoch> =
            disk.iter().filter(|(_, part)| part.is_committed).map(|(epoch, _)| *epoch).collect();
        let Some(oldest) = committed.len().checked_sub(2).map(|spare| committed[spare]) else { return };
        disk.retain(|epoch, _| *epoch >= oldest);
        self.snapshots.retain(|(epoch, worker, _), _| *worker != process || *epoch >= oldest);
    }

    fn offer(&self, process: u16) -> Offer {
        let held = |(epoch, part): (&Epoch, &Part)| {
            let manifest = &self.parts.manifests[&(*epoch, part.writer)];
            let own = manifest.snapshots.iter().find(|(_, worker, _)| *worker == process);
            let is_there = own.and_then(|place| self.snapshots.get(place)).is_some_and(|of| of.writer == part.writer);
            Held {
                epoch: *epoch,
                is_committed: part.is_committed,
                digest: Some(part.writer as u32),
                fault: (part.is_damaged || !is_there).then(|| "damaged".to_owned()),
                cuts: Vec::new(),
            }
        };
        let own = self.parts.disks.get(&process).into_iter().flatten();
        let begun = self.snapshots.keys().filter(|(_, worker, _)| *worker == process).map(|(epoch, ..)| *epoch);
        let last = begun.chain(own.clone().map(|(epoch, _)| *epoch)).max();
        Offer {
            process: ProcessIndex(process),
            placement: Placement::PerProcess,
            directory: String::new(),
            start: StartFrom::Newest,
            next: last.map_or(Epoch::FIRST, Epoch::next),
            held: own.map(held).collect(),
        }
    }

    /// What the processes agree on, and the first epoch; `None`: they refuse to begin.
    pub fn restore_together(&mut self) -> Option<(Restored, Epoch)> {
        let offers: Vec<Offer> = (0..PROCESSES).map(|process| self.offer(process)).collect();
        let agreed = agree(&offers, true).ok()?;
        let Some(epoch) = agreed.restored else { return Some((Restored::default(), agreed.first)) };
        (0..PROCESSES).for_each(|process| _ = self.parts.commit(process, epoch));
        let writer = self.parts.disks[&0][&epoch].writer;
        let manifest = &self.parts.manifests[&(epoch, writer)];
        Some((self.read(epoch, manifest), agreed.first))
    }
}
