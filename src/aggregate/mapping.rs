//! From a magnitude to a bin of bounded relative width, and back.
//!
//! The model is DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
//! VLDB 2019) with a logarithm that needs no logarithm: the exponent field is the integer part, and within an octave the cubic
//! `P(s) = 6/35 s³ - 3/5 s² + 10/7 s` of the mantissa `1 + s` stands for `log2(1 + s)`. `P` rises from 0 to 1 and `P'(s) (1 + s)` is
//! nowhere below 10/7, so a bin that is `1/b` wide in `P` spans at most `7 / (10 b)` of natural logarithm. With
//! `b >= 7 / (10 ln γ)` and `γ = (1 + α) / (1 - α)` the ends of a bin differ by at most `γ`, and their harmonic mean is within `α` of
//! everything in the bin.
//!
//! `b` is a whole number of bins per octave, so bins begin anew at each power of two and one octave's table of means serves all. Nothing
//! here uses the platform's mathematical library: all machines put a value into the same bin.

use super::nat::scale;
use super::sum::{HIDDEN, MANTISSA};

const A: f64 = 6.0 / 35.0;
const B: f64 = -3.0 / 5.0;
const C: f64 = 10.0 / 7.0;
/// The bits of 1.0 without its mantissa.
const ONE: u64 = 1023 << 52;
/// Octaves below that of the exponent field 0: subnormal values, brought up by as many octaves, have indices of their own.
const SUBNORMAL_OCTAVES: u32 = 64;

/// How magnitudes fall into bins.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    bins_per_octave: u32,
    width: f64,
    /// The representative of each bin of the octave from 1 to 2.
    means: Box<[f64]>,
}

impl Mapping {
    /// For a relative error between 0.0001 and 0.5; others panic, because [`Mapping::index`] relies on it.
    pub(super) fn new(relative_error: f64) -> Self {
        assert!((0.0001..=0.5).contains(&relative_error), "a relative error of {relative_error}");
        // ln γ = 2 artanh α, by its series, from the smallest term; the margin covers its rounding and that of `index`.
        let square = relative_error * relative_error;
        let series = (0..40).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
        let log_gamma = 2.0 * relative_error * series;
        let bins_per_octave = (0.7 / log_gamma * (1.0 + 1e-6)).ceil();
        let edge = |bin: u32| 1.0 + inverse(f64::from(bin) / bins_per_octave);
        let means = (0..bins_per_octave as u32)
            .map(|bin| {
                let (low, high) = (edge(bin), edge(bin + 1));
                2.0 * low * high / (low + high)
            })
            .collect();
        Self { bins_per_octave: bins_per_octave as u32, width: bins_per_octave, means }
    }

    /// What identifies the mapping in encoded accumulators.
    pub(super) fn bins_per_octave(&self) -> u32 {
        self.bins_per_octave
    }

    /// One more than the greatest index.
    pub(super) fn end(&self) -> u32 {
        (2047 + SUBNORMAL_OCTAVES) * self.bins_per_octave + 1
    }

    /// The bin of a positive normal value.
    #[inline(always)]
    pub(super) fn index(&self, value: f64) -> u32 {
        debug_assert!(value >= f64::MIN_POSITIVE && value.is_finite());
        let bits = value.to_bits();
        let s = f64::from_bits((bits & MANTISSA) | ONE) - 1.0;
        let within = ((A * s + B) * s + C) * s * self.width;
        // SAFETY: `s` is in [0, 1), where the cubic is in [0, 1], and the width is at most 7,000 (the relative error is at least
        // 0.0001): the product is finite and fits.
        let within: i32 = unsafe { within.to_int_unchecked() };
        ((bits >> 52) as u32 + SUBNORMAL_OCTAVES) * self.bins_per_octave + within as u32
    }

    /// The bin of any positive value.
    pub(super) fn index_of_any(&self, value: f64) -> u32 {
        if value >= f64::MIN_POSITIVE {
            return self.index(value);
        }
        let raised = value * f64::from_bits(ONE + u64::from(SUBNORMAL_OCTAVES) * HIDDEN);
        self.index(raised) - SUBNORMAL_OCTAVES * self.bins_per_octave
    }

    /// The representative of a bin: within the relative error of every normal value in it.
    pub(super) fn value(&self, index: u32) -> f64 {
        let octave = (index / self.bins_per_octave) as i32;
        let mean = self.means[(index % self.bins_per_octave) as usize];
        scale(mean, octave - SUBNORMAL_OCTAVES as i32 - 1023)
    }
}

/// The `s` in [0, 1] where the cubic is `p`: Newton's method, which here doubles the digits each time from a first guess within 0.1.
fn inverse(p: f64) -> f64 {
    (0..8).fold(p, |s, _| s - (((A * s + B) * s + C) * s - p) / ((3.0 * A * s + 2.0 * B) * s + C))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_percent_needs_35_bins_an_octave() {
        assert_eq!(Mapping::new(0.01).bins_per_octave(), 35);
    }

    #[test]
    fn every_bin_of_an_octave_is_within_the_error_at_its_edges() {
        for error in [0.001, 0.003, 0.01, 0.02, 0.05, 0.1] {
            let mapping = Mapping::new(error);
            for bin in 0..mapping.bins_per_octave() {
                let low = 1.0 + inverse(f64::from(bin) / mapping.width);
                let high = 1.0 + inverse(f64::from(bin + 1) / mapping.width);
                let mean = mapping.means[bin as usize];
                assert!((mean - low) / low <= error && (high - mean) / high <= error, "{error} {bin}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_normal_value_is_within_the_error_of_its_bin(bits in 1u64 << 52..2047u64 << 52, error in 0.001f64..0.1) {
            let (value, mapping) = (f64::from_bits(bits), Mapping::new(error));
            let index = mapping.index_of_any(value);
            prop_assert!(index < mapping.end());
            let estimate = mapping.value(index).min(f64::MAX);
            prop_assert!((estimate - value).abs() <= error * value, "{value} {estimate}");
        }

        #[test]
        fn subnormal_values_are_within_the_error_and_one_unit(bits in 1u64..1 << 52) {
            let (value, mapping) = (f64::from_bits(bits), Mapping::new(0.01));
            let estimate = mapping.value(mapping.index_of_any(value));
            prop_assert!((estimate - value).abs() <= 0.01 * value + 5e-324, "{value} {estimate}");
        }

        #[test]
        fn greater_values_have_no_lesser_bins(left in 1u64..2047 << 52, right in 1u64..2047 << 52) {
            let mapping = Mapping::new(0.01);
            let (least, most) = (left.min(right), left.max(right));
            prop_assert!(mapping.index_of_any(f64::from_bits(least)) <= mapping.index_of_any(f64::from_bits(most)));
        }
    }
}
