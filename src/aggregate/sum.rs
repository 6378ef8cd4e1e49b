//! Exact sums of `f64`.
//!
//! The model: a sum is an integer times a power of two. While the values lie within some 20 decimal orders of magnitude of each other
//! the integer fits in 128 bits, and adding is a shift and an addition; values further apart move the sum to a
//! [`Fixed`] that holds any. Nothing is ever rounded before the result, so the result is the nearest `f64` to the true sum, and the same
//! whatever the order.
//!
//! How it fails: a true sum beyond the range of `f64` has no result (`None`), and values of the other sign bring it back.

use super::codec::{Exact, Reader, put_exact};
use super::fixed::Fixed;
use super::nat::{ANY, NARROW, Nat, round_to_f64};
use crate::error::ProcessorResult;

pub(super) const MANTISSA: u64 = (1 << 52) - 1;
pub(super) const HIDDEN: u64 = 1 << 52;

/// Limbs of the widest sum: 2,098 bits of `f64`, 64 of carries, the sign.
const FIXED_LIMBS: usize = 34;
/// The sum of 2^64 values is below 2 to this power, in units of the least subnormal.
const LIMIT_BITS: u32 = 2098 + 64;
/// The exponent of the least subnormal.
const UNIT: i32 = -1074;
/// A mantissa moved by this much still leaves 10 bits for carries; beyond those the addition says so.
const MAX_SHIFT: u32 = 64;
/// How far below the first value the window begins, so that somewhat smaller values fit without a move.
const SLACK: i32 = 24;
/// The exponent of a sum without values: no value's distance to it is within [`MAX_SHIFT`].
const EMPTY: i32 = i32::MAX;

/// An exact sum.
#[derive(Clone, Debug)]
pub(super) enum ExactSum {
    /// `limbs` (a 128-bit integer in two's complement) `* 2^(exponent - 1075)`; `exponent` counts like the exponent field of `f64`,
    /// from 1.
    Narrow { limbs: [u64; 2], exponent: i32 },
    /// In units of 2^-1074.
    Wide(Fixed),
}

impl Default for ExactSum {
    fn default() -> Self {
        ExactSum::Narrow { limbs: [0; 2], exponent: EMPTY }
    }
}

impl ExactSum {
    /// Adds a finite value.
    #[inline(always)]
    pub(super) fn add(&mut self, value: f64) {
        if let ExactSum::Narrow { limbs, exponent } = self {
            let bits = value.to_bits();
            let shift = ((bits >> 52) & 0x7ff) as i32;
            let shift = shift.wrapping_sub(*exponent) as u32;
            if shift <= MAX_SHIFT {
                let sign = i128::from((bits as i64) >> 63);
                let term = i128::from((bits & MANTISSA) | HIDDEN) << shift;
                let (sum, overflow) = join(*limbs).overflowing_add((term ^ sign) - sign);
                if !overflow {
                    *limbs = split(sum);
                    return;
                }
            }
        }
        self.add_unusual(value);
    }

    /// Adds what is zero, subnormal, the first, or too far from what came before.
    #[cold]
    #[inline(never)]
    fn add_unusual(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "{value} cannot be summed");
        let (mantissa, field) = decompose(value);
        if mantissa == 0 {
            return;
        }
        if let ExactSum::Narrow { exponent, .. } = self {
            let slack = if *exponent == EMPTY { SLACK.min(field - 1) } else { 0 };
            let integer = i128::from(mantissa) << slack;
            let integer = if value < 0.0 { -integer } else { integer };
            if self.add_narrow(integer, field - slack) {
                return;
            }
        }
        self.widened().add(value < 0.0, &[mantissa], (field - 1) as u32);
    }

    /// Adds `integer * 2^(exponent - 1075)` if self is narrow and the sum stays so.
    fn add_narrow(&mut self, integer: i128, other: i32) -> bool {
        let ExactSum::Narrow { limbs, exponent } = self else { return false };
        let sum = join(*limbs);
        let least = if sum == 0 { other } else { other.min(*exponent) };
        let mine = if sum == 0 { Some(0) } else { shifted(sum, *exponent - least) };
        match mine.zip(shifted(integer, other - least)).and_then(|(mine, term)| mine.checked_add(term)) {
            Some(total) => {
                *limbs = split(total);
                *exponent = least;
                true
            }
            None => false,
        }
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: &ExactSum) {
        match other {
            ExactSum::Narrow { exponent: EMPTY, .. } => {}
            ExactSum::Narrow { limbs, exponent } => {
                let integer = join(*limbs);
                if integer != 0 && !self.add_narrow(integer, *exponent) {
                    let position = (*exponent - 1) as u32;
                    self.widened().add(integer < 0, &split(integer.unsigned_abs() as i128), position);
                }
            }
            ExactSum::Wide(fixed) => self.widened().add_fixed(fixed),
        }
    }

    /// Makes it wide.
    fn widened(&mut self) -> &mut Fixed {
        if let ExactSum::Narrow { limbs, exponent } = self {
            let integer = join(*limbs);
            let mut fixed = Fixed::zero(FIXED_LIMBS);
            if integer != 0 {
                fixed.add(integer < 0, &split(integer.unsigned_abs() as i128), (*exponent - 1) as u32);
            }
            *self = ExactSum::Wide(fixed);
        }
        match self {
            ExactSum::Wide(fixed) => fixed,
            ExactSum::Narrow { .. } => unreachable!("it was made wide above"),
        }
    }

    /// Sign, magnitude and position: the sum is `±magnitude * 2^(position - 1074)`. A wide sum needs [`ANY`] limbs.
    pub(super) fn parts<const N: usize>(&self) -> (bool, Nat<N>, u32) {
        match self {
            ExactSum::Narrow { limbs, exponent } => {
                let integer = join(*limbs);
                let position = if integer == 0 { 0 } else { (*exponent - 1) as u32 };
                (integer < 0, Nat::from_limbs(&split(integer.unsigned_abs() as i128)), position)
            }
            ExactSum::Wide(fixed) => {
                let (negative, magnitude) = fixed.to_magnitude();
                (negative, magnitude, 0)
            }
        }
    }

    /// The nearest `f64`, ties to even; `None` beyond its range.
    pub(super) fn value(&self) -> Option<f64> {
        match self {
            ExactSum::Narrow { .. } => self.rounded::<NARROW>(),
            ExactSum::Wide(_) => self.rounded::<ANY>(),
        }
    }

    fn rounded<const N: usize>(&self) -> Option<f64> {
        let (negative, magnitude, position) = self.parts::<N>();
        round_to_f64(negative, magnitude.limbs(), position as i32 + UNIT, false)
    }

    /// The `f64` nearest to the sum divided by `count`; `None` for a count of 0.
    pub(super) fn mean(&self, count: u64) -> Option<f64> {
        match self {
            _ if count == 0 => None,
            ExactSum::Narrow { .. } => self.divided::<NARROW>(count),
            ExactSum::Wide(_) => self.divided::<ANY>(count),
        }
    }

    fn divided<const N: usize>(&self, count: u64) -> Option<f64> {
        let (negative, magnitude, position) = self.parts::<N>();
        // 128 more bits leave at least 64 in the quotient by any count.
        let (quotient, inexact) = magnitude.shifted_left(128).divided_by(count);
        round_to_f64(negative, quotient.limbs(), position as i32 + UNIT - 128, inexact)
    }

    /// Appends the one encoding of this sum.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ExactSum::Narrow { .. } => self.put::<NARROW>(out),
            ExactSum::Wide(_) => self.put::<ANY>(out),
        }
    }

    fn put<const N: usize>(&self, out: &mut Vec<u8>) {
        let (negative, magnitude, position) = self.parts::<N>();
        put_exact(out, negative, &magnitude, position);
    }

    /// Reads what [`ExactSum::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> ProcessorResult<Self> {
        Ok(ExactSum::from_exact(&reader.exact(LIMIT_BITS)?))
    }

    /// From the number that it is, in units of 2^-1074.
    pub(super) fn from_exact(exact: &Exact) -> Self {
        let mut sum = ExactSum::default();
        match *exact.number.limbs() {
            [] => {}
            [low] => sum = ExactSum::from_integer(exact.negative, u128::from(low), exact.position),
            [low, high] if high >> 63 == 0 => {
                let magnitude = u128::from(high) << 64 | u128::from(low);
                sum = ExactSum::from_integer(exact.negative, magnitude, exact.position);
            }
            _ => sum.widened().add(exact.negative, exact.number.limbs(), exact.position),
        }
        sum
    }

    /// The number that it is, in the same units; not odd.
    pub(super) fn to_exact(&self) -> Exact {
        let (negative, number, position) = self.parts::<ANY>();
        Exact { negative, number, position }
    }

    /// From a magnitude below 2^127.
    fn from_integer(negative: bool, magnitude: u128, position: u32) -> Self {
        let integer = if negative { -(magnitude as i128) } else { magnitude as i128 };
        ExactSum::Narrow { limbs: split(integer), exponent: position as i32 + 1 }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            ExactSum::Narrow { .. } => 0,
            ExactSum::Wide(fixed) => fixed.heap_bytes(),
        }
    }
}

/// Mantissa and exponent field (at least 1) of a finite value: it is `±mantissa * 2^(field - 1075)`.
pub(super) fn decompose(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    match ((bits >> 52) & 0x7ff) as i32 {
        0 => (bits & MANTISSA, 1),
        field => ((bits & MANTISSA) | HIDDEN, field),
    }
}

#[inline(always)]
fn join(limbs: [u64; 2]) -> i128 {
    (u128::from(limbs[1]) << 64 | u128::from(limbs[0])) as i128
}

#[inline(always)]
fn split(integer: i128) -> [u64; 2] {
    [integer as u64, (integer as u128 >> 64) as u64]
}

/// `integer * 2^count`, where that fits.
fn shifted(integer: i128, count: i32) -> Option<i128> {
    let spare = if integer < 0 { integer.leading_ones() } else { integer.leading_zeros() } as i32 - 1;
    (count <= spare).then(|| integer << count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::{BigInt, Sign};
    use proptest::prelude::*;

    /// In units of the least subnormal.
    fn exact(sum: &ExactSum) -> BigInt {
        let (negative, magnitude, position) = sum.parts::<ANY>();
        let digits = magnitude.limbs().iter().flat_map(|limb| [*limb as u32, (limb >> 32) as u32]).collect();
        BigInt::new(if negative { Sign::Minus } else { Sign::Plus }, digits) << position
    }

    fn exact_value(value: f64) -> BigInt {
        let (mantissa, field) = decompose(value);
        let integer = BigInt::from(mantissa) << (field - 1);
        if value < 0.0 { -integer } else { integer }
    }

    proptest! {
        #[test]
        fn any_state_takes_any_value(
            limbs in any::<[u64; 2]>(),
            full in any::<bool>(),
            exponent in 1i32..2000,
            offset in -100i32..100,
            mantissa in any::<u64>(),
        ) {
            let limbs = if full { [u64::MAX, limbs[1] | 0x7fff << 48 & !(1 << 63)] } else { limbs };
            let mut sum = ExactSum::Narrow { limbs, exponent };
            let field = (exponent + offset).clamp(0, 2046) as u64;
            let value = f64::from_bits(mantissa & (MANTISSA | 1 << 63) | field << 52);
            let expected = exact(&sum) + exact_value(value);
            let mut other = ExactSum::default();
            other.add(value);
            let mut merged = sum.clone();
            merged.merge(&other);
            other.merge(&sum);
            sum.add(value);
            prop_assert_eq!(exact(&sum), expected.clone());
            prop_assert_eq!(exact(&merged), expected.clone());
            prop_assert_eq!(exact(&other), expected);
        }
    }
}
