//! Files to objects and back, whole or not at all.
//!
//! The model: a file of up to [`PART`] bytes is one request, a longer one is written and read in parts. Both ways the bytes are counted
//! and their CRC-32 is taken; an object is there, and a file has its name, only when both are those of the snapshot.

use super::client::{ObjectClient, ObjectError, ObjectErrorKind};
use crate::checkpoint::{Crc32, Fault, FaultKind, SnapshotFile};
use crate::error::{ProcessorError, ProcessorResult};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a request, but of very long files: stores allow some thousand parts.
const PART: u64 = 8 << 20;
const MOST_PARTS: u64 = 5_000;

/// Why a file has not come.
#[derive(Debug)]
pub enum FetchError {
    /// The object is not what was written.
    Damaged(Fault),
    /// The store has not given it.
    Store(ObjectError),
    /// It cannot be written here.
    Local(ProcessorError),
}

/// Bytes of each part of a file.
fn part_of(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(MOST_PARTS))
}

/// Writes a file of a snapshot as an object.
pub fn send(client: &ObjectClient, key: &str, path: &Path, file: &SnapshotFile) -> ProcessorResult<()> {
    let refused = |error| ProcessorError::io(format!("cannot read the snapshot's {}", path.display()), error);
    let mut open = File::open(path).map_err(refused)?;
    let part = part_of(file.bytes);
    let mut sum = Sum::default();
    if file.bytes <= part {
        let content = sum.next(&mut open, part).map_err(refused)?;
        sum.expect_end(&mut open, file).map_err(|why| changed(path, &why))?;
        return Ok(client.put(key, content)?);
    }
    let mut parts = client.begin(key)?;
    let sent = (|| {
        loop {
            let content = sum.next(&mut open, part).map_err(refused)?;
            if content.is_empty() {
                return sum.expect_end(&mut open, file).map_err(|why| changed(path, &why));
            }
            parts.push(content)?;
        }
    })();
    match sent {
        Ok(()) => Ok(parts.finish()?),
        Err(error) => {
            parts.give_up();
            Err(error)
        }
    }
}

fn changed(path: &Path, why: &str) -> ProcessorError {
    ProcessorError::State(format!("{}: {why}: somebody has changed it since the snapshot was made", path.display()))
}

/// Reads an object into a file, which survives the machine's crash; its name does when its directory is synced. `read` is told how many bytes
/// more have come.
pub fn receive(
    client: &ObjectClient,
    key: &str,
    path: &Path,
    file: &SnapshotFile,
    read: &(dyn Fn(u64) + Sync),
) -> Result<(), FetchError> {
    let url = client.url().of(key);
    let damaged = |kind| FetchError::Damaged(Fault::new(Path::new(&url), kind));
    let local = |error| FetchError::Local(ProcessorError::io(format!("cannot write {}", path.display()), error));
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let new = path.with_file_name(format!("{name}.part"));
    let mut open = File::create(&new).map_err(local)?;
    let (part, mut sum) = (part_of(file.bytes), Sum::default());
    loop {
        let wanted = sum.bytes..(sum.bytes + part).min(file.bytes);
        let (content, length) = client.get_range(key, wanted.clone()).map_err(|error| match error.kind {
            ObjectErrorKind::Missing => damaged(FaultKind::Missing),
            _ => match client.length(key) {
                // Asked for bytes beyond its end, stores fail in ways of their own.
                Ok(found) if found != file.bytes => damaged(FaultKind::Length { expected: file.bytes, found }),
                _ => FetchError::Store(error),
            },
        })?;
        if length != file.bytes {
            return Err(damaged(FaultKind::Length { expected: file.bytes, found: length }));
        }
        if content.len() as u64 != wanted.end - wanted.start {
            let why = format!("gave {} bytes of {}", content.len(), wanted.end - wanted.start);
            return Err(FetchError::Store(ObjectError { url, kind: ObjectErrorKind::Unreachable, why }));
        }
        sum.add(&content);
        open.write_all(&content).map_err(local)?;
        read(content.len() as u64);
        if sum.bytes == file.bytes {
            break;
        }
    }
    let found = sum.crc32();
    if found != file.crc32 {
        return Err(damaged(FaultKind::Checksum { expected: file.crc32, found }));
    }
    open.sync_all().and_then(|()| std::fs::rename(&new, path)).map_err(local)
}

/// Does `work` for each item on up to `bound` threads. What the first to fail says, after which nothing new is begun.
pub fn in_parallel<T: Sync, E: Send>(
    items: &[T],
    bound: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let one_thread = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !has_failed()) {
            if let Err(error) = work(item) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    // A panic of any of them becomes one of this thread, when they have ended.
    std::thread::scope(|scope| {
        for _ in 1..bound.min(items.len()) {
            scope.spawn(one_thread);
        }
        one_thread();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Counts bytes and takes their checksum.
#[derive(Default)]
struct Sum {
    bytes: u64,
    hasher: crc32fast::Hasher,
}

impl Sum {
    fn next(&mut self, open: &mut File, most: u64) -> io::Result<Bytes> {
        let mut content = Vec::new();
        open.take(most).read_to_end(&mut content)?;
        self.add(&content);
        Ok(content.into())
    }

    fn add(&mut self, content: &[u8]) {
        self.hasher.update(content);
        self.bytes += content.len() as u64;
    }

    fn crc32(&self) -> Crc32 {
        Crc32(self.hasher.clone().finalize())
    }

    /// What is wrong where this is not the end of this file.
    fn expect_end(&self, open: &mut File, file: &SnapshotFile) -> Result<(), String> {
        let more = open.read(&mut [0]).map_err(|error| error.to_string())?;
        if self.bytes != file.bytes || more > 0 {
            return Err(format!("is not {} bytes long", file.bytes));
        }
        let found = self.crc32();
        if found == file.crc32 { Ok(()) } else { Err(format!("has the checksum {found}, not {}", file.crc32)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_enough_for_any_store() {
        assert_eq!(part_of(0), PART);
        assert_eq!(part_of(PART * MOST_PARTS), PART);
        for bytes in [PART * MOST_PARTS + 1, 1 << 42] {
            assert!(bytes.div_ceil(part_of(bytes)) <= MOST_PARTS);
        }
    }

    #[test]
    fn all_is_done_or_the_first_failure_told() {
        let done = AtomicUsize::new(0);
        let items: Vec<usize> = (0..100).collect();
        for bound in [1, 3, 200] {
            done.store(0, Ordering::Relaxed);
            in_parallel(&items, bound, |item| {
                done.fetch_add(*item, Ordering::Relaxed);
                Ok::<(), ()>(())
            })
            .unwrap();
            assert_eq!(done.load(Ordering::Relaxed), 4950);
            assert_eq!(in_parallel(&items, bound, |item| if *item == 7 { Err(*item) } else { Ok(()) }), Err(7));
        }
        in_parallel(&[], 4, |_: &u8| Err(())).unwrap();
    }
}
