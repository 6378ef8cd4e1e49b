//! The commit point of checkpoints in an object store, and the removal of older ones.
//!
//! The model: the manifest is written on the condition that there is none of its epoch. A run goes on from the newest checkpoint and takes
//! the next epoch, so of two runs of a job that have begun with the same one, one publishes and the other learns that it is too late:
//! the store decides. A run that was asleep for so long that its epoch has been published and removed again finds a newer one.
//!
//! How it fails: an attempt whose answer was lost finds its own manifest, byte for byte, and has succeeded. With another's the run is
//! refused: a person, or a supervisor, has started the job twice. What could not be removed is tried again after the next publication;
//! what a crash has left, the next run removes.

use super::client::{IsOver, ObjectClient, ObjectErrorKind, ObjectResult};
use super::keys::{manifest_key, objects_of, parse_epoch, runs_of};
use super::removal::{Named, checkpoints_to_remove, is_abandoned, leftovers, objects_to_remove};
use super::staged;
use super::survey::read_manifest;
use crate::checkpoint::{Manifest, failpoint};
use crate::error::{ProcessorError, ProcessorResult};
use crate::time::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// For which old checkpoints are removed when the run is over: it is the last checkpoint's turn as well.
const TIME_TO_REMOVE: Duration = Duration::from_secs(5);

/// What the publisher of a run publishes and removes with.
pub struct RemotePublisher {
    client: ObjectClient,
    /// The same for removing, which may take a moment longer than the run.
    remover: ObjectClient,
    retain: usize,
    /// Of another course of the job: removed when this run has published one.
    discarded: Vec<Epoch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the manifests name that were read or written.
    known: BTreeMap<Epoch, Named>,
    /// Objects that are to be removed, and perhaps are.
    doomed: BTreeSet<String>,
    /// What earlier runs have left is gone.
    is_swept: bool,
}

impl RemotePublisher {
    /// Of a run that keeps so many checkpoints.
    pub fn new(client: ObjectClient, retain: usize, discarded: Vec<Epoch>) -> Self {
        let remover = client.until(grace(client.end(), TIME_TO_REMOVE));
        Self { client, remover, retain, discarded, state: Mutex::default() }
    }

    /// Publishes a checkpoint whose snapshots are in the store: when this returns it counts. May be tried again where it fails.
    ///
    /// # Errors
    /// [`ProcessorError::Refused`] where another run of the job has published this epoch or a later one.
    pub fn publish(&self, manifest: &Manifest) -> ProcessorResult<()> {
        let epoch = manifest.epoch;
        let key = manifest_key(epoch);
        let bytes = bytes::Bytes::from(manifest.to_bytes().map_err(|error| {
            ProcessorError::State(format!("cannot write {} as JSON: {error}", self.client.url().of(&key)))
        })?);
        self.refuse_newer(epoch)?;
        match self.client.create(&key, bytes.clone()) {
            Ok(()) => {}
            Err(error) if error.kind == ObjectErrorKind::Exists => {
                if self.client.get(&key)? != bytes {
                    return Err(self.taken_over(epoch));
                }
            }
            Err(error) => return Err(error.into()),
        }
        failpoint("remote_manifest_written");
        self.refuse_newer(epoch)?;
        self.state().known.insert(epoch, Some(objects_of(manifest)));
        Ok(())
    }

    /// Refuses to go on where somebody has published a later epoch.
    fn refuse_newer(&self, epoch: Epoch) -> ProcessorResult<()> {
        for newer in
            epochs(&self.client)?.into_iter().rev().filter(|other| *other > epoch && !self.discarded.contains(other))
        {
            if read_manifest(&self.client, newer)?.is_some() {
                return Err(self.taken_over(newer));
            }
        }
        Ok(())
    }

    fn taken_over(&self, epoch: Epoch) -> ProcessorError {
        ProcessorError::Refused(format!(
            "{}: another run of the job has taken over: it has published checkpoint {epoch}. Leave this one stopped, and find out \
             who started the other",
            self.client.url().of(&manifest_key(epoch))
        ))
    }

    /// Removes what is no longer kept, after this one was published.
    pub fn tidy(&self, manifest: &Manifest) -> ProcessorResult<()> {
        let newest = manifest.epoch;
        let mut state = self.state();
        self.learn(&mut state)?;
        let removed = checkpoints_to_remove(&state.known, newest, &self.discarded, self.retain);
        let objects = objects_to_remove(&state.known, &removed);
        if !removed.is_empty() {
            let manifests: Vec<String> = removed.iter().copied().map(manifest_key).collect();
            self.remover.delete(&manifests)?;
            failpoint("remote_manifest_removed");
        }
        removed.iter().for_each(|epoch| drop(state.known.remove(epoch)));
        state.doomed.extend(objects);
        if !state.is_swept {
            self.sweep(&mut state, manifest)?;
            state.is_swept = true;
        }
        let doomed: Vec<String> = state.doomed.iter().cloned().collect();
        if !doomed.is_empty() {
            self.remover.delete(&doomed)?;
            state.doomed.clear();
        }
        Ok(())
    }

    /// Reads the manifests that this run has neither written nor read, and forgets those that somebody has removed.
    fn learn(&self, state: &mut State) -> ObjectResult<()> {
        let epochs = epochs(&self.remover)?;
        state.known.retain(|epoch, _| epochs.contains(epoch));
        for epoch in epochs {
            if !state.known.contains_key(&epoch)
                && let Some(read) = read_manifest(&self.remover, epoch)?
            {
                state.known.insert(epoch, read.ok().map(|manifest| objects_of(&manifest)));
            }
        }
        Ok(())
    }

    /// Finds what runs before have left, and removes of it what is no object yet.
    fn sweep(&self, state: &mut State, manifest: &Manifest) -> ProcessorResult<()> {
        let objects = self.remover.list()?;
        let key = manifest_key(manifest.epoch);
        let Some(published) = objects.iter().find(|object| object.key == key) else { return Ok(()) };
        let ours = runs_of(manifest);
        state.doomed.extend(leftovers(&objects, &state.known, &ours, published.modified));
        let url = self.remover.url();
        let mut unfinished = staged::staged(url)?;
        unfinished.retain(|file| is_abandoned(&file.object, &ours, published.modified));
        staged::remove(url, &unfinished)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Epochs of which there is something.
fn epochs(client: &ObjectClient) -> ObjectResult<BTreeSet<Epoch>> {
    Ok(client.list_top()?.iter().filter_map(|name| parse_epoch(name)).collect())
}

/// Over so much later.
fn grace(is_over: IsOver, time: Duration) -> IsOver {
    let since = OnceLock::new();
    Arc::new(move || is_over() && since.get_or_init(Instant::now).elapsed() >= time)
}
