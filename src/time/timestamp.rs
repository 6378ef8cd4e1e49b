//! The dataflow's timestamp: a product of epoch and event time.

use super::EventTime;
use differential_dataflow::lattice::Lattice;
use serde::{Deserialize, Serialize};
use timely::PartialOrder;
use timely::progress::timestamp::{PathSummary, Refines, Timestamp};

/// The number of a checkpoint interval: the events of epoch n are those between the cuts of checkpoints n - 1 and n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch in which a job begins that has no checkpoint.
    pub const FIRST: Epoch = Epoch(0);

    /// From its number.
    pub const fn new(number: u64) -> Self {
        Epoch(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one before it; `None` of the first.
    pub const fn previous(self) -> Option<Self> {
        match self.0 {
            0 => None,
            number => Some(Epoch(number - 1)),
        }
    }

    /// The one after it.
    pub const fn next(self) -> Self {
        Epoch(self.0 + 1)
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// When a message is in the dataflow: no earlier than this epoch and this event time.
///
/// `a <= b` only where both coordinates are: the order is partial. The `Ord` instance is the lexicographic one that timely's
/// internal sorting wants; it extends the partial order and means nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Time {
    epoch: u64,
    event_time: u64,
}

impl Time {
    /// The time of `event_time` in `epoch`.
    #[inline]
    pub const fn new(epoch: Epoch, event_time: EventTime) -> Self {
        Time { epoch: epoch.0, event_time: event_time.to_ordered() }
    }

    /// The epoch coordinate.
    #[inline]
    pub const fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// The same event time in another epoch.
    #[inline]
    pub const fn in_epoch(&self, epoch: Epoch) -> Self {
        Time { epoch: epoch.0, event_time: self.event_time }
    }

    /// The event-time coordinate: the watermark.
    #[inline]
    pub const fn event_time(&self) -> EventTime {
        EventTime::from_ordered(self.event_time)
    }
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({}, {})", self.epoch, self.event_time())
    }
}

impl PartialOrder for Time {
    #[inline]
    fn less_equal(&self, other: &Self) -> bool {
        self.epoch <= other.epoch && self.event_time <= other.event_time
    }
}

/// How much a path through the dataflow adds to each coordinate. No path of ours adds anything but the identity; timely needs
/// the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct TimeSummary {
    epoch: u64,
    event_time: u64,
}

impl PartialOrder for TimeSummary {
    #[inline]
    fn less_equal(&self, other: &Self) -> bool {
        self.epoch <= other.epoch && self.event_time <= other.event_time
    }
}

impl PathSummary<Time> for TimeSummary {
    #[inline]
    fn results_in(&self, time: &Time) -> Option<Time> {
        Some(Time {
            epoch: time.epoch.checked_add(self.epoch)?,
            event_time: time.event_time.checked_add(self.event_time)?,
        })
    }

    #[inline]
    fn followed_by(&self, other: &Self) -> Option<Self> {
        Some(TimeSummary {
            epoch: self.epoch.checked_add(other.epoch)?,
            event_time: self.event_time.checked_add(other.event_time)?,
        })
    }
}

impl Timestamp for Time {
    type Summary = TimeSummary;

    fn minimum() -> Self {
        Time { epoch: 0, event_time: 0 }
    }
}

/// Coordinate by coordinate, as the order is.
impl Lattice for Time {
    #[inline]
    fn join(&self, other: &Self) -> Self {
        Time { epoch: self.epoch.max(other.epoch), event_time: self.event_time.max(other.event_time) }
    }

    #[inline]
    fn meet(&self, other: &Self) -> Self {
        Time { epoch: self.epoch.min(other.epoch), event_time: self.event_time.min(other.event_time) }
    }
}

impl Refines<()> for Time {
    fn to_inner(_: ()) -> Self {
        Time::minimum()
    }
    fn to_outer(self) {}
    fn summarize(_: TimeSummary) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ordered_as_a_product() {
        let time = |epoch, millis| Time::new(Epoch::new(epoch), EventTime::from_millis(millis));
        assert!(time(1, 5).less_equal(&time(1, 5)));
        assert!(time(1, 5).less_equal(&time(2, 5)));
        assert!(!time(2, 5).less_equal(&time(1, 9)));
        assert!(!time(1, 9).less_equal(&time(2, 5)));
        assert_eq!(Time::minimum(), Time::new(Epoch::FIRST, EventTime::MIN));
    }

    #[test]
    fn the_total_order_extends_the_partial_one() {
        let times: Vec<Time> =
            (0..4).flat_map(|e| [-3, 0, 7].map(|t| Time::new(Epoch::new(e), EventTime::from_millis(t)))).collect();
        for a in &times {
            for b in &times {
                assert!(!a.less_equal(b) || a <= b, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn join_and_meet_are_the_least_upper_and_the_greatest_lower_bound() {
        let times: Vec<Time> =
            (0..4).flat_map(|e| [-3, 0, 7].map(|t| Time::new(Epoch::new(e), EventTime::from_millis(t)))).collect();
        for (a, b) in times.iter().flat_map(|a| times.iter().map(move |b| (a, b))) {
            for c in &times {
                assert_eq!(a.join(b).less_equal(c), a.less_equal(c) && b.less_equal(c), "{a:?} {b:?} {c:?}");
                assert_eq!(c.less_equal(&a.meet(b)), c.less_equal(a) && c.less_equal(b), "{a:?} {b:?} {c:?}");
            }
        }
    }

    #[test]
    fn the_identity_summary_changes_nothing() {
        let time = Time::new(Epoch::new(3), EventTime::from_millis(-5));
        assert_eq!(TimeSummary::default().results_in(&time), Some(time));
        assert_eq!(TimeSummary { epoch: u64::MAX, event_time: 0 }.results_in(&time), None);
    }
}
