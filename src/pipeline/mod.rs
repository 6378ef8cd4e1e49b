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

mod builder;
mod input;
mod mapping;
mod named_windows;
mod run;
mod settings;

pub use builder::{PipelineBuilder, create_pipeline};
pub use named_windows::NamedWindows;
pub use run::{Pipeline, ShutdownHandle};
