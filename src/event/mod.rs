//! Events: where they come from, what they are read into, and how they cross the dataflow.
//!
//! The model: a source hands payloads (bytes) or typed events to the intake; a [`Decoder`] turns each into one row in a
//! [`RowScratch`] (event time, key bytes, numbers); rows cross the dataflow in columns, as a [`RowBatch`]. Nothing after the
//! source is generic over the user's type.

mod batch;
mod decode;
mod ids;
mod key;
mod reason;

pub use batch::{DictionaryEntry, LateRow, RowBatch};
pub use decode::{BadRecord, Decoded, Decoder, FieldIndex, RowScratch};
pub use ids::{Offset, PartitionName, WorkerIndex};
pub use key::{GroupingKey, KeyGroup, KEY_GROUPS};
pub use reason::Reason;
