//! Checkpoints in an object store.
//!
//! The model: the store is a *remote* of an ordinary local directory of checkpoints. Each process has a directory of its own in which its
//! workers make their snapshots as ever; a worker then sends what is not in the store yet, and reports when it is there. The first
//! process publishes by writing the manifest on the condition that there is none of its epoch: that is the commit point. A start
//! lists the manifests in the store, fetches the checkpoint that it goes on from into the local directory, and goes on as from any.
//! The local directory is a cache: nothing in it counts without a manifest in the store.
//!
//! Which objects are to be sent, fetched and removed is decided by pure functions over lists.
//!
//! How it fails: a request that fails is made again, by a writer or the publisher until the run is over, by a start for a minute. An object
//! that is missing or damaged is named by its URL. A second run of the job finds its epoch taken and is refused.

mod client;
#[cfg(test)]
mod faulty;
mod fetch;
mod keys;
mod offline;
mod open;
mod publish;
mod removal;
mod staged;
mod survey;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;

pub use client::{IsOver, Object, ObjectClient, ObjectError, ObjectErrorKind, ObjectResult};
pub use fetch::{PATIENCE, Patience};
pub use keys::RunId;
pub use offline::RemoteCopy;
pub use publish::RemotePublisher;
pub use upload::Uploader;

use self::fetch::{fetch, unreachable};
use self::keys::table_key;
use self::survey::Survey;
use super::{CheckpointState, CheckpointStore, Fault, ListedCheckpoint, Manifest, RestoreProgress};
use crate::config::ObjectUrl;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::WorkerIndex;
use crate::time::Epoch;
use bytes::Bytes;

/// The checkpoints of a job in an object store, for one process of one run.
#[derive(Clone, Debug)]
pub struct Remote {
    client: ObjectClient,
    run: RunId,
    patience: Patience,
}

impl Remote {
    /// Opens the store of a URL; the next call asks it something. Whoever waits gives up when `is_over` says so.
    pub fn open(url: &ObjectUrl, is_over: IsOver) -> ProcessorResult<Self> {
        Self::new(open::open(url)?.until(is_over), PATIENCE)
    }

    /// Of a store that is open.
    pub fn new(client: ObjectClient, patience: Patience) -> ProcessorResult<Self> {
        Ok(Self { client, run: RunId::new()?, patience })
    }

    /// Where it is.
    pub fn url(&self) -> &ObjectUrl {
        self.client.url()
    }

    /// What there is, in the order of epochs. Of objects the lengths are looked at, not the contents.
    pub fn list(&self) -> ProcessorResult<Vec<ListedCheckpoint>> {
        let survey = self.patience.ask(&self.client, || Survey::take(&self.client));
        let survey = survey.map_err(|error| unreachable(&self.client, &error))?;
        Ok(survey.checkpoints(self.url()))
    }

    /// The first epoch after all that are published: whoever begins with the same takes the same, and one of them gets it.
    pub fn first_after(listed: &[ListedCheckpoint]) -> Epoch {
        let mut published = listed.iter().filter(|listed| !matches!(listed.state, CheckpointState::Incomplete { .. }));
        published.next_back().map_or(Epoch::FIRST, |last| last.epoch.next())
    }

    /// The checkpoint of an epoch among those that are listed.
    ///
    /// # Errors
    /// Where it is not there (the message names those there are), incomplete, or damaged.
    pub fn load(&self, epoch: Epoch, listed: &[ListedCheckpoint]) -> ProcessorResult<Manifest> {
        match listed.iter().find(|listed| listed.epoch == epoch).map(|listed| &listed.state) {
            Some(CheckpointState::Complete(manifest)) => Ok((**manifest).clone()),
            Some(CheckpointState::Damaged { faults, .. }) => Err(faults.first().cloned().map_or_else(
                || ProcessorError::State(format!("{} is damaged", self.url().of(&epoch.number().to_string()))),
                ProcessorError::from,
            )),
            Some(CheckpointState::Incomplete { .. }) | None => {
                Err(ProcessorError::State(not_there(epoch, listed, &self.url().to_string())))
            }
        }
    }

    /// Forgets what the local directory has of checkpoints that are not in the store, and that anything in it is one.
    pub fn distrust(&self, store: &CheckpointStore, listed: &[ListedCheckpoint]) -> ProcessorResult<()> {
        for epoch in store.epochs()? {
            match listed.iter().any(|listed| listed.epoch == epoch && listed.state.manifest().is_some()) {
                true => store.unpublish(epoch)?,
                false => store.remove(epoch)?,
            }
        }
        Ok(())
    }

    /// Brings a checkpoint into a local directory in which it is not published; what is there already need not come again. What
    /// is wrong with it in the store, where that is so.
    ///
    /// # Errors
    /// Where the store gives no answer, or the directory cannot be written.
    pub fn fetch(
        &self,
        store: &CheckpointStore,
        manifest: &Manifest,
        progress: &RestoreProgress,
    ) -> ProcessorResult<Option<Fault>> {
        progress.begin_check(manifest.bytes());
        fetch(&self.client, self.patience, store, manifest, &|bytes| progress.checked(bytes))
    }

    /// Checks that the store does what publishing relies on: of two who write an object on the condition that there is none, one
    /// succeeds.
    ///
    /// # Errors
    /// [`ProcessorError::Config`] where it does not.
    pub fn check_conditions(&self) -> ProcessorResult<()> {
        let key = table_key(self.run, WorkerIndex(0), "probe");
        let ask = |content: &'static [u8]| {
            self.patience.ask(&self.client, || self.client.create(&key, Bytes::from_static(content)))
        };
        // Where the first answer was lost, the second attempt finds the object.
        let first = ask(b"one");
        let second = ask(b"two");
        // What is left of it goes with what runs leave.
        let _ = self.client.delete(std::slice::from_ref(&key));
        let refused = |error: ObjectError| {
            ProcessorError::State(format!("the checkpoints in {} cannot be written: {error}", self.url()))
        };
        match (first, second) {
            (Err(error), _) if error.kind != ObjectErrorKind::Exists => Err(refused(error)),
            (_, Err(error)) if error.kind == ObjectErrorKind::Exists => Ok(()),
            (_, Err(error)) => Err(refused(error)),
            (_, Ok(())) => Err(ProcessorError::Config(format!(
                "state.checkpoint_path: the store of {} writes over an object that is to be written only if there is none \
                     (If-None-Match: *): two runs of the job would not notice each other. A store that heeds the condition would be right",
                self.url()
            ))),
        }
    }

    /// What a worker sends its snapshots with; `is_over` says when nobody waits for it any more.
    pub fn uploader(&self, worker: WorkerIndex, is_over: IsOver) -> Uploader {
        Uploader::new(self.client.until(is_over), self.run, worker)
    }

    /// What publishes.
    pub fn publisher(&self, retain: usize, discarded: Vec<Epoch>, is_over: IsOver) -> RemotePublisher {
        RemotePublisher::new(self.client.until(is_over), retain, discarded)
    }
}

fn not_there(epoch: Epoch, listed: &[ListedCheckpoint], place: &str) -> String {
    let complete = listed.iter().filter(|listed| matches!(listed.state, CheckpointState::Complete(_)));
    let names: Vec<String> = complete.map(|listed| listed.epoch.number().to_string()).collect();
    let there_are = match names.is_empty() {
        true => "there is none that is complete".to_owned(),
        false => format!("there are {}", names.join(", ")),
    };
    let what = match listed.iter().any(|listed| listed.epoch == epoch) {
        true => "is incomplete: it was not published",
        false => "is not there",
    };
    format!("the checkpoint {} in {place} {what}; {there_are}", epoch.number())
}

/// Removes local snapshots that are older than the one before `epoch`: that one is published, or this would not be under way.
pub fn forget_older(store: &CheckpointStore, epoch: Epoch) -> ProcessorResult<()> {
    let epochs = store.epochs()?;
    let before = epochs.iter().copied().filter(|other| *other < epoch).max();
    epochs.into_iter().filter(|other| Some(*other) < before).try_for_each(|old| store.remove(old))
}
