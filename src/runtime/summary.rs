//! What a run came to.

use crate::event::Reason;
use crate::sink::HubSummary;
use crate::source::Losses;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a run came to, over the workers of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Events that made it into a window.
    pub events: u64,
    /// Events among them that were late and accepted.
    pub late: u64,
    /// Events that the filter left out.
    pub filtered: u64,
    /// Records without a value.
    pub tombstones: u64,
    /// Records read again whose windows an earlier run had completed.
    pub replayed: u64,
    /// Records that made it into no window, by reason.
    pub dropped: BTreeMap<Reason, u64>,
    /// How often an event came too late for one of the window definitions while others took it.
    pub refused: u64,
    /// Windows that fired, counted per key.
    pub windows: u64,
    /// Results before a window's end, because a trigger asked for them.
    pub early: u64,
    /// Results that refined another.
    pub refined: u64,
    /// Results that were taken back, because their session became another.
    pub retracted: u64,
    /// Events among [`Summary::events`] that fell between two windows, where the slide is longer than the size.
    pub in_no_window: u64,
    /// Windows that were still open at the end, counted per key: their results were not written.
    pub open: u64,
    /// Whether the last checkpoint holds them, so that the next start goes on with them.
    pub open_are_kept: bool,
    /// Partitions that could not go on from the checkpoint's cuts, where that was accepted.
    pub lost_partitions: u64,
    /// Records that were lost with them, as far as their number is known.
    pub lost_records: u64,
    /// Results that the sinks took.
    pub results: u64,
    /// From start to end.
    pub elapsed: Duration,
}

impl Summary {
    /// Adds what another worker did.
    pub(super) fn add(&mut self, other: &Summary) {
        self.events += other.events;
        self.late += other.late;
        self.filtered += other.filtered;
        self.tombstones += other.tombstones;
        self.replayed += other.replayed;
        self.refused += other.refused;
        self.windows += other.windows;
        self.early += other.early;
        self.refined += other.refined;
        self.retracted += other.retracted;
        self.in_no_window += other.in_no_window;
        self.open += other.open;
        self.open_are_kept |= other.open_are_kept;
        for (reason, count) in &other.dropped {
            *self.dropped.entry(*reason).or_default() += count;
        }
    }

    /// Adds what another process did.
    pub(super) fn add_process(&mut self, other: &Summary) {
        self.add(other);
        self.lost_partitions += other.lost_partitions;
        self.lost_records += other.lost_records;
        self.results += other.results;
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    /// Takes note of what was passed over at the start, by the workers of this process.
    pub fn note_losses(&mut self, losses: &Losses) {
        (self.lost_partitions, self.lost_records) = (losses.partitions(), losses.records());
    }

    pub(super) fn note_sinks(&mut self, sinks: &HubSummary) {
        self.results = sinks.rows;
    }

    /// Records that time ruled out.
    pub fn dropped_late(&self) -> u64 {
        self.dropped_where(|reason| reason.is_about_time())
    }

    /// Records that could not be read.
    pub fn bad(&self) -> u64 {
        self.dropped_where(|reason| !reason.is_about_time())
    }

    fn dropped_where(&self, which: impl Fn(Reason) -> bool) -> u64 {
        self.dropped.iter().filter(|(reason, _)| which(**reason)).map(|(_, count)| count).sum()
    }

    /// Events of every kind a second.
    pub fn rate(&self) -> f64 {
        let records = self.events + self.filtered + self.tombstones + self.dropped.values().sum::<u64>();
        records as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// One line for the counts, and one more where something was left out.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} windows ({} refined), {} late accepted, {} late dropped, {} bad, {:.1} s, {:.0} records/s",
            self.events,
            self.windows,
            self.refined,
            self.late,
            self.dropped_late(),
            self.bad(),
            self.elapsed.as_secs_f64(),
            self.rate(),
        )?;
        let reasons: Vec<String> = self.dropped.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        if !reasons.is_empty() {
            write!(f, "\nin no window: {}", reasons.join(", "))?;
        }
        let others = [
            (self.filtered, "filtered"),
            (self.tombstones, "tombstones"),
            (self.replayed, "read again"),
            (self.early, "early results"),
            (self.refused, "too late for some window definitions"),
            (self.in_no_window, "between two windows"),
            (self.retracted, "results taken back"),
            (self.lost_partitions, "partitions that lost records before the start"),
            (self.lost_records, "records known to be lost"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "\n{what}: {count}")?;
        }
        match self.open {
            0 => Ok(()),
            1 if self.open_are_kept => write!(f, "\n1 window is still open; the last checkpoint holds it"),
            open if self.open_are_kept => write!(f, "\n{open} windows are still open; the last checkpoint holds them"),
            1 => write!(f, "\n1 window was still open; its result was not written"),
            open => write!(f, "\n{open} windows were still open; their results were not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_people_want_it() {
        let mut summary =
            Summary { events: 10, windows: 3, late: 1, elapsed: Duration::from_secs(2), ..Summary::default() };
        let other =
            Summary { dropped: [(Reason::Late, 2), (Reason::Malformed, 1)].into(), open: 4, ..Summary::default() };
        summary.add(&other);
        assert_eq!(
            summary.to_string(),
            "10 events, 3 windows (0 refined), 1 late accepted, 2 late dropped, 1 bad, 2.0 s, 6 records/s\n\
             in no window: late: 2, malformed: 1\n\
             4 windows were still open; their results were not written"
        );
        summary.open_are_kept = true;
        assert!(
            summary.to_string().ends_with("\n4 windows are still open; the last checkpoint holds them"),
            "{summary}"
        );
    }
}
