//! Event-time windows.
//!
//! The model: time is cut into slices; an event updates the accumulator of its key in one slice, and a window is one slice or
//! several. The window operator fires a window when the frontier reaches its end, refines it when a late row for it was
//! accepted, and forgets it when the frontier passes its end plus the allowed lateness.

mod assigner;
mod calendar;
mod closed;
mod cold;
mod early;
mod entries;
mod firing;
mod keys;
mod names;
mod operator;
mod panes;
mod placing;
mod recent;
mod record;
mod record_parts;
mod refinement;
mod restore;
mod results;
mod revisions;
mod session_state;
mod sessions;
mod set;
mod sliding;
mod snapshot;
mod state;
mod tables;
mod tracking;
mod trigger;
mod windowing;

pub use assigner::{SessionWindowAssigner, SlidingWindowAssigner, TumblingWindowAssigner};
pub use calendar::{TimeZone, is_calendar_size};
pub use closed::ClosedBefore;
pub use cold::{ColdStore, MemoryLimit};
pub use names::{NameTable, Naming};
pub use operator::{Restore, WindowOutputs, WindowSettings, WindowTurn, event_time_of, window};
pub use record::{EntryOf, EntryRecord, PaneOf, PaneRecord, RecordContent, RecordView, WaitingKind, WaitingRecord};
pub use set::WindowSet;
pub use state::{Due, WindowCounts, WindowState, WindowStateSettings};
pub use trigger::{
    ASKED_EVERY, Completeness, EveryEvents, EveryInterval, OpenWindow, Triggers, WhenComplete, WindowTrigger,
};
pub use windowing::Windowing;
