//! State on disk, in RocksDB.
//!
//! The model: one database in a working directory, and a directory of checkpoints beside it, each a directory named by its id.
//! A checkpoint is RocksDB's own (hard links to immutable files), made under a name that no id has and then renamed: a
//! directory with an id is always complete. Restoring makes a second working directory out of the checkpoint, puts it in the place of
//! the first by renaming, and opens it; a crash in between leaves one that the next start finds.
//!
//! What was put survives the process's crash at once, and the machine's from the next checkpoint on.
//!
//! How it fails: a database that another process has open, that is damaged, or a directory that cannot be written is a
//! [`ProcessorError::State`] or `Io` that names the directory. A restore that fails leaves the state as it was. Calls wait for
//! the disk on tokio's threads for blocking work; outside a runtime of tokio's, on the caller's thread.

use super::backend::{
    CheckpointId, Entry, PipelineDirectories, StateBackend, StateChange, doubled_checkpoint, unknown_checkpoint,
};
use super::directory::{clone_directory, create_directory, remove_directory, rename_directory, sync_directory};
use super::key::{key_of_place, place};
use crate::error::{ProcessorError, ProcessorResult};
use ::rocksdb::checkpoint::Checkpoint;
use ::rocksdb::{DB, DBCompressionType, IteratorMode, Options, PrefixRange, ReadOptions, WriteBatch};
use async_trait::async_trait;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::runtime::Handle;

/// Log files of RocksDB's own that are kept.
const LOG_FILES: usize = 4;
/// Beside the working directory: what a restore makes, and what it replaces.
const COMING: &str = "restoring";
const GOING: &str = "replaced";

/// State in a RocksDB database. Clones are the same database.
#[derive(Clone)]
pub struct RocksDBStateBackend {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    checkpoint_path: PathBuf,
    /// `None` only after a restore that could neither go on nor go back.
    db: RwLock<Option<DB>>,
    /// Held by whoever makes, restores or drops a checkpoint. Taken before `db`.
    checkpoints: Mutex<()>,
}

impl RocksDBStateBackend {
    /// Opens the database in the directory `path`, or makes it; checkpoints go into `checkpoint_path`. Both are made where they
    /// are not there. This waits for the disk.
    ///
    /// # Errors
    /// Where one of the two is inside the other, where a directory cannot be made, where the database is open elsewhere or
    /// damaged.
    pub fn new(path: impl AsRef<Path>, checkpoint_path: impl AsRef<Path>) -> ProcessorResult<Self> {
        let (path, checkpoint_path) = (absolute(path.as_ref())?, absolute(checkpoint_path.as_ref())?);
        if path.starts_with(&checkpoint_path) || checkpoint_path.starts_with(&path) {
            return Err(ProcessorError::State(format!(
                "state in {} and checkpoints in {}: two directories of which none is inside the other would be right",
                path.display(),
                checkpoint_path.display()
            )));
        }
        create_directory(&checkpoint_path)?;
        finish_restore(&path)?;
        create_directory(&path)?;
        let db = open(&path)?;
        Ok(Self {
            inner: Arc::new(Inner { path, checkpoint_path, db: RwLock::new(Some(db)), checkpoints: Mutex::default() }),
        })
    }

    /// The working directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The directory of checkpoints.
    pub fn checkpoint_path(&self) -> &Path {
        &self.inner.checkpoint_path
    }

    /// Runs `work`, which waits for the disk, where waiting harms nobody.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> ProcessorResult<R> + Send + 'static,
    ) -> ProcessorResult<R> {
        let inner = Arc::clone(&self.inner);
        match Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(move || work(&inner)).await.unwrap_or_else(|error| {
                Err(ProcessorError::Runtime(format!("a call of the state backend did not come to its end: {error}")))
            }),
            Err(_) => work(&inner),
        }
    }
}

#[async_trait]
impl StateBackend for RocksDBStateBackend {
    fn name(&self) -> &str {
        "rocksdb"
    }

    /// Beside what the program itself keeps in the two directories.
    fn pipeline_directories(&self) -> Option<PipelineDirectories> {
        let Inner { path, checkpoint_path, .. } = &*self.inner;
        Some(PipelineDirectories { state: path.join("workers"), checkpoints: checkpoint_path.join("pipeline") })
    }

    async fn get(&self, namespace: &str, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        let place = place(namespace, key)?;
        self.blocking(move |inner| inner.with_db(|db| db.get(&place))).await
    }

    async fn apply(&self, changes: Vec<StateChange>) -> ProcessorResult<()> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                StateChange::Put { namespace, key, value } => batch.put(place(&namespace, &key)?, value),
                StateChange::Delete { namespace, key } => batch.delete(place(&namespace, &key)?),
            }
        }
        self.blocking(move |inner| inner.with_db(|db| db.write(batch))).await
    }

    async fn scan_prefix(&self, namespace: &str, prefix: &[u8]) -> ProcessorResult<Vec<Entry>> {
        let from = place(namespace, prefix)?;
        let namespace = namespace.to_owned();
        self.blocking(move |inner| {
            inner.with_db(|db| {
                let mut range = ReadOptions::default();
                range.set_iterate_range(PrefixRange(from));
                // An iterator sees the database as it was when it was made.
                let entries = db.iterator_opt(IteratorMode::Start, range).map(|entry| {
                    entry.map(|(place, value)| (key_of_place(&namespace, &place).to_vec(), value.into_vec()))
                });
                entries.collect()
            })
        })
        .await
    }

    async fn checkpoint(&self, id: CheckpointId) -> ProcessorResult<()> {
        self.blocking(move |inner| inner.checkpoint(id)).await
    }

    async fn restore(&self, id: CheckpointId) -> ProcessorResult<()> {
        self.blocking(move |inner| inner.restore(id)).await
    }

    async fn checkpoints(&self) -> ProcessorResult<Vec<CheckpointId>> {
        self.blocking(Inner::checkpoints).await
    }

    async fn drop_checkpoint(&self, id: CheckpointId) -> ProcessorResult<()> {
        self.blocking(move |inner| {
            let _alone = inner.alone();
            // Renamed first: a directory with an id is always complete.
            let (directory, half) = (inner.directory_of(id), inner.half_made(id));
            remove_directory(&half)?;
            if directory.exists() {
                rename_directory(&directory, &half)?;
                sync_directory(&inner.checkpoint_path)?;
            }
            remove_directory(&half)
        })
        .await
    }
}

impl Inner {
    fn with_db<R>(&self, work: impl FnOnce(&DB) -> Result<R, ::rocksdb::Error>) -> ProcessorResult<R> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| self.lost())?;
        work(db).map_err(|error| failure(&self.path, &error))
    }

    fn lost(&self) -> ProcessorError {
        ProcessorError::State(format!(
            "{}: not open since a restore failed; open it again with RocksDBStateBackend::new",
            self.path.display()
        ))
    }

    fn directory_of(&self, id: CheckpointId) -> PathBuf {
        self.checkpoint_path.join(id.to_string())
    }

    /// Where a checkpoint is made, and where it goes before it is removed.
    fn half_made(&self, id: CheckpointId) -> PathBuf {
        self.checkpoint_path.join(format!("{id}.incomplete"))
    }

    fn checkpoints(&self) -> ProcessorResult<Vec<CheckpointId>> {
        let listing = |error| ProcessorError::io(format!("cannot list {}", self.checkpoint_path.display()), error);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.checkpoint_path).map_err(listing)? {
            let name = entry.map_err(listing)?.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok()).map(CheckpointId);
            // `007` is not how this program writes 7.
            ids.extend(id.filter(|id| name.to_str() == Some(&id.to_string())));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The checkpoints for oneself.
    fn alone(&self) -> MutexGuard<'_, ()> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkpoint(&self, id: CheckpointId) -> ProcessorResult<()> {
        let _alone = self.alone();
        let (directory, half) = (self.directory_of(id), self.half_made(id));
        if directory.exists() {
            return Err(doubled_checkpoint(id));
        }
        remove_directory(&half)?;
        self.with_db(|db| Checkpoint::new(db)?.create_checkpoint(&half))?;
        sync_directory(&half)?;
        rename_directory(&half, &directory)?;
        sync_directory(&self.checkpoint_path)
    }

    fn restore(&self, id: CheckpointId) -> ProcessorResult<()> {
        let _alone = self.alone();
        let ids = self.checkpoints()?;
        if !ids.contains(&id) {
            return Err(unknown_checkpoint(id, &ids));
        }
        let (coming, going) = (beside(&self.path, COMING), beside(&self.path, GOING));
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        remove_directory(&coming)?;
        remove_directory(&going)?;
        clone_directory(&self.directory_of(id), &coming)?;
        // Whether it can be opened shows before anything is replaced.
        drop(open(&coming)?);
        sync_directory(&coming)?;
        *db = None;
        let swapped = rename_directory(&self.path, &going).and_then(|()| rename_directory(&coming, &self.path));
        if let Err(error) = swapped {
            if going.exists() && !self.path.exists() {
                rename_directory(&going, &self.path)?;
            }
            *db = Some(open(&self.path)?);
            return Err(error);
        }
        sync_parent(&self.path)?;
        *db = Some(open(&self.path)?);
        remove_directory(&going)
    }
}

/// Completes or undoes what a crash in a restore has left.
fn finish_restore(path: &Path) -> ProcessorResult<()> {
    let (coming, going) = (beside(path, COMING), beside(path, GOING));
    if !path.exists() {
        if coming.exists() && going.exists() {
            // It was complete: the first of the two renames comes after that.
            rename_directory(&coming, path)?;
        } else if going.exists() {
            rename_directory(&going, path)?;
        }
        if path.exists() {
            sync_parent(path)?;
        }
    }
    remove_directory(&coming)?;
    remove_directory(&going)
}

fn open(path: &Path) -> ProcessorResult<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_keep_log_file_num(LOG_FILES);
    DB::open(&options, path).map_err(|error| failure(path, &error))
}

/// `name.word`, beside `name`.
fn beside(path: &Path, word: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(word);
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> ProcessorResult<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// A path that stays the same when the process changes its directory, without `.` and `..`.
fn absolute(path: &Path) -> ProcessorResult<PathBuf> {
    let refusal = |error| ProcessorError::io(format!("cannot use the directory {}", path.display()), error);
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).map_err(refusal)?.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    match plain.file_name() {
        Some(_) => Ok(plain),
        None => Err(ProcessorError::State(format!("{}: a directory with a name would be right", path.display()))),
    }
}

fn failure(path: &Path, error: &::rocksdb::Error) -> ProcessorError {
    ProcessorError::State(format!("RocksDB in {}: {error}", path.display()))
}

impl fmt::Debug for RocksDBStateBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksDBStateBackend({})", self.inner.path.display())
    }
}
