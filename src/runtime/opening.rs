//! The checkpoints of this process, before it has met the others of the job.
//!
//! The model: the directory is opened first, under its lock, so that a second run of the job is refused before it has met anybody. What
//! is there is told to the other processes when they meet; only then it is chosen what all go on from (see [`super::checkpoints`]).

use super::restoring::RestoreBar;
use super::{Control, Topology};
use crate::checkpoint::remote::{IsOver, Remote};
use crate::checkpoint::{
    CheckpointStore, Offer, Own, Placement, ProcessIndex, RestoreProgress, Restored, StartOptions, offer,
};
use crate::config::{ProcessorConfig, StateBackendKind};
use crate::error::{ProcessorError, ProcessorResult};
use std::path::PathBuf;
use std::sync::Arc;

/// The checkpoints that this process has, before it has met the others.
pub struct OpenCheckpoints {
    /// The state's directory.
    pub(super) path: PathBuf,
    pub(super) store: CheckpointStore,
    /// The object store that the checkpoints are in, where they are in one.
    pub(super) remote: Option<Remote>,
    pub(super) placement: Placement,
    pub(super) offer: Offer,
    /// Checkpoints of the offer, open.
    pub(super) sound: Vec<Restored>,
    pub(super) progress: Arc<RestoreProgress>,
    pub(super) bar: RestoreBar,
}

impl OpenCheckpoints {
    /// Opens the directory, and reads what this process can restore where it has one of its own. `None` where the job takes no
    /// checkpoints.
    pub fn open(
        config: &ProcessorConfig,
        start: StartOptions,
        topology: &Topology,
        control: &Control,
    ) -> ProcessorResult<Option<Self>> {
        start.check(config)?;
        let process = topology.process();
        let index = ProcessIndex(process.index as u16);
        let (StateBackendKind::RocksDb, Some(path), Some(directory)) =
            (config.state.backend, &config.state.path, config.state.checkpoint_directory(process.index))
        else {
            return Ok(None);
        };
        let remote = open_remote(config, control)?;
        let progress = Arc::new(RestoreProgress::new(topology.threads()));
        let bar = RestoreBar::draw(Arc::clone(&progress), control)?;
        let (placement, store, offer, sound) = if !config.state.checkpoint_path_shared {
            let own = Own { process: index, processes: process.count as u32, workers: topology.peers() as u32 };
            let store = CheckpointStore::open_own(directory, own)?;
            let (offer, sound) = offer(&store, index, start.from, &progress)?;
            (Placement::PerProcess, store, offer, sound)
        } else {
            let shown = directory.display().to_string();
            let store = open_shared(directory, index, remote.as_ref())?;
            (Placement::Shared, store, Offer::shared(index, shown, start.from), Vec::new())
        };
        Ok(Some(Self { path: path.clone(), store, remote, placement, offer, sound, progress, bar }))
    }

    /// What the other processes are told.
    pub fn opening(&self) -> ProcessorResult<Vec<u8>> {
        self.offer.to_bytes()
    }
}

/// What all processes have told when they met.
pub(super) fn read_offers(openings: &[Vec<u8>]) -> ProcessorResult<Vec<Offer>> {
    if let Some(process) = openings.iter().position(Vec::is_empty) {
        return Err(ProcessorError::Refused(format!(
            "process {process} takes no checkpoints, and this one does: give all processes the same state.backend"
        )));
    }
    openings.iter().map(|bytes| Offer::from_bytes(bytes)).collect()
}

/// The directory of a job whose processes share their checkpoints. The first process has its lock; of an object store
/// each process has copies of its own, and so a directory.
fn open_shared(directory: PathBuf, process: ProcessIndex, remote: Option<&Remote>) -> ProcessorResult<CheckpointStore> {
    let is_first = process.0 == 0;
    let is_own = is_first || remote.is_some();
    let store = if is_own { CheckpointStore::open(directory)? } else { CheckpointStore::join(directory)? };
    if let Some(remote) = remote.filter(|_| is_first) {
        remote.check_conditions()?;
    }
    Ok(store)
}

/// The object store that the job's checkpoints are in, where they are in one. While the job starts, whoever waits for it
/// waits no longer than the run.
fn open_remote(config: &ProcessorConfig, control: &Control) -> ProcessorResult<Option<Remote>> {
    let control = control.clone();
    let is_over: IsOver = Arc::new(move || control.is_stopping() || control.has_failed());
    config.state.checkpoint_url.as_ref().map(|url| Remote::open(url, is_over)).transpose()
}
