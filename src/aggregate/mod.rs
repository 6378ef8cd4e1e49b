//! Accumulators and results.

mod public;

pub use public::{AggregationResult, Window};
