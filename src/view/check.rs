//! What a view asks of the windows whose results it reads.
//!
//! How it fails: each problem names the key of the view that is wrong, what was found, and what would be right.

use super::{Baseline, Compare, Leaderboard, Rollup, View, ViewKind};
use crate::config::{WindowConfig, WindowKind};
use crate::time::Span;
use crate::window::is_calendar_size;
use std::sync::Arc;

/// Earlier windows that a baseline may look back to, all in all.
pub const MOST_WINDOWS: u64 = 10_000;
/// Keys that a leaderboard may show a window.
pub const MOST_ROWS: u64 = 10_000;
/// How long results are kept for views where nothing is said, or as long as late events are accepted, if that is longer.
pub const DEFAULT_RETAIN: Span = Span::from_secs(60 * 60);

/// What is wrong with a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewProblem {
    /// The key: `by`, `regressed.clear`, ...
    pub key: &'static str,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub right: String,
}

fn problem(key: &'static str, found: impl Into<String>, right: impl Into<String>) -> ViewProblem {
    ViewProblem { key, found: found.into(), right: right.into() }
}

/// What a view finds where it looks.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The windows.
    pub windows: &'a WindowConfig,
    /// What aggregates are called, without fields.
    pub aggregates: &'a [Arc<str>],
    /// The names of the key's fields; `None` where only the program knows them.
    pub key_fields: Option<&'a [String]>,
}

impl View {
    /// What is wrong with it, given the windows whose results it reads.
    pub fn problems(&self, around: Surroundings<'_>) -> Vec<ViewProblem> {
        let mut problems = match &self.kind {
            ViewKind::Leaderboard(view) => of_leaderboard(view, around),
            ViewKind::Baseline(view) => of_baseline(view, around),
            ViewKind::Rollup(view) => of_rollup(view, around),
            ViewKind::Compare(view) => of_compare(view, around),
            ViewKind::Own(_) => Vec::new(),
        };
        let lateness = around.windows.allowed_lateness;
        if self.retain < lateness {
            problems.push(problem(
                "retain",
                format!("{} s, while late events are accepted for {} s", secs(self.retain), secs(lateness)),
                "at least as long: a result that is revised must still be there",
            ));
        }
        problems
    }
}

fn secs(span: Span) -> f64 {
    span.as_millis() as f64 / 1000.0
}

/// Whether results may have this figure: an aggregate, or one of a field.
fn figure(key: &'static str, name: &str, around: Surroundings<'_>) -> Option<ViewProblem> {
    let known = |aggregate: &Arc<str>| {
        name == &**aggregate || name.strip_suffix(&**aggregate).is_some_and(|field| field.ends_with('.'))
    };
    let names: Vec<&str> = around.aggregates.iter().map(|name| &**name).collect();
    (!around.aggregates.iter().any(known)).then(|| {
        problem(
            key,
            format!("`{name}`, which results do not have"),
            format!(
                "one of {}, or such a one of a field, as in latency_ms.{}",
                names.join(", "),
                names.first().unwrap_or(&"sum")
            ),
        )
    })
}

fn fields<'a>(
    key: &'static str,
    names: impl IntoIterator<Item = &'a Arc<str>>,
    around: Surroundings<'_>,
) -> Vec<ViewProblem> {
    let Some(known) = around.key_fields else { return Vec::new() };
    let unknown = names.into_iter().filter(|name| !known.iter().any(|field| *field == ***name));
    let right = match known {
        [] => "a field of event.key, which is empty".to_owned(),
        known => format!("a field of the key: {}", known.join(", ")),
    };
    unknown.map(|name| problem(key, format!("`{name}`, which is no field of the key"), right.clone())).collect()
}

fn of_leaderboard(view: &Leaderboard, around: Surroundings<'_>) -> Vec<ViewProblem> {
    let mut problems: Vec<ViewProblem> = figure("by", &view.by, around).into_iter().collect();
    problems.extend(fields("per", &view.per, around));
    if !(1..=MOST_ROWS as usize).contains(&view.top) {
        problems.push(problem("top", view.top.to_string(), format!("1 to {MOST_ROWS}")));
    }
    problems
}

fn of_rollup(view: &Rollup, around: Surroundings<'_>) -> Vec<ViewProblem> {
    let mut problems = fields("keep", &view.by, around);
    if around.key_fields.is_some_and(|known| problems.is_empty() && view.by.len() >= known.len() && !known.is_empty()) {
        problems.push(problem("keep", "every field of the key", "fewer: the results themselves are that"));
    }
    problems
}

fn of_compare(view: &Compare, around: Surroundings<'_>) -> Vec<ViewProblem> {
    let mut problems = fields("field", [&view.field], around);
    if view.champion == view.challenger {
        problems.push(problem("challenger", format!("`{}`, as the champion", view.challenger), "another group"));
    }
    let missing: Vec<&str> = ["count", "average", "stddev"]
        .into_iter()
        .filter(|needed| !around.aggregates.iter().any(|name| &**name == *needed))
        .collect();
    if !missing.is_empty() {
        problems.push(problem(
            "type",
            format!("compare, while {} is not among the aggregates", missing.join(" and ")),
            "count, average and stddev in aggregation.enabled",
        ));
    }
    problems
}

/// The distance of one window to the next, where it is always the same.
pub fn step_of(windows: &WindowConfig) -> Option<Span> {
    match windows.kind {
        WindowKind::Tumbling { size, time_zone, .. } => {
            (time_zone.is_none() || !is_calendar_size(size)).then_some(size)
        }
        WindowKind::Sliding { slide, .. } => Some(slide),
        WindowKind::Session { .. } => None,
    }
}

fn of_baseline(view: &Baseline, around: Surroundings<'_>) -> Vec<ViewProblem> {
    let mut problems: Vec<ViewProblem> = figure("of", &view.of, around).into_iter().collect();
    let key = if view.daily { "days" } else { "previous" };
    match step_of(around.windows) {
        None => problems.push(problem(
            "type",
            "baseline, over windows that are not all equally long",
            "tumbling windows without a time zone, or sliding ones",
        )),
        Some(step) if view.daily && 86_400_000 % step.as_millis().max(1) != 0 => problems.push(problem(
            "days",
            format!("given, while windows begin every {} s", secs(step)),
            "windows that begin at the same times every day",
        )),
        Some(_) => {}
    }
    if !(1..=MOST_WINDOWS).contains(&u64::from(view.count)) {
        problems.push(problem(key, view.count.to_string(), format!("1 to {MOST_WINDOWS}")));
    }
    let Some(regressed) = view.regressed else { return problems };
    let is_ordered = if regressed.above { regressed.clear <= regressed.at } else { regressed.clear >= regressed.at };
    if !is_ordered {
        let right = if regressed.above { "at most the value of above" } else { "at least the value of below" };
        problems.push(problem("regressed.clear", regressed.clear.to_string(), right));
    }
    if u64::from(regressed.look_back) > MOST_WINDOWS {
        problems.push(problem("regressed.look_back", regressed.look_back.to_string(), format!("0 to {MOST_WINDOWS}")));
    }
    problems
}
