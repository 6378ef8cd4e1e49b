//! The thread that keeps a process's own part of each checkpoint, where processes do not share a directory; in all but the first.
//!
//! The model: it is given the manifest of a checkpoint when all workers have reported, and writes a copy beside its workers'
//! snapshots that is durable and does not count; the process says then that it has prepared it. When it hears that the checkpoint is
//! published it makes its copy count, and removes older ones. Where it dies between the two, the processes find out at the next start
//! that the checkpoint counts, as the first one has published it (see [`super::agreement`]).
//!
//! How it fails: as the writers do, see [`Attempts`].

use super::attempts::Attempts;
use super::publisher::remove_old;
use super::{CheckpointStore, Manifest, ProcessIndex, Voice, Word};
use crate::error::ProcessorResult;
use crate::runtime::{Control, yield_to_workers};
use crate::time::Epoch;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);

/// What the process has heard of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This is its manifest, and it is to be prepared.
    Prepare(String),
    /// It is published.
    Published(Epoch),
}

/// What the keeper is made from.
pub struct KeeperSettings {
    /// The process.
    pub process: ProcessIndex,
    /// Its checkpoints.
    pub checkpoints: CheckpointStore,
    /// How many are kept.
    pub retain: usize,
    /// Of another course of the job: removed when this run has published one.
    pub discarded: Vec<Epoch>,
    /// What the process has heard.
    pub heard: Receiver<Heard>,
    /// Says what is prepared.
    pub voice: Voice,
    /// How failures are met.
    pub attempts: Attempts,
    /// The run's switch.
    pub control: Control,
}

/// Starts the thread.
pub fn start_keeper(settings: KeeperSettings) -> ProcessorResult<JoinHandle<()>> {
    let control = settings.control.clone();
    control.spawn("keep", move || {
        yield_to_workers();
        run(&settings);
    })
}

fn run(settings: &KeeperSettings) {
    loop {
        let heard = match settings.heard.recv_timeout(LOOK) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) if !settings.attempts.is_over() => continue,
            Err(_) => return,
        };
        match settings.obey(heard) {
            Ok(Some(())) => {}
            Ok(None) => return,
            Err(error) => return settings.control.fail(error),
        }
    }
}

impl KeeperSettings {
    /// `None`: the run is over.
    fn obey(&self, heard: Heard) -> ProcessorResult<Option<()>> {
        let Self { process, checkpoints, attempts, .. } = self;
        match heard {
            Heard::Prepare(text) => {
                let manifest = Manifest::from_bytes(text.as_bytes(), checkpoints.root())?;
                let own = Manifest { part: Some(*process), ..manifest };
                let lost = || checkpoints.lost(&own);
                let prepare = || checkpoints.prepare(&own);
                let prepared = attempts.until_it_works_unless("preparing a checkpoint", lost, prepare);
                Ok(prepared.map(|()| self.voice.say(Word::Prepared(*process, own.epoch))))
            }
            Heard::Published(epoch) => {
                let kept = attempts.until_it_works("keeping a checkpoint", || checkpoints.commit(epoch));
                Ok(kept.map(|()| remove_old(checkpoints, &self.discarded, self.retain)))
            }
        }
    }
}
