//! Between a worker and the threads of its process that make checkpoints.

use super::words::Word;
use super::{Changes, PartitionCut, Rooms};
use crate::sink::{Prepared, Shard, SideMark};
use crate::time::{Epoch, EventTime};
use crossbeam_channel::Sender;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use timely::scheduling::SyncActivator;

/// A part of a worker's snapshot.
#[derive(Debug)]
pub enum Part {
    /// Changes of windows.
    Changes(Changes),
    /// There are no more of them in this epoch.
    WindowsDone {
        /// The epoch.
        epoch: Epoch,
        /// Where the frontier was; `None` at the end of the input.
        frontier: Option<EventTime>,
    },
    /// Where the source was.
    Cuts {
        /// The epoch.
        epoch: Epoch,
        /// Of each partition.
        cuts: Vec<PartitionCut>,
        /// Side records given out before this belong to the epoch.
        mark: SideMark,
    },
    /// What the checkpoint holds for the sinks of the process.
    Sinks {
        /// The epoch.
        epoch: Epoch,
        /// By shard.
        prepared: Vec<(Shard, Prepared)>,
    },
}

/// What threads have to say through a worker, and what the worker's store has. Clones are the same.
#[derive(Clone, Default)]
pub struct Voice {
    shared: Arc<VoiceShared>,
}

#[derive(Default)]
struct VoiceShared {
    words: Mutex<Vec<Word>>,
    activator: OnceLock<SyncActivator>,
    /// The epoch up to which the store has all changes, plus one; 0 is none.
    stored: AtomicU64,
}

impl Voice {
    /// Has the worker say this.
    pub fn say(&self, word: Word) {
        self.shared.words.lock().unwrap_or_else(PoisonError::into_inner).push(word);
        self.wake();
    }

    /// Wakes the worker's operator.
    pub fn wake(&self) {
        if let Some(activator) = self.shared.activator.get() {
            // The worker has ended: there is nobody left to tell.
            let _ = activator.activate();
        }
    }

    /// The worker's store has all changes up to the end of this epoch.
    pub fn set_stored(&self, epoch: Epoch) {
        self.shared.stored.store(epoch.number() + 1, Ordering::Release);
    }

    /// What wakes the worker, from now on.
    pub fn set_activator(&self, activator: SyncActivator) {
        // It is set once, when the worker has built its dataflow.
        let _ = self.shared.activator.set(activator);
    }
}

/// A worker's end.
pub struct WorkerPort {
    parts: Sender<Part>,
    rooms: Rooms,
    voice: Voice,
    is_first_of_process: bool,
}

impl WorkerPort {
    /// Hands parts to `parts`, with changes in room of `rooms`; says what `voice` has to say. The first worker of a process speaks for
    /// its sinks.
    pub fn new(parts: Sender<Part>, rooms: Rooms, voice: Voice, is_first_of_process: bool) -> Self {
        Self { parts, rooms, voice, is_first_of_process }
    }

    /// Hands over a part of the snapshot.
    pub(super) fn hand_over(&self, part: Part) {
        // A writer that has gone has failed the run.
        let _ = self.parts.send(part);
    }

    pub(super) fn room(&self, bytes: usize) -> Changes {
        self.rooms.take(bytes)
    }

    pub(super) fn take_words(&self) -> Vec<Word> {
        std::mem::take(&mut *self.voice.shared.words.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn stored(&self) -> Option<Epoch> {
        self.voice.shared.stored.load(Ordering::Acquire).checked_sub(1).map(Epoch::new)
    }

    pub(super) fn is_first_of_process(&self) -> bool {
        self.is_first_of_process
    }

    /// What threads say through the worker.
    pub fn voice(&self) -> &Voice {
        &self.voice
    }
}
