//! Reading and writing the parts of an encoded accumulator, and of the records that hold them.
//!
//! Every number has one encoding: a longer one than needed is an error, so that equal accumulators have equal bytes.

use super::nat::Nat;
use crate::error::{ProcessorError, ProcessorResult};

/// Appends a number in groups of seven bits, least significant first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `±number * 2^position`: the length in bytes and the sign, then the position and the bytes of the odd part.
pub(super) fn put_exact<const N: usize>(out: &mut Vec<u8>, negative: bool, number: &Nat<N>, position: u32) {
    let zeros = number.trailing_zeros();
    let odd = number.shifted_right(zeros);
    let length = odd.bits().div_ceil(8);
    put_varint(out, u64::from(length) << 1 | u64::from(negative && length > 0));
    if length > 0 {
        put_varint(out, u64::from(position + zeros));
        out.extend(odd.limbs().iter().flat_map(|limb| limb.to_le_bytes()).take(length as usize));
    }
}

/// `±number * 2^position`; what was read is odd, or 0.
pub(super) struct Exact {
    pub(super) negative: bool,
    pub(super) number: Nat,
    pub(super) position: u32,
}

/// Reads an encoded accumulator, or something else that is encoded, from front to back.
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of an accumulator.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self::of("an encoded accumulator", bytes)
    }

    /// Of what errors call `what`.
    pub(crate) fn of(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    /// The error that says where reading stopped and why.
    pub(crate) fn error(&self, why: &str) -> ProcessorError {
        ProcessorError::State(format!(
            "{} of {} bytes is damaged or of another version, at byte {}: {why}",
            self.what,
            self.bytes.len(),
            self.at
        ))
    }

    pub(crate) fn take(&mut self, count: usize) -> ProcessorResult<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err(self.error(&format!("{count} bytes expected, {} left", rest.len())));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> ProcessorResult<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn byte(&mut self) -> ProcessorResult<u8> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn varint(&mut self) -> ProcessorResult<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(self.error("a number beyond 64 bits"));
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.error("a number longer than it need be"));
                }
                return Ok(value);
            }
        }
        Err(self.error("a number beyond 64 bits"))
    }

    /// What is preceded by its length.
    pub(crate) fn prefixed(&mut self) -> ProcessorResult<&'a [u8]> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A finite number.
    pub(super) fn number(&mut self) -> ProcessorResult<f64> {
        let value = f64::from_le_bytes(self.array()?);
        if !value.is_finite() {
            return Err(self.error("a value that is not finite"));
        }
        if value == 0.0 && value.is_sign_negative() {
            return Err(self.error("a negative zero"));
        }
        Ok(value)
    }

    /// What [`put_exact`] wrote, below `2^limit`.
    pub(super) fn exact(&mut self, limit: u32) -> ProcessorResult<Exact> {
        let head = self.varint()?;
        let (negative, length) = (head & 1 == 1, head >> 1);
        if length > u64::from(limit / 8 + 1) {
            return Err(self.error("a sum beyond the range of sums"));
        }
        if length == 0 {
            if negative {
                return Err(self.error("a negative zero"));
            }
            return Ok(Exact { negative, number: Nat::from_limbs(&[]), position: 0 });
        }
        let position = self.varint()?;
        let bytes = self.take(length as usize)?;
        let mut limbs = Vec::with_capacity(bytes.len() / 8 + 1);
        for chunk in bytes.chunks(8) {
            let mut limb = [0; 8];
            limb[..chunk.len()].copy_from_slice(chunk);
            limbs.push(u64::from_le_bytes(limb));
        }
        if limbs[0] & 1 == 0 || bytes[bytes.len() - 1] == 0 {
            return Err(self.error("a sum that is not in its shortest form"));
        }
        let number = Nat::from_limbs(&limbs);
        if position > u64::from(limit) || position as u32 + number.bits() > limit {
            return Err(self.error("a sum beyond the range of sums"));
        }
        Ok(Exact { negative, number, position: position as u32 })
    }

    /// Fails unless everything was read.
    pub(crate) fn finish(&self) -> ProcessorResult<()> {
        match self.left() {
            0 => Ok(()),
            rest => Err(self.error(&format!("{rest} bytes too many"))),
        }
    }
}
