//! How checkpoints come to count: in one directory, or in one of each process.

use super::{Violation, World, place};
use crate::job::Manifest;
use crate::process::Start;
use crate::rules::Broken;
use llm_optimizer_processor::checkpoint::{Event, ProcessIndex};

impl World {
    pub(super) fn publish(&mut self, number: usize) -> Result<(), Violation> {
        let run = &mut self.runs[number];
        let Some((epoch, workers)) = run.to_publish.take() else { return Ok(()) };
        let Start { number: writer, generation, .. } = run.start;
        let snapshots = workers.into_iter().map(|worker| place(self.broken, epoch, worker, writer)).collect();
        let shards = run.shards.iter().copied().collect();
        let storage = &mut self.storages[run.storage];
        if storage.manifests.contains_key(&epoch) {
            return Err(format!("run {number} publishes epoch {epoch:?}, which is published"));
        }
        let were = storage.manifests.len();
        storage.manifests.insert(epoch, Manifest { snapshots, generation, writer, is_damaged: false, shards });
        storage.retain();
        if storage.manifests.len() < 2.min(were + 1) {
            return Err(format!("{} checkpoints are left", storage.manifests.len()));
        }
        run.words.push_back(Event::Published(epoch));
        Ok(())
    }

    pub(super) fn prepare(&mut self, number: usize, process: usize) {
        let run = &mut self.runs[number];
        let Some(epoch) = run.to_prepare.remove(&process) else { return };
        self.storages[run.storage].parts.prepare(process as u16, epoch, run.start.number);
        let prepared = match self.broken {
            Some(Broken::CommitUnprepared) if process == 0 => 0..run.start.processes,
            _ => process as u16..process as u16 + 1,
        };
        run.words.extend(prepared.map(|process| Event::Prepared(ProcessIndex(process), epoch)));
    }

    /// The first process's part counts.
    pub(super) fn commit(&mut self, number: usize) -> Result<(), Violation> {
        let run = &mut self.runs[number];
        let Some((epoch, _)) = run.to_publish.take() else { return Ok(()) };
        let storage = &mut self.storages[run.storage];
        if !storage.parts.commit(0, epoch) {
            return Err(format!("run {number} publishes epoch {epoch:?}, which is not prepared"));
        }
        storage.retain_of(0);
        run.words.push_back(Event::Published(epoch));
        Ok(())
    }

    pub(super) fn keep(&mut self, number: usize, process: usize) -> Result<(), Violation> {
        let run = &mut self.runs[number];
        let Some(epoch) = run.to_keep.remove(&process) else { return Ok(()) };
        let storage = &mut self.storages[run.storage];
        if !storage.parts.commit(process as u16, epoch) && self.broken.is_none() {
            return Err(format!("run {number} has published {epoch:?}, and process {process} has not prepared it"));
        }
        storage.retain_of(process as u16);
        Ok(())
    }
}
