//! Reading one worker's snapshot.

use super::fault::Fault;
use super::files::SnapshotFiles;
use crate::error::{ProcessorError, ProcessorResult};
use ::rocksdb::{DB, InfoLogger, IteratorMode, LogLevel, Options, PrefixRange, ReadOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A record: its key and its value.
pub type Record = (Box<[u8]>, Box<[u8]>);

/// One worker's snapshot, open for reading where it is; nothing in its directory changes. Clones are the same open database, for
/// the threads of a process.
#[derive(Clone)]
pub struct SnapshotReader {
    directory: Arc<PathBuf>,
    db: Arc<DB>,
}

impl SnapshotReader {
    /// Reads every file, and opens the snapshot if each is what it was.
    ///
    /// # Errors
    /// The first file that is missing, cut off, damaged or not readable.
    pub fn open(directory: &Path, files: &SnapshotFiles) -> ProcessorResult<Self> {
        Self::open_with(directory, files, &|_| {})
    }

    /// The same; `read` is told how many bytes more were read.
    pub(super) fn open_with(directory: &Path, files: &SnapshotFiles, read: &dyn Fn(u64)) -> ProcessorResult<Self> {
        match files.check_contents_with(directory, read).into_iter().next() {
            Some(fault) => Err(fault.into()),
            None => Ok(Self::open_checked(directory)?),
        }
    }

    /// Opens a snapshot whose files have been checked.
    pub(super) fn open_checked(directory: &Path) -> Result<Self, Fault> {
        let mut options = Options::default();
        // Without it RocksDB would write a log file into the snapshot.
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |_, text| {
            tracing::debug!(target: "rocksdb", "{}", text.trim_end());
        }));
        let db = DB::open_for_read_only(&options, directory, false)
            .map_err(|error| Fault::content(directory, format_args!("RocksDB cannot open it: {error}")))?;
        Ok(Self { directory: Arc::new(directory.to_owned()), db: Arc::new(db) })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        self.db.get(key).map_err(|error| self.failure(&error))
    }

    /// About how many records there are.
    pub(super) fn about_records(&self) -> u64 {
        self.db.property_int_value("rocksdb.estimate-num-keys").ok().flatten().unwrap_or(0)
    }

    /// The records whose keys begin with `prefix`, in the order of their keys.
    pub fn scan(&self, prefix: &[u8]) -> impl Iterator<Item = ProcessorResult<Record>> + '_ {
        let mut range = ReadOptions::default();
        if !prefix.is_empty() {
            range.set_iterate_range(PrefixRange(prefix.to_vec()));
        }
        self.records(range)
    }

    /// The records whose keys are at least `from` and less than `to`, in the order of their keys.
    pub fn scan_range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = ProcessorResult<Record>> + '_ {
        let mut range = ReadOptions::default();
        range.set_iterate_range(from.to_vec()..to.to_vec());
        self.records(range)
    }

    fn records(&self, mut range: ReadOptions) -> impl Iterator<Item = ProcessorResult<Record>> + '_ {
        range.set_readahead_size(READ_AHEAD);
        // What is read once need not push anything out.
        range.fill_cache(false);
        let entries = self.db.iterator_opt(IteratorMode::Start, range);
        entries.map(|entry| entry.map_err(|error| self.failure(&error)))
    }

    fn failure(&self, error: &::rocksdb::Error) -> ProcessorError {
        ProcessorError::State(format!("RocksDB in {}: {error}", self.directory.display()))
    }
}

const READ_AHEAD: usize = 1 << 20;

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotReader({})", self.directory.display())
    }
}
