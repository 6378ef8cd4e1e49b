//! Checkpoints of an object store on this machine, for tools.

use super::{Patience, Remote, fetch::fetch};
use crate::checkpoint::{CheckpointState, CheckpointStore, Fault, ListedCheckpoint};
use crate::config::ObjectUrl;
use crate::error::{ProcessorError, ProcessorResult};
use crate::time::Epoch;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Somebody waits at a terminal.
const PATIENCE_OF_TOOLS: Patience = Patience { total: Duration::from_secs(5), first_pause: Duration::from_millis(200) };

/// Copies of some checkpoints of an object store, in a directory that goes with this.
pub struct RemoteCopy {
    remote: Remote,
    listed: Vec<ListedCheckpoint>,
    store: CheckpointStore,
    _directory: TempDir,
}

impl RemoteCopy {
    /// Lists what there is, and copies nothing yet.
    pub fn open(url: &ObjectUrl) -> ProcessorResult<Self> {
        Self::of(Remote { patience: PATIENCE_OF_TOOLS, ..Remote::open(url, Arc::new(|| false))? })
    }

    fn of(remote: Remote) -> ProcessorResult<Self> {
        let directory = tempfile::Builder::new()
            .prefix("processor-checkpoints-")
            .tempdir()
            .map_err(|error| ProcessorError::io("cannot make a directory for copies of checkpoints", error))?;
        let store = CheckpointStore::copy(directory.path(), &remote.url().to_string())?;
        Ok(Self { listed: remote.list()?, remote, store, _directory: directory })
    }

    /// What there is in the store.
    pub fn listed(&self) -> &[ListedCheckpoint] {
        &self.listed
    }

    /// The epochs that are published there.
    pub fn published(&self) -> Vec<Epoch> {
        let is_published = |listed: &&ListedCheckpoint| !matches!(listed.state, CheckpointState::Incomplete { .. });
        self.listed.iter().filter(is_published).map(|listed| listed.epoch).collect()
    }

    /// The local directory, which has what was brought.
    pub fn store(&self) -> &CheckpointStore {
        &self.store
    }

    /// Brings a checkpoint.
    ///
    /// # Errors
    /// Where it is not there, incomplete or damaged.
    pub fn bring(&self, epoch: Epoch) -> ProcessorResult<()> {
        let manifest = self.remote.load(epoch, &self.listed)?;
        let fault = fetch(&self.remote.client, self.remote.patience, &self.store, &manifest, &|_| {})?;
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Brings a checkpoint that may be damaged; what is wrong with its objects.
    pub fn try_bring(&self, epoch: Epoch) -> ProcessorResult<Vec<Fault>> {
        let state = self.listed.iter().find(|listed| listed.epoch == epoch).map(|listed| &listed.state);
        match state {
            Some(CheckpointState::Damaged { faults, .. }) => Ok(faults.clone()),
            _ => {
                let manifest = self.remote.load(epoch, &self.listed)?;
                let fault = fetch(&self.remote.client, self.remote.patience, &self.store, &manifest, &|_| {})?;
                Ok(fault.into_iter().collect())
            }
        }
    }

    /// Removes a copy.
    pub fn forget(&self, epoch: Epoch) -> ProcessorResult<()> {
        self.store.remove(epoch)
    }

    /// A fault in a copy, named by where the copy is from.
    pub fn named(&self, fault: Fault) -> Fault {
        match fault.file.strip_prefix(self.store.root()) {
            Ok(name) => Fault { file: PathBuf::from(self.remote.url().of(&name.to_string_lossy())), ..fault },
            Err(_) => fault,
        }
    }
}
