//! Which windows an event is in, as the definitions say it: for programs that ask, and for tests of what the operators do.
//!
//! All times are milliseconds; windows hold their start and not their end. Rounding is towards the past, also before 1970. At
//! the ends of time a window's bounds are cut to what can be said.

use super::calendar::Calendar;
use crate::error::ProcessorResult;
use crate::sink::TimeWindow;
use crate::time::{EventTime, Span};
use std::time::Duration;

/// Fixed windows that do not overlap: `window_start = (event_timestamp / window_size) * window_size`, shifted by the offset;
/// or the days or hours of a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TumblingWindowAssigner {
    grid: Grid,
}

/// The cells into which time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// Of one size; one begins at each `offset + n * size`.
    Fixed { size: Span, offset: Span },
    /// By the clocks of a time zone.
    Calendar(Calendar),
}

impl Grid {
    /// Cells of `size`, at least a millisecond.
    pub(super) fn fixed(size: Span, offset: Span) -> Self {
        let size = at_least_one(size);
        Grid::Fixed { size, offset: Span::from_millis(offset.as_millis() % size.as_millis()) }
    }

    /// The cell of a time.
    #[inline]
    pub(super) fn cell(&self, time: EventTime) -> TimeWindow {
        match self {
            Grid::Fixed { size, offset } => {
                let (size, offset) = (size.as_millis(), offset.as_millis());
                // Both terms are below the size: nothing overflows.
                let into = (time.as_millis().rem_euclid(size) - offset).rem_euclid(size);
                let start = time.saturating_sub(Span::from_millis(into));
                TimeWindow { start, end: time.saturating_add(Span::from_millis(size - into)) }
            }
            Grid::Calendar(calendar) => calendar.window(time),
        }
    }
}

impl TumblingWindowAssigner {
    /// Windows of `size`, which is at least a millisecond (shorter counts as one).
    pub fn new(size: Duration) -> Self {
        Self::of_grid(Grid::fixed(size.into(), Span::ZERO))
    }

    pub(super) fn of_grid(grid: Grid) -> Self {
        Self { grid }
    }

    /// The same windows, each `offset` later: with a size of an hour and an offset of 15 minutes they begin at a quarter past.
    /// With a time zone the offset is by the clock on the wall.
    pub fn with_offset(self, offset: Duration) -> Self {
        Self::of_grid(match self.grid {
            Grid::Fixed { size, .. } => Grid::fixed(size, offset.into()),
            Grid::Calendar(calendar) => Grid::Calendar(calendar.with_offset(offset.into())),
        })
    }

    /// The same windows by the clocks of a zone of the IANA database, such as `Europe/Berlin`: days begin at its midnight and are
    /// 23 or 25 hours long where the clocks change.
    ///
    /// # Errors
    /// [`ProcessorError::Config`](crate::ProcessorError::Config) for a name that the database does not have, and for sizes other
    /// than whole days and whole hours that divide a day.
    pub fn with_time_zone(self, name: &str) -> ProcessorResult<Self> {
        let (size, offset) = match self.grid {
            Grid::Fixed { size, offset } => (size, offset),
            Grid::Calendar(calendar) => (calendar.size(), calendar.offset()),
        };
        Ok(Self::of_grid(Grid::Calendar(Calendar::new(size, name.parse()?)?.with_offset(offset))))
    }

    /// The length of a window; with a time zone that of one in which the clocks do not change.
    pub fn size(&self) -> Span {
        match self.grid {
            Grid::Fixed { size, .. } => size,
            Grid::Calendar(calendar) => calendar.size(),
        }
    }

    /// The window of an event.
    #[inline]
    pub fn assign(&self, time: EventTime) -> TimeWindow {
        self.grid.cell(time)
    }
}

/// Fixed windows that overlap: every `[n * slide, n * slide + size)`, shifted by the offset, that holds the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindowAssigner {
    size: Span,
    slide: Span,
    offset: Span,
}

impl SlidingWindowAssigner {
    /// Windows of `size`, one every `slide`; each at least a millisecond (shorter counts as one).
    pub fn new(size: Duration, slide: Duration) -> Self {
        Self::of_spans(size.into(), slide.into(), Span::ZERO)
    }

    pub(super) fn of_spans(size: Span, slide: Span, offset: Span) -> Self {
        let slide = at_least_one(slide);
        let offset = Span::from_millis(offset.as_millis() % slide.as_millis());
        Self { size: at_least_one(size), slide, offset }
    }

    /// The same windows, each `offset` later.
    pub fn with_offset(self, offset: Duration) -> Self {
        Self::of_spans(self.size, self.slide, offset.into())
    }

    /// The length of a window.
    pub fn size(&self) -> Span {
        self.size
    }

    /// The distance between the starts of two windows.
    pub fn slide(&self) -> Span {
        self.slide
    }

    pub(super) fn offset(&self) -> Span {
        self.offset
    }

    /// The windows of an event, the earliest first; none where the slide is longer than the size and the event falls between.
    pub fn assign(&self, time: EventTime) -> Vec<TimeWindow> {
        self.numbers(time).map(|n| self.window(n)).collect()
    }

    /// The numbers of the windows of an event; window 0 begins at the offset.
    pub(super) fn numbers(&self, time: EventTime) -> std::ops::RangeInclusive<i128> {
        let time = i128::from(time.as_millis()) - i128::from(self.offset.as_millis());
        let (size, slide) = (i128::from(self.size.as_millis()), i128::from(self.slide.as_millis()));
        (time - size).div_euclid(slide) + 1..=time.div_euclid(slide)
    }

    /// The window of this number.
    pub(super) fn window(&self, number: i128) -> TimeWindow {
        let start = number * i128::from(self.slide.as_millis()) + i128::from(self.offset.as_millis());
        let clamp =
            |millis: i128| EventTime::from_millis(millis.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64);
        TimeWindow { start: clamp(start), end: clamp(start + i128::from(self.size.as_millis())) }
    }
}

/// Windows of activity: events of a key that are less than `gap` apart are in one window, `[first, last + gap)`. Two events
/// exactly `gap` apart are in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionWindowAssigner {
    gap: Span,
    max_length: Option<Span>,
}

impl SessionWindowAssigner {
    /// Sessions that end after a silence of `gap`, at least a millisecond (shorter counts as one).
    pub fn new(gap: Duration) -> Self {
        Self::of_spans(gap.into(), None)
    }

    pub(super) fn of_spans(gap: Span, max_length: Option<Span>) -> Self {
        Self { gap: at_least_one(gap), max_length: max_length.map(at_least_one) }
    }

    /// The same sessions, except that an event which is `max_length` or more after a session's first one begins another. At least
    /// a millisecond (shorter counts as one).
    pub fn with_max_length(self, max_length: Duration) -> Self {
        Self::of_spans(self.gap, Some(max_length.into()))
    }

    /// The silence that ends a session.
    pub fn gap(&self) -> Span {
        self.gap
    }

    /// How far from the first event of a session its last must be less.
    pub fn max_length(&self) -> Option<Span> {
        self.max_length
    }

    /// The session that an event makes by itself, before it is merged with those it touches.
    pub fn assign(&self, time: EventTime) -> TimeWindow {
        TimeWindow { start: time, end: time.saturating_add(self.gap) }
    }

    /// The sessions of one key that has events at these times, in any order; the earliest first.
    pub fn assign_all(&self, times: impl IntoIterator<Item = EventTime>) -> Vec<TimeWindow> {
        let mut times: Vec<EventTime> = times.into_iter().collect();
        times.sort_unstable();
        let mut sessions: Vec<TimeWindow> = Vec::new();
        for time in times {
            let alone = self.assign(time);
            match sessions.last_mut() {
                Some(last) if time < last.end && self.fits(last.start, time) => last.end = alone.end,
                _ => sessions.push(alone),
            }
        }
        sessions
    }

    /// Whether one session may reach from `first` to `last`.
    #[inline]
    pub(super) fn fits(&self, first: EventTime, last: EventTime) -> bool {
        self.max_length.is_none_or(|max| last.since(first) < max)
    }
}

fn at_least_one(span: Span) -> Span {
    Span::from_millis(span.as_millis().max(1))
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
    fn tumbling_windows_with_an_offset() {
        let assigner = TumblingWindowAssigner::new(Duration::from_secs(10)).with_offset(Duration::from_secs(13));
        assert_eq!(assigner.assign(at(2_999)), window(-7_000, 3_000));
        assert_eq!(assigner.assign(at(3_000)), window(3_000, 13_000));
        assert_eq!(assigner.assign(at(-7_001)), window(-17_000, -7_000));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for offset in [0, 1, 9_999] {
            let offset = Duration::from_millis(offset);
            let assigner = TumblingWindowAssigner::new(Duration::from_secs(10)).with_offset(offset);
            assert_eq!(assigner.assign(EventTime::MAX).end, EventTime::MAX);
            assert_eq!(assigner.assign(EventTime::MIN).start, EventTime::MIN);
            let sliding =
                SlidingWindowAssigner::new(Duration::from_secs(10), Duration::from_secs(5)).with_offset(offset);
            assert_eq!(sliding.assign(EventTime::MAX).last().map(|w| w.end), Some(EventTime::MAX));
            assert_eq!(sliding.assign(EventTime::MIN).first().map(|w| w.start), Some(EventTime::MIN));
        }
        let huge = TumblingWindowAssigner::new(Duration::MAX);
        let found = huge.assign(at(5));
        assert!(found.start <= at(5) && at(5) < found.end);
        let sessions = SessionWindowAssigner::new(Duration::MAX);
        assert_eq!(sessions.assign(at(5)).end, EventTime::MAX);
        let ends = sessions.assign_all([EventTime::MAX, EventTime::MIN]);
        assert_eq!(ends.first().map(|w| w.start), Some(EventTime::MIN));
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
    fn sessions_of_sorted_and_unsorted_events() {
        let sessions = SessionWindowAssigner::new(Duration::from_millis(5));
        assert_eq!(sessions.assign(at(3)), window(3, 8));
        assert_eq!(sessions.assign_all([7, 3, 20, 12].map(at)), vec![window(3, 12), window(12, 17), window(20, 25)]);
        assert!(sessions.assign_all([]).is_empty());
        let short = sessions.with_max_length(Duration::from_millis(10));
        assert_eq!(short.assign_all([0, 4, 8, 12, 16].map(at)), vec![window(0, 13), window(12, 21)]);
    }

    proptest! {
        #[test]
        fn a_tumbling_window_holds_its_event(
            time in -1_000_000_000_000i64..4_000_000_000_000, size in 1u64..100_000_000, offset in 0u64..1_000_000_000
        ) {
            let assigner = TumblingWindowAssigner::new(Duration::from_millis(size));
            let found = assigner.with_offset(Duration::from_millis(offset)).assign(at(time));
            prop_assert!(found.start <= at(time) && at(time) < found.end);
            prop_assert_eq!(found.end.since(found.start).as_millis(), size as i64);
            prop_assert_eq!((found.start.as_millis() - offset as i64).rem_euclid(size as i64), 0);
        }

        #[test]
        fn sliding_windows_are_those_of_the_definition(
            time in -2000i64..2000, size in 1i64..60, slide in 1i64..60, offset in 0i64..100
        ) {
            let millis = |value: i64| Duration::from_millis(value as u64);
            let assigner = SlidingWindowAssigner::new(millis(size), millis(slide)).with_offset(millis(offset));
            let expected: Vec<TimeWindow> = (-3000..3000)
                .filter(|start| (start - offset) % slide == 0 && *start <= time && time < start + size)
                .map(|start| window(start, start + size))
                .collect();
            prop_assert_eq!(assigner.assign(at(time)), expected);
        }
    }
}
