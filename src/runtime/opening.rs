//! The checkpoints of this process, before it has met the others of the job.
//!
//! The model: the directory is opened first, under its lock, so that a second run of the job is refused before it has met anybody. What
//! is there is told to the other processes when they meet; only then it is chosen what all go on from (see [`super::checkpoints`]).

use super::Topology;
use super::restoring::RestoreBar;
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
    pub fn open(config: &ProcessorConfig, start: StartOptions, topology: &Topology) -> ProcessorResult<Option<Self>> {
        start.check(config)?;
        let process = topology.process();
        let index = ProcessIndex(process.index as u16);
        let (StateBackendKind::RocksDb, Some(path), Some(directory)) =
            (config.state.backend, &config.state.path, config.state.checkpoint_directory(process.index))
        else {
            return Ok(None);
        };
        let progress = Arc::new(RestoreProgress::new(topology.threads()));
        let bar = RestoreBar::draw(Arc::clone(&progress))?;
        let (placement, store, offer, sound) = if !config.state.checkpoint_path_shared {
            let own = Own { process: index, processes: process.count as u32, workers: topology.peers() as u32 };
            let store = CheckpointStore::open_own(directory, own)?;
            let (offer, sound) = offer(&store, index, start.from, &progress)?;
            (Placement::PerProcess, store, offer, sound)
        } else {
            let shown = directory.display().to_string();
            let store = match index.0 {
                0 => CheckpointStore::open(directory)?,
                _ => CheckpointStore::join(directory)?,
            };
            (Placement::Shared, store, Offer::shared(index, shown, start.from), Vec::new())
        };
        Ok(Some(Self { path: path.clone(), store, placement, offer, sound, progress, bar }))
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
