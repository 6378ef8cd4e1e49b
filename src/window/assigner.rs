//! Which windows an event is in.

use crate::config::{WindowConfig, WindowKind};
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::TimeWindow;
use crate::time::{EventTime, Span};
use std::time::Duration;

/// Fixed windows that do not overlap: `window_start = (event_timestamp / window_size) * window_size`, rounding towards the
/// past, also before 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TumblingWindowAssigner {
    size: Span,
}

impl TumblingWindowAssigner {
    /// Windows of `size`, which is at least a millisecond (shorter counts as one).
    pub fn new(size: Duration) -> Self {
        Self::of_span(size.into())
    }

    fn of_span(size: Span) -> Self {
        Self { size: Span::from_millis(size.as_millis().max(1)) }
    }

    /// The length of a window.
    pub fn size(&self) -> Span {
        self.size
    }

    /// The window of an event. At the ends of time its bounds are cut to what can be said.
    #[inline]
    pub fn assign(&self, time: EventTime) -> TimeWindow {
        let size = self.size.as_millis();
        let into = time.as_millis().rem_euclid(size);
        let start = time.saturating_sub(Span::from_millis(into));
        TimeWindow { start, end: time.saturating_add(Span::from_millis(size - into)) }
    }
}

/// Fixed windows that overlap: every `[n * slide, n * slide + size)` that holds the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindowAssigner {
    size: Span,
    slide: Span,
}

impl SlidingWindowAssigner {
    /// Windows of `size`, one every `slide`; each at least a millisecond (shorter counts as one).
    pub fn new(size: Duration, slide: Duration) -> Self {
        let at_least_one = |span: Duration| Span::from_millis(Span::from(span).as_millis().max(1));
        Self { size: at_least_one(size), slide: at_least_one(slide) }
    }

    /// The length of a window.
    pub fn size(&self) -> Span {
        self.size
    }

    /// The distance between the starts of two windows.
    pub fn slide(&self) -> Span {
        self.slide
    }

    /// The windows of an event, the earliest first; none where the slide is longer than the size and the event falls between.
    pub fn assign(&self, time: EventTime) -> Vec<TimeWindow> {
        let (size, slide) = (i128::from(self.size.as_millis()), i128::from(self.slide.as_millis()));
        let time = i128::from(time.as_millis());
        let last = time.div_euclid(slide);
        let first = (time - size).div_euclid(slide) + 1;
        let clamp = |millis: i128| {
            EventTime::from_millis(millis.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
        };
        (first..=last).map(|n| TimeWindow { start: clamp(n * slide), end: clamp(n * slide + size) }).collect()
    }
}

/// Windows of activity: events of a key that are less than `gap` apart are in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionWindowAssigner {
    gap: Span,
}

impl SessionWindowAssigner {
    /// Sessions that end after a silence of `gap`, at least a millisecond (shorter counts as one).
    pub fn new(gap: Duration) -> Self {
        Self { gap: Span::from_millis(Span::from(gap).as_millis().max(1)) }
    }

    /// The silence that ends a session.
    pub fn gap(&self) -> Span {
        self.gap
    }

    /// The session that an event makes by itself, before it is merged with those it touches.
    pub fn assign(&self, time: EventTime) -> TimeWindow {
        TimeWindow { start: time, end: time.saturating_add(self.gap) }
    }
}

/// The windows of a job, as its operators need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windowing {
    slices: TumblingWindowAssigner,
    allowed_lateness: Span,
}

impl Windowing {
    /// From the configuration. Fails for kinds that this version does not run.
    pub fn new(config: &WindowConfig) -> ProcessorResult<Self> {
        let slices = match config.kind {
            WindowKind::Tumbling { size } => TumblingWindowAssigner::of_span(size),
            WindowKind::Sliding { .. } => return Err(unsupported("sliding")),
            WindowKind::Session { .. } => return Err(unsupported("session")),
        };
        Ok(Self { slices, allowed_lateness: config.allowed_lateness })
    }

    /// The slice of an event. For tumbling windows it is the window.
    #[inline]
    pub fn slice(&self, time: EventTime) -> TimeWindow {
        self.slices.assign(time)
    }

    /// The end of the last window that an event is in.
    pub fn last_end(&self, time: EventTime) -> EventTime {
        self.slice(time).end
    }

    /// How long after its end a window is kept for late events.
    pub fn allowed_lateness(&self) -> Span {
        self.allowed_lateness
    }

    /// Whether every window of an event at `time` is forgotten when the frontier is at `frontier`.
    pub fn is_closed_at(&self, time: EventTime, frontier: EventTime) -> bool {
        self.last_end(time).saturating_add(self.allowed_lateness) <= frontier
    }
}

fn unsupported(kind: &str) -> ProcessorError {
    ProcessorError::Unsupported(format!(
        "windows of type `{kind}`: this version runs tumbling windows; set windows.default_type to `tumbling`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn window(start: i64, end: i64) -> TimeWindow {
        TimeWindow { start: at(start), end: at(end) }
    }

    #[test]
    fn tumbling_windows_before_and_after_1970() {
        let assigner = TumblingWindowAssigner::new(Duration::from_secs(10));
        assert_eq!(assigner.assign(at(0)), window(0, 10_000));
        assert_eq!(assigner.assign(at(9_999)), window(0, 10_000));
        assert_eq!(assigner.assign(at(10_000)), window(10_000, 20_000));
        assert_eq!(assigner.assign(at(-1)), window(-10_000, 0));
        assert_eq!(assigner.assign(at(-10_000)), window(-10_000, 0));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let assigner = TumblingWindowAssigner::new(Duration::from_secs(10));
        assert_eq!(assigner.assign(EventTime::MAX).end, EventTime::MAX);
        assert_eq!(assigner.assign(EventTime::MIN).start, EventTime::MIN);
        let sliding = SlidingWindowAssigner::new(Duration::from_secs(10), Duration::from_secs(5));
        assert_eq!(sliding.assign(EventTime::MAX).last().map(|w| w.end), Some(EventTime::MAX));
        assert_eq!(sliding.assign(EventTime::MIN).first().map(|w| w.start), Some(EventTime::MIN));
    }

    #[test]
    fn sliding_windows_that_are_no_multiple_of_the_slide() {
        let sliding = SlidingWindowAssigner::new(Duration::from_millis(10), Duration::from_millis(4));
        assert_eq!(sliding.assign(at(9)), vec![window(0, 10), window(4, 14), window(8, 18)]);
        assert_eq!(sliding.assign(at(-1)), vec![window(-8, 2), window(-4, 6)]);
        let gaps = SlidingWindowAssigner::new(Duration::from_millis(2), Duration::from_millis(5));
        assert_eq!(gaps.assign(at(1)), vec![window(0, 2)]);
        assert!(gaps.assign(at(3)).is_empty());
    }

    #[test]
    fn a_session_begins_with_its_event() {
        assert_eq!(SessionWindowAssigner::new(Duration::from_millis(5)).assign(at(3)), window(3, 8));
    }

    proptest! {
        #[test]
        fn a_tumbling_window_holds_its_event(time in -1_000_000_000_000i64..4_000_000_000_000, size in 1u64..100_000_000) {
            let found = TumblingWindowAssigner::new(Duration::from_millis(size)).assign(at(time));
            prop_assert!(found.start <= at(time) && at(time) < found.end);
            prop_assert_eq!(found.end.since(found.start).as_millis(), size as i64);
            prop_assert_eq!(found.start.as_millis().rem_euclid(size as i64), 0);
        }

        #[test]
        fn sliding_windows_are_those_of_the_definition(time in -2000i64..2000, size in 1i64..60, slide in 1i64..60) {
            let assigner =
                SlidingWindowAssigner::new(Duration::from_millis(size as u64), Duration::from_millis(slide as u64));
            let expected: Vec<TimeWindow> = (-3000..3000)
                .filter(|start| start % slide == 0 && *start <= time && time < start + size)
                .map(|start| window(start, start + size))
                .collect();
            prop_assert_eq!(assigner.assign(at(time)), expected);
        }
    }
}
