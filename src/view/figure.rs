//! One number of a result or of a view's row, as differential dataflow wants it: totally ordered, and equal to itself.

use crate::sink::ResultValue;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A number of a result or of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Figure {
    /// No value.
    Null,
    /// A count, or a rank.
    Count(u64),
    /// A number; finite in results.
    Number(f64),
    /// Yes or no.
    Truth(bool),
    /// What a custom aggregate returned, as JSON text.
    Json(Arc<str>),
}

impl Figure {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Figure::Count(count) => Some(*count as f64),
            Figure::Number(number) => Some(*number),
            Figure::Null | Figure::Truth(_) | Figure::Json(_) => None,
        }
    }

    /// A number that JSON can write, else null.
    pub fn finite(number: Option<f64>) -> Self {
        number.filter(|number| number.is_finite()).map_or(Figure::Null, Figure::Number)
    }

    fn kind(&self) -> u8 {
        match self {
            Figure::Null => 0,
            Figure::Count(_) => 1,
            Figure::Number(_) => 2,
            Figure::Truth(_) => 3,
            Figure::Json(_) => 4,
        }
    }
}

impl From<&ResultValue> for Figure {
    fn from(value: &ResultValue) -> Self {
        match value {
            ResultValue::Count(count) => Figure::Count(*count),
            ResultValue::Number(number) => Figure::Number(*number),
            ResultValue::Null => Figure::Null,
            ResultValue::Json(serde_json::Value::Bool(truth)) => Figure::Truth(*truth),
            ResultValue::Json(value) => Figure::Json(value.to_string().into()),
        }
    }
}

impl From<&Figure> for ResultValue {
    fn from(figure: &Figure) -> Self {
        match figure {
            Figure::Null => ResultValue::Null,
            Figure::Count(count) => ResultValue::Count(*count),
            Figure::Number(number) => ResultValue::Number(*number),
            Figure::Truth(truth) => ResultValue::Json(serde_json::Value::Bool(*truth)),
            Figure::Json(text) => ResultValue::Json(serde_json::from_str(text).unwrap_or(serde_json::Value::Null)),
        }
    }
}

/// A number as an integer of the same order, -0 before 0.
pub fn ordered(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// By kind, then by value; numbers by [`f64::total_cmp`].
impl Ord for Figure {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Figure::Count(mine), Figure::Count(theirs)) => mine.cmp(theirs),
            (Figure::Number(mine), Figure::Number(theirs)) => mine.total_cmp(theirs),
            (Figure::Truth(mine), Figure::Truth(theirs)) => mine.cmp(theirs),
            (Figure::Json(mine), Figure::Json(theirs)) => mine.cmp(theirs),
            _ => self.kind().cmp(&other.kind()),
        }
    }
}

impl PartialOrd for Figure {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Figure {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Figure {}

impl Hash for Figure {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match self {
            Figure::Null => {}
            Figure::Count(count) => count.hash(state),
            Figure::Number(number) => number.to_bits().hash(state),
            Figure::Truth(truth) => truth.hash(state),
            Figure::Json(text) => text.hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integer_has_the_order_of_the_number() {
        let numbers = [f64::NEG_INFINITY, -1e300, -2.5, -0.0, 0.0, f64::MIN_POSITIVE, 1.0, 1e300, f64::INFINITY];
        for pair in numbers.windows(2) {
            assert!(ordered(pair[0]) < ordered(pair[1]), "{pair:?}");
            assert!(Figure::Number(pair[0]) < Figure::Number(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn values_come_back_as_they_were() {
        let json = serde_json::json!({"top": [1, "x"]});
        for value in [ResultValue::Count(7), ResultValue::Number(0.1), ResultValue::Null, ResultValue::Json(json)] {
            assert_eq!(ResultValue::from(&Figure::from(&value)), value);
        }
    }
}
