//! Event times from text: RFC 3339, and numbers of seconds, milli-, micro- and nanoseconds since 1970.
//!
//! What is finer than a millisecond is cut off towards the past, before 1970 too, so that the order of events is kept. RFC 3339
//! is read by a parser of our own: a worker reads millions a second, and most of them share their date with the one before.
//! Every failure says what was found and what would be right, and where a number is plausible in another unit, which.

use super::json::shorten;
use crate::config::model::TimestampFormat;
use crate::time::EventTime;

/// Reads timestamps of one format; remembers the last date.
#[derive(Clone, Debug)]
pub(super) struct TimestampReader {
    format: TimestampFormat,
    date: [u8; 10],
    date_millis: i64,
}

const MILLIS_PER_DAY: i64 = 86_400_000;

/// 2000-01-01 and 2100-01-01: a time between them is taken to be in the right unit.
const PLAUSIBLE_MILLIS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

impl TimestampReader {
    pub(super) fn new(format: TimestampFormat) -> Self {
        Self { format, date: *b"1970-01-01", date_millis: 0 }
    }

    /// Reads a timestamp that was a string (without quotes, escapes resolved).
    #[inline]
    pub(super) fn read_string(&mut self, text: &[u8]) -> Result<EventTime, String> {
        match self.format {
            TimestampFormat::Rfc3339 => match self.rfc3339(text) {
                Some(time) => Ok(time),
                None => Err(explain_rfc3339(text)),
            },
            format => read_epoch(text, format),
        }
    }

    /// Reads a timestamp that was a number.
    #[inline]
    pub(super) fn read_number(&mut self, text: &[u8]) -> Result<EventTime, String> {
        match self.format {
            TimestampFormat::Rfc3339 => Err(explain_rfc3339(text)),
            format => read_epoch(text, format),
        }
    }

    /// `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`; `t`, `z` and a space for the `T` are read as well. A leap second (`:60`)
    /// is the last millisecond of its minute.
    #[inline]
    fn rfc3339(&mut self, text: &[u8]) -> Option<EventTime> {
        let (head, tail) = text.split_first_chunk::<19>()?;
        let (date, time) = head.split_first_chunk::<10>()?;
        if *date != self.date {
            self.date_millis = days_since_1970(date)? * MILLIS_PER_DAY;
            self.date = *date;
        }
        let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *time else { return None };
        let (hours, minutes, seconds) = (two_digits(h1, h2)?, two_digits(m1, m2)?, two_digits(s1, s2)?);
        if hours > 23 || minutes > 59 || seconds > 60 {
            return None;
        }
        let (mut millis, zone) = fraction_millis(tail)?;
        let mut second = seconds;
        if seconds == 60 {
            (second, millis) = (59, 999);
        }
        let local = self.date_millis + (hours * 3600 + minutes * 60 + second) * 1000 + millis;
        let offset_minutes = match *zone {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let offset = hours * 60 + minutes;
                if sign == b'+' { offset } else { -offset }
            }
            _ => return None,
        };
        Some(EventTime::from_millis(local - offset_minutes * 60_000))
    }
}

#[inline(always)]
fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens <= 9 && ones <= 9 { Some(i64::from(tens * 10 + ones)) } else { None }
}

/// The milliseconds of `.fraction`, if there is one, and what follows it.
#[inline(always)]
fn fraction_millis(tail: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', digits @ ..] = tail else { return Some((0, tail)) };
    let mut millis = 0;
    let mut count = 0;
    while let Some(byte @ b'0'..=b'9') = digits.get(count) {
        if count < 3 {
            millis = millis * 10 + i64::from(byte - b'0');
        }
        count += 1;
    }
    match count {
        0 => return None,
        1 => millis *= 100,
        2 => millis *= 10,
        _ => {}
    }
    Some((millis, &digits[count..]))
}

/// Days from 1970-01-01 to a `YYYY-MM-DD` that exists.
fn days_since_1970(date: &[u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return None };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let date = chrono::NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32)?;
    Some(date.signed_duration_since(chrono::NaiveDate::default()).num_days())
}

fn explain_rfc3339(text: &[u8]) -> String {
    let shown = shorten(&String::from_utf8_lossy(text));
    let expected = "a time as RFC 3339 writes it, such as 2026-09-21T14:13:19.831Z";
    let cause = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        .and_then(unit_of)
        .map(|cause| format!("; {cause}"))
        .unwrap_or_default();
    format!("\"{shown}\" is not {expected}{cause}")
}

/// How many of the unit make a second, as a power of ten.
fn decimal_places(format: TimestampFormat) -> i64 {
    match format {
        TimestampFormat::Rfc3339 | TimestampFormat::EpochMillis => 3,
        TimestampFormat::EpochSeconds => 0,
        TimestampFormat::EpochMicros => 6,
        TimestampFormat::EpochNanos => 9,
    }
}

/// Reads a number of the format's unit.
#[inline]
fn read_epoch(text: &[u8], format: TimestampFormat) -> Result<EventTime, String> {
    match short_integer(text) {
        Some(number) => Ok(EventTime::from_millis(match format {
            TimestampFormat::EpochSeconds => number * 1000,
            TimestampFormat::EpochMillis | TimestampFormat::Rfc3339 => number,
            TimestampFormat::EpochMicros => number / 1000,
            TimestampFormat::EpochNanos => number / 1_000_000,
        })),
        None => read_epoch_slowly(text, format),
    }
}

/// An integer of at most 15 digits without a sign: a thousand times as much fits 64 bits as well.
#[inline]
fn short_integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    text.iter().try_fold(0, |number: i64, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number * 10 + i64::from(digit))
    })
}

/// Reads a decimal number, with sign, fraction and exponent, if any, in exact arithmetic.
fn read_epoch_slowly(text: &[u8], format: TimestampFormat) -> Result<EventTime, String> {
    let shown = || shorten(&String::from_utf8_lossy(text));
    let Some(decimal) = Decimal::parse(text) else {
        let is_rfc3339 = TimestampReader::new(TimestampFormat::Rfc3339).rfc3339(text).is_some();
        let cause = if is_rfc3339 { "; it is RFC 3339: set event.timestamp.format to rfc3339" } else { "" };
        return Err(format!("\"{}\" is not a number of {}{cause}", shown(), unit_name(format)));
    };
    decimal.times_power_of_ten_floored(3 - decimal_places(format)).map(EventTime::from_millis).ok_or_else(|| {
        let cause = unit_of(decimal.approximately()).map(|cause| format!("; {cause}")).unwrap_or_default();
        format!("{} {} since 1970 is out of range{cause}", shown(), unit_name(format))
    })
}

/// `±digits · 10^exponent`.
struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i64,
    /// Whether digits were cut off that are not all zero.
    more: bool,
}

impl Decimal {
    fn parse(text: &[u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mut decimal = Decimal { negative, digits: 0, exponent: 0, more: false };
        let (mut count, mut after_point, mut at) = (0, false, 0);
        while let Some(byte) = rest.get(at) {
            match byte {
                b'0'..=b'9' => {
                    decimal.push(u128::from(byte - b'0'), after_point);
                    count += 1;
                }
                b'.' if !after_point && count > 0 => after_point = true,
                _ => break,
            }
            at += 1;
        }
        if count == 0 || rest.get(at.wrapping_sub(1)) == Some(&b'.') {
            return None;
        }
        if let Some(b'e' | b'E') = rest.get(at) {
            let exponent = std::str::from_utf8(&rest[at + 1..]).ok()?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // Beyond nine digits only the sign matters: the number is out of range, or zero.
            let magnitude: i64 = if digits.len() > 9 { 1_000_000_000 } else { digits.parse().ok()? };
            decimal.exponent += if exponent.starts_with('-') { -magnitude } else { magnitude };
        } else if at < rest.len() {
            return None;
        }
        Some(decimal)
    }

    fn push(&mut self, digit: u128, after_point: bool) {
        if self.digits < 10u128.pow(36) {
            self.digits = self.digits * 10 + digit;
            self.exponent -= i64::from(after_point);
        } else {
            self.more |= digit != 0;
            self.exponent += i64::from(!after_point);
        }
    }

    fn times_power_of_ten_floored(&self, power: i64) -> Option<i64> {
        let exponent = self.exponent + power;
        let (mut magnitude, mut more) = (self.digits, self.more);
        if magnitude == 0 && !more {
            return Some(0);
        }
        if exponent >= 0 {
            magnitude = 10u128.checked_pow(u32::try_from(exponent).ok()?)?.checked_mul(magnitude)?;
        } else {
            let divisor =
                u32::try_from(-exponent).ok().and_then(|power| 10u128.checked_pow(power)).unwrap_or(u128::MAX);
            more |= magnitude % divisor != 0;
            magnitude /= divisor;
        }
        let magnitude = i128::try_from(magnitude).ok()?;
        i64::try_from(if self.negative { -magnitude - i128::from(more) } else { magnitude }).ok()
    }

    fn approximately(&self) -> f64 {
        let magnitude = self.digits as f64 * 10f64.powi(self.exponent.clamp(-400, 400) as i32);
        if self.negative { -magnitude } else { magnitude }
    }
}

fn unit_name(format: TimestampFormat) -> &'static str {
    match format {
        TimestampFormat::Rfc3339 => "RFC 3339",
        TimestampFormat::EpochSeconds => "seconds",
        TimestampFormat::EpochMillis => "milliseconds",
        TimestampFormat::EpochMicros => "microseconds",
        TimestampFormat::EpochNanos => "nanoseconds",
    }
}

/// The unit in which a number of something since 1970 is a time of this century, as a hint.
fn unit_of(number: f64) -> Option<&'static str> {
    let within = |per_milli: f64| {
        let millis = number / per_milli;
        millis >= PLAUSIBLE_MILLIS.start as f64 && millis < PLAUSIBLE_MILLIS.end as f64
    };
    if within(0.001) {
        Some("it looks like seconds since 1970: set event.timestamp.format to epoch_s")
    } else if within(1.0) {
        Some("it looks like milliseconds since 1970: set event.timestamp.format to epoch_ms")
    } else if within(1e3) {
        Some("it looks like microseconds since 1970: set event.timestamp.format to epoch_us")
    } else if within(1e6) {
        Some("it looks like nanoseconds since 1970: set event.timestamp.format to epoch_ns")
    } else {
        None
    }
}

/// Why a time that `format` gave may be far from now: the unit in which it would be of this century, as a hint for people.
///
/// `None` where the time is of this century as it is, where no unit makes it so, and for RFC 3339, which has no unit.
pub fn probable_cause(format: TimestampFormat, time: EventTime) -> Option<&'static str> {
    if format == TimestampFormat::Rfc3339 || PLAUSIBLE_MILLIS.contains(&time.as_millis()) {
        return None;
    }
    unit_of(time.as_millis() as f64 * 10f64.powi(decimal_places(format) as i32 - 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimestampFormat::*;
    use proptest::prelude::*;

    fn rfc3339(text: &str) -> Option<i64> {
        TimestampReader::new(Rfc3339).read_string(text.as_bytes()).ok().map(EventTime::as_millis)
    }

    fn epoch(text: &str, format: TimestampFormat) -> Result<i64, String> {
        read_epoch(text.as_bytes(), format).map(EventTime::as_millis)
    }

    #[test]
    fn the_shapes_of_rfc3339() {
        let expected = Some(1_790_000_000_831 - 831 + 120);
        for text in [
            "2026-09-21T14:13:20.12Z",
            "2026-09-21t14:13:20.120z",
            "2026-09-21 14:13:20.120999999999Z",
            "2026-09-21T16:13:20.12+02:00",
            "2026-09-21T04:43:20.12-09:30",
            "2026-09-22T00:12:20.12+09:59",
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
        assert_eq!(rfc3339("2016-12-31T23:59:60Z"), rfc3339("2016-12-31T23:59:59.999Z"));
        assert_eq!(rfc3339("2016-12-31T23:59:60.5Z"), rfc3339("2016-12-31T23:59:59.999Z"));
        assert_eq!(rfc3339("1969-12-31T23:59:59.9999Z"), Some(-1));
        assert_eq!(rfc3339("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000));
        assert_eq!(rfc3339("9999-12-31T23:59:59.999-23:59"), Some(253_402_300_799_999 + 86_340_000));
    }

    #[test]
    fn what_is_no_rfc3339() {
        for text in [
            "",
            "2026",
            "2026-09-21",
            "2026-09-21T14:13:20",
            "2026-09-21T14:13Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-09-21T24:00:00Z",
            "2026-09-21T14:60:00Z",
            "2026-09-21T14:13:61Z",
            "2026-09-21T14:13:20.Z",
            "2026-09-21T14:13:20.1",
            "2026-09-21T14:13:20+0200",
            "2026-09-21T14:13:20+24:00",
            "2026-09-21T14:13:20+02:60",
            "2026-09-21T14:13:20Z ",
            " 2026-09-21T14:13:20Z",
            "2026/09/21T14:13:20Z",
            "2026-09-21_14:13:20Z",
            "20é6-09-21T14:13:20Z",
            "now",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_bad_date_is_not_remembered() {
        let mut reader = TimestampReader::new(Rfc3339);
        assert!(reader.read_string(b"2026-02-30T00:00:00Z").is_err());
        assert!(reader.read_string(b"2026-02-30T00:00:00Z").is_err());
        assert_eq!(reader.read_string(b"1970-01-01T00:00:00Z"), Ok(EventTime::from_millis(0)));
    }

    #[test]
    fn numbers_of_every_unit() {
        let expected = Ok(1_790_000_000_831);
        assert_eq!(epoch("1790000000.831", EpochSeconds), expected);
        assert_eq!(epoch("1.790000000831e9", EpochSeconds), expected);
        assert_eq!(epoch("1790000000831", EpochMillis), expected);
        assert_eq!(epoch("1790000000831.999", EpochMillis), expected);
        assert_eq!(epoch("1790000000831999", EpochMicros), expected);
        assert_eq!(epoch("1790000000831999999", EpochNanos), expected);
        assert_eq!(epoch("17900000008319999990E-1", EpochNanos), expected);
        assert_eq!(epoch("-0.0001", EpochSeconds), Ok(-1));
        assert_eq!(epoch("-1000000", EpochNanos), Ok(-1));
        assert_eq!(epoch("-1000001", EpochNanos), Ok(-2));
        assert_eq!(epoch("0e999999999999999999999", EpochSeconds), Ok(0));
        assert_eq!(epoch("1e-999999999999999999999", EpochSeconds), Ok(0));
        assert_eq!(epoch("-1e-999999999999999999999", EpochSeconds), Ok(-1));
        assert_eq!(epoch(&format!("1.{}1", "0".repeat(60)), EpochSeconds), Ok(1000));
        assert_eq!(epoch(&format!("-1.{}1", "0".repeat(60)), EpochSeconds), Ok(-1001));
        assert_eq!(epoch("9223372036854775807", EpochMillis), Ok(i64::MAX));
        assert_eq!(epoch("-9223372036854775808", EpochMillis), Ok(i64::MIN));
    }

    #[test]
    fn what_is_no_number_or_out_of_range() {
        for text in ["", "-", ".5", "5.", "1e", "1e+", "0x10", "1_000", "NaN", "inf", "+5", " 5", "1.2.3", "five"] {
            let error = epoch(text, EpochSeconds).unwrap_err();
            assert!(error.contains("is not a number of seconds"), "{text}: {error}");
        }
        for text in ["9223372036854775808", "1e40", "1e999999999", "99999999999999999999999999999999999999999999"] {
            let error = epoch(text, EpochMillis).unwrap_err();
            assert!(error.contains("is out of range"), "{text}: {error}");
        }
        let error = epoch("1790000000831999999", EpochSeconds).unwrap_err();
        assert!(
            error.ends_with("it looks like nanoseconds since 1970: set event.timestamp.format to epoch_ns"),
            "{error}"
        );
    }

    #[test]
    fn the_wrong_unit_is_named() {
        let number = |text: &str, format| EventTime::from_millis(epoch(text, format).unwrap());
        let cause = |text: &str, format| probable_cause(format, number(text, format)).unwrap_or("none");
        assert!(cause("1790000000", EpochMillis).contains("looks like seconds"));
        assert!(cause("1790000000831", EpochSeconds).contains("looks like milliseconds"));
        assert!(cause("1790000000831000", EpochSeconds).contains("looks like microseconds"));
        assert!(cause("1790000000831", EpochNanos).contains("looks like milliseconds"));
        assert_eq!(cause("1790000000831", EpochMillis), "none");
        assert_eq!(cause("5", EpochMillis), "none");
        let error = TimestampReader::new(Rfc3339).read_number(b"1790000000").unwrap_err();
        assert!(error.contains("looks like seconds"), "{error}");
    }

    proptest! {
        #[test]
        fn chrono_reads_the_same(
            year in 0i64..=9999, month in 0u32..=13, day in 0u32..=32, hour in 0u32..=24, minute in 0u32..=60,
            second in 0u32..=59, fraction in "(\\.[0-9]{1,12})?", zone in "(Z|z|[+-][0-2][0-9]:[0-6][0-9])",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            let expected = chrono::DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_millis());
            prop_assert_eq!(rfc3339(&text), expected, "{}", text);
        }

        #[test]
        fn every_printed_time_comes_back(millis in -62_167_219_200_000i64..253_402_300_800_000) {
            let time = EventTime::from_millis(millis);
            prop_assert_eq!(rfc3339(&time.to_string()), Some(millis));
            prop_assert_eq!(epoch(&millis.to_string(), EpochMillis), Ok(millis));
            prop_assert_eq!(epoch(&format!("{}.{:03}", millis.abs() / 1000, millis.abs() % 1000), EpochSeconds), Ok(millis.abs()));
            prop_assert_eq!(epoch(&format!("{}", millis as i128 * 1_000_000), EpochNanos), Ok(millis));
        }
    }
}
