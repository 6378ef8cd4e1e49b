//! What a state backend does.

use crate::error::{ProcessorError, ProcessorResult};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The number of a checkpoint, chosen by who takes it. Each is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for CheckpointId {
    fn from(id: u64) -> Self {
        CheckpointId(id)
    }
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One step of [`StateBackend::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// The key has this value from now on.
    Put {
        /// Where.
        namespace: String,
        /// The key there.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// The key has no value any more.
    Delete {
        /// Where.
        namespace: String,
        /// The key there.
        key: Vec<u8>,
    },
}

/// A key-value store with namespaces and checkpoints.
///
/// A namespace is any text without NUL; it need not be made before it is used.
#[async_trait]
pub trait StateBackend: Send + Sync {
    /// What logs and messages call it: `memory`, `rocksdb`, or the user's word.
    fn name(&self) -> &str;

    /// The value of a key.
    async fn get(&self, namespace: &str, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>>;

    /// Makes all changes, in their order, or none.
    async fn apply(&self, changes: Vec<StateChange>) -> ProcessorResult<()>;

    /// The entries whose keys begin with `prefix`, in the order of their keys, as they are at one moment. An empty prefix gives
    /// the whole namespace.
    async fn scan_prefix(&self, namespace: &str, prefix: &[u8]) -> ProcessorResult<Vec<Entry>>;

    /// Copies everything under `id`. Fails where there is a checkpoint of this id already.
    async fn checkpoint(&self, id: CheckpointId) -> ProcessorResult<()>;

    /// Brings back what was there when the checkpoint was taken; what came later is gone. The checkpoint stays. Fails, and
    /// changes nothing, where there is no checkpoint of this id: the message names those there are.
    async fn restore(&self, id: CheckpointId) -> ProcessorResult<()>;

    /// The checkpoints there are, in ascending order.
    async fn checkpoints(&self) -> ProcessorResult<Vec<CheckpointId>>;

    /// Forgets a checkpoint; nothing happens where there is none of this id.
    async fn drop_checkpoint(&self, id: CheckpointId) -> ProcessorResult<()>;

    /// Where a pipeline that is given this backend keeps the state of its windows and its checkpoints. `None`: it keeps them in
    /// memory, and takes no checkpoints.
    fn pipeline_directories(&self) -> Option<PipelineDirectories> {
        None
    }

    /// Gives a key a value.
    async fn put(&self, namespace: &str, key: &[u8], value: &[u8]) -> ProcessorResult<()> {
        let (namespace, key, value) = (namespace.to_owned(), key.to_vec(), value.to_vec());
        self.apply(vec![StateChange::Put { namespace, key, value }]).await
    }

    /// Takes a key's value away; nothing happens where it has none.
    async fn delete(&self, namespace: &str, key: &[u8]) -> ProcessorResult<()> {
        self.apply(vec![StateChange::Delete { namespace: namespace.to_owned(), key: key.to_vec() }]).await
    }
}

/// Where a pipeline keeps the state of its workers, and its checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineDirectories {
    /// The workers' databases.
    pub state: PathBuf,
    /// Checkpoints.
    pub checkpoints: PathBuf,
}

/// Says that a checkpoint is not there, and which are.
pub(super) fn unknown_checkpoint(id: CheckpointId, there_are: &[CheckpointId]) -> ProcessorError {
    let right = match there_are {
        [] => "none has been taken".to_owned(),
        ids => {
            format!("there are {}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    };
    ProcessorError::State(format!("there is no checkpoint {id}; {right}"))
}

/// Says that a checkpoint is there already.
pub(super) fn doubled_checkpoint(id: CheckpointId) -> ProcessorError {
    ProcessorError::State(format!("checkpoint {id} is there already; take it under another id, or drop it first"))
}
