//! Event times as RFC 3339 text, without allocating.
//!
//! The model: results print the same two window bounds again and again, so the years that four digits can write have a short
//! way of their own: days since 1970 become a civil date in the proleptic Gregorian calendar by counting 400-year eras from a
//! 1 March. What four digits cannot write goes the way of [`EventTime`]'s `Display`; both ways give the same text.

use crate::time::EventTime;
use std::io::Write;

/// 0000-01-01T00:00:00.000Z.
const FIRST: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z.
const LAST: i64 = 253_402_300_799_999;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// A day in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CivilDate {
    year: i64,
    month: i64,
    day: i64,
}

/// The civil date of a number of days since 1970-01-01.
fn civil_date(days_since_1970: i64) -> CivilDate {
    // Counted from 0000-03-01, so that the leap day is the last day of a year.
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    CivilDate { year: era * 400 + year_of_era + i64::from(month <= 2), month, day }
}

/// Writes the last `digits.len()` decimal digits of `number`, which is not negative.
fn write_digits(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Appends `time` as `2026-09-21T14:13:00.000Z`; the same text as its `Display`.
pub(super) fn push_time(out: &mut Vec<u8>, time: EventTime) {
    let millis = time.as_millis();
    if !(FIRST..=LAST).contains(&millis) {
        write!(out, "{time}").expect("writing to a Vec cannot fail");
        return;
    }
    let date = civil_date(millis.div_euclid(MILLIS_PER_DAY));
    let of_day = millis.rem_euclid(MILLIS_PER_DAY);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    write_digits(&mut text[0..4], date.year);
    write_digits(&mut text[5..7], date.month);
    write_digits(&mut text[8..10], date.day);
    write_digits(&mut text[11..13], of_day / 3_600_000);
    write_digits(&mut text[14..16], of_day / 60_000 % 60);
    write_digits(&mut text[17..19], of_day / 1_000 % 60);
    write_digits(&mut text[20..23], of_day % 1_000);
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(millis: i64) -> String {
        let mut out = Vec::new();
        push_time(&mut out, EventTime::from_millis(millis));
        String::from_utf8(out).unwrap()
    }

    fn agrees_with_chrono(millis: i64) {
        assert_eq!(text(millis), EventTime::from_millis(millis).to_string(), "{millis}");
    }

    #[test]
    fn it_agrees_with_chrono_where_calendars_go_wrong() {
        for days in
            [-719_528, -719_469, -719_468, -719_467, -1, 0, 58, 59, 60, 11_016, 11_017, 47_540, 47_541, 2_932_896]
        {
            for of_day in [0, 1, 999, 1_000, 59_999, 3_599_999, 43_200_000, MILLIS_PER_DAY - 1] {
                agrees_with_chrono(days * MILLIS_PER_DAY + of_day);
            }
        }
    }

    #[test]
    fn beyond_four_digits_it_falls_back() {
        for millis in [FIRST - 1, FIRST, LAST, LAST + 1, i64::MIN, i64::MAX, -100_000_000_000_000, 300_000_000_000_000]
        {
            agrees_with_chrono(millis);
        }
        assert_eq!(text(FIRST), "0000-01-01T00:00:00.000Z");
        assert_eq!(text(LAST), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(FIRST - 1), "-0001-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_of_four_centuries() {
        for days in 0..146_097 {
            agrees_with_chrono(days * MILLIS_PER_DAY + 49_385_678);
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_chrono_everywhere(millis in (2 * FIRST)..(2 * LAST)) {
            agrees_with_chrono(millis);
        }
    }
}
