//! Exact sums of squares, and the standard deviation.
//!
//! The model is that of [`super::sum`] with squares: an integer of 256 bits times a power of four, and a [`Fixed`] where the
//! values differ too much. The variance is `(n * Σx² - (Σx)²) / (n * (n - 1))` with an exact numerator, so nothing cancels:
//! values of 1e15 that differ by 1 have the right deviation.

use super::codec::{Exact, Reader, put_exact};
use super::fixed::Fixed;
use super::nat::{ANY, NARROW, NARROW_SQUARES, Nat, bit_length, round_to_f64, scale};
use super::sum::{ExactSum, HIDDEN, MANTISSA, decompose};
use crate::error::ProcessorResult;

/// Limbs of the widest sum of squares: 4,196 bits of squares, 64 of carries.
const FIXED_LIMBS: usize = 67;
/// The sum of 2^64 squares is below 2 to this power, in units of the square of the least subnormal.
const LIMIT_BITS: u32 = 4196 + 64;
/// The exponent of that unit.
const UNIT: i32 = -2148;
/// A square of 106 bits moved by twice this much lies in the upper or the lower three limbs.
const MAX_SHIFT: u32 = 63;
/// How far below the first value the window begins.
const SLACK: i32 = 28;
/// The exponent of a sum without values.
const EMPTY: i32 = i32::MAX;

/// An exact sum of squares.
#[derive(Clone, Debug)]
pub(super) enum ExactSquares {
    /// `limbs * 4^(exponent - 1075)`; `exponent` counts like the exponent field of `f64`, from 1.
    Narrow { limbs: [u64; 4], exponent: i32 },
    /// In units of 2^-2148.
    Wide(Fixed),
}

impl Default for ExactSquares {
    fn default() -> Self {
        ExactSquares::Narrow { limbs: [0; 4], exponent: EMPTY }
    }
}

impl ExactSquares {
    /// Adds the square of a finite value.
    #[inline(always)]
    pub(super) fn add(&mut self, value: f64) {
        if let ExactSquares::Narrow { limbs, exponent } = self {
            let bits = value.to_bits();
            let shift = ((bits >> 52) & 0x7ff) as i32;
            let shift = shift.wrapping_sub(*exponent) as u32;
            if shift <= MAX_SHIFT {
                let mantissa = u128::from((bits & MANTISSA) | HIDDEN);
                let square = mantissa * mantissa;
                let (first, part) = ((shift >> 5) as usize, (2 * shift) & 63);
                let low = square << part;
                // 106 bits moved by up to 62: what leaves the 128 bits is the top 40. Two moves, because one by 128 is none.
                let high = ((square >> 64) as u64 >> 1) >> (63 - part);
                let (sum, carry) = limbs[first].overflowing_add(low as u64);
                limbs[first] = sum;
                // The sum of the middle limbs and the carry fits in 128 bits, as does that of the upper ones.
                let sum = u128::from(limbs[first + 1]) + (low >> 64) + u128::from(carry);
                limbs[first + 1] = sum as u64;
                let (sum, carry) = limbs[first + 2].overflowing_add(high + (sum >> 64) as u64);
                limbs[first + 2] = sum;
                if !carry {
                    return;
                }
                return self.carry_out(first + 3);
            }
        }
        self.add_unusual(value);
    }

    /// Brings a carry into limb `index` of a narrow sum.
    #[cold]
    #[inline(never)]
    fn carry_out(&mut self, index: usize) {
        let ExactSquares::Narrow { limbs, exponent } = self else { return };
        let position = 2 * (*exponent - 1) as u32;
        if let Some(limb) = limbs.get_mut(index) {
            let (sum, carry) = limb.overflowing_add(1);
            *limb = sum;
            if !carry {
                return;
            }
        }
        self.widened().add(false, &[1], position + 256);
    }

    /// Adds what is zero, subnormal, the first, or too far from what came before.
    #[cold]
    #[inline(never)]
    fn add_unusual(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "{value} cannot be squared and summed");
        let (mantissa, field) = decompose(value);
        if mantissa == 0 {
            return;
        }
        let square = u128::from(mantissa) * u128::from(mantissa);
        let limbs = [square as u64, (square >> 64) as u64, 0, 0];
        let slack = match self {
            ExactSquares::Narrow { exponent: EMPTY, .. } => SLACK.min(field - 1),
            _ => 0,
        };
        let placed = shifted(&limbs, 2 * slack as u32).is_some_and(|limbs| self.add_narrow(&limbs, field - slack));
        if !placed {
            self.widened().add(false, &limbs, 2 * (field - 1) as u32);
        }
    }

    /// Adds `integer * 4^(other - 1075)` if self is narrow and the sum stays so.
    fn add_narrow(&mut self, integer: &[u64; 4], other: i32) -> bool {
        let ExactSquares::Narrow { limbs, exponent } = self else { return false };
        let empty = limbs.iter().all(|limb| *limb == 0);
        let least = if empty { other } else { other.min(*exponent) };
        let mine = if empty { Some([0; 4]) } else { shifted(limbs, 2 * (*exponent - least) as u32) };
        let total = mine.zip(shifted(integer, 2 * (other - least) as u32)).and_then(|(a, b)| sum_of(&a, &b));
        match total {
            Some(total) => {
                *limbs = total;
                *exponent = least;
                true
            }
            None => false,
        }
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: &ExactSquares) {
        match other {
            ExactSquares::Narrow { exponent: EMPTY, .. } => {}
            ExactSquares::Narrow { limbs, exponent } => {
                if !self.add_narrow(limbs, *exponent) {
                    self.widened().add(false, limbs, 2 * (*exponent - 1) as u32);
                }
            }
            ExactSquares::Wide(fixed) => self.widened().add_fixed(fixed),
        }
    }

    /// Makes it wide.
    fn widened(&mut self) -> &mut Fixed {
        if let ExactSquares::Narrow { limbs, exponent } = self {
            let mut fixed = Fixed::zero(FIXED_LIMBS);
            if *exponent != EMPTY {
                fixed.add(false, limbs, 2 * (*exponent - 1) as u32);
            }
            *self = ExactSquares::Wide(fixed);
        }
        match self {
            ExactSquares::Wide(fixed) => fixed,
            ExactSquares::Narrow { .. } => unreachable!("it was made wide above"),
        }
    }

    /// Magnitude and position: the sum is `magnitude * 2^(position - 2148)`.
    /// A wide sum needs [`ANY`] limbs.
    fn parts<const N: usize>(&self) -> (Nat<N>, u32) {
        match self {
            ExactSquares::Narrow { exponent: EMPTY, .. } => (Nat::from_limbs(&[]), 0),
            ExactSquares::Narrow { limbs, exponent } => (Nat::from_limbs(limbs), 2 * (*exponent - 1) as u32),
            ExactSquares::Wide(fixed) => (fixed.to_magnitude().1, 0),
        }
    }

    /// Appends the one encoding of this sum.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ExactSquares::Narrow { .. } => self.put::<NARROW>(out),
            ExactSquares::Wide(_) => self.put::<ANY>(out),
        }
    }

    fn put<const N: usize>(&self, out: &mut Vec<u8>) {
        let (magnitude, position) = self.parts::<N>();
        put_exact(out, false, &magnitude, position);
    }

    /// Reads what [`ExactSquares::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> ProcessorResult<Self> {
        let exact = reader.exact(LIMIT_BITS)?;
        if exact.negative {
            return Err(reader.error("a negative sum of squares"));
        }
        Ok(ExactSquares::from_exact(&exact))
    }

    /// From the number that it is, in units of 2^-2148; its sign is passed over.
    pub(super) fn from_exact(exact: &Exact) -> Self {
        let mut squares = ExactSquares::default();
        if exact.number.is_zero() {
            return squares;
        }
        let odd = exact.position % 2;
        let number = exact.number.shifted_left(odd);
        if number.limbs().len() <= 4 {
            let mut limbs = [0; 4];
            limbs[..number.limbs().len()].copy_from_slice(number.limbs());
            squares = ExactSquares::Narrow { limbs, exponent: (exact.position / 2) as i32 + 1 };
        } else {
            squares.widened().add(false, number.limbs(), exact.position - odd);
        }
        squares
    }

    /// The number that it is, in the same units; not odd.
    pub(super) fn to_exact(&self) -> Exact {
        let (number, position) = self.parts::<ANY>();
        Exact { negative: false, number, position }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            ExactSquares::Narrow { .. } => 0,
            ExactSquares::Wide(fixed) => fixed.heap_bytes(),
        }
    }
}

/// The sample standard deviation, to the last two bits. `None` for fewer than two values, and where it is beyond the range of `f64`.
pub(super) fn sample_stddev(count: u64, sum: &ExactSum, squares: &ExactSquares) -> Option<f64> {
    let distance = match (sum, squares) {
        (ExactSum::Narrow { exponent, .. }, ExactSquares::Narrow { exponent: other, .. }) => exponent.abs_diff(*other),
        _ => u32::MAX,
    };
    match count {
        0 | 1 => None,
        // 256 bits and a count, brought up by twice the distance.
        _ if distance < 64 * 3 => deviation::<NARROW_SQUARES>(count, sum, squares),
        _ => deviation::<ANY>(count, sum, squares),
    }
}

/// [`sample_stddev`] of at least two values, in numbers of `N` limbs.
fn deviation<const N: usize>(count: u64, sum: &ExactSum, squares: &ExactSquares) -> Option<f64> {
    let (_, sum, sum_position) = sum.parts::<N>();
    let (squares, squares_position) = squares.parts::<N>();
    // Values that cancel leave no position: nothing needs to be brought down to it.
    let sum_position = if sum.is_zero() { squares_position / 2 } else { sum_position };
    let (left, right) = (squares.times(count), sum.squared());
    let least = squares_position.min(2 * sum_position);
    let numerator = left.shifted_left(squares_position - least).minus(&right.shifted_left(2 * sum_position - least))?;
    if numerator.is_zero() {
        return Some(0.0);
    }
    // Between a half and one, times a power of four.
    let bits = numerator.bits() as i32;
    let exponent = bits + least as i32 + UNIT;
    let odd = exponent.rem_euclid(2);
    let fraction = round_to_f64(false, numerator.limbs(), odd - bits, false)?;
    let pairs = u128::from(count) * u128::from(count - 1);
    let deviation = scale((fraction / pairs as f64).sqrt(), (exponent - odd) / 2);
    deviation.is_finite().then_some(deviation)
}

/// `integer * 2^count`, where that fits.
fn shifted(integer: &[u64; 4], count: u32) -> Option<[u64; 4]> {
    let bits = bit_length(integer);
    if count == 0 || bits == 0 {
        return Some(*integer);
    }
    if bits + count > 256 {
        return None;
    }
    // There are bits, so the count is below 256.
    let (whole, part) = ((count / 64) as usize, count % 64);
    let mut moved = [0; 4];
    let mut below = 0;
    for (limb, target) in integer.iter().zip(&mut moved[whole..]) {
        let wide = u128::from(*limb) << part;
        *target = wide as u64 | below;
        below = (wide >> 64) as u64;
    }
    Some(moved)
}

/// The sum, where that fits.
fn sum_of(left: &[u64; 4], right: &[u64; 4]) -> Option<[u64; 4]> {
    let mut total = [0; 4];
    let mut carry = false;
    for index in 0..4 {
        let (partial, one) = left[index].overflowing_add(right[index]);
        let (sum, two) = partial.overflowing_add(u64::from(carry));
        total[index] = sum;
        carry = one | two;
    }
    (!carry).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    /// In units of the square of the least subnormal.
    fn exact(squares: &ExactSquares) -> BigUint {
        let (magnitude, position) = squares.parts::<ANY>();
        let digits = magnitude.limbs().iter().flat_map(|limb| [*limb as u32, (limb >> 32) as u32]).collect();
        BigUint::new(digits) << position
    }

    fn exact_square(value: f64) -> BigUint {
        let (mantissa, field) = decompose(value);
        (BigUint::from(mantissa) << (field - 1)).pow(2)
    }

    proptest! {
        #[test]
        fn any_state_takes_any_value(
            limbs in any::<[u64; 4]>(),
            full in 0usize..=4,
            exponent in 1i32..1900,
            offset in -150i32..150,
            mantissa in any::<u64>(),
        ) {
            let mut limbs = limbs;
            limbs[4 - full..].fill(u64::MAX);
            let mut squares = ExactSquares::Narrow { limbs, exponent };
            let field = (exponent + offset).clamp(0, 2046) as u64;
            let value = f64::from_bits(mantissa & (MANTISSA | 1 << 63) | field << 52);
            let expected = exact(&squares) + exact_square(value);
            let mut other = ExactSquares::default();
            other.add(value);
            let mut merged = squares.clone();
            merged.merge(&other);
            other.merge(&squares);
            squares.add(value);
            prop_assert_eq!(exact(&squares), expected.clone());
            prop_assert_eq!(exact(&merged), expected.clone());
            prop_assert_eq!(exact(&other), expected);
        }
    }

    #[test]
    fn a_carry_reaches_the_top_limb() {
        let limbs = [u64::MAX, u64::MAX, u64::MAX, 7];
        let mut squares = ExactSquares::Narrow { limbs, exponent: 1000 };
        let before = exact(&squares);
        squares.add(f64::from_bits(1000 << 52));
        assert!(matches!(squares, ExactSquares::Narrow { limbs: [_, _, 0, 8], .. }), "{squares:?}");
        assert_eq!(exact(&squares), before + exact_square(f64::from_bits(1000 << 52)));
    }
}
