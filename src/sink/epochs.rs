//! What sinks and checkpoints have to do with each other.
//!
//! The model: at the end of an epoch each sink *prepares*: what it does not keep back is durable then, and what the checkpoint must
//! hold for it (results that become visible only when the checkpoint counts, the length of a file) is handed over. When the
//! checkpoint is published the sink *commits*. After a crash it *recovers*: from what the restored checkpoint holds it finds out
//! what is visible already, and makes the rest so.
//!
//! A sink of one process is a shard. A job that is started with fewer processes than before has its first ones take over the
//! shards of those that are no more.

use crate::time::Epoch;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How often a job was started from its checkpoints; each start has the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// One sink of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard {
    /// The sink's number, which checkpoints remember: its place may be another the next time.
    pub sink: u16,
    /// The process's index.
    pub process: u16,
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.sink, self.process)
    }
}

/// What a checkpoint holds for a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// A file and its length.
    pub file: Option<(PathBuf, u64)>,
    /// Results that are not visible yet, in chunks that become visible at once each.
    pub outbox: Vec<Vec<u8>>,
}

/// What a sink recovers from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkRecovery {
    /// The shard that this sink is from now on.
    pub shard: Shard,
    /// This start.
    pub generation: Generation,
    /// The checkpoint that was restored; `None` where the job begins.
    pub restored: Option<Epoch>,
    /// What it holds for this shard, and for those that this one takes over.
    pub prepared: Vec<(Shard, Prepared)>,
    /// The shards that this one takes over: whatever runs as one of them still is fenced off. Its own is not among them.
    pub taken_over: Vec<Shard>,
}
