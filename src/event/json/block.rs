//! Looking at several bytes at once.
//!
//! On x86-64 a string is looked at 16 bytes at a time with SSE2, which every such processor has; elsewhere eight at a time in
//! plain arithmetic. Digits are counted in plain arithmetic everywhere.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A block of the inside of a string.
pub(super) struct StringBlock;

#[cfg(target_arch = "x86_64")]
impl StringBlock {
    /// How many bytes it has.
    pub(super) const LENGTH: usize = 16;

    /// Where the plain part of a string ends in the block: at a quote, a backslash or a control character.
    #[inline(always)]
    pub(super) fn first_special(block: &[u8; Self::LENGTH]) -> Option<usize> {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 is part of x86-64, and the load needs no alignment and stays inside `block`, which has 16 bytes.
        let marks = unsafe {
            let bytes = _mm_loadu_si128(block.as_ptr().cast());
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control))
        };
        if marks == 0 { None } else { Some(marks.trailing_zeros() as usize) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl StringBlock {
    /// How many bytes it has.
    pub(super) const LENGTH: usize = 8;

    /// Where the plain part of a string ends in the block: at a quote, a backslash or a control character.
    #[inline(always)]
    pub(super) fn first_special(block: &[u8; Self::LENGTH]) -> Option<usize> {
        let marks = special_bytes(u64::from_le_bytes(*block));
        if marks == 0 { None } else { Some((marks.trailing_zeros() / 8) as usize) }
    }
}

/// Marks (bit 7 of each byte) quotes, backslashes and control characters of a little-endian word. A borrow can mark a byte
/// wrongly only above one that is marked rightly, so the lowest mark is right.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline(always)]
fn special_bytes(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}

/// How many of the bytes are digits before the first that is none.
#[inline(always)]
pub(super) fn leading_digits(block: &[u8; 8]) -> usize {
    // A digit becomes 0 to 9; adding 118 then reaches bit 7 from 10 on. The addition is done on seven bits, so no byte
    // carries into the next, and bit 7 of the byte itself is a mark as well.
    let word = u64::from_le_bytes(*block) ^ (ONES * b'0' as u64);
    let marks = ((word & !HIGHS) + ONES * 118 | word) & HIGHS;
    (marks.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(byte: u8) -> bool {
        byte == b'"' || byte == b'\\' || byte < 0x20
    }

    #[test]
    fn the_first_special_byte_is_found_for_every_pair_of_bytes() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let expected = [first, second].iter().position(|byte| special(*byte));
                let mut block = [b'a'; StringBlock::LENGTH];
                block[..2].copy_from_slice(&[first, second]);
                assert_eq!(StringBlock::first_special(&block), expected, "{first:#x} {second:#x}");
                let word = u64::from_le_bytes([first, second, b'a', b'a', b'a', b'a', b'a', b'a']);
                assert_eq!(special_bytes(word).trailing_zeros() as usize / 8, expected.unwrap_or(8));
            }
        }
    }

    #[test]
    fn a_special_byte_is_found_at_every_place() {
        for place in 0..StringBlock::LENGTH {
            let mut block = [0xC3; StringBlock::LENGTH];
            block[place] = b'"';
            assert_eq!(StringBlock::first_special(&block), Some(place));
        }
        assert_eq!(StringBlock::first_special(&[0x7F; StringBlock::LENGTH]), None);
    }

    #[test]
    fn digits_are_counted_up_to_any_other_byte() {
        for other in 0..=255u8 {
            for count in 0..8usize {
                let mut block = *b"09182736";
                block[count] = other;
                let expected = if other.is_ascii_digit() { 8 } else { count };
                assert_eq!(leading_digits(&block), expected, "{other:#x} at {count}");
            }
        }
    }
}
