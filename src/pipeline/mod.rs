//! Pipelines as programs build them.
//!
//! The model: [`create_pipeline`] begins a [`PipelineBuilder`] for events of one type; it is told where events come from, what
//! they mean, which windows and aggregates there are and where results go; [`PipelineBuilder::build`] checks all of that at
//! once and gives a [`Pipeline`]; [`Pipeline::run`] runs it beside whatever else the program does. A pipeline and a
//! configuration file make the same [`Job`](crate::runtime::Job), so they give the same results.
//!
//! The meaning of [`FeedbackEvent`](crate::event::FeedbackEvent)s is known: their timestamp, grouped by source and event type,
//! every number under `data` a value. For any other type, closures say it ([`PipelineBuilder::with_timestamp`],
//! [`PipelineBuilder::with_key`], [`PipelineBuilder::with_values`]); serde reads it where events come as JSON, from Kafka or
//! files.
//!
//! How it fails: what cannot work is one [`ProcessorError::Config`](crate::ProcessorError::Config) from `build`, with a line for
//! each mistake; what this version does not do is [`ProcessorError::Unsupported`](crate::ProcessorError::Unsupported). Nothing
//! was opened by then. What goes wrong later comes from `run`.
//!
//! # Checkpoints
//!
//! With a [`RocksDBStateBackend`](crate::RocksDBStateBackend) a pipeline takes checkpoints and goes on from the newest one; each result can
//! then be had exactly once. What it goes on with it reads from the source once more: an iterator must begin where it began the
//! first time. The command `processor checkpoints list --path` finds them in the folder `pipeline` of the backend's second
//! directory.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
//! use llm_optimizer_processor::*;
//! use chrono::{DateTime, Duration as Length, Utc};
//! use std::path::Path;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! fn pipeline(directory: &Path) -> ProcessorResult<Pipeline> {
//!     let start: DateTime<Utc> = "2026-09-21T14:00:00Z".parse().unwrap();
//!     let events = (0..600).map(move |second| {
//!         FeedbackEvent::new(start + Length::seconds(second), "gateway", "metric").with("latency_ms", second % 60)
//!     });
//!     let state = RocksDBStateBackend::new(directory.join("state"), directory.join("checkpoints"))?;
//!     create_pipeline::<FeedbackEvent>()
//!         .with_iterator_source(events)
//!         .with_tumbling_window(Duration::from_secs(300))
//!         .with_state_backend(Arc::new(state))
//!         .with_checkpoint_interval(Duration::from_secs(10))
//!         .with_delivery(Delivery::ExactlyOnce)
//!         .with_sink(FileSink::append(directory.join("results.jsonl")))
//!         .build()
//! }
//!
//! # let directory = std::env::temp_dir().join(format!("llm-optimizer-processor-doc-state-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory).unwrap();
//! let summary = pipeline(&directory)?.run().await?;
//! assert_eq!((summary.events, summary.windows), (600, 2));
//!
//! // Run again it finds in its last checkpoint that the input has come to its end. Had it been killed in between, it would have
//! // gone on from the checkpoint before that.
//! let again = pipeline(&directory)?.run().await?;
//! assert_eq!((again.events, again.windows), (0, 0));
//! let results = std::fs::read_to_string(directory.join("results.jsonl")).unwrap();
//! assert_eq!(results.lines().count(), 2);
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok(()) }
//! ```

mod builder;
mod input;
mod mapping;
mod named_windows;
mod run;
mod settings;
mod views;

pub use builder::{PipelineBuilder, create_pipeline};
pub use named_windows::NamedWindows;
pub use run::{Pipeline, ShutdownHandle};
pub use views::ViewSpec;
