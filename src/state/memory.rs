//! State in memory.
//!
//! The model: one ordered map. A checkpoint shares it until the next change, which copies it; so a checkpoint costs nothing
//! until then, and each one that is kept costs what was there.

use super::backend::{CheckpointId, Entry, StateBackend, StateChange, doubled_checkpoint, unknown_checkpoint};
use super::key::{key_of_place, place};
use crate::error::ProcessorResult;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// State in memory: it, and its checkpoints, end with the process. Clones are the same state.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
/// use llm_optimizer_processor::state::{CheckpointId, MemoryStateBackend, StateBackend};
///
/// let state = MemoryStateBackend::new();
/// state.put("counts", b"claude-3-opus", b"1").await?;
/// state.checkpoint(CheckpointId(1)).await?;
/// state.put("counts", b"claude-3-opus", b"2").await?;
/// state.restore(CheckpointId(1)).await?;
/// assert_eq!(state.get("counts", b"claude-3-opus").await?, Some(b"1".to_vec()));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStateBackend {
    shared: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    now: Arc<Map>,
    checkpoints: BTreeMap<CheckpointId, Arc<Map>>,
}

impl MemoryStateBackend {
    /// Without any state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes are whole when the lock is let go, so they are sound whatever has panicked elsewhere.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateBackend for MemoryStateBackend {
    fn name(&self) -> &str {
        "memory"
    }

    async fn get(&self, namespace: &str, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        let place = place(namespace, key)?;
        Ok(self.held().now.get(&place).cloned())
    }

    async fn apply(&self, changes: Vec<StateChange>) -> ProcessorResult<()> {
        let step = |change: StateChange| match change {
            StateChange::Put { namespace, key, value } => Ok((place(&namespace, &key)?, Some(value))),
            StateChange::Delete { namespace, key } => Ok((place(&namespace, &key)?, None)),
        };
        let steps = changes.into_iter().map(step).collect::<ProcessorResult<Vec<_>>>()?;
        let mut held = self.held();
        let now = Arc::make_mut(&mut held.now);
        for (place, value) in steps {
            match value {
                Some(value) => now.insert(place, value),
                None => now.remove(&place),
            };
        }
        Ok(())
    }

    async fn scan_prefix(&self, namespace: &str, prefix: &[u8]) -> ProcessorResult<Vec<Entry>> {
        let from = place(namespace, prefix)?;
        let now = Arc::clone(&self.held().now);
        let found = now.range(from.clone()..).take_while(|(place, _)| place.starts_with(&from));
        Ok(found.map(|(place, value)| (key_of_place(namespace, place).to_vec(), value.clone())).collect())
    }

    async fn checkpoint(&self, id: CheckpointId) -> ProcessorResult<()> {
        let mut held = self.held();
        if held.checkpoints.contains_key(&id) {
            return Err(doubled_checkpoint(id));
        }
        let now = Arc::clone(&held.now);
        held.checkpoints.insert(id, now);
        Ok(())
    }

    async fn restore(&self, id: CheckpointId) -> ProcessorResult<()> {
        let mut held = self.held();
        let Some(then) = held.checkpoints.get(&id).cloned() else {
            return Err(unknown_checkpoint(id, &held.checkpoints.keys().copied().collect::<Vec<_>>()));
        };
        held.now = then;
        Ok(())
    }

    async fn checkpoints(&self) -> ProcessorResult<Vec<CheckpointId>> {
        Ok(self.held().checkpoints.keys().copied().collect())
    }

    async fn drop_checkpoint(&self, id: CheckpointId) -> ProcessorResult<()> {
        self.held().checkpoints.remove(&id);
        Ok(())
    }
}

impl fmt::Debug for MemoryStateBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        write!(f, "MemoryStateBackend({} entries, {} checkpoints)", held.now.len(), held.checkpoints.len())
    }
}
