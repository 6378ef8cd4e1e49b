//! The windows of a job, as the operators need them.
//!
//! The model: tumbling and sliding windows are one thing. Time is cut into slices; each window is a run of slices, so that an
//! event updates one accumulator whatever the number of its windows. A slice of tumbling windows is the window; that of sliding
//! ones is the greatest common divisor of size and slide long, so that every window begins and ends between two slices.
//! Sessions have no slices.

use super::assigner::{Grid, SessionWindowAssigner, SlidingWindowAssigner};
use super::calendar::Calendar;
use crate::config::{LatePolicy, WindowConfig, WindowKind};
use crate::error::ProcessorResult;
use crate::sink::TimeWindow;
use crate::time::{EventTime, Span};

/// Windows with their rules of lateness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windowing {
    shape: Shape,
    lateness: Span,
    /// How much later than at its end a window fires.
    delay: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Sliced(Slicing),
    Sessions(SessionWindowAssigner),
}

/// Slices, and the windows made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slicing {
    grid: Grid,
    /// `None` where each slice is a window.
    sliding: Option<SlidingWindowAssigner>,
}

/// The windows that a slice is part of: the ends of the first and the last; those between follow each other by the slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub first: EventTime,
    pub last: EventTime,
}

impl Windowing {
    /// From the configuration. Fails for sizes that a time zone does not allow.
    pub fn new(config: &WindowConfig) -> ProcessorResult<Self> {
        let shape = match config.kind {
            WindowKind::Tumbling { size, offset, time_zone } => {
                let grid = match time_zone {
                    None => Grid::fixed(size, offset),
                    Some(zone) => Grid::Calendar(Calendar::new(size, zone)?.with_offset(offset)),
                };
                Shape::Sliced(Slicing { grid, sliding: None })
            }
            WindowKind::Sliding { size, slide, offset } => Shape::Sliced(Slicing::sliding(size, slide, offset)),
            WindowKind::Session { gap, max_length } => {
                Shape::Sessions(SessionWindowAssigner::of_spans(gap, max_length))
            }
        };
        let (lateness, delay) = match config.late_policy {
            LatePolicy::Refine => (config.allowed_lateness, Span::ZERO),
            LatePolicy::FinalOnly => (config.allowed_lateness, config.allowed_lateness),
            LatePolicy::Drop => (Span::ZERO, Span::ZERO),
        };
        Ok(Self { shape, lateness, delay })
    }

    /// How far behind its partition's watermark an event may be and still be accepted.
    #[inline]
    pub fn allowed_lateness(&self) -> Span {
        self.lateness
    }

    /// How long a window is kept after it has fired.
    pub(super) fn kept_after_firing(&self) -> Span {
        Span::from_millis(self.lateness.as_millis() - self.delay.as_millis())
    }

    /// How much later than at its end a window fires.
    pub fn delay(&self) -> Span {
        self.delay
    }

    /// The slice of an event; of sessions, which have none, the session that the event would make alone.
    #[inline]
    pub fn slice(&self, time: EventTime) -> TimeWindow {
        match &self.shape {
            Shape::Sliced(slicing) => slicing.grid.cell(time),
            Shape::Sessions(sessions) => sessions.assign(time),
        }
    }

    /// Whether all slices are of one length; there are some.
    pub(super) fn slices_are_alike(&self) -> bool {
        matches!(&self.shape, Shape::Sliced(Slicing { grid: Grid::Fixed { .. }, .. }))
    }

    /// How long an event at `time` is needed at least: to the end of its last window. Where that cannot be known from the event
    /// (a session may grow) it is hardly more than the event's own time (rounded up to a multiple of the gap, so that few different
    /// ends have to be kept track of), and whoever asks must know of open windows by other means.
    pub fn last_end(&self, time: EventTime) -> EventTime {
        match &self.shape {
            Shape::Sliced(slicing) => {
                let slice = slicing.grid.cell(time);
                slicing.ends(slice).map_or(slice.end, |ends| ends.last)
            }
            Shape::Sessions(sessions) => Grid::fixed(sessions.gap(), Span::ZERO).cell(time).end,
        }
    }

    /// Events before this are needed no longer than one at `time`: [`Windowing::last_end`] changes here. That is the end of the
    /// slice, which for windows that overlap is long before the end of the last window.
    pub fn needed_alike_until(&self, time: EventTime) -> EventTime {
        match &self.shape {
            Shape::Sliced(slicing) => slicing.grid.cell(time).end,
            Shape::Sessions(_) => self.last_end(time),
        }
    }

    /// Whether the end of an event's last window is known from the event.
    pub fn ends_are_known(&self) -> bool {
        matches!(self.shape, Shape::Sliced(_))
    }

    /// Whether an event at `time` comes too late for every window when the frontier is at `frontier`.
    pub fn is_closed_at(&self, time: EventTime, frontier: EventTime) -> bool {
        match &self.shape {
            Shape::Sliced(_) => self.last_end(time).saturating_add(self.lateness) <= frontier,
            Shape::Sessions(_) => time.saturating_add(self.lateness) < frontier,
        }
    }

    /// Whether a row that was behind this watermark waits until the frontier has passed it: where the first of its windows had
    /// ended, and a late row of sessions always, as it may change what has fired.
    pub(super) fn waits(&self, time: EventTime, watermark: EventTime) -> bool {
        match &self.shape {
            Shape::Sliced(slicing) => {
                slicing.first_end(slicing.grid.cell(time)).is_some_and(|first_end| first_end <= watermark)
            }
            Shape::Sessions(_) => time < watermark,
        }
    }

    pub(super) fn slicing(&self) -> Option<&Slicing> {
        match &self.shape {
            Shape::Sliced(slicing) => Some(slicing),
            Shape::Sessions(_) => None,
        }
    }

    pub(super) fn sessions(&self) -> Option<SessionWindowAssigner> {
        match self.shape {
            Shape::Sliced(_) => None,
            Shape::Sessions(sessions) => Some(sessions),
        }
    }
}

impl Slicing {
    fn sliding(size: Span, slide: Span, offset: Span) -> Self {
        let windows = SlidingWindowAssigner::of_spans(size, slide, offset);
        let slice = Span::from_millis(gcd(windows.size().as_millis(), windows.slide().as_millis()));
        let sliding = (windows.size() != windows.slide()).then_some(windows);
        Self { grid: Grid::fixed(slice, windows.offset()), sliding }
    }

    /// Windows of several slices, or with gaps between them; `None` where each slice is a window.
    pub(super) fn windows(&self) -> Option<SlidingWindowAssigner> {
        self.sliding
    }

    /// The windows that a slice is part of; `None` where it is in a gap between windows.
    pub(super) fn ends(&self, slice: TimeWindow) -> Option<Ends> {
        let Some(windows) = &self.sliding else { return Some(Ends { first: slice.end, last: slice.end }) };
        let (first, last) = windows.numbers(slice.start).into_inner();
        (first <= last).then(|| Ends { first: windows.window(first).end, last: windows.window(last).end })
    }

    /// The end of the first window that a slice is part of.
    #[inline]
    pub(super) fn first_end(&self, slice: TimeWindow) -> Option<EventTime> {
        match &self.sliding {
            None => Some(slice.end),
            Some(_) => self.ends(slice).map(|ends| ends.first),
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn millis(millis: i64) -> Span {
        Span::from_millis(millis)
    }

    fn windowing(kind: WindowKind, lateness: i64, late_policy: LatePolicy) -> Windowing {
        let config = WindowConfig { allowed_lateness: millis(lateness), late_policy, ..WindowConfig::of(kind) };
        Windowing::new(&config).unwrap()
    }

    #[test]
    fn policies_decide_who_is_accepted_and_when_windows_fire() {
        let of = |policy| {
            let windowing = windowing(WindowKind::tumbling(millis(10)), 5, policy);
            (windowing.allowed_lateness(), windowing.delay(), windowing.kept_after_firing())
        };
        assert_eq!(of(LatePolicy::Refine), (millis(5), millis(0), millis(5)));
        assert_eq!(of(LatePolicy::FinalOnly), (millis(5), millis(5), millis(0)));
        assert_eq!(of(LatePolicy::Drop), (millis(0), millis(0), millis(0)));
    }

    #[test]
    fn a_session_may_take_what_is_not_behind_the_lateness() {
        let sessions = windowing(WindowKind::Session { gap: millis(10), max_length: None }, 5, LatePolicy::Refine);
        assert!(!sessions.is_closed_at(at(95), at(100)));
        assert!(sessions.is_closed_at(at(94), at(100)));
        assert_eq!((sessions.last_end(at(7)), sessions.needed_alike_until(at(7))), (at(10), at(10)));
        assert!(!sessions.ends_are_known());
    }

    #[test]
    fn windows_of_one_slice_are_tumbling_windows() {
        let kind = WindowKind::Sliding { size: millis(10), slide: millis(10), offset: millis(3) };
        let windowing = windowing(kind, 0, LatePolicy::Refine);
        assert_eq!(windowing.slicing().unwrap().windows(), None);
        assert_eq!(windowing.slice(at(2)), TimeWindow { start: at(-7), end: at(3) });
        assert_eq!(windowing.last_end(at(2)), at(3));
    }

    proptest! {
        #[test]
        fn every_window_is_a_run_of_slices(
            time in -1000i64..1000, size in 1i64..40, slide in 1i64..40, offset in 0i64..50
        ) {
            let kind = WindowKind::Sliding { size: millis(size), slide: millis(slide), offset: millis(offset) };
            let windowing = windowing(kind, 0, LatePolicy::Refine);
            let slicing = windowing.slicing().unwrap();
            let slice = windowing.slice(at(time));
            let windows = SlidingWindowAssigner::of_spans(millis(size), millis(slide), millis(offset));
            let expected = windows.assign(at(time));
            // All times of a slice are in the same windows.
            for other in slice.start.as_millis()..slice.end.as_millis() {
                prop_assert_eq!(&windows.assign(at(other)), &expected);
            }
            let ends = expected.first().zip(expected.last()).map(|(first, last)| Ends { first: first.end, last: last.end });
            prop_assert_eq!(slicing.ends(slice), ends);
            prop_assert_eq!(slicing.first_end(slice), ends.map(|ends| ends.first));
            let alike = windowing.needed_alike_until(at(time));
            prop_assert_eq!(windowing.last_end(at(alike.as_millis() - 1)), windowing.last_end(at(time)));
            prop_assert_eq!(windowing.last_end(at(time)), ends.map_or(slice.end, |ends| ends.last));
        }
    }
}
