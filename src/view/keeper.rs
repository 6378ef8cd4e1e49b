//! What of views goes into checkpoints, and comes back.

use super::record::{ViewRecord, changes};
use super::release::Keeper;
use super::retained::{Retained, Waiting};
use crate::checkpoint::WorkerEpochs;
use crate::error::ProcessorResult;
use crate::time::{Epoch, EventTime, Time};
use std::collections::BTreeMap;
use timely::scheduling::Activator;

/// Hands over what has changed at the end of each epoch.
pub struct EpochKeeper {
    epochs: WorkerEpochs,
    epoch: Epoch,
}

impl EpochKeeper {
    /// Of a worker of a job that takes checkpoints.
    pub fn new(epochs: WorkerEpochs) -> Self {
        epochs.expect_views();
        let epoch = epochs.first().epoch;
        Self { epochs, epoch }
    }
}

impl Keeper for EpochKeeper {
    fn turn(&mut self, retained: &mut Retained, frontier: &[Time]) {
        let may_come = |epoch| frontier.iter().any(|time| time.epoch() <= epoch);
        // With nothing to come any more the last epoch ends when that is announced.
        while !may_come(self.epoch) && (!frontier.is_empty() || self.epochs.ends(self.epoch)) {
            self.epochs.window_changes(changes(retained));
            self.epochs.views_done(self.epoch);
            self.epoch = self.epoch.next();
        }
    }

    fn wake_by(&mut self, activator: Activator) {
        self.epochs.wake_on_news(activator);
    }
}

/// Records of views, on their way back.
#[derive(Default)]
pub struct ViewRestore {
    closed: Option<EventTime>,
    /// By their numbers; those of several workers are of different keys.
    waiting: BTreeMap<u64, Vec<(EventTime, Waiting)>>,
}

impl ViewRestore {
    /// Takes in a record of a snapshot.
    pub fn take(&mut self, key: &[u8], value: &[u8], retained: &mut Retained) -> ProcessorResult<()> {
        match ViewRecord::read(key, value)? {
            ViewRecord::Fact(definition, fact) => retained.restore_fact(definition, fact),
            ViewRecord::Waiting(number, sent, waiting) => {
                self.waiting.entry(number).or_default().push((sent, waiting));
            }
            ViewRecord::Closed(closed) => self.closed = self.closed.max(Some(closed)),
        }
        Ok(())
    }

    /// After the last record.
    pub fn finish(self, retained: &mut Retained) {
        for (sent, waiting) in self.waiting.into_values().flatten() {
            retained.restore_waiting(sent, waiting);
        }
        retained.restore_closed(self.closed.unwrap_or(EventTime::MIN));
    }
}
