//! Checkpoints: what a job is at the end of an epoch, on disk, and how it goes on from there.
//!
//! The model: an epoch ends when every source has cut it (noted its positions and moved its capabilities to the next) and no
//! operator can meet a row of it any more. Then each worker's state is exactly what the events up to the cuts have made of it.
//! Each worker writes what has changed since the snapshot before into its own RocksDB database and makes a snapshot of that by
//! hard links; when all have, the coordinator publishes a manifest by renaming a file: that is the commit point. Nothing before it
//! counts, nothing after it may be lost.
//!
//! What is decided (which epoch may be cut, published, delivered, forgotten; which checkpoint is restored, what is sent again) is
//! decided by pure functions over plain data, apart from I/O.

mod cut;
mod failpoint;
pub mod protocol;
mod record;

pub use cut::PartitionCut;
pub use failpoint::{FAILPOINT_VARIABLE, failpoint};
pub use record::{Changes, RecordKey, Table};
