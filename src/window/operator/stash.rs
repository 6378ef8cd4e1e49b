//! The window operator's stash: batches of an epoch that has not begun here.
//!
//! The model: a batch of the next epoch waits, and so does all that comes behind it, until every worker is through with the epoch
//! before. Then batches are let in in the order in which they came, while a snapshot is encoded a few rows a turn.

use super::WindowOperator;
use crate::checkpoint::failpoint;
use crate::event::RowBatch;
use crate::time::{Epoch, Time};
use std::time::Duration;
use timely::dataflow::operators::Capability;

/// How long it waits for all workers to be through with an epoch before it looks again, while batches wait for that.
const STASH_PAUSE: Duration = Duration::from_millis(2);
/// Rows that have waited for an epoch and are let in in a turn while the snapshot of the one before is encoded: many of them find an
/// entry that has to be encoded before it changes.
const STASHED_ROWS_PER_TURN: usize = 256;

/// Batches of an epoch that has not begun here, with what allows results and acknowledgements to be sent.
pub(super) struct Stashed {
    pub results: Capability<Time>,
    acknowledgements: Capability<Time>,
    batches: Vec<RowBatch>,
}

impl WindowOperator {
    /// Whether batches of this epoch have to wait. What comes behind batches that wait, waits: a sender's are in their order.
    pub(super) fn must_wait(&self, epoch: Epoch) -> bool {
        !self.stash.is_empty() || epoch > self.epoch || !self.all_are_in_this_epoch()
    }

    /// They wait.
    pub(super) fn put_away(
        &mut self,
        results: Capability<Time>,
        acknowledgements: Capability<Time>,
        mut batches: Vec<RowBatch>,
    ) {
        batches.iter_mut().for_each(RowBatch::give_room_back);
        failpoint("stash");
        self.stash.push(Stashed { results, acknowledgements, batches });
    }

    /// Lets the batches in that have waited, when every worker is through with the epoch before theirs; while a snapshot is encoded,
    /// a few in a turn. Those of one sender are in their order; of different senders, one may be in the next epoch already when
    /// another is not.
    pub(super) fn let_in_stash(&mut self) {
        if self.stash.is_empty() {
            return;
        }
        if !self.all_are_in_this_epoch() {
            // Nobody says when they are: what comes after the windows, views among it, may be through a while later than they.
            return self.activator.activate_after(STASH_PAUSE);
        }
        let mut left = if self.writing.is_some() { STASHED_ROWS_PER_TURN } else { usize::MAX };
        for mut stashed in std::mem::take(&mut self.stash) {
            if stashed.results.time().epoch() <= self.epoch {
                let fitting = stashed.batches.iter().take_while(|batch| {
                    let fits = left > 0;
                    left = left.saturating_sub(batch.len());
                    fits
                });
                let mut now: Vec<RowBatch> = stashed.batches.drain(..fitting.count()).collect();
                self.take(&stashed.results, &stashed.acknowledgements, &mut now);
            }
            if !stashed.batches.is_empty() {
                self.stash.push(stashed);
            }
        }
        if left == 0 {
            self.activator.activate();
        }
    }

    /// Whether every worker is through with the epoch before this one.
    pub(super) fn all_are_in_this_epoch(&self) -> bool {
        let before = self.epoch.previous();
        self.settings.epochs.as_ref().zip(before).is_none_or(|(epochs, before)| epochs.is_through(before))
    }
}
