//! Aggregates by exact arithmetic and sorted vectors, and whether a figure is the right one.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::float::FloatCore;
use num_traits::{Signed, ToPrimitive, Zero};

/// How many values a window holds before its percentiles may be estimates.
const EXACT_PERCENTILES: usize = 32;
/// How far a standard deviation may be off, relative to the true one.
const DEVIATION_ERROR: f64 = 1e-12;

/// Whether `found`, a JSON number or null, is the aggregate of this name (`count`, ..., `p99.9`) over these values.
pub fn check(name: &str, values: &[f64], found: &str, relative_error: f64) -> Result<(), String> {
    let wrong = |right: String| Err(format!("{name} is {found} where {right} is right, of {values:?}"));
    if name == "count" {
        return if found == values.len().to_string() { Ok(()) } else { wrong(values.len().to_string()) };
    }
    let found_number: Option<f64> = match found {
        "null" => None,
        text => Some(text.parse().map_err(|_| format!("{name} is {text}, which is no number"))?),
    };
    let truth = match name {
        "sum" => Some(nearest(&sum(values))),
        _ if values.is_empty() => None,
        "average" => Some(nearest(&(sum(values) / whole(values.len())))),
        "min" => values.iter().copied().reduce(f64::min),
        "max" => values.iter().copied().reduce(f64::max),
        "stddev" => return check_deviation(values, found_number).or_else(wrong),
        percentile => {
            let percent: f64 = percentile.strip_prefix('p').and_then(|text| text.parse().ok()).expect("a percentile");
            return check_percentile(percent, values, found_number, relative_error).or_else(wrong);
        }
    };
    if truth == found_number { Ok(()) } else { wrong(format!("{truth:?}")) }
}

fn whole(number: usize) -> BigRational {
    BigRational::from_integer(BigInt::from(number))
}

/// In units of the least subnormal, 2^-1074, of which every number is a multiple.
fn units(value: f64) -> BigInt {
    let (mantissa, exponent, sign) = FloatCore::integer_decode(value);
    if mantissa == 0 {
        return BigInt::zero();
    }
    // Subnormal numbers come with an exponent of -1075 and an even mantissa.
    match usize::try_from(i32::from(exponent) + 1074) {
        Ok(shift) => (BigInt::from(mantissa) << shift) * sign,
        Err(_) => (BigInt::from(mantissa) >> (-1074 - i32::from(exponent)) as usize) * sign,
    }
}

fn sum(values: &[f64]) -> BigRational {
    let units: BigInt = values.iter().map(|value| units(*value)).sum();
    BigRational::new(units, BigInt::from(1) << 1074)
}

/// The `f64` nearest to the truth; of two, the even one. All truths here are within the range of `f64`.
fn nearest(truth: &BigRational) -> f64 {
    let guess = truth.to_f64().expect("a rational number has a magnitude");
    let distance = |value: f64| (BigRational::new(units(value), BigInt::from(1) << 1074) - truth).abs();
    let candidates = [guess, guess.next_up(), guess.next_down()].into_iter().filter(|candidate| candidate.is_finite());
    candidates
        .min_by(|a, b| distance(*a).cmp(&distance(*b)).then((a.to_bits() & 1).cmp(&(b.to_bits() & 1))))
        .expect("a number in the range")
}

/// By squares, which are exact: if the deviation may be off by `e`, its square may be by `2 e`.
fn check_deviation(values: &[f64], found: Option<f64>) -> Result<(), String> {
    let Some(found) = found else {
        return if values.len() < 2 { Ok(()) } else { Err("a number".to_owned()) };
    };
    if values.len() < 2 {
        return Err("null".to_owned());
    }
    // The variance is (n Σx² - (Σx)²) / (n (n - 1)), here in units and over the square of what a unit is.
    let (count, units): (BigInt, Vec<BigInt>) =
        (values.len().into(), values.iter().map(|value| units(*value)).collect());
    let (sum_of_units, squares) = (units.iter().sum::<BigInt>(), units.iter().map(|unit| unit * unit).sum::<BigInt>());
    let denominator = (&count * (&count - 1)) << (2 * 1074);
    let variance = BigRational::new(&count * squares - &sum_of_units * &sum_of_units, denominator);
    let found_square = sum(&[found]) * sum(&[found]);
    let allowed = &variance * sum(&[2.0 * DEVIATION_ERROR]);
    if found >= 0.0 && (found_square - &variance).abs() <= allowed {
        Ok(())
    } else {
        Err(format!("the root of {}", nearest(&variance)))
    }
}

/// Nearest rank: the least value with at least this share of the values at or below it.
fn check_percentile(percent: f64, values: &[f64], found: Option<f64>, relative_error: f64) -> Result<(), String> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let thousandths = (percent * 1000.0).round() as usize;
    let rank = (thousandths * sorted.len()).div_ceil(100_000).max(1);
    let truth = sorted[rank - 1];
    let allowed = if sorted.len() <= EXACT_PERCENTILES { 0.0 } else { relative_error * truth.abs() };
    let range = sorted[0]..=sorted[sorted.len() - 1];
    match found {
        Some(found) if (found - truth).abs() <= allowed && range.contains(&found) => Ok(()),
        _ if allowed == 0.0 => Err(format!("{truth}")),
        _ => Err(format!("{truth} within {allowed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    fn right(name: &str, values: &[f64], found: &str) -> bool {
        check(name, values, found, 0.01).is_ok()
    }

    #[test]
    fn figures_worked_out_by_hand() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let expected = [("count", "8"), ("sum", "40"), ("average", "5.0"), ("min", "2"), ("max", "9"), ("p50", "4")];
        for (name, figure) in expected {
            assert!(right(name, &values, figure), "{name}");
            assert!(!right(name, &values, "6"), "{name}");
        }
        // The root of 32 / 7.
        assert!(right("stddev", &values, "2.138089935299395"));
        assert!(!right("stddev", &values, "2.13808993"));
        assert!(!right("stddev", &values, "-2.138089935299395"));
        assert!(right("stddev", &[3.0], "null") && !right("stddev", &[3.0], "0.0"));
        assert!(right("stddev", &[3.0, 3.0], "0.0"));
        assert!(right("min", &[], "null") && right("count", &[], "0") && right("sum", &[], "0.0"));
    }

    #[test]
    fn sums_are_rounded_once() {
        assert!(right("sum", &[1e16, 1.0, 1.0, -1e16], "2.0"));
        assert!(right("sum", &[0.1; 10], "1.0"));
        // Halfway between two numbers: the even one.
        assert!(right("sum", &[9_007_199_254_740_992.0, 1.0], "9007199254740992"));
        assert!(right("sum", &[5e-324, 5e-324], "1e-323"));
        assert!(right("average", &[1e300, -1e300, 3.0], "1.0"));
    }

    #[test]
    fn percentiles_are_exact_until_they_may_be_estimates() {
        let few: Vec<f64> = (1..=32).map(f64::from).collect();
        assert!(right("p50", &few, "16") && !right("p50", &few, "16.1"));
        assert!(right("p99.9", &few, "32") && right("p0", &few, "1"));
        let many: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!(right("p50", &many, "50.5") && !right("p50", &many, "50.6"));
        assert!(right("p100", &many, "99.5") && !right("p100", &many, "100.5"));
    }
}
