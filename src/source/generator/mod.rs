//! The built-in generator: feedback events as live LLM applications would send them.
//!
//! The model: eight models are called from six regions, each with its own speed, price and popularity; load follows the time of
//! day of each region, and latency follows load ([`model`]). Each partition is a stream of its own, seeded from the configured
//! seed and its number ([`EventStream`]), so the events do not depend on how many workers read them. An event's timestamp is
//! up to `disorder` before the moment it is sent; a `late_share` of events comes later than that explains, by 10 to 120 seconds
//! more; a `malformed_share` of payloads is cut off, garbled or lacks a field.
//!
//! With a `rate` the events are sent by the wall clock and their times follow it. Without one they come as fast as they are
//! asked for, in a time of their own that starts at 2025-01-01T00:00:00Z and passes at 1,000 events a second on average (more by
//! day, fewer by night): the same configuration then makes the same bytes.
//!
//! A job that goes on from a checkpoint passes over the events that it has had, which it makes again for that. Without a rate it
//! goes on with the very events that it would have had next. With one it goes on at the present time, as live events do: those of
//! the time between were never sent.

mod model;
mod source;
mod stream;
mod write;

pub use source::GeneratorSource;
pub use stream::EventStream;
pub use write::{generate, generate_to_writer};
