//! The processor's own source files, those that read messages of other processes and what they need.
#![allow(dead_code, unused_imports)]

#[path = "../../src/event"]
pub mod event {
    mod batch;
    mod ids;
    mod key;
    pub use batch::{DictionaryEntry, Late, LateRow, RowBatch};
    pub use ids::{DefinitionIndex, DefinitionSet, WorkerIndex};
    pub use key::GroupingKey;
}

#[path = "../../src/time"]
pub mod time {
    mod event_time;
    pub use event_time::{EventTime, Span};
}

#[path = "../../src/exchange/wire"]
pub mod wire {
    pub mod check;
    mod columns;
    mod message;
    #[cfg(test)]
    mod tests;
}
