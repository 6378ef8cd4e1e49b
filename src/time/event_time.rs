//! Event times and spans, in milliseconds.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A point in event time: milliseconds since 1970-01-01T00:00:00Z, negative before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct EventTime(i64);

/// A length of event time in milliseconds, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span(i64);

impl EventTime {
    /// Before every event: the watermark of a partition that has shown none.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every event.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// From milliseconds since 1970.
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        EventTime(millis)
    }

    /// Milliseconds since 1970.
    #[inline]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The order-preserving image in `u64`: [`EventTime::MIN`] is 0.
    #[inline]
    pub const fn to_ordered(self) -> u64 {
        (self.0 as u64) ^ (1 << 63)
    }

    /// The inverse of [`EventTime::to_ordered`].
    #[inline]
    pub const fn from_ordered(ordered: u64) -> Self {
        EventTime((ordered ^ (1 << 63)) as i64)
    }

    /// This time plus `span`, no further than [`EventTime::MAX`].
    #[inline]
    pub const fn saturating_add(self, span: Span) -> Self {
        EventTime(self.0.saturating_add(span.0))
    }

    /// This time minus `span`, no further than [`EventTime::MIN`].
    #[inline]
    pub const fn saturating_sub(self, span: Span) -> Self {
        EventTime(self.0.saturating_sub(span.0))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[inline]
    pub const fn since(self, earlier: EventTime) -> Span {
        let difference = self.0.saturating_sub(earlier.0);
        Span(if difference > 0 { difference } else { 0 })
    }

    /// The wall clock's time, as an event time.
    pub fn now() -> Self {
        EventTime(Utc::now().timestamp_millis())
    }

    /// As chrono's time; `None` outside the years that chrono knows (about 262,000 either side of 1970).
    pub fn to_datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// As chrono's time, clamped to the years that chrono knows.
    pub fn to_datetime_clamped(self) -> DateTime<Utc> {
        self.to_datetime().unwrap_or(if self.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC })
    }
}

impl From<DateTime<Utc>> for EventTime {
    fn from(time: DateTime<Utc>) -> Self {
        EventTime(time.timestamp_millis())
    }
}

/// RFC 3339 with milliseconds and `Z`, as in results; the bare number of milliseconds where no calendar reaches.
impl std::fmt::Display for EventTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_datetime() {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl std::fmt::Debug for EventTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// From milliseconds; negative counts as zero.
    pub const fn from_millis(millis: i64) -> Self {
        Span(if millis > 0 { millis } else { 0 })
    }

    /// From seconds.
    pub const fn from_secs(secs: u32) -> Self {
        Span(secs as i64 * 1000)
    }

    /// In milliseconds.
    #[inline]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whether it is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Parts of a millisecond are dropped; what does not fit is the longest span.
impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Span(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Duration::from_millis(span.0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ordered_image_keeps_the_order() {
        let times = [i64::MIN, -1, 0, 1, 1_700_000_000_000, i64::MAX].map(EventTime::from_millis);
        for pair in times.windows(2) {
            assert!(pair[0].to_ordered() < pair[1].to_ordered());
        }
        for time in times {
            assert_eq!(EventTime::from_ordered(time.to_ordered()), time);
        }
        assert_eq!(EventTime::MIN.to_ordered(), 0);
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(EventTime::MAX.saturating_add(Span::from_secs(1)), EventTime::MAX);
        assert_eq!(EventTime::MIN.saturating_sub(Span::from_secs(1)), EventTime::MIN);
        assert_eq!(EventTime::MIN.since(EventTime::MAX), Span::ZERO);
        assert_eq!(EventTime::MAX.since(EventTime::MIN).as_millis(), i64::MAX);
    }

    #[test]
    fn it_reads_as_results_print_it() {
        assert_eq!(EventTime::from_millis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(EventTime::MAX.to_string(), "9223372036854775807ms");
    }
}
