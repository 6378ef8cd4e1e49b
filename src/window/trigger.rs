//! When a window emits before its end.
//!
//! The model: a window fires when the frontier reaches its end; that cannot be turned off. Triggers make it fire before, as often
//! as they like: each is asked after every event of a window and key, and from time to time ([`ASKED_EVERY`]) while the window is
//! open, and if any says so the window emits what it has so far: an early result, with the next revision. A trigger keeps no
//! state of its own: what it may go by is in the [`OpenWindow`].
//!
//! What a trigger sees depends on the order in which partitions are read and on the wall clock. So early results, and with them the
//! numbers of revisions, differ between two runs over the same input; the last result of a window does not, unless a trigger
//! purges.

use crate::config::TriggerConfig;
use crate::event::GroupingKey;
use crate::sink::TimeWindow;
use crate::time::EventTime;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// How often open windows are looked at when no event comes.
pub const ASKED_EVERY: Duration = Duration::from_millis(50);

/// A window and key that has events and has not fired at its end, as triggers see it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OpenWindow<'a> {
    /// The window's bounds; of a session, as they are now.
    pub window: TimeWindow,
    /// The group.
    pub key: &'a GroupingKey,
    /// Its events so far.
    pub events: u64,
    /// Those that no result has shown yet.
    pub events_since_firing: u64,
    /// The latest of their times.
    pub last_event: EventTime,
    /// Early results so far.
    pub firings: u32,
    /// Time on the wall clock since the last of them, or since the first event where there was none.
    pub since_firing: Duration,
    /// The share of partitions that are past the window's end, 0 to 1. Idle ones and those that have ended count as past.
    pub complete: f64,
    /// That share at the last firing; 0 where there was none.
    pub complete_at_firing: f64,
}

/// Decides when windows emit before their end.
///
/// ```
/// use llm_optimizer_processor::{OpenWindow, WindowTrigger};
///
/// /// The first result at once, the next after 10 events, then after 100, 1,000, ...
/// struct Powers;
///
/// impl WindowTrigger for Powers {
///     fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
///         window.events >= 10u64.saturating_pow(window.firings)
///     }
/// }
/// ```
pub trait WindowTrigger: Send + Sync + 'static {
    /// Whether the window emits now. Asked after each of its events, and some 20 times a second while it is open.
    fn should_fire(&self, window: &OpenWindow<'_>) -> bool;

    /// Whether its content is forgotten now that it has fired, early or at its end: the next result is of later events alone, and
    /// there is none where none come. Asked of every trigger, whichever made it fire.
    ///
    /// Windows that overlap share their content: there a trigger that purges ends the run with an error.
    fn should_purge(&self, window: &OpenWindow<'_>) -> bool {
        let _ = window;
        false
    }
}

/// A result after every so many events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EveryEvents(pub NonZeroU64);

impl WindowTrigger for EveryEvents {
    fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
        window.events_since_firing >= self.0.get()
    }
}

/// A result after so much time on the wall clock, where there are new events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EveryInterval(pub Duration);

impl WindowTrigger for EveryInterval {
    fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
        window.events_since_firing > 0 && window.since_firing >= self.0
    }
}

/// A result when this share of partitions, 0 to 1, is past the window's end; one at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WhenComplete(pub f64);

impl WindowTrigger for WhenComplete {
    fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
        let reached = |complete: f64| complete > 0.0 && complete >= self.0;
        reached(window.complete) && !reached(window.complete_at_firing)
    }
}

/// Any of several triggers.
#[derive(Clone, Default)]
pub struct Triggers(pub Vec<Arc<dyn WindowTrigger>>);

impl Triggers {
    /// Those of a configuration.
    pub fn of(config: &TriggerConfig) -> Self {
        let mut triggers: Vec<Arc<dyn WindowTrigger>> = Vec::new();
        if let Some(events) = config.every_events {
            triggers.push(Arc::new(EveryEvents(events)));
        }
        if let Some(interval) = config.every {
            triggers.push(Arc::new(EveryInterval(interval)));
        }
        if let Some(share) = config.complete {
            triggers.push(Arc::new(WhenComplete(share)));
        }
        Self(triggers)
    }

    /// Whether windows fire at their end alone.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
        self.0.iter().any(|trigger| trigger.should_fire(window))
    }

    pub(super) fn should_purge(&self, window: &OpenWindow<'_>) -> bool {
        self.0.iter().any(|trigger| trigger.should_purge(window))
    }
}

/// How far the partitions of all workers have come.
#[derive(Clone, Debug, Default)]
pub struct Completeness {
    /// Their watermarks, ascending.
    watermarks: Vec<EventTime>,
}

impl Completeness {
    /// Of partitions with these watermarks; [`EventTime::MAX`] for one that is idle or has ended.
    pub fn new(mut watermarks: Vec<EventTime>) -> Self {
        watermarks.sort_unstable();
        Self { watermarks }
    }

    /// The share of partitions that are past this time; 0 where no partition is known.
    pub fn share(&self, end: EventTime) -> f64 {
        if self.watermarks.is_empty() {
            return 0.0;
        }
        let behind = self.watermarks.partition_point(|watermark| *watermark < end);
        (self.watermarks.len() - behind) as f64 / self.watermarks.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(key: &GroupingKey) -> OpenWindow<'_> {
        let at = EventTime::from_millis;
        OpenWindow {
            window: TimeWindow { start: at(0), end: at(10) },
            key,
            events: 7,
            events_since_firing: 3,
            last_event: at(5),
            firings: 1,
            since_firing: Duration::from_secs(2),
            complete: 0.75,
            complete_at_firing: 0.5,
        }
    }

    #[test]
    fn built_in_triggers_go_by_what_is_new() {
        let key = GroupingKey::everything();
        let window = open(&key);
        let events = |n| EveryEvents(NonZeroU64::new(n).unwrap()).should_fire(&window);
        assert!(events(3) && !events(4));
        let after = |seconds, window: &OpenWindow<'_>| EveryInterval(Duration::from_secs(seconds)).should_fire(window);
        assert!(after(2, &window) && !after(3, &window));
        assert!(!after(2, &OpenWindow { events_since_firing: 0, ..window }));
    }

    #[test]
    fn completeness_fires_once_when_it_is_reached() {
        let key = GroupingKey::everything();
        let window = open(&key);
        assert!(WhenComplete(0.75).should_fire(&window) && WhenComplete(0.6).should_fire(&window));
        assert!(!WhenComplete(0.5).should_fire(&window), "it was reached before");
        assert!(!WhenComplete(0.8).should_fire(&window));
        let (complete, complete_at_firing) = (0.0, 0.0);
        assert!(!WhenComplete(0.0).should_fire(&OpenWindow { complete, complete_at_firing, ..window }));
        assert!(WhenComplete(0.0).should_fire(&OpenWindow { complete_at_firing, ..window }));
    }

    #[test]
    fn the_share_is_of_partitions_past_the_end() {
        let at = EventTime::from_millis;
        let completeness = Completeness::new(vec![EventTime::MAX, at(10), at(9), EventTime::MIN]);
        assert_eq!((completeness.share(at(10)), completeness.share(at(9))), (0.5, 0.75));
        assert_eq!(Completeness::default().share(at(0)), 0.0);
    }
}
