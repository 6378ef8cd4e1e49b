//! The windows of all definitions of a job, as those see them who judge events before any window does.
//!
//! The model: an event is read, judged and sent once. It is accepted if any definition takes it, so the greatest allowed lateness
//! decides; which definitions refuse it all the same is worked out for late events alone, and goes with the row. What an event is
//! needed for is what the definition that needs it longest needs it for.

use super::windowing::Windowing;
use crate::event::{DefinitionIndex, DefinitionSet};
use crate::time::{EventTime, Span};
use std::sync::Arc;

/// The windows of a job: at least one definition.
#[derive(Clone, Debug)]
pub struct WindowSet {
    definitions: Arc<[Defined]>,
    lateness: Span,
    lateness_of_all: Span,
    ends_are_known: bool,
}

#[derive(Debug)]
struct Defined {
    name: Option<Arc<str>>,
    windowing: Windowing,
}

impl WindowSet {
    /// Of these definitions with their names, at least one and no more than [`DefinitionIndex::MOST`].
    pub fn new(definitions: impl IntoIterator<Item = (Option<Arc<str>>, Windowing)>) -> Self {
        let defined = |(name, windowing)| Defined { name, windowing };
        let definitions: Arc<[Defined]> = definitions.into_iter().map(defined).collect();
        assert!((1..=DefinitionIndex::MOST).contains(&definitions.len()), "1 to 64 window definitions");
        let lateness = || definitions.iter().map(|defined| defined.windowing.allowed_lateness());
        Self {
            lateness: lateness().max().unwrap_or(Span::ZERO),
            lateness_of_all: lateness().min().unwrap_or(Span::ZERO),
            ends_are_known: definitions.iter().all(|defined| defined.windowing.ends_are_known()),
            definitions,
        }
    }

    /// The one definition of a job that has no others.
    pub fn one(windowing: Windowing) -> Self {
        Self::new([(None, windowing)])
    }

    fn windowings(&self) -> impl Iterator<Item = &Windowing> {
        self.definitions.iter().map(|defined| &defined.windowing)
    }

    /// How far behind its partition's watermark an event may be and still be accepted by some definition.
    #[inline]
    pub fn allowed_lateness(&self) -> Span {
        self.lateness
    }

    /// How far behind its partition's watermark an event may be and still be accepted by every definition.
    #[inline]
    pub fn lateness_of_all(&self) -> Span {
        self.lateness_of_all
    }

    /// See [`Windowing::last_end`]: of the definition that needs the event longest.
    pub fn last_end(&self, time: EventTime) -> EventTime {
        self.windowings().map(|windowing| windowing.last_end(time)).max().unwrap_or(time)
    }

    /// Events before this are needed no longer than one at `time`: [`WindowSet::last_end`] changes here at the earliest.
    pub fn needed_alike_until(&self, time: EventTime) -> EventTime {
        self.windowings().map(|windowing| windowing.needed_alike_until(time)).min().unwrap_or(time)
    }

    /// Whether the end of an event's last window is known from the event, in every definition.
    pub fn ends_are_known(&self) -> bool {
        self.ends_are_known
    }

    /// The frontier at which all windows have fired that an event at `time` is part of, or could be the first of.
    pub fn complete_from(&self, time: EventTime) -> EventTime {
        let complete = |windowing: &Windowing| {
            windowing.last_end(time).max(windowing.slice(time).end).saturating_add(windowing.delay())
        };
        self.windowings().map(complete).max().unwrap_or(time)
    }

    /// The definitions for which an event comes too late: behind the watermark of its partition by more than they allow, or, where
    /// the frontier did not wait for the partition, for windows that are gone at `frontier`.
    pub fn refusing(&self, time: EventTime, watermark: EventTime, frontier: Option<EventTime>) -> DefinitionSet {
        let refuses = |windowing: &Windowing| {
            time < watermark.saturating_sub(windowing.allowed_lateness())
                || frontier.is_some_and(|frontier| windowing.is_closed_at(time, frontier))
        };
        let places = self.windowings().enumerate().filter(|(_, windowing)| refuses(windowing));
        places.map(|(place, _)| DefinitionIndex::of(place)).collect()
    }

    /// Whether these are all definitions there are.
    pub fn are_all(&self, definitions: DefinitionSet) -> bool {
        definitions.iter().count() == self.definitions.len()
    }

    /// The names of these definitions.
    pub fn names(&self, definitions: DefinitionSet) -> Vec<Arc<str>> {
        definitions.iter().filter_map(|definition| self.definitions[definition.0 as usize].name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LatePolicy, WindowConfig, WindowKind};

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn tumbling(size: i64, lateness: i64, late_policy: LatePolicy) -> Windowing {
        let (kind, allowed_lateness) = (WindowKind::tumbling(Span::from_millis(size)), Span::from_millis(lateness));
        Windowing::new(&WindowConfig { allowed_lateness, late_policy, ..WindowConfig::of(kind) }).unwrap()
    }

    fn three() -> WindowSet {
        let gap = WindowKind::session(Span::from_millis(7));
        let sessions = WindowConfig::of(gap);
        WindowSet::new([
            (Some("short".into()), tumbling(10, 5, LatePolicy::Refine)),
            (Some("long".into()), tumbling(100, 20, LatePolicy::FinalOnly)),
            (Some("visits".into()), Windowing::new(&sessions).unwrap()),
        ])
    }

    #[test]
    fn the_most_patient_definition_decides_what_is_read() {
        let set = three();
        assert_eq!((set.allowed_lateness(), set.lateness_of_all()), (Span::from_millis(20), Span::ZERO));
        assert_eq!((set.last_end(at(42)), set.needed_alike_until(at(42))), (at(100), at(49)));
        assert_eq!(set.complete_from(at(42)), at(120));
        assert!(!set.ends_are_known() && WindowSet::one(tumbling(10, 0, LatePolicy::Refine)).ends_are_known());
    }

    #[test]
    fn each_definition_refuses_by_its_own_rule() {
        let set = three();
        let names = |set_of| set.names(set_of).iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(set.refusing(at(95), at(100), None)), ["visits"]);
        assert_eq!(names(set.refusing(at(94), at(100), None)), ["short", "visits"]);
        // The frontier was at 130 when the partition returned: the windows that ended at 100 are kept until 105 and 120.
        let all = set.refusing(at(95), at(90), Some(at(130)));
        assert!(set.are_all(all) && !set.are_all(set.refusing(at(95), at(90), Some(at(110)))));
    }
}
