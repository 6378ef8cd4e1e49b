//! Windows by the clocks of a time zone: days and hours that people there live by.
//!
//! The model: a window begins when the zone's clocks first show a multiple of its size since their 1970-01-01T00:00, and ends
//! when the next one begins. So windows follow each other without a gap whatever the clocks do: where an hour is left out, a day is
//! 23 hours long and the windows of that hour do not exist; where an hour comes twice, a day is 25 hours long and the hour's
//! second coming belongs to the window of its first.
//!
//! Beyond the years in which the calendar is sure of itself, clocks are taken to show UTC.

use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::TimeWindow;
use crate::time::{EventTime, Span};
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone as _};
use std::str::FromStr;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// About the year 200,000 either way; chrono knows some 262,000 years.
const SURE: i64 = 6_000_000_000_000_000;
/// More than any clock was ever set back or forward.
const AROUND_A_CHANGE: i64 = 2 * DAY;

/// A time zone of the IANA database, by its name: `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeZone(chrono_tz::Tz);

impl TimeZone {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What its clocks show at this time less what UTC's do, milliseconds.
    fn offset(self, millis: i64) -> i64 {
        let utc = DateTime::from_timestamp_millis(millis).map(|time| time.naive_utc());
        utc.map_or(0, |utc| i64::from(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1000)
    }

    /// When its clocks first show this time or a later one.
    fn first_showing(self, local: i64) -> i64 {
        let clock: Option<NaiveDateTime> = DateTime::from_timestamp_millis(local).map(|time| time.naive_utc());
        match clock.map(|clock| self.0.from_local_datetime(&clock)) {
            Some(chrono::LocalResult::Single(time)) => time.timestamp_millis(),
            Some(chrono::LocalResult::Ambiguous(first, second)) => first.min(second).timestamp_millis(),
            Some(chrono::LocalResult::None) => self.change_over(local),
            None => local,
        }
    }

    /// When the clocks are set forward past `local`, which they never show.
    fn change_over(self, local: i64) -> i64 {
        let (before, after) = (self.offset(local - AROUND_A_CHANGE), self.offset(local + AROUND_A_CHANGE));
        // By the old offset the time would be shown after the change, by the new one before it.
        let (mut earlier, mut later) = (local - after.max(before), local - before.min(after));
        let new = self.offset(later);
        while earlier + 1 < later {
            let middle = earlier + (later - earlier) / 2;
            if self.offset(middle) == new { later = middle } else { earlier = middle }
        }
        later
    }
}

impl FromStr for TimeZone {
    type Err = ProcessorError;

    fn from_str(name: &str) -> Result<Self, ProcessorError> {
        name.parse().map(TimeZone).map_err(|_| {
            ProcessorError::Config(format!(
                "the time zone database has no {name:?}; a name such as Europe/Berlin, America/New_York or UTC would be right"
            ))
        })
    }
}

/// Windows of whole days, or of whole hours that divide a day, in a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calendar {
    zone: TimeZone,
    size: Span,
    offset: Span,
}

impl Calendar {
    /// An error for other sizes.
    pub(super) fn new(size: Span, zone: TimeZone) -> ProcessorResult<Self> {
        if !is_calendar_size(size) {
            return Err(ProcessorError::Config(format!(
                "a window of {} ms in the time zone {}; whole days, or whole hours that divide a day, would be right",
                size.as_millis(),
                zone.name()
            )));
        }
        Ok(Self { zone, size, offset: Span::ZERO })
    }

    /// Each window so much later by the zone's clocks.
    pub(super) fn with_offset(self, offset: Span) -> Self {
        Self { offset: Span::from_millis(offset.as_millis() % self.size.as_millis()), ..self }
    }

    pub(super) fn size(&self) -> Span {
        self.size
    }

    pub(super) fn offset(&self) -> Span {
        self.offset
    }

    /// The window of a time.
    pub(super) fn window(&self, time: EventTime) -> TimeWindow {
        let (size, offset, time) = (self.size.as_millis(), self.offset.as_millis(), time.as_millis());
        if !(-SURE..SURE).contains(&time) || size > SURE {
            return super::assigner::Grid::fixed(self.size, self.offset).cell(EventTime::from_millis(time));
        }
        let mut number = (time + self.zone.offset(time) - offset).div_euclid(size);
        let begins = |number: i64| self.zone.first_showing(number * size + offset);
        // Where clocks were set back, what they show may have been shown before by an earlier window's end.
        while begins(number + 1) <= time {
            number += 1;
        }
        TimeWindow { start: EventTime::from_millis(begins(number)), end: EventTime::from_millis(begins(number + 1)) }
    }
}

/// Whether windows in a time zone may be so long.
pub fn is_calendar_size(size: Span) -> bool {
    let millis = size.as_millis();
    millis > 0 && (millis % DAY == 0 || (millis % HOUR == 0 && DAY % millis == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calendar(zone: &str, hours: u32) -> Calendar {
        Calendar::new(Span::from_secs(hours * 3600), zone.parse().unwrap()).unwrap()
    }

    fn at(text: &str) -> EventTime {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    fn window(calendar: Calendar, time: &str) -> (String, String) {
        let TimeWindow { start, end } = calendar.window(at(time));
        (start.to_string(), end.to_string())
    }

    fn bounds(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn days_begin_at_the_zones_midnight() {
        let berlin = calendar("Europe/Berlin", 24);
        let summer = bounds("2026-07-01T22:00:00.000Z", "2026-07-02T22:00:00.000Z");
        assert_eq!(window(berlin, "2026-07-01T22:00:00Z"), summer);
        assert_eq!(window(berlin, "2026-07-02T21:59:59.999Z"), summer);
        // 23 and 25 hours.
        let short = bounds("2026-03-28T23:00:00.000Z", "2026-03-29T22:00:00.000Z");
        assert_eq!(window(berlin, "2026-03-29T12:00:00Z"), short);
        let long = bounds("2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z");
        assert_eq!(window(berlin, "2026-10-25T12:00:00Z"), long);
    }

    #[test]
    fn hours_that_are_left_out_and_hours_that_come_twice() {
        let berlin = calendar("Europe/Berlin", 1);
        // After 02:00 comes 03:00.
        assert_eq!(
            window(berlin, "2026-03-29T00:59:00Z"),
            bounds("2026-03-29T00:00:00.000Z", "2026-03-29T01:00:00.000Z")
        );
        assert_eq!(
            window(berlin, "2026-03-29T01:00:00Z"),
            bounds("2026-03-29T01:00:00.000Z", "2026-03-29T02:00:00.000Z")
        );
        // From 02:00 to 03:00, twice.
        let twice = bounds("2026-10-25T00:00:00.000Z", "2026-10-25T02:00:00.000Z");
        assert_eq!(window(berlin, "2026-10-25T00:30:00Z"), twice);
        assert_eq!(window(berlin, "2026-10-25T01:30:00Z"), twice);
        let six = calendar("Europe/Berlin", 6);
        assert_eq!(window(six, "2026-03-29T02:00:00Z"), bounds("2026-03-28T23:00:00.000Z", "2026-03-29T04:00:00.000Z"));
    }

    #[test]
    fn clocks_that_change_at_midnight_by_half_an_hour_or_by_a_day() {
        // The day begins at 01:00, as there is no midnight.
        let asuncion = calendar("America/Asuncion", 24);
        let day = bounds("2023-10-01T04:00:00.000Z", "2023-10-02T03:00:00.000Z");
        assert_eq!(window(asuncion, "2023-10-01T12:00:00Z"), day);
        // Midnight comes and is taken back: the hour that comes twice is part of the day that is ending.
        let back = bounds("2023-03-25T03:00:00.000Z", "2023-03-26T04:00:00.000Z");
        assert_eq!(window(asuncion, "2023-03-26T03:30:00Z"), back);
        let lord_howe = calendar("Australia/Lord_Howe", 1);
        assert_eq!(
            window(lord_howe, "2026-04-04T15:15:00Z"),
            bounds("2026-04-04T14:00:00.000Z", "2026-04-04T15:30:00.000Z")
        );
        // Samoa had no 30th of December in 2011.
        let apia = calendar("Pacific/Apia", 24);
        assert_eq!(
            window(apia, "2011-12-30T09:59:59Z"),
            bounds("2011-12-29T10:00:00.000Z", "2011-12-30T10:00:00.000Z")
        );
        assert_eq!(
            window(apia, "2011-12-30T10:00:00Z"),
            bounds("2011-12-30T10:00:00.000Z", "2011-12-31T10:00:00.000Z")
        );
    }

    #[test]
    fn weeks_begin_where_the_offset_says() {
        // Day 0 was a Thursday.
        let weeks = calendar("Europe/Berlin", 7 * 24).with_offset(Span::from_millis(4 * DAY));
        let week = bounds("2026-10-18T22:00:00.000Z", "2026-10-25T23:00:00.000Z");
        assert_eq!(window(weeks, "2026-10-25T22:59:00Z"), week, "Monday the 19th to Sunday the 25th");
    }

    #[test]
    fn sizes_and_names_that_are_refused() {
        for hours in [1, 2, 3, 4, 6, 8, 12, 24, 48, 168] {
            assert!(is_calendar_size(Span::from_secs(hours * 3600)), "{hours}");
        }
        for seconds in [0, 1, 1800, 5400, 5 * 3600, 36 * 3600] {
            let error = Calendar::new(Span::from_secs(seconds), "UTC".parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("whole hours that divide a day"), "{error}");
        }
        let error = "Berlin".parse::<TimeZone>().unwrap_err().to_string();
        assert!(error.contains("\"Berlin\"") && error.contains("Europe/Berlin"), "{error}");
    }

    #[test]
    fn utc_is_the_plain_grid_and_the_ends_of_time_have_windows() {
        let utc = calendar("UTC", 24);
        for millis in [0, -1, 1_700_000_000_123, i64::MIN, i64::MAX - 1, SURE, -SURE, SURE - 1] {
            let time = EventTime::from_millis(millis);
            assert_eq!(utc.window(time), super::super::assigner::Grid::fixed(utc.size, Span::ZERO).cell(time));
        }
    }

    proptest! {
        /// By the definition: which multiple of the size have the clocks shown last for the first time?
        #[test]
        fn windows_hold_their_time_and_follow_each_other(
            minutes in -20_000_000i64..40_000_000,
            hours in proptest::sample::select(vec![1u32, 2, 6, 12, 24, 72]),
            zone in proptest::sample::select(vec![
                "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia",
                "America/St_Johns", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Gaza", "Antarctica/Troll",
            ]),
        ) {
            let (calendar, time) = (calendar(zone, hours), EventTime::from_millis(minutes * 60_000));
            let found = calendar.window(time);
            prop_assert!(found.start <= time && time < found.end, "{found:?}");
            prop_assert_eq!(calendar.window(found.start), found);
            prop_assert_eq!(calendar.window(found.end).start, found.end);
            let last = EventTime::from_millis(found.end.as_millis() - 1);
            prop_assert_eq!(calendar.window(last), found);
            let clock = |time: EventTime| time.as_millis() + calendar.zone.offset(time.as_millis());
            let size = calendar.size.as_millis();
            prop_assert!(clock(found.start).div_euclid(size) > clock(EventTime::from_millis(found.start.as_millis() - 1)).div_euclid(size));
        }
    }
}
