//! The dataflow programs, one a file: each wires operators of this library into what a job runs.

pub mod windowed_aggregates;
