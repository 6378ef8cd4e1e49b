//! A dataflow-based incremental stream processor for the feedback events of LLM applications, on timely dataflow.
#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod aggregate;
pub mod cli;
pub mod config;
#[path = "../dataflows/mod.rs"]
pub mod dataflows;
pub mod error;
pub mod event;
pub mod exchange;
pub mod http;
pub mod metrics;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod state;
pub mod time;
pub mod window;

pub use async_trait::async_trait;
pub use error::{ExitCode, ProcessorError, ProcessorResult};
pub use event::GroupingKey;
pub use time::BoundedOutOfOrdernessWatermark;
