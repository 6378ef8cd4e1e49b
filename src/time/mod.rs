//! Time: event times, epochs, the two-coordinate timestamp of the dataflow, watermarks.
//!
//! The model: every message in the dataflow is stamped with [`Time`], a pair of an epoch (the checkpoint barrier) and an event
//! time (the watermark). Times are ordered as a product, so timely's frontier says at once how far every partition has come and
//! which epochs are complete. An [`EventTime`] is what people see (milliseconds since 1970, signed); inside `Time` it is an
//! order-preserving `u64`, because a timestamp needs a least element.

pub mod disorder;
mod event_time;
mod timestamp;
pub mod watermark;

pub use event_time::{EventTime, Span};
pub use timestamp::{Epoch, Time, TimeSummary};
pub use watermark::BoundedOutOfOrdernessWatermark;
