//! The names of objects.
//!
//! The model:
//!
//! | key under the URL | what |
//! |---|---|
//! | `<epoch>/manifest.json` | the manifest: makes what it names a checkpoint |
//! | `<epoch>/<run>/worker-<i>/<name>` | a file of a snapshot that changes from one snapshot to the next |
//! | `tables/<run>/worker-<i>/<name>` | a table of a snapshot, which later snapshots of the run may share |
//!
//! A run's own name is in the keys of all it writes: nothing that another run does, be it at the same epoch and still at work when this
//! one begins, touches what this one has written. The manifest alone is the same key for all, as one of them may write it.

use crate::checkpoint::{CheckpointStore, Manifest, SnapshotFile, WorkerSnapshot};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::WorkerIndex;
use crate::time::Epoch;
use std::collections::BTreeSet;
use std::fmt;

const TABLES: &str = "tables";
const MANIFEST: &str = "manifest.json";
/// Digits of a run's name.
const DIGITS: usize = 16;

/// The name of one process's run: no other run of any job has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What an object is, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// The manifest of an epoch.
    Manifest(Epoch),
    /// A table that a run has written.
    Table(RunId),
    /// Another file that a run has written, for this epoch.
    File(Epoch, RunId),
}

impl RunId {
    /// A new one.
    pub fn new() -> ProcessorResult<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| {
            ProcessorError::Runtime(format!("the system has no random numbers for the name of a run: {error}"))
        })?;
        Ok(Self(u64::from_le_bytes(bytes)))
    }

    fn parse(text: &str) -> Option<Self> {
        let run = (text.len() == DIGITS).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()?;
        (run.to_string() == text).then_some(run)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Of a manifest.
pub fn manifest_key(epoch: Epoch) -> String {
    format!("{}/{MANIFEST}", epoch.number())
}

/// Of a file of a snapshot that is of this epoch alone.
pub fn file_key(epoch: Epoch, run: RunId, worker: WorkerIndex, name: &str) -> String {
    format!("{}/{run}/{}/{name}", epoch.number(), CheckpointStore::worker_name(worker))
}

/// Of a table.
pub fn table_key(run: RunId, worker: WorkerIndex, name: &str) -> String {
    format!("{TABLES}/{run}/{}/{name}", CheckpointStore::worker_name(worker))
}

/// Where a file of a published snapshot is. A checkpoint that was copied from a directory as it was does not say so.
pub fn object_of(manifest: &Manifest, snapshot: &WorkerSnapshot, file: &SnapshotFile) -> String {
    file.object.clone().unwrap_or_else(|| format!("{}/{}/{}", manifest.epoch.number(), snapshot.directory, file.name))
}

/// All objects of a checkpoint but its manifest.
pub fn objects_of(manifest: &Manifest) -> BTreeSet<String> {
    let of = |snapshot| move |file| object_of(manifest, snapshot, file);
    manifest.snapshots.iter().flat_map(|snapshot| snapshot.files.0.iter().map(of(snapshot))).collect()
}

/// The runs of the processes that took a checkpoint: each has written a file of its epoch.
pub fn runs_of(manifest: &Manifest) -> BTreeSet<RunId> {
    let run = |key: &String| match parse(key) {
        Some(KeyOf::File(_, run) | KeyOf::Table(run)) => Some(run),
        _ => None,
    };
    objects_of(manifest).iter().filter_map(run).collect()
}

/// An epoch as it is in a key. `007` is not how this program writes 7.
pub fn parse_epoch(text: &str) -> Option<Epoch> {
    let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text)?;
    Some(Epoch::new(number))
}

/// What an object is; `None` for what is not of this program.
pub fn parse(key: &str) -> Option<KeyOf> {
    let parts: Vec<&str> = key.split('/').collect();
    let is_worker = |text: &str| text.strip_prefix("worker-").is_some_and(|number| number.parse::<u32>().is_ok());
    match parts[..] {
        [epoch, MANIFEST] => Some(KeyOf::Manifest(parse_epoch(epoch)?)),
        [TABLES, run, worker, _] if is_worker(worker) => Some(KeyOf::Table(RunId::parse(run)?)),
        [epoch, run, worker, _] if is_worker(worker) => Some(KeyOf::File(parse_epoch(epoch)?, RunId::parse(run)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_others_are_not_ours() {
        let (run, worker, epoch) = (RunId(0xabc), WorkerIndex(3), Epoch::new(7));
        let (file, table) = (file_key(epoch, run, worker, "CURRENT"), table_key(run, worker, "000012.sst"));
        assert_eq!(file, "7/0000000000000abc/worker-3/CURRENT");
        assert_eq!(table, "tables/0000000000000abc/worker-3/000012.sst");
        assert_eq!(parse(&file), Some(KeyOf::File(epoch, run)));
        assert_eq!(parse(&table), Some(KeyOf::Table(run)));
        assert_eq!(parse(&manifest_key(epoch)), Some(KeyOf::Manifest(epoch)));
        let others = [
            "7/worker-3/CURRENT",
            "07/manifest.json",
            "7/manifest.json.bak",
            "tables/ABC/worker-3/000012.sst",
            "tables/0000000000000ABC/worker-3/000012.sst",
            "7/0000000000000abc/other/CURRENT",
            "notes.txt",
            "",
        ];
        for key in others {
            assert_eq!(parse(key), None, "{key}");
        }
        assert_ne!(RunId::new().unwrap(), RunId::new().unwrap());
    }
}
