//! Each key's window against the same figure in earlier windows of the key.
//!
//! The model: the windows of a key are a series; a window's baseline is the `count` places before it, of which those count that
//! have a result: consecutive windows, or the windows at the same time of day on the days before. The row has the baseline's
//! size, mean and sample standard deviation, the difference to the mean, the ratio and the z-score.
//!
//! `regressed` is true from the window whose measure is beyond `at` until one is back at `clear`; a window in between keeps what
//! was. It would depend on everything before, so it is defined over a bounded look-back: it is what a reader finds who begins
//! `look_back` windows earlier with `false`. So it is a function of results that are kept, and stays right when they are revised.

use super::{Fact, Figure, ViewRow, names};
use crate::event::GroupingKey;
use crate::sink::TimeWindow;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a baseline compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The figure: `average`, `latency_ms.p95`, ...
    pub of: Arc<str>,
    /// How many earlier windows are looked at, at least 1.
    pub count: u32,
    /// Whether these are the windows at the same time of day.
    pub daily: bool,
    /// From the start of a window to that of the next, of the window definition.
    pub step: Span,
    /// When a window has regressed, if that is asked.
    pub regressed: Option<Regressed>,
}

/// When a window has regressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regressed {
    /// What is looked at.
    pub measure: Measure,
    /// Whether greater values are worse; else smaller ones are.
    pub above: bool,
    /// Beyond this it has regressed.
    pub at: f64,
    /// At this, or on its better side, it has not any more.
    pub clear: f64,
    /// How many windows before count for what is in between.
    pub look_back: u32,
}

/// A number of a baseline's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Figure minus mean.
    Difference,
    /// Figure over mean.
    Ratio,
    /// Difference over the standard deviation of the baseline.
    ZScore,
}

impl Measure {
    /// The word in configurations and rows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Measure::Difference => "difference",
            Measure::Ratio => "ratio",
            Measure::ZScore => "z_score",
        }
    }
}

/// A day.
const DAY: Span = Span::from_secs(24 * 60 * 60);

/// A figure at its place in a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// Its place.
    pub place: i64,
    /// Its window.
    pub window: TimeWindow,
    /// The figure, a number.
    pub figure: Figure,
}

/// A figure beside its baseline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scored {
    /// Its place in the series of consecutive windows.
    pub place: i64,
    /// Its window.
    pub window: TimeWindow,
    figure: Figure,
    windows: u64,
    mean: Figure,
    deviation: Figure,
    difference: Figure,
    ratio: Figure,
    z_score: Figure,
}

/// A part of a key's series that is looked at together: the key, the series' phase in milliseconds, and the block's number.
pub type Block = (GroupingKey, i64, i64);

/// Where a window stands in a series of this step: the phase and the place.
fn place(window: TimeWindow, step: Span) -> (i64, i64) {
    let (end, step) = (window.end.as_millis(), step.as_millis().max(1));
    (end.rem_euclid(step), end.div_euclid(step))
}

/// The blocks in which a place is needed, by those who look back so far: its own and the next.
fn blocks(place: i64, look_back: u32) -> [i64; 2] {
    let own = place.div_euclid(block_length(look_back));
    [own, own + 1]
}

fn block_length(look_back: u32) -> i64 {
    i64::from(look_back).max(8)
}

/// Whether a place is in the block, and not only looked at from there.
fn is_in(block: i64, place: i64, look_back: u32) -> bool {
    place.div_euclid(block_length(look_back)) == block
}

impl Baseline {
    /// From a window of the baseline's series to the next.
    pub fn series_step(&self) -> Span {
        if self.daily { DAY } else { self.step }
    }

    /// How long before a window the windows end that its row depends on.
    pub fn reach(&self) -> Span {
        let looks_back = self.regressed.map_or(0, |regressed| regressed.look_back);
        let steps = |step: Span, count: u32| step.as_millis().saturating_mul(i64::from(count));
        Span::from_millis(steps(self.series_step(), self.count).saturating_add(steps(self.step, looks_back)))
    }

    /// A result's place in its series, for each block that needs it.
    pub fn points(&self, fact: &Fact) -> Vec<(Block, Point)> {
        let Some(number) = fact.number(&self.of) else { return Vec::new() };
        let (phase, place) = place(fact.window, self.series_step());
        let point = Point { place, window: fact.window, figure: Figure::Number(number) };
        blocks(place, self.count).map(|block| ((fact.key.clone(), phase, block), point.clone())).into()
    }

    /// The figures of a block beside their baselines; points in the order of their places.
    pub fn score(&self, block: &Block, points: &[&Point]) -> Vec<Scored> {
        let numbers: Vec<f64> = points.iter().filter_map(|point| point.figure.number()).collect();
        let is_target = |index: &usize| is_in(block.2, points[*index].place, self.count);
        let score = |index: usize| {
            let point = points[index];
            let first = points.partition_point(|earlier| earlier.place < point.place - i64::from(self.count));
            self.scored(point, numbers[index], &numbers[first..index])
        };
        (0..points.len()).filter(is_target).map(score).collect()
    }

    fn scored(&self, point: &Point, number: f64, before: &[f64]) -> Scored {
        let size = before.len() as f64;
        let mean = (!before.is_empty()).then(|| before.iter().sum::<f64>() / size);
        let squares = |mean: f64| before.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
        let deviation = mean.filter(|_| before.len() > 1).map(|mean| (squares(mean) / (size - 1.0)).sqrt());
        let difference = mean.map(|mean| number - mean);
        let z_score = difference.zip(deviation).filter(|(_, deviation)| *deviation > 0.0);
        Scored {
            place: place(point.window, self.step).1,
            window: point.window,
            figure: Figure::Number(number),
            windows: before.len() as u64,
            mean: Figure::finite(mean),
            deviation: Figure::finite(deviation),
            difference: Figure::finite(difference),
            ratio: Figure::finite(mean.filter(|mean| *mean != 0.0).map(|mean| number / mean)),
            z_score: Figure::finite(z_score.map(|(difference, deviation)| difference / deviation)),
        }
    }

    /// The row of a figure beside its baseline.
    pub fn row(&self, key: &GroupingKey, scored: &Scored, regressed: Option<bool>) -> ViewRow {
        let mut own = vec![
            (&*self.of, scored.figure.clone()),
            ("baseline_windows", Figure::Count(scored.windows)),
            ("baseline_mean", scored.mean.clone()),
            ("baseline_stddev", scored.deviation.clone()),
            ("difference", scored.difference.clone()),
            ("ratio", scored.ratio.clone()),
            ("z_score", scored.z_score.clone()),
        ];
        own.extend(regressed.map(|regressed| ("regressed", Figure::Truth(regressed))));
        let (own_names, figures): (Vec<&str>, Vec<Figure>) = own.into_iter().unzip();
        ViewRow { window: scored.window, key: key.clone(), names: names(&own_names), figures: figures.into() }
    }

    /// Where a scored figure is needed to know what has regressed.
    pub fn judged_in(&self, regressed: &Regressed, key: &GroupingKey, scored: &Scored) -> [Block; 2] {
        let (phase, place) = place(scored.window, self.step);
        blocks(place, regressed.look_back).map(|block| (key.clone(), phase, block))
    }
}

impl Regressed {
    fn measure(&self, scored: &Scored) -> Option<f64> {
        match self.measure {
            Measure::Difference => scored.difference.number(),
            Measure::Ratio => scored.ratio.number(),
            Measure::ZScore => scored.z_score.number(),
        }
    }

    /// What a window makes of what was before it.
    pub fn next(&self, was: bool, measure: Option<f64>) -> bool {
        let Some(measure) = measure else { return was };
        let (measure, at, clear) = match self.above {
            true => (measure, self.at, self.clear),
            false => (-measure, -self.at, -self.clear),
        };
        measure > at || (was && measure > clear)
    }

    /// Which of a block's windows have regressed; scored figures in the order of their places.
    pub fn judge<'a>(&self, block: &Block, scored: &[&'a Scored]) -> Vec<(&'a Scored, bool)> {
        let is_target = |index: &usize| is_in(block.2, scored[*index].place, self.look_back);
        let judge = |index: usize| {
            let place = scored[index].place;
            let first = scored.partition_point(|earlier| earlier.place < place - i64::from(self.look_back));
            let seen = scored[first..=index].iter();
            (scored[index], seen.fold(false, |was, scored| self.next(was, self.measure(scored))))
        };
        (0..scored.len()).filter(is_target).map(judge).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_between_keeps_what_was() {
        let regressed = Regressed { measure: Measure::ZScore, above: true, at: 3.0, clear: 2.0, look_back: 5 };
        assert!(regressed.next(false, Some(3.1)));
        assert!(!regressed.next(false, Some(3.0)), "beyond, not at");
        assert!(regressed.next(true, Some(2.5)) && !regressed.next(false, Some(2.5)));
        assert!(!regressed.next(true, Some(2.0)), "back at the clearing mark");
        assert!(regressed.next(true, None) && !regressed.next(false, None));
        let below = Regressed { above: false, at: -3.0, clear: -2.0, ..regressed };
        assert!(below.next(false, Some(-3.5)) && below.next(true, Some(-2.5)) && !below.next(true, Some(-1.0)));
    }
}
