//! Numbers for people: few digits, and the same number of decimals all the way down a column.

use crate::sink::ResultValue;

/// Digits after the first significant one, at most.
const MOST_DECIMALS: usize = 4;

/// How the numbers of one column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberStyle {
    /// With this many decimals.
    Fixed(usize),
    /// Too large or too small for that: `1.234e-9`.
    Scientific,
}

impl NumberStyle {
    /// The style in which these finite numbers read well together.
    pub fn of(numbers: impl Iterator<Item = f64>) -> NumberStyle {
        let mut largest = 0f64;
        let mut needed = 0;
        for number in numbers.filter(|number| number.is_finite()) {
            largest = largest.max(number.abs());
            needed = needed.max(decimals_needed(number));
        }
        if largest >= 1e12 || (largest > 0.0 && largest < 1e-6) {
            return NumberStyle::Scientific;
        }
        let allowed = match largest {
            l if l >= 1000.0 => 1,
            l if l >= 100.0 => 2,
            l if l >= 1.0 => 3,
            l if l >= 0.1 => 4,
            // Zeros before the first significant digit do not count.
            l if l > 0.0 => MOST_DECIMALS - 1 + (-l.log10()).ceil() as usize,
            _ => 0,
        };
        NumberStyle::Fixed(needed.min(allowed))
    }

    /// The text of `value`.
    pub fn text(self, value: &ResultValue) -> String {
        match (value, self) {
            (ResultValue::Count(count), _) => count.to_string(),
            (ResultValue::Number(number), NumberStyle::Fixed(decimals)) => format!("{number:.decimals$}"),
            (ResultValue::Number(number), NumberStyle::Scientific) => format!("{number:.3e}"),
            (ResultValue::Null, _) => "-".to_owned(),
            (ResultValue::Json(serde_json::Value::String(text)), _) => text.clone(),
            (ResultValue::Json(value), _) => value.to_string(),
        }
    }
}

/// Decimals after which nothing but zeros would follow.
fn decimals_needed(number: f64) -> usize {
    let text = format!("{number:.9}");
    let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
    decimals.trim_end_matches('0').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(numbers: &[f64]) -> Vec<String> {
        let style = NumberStyle::of(numbers.iter().copied());
        numbers.iter().map(|number| style.text(&ResultValue::Number(*number))).collect()
    }

    #[test]
    fn a_column_has_as_many_decimals_as_its_size_deserves() {
        assert_eq!(column(&[88.0, 12.0]), ["88", "12"]);
        assert_eq!(column(&[102.2, 9.75]), ["102.20", "9.75"]);
        assert_eq!(column(&[1226.4375, 88.0]), ["1226.4", "88.0"]);
        assert_eq!(column(&[9.704_999, 1.0]), ["9.705", "1.000"]);
        assert_eq!(column(&[0.010_223_4, 0.001]), ["0.01022", "0.00100"]);
        assert_eq!(column(&[0.5]), ["0.5"]);
        assert_eq!(column(&[-1500.25]), ["-1500.2"]);
        assert_eq!(column(&[0.0]), ["0"]);
        assert_eq!(column(&[1.5e15, 1.0]), ["1.500e15", "1.000e0"]);
        assert_eq!(column(&[1.234_56e-9]), ["1.235e-9"]);
    }

    #[test]
    fn other_values() {
        let style = NumberStyle::Fixed(2);
        assert_eq!(style.text(&ResultValue::Count(12)), "12");
        assert_eq!(style.text(&ResultValue::Null), "-");
        assert_eq!(style.text(&ResultValue::Json(serde_json::json!("text"))), "text");
        assert_eq!(style.text(&ResultValue::Json(serde_json::json!([1, 2]))), "[1,2]");
    }
}
