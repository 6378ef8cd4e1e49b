//! The directory of a job's checkpoints.
//!
//! The model:
//!
//! | path under `checkpoint_path` | what |
//! |---|---|
//! | `LOCK` | held by the run whose checkpoints these are; the number of its process |
//! | `<epoch>/worker-<i>/` | the snapshot of worker i, a RocksDB database |
//! | `<epoch>/manifest.json` | makes the snapshots a checkpoint: it is renamed to this name when all of them are on disk |
//! | `<epoch>/manifest.json.new` | one that is being written |
//! | `<epoch>/manifest.json.prepared` | one that is durable and does not count yet; see below |
//!
//! A directory with a manifest is a checkpoint; one without is *incomplete*: what an attempt left that came to nothing, or a
//! removal. It never counts. Removing a checkpoint takes the manifest first. Every step that something later relies on is on
//! disk (the file, and its name in its directory) before the next begins, so a crash between any two leaves older checkpoints as
//! they were. Several processes may write their workers' directories under one root; one of them, which holds the lock,
//! publishes and removes. Or each process has a root of its own, with its part of every checkpoint: the snapshots of its own workers
//! and a copy of the manifest. Then all copies are *prepared* before that of the first process is *committed* by renaming it, and
//! the others after that: a prepared copy counts where any process has a committed one (see [`super::agreement`]).
//!
//! How it fails: each error names the path. A full disk at any step leaves older checkpoints as they were.

use super::ProcessIndex;
use super::failpoint;
use super::fault::{Fault, FaultKind};
use super::files::write_durably;
use super::manifest::{Manifest, WorkerSnapshot};
use super::reader::SnapshotReader;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::WorkerIndex;
use crate::state::directory::{create_directory, remove_directory, sync_names};
use crate::time::Epoch;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "LOCK";
const MANIFEST: &str = "manifest.json";
const NEW_MANIFEST: &str = "manifest.json.new";
const PREPARED_MANIFEST: &str = "manifest.json.prepared";
const WORKER: &str = "worker-";

/// Checkpoints that are kept at least: the newest may turn out to be damaged.
pub const LEAST_RETAINED: usize = 2;

/// The checkpoints of a job. Clones are the same.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    root: PathBuf,
    extent: Extent,
    /// What people call it, where that is not the directory.
    called: Option<Arc<str>>,
    /// The lock goes with the open file.
    _lock: Option<Arc<File>>,
}

/// Which snapshots of a checkpoint have to be in the directory.
#[derive(Clone, Copy, Debug)]
enum Extent {
    /// All.
    Whole,
    /// Those of the part that its copy of the manifest names.
    AsWritten,
    /// Those that a process needs.
    Own(Own),
}

/// A process that has a directory of checkpoints of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Which.
    pub process: ProcessIndex,
    /// Of how many.
    pub processes: u32,
    /// The workers of all.
    pub workers: u32,
}

/// What there is of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedCheckpoint {
    /// Which.
    pub epoch: Epoch,
    /// What there is.
    pub state: CheckpointState,
}

/// What there is of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointState {
    /// It is published, and its files are there, as long as they were.
    Complete(Box<Manifest>),
    /// It does not count.
    Incomplete {
        /// Workers of which there is a directory.
        workers: usize,
    },
    /// It is published, and cannot be restored.
    Damaged {
        /// Where it can be read.
        manifest: Option<Box<Manifest>>,
        /// What is wrong: one or more.
        faults: Vec<Fault>,
    },
}

impl CheckpointState {
    /// The manifest, where it can be read.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            CheckpointState::Complete(manifest) => Some(manifest),
            CheckpointState::Incomplete { .. } => None,
            CheckpointState::Damaged { manifest, .. } => manifest.as_deref(),
        }
    }
}

impl CheckpointStore {
    /// The checkpoints in a directory, which is made where it is not there, for the one process that publishes and removes them.
    ///
    /// # Errors
    /// [`ProcessorError::Refused`] where another run has them open.
    pub fn open(root: impl Into<PathBuf>) -> ProcessorResult<Self> {
        Self::join(root)?.locked()
    }

    /// The checkpoints in the directory of one process, which holds its part of each. Where the job has as many processes and workers
    /// as when one was taken, the process needs the snapshots of its own workers; else those of all, which somebody has to have put
    /// there.
    ///
    /// # Errors
    /// [`ProcessorError::Refused`] where another run has them open.
    pub fn open_own(root: impl Into<PathBuf>, own: Own) -> ProcessorResult<Self> {
        Self { extent: Extent::Own(own), ..Self::join(root)? }.locked()
    }

    fn locked(self) -> ProcessorResult<Self> {
        let lock = lock(&self.root.join(LOCK))?;
        Ok(Self { _lock: Some(Arc::new(lock)), ..self })
    }

    /// The same for the job's other processes, which write their workers' directories and read.
    pub fn join(root: impl Into<PathBuf>) -> ProcessorResult<Self> {
        let store = Self { root: root.into(), extent: Extent::Whole, called: None, _lock: None };
        create_directory(&store.root)?;
        Ok(store)
    }

    /// For reading what is there, whoever writes at the time. Fails where the directory is not there.
    pub fn offline(root: impl Into<PathBuf>) -> ProcessorResult<Self> {
        let store = Self { root: root.into(), extent: Extent::AsWritten, called: None, _lock: None };
        match fs::metadata(&store.root) {
            Ok(found) if found.is_dir() => Ok(store),
            Ok(_) => Err(ProcessorError::State(format!(
                "{} is no directory; the directory of a job's checkpoints (state.checkpoint_path) would be right",
                store.root.display()
            ))),
            Err(error) => {
                Err(ProcessorError::io(format!("cannot open the checkpoints in {}", store.root.display()), error))
            }
        }
    }

    /// A directory of copies of checkpoints; messages call it by where they are from.
    pub(super) fn copy(root: &Path, called: &str) -> ProcessorResult<Self> {
        Ok(Self { called: Some(called.into()), ..Self::join(root)? })
    }

    /// The same checkpoints, called by this name in messages.
    pub(super) fn called(&self, name: &str) -> Self {
        Self { called: Some(name.into()), ..self.clone() }
    }

    /// The directory of the checkpoints.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the checkpoints are, for messages.
    pub fn place(&self) -> String {
        self.called.as_deref().map_or_else(|| self.root.display().to_string(), str::to_owned)
    }

    /// The directory of an epoch.
    pub fn directory(&self, epoch: Epoch) -> PathBuf {
        self.root.join(epoch.number().to_string())
    }

    /// Where a worker's snapshot goes; [`WorkerStore::snapshot_to`](super::WorkerStore::snapshot_to) makes it.
    pub fn worker_directory(&self, epoch: Epoch, worker: WorkerIndex) -> PathBuf {
        self.directory(epoch).join(Self::worker_name(worker))
    }

    /// The name of a worker's directory.
    pub fn worker_name(worker: WorkerIndex) -> String {
        format!("{WORKER}{worker}")
    }

    /// The snapshots of a checkpoint that have to be here.
    pub fn held<'a>(&self, manifest: &'a Manifest) -> &'a [WorkerSnapshot] {
        match self.extent {
            Extent::Whole => &manifest.snapshots,
            Extent::AsWritten => manifest.held(),
            Extent::Own(own) if (own.processes, own.workers) == (manifest.processes, manifest.workers) => {
                manifest.held_by(own.process)
            }
            Extent::Own(_) => &manifest.snapshots,
        }
    }

    fn prepared_path(&self, epoch: Epoch) -> PathBuf {
        self.directory(epoch).join(PREPARED_MANIFEST)
    }

    fn manifest_path(&self, epoch: Epoch) -> PathBuf {
        self.directory(epoch).join(MANIFEST)
    }

    /// Makes the directory of an epoch, and removes what an attempt that came to nothing has left in it. For the process that
    /// publishes, before the workers begin.
    ///
    /// # Errors
    /// Where there is a checkpoint of this epoch.
    pub fn begin(&self, epoch: Epoch) -> ProcessorResult<()> {
        self.refuse_published(epoch)?;
        remove_directory(&self.directory(epoch))?;
        create_directory(&self.directory(epoch))?;
        sync_names(&self.root)
    }

    fn refuse_published(&self, epoch: Epoch) -> ProcessorResult<()> {
        let path = self.manifest_path(epoch);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ProcessorError::io(format!("cannot look at {}", path.display()), error)),
            Ok(_) => Err(ProcessorError::State(format!(
                "{}: there is a checkpoint of epoch {} already",
                path.display(),
                epoch.number()
            ))),
        }
    }

    /// Publishes a checkpoint whose snapshots are on disk: when this returns it counts, whatever happens. Where it fails, it does
    /// not count, unless making its name durable was what failed; it may be tried again.
    ///
    /// # Errors
    /// Where there is another checkpoint of this epoch, or one of the files of its snapshots is not there.
    pub fn publish(&self, manifest: &Manifest) -> ProcessorResult<()> {
        if let Some(fault) = self.faults(manifest).into_iter().next() {
            return Err(fault.into());
        }
        // What an earlier attempt has published has only to be made durable.
        if !self.manifest(manifest.epoch).is_ok_and(|published| published == *manifest) {
            self.write_manifest(manifest)?;
        }
        sync_names(&self.directory(manifest.epoch))?;
        sync_names(&self.root)?;
        failpoint("renamed");
        Ok(())
    }

    fn write_manifest(&self, manifest: &Manifest) -> ProcessorResult<()> {
        self.refuse_published(manifest.epoch)?;
        self.write_to(&self.manifest_path(manifest.epoch), manifest)
    }

    fn write_to(&self, path: &Path, manifest: &Manifest) -> ProcessorResult<()> {
        let new = self.directory(manifest.epoch).join(NEW_MANIFEST);
        let bytes = manifest
            .to_bytes()
            .map_err(|error| ProcessorError::State(format!("cannot write {} as JSON: {error}", path.display())))?;
        write_durably(&new, &bytes)
            .map_err(|error| ProcessorError::io(format!("cannot write {}", new.display()), error))?;
        failpoint("manifest_written");
        rename(&new, path)
    }

    /// Prepares this process's part of a checkpoint, whose snapshots are on disk: when this returns it is durable, and does not count.
    /// It may be done again.
    ///
    /// # Errors
    /// As [`CheckpointStore::publish`].
    pub fn prepare(&self, manifest: &Manifest) -> ProcessorResult<()> {
        if let Some(fault) = self.faults(manifest).into_iter().next() {
            return Err(fault.into());
        }
        self.refuse_published(manifest.epoch)?;
        self.write_to(&self.prepared_path(manifest.epoch), manifest)?;
        sync_names(&self.directory(manifest.epoch))?;
        sync_names(&self.root)?;
        failpoint("prepared");
        Ok(())
    }

    /// Makes what is prepared count. It may be done again.
    ///
    /// # Errors
    /// Where it cannot be renamed, or nothing is prepared.
    pub fn commit(&self, epoch: Epoch) -> ProcessorResult<()> {
        let (prepared, path) = (self.prepared_path(epoch), self.manifest_path(epoch));
        if !path.exists() {
            rename(&prepared, &path)?;
        }
        sync_names(&self.directory(epoch))?;
        failpoint("renamed");
        Ok(())
    }

    /// What is prepared of an epoch; [`FaultKind::Missing`] where nothing is.
    pub fn prepared(&self, epoch: Epoch) -> Result<Manifest, Fault> {
        self.read_manifest(epoch, &self.prepared_path(epoch))
    }

    /// Which files of the snapshots are not there or not as long as they were. This reads none of them.
    pub(super) fn faults(&self, manifest: &Manifest) -> Vec<Fault> {
        let directory = self.directory(manifest.epoch);
        let of = |snapshot: &WorkerSnapshot| snapshot.files.check_lengths(&directory.join(&snapshot.directory));
        self.held(manifest).iter().flat_map(of).collect()
    }

    /// Why a checkpoint that is not published yet can never be: somebody has removed a file of its snapshots.
    pub fn lost(&self, manifest: &Manifest) -> Option<String> {
        let fault = self.faults(manifest).into_iter().find(|fault| fault.kind == FaultKind::Missing)?;
        Some(format!("{fault}; it was there when the snapshot was made"))
    }

    /// What there is, in the order of epochs. Of the files of snapshots the lengths are looked at, not the contents.
    pub fn list(&self) -> ProcessorResult<Vec<ListedCheckpoint>> {
        let listed = |epoch| ListedCheckpoint { epoch, state: self.state(epoch) };
        Ok(self.epochs()?.into_iter().map(listed).collect())
    }

    /// The epochs of which there is a directory, in order.
    pub fn epochs(&self) -> ProcessorResult<Vec<Epoch>> {
        let refused = |error| ProcessorError::io(format!("cannot list {}", self.root.display()), error);
        let mut epochs = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
            // `007` is not how this program writes 7.
            epochs.extend(number.filter(|number| name.to_str() == Some(&number.to_string())).map(Epoch::new));
        }
        epochs.sort_unstable();
        Ok(epochs)
    }

    fn state(&self, epoch: Epoch) -> CheckpointState {
        match self.manifest(epoch) {
            Err(fault) if fault.kind == FaultKind::Missing => {
                CheckpointState::Incomplete { workers: self.worker_directories(epoch) }
            }
            Err(fault) => CheckpointState::Damaged { manifest: None, faults: vec![fault] },
            Ok(manifest) => {
                let faults = self.faults(&manifest);
                match faults.is_empty() {
                    true => CheckpointState::Complete(Box::new(manifest)),
                    false => CheckpointState::Damaged { manifest: Some(Box::new(manifest)), faults },
                }
            }
        }
    }

    fn worker_directories(&self, epoch: Epoch) -> usize {
        let entries = fs::read_dir(self.directory(epoch)).into_iter().flatten().flatten();
        let is_worker = |name: &str| name.strip_prefix(WORKER).is_some_and(|number| number.parse::<u32>().is_ok());
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_worker)).count()
    }

    /// The manifest of an epoch; [`FaultKind::Missing`] where the checkpoint is not published.
    pub fn manifest(&self, epoch: Epoch) -> Result<Manifest, Fault> {
        self.read_manifest(epoch, &self.manifest_path(epoch))
    }

    fn read_manifest(&self, epoch: Epoch, path: &Path) -> Result<Manifest, Fault> {
        let bytes = fs::read(path).map_err(|error| Fault::io(path, &error))?;
        let manifest = Manifest::from_bytes(&bytes, path)?;
        match manifest.epoch == epoch {
            true => Ok(manifest),
            false => Err(Fault::content(path, format_args!("is that of epoch {}", manifest.epoch.number()))),
        }
    }

    /// The checkpoint of an epoch. The contents of its snapshots are checked when they are opened.
    ///
    /// # Errors
    /// Where it is not there (the message names those there are), incomplete, or damaged.
    pub fn load(&self, epoch: Epoch) -> ProcessorResult<Manifest> {
        match self.state(epoch) {
            CheckpointState::Complete(manifest) => Ok(*manifest),
            CheckpointState::Damaged { faults, .. } => Err(faults.into_iter().next().map_or_else(
                || ProcessorError::State(format!("{} is damaged", self.directory(epoch).display())),
                ProcessorError::from,
            )),
            CheckpointState::Incomplete { .. } => Err(ProcessorError::State(self.not_there(epoch)?)),
        }
    }

    fn not_there(&self, epoch: Epoch) -> ProcessorResult<String> {
        let complete = self.list()?.into_iter().filter(|listed| matches!(listed.state, CheckpointState::Complete(_)));
        let names: Vec<String> = complete.map(|listed| listed.epoch.number().to_string()).collect();
        let there_are = match names.is_empty() {
            true => "there is none that is complete".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        let what = match self.directory(epoch).exists() {
            true => "is incomplete: it was not published",
            false => "is not there",
        };
        Ok(format!("the checkpoint {} in {} {what}; {there_are}", epoch.number(), self.place()))
    }

    /// Opens the snapshots of a checkpoint, in the order of its workers, each when it is asked for; every file is read and checked
    /// first.
    pub fn snapshots<'a>(
        &'a self,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = ProcessorResult<SnapshotReader>> + 'a {
        self.snapshots_with(manifest, &|_| {})
    }

    /// The same; `read` is told how many bytes more were read.
    pub(super) fn snapshots_with<'a>(
        &'a self,
        manifest: &'a Manifest,
        read: &'a dyn Fn(u64),
    ) -> impl Iterator<Item = ProcessorResult<SnapshotReader>> + 'a {
        let directory = self.directory(manifest.epoch);
        self.held(manifest)
            .iter()
            .map(move |snapshot| SnapshotReader::open_with(&directory.join(&snapshot.directory), &snapshot.files, read))
    }

    /// Removes a checkpoint; nothing happens where there is none. From the first step on it does not count.
    pub fn remove(&self, epoch: Epoch) -> ProcessorResult<()> {
        self.unpublish(epoch)?;
        failpoint("old_checkpoint_removed");
        remove_directory(&self.directory(epoch))?;
        sync_names(&self.root)
    }

    /// Makes a checkpoint an incomplete one: its files stay.
    pub(super) fn unpublish(&self, epoch: Epoch) -> ProcessorResult<()> {
        let path = self.manifest_path(epoch);
        match fs::remove_file(&path) {
            Ok(()) => sync_names(&self.directory(epoch)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ProcessorError::io(format!("cannot remove {}", path.display()), error)),
        }
    }

    /// Removes what is incomplete, and returns what that was. Not while an epoch is being written.
    pub fn remove_incomplete(&self) -> ProcessorResult<Vec<Epoch>> {
        self.remove_where(|_, published| !published)
    }

    /// Keeps this many of the newest checkpoints, and not less than [`LEAST_RETAINED`]; removes older ones, and what is incomplete
    /// and older than the newest. Returns what was removed.
    pub fn retain(&self, count: usize) -> ProcessorResult<Vec<Epoch>> {
        let epochs = self.epochs()?;
        // A damaged one is none of those that are kept, and goes when there are enough that are not.
        let readable: Vec<Epoch> = epochs.into_iter().filter(|epoch| self.manifest(*epoch).is_ok()).collect();
        let Some(newest) = readable.last() else { return Ok(Vec::new()) };
        let spare = readable.len().checked_sub(count.max(LEAST_RETAINED));
        let oldest = spare.map_or(Epoch::FIRST, |spare| readable[spare]);
        self.remove_where(|epoch, published| epoch < oldest || (!published && epoch < *newest))
    }

    fn remove_where(&self, goes: impl Fn(Epoch, bool) -> bool) -> ProcessorResult<Vec<Epoch>> {
        let mut removed = Vec::new();
        for epoch in self.epochs()? {
            let published = match self.manifest(epoch) {
                Err(fault) => fault.kind != FaultKind::Missing,
                Ok(_) => true,
            };
            if goes(epoch, published) {
                self.remove(epoch)?;
                removed.push(epoch);
            }
        }
        Ok(removed)
    }
}

fn rename(from: &Path, to: &Path) -> ProcessorResult<()> {
    let failed = |error| ProcessorError::io(format!("cannot rename {} to {}", from.display(), to.display()), error);
    fs::rename(from, to).map_err(failed)
}

/// Takes the lock, which the operating system gives back when the process ends in whichever way.
fn lock(path: &Path) -> ProcessorResult<File> {
    let refused = |error| ProcessorError::io(format!("cannot lock {}", path.display()), error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(refused(error)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Who holds it is for people; that it is held is known without.
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                number => format!("process {number}"),
            };
            return Err(ProcessorError::Refused(format!(
                "{}: {holder} holds it: the job is running with these checkpoints already. Stop it first, or name another \
                 state.checkpoint_path",
                path.display()
            )));
        }
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(refused)?;
    Ok(file)
}
