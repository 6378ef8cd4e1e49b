//! What workers say to each other about checkpoints.

use super::{Ending, ProcessIndex};
use crate::event::WorkerIndex;
use crate::time::Epoch;
use serde::{Deserialize, Serialize};

/// A worker's word, heard by all workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The coordinator's: this epoch ends.
    Ends(Epoch, Ending),
    /// A worker's snapshot of this epoch is durable; what the manifest says of it, as JSON.
    Reported(WorkerIndex, Epoch, String),
    /// The coordinator's: the checkpoint of this epoch is published.
    Published(Epoch, Ending),
    /// All sinks of a process have delivered what the checkpoint of this epoch holds for them.
    Committed(ProcessIndex, Epoch),
    /// The coordinator's: everything of the last epoch is delivered.
    Over(Epoch),
    /// Somebody would welcome a checkpoint soon.
    Wanted,
    /// A process was asked to end.
    Stopping,
    /// A worker has read its input to the end.
    Finished(WorkerIndex),
}
