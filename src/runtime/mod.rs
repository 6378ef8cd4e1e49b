//! Running a job: workers, flow control, stopping.
//!
//! The model: a [`Job`] is everything a run needs, made from a configuration or by the library's builder. [`Job::run`] starts
//! the sinks, then one timely worker a thread (and the links to other processes, by the [`Topology`]), waits for the end, and
//! ends the sinks. [`launch`] looks after several processes of a machine. One [`Control`] is seen by every thread: the first failure anywhere stops all, with its reason.

mod checkpoints;
mod control;
mod handshake;
mod input;
mod job;
pub mod launch;
mod link;
mod links;
mod observe;
mod opening;
mod panics;
mod priority;
mod restoring;
mod state_size;
mod summary;
mod threads;
mod topology;
mod views;
mod worker;

pub use control::Control;
pub use input::{ConfiguredInput, Input, InputContext};
pub use job::{Job, SinkPlan};
pub use panics::message as panic_message;
pub use priority::yield_to_workers;
pub use summary::Summary;
pub use topology::Topology;
