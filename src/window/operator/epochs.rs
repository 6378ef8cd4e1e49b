//! The window operator and epochs: it freezes the windows when an epoch has ended, encodes the snapshot a bit each turn while new
//! rows come in, and lets go of what is stored when memory is short.
//!
//! How it fails: a snapshot that cannot be encoded, and state that cannot be read back, end the run with the reason.

use super::{WindowOperator, Writing};
use crate::time::{EventTime, Time};
use crate::window::WindowState;
use std::time::{Duration, Instant};
use timely::progress::frontier::MutableAntichain;

/// Bytes of a snapshot that are handed over at once, and of which no turn encodes more. The more of it is done in the order of memory,
/// the less is left for rows to find, one here and one there.
const SNAPSHOT_PORTION: usize = 512 * 1024;
/// No more is begun in a turn after this time. It is what keeps a turn short when memory is slow, as it can be for a tenth of a
/// second while the database merges files.
const SNAPSHOT_TIME_PER_TURN: Duration = Duration::from_millis(1);
/// Bytes that are encoded between two looks at the clock.
const SNAPSHOT_BYTES_AT_ONCE: usize = 16 * 1024;
/// What a turn may have beyond a portion: entries that rows have found since the turn before, and the last that is encoded.
const ROOM_FOR_LAST_TURN: usize = 256 * 1024;

impl WindowOperator {
    /// Freezes the windows, if their epoch has ended: nothing of it can come any more, and nothing is due.
    pub(super) fn end_epoch(&mut self, frontier: &MutableAntichain<Time>) {
        let event_time = self.frontier_of_windows(frontier);
        // Whoever looks at event times alone is not held up.
        if let Some(holds) = &mut self.holds_epoch
            && event_time > holds.time().event_time()
            // At the end of the input too: what was fired last is complete when nothing is due any more.
            && (event_time < EventTime::MAX || self.states.iter_mut().all(|state| state.next_due(event_time).is_none()))
        {
            holds.downgrade(&Time::new(holds.time().epoch(), event_time));
        }
        if !self.settings.epochs.as_ref().is_some_and(|epochs| epochs.ends(self.epoch)) {
            return;
        }
        let may_come = frontier.frontier().iter().any(|time| time.epoch() <= self.epoch);
        let busy =
            self.writing.is_some() || !self.stash.iter().all(|stashed| stashed.results.time().epoch() > self.epoch);
        if may_come || busy || self.settings.control.has_failed() {
            return;
        }
        let is_last = frontier.frontier().is_empty() && self.stash.is_empty();
        if self.states.iter_mut().any(|state| state.next_due(event_time).is_some()) {
            // The sinks are behind: it fires when they are not.
            return;
        }
        tracing::trace!(target: "checkpoint", "windows are frozen at the end of epoch {}, at {event_time}", self.epoch);
        self.states.iter_mut().for_each(WindowState::begin_snapshot);
        self.settings.epochs.iter().for_each(|epochs| epochs.windows_are_written(true));
        self.writing =
            Some(Writing { epoch: self.epoch, frontier: (!is_last).then_some(event_time), place: 0, changes: None });
        self.epoch = self.epoch.next();
        let epoch = self.epoch;
        let holds = self.holds_epoch.iter_mut().chain(self.held.values_mut());
        holds.for_each(|capability| capability.downgrade(&capability.time().in_epoch(epoch)));
        self.activator.activate();
    }

    /// Encodes some of what is frozen, and hands it over when there is enough of it.
    pub(super) fn write_snapshot(&mut self) {
        let (Some(writing), Some(epochs)) = (&mut self.writing, &self.settings.epochs) else { return };
        let changes = writing.changes.get_or_insert_with(|| epochs.room(SNAPSHOT_PORTION + ROOM_FOR_LAST_TURN));
        let begun = Instant::now();
        while let Some(state) = self.states.get_mut(writing.place)
            && changes.bytes() < SNAPSHOT_PORTION
            && begun.elapsed() < SNAPSHOT_TIME_PER_TURN
        {
            match state.write_snapshot(changes, SNAPSHOT_BYTES_AT_ONCE) {
                Ok(true) => writing.place += 1,
                Ok(false) => {}
                Err(error) => return self.settings.control.fail(error),
            }
        }
        let is_done = writing.place == self.states.len();
        if is_done || changes.bytes() >= SNAPSHOT_PORTION {
            writing.changes.take().into_iter().for_each(|changes| epochs.window_changes(changes));
        }
        if !is_done {
            return self.activator.activate();
        }
        epochs.windows_are_written(false);
        epochs.windows_done(writing.epoch, writing.frontier);
        self.unstored = Some(writing.epoch);
        self.writing = None;
    }

    /// Lets go of what can be read back, and asks for a checkpoint where more has changed than memory may hold.
    pub(super) fn look_after_memory(&mut self) {
        if self.has_lost_state() {
            return;
        }
        let Some(epochs) = &self.settings.epochs else { return };
        if self.unstored.take_if(|epoch| epochs.stored().is_some_and(|stored| stored >= *epoch)).is_some() {
            self.states.iter_mut().for_each(WindowState::snapshot_stored);
        }
        // Each is asked: a state lets go of what it can when it is.
        let mut wanted = false;
        for state in &mut self.states {
            wanted |= state.wants_snapshot();
        }
        if wanted && !std::mem::replace(&mut self.has_asked, wanted) {
            epochs.say_wanted();
        }
        self.has_asked = wanted;
    }

    /// Whether the run must end, be it because a part of the state could not be read back: no result of it may reach a sink.
    pub(super) fn has_lost_state(&mut self) -> bool {
        let lost = self.states.iter_mut().find_map(WindowState::take_error);
        lost.into_iter().for_each(|error| self.settings.control.fail(error));
        self.settings.control.has_failed()
    }
}
