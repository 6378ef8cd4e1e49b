//! Pipelines as programs build and run them: their own events, sources, aggregates, sinks; beside other work, and stopped.

mod calls;
mod checkpoints;
#[path = "../support/kept.rs"]
mod kept;
mod named_windows;
mod refused_pipelines;
mod refused_records;
mod results;
mod running;
mod sources;
mod triggers;
mod windows;
