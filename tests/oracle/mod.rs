//! What the processor must compute from the contents of partitions: slow, and plain enough to be seen to be right. It shares
//! no code with the processor.
//!
//! Each partition has a watermark, `max timestamp seen - max_out_of_orderness`; what is decided about an event uses the
//! watermark before it. An accepted event whose watermark had not reached the end of its window belongs to the window's first
//! result. Those that came later make refinements: all of one window, key and watermark are one, in the order of the
//! watermarks, and each holds everything before it as well.

pub mod case;
pub mod figures;

use serde_json::Value;
use std::collections::BTreeMap;

/// The settings that decide about time, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub window: i64,
    pub lateness: i64,
    pub out_of_orderness: i64,
}

/// What a record is, apart from when it comes.
#[derive(Clone, Debug)]
pub enum Kind {
    Event {
        time: i64,
        key: Value,
        values: Vec<(String, f64)>,
    },
    /// Further ahead of the wall clock than is allowed.
    Future {
        time: i64,
    },
    Filtered,
    /// Unreadable, for this reason.
    Bad(&'static str),
}

#[derive(Clone, Debug)]
pub struct Record {
    pub offset: u64,
    pub text: String,
    pub kind: Kind,
}

/// A record that made it into no window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub partition: usize,
    pub offset: u64,
    pub reason: String,
    pub time: Option<i64>,
    pub watermark: Option<i64>,
    pub late_by: Option<i64>,
    pub payload: String,
}

/// Which result: the window's start, the key's JSON, the revision.
pub type Identity = (i64, String, u64);

/// What one result holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub firing: &'static str,
    /// By field; every field has a value at least.
    pub values: BTreeMap<String, Vec<f64>>,
}

#[derive(Debug, Default)]
pub struct Expectation {
    pub results: BTreeMap<Identity, Contents>,
    /// What goes to the late output, sorted.
    pub late: Vec<Refused>,
    /// What goes to the dead letters, sorted.
    pub dead: Vec<Refused>,
    pub accepted: u64,
    pub accepted_late: u64,
    pub filtered: u64,
}

/// An accepted event with the watermark it was judged against; `None` was before the first event of the partition.
type Accepted<'a> = (Option<i64>, &'a [(String, f64)]);

/// What must come out of these partitions.
pub fn expect(partitions: &[Vec<Record>], rules: Rules) -> Expectation {
    let mut expectation = Expectation::default();
    let mut windows: BTreeMap<(i64, String), Vec<Accepted<'_>>> = BTreeMap::new();
    for (partition, records) in partitions.iter().enumerate() {
        let mut max_seen: Option<i64> = None;
        for record in records {
            let refused = |reason: &str, time, watermark, late_by| Refused {
                partition,
                offset: record.offset,
                reason: reason.to_owned(),
                time,
                watermark,
                late_by,
                payload: record.text.clone(),
            };
            let (time, key, values) = match &record.kind {
                Kind::Event { time, key, values } => (*time, key, values),
                Kind::Future { time } => {
                    expectation.late.push(refused("future", Some(*time), None, None));
                    continue;
                }
                Kind::Filtered => {
                    expectation.filtered += 1;
                    continue;
                }
                Kind::Bad(reason) => {
                    expectation.dead.push(refused(reason, None, None, None));
                    continue;
                }
            };
            let watermark = max_seen.map(|max| max - rules.out_of_orderness);
            if let Some(watermark) = watermark.filter(|watermark| time < watermark - rules.lateness) {
                let late_by = watermark - time;
                expectation.late.push(refused("late", Some(time), Some(watermark), Some(late_by)));
                continue;
            }
            expectation.accepted += 1;
            expectation.accepted_late += u64::from(watermark.is_some_and(|watermark| time < watermark));
            max_seen = Some(max_seen.map_or(time, |max| max.max(time)));
            let start = time.div_euclid(rules.window) * rules.window;
            windows.entry((start, key.to_string())).or_default().push((watermark, values));
        }
    }
    for ((start, key), events) in windows {
        for (revision, contents) in revisions(&events, start + rules.window).into_iter().enumerate() {
            expectation.results.insert((start, key.clone(), revision as u64), contents);
        }
    }
    expectation.late.sort();
    expectation.dead.sort();
    expectation
}

/// The results of one window and key, from revision 0 on.
fn revisions(events: &[Accepted<'_>], end: i64) -> Vec<Contents> {
    let is_refinement = |watermark: &Option<i64>| watermark.is_some_and(|watermark| watermark >= end);
    let mut watermarks: Vec<i64> =
        events.iter().filter(|event| is_refinement(&event.0)).filter_map(|event| event.0).collect();
    watermarks.sort_unstable();
    watermarks.dedup();
    let mut revisions = Vec::new();
    if events.iter().any(|event| !is_refinement(&event.0)) {
        revisions.push(contents("on_time", events.iter().filter(|event| !is_refinement(&event.0))));
    }
    for last in watermarks {
        let until_then = events.iter().filter(|(watermark, _)| watermark.is_none_or(|watermark| watermark <= last));
        revisions.push(contents("late", until_then));
    }
    revisions
}

fn contents<'a>(firing: &'static str, events: impl Iterator<Item = &'a Accepted<'a>>) -> Contents {
    let mut contents = Contents { firing, values: BTreeMap::new() };
    for (_, values) in events {
        for (field, value) in *values {
            contents.values.entry(field.clone()).or_default().push(*value);
        }
    }
    contents
}
