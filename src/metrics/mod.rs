//! Seeing inside a run: counters for Prometheus, the status of its parts, the log.
//!
//! The model: [`ProcessorMetrics`] holds what is counted (one registry an instance, so that several pipelines of a process
//! never mix); the hot paths hold handles ([`WorkerMetrics`], [`PartitionMetrics`], [`SinkMetrics`]) that they obtained once.
//! [`StatusBoard`] holds what is the case now: each operator's frontier, each partition's watermark and position, the state of
//! sources and sinks. Workers write it some times a second; the pages, the frontier log and the gauges read a [`Snapshot`] of
//! it. What a snapshot means (who holds the frontier back, is the run healthy) are pure functions: [`diagnose`] and
//! [`health`].
//!
//! How it fails: not at all, as far as the run is concerned. A number that cannot be had is left out of the page.

mod checkpoints;
mod diagnose;
mod families;
mod frontier_log;
mod handles;
mod health;
mod lateness;
pub mod logging;
mod process;
mod processor;
mod reporter;
mod snapshot;
mod status;

pub use checkpoints::{CheckpointFailure, CheckpointMetrics, CheckpointStatus, LastCheckpoint, PendingCheckpoint};
pub use diagnose::{Cause, Diagnosis, HeldBack, diagnose};
pub(crate) use diagnose::{describe_span, display_time, group_digits};
pub use frontier_log::{FrontierLog, LogLine};
pub use handles::{PartitionMetrics, SinkMetrics, ViewMetrics, WorkerMetrics};
pub use health::{Health, HealthLevel, health, readiness};
pub use lateness::{LatenessRow, ladder as lateness_ladder, percent, share_name, short_span};
pub use logging::init_logging;
pub use processor::ProcessorMetrics;
pub use reporter::{export_snapshot, observe, spawn_reporter};
pub use snapshot::{
    OperatorStatus, OperatorView, PartitionStatus, PartitionView, PeerNews, Phase, SinkStatus, Snapshot, SourceState,
    TimeRules, ViewStatus, WorkerView,
};
pub use status::StatusBoard;
