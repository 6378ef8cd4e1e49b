//! The dataflow programs, one a file: each wires operators of this library into what a job runs.

pub mod baseline;
pub mod compare;
pub mod leaderboard;
pub mod rollup;
pub mod views;
pub mod windowed_aggregates;
