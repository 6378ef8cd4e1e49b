//! From the sinks of a process to its checkpoints.
//!
//! The model: when every sink is prepared for an epoch, what the checkpoint must hold for them goes to the writer of the process's
//! first worker; when every sink has committed, the process says so.

use super::numbers::SinkNumber;
use super::{Part, ProcessIndex, Voice, Word};
use crate::sink::{EpochObserver, Prepared, Shard};
use crate::time::Epoch;
use crossbeam_channel::Sender;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Gathers what the sinks of a process have to say.
pub struct SinkGathering {
    process: ProcessIndex,
    /// The number of the sink at each place.
    numbers: Vec<SinkNumber>,
    parts: Sender<Part>,
    voice: Voice,
    state: Mutex<State>,
    has_said_wanted: AtomicBool,
}

#[derive(Default)]
struct State {
    prepared: Vec<(Shard, Prepared)>,
    committed: usize,
}

impl SinkGathering {
    /// Of the sinks with these numbers. What the checkpoint must hold goes to `parts`, words go through `voice`.
    pub fn new(process: ProcessIndex, numbers: Vec<SinkNumber>, parts: Sender<Part>, voice: Voice) -> Self {
        Self { process, numbers, parts, voice, state: Mutex::default(), has_said_wanted: AtomicBool::new(false) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EpochObserver for SinkGathering {
    fn prepared(&self, place: usize, epoch: Epoch, prepared: Prepared) {
        let mut state = self.state();
        state.prepared.push((Shard { sink: self.numbers[place].0, process: self.process.0 }, prepared));
        if state.prepared.len() == self.numbers.len() {
            let mut prepared = std::mem::take(&mut state.prepared);
            prepared.sort_by_key(|(shard, _)| *shard);
            self.has_said_wanted.store(false, Ordering::Release);
            // A writer that has gone has failed the run.
            let _ = self.parts.send(Part::Sinks { epoch, prepared });
        }
    }

    fn committed(&self, _place: usize, epoch: Epoch) {
        let mut state = self.state();
        state.committed += 1;
        if state.committed == self.numbers.len() {
            state.committed = 0;
            self.voice.say(Word::Committed(self.process, epoch));
        }
    }

    fn wants_epoch_end(&self, _place: usize) {
        if !self.has_said_wanted.swap(true, Ordering::AcqRel) {
            self.voice.say(Word::Wanted);
        }
    }
}
