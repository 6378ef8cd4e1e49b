//! One worker's working database.
//!
//! The model: a RocksDB database that holds the worker's records as they were at its last snapshot. It is written in few large
//! steps, once an epoch, and each snapshot is RocksDB's own checkpoint: hard links to files that never change, so that its cost is
//! what has changed. The truth is in the checkpoints: the database is made anew at each start, and there is no write-ahead log, as a
//! snapshot flushes first and nothing before it counts.
//!
//! Changes go in in pieces of some megabytes: RocksDB would hold another copy of one large batch twice. Nobody reads between
//! the pieces, and a failure in between is made good by writing the same changes again.
//!
//! How it fails: a full disk is an error that names the file. RocksDB goes on by itself when there is room again; until then each
//! write and each snapshot is refused. What was written before stays.

use super::failpoint;
use super::files::{KnownFiles, SnapshotFiles};
use super::record::Changes;
use crate::error::{ProcessorError, ProcessorResult};
use crate::state::directory::{create_directory, remove_directory, sync_names};
use ::rocksdb::checkpoint::Checkpoint;
use ::rocksdb::statistics::{StatsLevel, Ticker};
use ::rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, LogLevel, Options, UniversalCompactOptions,
    WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
/// RocksDB's own log files and list of files.
const LOG_FILES: usize = 2;
const LOG_BYTES: usize = 1 << 20;
const LIST_BYTES: usize = 1 << 20;

/// One worker's working database. Clones are the same database.
#[derive(Clone)]
pub struct WorkerStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    db: DB,
    /// They hold the counters.
    options: Options,
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
        create_directory(directory)?;
        DB::destroy(&Options::default(), directory).map_err(|error| {
            ProcessorError::State(format!(
                "cannot remove the database that an earlier run left in {}: {error}",
                directory.display()
            ))
        })?;
        let options = options();
        let db = DB::open(&options, directory).map_err(|error| failure(directory, &error))?;
        Ok(Self { inner: Arc::new(Inner { path: directory.to_owned(), db, options }) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Makes changes, in their order. Where it fails, some of them may have been made: making all of them again is right.
    pub fn write(&self, changes: &Changes) -> ProcessorResult<Written> {
        let mut written = Written::default();
        let mut batch = WriteBatch::default();
        for change in changes.iter() {
            match change.value {
                Some(value) => batch.put(change.key, value),
                None => batch.delete(change.key),
            }
            *if change.value.is_some() { &mut written.puts } else { &mut written.deletions } += 1;
            if batch.size_in_bytes() >= PIECE {
                self.write_batch(std::mem::take(&mut batch))?;
            }
        }
        self.write_batch(batch)?;
        written.bytes = changes.bytes() as u64;
        failpoint("batch_written");
        Ok(written)
    }

    fn write_batch(&self, batch: WriteBatch) -> ProcessorResult<()> {
        let mut how = WriteOptions::default();
        how.disable_wal(true);
        self.inner.db.write_opt(batch, &how).map_err(|error| self.failure(&error))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        self.inner.db.get(key).map_err(|error| self.failure(&error))
    }

    /// Makes a snapshot of what has been written, in a directory that what an earlier attempt left there is removed from, and
    /// makes it survive the machine's crash. `known` is what the snapshot before left in it; nothing else may use it.
    ///
    /// On the file system of the database files are linked; on another they are copied.
    pub fn snapshot_to(&self, directory: &Path, known: &mut KnownFiles) -> ProcessorResult<SnapshotFiles> {
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create_directory(parent)?;
        remove_directory(directory)?;
        let refused = |error: ::rocksdb::Error| {
            ProcessorError::State(format!("cannot make the snapshot {}: RocksDB: {error}", directory.display()))
        };
        let db = &self.inner.db;
        db.flush().map_err(refused)?;
        Checkpoint::new(db).and_then(|checkpoint| checkpoint.create_checkpoint(directory)).map_err(refused)?;
        failpoint("rocksdb_checkpoint_made");
        let files = SnapshotFiles::settle(directory, known)?;
        sync_names(parent)?;
        failpoint("fsynced");
        Ok(files)
    }

    /// What RocksDB has written to disk since the store was made.
    pub fn disk_bytes(&self) -> DiskBytes {
        let count = |ticker| self.inner.options.get_ticker_count(ticker);
        DiskBytes { flushed: count(Ticker::FlushWriteBytes), merged: count(Ticker::CompactWriteBytes) }
    }

    /// The size of the database on disk.
    pub fn size_bytes(&self) -> u64 {
        let size = self.inner.db.property_int_value("rocksdb.live-sst-files-size");
        size.ok().flatten().unwrap_or(0)
    }

    fn failure(&self, error: &::rocksdb::Error) -> ProcessorError {
        failure(&self.inner.path, error)
    }
}

fn failure(path: &Path, error: &::rocksdb::Error) -> ProcessorError {
    ProcessorError::State(format!("RocksDB in {}: {error}", path.display()))
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_error_if_exists(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(BUFFER);
    options.set_max_write_buffer_number(BUFFERS);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&UniversalCompactOptions::default());
    options.set_level_zero_file_num_compaction_trigger(RUNS);
    options.set_block_based_table_factory(&tables());
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

fn tables() -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_size(BLOCK);
    tables.set_block_cache(&Cache::new_lru_cache(CACHE));
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
