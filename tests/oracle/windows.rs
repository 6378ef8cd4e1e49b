//! Which windows an event is in, by the definitions.

/// Kinds of windows, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Windows {
    /// One begins at each `offset + n * slide`; tumbling ones have a slide of their size.
    Fixed { size: i64, slide: i64, offset: i64 },
    /// Whole hours or days by the clocks of Berlin, as they are by law from 1996 on, shifted by so many hours.
    Berlin { hours: i64, offset_hours: i64 },
    /// Ended by a silence.
    Session { gap: i64, max_length: Option<i64> },
}

const HOUR: i64 = 3_600_000;
const QUARTER: i64 = HOUR / 4;
const DAY: i64 = 24 * HOUR;

impl Windows {
    pub fn tumbling(size: i64) -> Self {
        Windows::Fixed { size, slide: size, offset: 0 }
    }

    /// About how long a window is.
    pub fn scale(&self) -> i64 {
        match *self {
            Windows::Fixed { size, slide, .. } => size.max(slide),
            Windows::Berlin { hours, .. } => hours * HOUR,
            Windows::Session { gap, max_length } => 3 * max_length.unwrap_or(gap).max(gap),
        }
    }

    /// The windows of an event. Sessions are not a matter of one event.
    pub fn of(&self, time: i64) -> Vec<(i64, i64)> {
        match *self {
            Windows::Fixed { size, slide, offset } => {
                let mut windows = Vec::new();
                let mut start = (time - offset).div_euclid(slide) * slide + offset;
                while time < start + size {
                    windows.push((start, start + size));
                    start -= slide;
                }
                windows
            }
            Windows::Berlin { hours, offset_hours } => vec![in_berlin(time, hours * HOUR, offset_hours * HOUR)],
            Windows::Session { .. } => unreachable!("sessions are not a matter of one event"),
        }
    }

    /// The section of the configuration, with the rules of lateness.
    pub fn yaml(&self, lateness: i64) -> String {
        let lateness = format!("allowed_lateness: {lateness}ms");
        match *self {
            Windows::Fixed { size, slide, offset } if size == slide && offset == 0 => {
                format!("tumbling: {{size: {size}ms, {lateness}}}")
            }
            Windows::Fixed { size, slide, offset } if size == slide => {
                format!("tumbling: {{size: {size}ms, offset: {offset}ms, {lateness}}}")
            }
            Windows::Fixed { size, slide, offset } => {
                format!("sliding: {{size: {size}ms, slide: {slide}ms, offset: {offset}ms, {lateness}}}")
            }
            Windows::Berlin { hours, offset_hours } => {
                format!("tumbling: {{size: {hours}h, time_zone: Europe/Berlin, offset: {offset_hours}h, {lateness}}}")
            }
            Windows::Session { gap, max_length: None } => format!("session: {{gap: {gap}ms, {lateness}}}"),
            Windows::Session { gap, max_length: Some(max) } => {
                format!("session: {{gap: {gap}ms, max_length: {max}ms, {lateness}}}")
            }
        }
    }
}

/// The clocks are looked at every quarter of an hour: the window is that of the latest multiple of the size that they have shown.
fn in_berlin(time: i64, size: i64, offset: i64) -> (i64, i64) {
    let cell = |quarter: i64| (clock_in_berlin(quarter * QUARTER) - offset).div_euclid(size);
    let now = time.div_euclid(QUARTER);
    let long_ago = now - (2 * size + DAY) / QUARTER;
    let latest = (long_ago..=now).map(cell).max().expect("there is a past");
    let start = (long_ago..=now).find(|quarter| cell(*quarter) == latest).expect("it was shown");
    let end = (now + 1..).find(|quarter| cell(*quarter) > latest).expect("time goes on");
    (start * QUARTER, end * QUARTER)
}

/// Summer time is from the last Sunday of March to that of October, each from 01:00 UTC on.
fn clock_in_berlin(time: i64) -> i64 {
    let year = 1970 + time.div_euclid(31_556_952_000);
    let begins = [year - 1, year, year + 1].map(|year| last_sunday(year, 3) + HOUR);
    let ends = [year - 1, year, year + 1].map(|year| last_sunday(year, 10) + HOUR);
    let summer = begins.into_iter().zip(ends).any(|(begin, end)| (begin..end).contains(&time));
    time + if summer { 2 * HOUR } else { HOUR }
}

/// Midnight UTC of the last Sunday of a month that has 31 days.
fn last_sunday(year: i64, month: i64) -> i64 {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let leap_years_to = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before = 365 * (year - 1970) + leap_years_to(year - 1) - leap_years_to(1969);
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let last = before + lengths[..month as usize].iter().sum::<i64>() - 1;
    // Day 0 was a Thursday.
    (last - (last + 4).rem_euclid(7)) * DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis()
    }

    #[test]
    fn the_clocks_of_berlin() {
        assert_eq!(last_sunday(2026, 3), at("2026-03-29T00:00:00Z"));
        assert_eq!(last_sunday(2026, 10), at("2026-10-25T00:00:00Z"));
        assert_eq!(last_sunday(1968, 3), at("1968-03-31T00:00:00Z"));
        let day = |time: &str| in_berlin(at(time), DAY, 0);
        assert_eq!(day("2026-03-29T12:00:00Z"), (at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z")));
        assert_eq!(day("2026-10-25T22:59:59Z"), (at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z")));
    }
}
