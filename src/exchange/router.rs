//! Fills one batch per receiver.

use super::{KeyAddress, SenderDictionary};
use crate::event::columns::{add_columns, put};
use crate::event::{FieldIndex, GroupingKey, Late, LateRow, RowBatch, RowColumns, RowScratch, WorkerIndex};
use std::sync::Arc;

/// Memory that a sender may spend on remembering which keys it has sent.
const DICTIONARY_LIMIT_BYTES: usize = 64 << 20;

/// One worker's outgoing rows.
pub struct Router {
    sender: WorkerIndex,
    dictionary: SenderDictionary,
    batches: Vec<RowBatch>,
    capacity: usize,
}

impl Router {
    /// For worker `sender` among `peers`; a batch is made with room for `capacity` rows.
    pub fn new(sender: WorkerIndex, peers: usize, capacity: usize) -> Self {
        Self::with_dictionary_limit(sender, peers, capacity, DICTIONARY_LIMIT_BYTES)
    }

    /// As [`Router::new`], with a limit of one's own on the memory of the dictionary, in bytes.
    pub fn with_dictionary_limit(sender: WorkerIndex, peers: usize, capacity: usize, limit: usize) -> Self {
        Self {
            sender,
            dictionary: SenderDictionary::new(peers, limit),
            batches: vec![RowBatch::default(); peers],
            capacity,
        }
    }

    /// The address of a key, for rows until the next [`Router::flush`]; `render` makes its canonical form when it is new.
    pub fn address(&mut self, encoded: &[u8], render: impl FnOnce(&[u8]) -> GroupingKey) -> KeyAddress {
        self.dictionary.address(encoded, render)
    }

    /// The dictionary's generation: addresses of another one mean nothing.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.dictionary.generation()
    }

    /// Adds a row to the batch of the worker that owns its key. `late` is how it was judged, if it was late.
    #[inline]
    pub fn push(&mut self, row: &RowScratch, late: Option<Late>, render: impl FnOnce(&[u8]) -> GroupingKey) {
        let key = self.dictionary.address(&row.key, render);
        let capacity = self.capacity;
        let batch = self.batch_for(key);
        let index = batch.times.len();
        batch.times.push(row.time.as_millis());
        batch.keys.push(key.id);
        for &(field, value) in &row.values {
            put(&mut batch.values, field, index, value, capacity);
        }
        note_late(batch, index, late);
    }

    /// Adds one row of several.
    pub fn push_row_of(&mut self, rows: &RowColumns, row: usize, key: KeyAddress, late: Option<Late>) {
        let capacity = self.capacity;
        let batch = self.batch_for(key);
        let index = batch.times.len();
        batch.times.push(rows.times()[row].as_millis());
        batch.keys.push(key.id);
        for (field, column) in rows.values().iter().enumerate() {
            if let Some(value) = column.get(row).filter(|value| !value.is_nan()) {
                put(&mut batch.values, FieldIndex(field as u16), index, *value, capacity);
            }
        }
        note_late(batch, index, late);
    }

    /// Adds rows of which these were late.
    pub fn extend(&mut self, rows: &RowColumns, late: &[LateRow]) {
        if self.batches.len() > 1 {
            let mut late = late.iter().peekable();
            for (row, key) in rows.keys().iter().enumerate() {
                let late = late.next_if(|late| late.row as usize == row).map(|row| row.late);
                self.push_row_of(rows, row, *key, late);
            }
            return;
        }
        let capacity = self.capacity;
        let batch = &mut self.batches[0];
        let before = batch.times.len();
        if before == 0 {
            reserve(batch, capacity);
        }
        batch.late.extend(late.iter().map(|late| LateRow { row: late.row + before as u32, ..*late }));
        batch.times.extend(rows.times().iter().map(|time| time.as_millis()));
        batch.keys.extend(rows.keys().iter().map(|key| key.id));
        if rows.values().len() > batch.values.len() {
            add_columns(&mut batch.values, rows.values().len(), capacity);
        }
        for (column, values) in batch.values.iter_mut().zip(rows.values()) {
            if !values.is_empty() {
                column.resize(before, f64::NAN);
                column.extend_from_slice(values);
            }
        }
    }

    #[inline]
    fn batch_for(&mut self, key: KeyAddress) -> &mut RowBatch {
        let batch = &mut self.batches[key.receiver.0 as usize];
        if batch.times.is_empty() {
            reserve(batch, self.capacity);
        }
        batch
    }

    /// Hands every batch that has rows to `send`, with the columns named by `fields`.
    pub fn flush(&mut self, fields: &[Arc<str>], read_at_micros: i64, mut send: impl FnMut(RowBatch)) {
        for receiver in 0..self.batches.len() {
            if self.batches[receiver].times.is_empty() {
                continue;
            }
            let mut batch = std::mem::take(&mut self.batches[receiver]);
            batch.sender = self.sender;
            batch.receiver = WorkerIndex(receiver as u32);
            batch.generation = self.dictionary.generation();
            batch.dictionary = self.dictionary.take_unsent(batch.receiver);
            batch.fields = fields[..batch.values.len()].to_vec();
            batch.read_at_micros = read_at_micros;
            let rows = batch.times.len();
            batch.values.iter_mut().for_each(|column| column.resize(rows, f64::NAN));
            batch.debug_check();
            send(batch);
        }
        if self.dictionary.is_over_limit() {
            self.dictionary.begin_generation();
        }
    }
}

#[cold]
fn reserve(batch: &mut RowBatch, capacity: usize) {
    batch.times.reserve_exact(capacity);
    batch.keys.reserve_exact(capacity);
}

#[inline]
fn note_late(batch: &mut RowBatch, row: usize, late: Option<Late>) {
    if let Some(late) = late {
        batch.late.push(LateRow { row: row as u32, late });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{DefinitionSet, FieldIndex};
    use crate::time::EventTime;

    fn row(key: &str, millis: i64, values: &[(u16, f64)]) -> RowScratch {
        RowScratch {
            time: EventTime::from_millis(millis),
            key: key.as_bytes().to_vec(),
            values: values.iter().map(|(field, value)| (FieldIndex(*field), *value)).collect(),
        }
    }

    fn render(encoded: &[u8]) -> GroupingKey {
        GroupingKey::from_fields(&[("k", std::str::from_utf8(encoded).unwrap())])
    }

    fn flush(router: &mut Router, fields: usize) -> Vec<RowBatch> {
        let names: Vec<Arc<str>> = (0..fields).map(|n| format!("f{n}").into()).collect();
        let mut batches = Vec::new();
        router.flush(&names, 7, |batch| batches.push(batch));
        batches
    }

    #[test]
    fn absent_values_are_nan_in_full_columns() {
        let mut router = Router::new(WorkerIndex(0), 1, 8);
        router.push(&row("a", 1, &[(0, 1.0)]), None, render);
        let late = Late { watermark: EventTime::from_millis(9), refused_by: DefinitionSet::NONE };
        router.push(&row("b", 2, &[(2, 3.0)]), Some(late), render);
        router.push(&row("a", 3, &[(0, 5.0), (1, 6.0)]), None, render);
        let batch = flush(&mut router, 3).remove(0);
        assert_eq!(batch.times, vec![1, 2, 3]);
        assert_eq!(batch.keys, vec![0, 1, 0]);
        let present: Vec<Vec<Option<f64>>> =
            batch.values.iter().map(|c| c.iter().map(|v| (!v.is_nan()).then_some(*v)).collect()).collect();
        assert_eq!(present[0], vec![Some(1.0), None, Some(5.0)]);
        assert_eq!(present[1], vec![None, None, Some(6.0)]);
        assert_eq!(present[2], vec![None, Some(3.0), None]);
        assert_eq!(batch.late, vec![LateRow { row: 1, late }]);
        assert_eq!(batch.dictionary.len(), 2);
        assert!(flush(&mut router, 3).is_empty());
    }

    #[test]
    fn a_generation_ends_when_the_dictionary_is_full() {
        let mut router = Router::with_dictionary_limit(WorkerIndex(0), 1, 8, 120);
        let mut generations = Vec::new();
        for n in 0..6 {
            router.push(&row(&format!("key-{n}"), 0, &[(0, 0.0)]), None, render);
            let batch = flush(&mut router, 1).remove(0);
            assert_eq!(batch.dictionary.len(), 1);
            generations.push(batch.generation);
        }
        assert_eq!(generations, vec![0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn rows_go_to_the_owner_of_their_key() {
        let mut router = Router::new(WorkerIndex(1), 3, 8);
        for n in 0..100 {
            router.push(&row(&format!("key-{n}"), n, &[(0, 0.0)]), None, render);
        }
        let batches = flush(&mut router, 1);
        assert_eq!(batches.iter().map(RowBatch::len).sum::<usize>(), 100);
        for batch in batches {
            assert_eq!(batch.sender, WorkerIndex(1));
            for entry in &batch.dictionary {
                assert_eq!(entry.grouping_key().key_group().owner(3), batch.receiver);
            }
        }
    }
}
