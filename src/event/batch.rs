//! Rows in columns: what crosses the exchange.
//!
//! The model: a batch goes from one sender to one receiver. Keys and field names are dictionary ids that mean something between
//! these two only: an id's text comes in [`RowBatch::dictionary`] of the batch that first uses it. Channels keep the order of a
//! sender's batches, so a receiver always knows an id before it needs it. When a sender's dictionary has grown too large it
//! begins a new `generation`: the receiver forgets the old ids, and texts that are still in use travel again. Memory on both
//! sides is thus bounded by the keys of two generations and those with open windows.

use super::{DefinitionSet, GroupingKey, WorkerIndex};
use crate::time::EventTime;
use std::sync::Arc;

/// The text of a key, when it is first sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DictionaryEntry {
    /// The id in this batch and the later ones of its generation. Ids are dense: 0, 1, 2, ...
    pub id: u32,
    /// [`GroupingKey::as_json`].
    pub key: String,
}

impl DictionaryEntry {
    /// The key.
    pub fn grouping_key(&self) -> GroupingKey {
        GroupingKey::from_canonical_json(self.key.as_str())
    }
}

/// How a row was judged that was behind its partition's watermark when it was read, and accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// The watermark it was judged against. If that had passed the end of a window, the row is a refinement of that window.
    pub watermark: EventTime,
    /// The window definitions for which it was too late; there are others.
    pub refused_by: DefinitionSet,
}

/// A row that was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateRow {
    /// Which row of the batch.
    pub row: u32,
    /// How it was judged.
    pub late: Late,
}

/// Rows from one sender to one receiver, in the order in which they were read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowBatch {
    /// Who sends.
    pub sender: WorkerIndex,
    /// Who receives.
    pub receiver: WorkerIndex,
    /// Which dictionary the key ids belong to.
    pub generation: u32,
    /// Texts of ids that no earlier batch of the generation had.
    pub dictionary: Vec<DictionaryEntry>,
    /// Names of the value columns.
    pub fields: Vec<Arc<str>>,
    /// Event times, milliseconds.
    pub times: Vec<i64>,
    /// Key ids.
    pub keys: Vec<u32>,
    /// One column a field, each as long as `times`; NaN where a row has no value of that field.
    pub values: Vec<Vec<f64>>,
    /// Which rows were late.
    pub late: Vec<LateRow>,
    /// When the first of the rows was read, microseconds since 1970: for the latency metric.
    pub read_at_micros: i64,
}

impl RowBatch {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Gives room back that the rows do not need, where that is most of it: a batch that waits long is not to take the memory of a
    /// full one.
    pub fn give_room_back(&mut self) {
        if self.times.capacity() < 2 * self.times.len() {
            return;
        }
        self.times.shrink_to_fit();
        self.keys.shrink_to_fit();
        self.values.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Panics (in debug builds) where columns differ in length or a late row points nowhere.
    pub fn debug_check(&self) {
        debug_assert_eq!(self.times.len(), self.keys.len());
        debug_assert_eq!(self.fields.len(), self.values.len());
        debug_assert!(self.values.iter().all(|column| column.len() == self.times.len()));
        debug_assert!(self.late.iter().all(|late| (late.row as usize) < self.times.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_waits_has_room_for_its_rows_alone() {
        let column = |rows: usize| -> Vec<f64> {
            let mut column = Vec::with_capacity(1_024);
            column.extend((0..rows).map(|row| row as f64));
            column
        };
        for rows in [1, 600] {
            let mut batch = RowBatch { keys: vec![0; rows], ..RowBatch::default() };
            batch.times = Vec::with_capacity(1_024);
            batch.times.extend(0..rows as i64);
            batch.values = vec![column(rows), column(rows)];
            let before = batch.clone();
            batch.give_room_back();
            assert_eq!(batch, before);
            let is_small = batch.times.capacity() < 16 && batch.values.iter().all(|column| column.capacity() < 16);
            assert_eq!(is_small, rows == 1, "{} of {rows}", batch.times.capacity());
        }
    }
}
