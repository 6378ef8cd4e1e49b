//! From a payload to a row.

use super::{GroupingKey, Reason};
use crate::time::EventTime;
use std::sync::Arc;

/// A value field's position in [`Decoder::fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldIndex(pub u16);

/// One decoded event. Reused from record to record, so that decoding allocates nothing.
#[derive(Debug, Default)]
pub struct RowScratch {
    /// When it happened.
    pub time: EventTime,
    /// The key in the decoder's own encoding: equal keys have equal bytes. [`Decoder::render_key`] turns it into text.
    pub key: Vec<u8>,
    /// The values that are present, each a finite number; at most one a field.
    pub values: Vec<(FieldIndex, f64)>,
}

impl RowScratch {
    /// Empties it for the next record.
    #[inline]
    pub fn clear(&mut self) {
        self.key.clear();
        self.values.clear();
    }
}

/// What a payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A row for the windows; it is in the scratch.
    Row,
    /// An event that the configured filter leaves out.
    Filtered,
}

/// Why a payload is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// The class, for counters and side outputs.
    pub reason: Reason,
    /// For people: the field, what was found, and what would be right.
    pub detail: String,
}

impl BadRecord {
    /// A bad record of this class.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Reads payloads of one format. Each worker has its own.
pub trait Decoder: Send {
    /// Reads `payload` into `row`, which comes cleared.
    fn decode(&mut self, payload: &[u8], row: &mut RowScratch) -> Result<Decoded, BadRecord>;

    /// The canonical key of which `encoded` is the encoding that [`Decoder::decode`] made. Called once per new key.
    fn render_key(&self, encoded: &[u8]) -> GroupingKey;

    /// The names of the value fields seen so far; it only grows. [`FieldIndex`] points into it.
    fn fields(&self) -> &[Arc<str>];
}
