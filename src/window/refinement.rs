//! Late rows that wait for their turn.
//!
//! The model: a late row was judged against the watermark `w` that its partition had. If `w` had passed the end of the row's
//! window, the row is a refinement, and takes effect when the frontier passes `w`: by then every partition has come that far.
//! All rows of one window, key and `w` make one revision. So which revisions there are, and what each holds, is a function of
//! the partitions' contents; neither batching nor the number of workers nor timing between partitions shows in the results.

use super::keys::KeySlot;
use crate::time::EventTime;
use std::collections::BTreeMap;

/// A late row: its values by field, NaN where it has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement {
    /// When it happened.
    pub time: EventTime,
    /// Its key.
    pub key: KeySlot,
    /// `(field, value)` of those it has.
    pub values: Vec<(usize, f64)>,
}

/// The refinements that wait, by the watermark against which they were judged.
#[derive(Debug, Default)]
pub struct RefinementStash {
    waiting: BTreeMap<EventTime, Vec<Refinement>>,
}

impl RefinementStash {
    /// Adds one. Returns whether it is the first of its watermark.
    pub fn push(&mut self, watermark: EventTime, refinement: Refinement) -> bool {
        let rows = self.waiting.entry(watermark).or_default();
        rows.push(refinement);
        rows.len() == 1
    }

    /// The least watermark that the frontier has passed.
    pub fn due(&self, frontier: EventTime) -> Option<EventTime> {
        self.waiting.first_key_value().map(|(watermark, _)| *watermark).filter(|watermark| *watermark < frontier)
    }

    /// The least watermark of which rows wait.
    pub fn first(&self) -> Option<EventTime> {
        self.waiting.first_key_value().map(|(watermark, _)| *watermark)
    }

    /// Takes the rows of this watermark.
    pub fn take(&mut self, watermark: EventTime) -> Vec<Refinement> {
        self.waiting.remove(&watermark).unwrap_or_default()
    }

    /// How many rows wait.
    pub fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }
}
