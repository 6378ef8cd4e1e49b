//! Columns of eight-byte numbers, as abomonation writes and finds them: the one place that calls it.
//!
//! The model: abomonation writes a vector as its elements lie in memory, and makes a vector of bytes in memory without looking at
//! them. RUSTSEC-2021-0120 says what is wrong with that: elements with padding are undefined behaviour to write; bytes that are too
//! few, misaligned, or no value of the element's type are undefined behaviour to read; and the vector that it makes must never be
//! dropped, as its memory is somebody else's. None of it can happen here:
//! - elements are [`Plain`]: eight bytes without padding, of which each pattern is a value;
//! - no count and no pointer comes out of a message: a column is as long as the bytes that it is made of, and these were cut to
//!   measure by [`super::message`];
//! - the bytes are copied, once, into new memory that is aligned for the elements and has the size of a vector of them, so that the
//!   vector is like any other. A message cannot be used where it is: timely lends it for reading, a piece of a buffer of a
//!   megabyte which rows that wait would keep.
//!
//! How it fails: not at all, but for a caller in this crate who passes a part of a word, which panics.

use abomonation::Abomonation;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::ptr;
use std::slice;

/// Bytes of an element.
pub(super) const WORD: usize = 8;

/// A number that may be taken from its bytes as they are.
///
/// # Safety
///
/// The type has eight bytes and no padding, may begin where a `u64` may, each pattern of eight bytes is a value of it, and
/// abomonation writes nothing for it beyond these bytes and changes nothing in it.
pub(super) unsafe trait Plain: Abomonation + Copy {}

// SAFETY: eight bytes, no padding, no invalid pattern; abomonation's implementation for it is empty.
unsafe impl Plain for u64 {}
// SAFETY: as for `u64`.
unsafe impl Plain for i64 {}
// SAFETY: as for `u64`; each pattern is a number, an infinity or a NaN, and is copied as it is.
unsafe impl Plain for f64 {}

const _: () = assert!(size_of::<u64>() == WORD && size_of::<i64>() == WORD && size_of::<f64>() == WORD);
// The same bytes are the same numbers on both sides, and the message's own words are little-endian.
const _: () = assert!(cfg!(target_endian = "little"));

/// Writes the elements as they lie in memory.
pub(super) fn write<T: Plain>(column: &Vec<T>, writer: &mut impl Write) -> io::Result<()> {
    // SAFETY: abomonation reads the elements as bytes, all of which are initialised, as a `Plain` has no padding. What it would
    // write for each element besides is nothing.
    unsafe { column.entomb(writer) }
}

/// The column with these bytes, which are whole words.
pub(super) fn read<T: Plain>(bytes: &[u8]) -> Vec<T> {
    assert!(bytes.len().is_multiple_of(WORD), "a column is whole words");
    let mut memory = Box::<[T]>::new_uninit_slice(bytes.len() / WORD);
    // SAFETY: `memory` is as many bytes as `bytes`, as an element is a word, and new, so the two do not overlap. The copy fills it,
    // and each pattern of bytes is a `Plain`, so all of it is initialised then.
    let memory = unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_mut_ptr().cast::<u8>(), bytes.len());
        memory.assume_init()
    };
    exhume(memory)
}

/// Has abomonation make the column of elements in memory.
fn exhume<T: Plain>(memory: Box<[T]>) -> Vec<T> {
    let mut column = ManuallyDrop::new(memory.into_vec());
    let length = column.len() * WORD;
    // SAFETY: the vector's elements are `length` initialised bytes, which nobody else refers to: until the call below has returned
    // they are reached by this slice alone. Whatever bytes would be written through it, they would be elements.
    let bytes = unsafe { slice::from_raw_parts_mut(column.as_mut_ptr().cast::<u8>(), length) };
    // SAFETY: abomonation takes the length from the vector, whose memory `bytes` is: they are enough, and aligned. It replaces
    // the vector, without dropping it, by one of the same memory whose length and capacity are that length; the memory was
    // allocated as a boxed slice, thus with exactly that layout, and so the new vector is its owner as the old one was.
    let rest = unsafe { Abomonation::exhume(&mut *column, bytes) };
    debug_assert!(rest.is_some_and(|rest| rest.is_empty()), "all bytes are of the column");
    ManuallyDrop::into_inner(column)
}
