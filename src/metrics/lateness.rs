//! Which share of the events is late under which `max_out_of_orderness`: a pure function of what was counted.
//!
//! The model: a [`LatenessRow`] says it of one partition or of all together, for a ladder of bounds and for the shares that
//! people ask for. `/lateness` and `processor late-report` say the same, because both are made here. How exact it is:
//! [`Disorder`].

use super::group_digits;
use crate::time::Span;
use crate::time::disorder::{Disorder, Share};
use serde_json::{Value, json};

/// The bounds that every report has.
const LADDER_MILLIS: [i64; 8] = [0, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000];
/// The shares whose bounds every report has.
const SHARES: [Share; 4] = [
    Share::of_hundredths(9_900),
    Share::of_hundredths(9_990),
    Share::of_hundredths(9_999),
    Share::of_hundredths(10_000),
];
/// The share of the sentence for people.
const USUAL_SHARE: Share = SHARES[1];

/// The bounds that every report has, with `more` among them, ascending.
pub fn ladder(more: &[Span]) -> Vec<Span> {
    let mut bounds: Vec<Span> = LADDER_MILLIS.into_iter().map(Span::from_millis).chain(more.iter().copied()).collect();
    bounds.sort_unstable();
    bounds.dedup();
    bounds
}

/// The answers about one partition, or about all.
#[derive(Clone, Debug, PartialEq)]
pub struct LatenessRow {
    /// Events, apart from those of the future.
    pub events: u64,
    /// Events that were late under the bound in force: exact.
    pub late: u64,
    /// How far the event furthest behind was behind: exact.
    pub greatest: Span,
    /// For each bound of the ladder, how many events would have been late.
    pub late_with: Vec<(Span, u64)>,
    /// For each share, with which bound it would have been on time.
    pub bounds: Vec<(Share, Span)>,
}

impl LatenessRow {
    /// From what was counted, for the bounds of a ladder.
    pub fn new(disorder: &Disorder, ladder: &[Span]) -> Self {
        Self {
            events: disorder.events(),
            late: disorder.late(),
            greatest: disorder.greatest(),
            late_with: ladder.iter().map(|bound| (*bound, disorder.late_with(*bound))).collect(),
            bounds: SHARES.into_iter().map(|share| (share, disorder.bound_for(share))).collect(),
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let late_with = |(bound, late): &(Span, u64)| {
            json!({
                "max_out_of_orderness_ms": bound.as_millis(),
                "late": late,
                "share": fraction(*late, self.events),
            })
        };
        let bound = |(share, bound): &(Share, Span)| json!({"on_time_share": share.as_fraction(), "max_out_of_orderness_ms": bound.as_millis()});
        json!({
            "events": self.events,
            "late": self.late,
            "late_share": fraction(self.late, self.events),
            "furthest_behind_ms": self.greatest.as_millis(),
            "late_with": self.late_with.iter().map(late_with).collect::<Vec<_>>(),
            "bounds": self.bounds.iter().map(bound).collect::<Vec<_>>(),
        })
    }

    /// For people: what the bound in force did, what each of `asked` would have done, and the bound for nearly all.
    pub fn sentences(&self, in_force: Option<Span>, asked: &[Span]) -> Vec<String> {
        if self.events == 0 {
            return vec!["no event has come yet".to_owned()];
        }
        let mut sentences = Vec::new();
        if let Some(in_force) = in_force {
            sentences.push(format!(
                "with max_out_of_orderness {}, as configured, {} of the events so far were late ({} of {})",
                short_span(in_force),
                percent(self.late, self.events),
                group_digits(self.late),
                group_digits(self.events)
            ));
        }
        for (bound, late) in self.late_with.iter().filter(|(bound, _)| asked.contains(bound)) {
            sentences.push(format!(
                "with max_out_of_orderness {}, {} of the events so far would have been late",
                short_span(*bound),
                percent(*late, self.events)
            ));
        }
        for (share, bound) in self.bounds.iter().filter(|(share, _)| *share == USUAL_SHARE) {
            sentences.push(format!(
                "the bound for {} is {}; the event furthest behind was {} behind",
                share_name(*share),
                short_span(*bound),
                short_span(self.greatest)
            ));
        }
        sentences
    }
}

/// How the shares are called: `99.9%`.
pub fn share_name(share: Share) -> String {
    format!("{}%", share.as_fraction() * 100.0)
}

fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `0%`, `0.0012%`, `3.4%`, `100%`: two digits, so that neither few nor many look like none or all.
pub fn percent(part: u64, whole: u64) -> String {
    if part == 0 {
        return "0%".to_owned();
    }
    if part == whole {
        return "100%".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if percent > 99.0 {
        // The digits that tell are those of what is missing.
        let decimals = decimals_of_two_digits(100.0 - percent);
        return format!("{percent:.decimals$}%");
    }
    format!("{:.*}%", decimals_of_two_digits(percent), percent)
}

fn decimals_of_two_digits(number: f64) -> usize {
    let magnitude = number.log10().floor();
    // Between 0 and 100, and at least 1 in 2^64.
    (1.0 - magnitude).clamp(0.0, 20.0) as usize
}

/// `0`, `250ms`, `1.311s`, `30s`, `2m 5s`, `1h 30m`, `3d 4h`: to the millisecond below a minute, rounded up beyond, so that a bound
/// is not told too small.
pub fn short_span(span: Span) -> String {
    const SECOND: i64 = 1_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let millis = span.as_millis();
    let (large, large_name, small, small_name) = match millis {
        0 => return "0".to_owned(),
        1..SECOND => return format!("{millis}ms"),
        SECOND..MINUTE => return format!("{}s", millis as f64 / 1_000.0),
        MINUTE..HOUR => (MINUTE, "m", SECOND, "s"),
        HOUR..DAY => (HOUR, "h", MINUTE, "m"),
        _ => (DAY, "d", HOUR, "h"),
    };
    let smalls = millis / small + i64::from(millis % small > 0);
    let ratio = large / small;
    match smalls % ratio {
        0 => format!("{}{large_name}", smalls / ratio),
        rest => format!("{}{large_name} {rest}{small_name}", smalls / ratio),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: i64) -> Span {
        Span::from_millis(millis)
    }

    #[test]
    fn a_ladder_takes_further_bounds_once_and_in_order() {
        let bounds = ladder(&[millis(3_000), millis(0), millis(3_000)]);
        let bounds: Vec<i64> = bounds.iter().map(|bound| bound.as_millis()).collect();
        assert_eq!(bounds, [0, 1_000, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000, 300_000]);
    }

    #[test]
    fn what_people_and_programs_are_told() {
        let mut disorder = Disorder::default();
        for _ in 0..9_985 {
            disorder.record(millis(40), false);
        }
        for _ in 0..10 {
            disorder.record(millis(2_500), false);
        }
        for _ in 0..5 {
            disorder.record(millis(41_250), true);
        }
        let row = LatenessRow::new(&disorder, &ladder(&[millis(3_000)]));
        assert_eq!(
            row.sentences(Some(millis(30_000)), &[millis(3_000)]),
            [
                "with max_out_of_orderness 30s, as configured, 0.050% of the events so far were late (5 of 10,000)",
                "with max_out_of_orderness 3s, 0.050% of the events so far would have been late",
                "the bound for 99.9% is 2.559s; the event furthest behind was 41.25s behind",
            ]
        );
        let document = row.to_json();
        assert_eq!(document["late_with"][1], json!({"max_out_of_orderness_ms": 1_000, "late": 15, "share": 0.0015}));
        assert_eq!(document["bounds"][0], json!({"on_time_share": 0.99, "max_out_of_orderness_ms": 40}));
        assert_eq!(document["bounds"][3], json!({"on_time_share": 1.0, "max_out_of_orderness_ms": 41_250}));
        assert_eq!((&document["events"], &document["late"]), (&json!(10_000), &json!(5)));

        let nothing = LatenessRow::new(&Disorder::default(), &ladder(&[]));
        assert_eq!(nothing.sentences(Some(millis(30_000)), &[]), ["no event has come yet"]);
        assert_eq!(nothing.to_json()["late_share"], 0.0);
    }

    #[test]
    fn few_do_not_look_like_none_nor_many_like_all() {
        let texts = [(0, 7), (7, 7), (1, 3), (1, 1_000_000), (999_999, 1_000_000), (123, 1_000)];
        assert_eq!(
            texts.map(|(part, whole)| percent(part, whole)),
            ["0%", "100%", "33%", "0.00010%", "99.99990%", "12%"]
        );
        assert_eq!(SHARES.map(share_name), ["99%", "99.9%", "99.99%", "100%"]);
    }

    #[test]
    fn spans_are_short() {
        let spans = [0, 999, 1_311, 30_000, 300_000, 7_200_000, 90_061_000, 125_000, 119_999].map(millis);
        assert_eq!(spans.map(short_span), ["0", "999ms", "1.311s", "30s", "5m", "2h", "1d 2h", "2m 5s", "2m"]);
        assert_eq!(short_span(millis(i64::MAX)), "106751991167d 8h");
    }
}
