//! A dataflow-based incremental stream processor for the feedback events of LLM applications, on timely dataflow.
//!
//! It reads events from Kafka, files, iterators or channels, groups them by key into event-time windows, keeps count, sum,
//! average, min, max, percentiles and standard deviation per window, and writes the results to Kafka, files, the terminal or
//! sinks of one's own; right under disorder. [`create_pipeline`] is where programs begin; the binary `processor` runs the same
//! from a configuration file.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> llm_optimizer_processor::ProcessorResult<()> {
//! use llm_optimizer_processor::*;
//! use chrono::{DateTime, Duration as Length, Utc};
//! use std::time::Duration;
//!
//! # let directory = std::env::temp_dir().join(format!("llm-optimizer-processor-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory).unwrap();
//! # let path = directory.join("results.jsonl");
//! let start: DateTime<Utc> = "2026-09-21T14:00:00Z".parse().unwrap();
//! let events = (0..600).map(move |second| {
//!     FeedbackEvent::new(start + Length::seconds(second), "gateway", "metric").with("latency_ms", second % 60)
//! });
//!
//! let pipeline = create_pipeline::<FeedbackEvent>()
//!     .with_iterator_source(events)
//!     .with_watermark_generator(BoundedOutOfOrdernessWatermark::new(Duration::from_secs(30)))
//!     .with_tumbling_window(Duration::from_secs(300))
//!     .with_sink(FileSink::atomic(&path))
//!     .build()?;
//! let summary = pipeline.run().await?;
//!
//! assert_eq!((summary.events, summary.windows), (600, 2));
//! let results = std::fs::read_to_string(&path).unwrap();
//! assert!(results.starts_with(r#"{"window":{"start":"2026-09-21T14:00:00.000Z","end":"2026-09-21T14:05:00.000Z"}"#));
//! assert!(results.contains(r#""count":300,"sum":8850.0,"average":29.5,"min":0.0,"max":59.0"#));
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok(()) }
//! ```
#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod aggregate;
pub mod checkpoint;
pub mod cli;
pub mod config;
#[path = "../dataflows/mod.rs"]
pub mod dataflows;
pub mod error;
pub mod event;
pub mod exchange;
pub mod http;
pub mod metrics;
pub mod pipeline;
mod prefetch;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod state;
pub mod time;
pub mod view;
pub mod window;

pub use aggregate::{AggregatePlan, AggregationResult, AggregationState, CustomAggregate, Window};
/// The attribute for implementations of [`EventSink`], [`LateEventHandler`], [`DeadLetterSink`] and [`StateBackend`].
pub use async_trait::async_trait;
pub use config::{
    AggregateKind, AggregationConfig, ConsumerConfig, Delivery, ErrorPolicy, LatePolicy, OffsetReset, ProcessorConfig,
    ProducerConfig, WindowKind,
};
pub use error::{ExitCode, ProcessorError, ProcessorResult};
pub use event::{EventMetadata, EventTimestamp, FeedbackEvent, GroupingKey, ProcessorEvent, Reason, ValueSink};
pub use metrics::ProcessorMetrics;
pub use pipeline::{NamedWindows, Pipeline, PipelineBuilder, ShutdownHandle, ViewSpec, create_pipeline};
pub use runtime::Summary;
pub use sink::{
    ConsoleSink, DeadLetterSink, EpochSink, EventSink, FileSink, Firing, KafkaAggregationSink, LateEventHandler,
    ResultInfo, RetryPolicy, SideRecord, SideSink, SideSpec, SinkEpoch, StdoutSink,
};
pub use state::{CheckpointId, MemoryStateBackend, RocksDBStateBackend, StateBackend, StateChange, WindowStateManager};
pub use time::{BoundedOutOfOrdernessWatermark, EventTime};
pub use window::{
    EveryEvents, EveryInterval, OpenWindow, SessionWindowAssigner, SlidingWindowAssigner, TimeZone,
    TumblingWindowAssigner, WhenComplete, WindowTrigger,
};

/// The README's Rust code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
