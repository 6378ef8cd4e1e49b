//! Asking memory for what is read soon.
//!
//! The model: a place in memory that no cache holds takes as long as some hundred instructions. Work that goes through many such places,
//! with more than that to do at each, asks for those that come some steps later, so that they are there when their turn comes. It is
//! a hint: it changes nothing, and does nothing on processors that Rust has no stable instruction for.

/// Bytes that a cache holds or does not hold together.
const LINE: usize = 64;
/// The most of one slice that is asked for: a longer one is read faster than memory, as processors notice runs by themselves.
const MOST_LINES: usize = 8;

/// Asks for the beginning of a slice.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    let bytes = size_of_val(values);
    for offset in (0..bytes).step_by(LINE).take(MOST_LINES) {
        prefetch_line(values.as_ptr().cast::<u8>().wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction is part of SSE, which every x86-64 has; it reads and writes nothing, and no address makes it fail.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch_line(_at: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_slice_may_be_asked_for() {
        prefetch::<u64>(&[]);
        prefetch(&[()]);
        let values: Vec<u32> = (0..10_000).collect();
        (0..values.len()).for_each(|from| prefetch(&values[from..]));
        assert_eq!(values.iter().map(|value| u64::from(*value)).sum::<u64>(), 49_995_000);
    }
}
