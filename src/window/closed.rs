//! What an earlier run of the job has completed.

use crate::time::EventTime;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Windows that end at or before this were complete, written and acknowledged in an earlier run: their events may be read again,
/// for the sake of windows that were open, and must not make results again, which would lack the events that are not read again.
///
/// Sources say it before the frontier first moves, so every window knows it before it fires. Clones are the same.
#[derive(Clone, Debug)]
pub struct ClosedBefore(Arc<AtomicI64>);

impl Default for ClosedBefore {
    fn default() -> Self {
        ClosedBefore(Arc::new(AtomicI64::new(EventTime::MIN.as_millis())))
    }
}

impl ClosedBefore {
    /// Takes note of what one partition knows. What is closed is closed for the whole job.
    pub fn note(&self, closed_before: EventTime) {
        self.0.fetch_max(closed_before.as_millis(), Ordering::SeqCst);
    }

    /// Up to where windows are complete.
    pub fn get(&self) -> EventTime {
        EventTime::from_millis(self.0.load(Ordering::SeqCst))
    }
}
