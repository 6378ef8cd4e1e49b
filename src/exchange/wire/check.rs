//! What must hold of any bytes: the body of the fuzz target (`fuzz/`), and of a test.

use super::message::{Damage, MARK, decode, encode, length};
use crate::event::RowBatch;

/// Bytes are refused, or they are the one message with the batches that they are read as, and these are as batches must be. Returns
/// whether they were read.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(batches) = decode(bytes) else { return false };
    batches.iter().for_each(check_batch);
    let mut again = Vec::new();
    encode(&batches, &mut again).expect("a vector takes all");
    assert_eq!(length(&batches), again.len());
    assert!(again == bytes, "there is a second way to write the same batches");
    true
}

fn check_batch(batch: &RowBatch) {
    let rows = batch.times.len();
    assert_eq!((batch.keys.len(), batch.values.len()), (rows, batch.fields.len()));
    assert!(batch.values.iter().all(|column| column.len() == rows));
    assert!(batch.late.is_sorted_by(|one, next| one.row < next.row));
    assert!(batch.late.last().is_none_or(|late| (late.row as usize) < rows));
}

/// The same of a message with one batch whose mark, counts and lengths fit, made of these bytes: what comes behind the lengths is
/// read more often then.
pub fn check_behind_lengths(bytes: &[u8]) -> bool {
    /// The words that say how many there are of something.
    const COUNTS: std::ops::Range<usize> = 4..9;
    const HEADERS: usize = 12;
    const MOST: u64 = 15;
    let mut words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    words.resize(words.len().max(HEADERS), 0);
    (words[0], words[2], words[3]) = (MARK, 1, 0);
    words[COUNTS].iter_mut().for_each(|count| *count &= MOST);
    words[1] = words.len() as u64 * 8;
    let Err(Damage::Counts { counted: Some(counted), .. }) = decode(&bytes_of(&words)) else {
        unreachable!("a batch is not empty")
    };
    words.resize((HEADERS - 9) + counted as usize / 8, 0);
    (words[1], words[3]) = (words.len() as u64 * 8, counted);
    check(&bytes_of(&words))
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
