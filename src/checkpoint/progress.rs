//! How far the checkpoint that a run goes on from has been checked and loaded: counters, for whoever wants to show them.
//!
//! The model: first every byte of all snapshots is read; then each worker of this process loads the records of its key groups. It is
//! over when the last of them has, or when there is nothing to load.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How far the checkpoint that a run goes on from has been checked and loaded.
#[derive(Debug)]
pub struct RestoreProgress {
    begun: Instant,
    bytes: Counter,
    records: Counter,
    windows: AtomicU64,
    keys: AtomicU64,
    /// Workers of this process that have not loaded their share.
    workers: AtomicUsize,
    over: AtomicBool,
}

/// So many of so many.
#[derive(Debug, Default)]
struct Counter {
    done: AtomicU64,
    total: AtomicU64,
}

/// What was loaded, by all workers of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Windows, each of a key.
    pub windows: u64,
    /// Keys; one that several definitions have counts for each.
    pub keys: u64,
    /// From the beginning of the check.
    pub took: Duration,
}

impl RestoreProgress {
    /// Of a process with so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            begun: Instant::now(),
            bytes: Counter::default(),
            records: Counter::default(),
            windows: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            workers: AtomicUsize::new(workers),
            over: AtomicBool::new(false),
        }
    }

    /// A checkpoint of so many bytes is going to be checked; what was read of another does not count.
    pub fn begin_check(&self, bytes: u64) {
        self.bytes.begin(bytes);
    }

    /// So many bytes more were read.
    pub fn checked(&self, bytes: u64) {
        self.bytes.add(bytes);
    }

    /// The workers of this process are going to load about so many records.
    pub fn begin_load(&self, records: u64) {
        self.records.begin(records);
    }

    /// A record more was loaded.
    pub fn loaded(&self) {
        self.records.add(1);
    }

    /// A worker has loaded its share: so many windows of so many keys. What all have, where it was the last.
    pub fn worker_done(&self, windows: u64, keys: u64) -> Option<Loaded> {
        let windows = self.windows.fetch_add(windows, Ordering::AcqRel) + windows;
        let keys = self.keys.fetch_add(keys, Ordering::AcqRel) + keys;
        let is_last = self.workers.fetch_sub(1, Ordering::AcqRel) == 1;
        is_last.then(|| {
            self.end();
            let (windows, keys) =
                (self.windows.load(Ordering::Acquire).max(windows), self.keys.load(Ordering::Acquire).max(keys));
            Loaded { windows, keys, took: self.begun.elapsed() }
        })
    }

    /// There is nothing more to come.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether that is so.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Bytes checked, and how many there are.
    pub fn bytes(&self) -> (u64, u64) {
        self.bytes.get()
    }

    /// Records loaded, and about how many there are; none before the check is done.
    pub fn records(&self) -> (u64, u64) {
        self.records.get()
    }
}

impl Counter {
    fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn add(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
    }

    /// What is done may be more than was expected.
    fn get(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed).max(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_worker_knows_what_all_have_loaded() {
        let progress = RestoreProgress::new(2);
        progress.begin_check(10);
        progress.checked(10);
        // That one was damaged.
        progress.begin_check(20);
        progress.checked(5);
        assert_eq!(progress.bytes(), (5, 20));
        progress.begin_load(1);
        progress.loaded();
        progress.loaded();
        assert_eq!(progress.records(), (2, 2));
        assert_eq!(progress.worker_done(3, 1), None);
        assert!(!progress.is_over());
        let loaded = progress.worker_done(4, 2).unwrap();
        assert_eq!((loaded.windows, loaded.keys), (7, 3));
        assert!(progress.is_over());
    }
}
