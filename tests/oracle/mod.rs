//! What the processor must compute from the contents of partitions: slow, and plain enough to be seen to be right. It shares
//! no code with the processor.
//!
//! Each partition has a watermark, `max timestamp seen - max_out_of_orderness`; what is decided about an event uses the
//! watermark before it. An accepted event whose watermark had not reached the end of its window belongs to the window's first
//! result. Those that came later make refinements: all of one window, key and watermark are one, in the order of the
//! watermarks, and each holds everything before it as well. Sessions are in a module of their own.

pub mod case;
pub mod figures;
pub mod random;
pub mod sessions;
pub mod windows;

use serde_json::Value;
use std::collections::BTreeMap;
pub use windows::Windows;

/// What becomes of late events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    Refine,
    FinalOnly,
    Drop,
}

/// The settings that decide about time, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub windows: Windows,
    pub lateness: i64,
    pub out_of_orderness: i64,
    pub policy: Policy,
}

impl Rules {
    /// Tumbling windows that are refined.
    pub fn tumbling(size: i64, lateness: i64, out_of_orderness: i64) -> Self {
        Rules { windows: Windows::tumbling(size), lateness, out_of_orderness, policy: Policy::Refine }
    }

    /// How far behind its watermark an event may be.
    pub fn accepted_lateness(&self) -> i64 {
        if self.policy == Policy::Drop { 0 } else { self.lateness }
    }
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
    /// The names of the window definitions that refused it, where others took it.
    pub refused_by: Vec<String>,
}

/// Which result: the window's bounds, the key's JSON, the revision, and whether it takes back.
pub type Identity = ((i64, i64), String, u64, Op);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Upsert,
    Retract,
}

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
    /// Accepted, and between two windows.
    pub in_no_window: u64,
}

/// What must come out of several windows over the same partitions, from what must come out of each with its name.
#[derive(Debug)]
pub struct Whole {
    /// By definition.
    pub of_each: Vec<Expectation>,
    pub late: Vec<Refused>,
    /// How often one definition refused what another took.
    pub refused: u64,
}

impl Whole {
    pub fn of(of_each: Vec<(Option<String>, Expectation)>) -> Self {
        let mut by_record: BTreeMap<Refused, Vec<String>> = BTreeMap::new();
        for (name, expectation) in &of_each {
            for record in &expectation.late {
                by_record.entry(record.clone()).or_default().extend(name.clone());
            }
        }
        let (mut late, mut refused) = (Vec::new(), 0);
        for (record, names) in by_record {
            let in_part = names.len() < of_each.len() && of_each.len() > 1;
            refused += if in_part { names.len() as u64 } else { 0 };
            late.push(Refused { refused_by: if in_part { names } else { Vec::new() }, ..record });
        }
        late.sort();
        Self { of_each: of_each.into_iter().map(|(_, expectation)| expectation).collect(), late, refused }
    }

    /// What the most patient definition makes of the input: of events, any that it refuses is refused by all.
    pub fn most_patient(&self) -> &Expectation {
        self.of_each.iter().max_by_key(|expectation| expectation.accepted).expect("there is one at least")
    }
}

/// An accepted event.
#[derive(Clone, Debug)]
pub struct Accepted<'a> {
    pub time: i64,
    /// What it was judged against; `None` was before the first event of the partition.
    pub watermark: Option<i64>,
    pub values: &'a [(String, f64)],
}

/// What must come out of these partitions.
pub fn expect(partitions: &[Vec<Record>], rules: Rules) -> Expectation {
    let mut expectation = Expectation::default();
    let mut by_key: BTreeMap<String, Vec<Accepted<'_>>> = BTreeMap::new();
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
                refused_by: Vec::new(),
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
            if let Some(watermark) = watermark.filter(|watermark| time < watermark - rules.accepted_lateness()) {
                let late_by = watermark - time;
                expectation.late.push(refused("late", Some(time), Some(watermark), Some(late_by)));
                continue;
            }
            expectation.accepted += 1;
            expectation.accepted_late += u64::from(watermark.is_some_and(|watermark| time < watermark));
            max_seen = Some(max_seen.map_or(time, |max| max.max(time)));
            by_key.entry(key.to_string()).or_default().push(Accepted { time, watermark, values });
        }
    }
    for (key, events) in by_key {
        let results = match rules.windows {
            Windows::Session { gap, max_length } => sessions::results(&events, gap, max_length, rules.policy),
            windows => {
                expectation.in_no_window +=
                    events.iter().filter(|event| windows.of(event.time).is_empty()).count() as u64;
                fixed(&events, windows, rules.policy)
            }
        };
        let named = results
            .into_iter()
            .map(|((window, revision, op), contents)| ((window, key.clone(), revision, op), contents));
        expectation.results.extend(named);
    }
    expectation.late.sort();
    expectation.dead.sort();
    expectation
}

/// The results of one key: bounds, revision and operation, and what each holds.
pub type KeyResults = Vec<(((i64, i64), u64, Op), Contents)>;

/// Of windows whose bounds do not depend on events.
fn fixed(events: &[Accepted<'_>], windows: Windows, policy: Policy) -> KeyResults {
    let mut by_window: BTreeMap<(i64, i64), Vec<&Accepted<'_>>> = BTreeMap::new();
    for event in events {
        for window in windows.of(event.time) {
            by_window.entry(window).or_default().push(event);
        }
    }
    let mut results = Vec::new();
    for (window, events) in by_window {
        let revisions = match policy {
            Policy::FinalOnly => vec![contents("on_time", &events)],
            _ => revisions(&events, window.1),
        };
        let numbered = revisions.into_iter().enumerate();
        results.extend(numbered.map(|(revision, contents)| ((window, revision as u64, Op::Upsert), contents)));
    }
    results
}

/// The results of one window and key, from revision 0 on.
fn revisions(events: &[&Accepted<'_>], end: i64) -> Vec<Contents> {
    let is_refinement = |event: &Accepted<'_>| event.watermark.is_some_and(|watermark| watermark >= end);
    let mut watermarks: Vec<i64> =
        events.iter().filter(|event| is_refinement(event)).filter_map(|event| event.watermark).collect();
    watermarks.sort_unstable();
    watermarks.dedup();
    let mut revisions = Vec::new();
    let chosen = |choice: &dyn Fn(&Accepted<'_>) -> bool| -> Vec<_> {
        events.iter().copied().filter(|event| choice(event)).collect()
    };
    let first = chosen(&|event| !is_refinement(event));
    if !first.is_empty() {
        revisions.push(contents("on_time", &first));
    }
    for last in watermarks {
        let until_then = chosen(&|event| event.watermark.is_none_or(|watermark| watermark <= last));
        revisions.push(contents("late", &until_then));
    }
    revisions
}

pub fn contents(firing: &'static str, events: &[&Accepted<'_>]) -> Contents {
    let mut contents = Contents { firing, values: BTreeMap::new() };
    for event in events {
        for (field, value) in event.values {
            contents.values.entry(field.clone()).or_default().push(*value);
        }
    }
    contents
}
