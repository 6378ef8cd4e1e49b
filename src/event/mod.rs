//! Events: where they come from, what they are read into, and how they cross the dataflow.
//!
//! The model: a source hands payloads (bytes) or typed events to the intake; a [`Decoder`] turns each into one row in a
//! [`RowScratch`] (event time, key bytes, numbers); rows cross the dataflow in columns, as a [`RowBatch`]. Nothing after the
//! source is generic over the user's type.

mod batch;
pub(crate) mod columns;
mod decode;
mod feedback;
mod field_names;
mod ids;
mod json;
mod key;
mod number;
mod public;
mod reason;
mod timestamp;
mod typed;

pub use batch::{DictionaryEntry, Late, LateRow, RowBatch};
pub use columns::RowColumns;
pub use decode::{BadRecord, Decoded, Decoder, FieldIndex, RowScratch};
pub use feedback::FeedbackEvent;
pub use ids::{DefinitionIndex, DefinitionSet, Offset, PartitionName, WorkerIndex};
pub use json::JsonDecoder;
pub(crate) use key::fnv;
pub use key::{GroupingKey, KEY_GROUPS, KeyGroup};
pub use public::{EventMetadata, EventTimestamp, ProcessorEvent};
pub use reason::Reason;
pub use timestamp::probable_cause;
pub use typed::{TypedDecoder, TypedJsonDecoder, TypedNames, ValueSink};
