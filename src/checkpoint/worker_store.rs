//! One worker's working database.
//!
//! The model: a RocksDB database that holds the worker's records as they were at its last snapshot. It is written in few large
//! steps, once an epoch, and each snapshot is RocksDB's own checkpoint: hard links to files that never change, so that its cost is
//! what has changed. The truth is in the checkpoints: the database is made anew at each start, and there is no write-ahead log, as a
//! snapshot flushes first and nothing before it counts.
//!
//! Flushes and merges go past the page cache where the file system takes that; see [`super::direct_io`].
//!
//! Changes go in in pieces of some megabytes: RocksDB would hold another copy of one large batch twice. Nobody reads between
//! the pieces.
//!
//! How it fails: a full disk is an error that names the file. RocksDB then takes no more writes, whether there is room again or not,
//! until it is opened again, which loses what it holds in memory. So the store keeps the changes since the last snapshot that was
//! made; the next call after a failure opens the database again and makes them once more. Whoever calls just tries again, or goes
//! on: the next snapshot has everything. Meanwhile what is there can be read. A database whose files somebody has removed cannot be
//! made good: see [`WorkerStore::lost`].

use super::direct_io;
use super::failpoint;
use super::files::{KnownFiles, SnapshotFiles, write_durably};
use super::record::Changes;
use super::room::Rooms;
use crate::error::{ProcessorError, ProcessorResult};
use crate::state::directory::{create_directory, remove_directory, sync_names};
use ::rocksdb::checkpoint::Checkpoint;
use ::rocksdb::statistics::{StatsLevel, Ticker};
use ::rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, ErrorKind, LogLevel, Options,
    UniversalCompactOptions, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The share of a memory limit that goes to what is held before it goes to disk, again to what was read, and again to room that is kept.
const SHARE: usize = 8;
const LEAST_BUFFER: usize = 1 << 20;
/// Bytes of changes that are written at once.
const PIECE: usize = 4 << 20;
/// What is held before it goes to disk, and how often.
const BUFFER: usize = 32 << 20;
const BUFFERS: i32 = 3;
/// Blocks, indices and filters that were read.
const CACHE: usize = 16 << 20;
const BLOCK: usize = 16 << 10;
/// Bits a key, so that a look-up reads few files.
const FILTER_BITS: f64 = 8.0;
const OPEN_FILES: i32 = 256;
/// Sorted runs, each of one or more files, from which on they are merged: the more, the less is written and the more is read.
const RUNS: i32 = 8;
const NEVER: i32 = i32::MAX;
/// RocksDB's own log files and list of files.
const LOG_FILES: usize = 2;
const LOG_BYTES: usize = 1 << 20;
const LIST_BYTES: usize = 1 << 20;
/// What there must be room for on a disk that was full before the database is opened again.
const ROOM: usize = 256 << 10;

/// One worker's working database. Clones are the same database.
#[derive(Clone)]
pub struct WorkerStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// They hold the counters.
    options: Options,
    /// `None` where it could not be opened again.
    db: RwLock<Option<DB>>,
    /// Held by whoever writes or makes a snapshot. Taken before `db`.
    writing: Mutex<Writing>,
    /// Where the room of changes goes that a snapshot has.
    rooms: Rooms,
}

#[derive(Default)]
struct Writing {
    /// What no snapshot has yet.
    changes: Vec<Changes>,
    /// Something has failed since the database was opened.
    failed: bool,
    /// Why it cannot be opened again, where its files are not what they were.
    broken: Option<String>,
}

/// What was written into a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Records with a new value.
    pub puts: u64,
    /// Records that are no more.
    pub deletions: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// What RocksDB has written to disk since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskBytes {
    /// What came from memory.
    pub flushed: u64,
    /// What was written again when files were merged.
    pub merged: u64,
}

impl WorkerStore {
    /// Makes an empty database in a directory; what an earlier run left of one there is removed, other files are not.
    ///
    /// # Errors
    /// Where another process has the database open, or the directory cannot be made or written to.
    pub fn create(directory: &Path) -> ProcessorResult<Self> {
        Self::create_within(directory, usize::MAX)
    }

    /// The same, where the worker's windows may take no more than so many bytes of memory: the database takes a part of as much
    /// besides.
    pub fn create_within(directory: &Path, memory: usize) -> ProcessorResult<Self> {
        create_directory(directory)?;
        // Before the directory goes for a moment.
        let is_direct = direct_io::is_supported(directory);
        DB::destroy(&Options::default(), directory).map_err(|error| {
            ProcessorError::State(format!(
                "cannot remove the database that an earlier run left in {}: {error}",
                directory.display()
            ))
        })?;
        let mut options = options(memory);
        options.set_use_direct_io_for_flush_and_compaction(is_direct);
        let db = DB::open(&options, directory).map_err(|error| failure(directory, &error))?;
        let (db, writing, rooms) = (RwLock::new(Some(db)), Mutex::default(), Rooms::within(memory / SHARE));
        let inner = Inner { path: directory.to_owned(), options, db, writing, rooms };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Room for changes that are to be written here.
    pub fn rooms(&self) -> &Rooms {
        &self.inner.rooms
    }

    /// Makes changes, in their order. Where it fails they are made by the next call that does not; they need not be given again.
    pub fn write(&self, changes: Changes) -> ProcessorResult<Written> {
        let mut written = Written { bytes: changes.bytes() as u64, ..Written::default() };
        for change in changes.iter() {
            *if change.value.is_some() { &mut written.puts } else { &mut written.deletions } += 1;
        }
        let mut writing = self.inner.writing();
        writing.changes.push(changes);
        self.inner.attempt(&mut writing, |inner, writing| match writing.changes.last() {
            Some(changes) => inner.with_db(|db| apply(db, changes)),
            None => Ok(()),
        })?;
        failpoint("batch_written");
        Ok(written)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        self.inner.with_db(|db| db.get(key))
    }

    /// Makes changes that are not kept for another attempt: whoever calls gives up where it fails. They are safe after
    /// [`WorkerStore::flush`].
    pub fn write_once(&self, changes: &Changes) -> ProcessorResult<()> {
        self.inner.with_db(|db| apply(db, changes))
    }

    /// What has been written goes to disk.
    pub fn flush(&self) -> ProcessorResult<()> {
        self.inner.with_db(DB::flush)
    }

    /// Makes a snapshot of what has been written, in a directory that what an earlier attempt left there is removed from, and
    /// makes it survive the machine's crash. `known` is what the snapshot before left in it; nothing else may use it.
    ///
    /// On the file system of the database files are linked; on another they are copied.
    pub fn snapshot_to(&self, directory: &Path, known: &mut KnownFiles) -> ProcessorResult<SnapshotFiles> {
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create_directory(parent)?;
        remove_directory(directory)?;
        let mut writing = self.inner.writing();
        self.inner.attempt(&mut writing, |inner, _| {
            inner.with_db(DB::flush)?;
            let made =
                inner.with_db(|db| Ok(Checkpoint::new(db).and_then(|made| made.create_checkpoint(directory))))?;
            made.map_err(|error| {
                ProcessorError::State(format!("cannot make the snapshot {}: RocksDB: {error}", directory.display()))
            })
        })?;
        failpoint("rocksdb_checkpoint_made");
        let files = SnapshotFiles::settle(directory, known)?;
        sync_names(parent)?;
        self.inner.rooms.give_back(writing.changes.drain(..));
        failpoint("fsynced");
        Ok(files)
    }

    /// Why the database can never be written again: somebody has removed it, or some of its files.
    pub fn lost(&self) -> Option<String> {
        let path = &self.inner.path;
        let is_gone = matches!(path.try_exists(), Ok(false));
        let gone = is_gone.then(|| format!("{} is gone, and with it the worker's state on disk", path.display()));
        gone.or_else(|| self.inner.writing().broken.clone())
    }

    /// What RocksDB has written to disk since the store was made.
    pub fn disk_bytes(&self) -> DiskBytes {
        let count = |ticker| self.inner.options.get_ticker_count(ticker);
        DiskBytes { flushed: count(Ticker::FlushWriteBytes), merged: count(Ticker::CompactWriteBytes) }
    }

    /// The size of the database on disk.
    pub fn size_bytes(&self) -> u64 {
        let size = self.inner.with_db(|db| db.property_int_value("rocksdb.live-sst-files-size"));
        size.ok().flatten().unwrap_or(0)
    }
}

impl Inner {
    fn with_db<R>(&self, work: impl FnOnce(&DB) -> Result<R, ::rocksdb::Error>) -> ProcessorResult<R> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| {
            ProcessorError::State(format!("RocksDB in {}: not open since a write failed", self.path.display()))
        })?;
        work(db).map_err(|error| failure(&self.path, &error))
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a database that is well; remembers whether it failed.
    fn attempt(
        &self,
        writing: &mut Writing,
        work: impl FnOnce(&Inner, &Writing) -> ProcessorResult<()>,
    ) -> ProcessorResult<()> {
        if writing.failed {
            self.open_again(writing)?;
            writing.changes.iter().try_for_each(|changes| self.with_db(|db| apply(db, changes)))?;
        }
        writing.failed = true;
        work(self, writing)?;
        writing.failed = false;
        Ok(())
    }

    fn open_again(&self, writing: &mut Writing) -> ProcessorResult<()> {
        // As long as there is no room the database stays open for reading.
        let room = self.path.join("room");
        let found = write_durably(&room, &vec![0; ROOM]);
        let removed = fs::remove_file(&room);
        found
            .and(removed)
            .map_err(|error| ProcessorError::io(format!("no room for the state in {}", self.path.display()), error))?;
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        // An empty database in place of one that somebody has removed would be taken for all there is.
        let mut options = self.options.clone();
        options.create_if_missing(false);
        match DB::open(&options, &self.path) {
            Ok(opened) => {
                *db = Some(opened);
                Ok(())
            }
            Err(error) => {
                let is_broken = matches!(error.kind(), ErrorKind::Corruption | ErrorKind::InvalidArgument);
                let error = failure(&self.path, &error);
                writing.broken = is_broken.then(|| error.to_string());
                Err(error)
            }
        }
    }
}

fn apply(db: &DB, changes: &Changes) -> Result<(), ::rocksdb::Error> {
    let mut how = WriteOptions::default();
    how.disable_wal(true);
    let mut batch = WriteBatch::default();
    for change in changes.iter() {
        match change.value {
            Some(value) => batch.put(change.key, value),
            None => batch.delete(change.key),
        }
        if batch.size_in_bytes() >= PIECE {
            db.write_opt(std::mem::take(&mut batch), &how)?;
        }
    }
    db.write_opt(batch, &how)
}

fn failure(path: &Path, error: &::rocksdb::Error) -> ProcessorError {
    ProcessorError::State(format!("RocksDB in {}: {error}", path.display()))
}

fn options(memory: usize) -> Options {
    let share = (memory / SHARE).max(LEAST_BUFFER);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(share.min(BUFFER));
    options.set_max_write_buffer_number(BUFFERS);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&UniversalCompactOptions::default());
    options.set_level_zero_file_num_compaction_trigger(RUNS);
    // Where merging has fallen behind, or finds no room, a snapshot would wait for it, and with no room for ever.
    options.set_level_zero_slowdown_writes_trigger(NEVER);
    options.set_level_zero_stop_writes_trigger(NEVER);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options.set_block_based_table_factory(&tables(share.min(CACHE)));
    options.set_max_open_files(OPEN_FILES);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(LOG_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_max_manifest_file_size(LIST_BYTES);
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    options
}

fn tables(cache: usize) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_size(BLOCK);
    tables.set_block_cache(&Cache::new_lru_cache(cache));
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_bloom_filter(FILTER_BITS, false);
    tables
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.puts += other.puts;
        self.deletions += other.deletions;
        self.bytes += other.bytes;
    }
}

impl std::fmt::Debug for WorkerStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerStore({})", self.inner.path.display())
    }
}
