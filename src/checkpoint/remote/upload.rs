//! A worker's snapshot, from its local directory to the object store.
//!
//! The model: tables never change, so that one which a snapshot before has put there is only named; everything else goes under the epoch's
//! own keys. When this returns the snapshot is in the store as safely as it keeps anything, and each file says where.
//!
//! How it fails: what has arrived is remembered; the next attempt sends the rest. A local file that is gone cannot be made good.

use super::client::ObjectClient;
use super::keys::{RunId, file_key, table_key};
use super::transfer::{in_parallel, send};
use crate::checkpoint::{Crc32, SnapshotFile, SnapshotFiles, failpoint};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::WorkerIndex;
use crate::time::Epoch;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Files that are sent at once, of each worker.
const AT_ONCE: usize = 4;

/// What a worker's writer sends its snapshots with.
pub struct Uploader {
    client: ObjectClient,
    run: RunId,
    worker: WorkerIndex,
    sent: Sent,
}

/// The objects that this run has written, by their keys, and what they are.
type Sent = HashMap<String, (u64, Crc32)>;

impl Uploader {
    /// Of one worker of this run.
    pub fn new(client: ObjectClient, run: RunId, worker: WorkerIndex) -> Self {
        Self { client, run, worker, sent: Sent::new() }
    }

    /// Has the snapshot of an epoch, whose files are in `directory`, in the store. Returns the files, with where they are.
    pub fn upload(&mut self, epoch: Epoch, directory: &Path, files: &SnapshotFiles) -> ProcessorResult<SnapshotFiles> {
        let (files, to_send) = plan(epoch, self.run, self.worker, files, &self.sent);
        let sent = Mutex::new(&mut self.sent);
        in_parallel(&to_send, AT_ONCE, |file| {
            let key = file.object.as_deref().expect("the plan names the object of each");
            send(&self.client, key, &directory.join(&file.name), file)?;
            failpoint("file_uploaded");
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.insert(key.to_owned(), (file.bytes, file.crc32));
            Ok::<(), ProcessorError>(())
        })?;
        // What this snapshot does not name none that comes does.
        let named: HashSet<&str> = files.0.iter().filter_map(|file| file.object.as_deref()).collect();
        self.sent.retain(|key, _| named.contains(key.as_str()));
        failpoint("snapshot_uploaded");
        Ok(files)
    }
}

/// Where each file of a snapshot is to be, and which of them are not there yet.
fn plan(
    epoch: Epoch,
    run: RunId,
    worker: WorkerIndex,
    files: &SnapshotFiles,
    sent: &Sent,
) -> (SnapshotFiles, Vec<SnapshotFile>) {
    let place = |file: &SnapshotFile| {
        let is_same = |key: &String| sent.get(key).is_none_or(|of| *of == (file.bytes, file.crc32));
        // A table of this name with other content would mean that RocksDB has used a name again: then it is of this epoch alone.
        let shared = file.name.ends_with(".sst").then(|| table_key(run, worker, &file.name)).filter(is_same);
        let key = shared.unwrap_or_else(|| file_key(epoch, run, worker, &file.name));
        SnapshotFile { object: Some(key), ..file.clone() }
    };
    let files = SnapshotFiles(files.0.iter().map(place).collect());
    let is_new = |file: &&SnapshotFile| file.object.as_ref().is_none_or(|key| !sent.contains_key(key));
    let to_send = files.0.iter().filter(is_new).cloned().collect();
    (files, to_send)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(of: &[(&str, u64)]) -> SnapshotFiles {
        let file = |(name, bytes): &(&str, u64)| SnapshotFile {
            name: (*name).to_owned(),
            bytes: *bytes,
            crc32: Crc32(*bytes as u32),
            object: None,
        };
        SnapshotFiles(of.iter().map(file).collect())
    }

    #[test]
    fn a_table_is_sent_once_and_the_rest_for_each_epoch() {
        let (run, worker) = (RunId(5), WorkerIndex(1));
        let first = files(&[("000001.sst", 10), ("CURRENT", 4)]);
        let (placed, to_send) = plan(Epoch::new(3), run, worker, &first, &Sent::new());
        let keys: Vec<&str> = placed.0.iter().filter_map(|file| file.object.as_deref()).collect();
        assert_eq!(keys, ["tables/0000000000000005/worker-1/000001.sst", "3/0000000000000005/worker-1/CURRENT"]);
        assert_eq!(to_send, placed.0);
        let sent: Sent = placed.0.iter().map(|file| (file.object.clone().unwrap(), (file.bytes, file.crc32))).collect();
        let (_, again) = plan(Epoch::new(3), run, worker, &first, &sent);
        assert_eq!(again, [], "an attempt after one that came to its end sends nothing");
        let second = files(&[("000001.sst", 10), ("000002.sst", 11), ("CURRENT", 4)]);
        let (_, to_send) = plan(Epoch::new(4), run, worker, &second, &sent);
        let names: Vec<&str> = to_send.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["000002.sst", "CURRENT"]);
        let other = files(&[("000001.sst", 12)]);
        let (placed, to_send) = plan(Epoch::new(4), run, worker, &other, &sent);
        assert_eq!(placed.0[0].object.as_deref(), Some("4/0000000000000005/worker-1/000001.sst"));
        assert_eq!(to_send.len(), 1);
    }
}
