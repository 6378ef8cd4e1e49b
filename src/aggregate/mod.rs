//! Aggregates: count, sum, average, least, greatest, standard deviation, percentiles, and the user's own.
//!
//! The model: an [`AggregatePlan`] says what is computed; an [`AccumulatorStore`] holds the accumulators of one value field in columns, one
//! for each thing that the plan needs; windows know their accumulators by [`AccumulatorId`]. An accumulator is a function of the multiset
//! of its values: the order in which they came, how they were cut into batches and merged leave no trace in its results or in its
//! encoded bytes. That holds because nothing is rounded on the way: sums and sums of squares are exact integers times a power of two,
//! percentiles come from the values themselves while they are few and from counters afterwards.
//!
//! How it fails: values are finite numbers; NaN stands for an absent one. A result that has no value (the average of nothing) or that is
//! beyond the range of `f64` is null. An encoded accumulator that is damaged or of another plan is a
//! [`ProcessorError::State`](crate::ProcessorError::State) and never a panic.

mod bins;
mod codec;
mod custom;
mod fixed;
mod mapping;
mod nat;
mod plan;
mod public;
mod quantiles;
mod squares;
mod store;
mod sum;

pub(crate) use codec::{Reader, put_varint};
pub use custom::CustomAggregate;
pub use plan::AggregatePlan;
pub use public::{AggregationResult, AggregationState, Window};
pub use store::{AccumulatorId, AccumulatorStore, Bounds, Difference};
