//! What workers say to each other about checkpoints.

use super::{Ending, HasCuts, ProcessIndex};
use crate::error::ProcessorError;
use crate::event::WorkerIndex;
use crate::time::Epoch;
use serde::{Deserialize, Serialize};

/// What a process begins with. All processes of a job must begin with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// Whose it is.
    pub process: ProcessIndex,
    /// The checkpoint that it goes on from; `None`: it begins anew.
    pub restored: Option<Epoch>,
    /// Its first epoch.
    pub first: Epoch,
}

impl Beginning {
    /// Why a job whose processes begin with these cannot run; `None`: it can.
    pub fn conflict(&self, other: &Self) -> Option<ProcessorError> {
        let (one, two) = if self.process < other.process { (self, other) } else { (other, self) };
        let from = |restored: Option<Epoch>| match restored {
            Some(epoch) => format!("goes on from checkpoint {epoch}"),
            None => "begins without a checkpoint".to_owned(),
        };
        if one.restored != two.restored {
            return Some(ProcessorError::Refused(format!(
                "process {} {}, and process {} {}: give all processes the same checkpoints directory, and the same \
                 --from-checkpoint or --ignore-checkpoint",
                one.process.0,
                from(one.restored),
                two.process.0,
                from(two.restored)
            )));
        }
        (one.first != two.first).then(|| {
            ProcessorError::State(format!(
                "process {} begins with epoch {}, and process {} with epoch {}: somebody has written into the checkpoints \
                 directory while they started; start them again",
                one.process.0, one.first, two.process.0, two.first
            ))
        })
    }
}

/// A worker's word, heard by all workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The coordinator's: this epoch ends.
    Ends(Epoch, Ending),
    /// A worker's snapshot of this epoch is durable; what the manifest says of it, as JSON.
    Reported(WorkerIndex, Epoch, String),
    /// The coordinator's: the checkpoint of this epoch, with this manifest, is to be prepared by the processes that keep their own part.
    Prepare(Epoch, String),
    /// A process has prepared its part of the checkpoint of this epoch.
    Prepared(ProcessIndex, Epoch),
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
    /// A worker of a run that is asked to end does not know its partitions yet: it has read nothing.
    Unready(WorkerIndex, HasCuts),
    /// A process's first worker's, before any other.
    Begins(Beginning),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(process: u16, restored: Option<u64>, first: u64) -> Beginning {
        Beginning { process: ProcessIndex(process), restored: restored.map(Epoch::new), first: Epoch::new(first) }
    }

    #[test]
    fn processes_begin_with_the_same_or_not_at_all() {
        let text = |one: Beginning, two: Beginning| one.conflict(&two).map(|error| error.to_string());
        let mine = beginning(1, Some(3), 7);
        assert_eq!(text(mine, mine), None);
        assert_eq!(text(mine, beginning(0, Some(3), 7)), None);
        let refused = text(mine, beginning(0, None, 7)).unwrap();
        assert!(
            refused.contains("process 0 begins without a checkpoint, and process 1 goes on from checkpoint 3"),
            "{refused}"
        );
        let other = text(mine, beginning(2, Some(3), 8)).unwrap();
        assert!(other.contains("process 1 begins with epoch 7, and process 2 with epoch 8"), "{other}");
    }
}
