//! Two groups side by side in each window: is the challenger another than the champion?
//!
//! The model: one key field tells the groups apart; the other fields say who is compared with whom. Where both have a result in a
//! window, the row has both means and sample sizes, challenger minus champion, challenger over champion, and Welch's test of
//! whether the means differ: t, its degrees of freedom and the two-sided p-value, from the counts, means and standard deviations
//! that results have. Where one has fewer than two values, or both do not vary at all, there is no test: null.

use super::student::two_sided;
use super::{Fact, Figure, ViewRow, names};
use crate::event::GroupingKey;
use crate::sink::TimeWindow;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key field that tells the groups apart.
    pub field: Arc<str>,
    /// The value of the first group.
    pub champion: Arc<str>,
    /// The value of the second group.
    pub challenger: Arc<str>,
    /// The value field whose figures are compared, where results name several: `latency_ms` for `latency_ms.average`.
    pub of: Option<Arc<str>>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// The first group.
    Champion,
    /// The second group.
    Challenger,
}

/// What of a group is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample {
    count: Figure,
    mean: Figure,
    deviation: Figure,
}

/// Welch's test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Welch {
    /// The difference of the means over its standard error.
    pub t: f64,
    /// Degrees of freedom.
    pub freedom: f64,
    /// The two-sided p-value.
    pub p: f64,
}

/// Welch's test of two samples: sizes, means, standard deviations. `None` where there is none.
pub fn welch(one: (f64, f64, f64), other: (f64, f64, f64)) -> Option<Welch> {
    let ((n1, mean1, s1), (n2, mean2, s2)) = (one, other);
    if n1 < 2.0 || n2 < 2.0 {
        return None;
    }
    let (v1, v2) = (s1 * s1 / n1, s2 * s2 / n2);
    let variance = v1 + v2;
    if variance.is_nan() || variance <= 0.0 {
        return None;
    }
    let t = (mean2 - mean1) / variance.sqrt();
    let freedom = variance * variance / (v1 * v1 / (n1 - 1.0) + v2 * v2 / (n2 - 1.0));
    Some(Welch { t, freedom, p: two_sided(t, freedom)? })
}

impl Compare {
    /// Which side a result is on, and what it is compared with; `None` of others.
    pub fn side(&self, fact: &Fact) -> Option<((TimeWindow, GroupingKey), (Side, Sample))> {
        let fields = fact.key.fields();
        let (_, value) = fields.iter().find(|(name, _)| **name == *self.field)?;
        let side = match value {
            value if **value == *self.champion => Side::Champion,
            value if **value == *self.challenger => Side::Challenger,
            _ => return None,
        };
        let figure = |aggregate: &str| match &self.of {
            Some(of) => fact.figure(&format!("{of}.{aggregate}")).or_else(|| fact.figure(aggregate)).cloned(),
            None => fact.figure(aggregate).cloned(),
        };
        let sample = Sample { count: figure("count")?, mean: figure("average")?, deviation: figure("stddev")? };
        sample.mean.number()?;
        Some(((fact.window, fact.key.of_fields(|name| name != &*self.field)), (side, sample)))
    }

    /// The row of two groups of a window.
    pub fn row(&self, window: TimeWindow, key: &GroupingKey, champion: &Sample, challenger: &Sample) -> ViewRow {
        let of = |sample: &Sample| (sample.count.number(), sample.mean.number(), sample.deviation.number());
        let (one, other) = (of(champion), of(challenger));
        let both = one.1.zip(other.1);
        let complete =
            |(count, mean, deviation): (Option<f64>, Option<f64>, Option<f64>)| Some((count?, mean?, deviation?));
        let test = complete(one).zip(complete(other)).and_then(|(one, other)| welch(one, other));
        let figures = [
            champion.mean.clone(),
            challenger.mean.clone(),
            champion.count.clone(),
            challenger.count.clone(),
            Figure::finite(both.map(|(one, other)| other - one)),
            Figure::finite(both.map(|(one, other)| other / one)),
            Figure::finite(test.map(|test| test.t)),
            Figure::finite(test.map(|test| test.freedom)),
            Figure::finite(test.map(|test| test.p)),
        ];
        ViewRow { window, key: key.clone(), names: names(&NAMES), figures: figures.into() }
    }
}

/// What the figures of a comparison are called.
const NAMES: [&str; 9] = [
    "champion",
    "challenger",
    "champion_count",
    "challenger_count",
    "difference",
    "ratio",
    "t",
    "degrees_of_freedom",
    "p_value",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welchs_test_of_a_known_example() {
        // 27.5 21.0 19.0 23.6 17.0 17.9 16.9 20.1 21.9 22.6 23.1 19.6 19.0 21.7 21.4 against
        // 27.1 22.0 20.8 23.4 23.4 23.5 25.8 22.0 24.8 20.2 21.9 22.1 22.9 30.8 24.5?: sizes, means, deviations and result.
        let found = welch((15.0, 20.82, 2.804_894_2), (15.0, 23.68, 2.720_556_8)).unwrap();
        let standard_error = ((2.804_894_2f64.powi(2) + 2.720_556_8f64.powi(2)) / 15.0).sqrt();
        assert!((found.t - 2.86 / standard_error).abs() < 1e-9);
        assert!((found.freedom - 27.974).abs() < 0.01, "{found:?}");
        assert!((found.p - 0.008_5).abs() < 0.000_5, "{found:?}");
    }

    #[test]
    fn without_two_values_or_without_variation_there_is_no_test() {
        assert_eq!(welch((1.0, 3.0, 1.0), (9.0, 4.0, 1.0)), None);
        assert_eq!(welch((9.0, 3.0, 0.0), (9.0, 4.0, 0.0)), None);
        assert!(welch((9.0, 3.0, 0.0), (9.0, 4.0, 1.0)).is_some());
    }
}
