//! What views a job has.

use super::{Baseline, Compare, Facts, Figures, Leaderboard, Rollup, ViewRows};
use crate::dataflows;
use crate::event::DefinitionIndex;
use crate::time::Span;
use std::fmt;
use std::sync::Arc;

/// A view of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its name, in records, metrics and addresses.
    pub name: Arc<str>,
    /// The window definition whose results it reads.
    pub definition: DefinitionIndex,
    /// How long after its end, in event time, a window stays in the view's state: at least as long as late events are accepted.
    pub retain: Span,
    /// What it shows.
    pub kind: ViewKind,
}

/// What a view shows.
#[derive(Clone, PartialEq)]
pub enum ViewKind {
    /// The best keys of each window.
    Leaderboard(Leaderboard),
    /// Each key's window against its earlier ones.
    Baseline(Baseline),
    /// Aggregates over fewer key fields.
    Rollup(Rollup),
    /// Two groups side by side.
    Compare(Compare),
    /// What a program makes of the results.
    Own(OwnView),
}

/// A program over results: facts in, rows out.
pub type Program = Arc<dyn for<'scope> Fn(Facts<'scope>) -> ViewRows<'scope> + Send + Sync>;

/// A view of the program's own.
#[derive(Clone)]
pub struct OwnView {
    /// Wires it.
    pub program: Program,
    /// How long before a window the windows end that its rows depend on; zero where they depend on one window each.
    pub reach: Span,
    /// What a checkpoint knows it by: another one is another view.
    pub version: Arc<str>,
}

/// The same program, not one that does the same.
impl PartialEq for OwnView {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program) && self.reach == other.reach && self.version == other.version
    }
}

impl View {
    /// What it means, for checkpoints: a view that differs in it is another one. `window` is the name of its window definition.
    pub fn meaning(&self, window: Option<&str>) -> String {
        let list = |names: &[Arc<str>]| names.join(", ");
        let kind = match &self.kind {
            ViewKind::Leaderboard(view) => {
                let order = if view.smallest { "smallest" } else { "largest" };
                format!("the {} {order} by {}, per [{}]", view.top, view.by, list(&view.per))
            }
            ViewKind::Baseline(view) => {
                let what = if view.daily { "days" } else { "windows" };
                let regressed = view.regressed.map_or_else(String::new, |of| {
                    let beyond = if of.above { "above" } else { "below" };
                    let measure = of.measure.as_str();
                    format!(
                        ", regressed {measure} {beyond} {} until {}, {} windows back",
                        of.at, of.clear, of.look_back
                    )
                });
                format!("{} against {} {what}{regressed}", view.of, view.count)
            }
            ViewKind::Rollup(view) => format!("keeps [{}]", list(&view.by)),
            ViewKind::Compare(view) => {
                let of = view.of.as_ref().map_or_else(String::new, |of| format!(", of {of}"));
                format!("{} {:?} and {:?}{of}", view.field, view.champion, view.challenger)
            }
            ViewKind::Own(view) => format!("version {}, reach {} ms", view.version, view.reach.as_millis()),
        };
        let window = window.map_or_else(String::new, |window| format!(" of {window}"));
        format!("{}{window}: {kind}, retained for {} ms", self.kind.as_str(), self.retain.as_millis())
    }

    /// How long after its end a result is kept: until it matters to no row that may still change.
    pub fn keeps(&self) -> Span {
        let reach = match &self.kind {
            ViewKind::Baseline(baseline) => baseline.reach(),
            ViewKind::Own(own) => own.reach,
            ViewKind::Leaderboard(_) | ViewKind::Rollup(_) | ViewKind::Compare(_) => Span::ZERO,
        };
        Span::from_millis(self.retain.as_millis().saturating_add(reach.as_millis()))
    }

    /// Whether it reads accumulators.
    pub fn reads_accumulators(&self) -> bool {
        matches!(self.kind, ViewKind::Rollup(_))
    }

    /// Wires its program.
    pub fn build<'scope>(&self, facts: Facts<'scope>, figures: Figures) -> ViewRows<'scope> {
        match &self.kind {
            ViewKind::Leaderboard(view) => dataflows::leaderboard::leaderboard(facts, view),
            ViewKind::Baseline(view) => dataflows::baseline::baseline(facts, view),
            ViewKind::Rollup(view) => dataflows::rollup::rollup(facts, view, figures),
            ViewKind::Compare(view) => dataflows::compare::compare(facts, view),
            ViewKind::Own(own) => (own.program)(facts),
        }
    }
}

impl ViewKind {
    /// The word in configurations and records.
    pub const fn as_str(&self) -> &'static str {
        match self {
            ViewKind::Leaderboard(_) => "leaderboard",
            ViewKind::Baseline(_) => "baseline",
            ViewKind::Rollup(_) => "rollup",
            ViewKind::Compare(_) => "compare",
            ViewKind::Own(_) => "own",
        }
    }
}

impl fmt::Debug for ViewKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ViewKind::Leaderboard(view) => view.fmt(f),
            ViewKind::Baseline(view) => view.fmt(f),
            ViewKind::Rollup(view) => view.fmt(f),
            ViewKind::Compare(view) => view.fmt(f),
            ViewKind::Own(own) => write!(f, "Own(version {:?}, reach {:?})", own.version, own.reach),
        }
    }
}
