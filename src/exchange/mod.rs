//! From the worker that reads a row to the worker that owns its key.
//!
//! The model: the sender's [`Router`] gives every distinct key a dense id per receiver ([`SenderDictionary`]) and fills one
//! [`crate::event::RowBatch`] per receiver; a whole batch is one record to timely, so the exchange costs per batch and not per
//! row. The receiver's [`ReceiverDictionary`] turns ids back into its own key slots by indexing a vector.
//! [`flow`] bounds how many rows are on the way, and [`wire`] is what they are between processes.

mod dictionary;
pub mod flow;
mod router;
pub mod wire;

pub use dictionary::{KeyAddress, ReceiverDictionary, SenderDictionary};
pub use router::Router;
