//! Fixed-point numbers so wide that any finite `f64` fits: where sums go whose values differ too much for a narrow window.
//!
//! The model is Kulisch's long accumulator: bit 0 stands for the least number that can ever be added, the top limbs for the
//! carries of 2^64 additions. Numbers are in two's complement; adding touches a few limbs and the carry's way.

use super::nat::Nat;

/// A fixed-point number in two's complement.
#[derive(Clone, Debug)]
pub(super) struct Fixed(Box<[u64]>);

impl Fixed {
    /// 0 with room for `limbs` limbs.
    pub(super) fn zero(limbs: usize) -> Self {
        Fixed(vec![0; limbs].into_boxed_slice())
    }

    /// Adds `±magnitude * 2^position`. Bits beyond the width are lost, which 2^64 additions cannot reach.
    pub(super) fn add(&mut self, negative: bool, magnitude: &[u64], position: u32) {
        for (index, limb) in magnitude.iter().enumerate() {
            if *limb != 0 {
                self.add_limb(negative, *limb, position + index as u32 * 64);
            }
        }
    }

    fn add_limb(&mut self, negative: bool, limb: u64, position: u32) {
        let (first, part) = ((position / 64) as usize, position % 64);
        let wide = u128::from(limb) << part;
        let mut carry = false;
        for (index, target) in self.0.iter_mut().enumerate().skip(first) {
            let term = match index - first {
                0 => wide as u64,
                1 => (wide >> 64) as u64,
                _ if !carry => break,
                _ => 0,
            };
            let (partial, one) = if negative { target.overflowing_sub(term) } else { target.overflowing_add(term) };
            let (total, two) = if negative {
                partial.overflowing_sub(u64::from(carry))
            } else {
                partial.overflowing_add(u64::from(carry))
            };
            *target = total;
            carry = one | two;
        }
    }

    /// Adds another number of the same width.
    pub(super) fn add_fixed(&mut self, other: &Fixed) {
        let mut carry = false;
        for (target, term) in self.0.iter_mut().zip(other.0.iter()) {
            let (partial, one) = target.overflowing_add(*term);
            let (total, two) = partial.overflowing_add(u64::from(carry));
            *target = total;
            carry = one | two;
        }
    }

    /// Sign and magnitude.
    pub(super) fn to_magnitude(&self) -> (bool, Nat) {
        let negative = self.0.last().is_some_and(|top| top >> 63 == 1);
        if !negative {
            return (false, Nat::from_limbs(&self.0));
        }
        let mut limbs = self.0.clone();
        let mut carry = true;
        for limb in &mut limbs {
            let (negated, overflow) = (!*limb).overflowing_add(u64::from(carry));
            *limb = negated;
            carry = overflow;
        }
        (true, Nat::from_limbs(&limbs))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val::<[u64]>(&self.0)
    }
}
