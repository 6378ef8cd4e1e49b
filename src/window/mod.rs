//! Event-time windows.
//!
//! The model: time is cut into slices; an event updates the accumulator of its key in one slice, and a window is one slice or
//! several. The window operator fires a window when the frontier reaches its end, refines it when a late row for it was
//! accepted, and forgets it when the frontier passes its end plus the allowed lateness.

mod assigner;
mod entries;
mod keys;
mod names;
mod operator;
mod refinement;
mod state;

pub use assigner::{SessionWindowAssigner, SlidingWindowAssigner, TumblingWindowAssigner, Windowing};
pub use operator::{WindowOutputs, WindowSettings, window};
pub use state::{Due, WindowState, WindowStateSettings};
