//! Natural numbers of bounded size on the stack, and their rounding to `f64`.
//!
//! The model: exact sums are integers times a power of two. Results are computed on those integers and rounded once, at the
//! end, so they do not depend on the order in which the values came. Nothing here allocates, because results are computed for
//! every window that fires.

/// Limbs of a [`Nat`]. The largest number computed is `count * sum of squares` (67 limbs of the widest sum of squares and one
/// of the count) and the square of the widest sum (34 limbs); the rest is margin.
const CAPACITY: usize = 72;

/// A natural number; `limbs[len - 1]` is not 0, least significant limb first.
#[derive(Clone)]
pub(super) struct Nat {
    limbs: [u64; CAPACITY],
    len: usize,
}

impl Nat {
    /// The number with these limbs, least significant first.
    pub(super) fn from_limbs(limbs: &[u64]) -> Self {
        let len = limbs.iter().rposition(|limb| *limb != 0).map_or(0, |last| last + 1);
        let mut number = Nat { limbs: [0; CAPACITY], len };
        number.limbs[..len].copy_from_slice(&limbs[..len]);
        number
    }

    /// The limbs, without leading zeros.
    pub(super) fn limbs(&self) -> &[u64] {
        &self.limbs[..self.len]
    }

    /// Whether it is 0.
    pub(super) fn is_zero(&self) -> bool {
        self.len == 0
    }

    /// The number of bits without leading zeros; 0 for 0.
    pub(super) fn bits(&self) -> u32 {
        bit_length(self.limbs())
    }

    /// How often it can be halved without a remainder; 0 for 0.
    pub(super) fn trailing_zeros(&self) -> u32 {
        match self.limbs().iter().position(|limb| *limb != 0) {
            Some(index) => index as u32 * 64 + self.limbs[index].trailing_zeros(),
            None => 0,
        }
    }

    /// `self * 2^count`.
    pub(super) fn shifted_left(&self, count: u32) -> Self {
        let (whole, part) = ((count / 64) as usize, count % 64);
        let mut shifted = Nat { limbs: [0; CAPACITY], len: 0 };
        if self.is_zero() {
            return shifted;
        }
        let mut carry = 0;
        for (index, limb) in self.limbs().iter().enumerate() {
            shifted.limbs[index + whole] = (limb << part) | carry;
            carry = if part == 0 { 0 } else { limb >> (64 - part) };
        }
        shifted.len = self.len + whole;
        if carry != 0 {
            shifted.limbs[shifted.len] = carry;
            shifted.len += 1;
        }
        shifted
    }

    /// `self / 2^count`, without the remainder.
    pub(super) fn shifted_right(&self, count: u32) -> Self {
        let (whole, part) = ((count / 64) as usize, count % 64);
        let mut shifted = Nat { limbs: [0; CAPACITY], len: self.len.saturating_sub(whole) };
        for index in 0..shifted.len {
            let high =
                if part == 0 { 0 } else { self.limbs.get(index + whole + 1).map_or(0, |limb| limb << (64 - part)) };
            shifted.limbs[index] = (self.limbs[index + whole] >> part) | high;
        }
        while shifted.len > 0 && shifted.limbs[shifted.len - 1] == 0 {
            shifted.len -= 1;
        }
        shifted
    }

    /// `self * factor`.
    pub(super) fn times(&self, factor: u64) -> Self {
        let mut product = Nat { limbs: [0; CAPACITY], len: self.len };
        let mut carry = 0;
        for (index, limb) in self.limbs().iter().enumerate() {
            let wide = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            product.limbs[index] = wide as u64;
            carry = (wide >> 64) as u64;
        }
        if carry != 0 {
            product.limbs[product.len] = carry;
            product.len += 1;
        }
        if factor == 0 {
            product.len = 0;
        }
        product
    }

    /// `self * self`.
    pub(super) fn squared(&self) -> Self {
        let mut square = [0u64; CAPACITY];
        for (left, a) in self.limbs().iter().enumerate() {
            let mut carry = 0;
            for (right, b) in self.limbs().iter().enumerate() {
                let wide = u128::from(*a) * u128::from(*b) + u128::from(square[left + right]) + u128::from(carry);
                square[left + right] = wide as u64;
                carry = (wide >> 64) as u64;
            }
            square[left + self.len] = carry;
        }
        Nat::from_limbs(&square[..2 * self.len])
    }

    /// `self - other`, where that is not negative.
    pub(super) fn minus(&self, other: &Nat) -> Option<Self> {
        let mut difference = self.clone();
        let mut borrow = false;
        for index in 0..self.len.max(other.len) {
            let (first, one) = difference.limbs[index].overflowing_sub(other.limbs[index]);
            let (second, two) = first.overflowing_sub(u64::from(borrow));
            difference.limbs[index] = second;
            borrow = one | two;
        }
        (!borrow).then(|| Nat::from_limbs(&difference.limbs))
    }

    /// Quotient, and whether there was a remainder. `divisor` is not 0.
    pub(super) fn divided_by(&self, divisor: u64) -> (Self, bool) {
        let mut quotient = Nat { limbs: [0; CAPACITY], len: self.len };
        let mut remainder = 0u64;
        for index in (0..self.len).rev() {
            let wide = (u128::from(remainder) << 64) | u128::from(self.limbs[index]);
            quotient.limbs[index] = (wide / u128::from(divisor)) as u64;
            remainder = (wide % u128::from(divisor)) as u64;
        }
        while quotient.len > 0 && quotient.limbs[quotient.len - 1] == 0 {
            quotient.len -= 1;
        }
        (quotient, remainder != 0)
    }
}

/// The number of bits of a little-endian number without leading zeros.
pub(super) fn bit_length(limbs: &[u64]) -> u32 {
    match limbs.iter().rposition(|limb| *limb != 0) {
        Some(last) => last as u32 * 64 + (64 - limbs[last].leading_zeros()),
        None => 0,
    }
}

/// The `f64` nearest to `±(number + rest) * 2^exponent`, ties to even, where `rest` stands for something between 0 and 1 that is
/// not 0 if `inexact`. `None` where that is beyond the range of `f64`.
///
/// An inexact number must have at least 55 bits, so that the rest lies below the rounding.
pub(super) fn round_to_f64(negative: bool, number: &[u64], exponent: i32, inexact: bool) -> Option<f64> {
    let bits = bit_length(number) as i32;
    if bits == 0 {
        return Some(0.0);
    }
    let leading = exponent + bits - 1;
    if leading > 1023 {
        return None;
    }
    let unit = (leading - 52).max(-1074);
    let dropped = unit - exponent;
    let mantissa = if dropped <= 0 {
        number[0] << (-dropped) as u32
    } else {
        let dropped = dropped as u32;
        let kept = bits_from(number, dropped);
        let half = bit(number, dropped - 1);
        let below = inexact || any_below(number, dropped - 1);
        kept + u64::from(half && (below || kept & 1 == 1))
    };
    let hidden = 1u64 << 52;
    let magnitude = if mantissa < hidden { mantissa } else { (((unit + 1075) as u64) << 52) + (mantissa - hidden) };
    let value = f64::from_bits(magnitude);
    value.is_finite().then_some(if negative && value != 0.0 { -value } else { value })
}

/// `value * 2^exponent`, rounded once at most unless the result is subnormal; infinite where it is too large.
pub(super) fn scale(value: f64, exponent: i32) -> f64 {
    let mut value = value;
    let mut exponent = exponent.clamp(-4000, 4000);
    while exponent > 1023 {
        value *= power_of_two(1023);
        exponent -= 1023;
    }
    while exponent < -1022 {
        value *= power_of_two(-1022);
        exponent += 1022;
    }
    value * power_of_two(exponent)
}

/// `2^exponent` for an exponent of a normal number.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

fn bit(number: &[u64], position: u32) -> bool {
    number.get((position / 64) as usize).is_some_and(|limb| (limb >> (position % 64)) & 1 == 1)
}

fn any_below(number: &[u64], position: u32) -> bool {
    let whole = (position / 64) as usize;
    let part = position % 64;
    number.iter().take(whole).any(|limb| *limb != 0)
        || number.get(whole).is_some_and(|limb| limb & ((1u64 << part) - 1) != 0)
}

/// The 64 bits that begin at `position`.
fn bits_from(number: &[u64], position: u32) -> u64 {
    let (whole, part) = ((position / 64) as usize, position % 64);
    let low = number.get(whole).map_or(0, |limb| limb >> part);
    let high = if part == 0 { 0 } else { number.get(whole + 1).map_or(0, |limb| limb << (64 - part)) };
    low | high
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn big(number: &Nat) -> BigUint {
        number.limbs().iter().rev().fold(BigUint::ZERO, |sum, limb| (sum << 64u32) + *limb)
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_a_library(
            left in prop::collection::vec(prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>()], 0..30),
            right in prop::collection::vec(any::<u64>(), 0..30),
            small in 1u64..,
            shift in 0u32..1000,
        ) {
            let (a, b) = (Nat::from_limbs(&left), Nat::from_limbs(&right));
            prop_assert_eq!(big(&a.squared()), big(&a) * big(&a));
            prop_assert_eq!(big(&a.times(small)), big(&a) * small);
            prop_assert_eq!(big(&a.shifted_left(shift)), big(&a) << shift);
            prop_assert_eq!(big(&a.shifted_right(shift)), big(&a) >> shift);
            prop_assert_eq!(u64::from(a.bits()), big(&a).bits());
            prop_assert_eq!(u64::from(a.trailing_zeros()), big(&a).trailing_zeros().unwrap_or(0));
            let (quotient, rest) = a.divided_by(small);
            prop_assert_eq!(big(&quotient), big(&a) / small);
            prop_assert_eq!(rest, big(&a) % small != BigUint::ZERO);
            match a.minus(&b) {
                Some(difference) => prop_assert_eq!(big(&difference) + big(&b), big(&a)),
                None => prop_assert!(big(&a) < big(&b)),
            }
        }

        #[test]
        fn rounding_agrees_with_the_compiler(number in any::<u128>()) {
            let limbs = [number as u64, (number >> 64) as u64];
            prop_assert_eq!(round_to_f64(false, &limbs, 0, false), Some(number as f64));
            prop_assert_eq!(round_to_f64(true, &limbs, -60, false), Some(-(number as f64) / 2f64.powi(60)));
        }
    }

    #[test]
    fn rounding_at_the_edges_of_the_range() {
        assert_eq!(round_to_f64(false, &[1], -1074, false), Some(5e-324));
        assert_eq!(round_to_f64(false, &[1], -1075, false), Some(0.0), "half of the least: to even");
        assert_eq!(round_to_f64(true, &[3], -1076, false), Some(-5e-324), "three quarters of the least");
        assert_eq!(round_to_f64(false, &[(1 << 53) - 1], 971, false), Some(f64::MAX));
        assert_eq!(round_to_f64(false, &[(1 << 54) - 1], 970, false), None, "rounds up to 2^1024");
        assert_eq!(round_to_f64(false, &[1], 1024, false), None);
        assert_eq!(round_to_f64(false, &[(1 << 53) - 1], -1075, false), Some(f64::MIN_POSITIVE));
        assert_eq!(scale(1.5, -1074), 1e-323);
        assert_eq!(scale(1.0, 1024), f64::INFINITY);
        assert_eq!(scale(0.75, 1024), 0.75 * 2f64.powi(1023) * 2.0);
    }
}
