//! Running a job: workers, flow control, stopping.

mod control;

pub use control::Control;
