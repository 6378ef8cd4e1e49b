//! What the reader tells metrics, health and status.

use crate::event::PartitionName;

/// Listens to one worker's reader. Called on the worker's thread and on the reader's helper thread: it must be quick.
pub trait SourceObserver: Send + Sync {
    /// How many records of the partition are still to be read: the broker's end offset, as of the last fetch, minus the position.
    /// Told about once a second for each partition.
    fn lag(&self, partition: &PartitionName, records: i64) {
        let _ = (partition, records);
    }

    /// Whether the brokers answer, when that changes; `detail` is for people: whom was asked, and the reason.
    fn broker_state(&self, up: bool, detail: String) {
        let _ = (up, detail);
    }
}

/// Listens to nothing.
pub struct NoObserver;

impl SourceObserver for NoObserver {}
