//! A checkpoint, from the object store into a local directory.
//!
//! The model: the files that the manifest names come into the directory that a snapshot made here would be in; those that are there
//! already, with the same length and checksum, stay. The manifest is written last, so that the local directory has a
//! checkpoint when all of it is there and right.
//!
//! How it fails: an object that is missing, or is not what was written, is a [`Fault`] with its URL. A store that does not
//! answer is asked again for a while.

use super::client::{ObjectClient, ObjectError};
use super::keys::object_of;
use super::transfer::{FetchError, in_parallel, receive};
use crate::checkpoint::{
    CheckpointStore, Fault, FaultKind, Manifest, SnapshotFile, SnapshotFiles, WorkerSnapshot, failpoint,
};
use crate::error::{ProcessorError, ProcessorResult};
use crate::state::directory::{create_directory, sync_names};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files that come at once.
const AT_ONCE: usize = 8;
/// How often a file that came with another checksum is asked for.
const ATTEMPTS: u32 = 3;

/// For how long a store that does not answer is asked again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first failure on.
    pub total: Duration,
    /// Before the second attempt; then twice as long each time.
    pub first_pause: Duration,
}

/// As long as a machine takes to get its network.
pub const PATIENCE: Patience = Patience { total: Duration::from_secs(60), first_pause: Duration::from_millis(200) };
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How late it notices that it is over.
const STEP: Duration = Duration::from_millis(20);

impl Patience {
    /// Asks until there is an answer, or for as long as this allows.
    pub fn ask<T>(
        self,
        client: &ObjectClient,
        mut request: impl FnMut() -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let (begun, mut pause) = (Instant::now(), self.first_pause);
        loop {
            let error = match request() {
                Err(error) if error.is_passing() => error,
                answer => return answer,
            };
            if begun.elapsed() >= self.total || wait(client, pause) {
                return Err(error);
            }
            tracing::warn!(target: "checkpoint", "asking the object store again: {error}");
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Returns whether it is over.
fn wait(client: &ObjectClient, pause: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < pause && !client.is_over() {
        std::thread::sleep(STEP.min(pause));
    }
    client.is_over()
}

/// One file to come.
struct Wanted<'a> {
    key: String,
    directory: PathBuf,
    file: &'a SnapshotFile,
}

/// Brings a checkpoint into a directory in which it is not published. `read` is told how many bytes more are here. What is
/// wrong with it in the store, where that is so.
pub fn fetch(
    client: &ObjectClient,
    patience: Patience,
    store: &CheckpointStore,
    manifest: &Manifest,
    read: &(dyn Fn(u64) + Sync),
) -> ProcessorResult<Option<Fault>> {
    let root = store.directory(manifest.epoch);
    let mut wanted = Vec::new();
    for snapshot in &manifest.snapshots {
        let directory = root.join(&snapshot.directory);
        create_directory(&directory)?;
        remove_others(&directory, snapshot)?;
        let of = |file| Wanted { key: object_of(manifest, snapshot, file), directory: directory.clone(), file };
        wanted.extend(snapshot.files.0.iter().map(of));
    }
    match in_parallel(&wanted, AT_ONCE, |wanted| bring(client, patience, wanted, read)) {
        Ok(()) => {}
        Err(FetchError::Damaged(fault)) => return Ok(Some(fault)),
        Err(FetchError::Store(error)) => return Err(unreachable(client, &error)),
        Err(FetchError::Local(error)) => return Err(error),
    }
    for snapshot in &manifest.snapshots {
        sync_names(&root.join(&snapshot.directory))?;
    }
    failpoint("checkpoint_fetched");
    store.publish(manifest)?;
    Ok(None)
}

fn bring(
    client: &ObjectClient,
    patience: Patience,
    wanted: &Wanted<'_>,
    read: &(dyn Fn(u64) + Sync),
) -> Result<(), FetchError> {
    let Wanted { key, directory, file } = wanted;
    if SnapshotFiles(vec![(*file).clone()]).check_contents(directory).is_empty() {
        read(file.bytes);
        return Ok(());
    }
    let path = directory.join(&file.name);
    let mut attempts = 0;
    let (begun, mut pause) = (Instant::now(), patience.first_pause);
    loop {
        attempts += 1;
        let error = match receive(client, key, &path, file, read) {
            // On the way, perhaps.
            Err(FetchError::Damaged(Fault { kind: FaultKind::Checksum { .. }, .. })) if attempts < ATTEMPTS => continue,
            Err(FetchError::Store(error)) if error.is_passing() => error,
            done => return done,
        };
        if begun.elapsed() >= patience.total || wait(client, pause) {
            return Err(FetchError::Store(error));
        }
        tracing::warn!(target: "checkpoint", "asking the object store again: {error}");
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What another attempt, or another snapshot, has left in the directory of one.
fn remove_others(directory: &Path, snapshot: &WorkerSnapshot) -> ProcessorResult<()> {
    let refused = |error| ProcessorError::io(format!("cannot list {}", directory.display()), error);
    let known: HashSet<&str> = snapshot.files.0.iter().map(|file| file.name.as_str()).collect();
    for entry in fs::read_dir(directory).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let is_known = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(name));
        if !is_known {
            fs::remove_file(&path)
                .map_err(|error| ProcessorError::io(format!("cannot remove {}", path.display()), error))?;
        }
    }
    Ok(())
}

/// What is said of a store that gives nothing.
pub fn unreachable(client: &ObjectClient, error: &ObjectError) -> ProcessorError {
    ProcessorError::State(format!("the checkpoints in {} cannot be read: {error}", client.url()))
}
