//! Rows in columns, on the source's side of the exchange.

use super::FieldIndex;
use crate::exchange::KeyAddress;
use crate::time::EventTime;

/// Rows of one partition, in the order in which they were read: what a source hands over that has many at a time.
#[derive(Clone, Debug, Default)]
pub struct RowColumns {
    times: Vec<EventTime>,
    keys: Vec<KeyAddress>,
    /// By field; shorter than `times` where the last rows have no value of it.
    values: Vec<Vec<f64>>,
}

impl RowColumns {
    /// Adds a row. Its values are finite numbers, at most one a field.
    #[inline]
    pub fn push(&mut self, time: EventTime, key: KeyAddress, values: &[(FieldIndex, f64)]) {
        let row = self.times.len();
        self.times.push(time);
        self.keys.push(key);
        for &(field, value) in values {
            put(&mut self.values, field, row, value, 0);
        }
    }

    /// How many rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Removes all rows; the memory is kept for the next ones.
    pub fn clear(&mut self) {
        self.times.clear();
        self.keys.clear();
        self.values.iter_mut().for_each(Vec::clear);
    }

    /// Event times.
    pub(crate) fn times(&self) -> &[EventTime] {
        &self.times
    }

    /// Keys.
    pub(crate) fn keys(&self) -> &[KeyAddress] {
        &self.keys
    }

    /// The values, by field; a column that is too short, or NaN, has no value for a row.
    pub(crate) fn values(&self) -> &[Vec<f64>] {
        &self.values
    }
}

/// Puts a value into row `row` of its field's column, which is made with room for `capacity` rows; rows before it that have no
/// value are NaN.
#[inline]
pub(crate) fn put(columns: &mut Vec<Vec<f64>>, field: FieldIndex, row: usize, value: f64, capacity: usize) {
    let field = usize::from(field.0);
    if field >= columns.len() {
        add_columns(columns, field + 1, capacity);
    }
    let column = &mut columns[field];
    if column.len() < row {
        column.resize(row, f64::NAN);
    }
    column.push(value);
}

#[cold]
pub(crate) fn add_columns(columns: &mut Vec<Vec<f64>>, count: usize, capacity: usize) {
    columns.resize_with(count, || Vec::with_capacity(capacity));
}
