//! Aggregates by exact arithmetic and sorted vectors, and whether a figure is the right one.

use num_bigint::BigInt;
use num_traits::float::FloatCore;
use num_traits::{Signed, ToPrimitive, Zero};

/// How many values a window holds before its percentiles may be estimates.
const EXACT_PERCENTILES: usize = 32;
/// A standard deviation may be off by one in so many.
const DEVIATION_PARTS: u64 = 1_000_000_000_000;

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
        "sum" => Some(nearest(&sum(values), 1)),
        _ if values.is_empty() => None,
        "average" => Some(nearest(&sum(values), values.len())),
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

/// In units.
fn sum(values: &[f64]) -> BigInt {
    values.iter().map(|value| units(*value)).sum()
}

/// The `f64` nearest to so many units over `count`; of two, the even one. All truths here are within the range of `f64`.
fn nearest(total: &BigInt, count: usize) -> f64 {
    let guess = cut_off(&(total / count));
    let distance = |value: f64| (units(value) * count - total).abs();
    let candidates = [guess, guess.next_up(), guess.next_down()].into_iter().filter(|candidate| candidate.is_finite());
    candidates
        .min_by(|a, b| distance(*a).cmp(&distance(*b)).then((a.to_bits() & 1).cmp(&(b.to_bits() & 1))))
        .expect("a number in the range")
}

/// So many units, but for what is beyond the first 53 bits.
fn cut_off(units: &BigInt) -> f64 {
    let shift = units.bits().saturating_sub(53);
    let mantissa = (units.magnitude() >> shift).to_f64().expect("53 bits are a number");
    // In halves: 2^-1074 times a power of two may be a number where that power is none.
    let half = |of: u64| 2.0_f64.powi(of as i32);
    let magnitude = mantissa * (f64::from_bits(1) * half(shift / 2) * half(shift - shift / 2));
    if units.is_negative() { -magnitude } else { magnitude }
}

/// By squares, which are exact: if the deviation may be off by `e`, its square may be by `2 e`.
fn check_deviation(values: &[f64], found: Option<f64>) -> Result<(), String> {
    let Some(found) = found else {
        return if values.len() < 2 { Ok(()) } else { Err("a number".to_owned()) };
    };
    if values.len() < 2 {
        return Err("null".to_owned());
    }
    // The variance is (n Σx² - (Σx)²) / (n (n - 1)), here in units: all is multiplied by the denominator.
    let count = values.len();
    let units_of: Vec<BigInt> = values.iter().map(|value| units(*value)).collect();
    let (total, squares) = (units_of.iter().sum::<BigInt>(), units_of.iter().map(|unit| unit * unit).sum::<BigInt>());
    let (variance, denominator) = (squares * count - &total * &total, BigInt::from(count) * (count - 1));
    let off = (units(found) * units(found) * &denominator - &variance).abs();
    if found >= 0.0 && off * DEVIATION_PARTS <= &variance * 2 {
        Ok(())
    } else {
        Err(format!("the root of {variance} / {denominator} * 2^-2148"))
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
        assert!(right("sum", &[-f64::MAX, f64::MAX, -f64::MAX], "-1.7976931348623157e308"));
        assert!(right("average", &[f64::MAX, f64::MAX], "1.7976931348623157e308"));
        assert!(right("average", &[5e-324, 1.5e-323], "1e-323") && !right("average", &[5e-324, 1.5e-323], "5e-324"));
        assert!(right("average", &[-1.0, -1.0, -2.0], "-1.3333333333333333"));
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
