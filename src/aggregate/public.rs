//! Results as the library's users see them.

use crate::event::GroupingKey;
use chrono::{DateTime, Utc};
use std::collections::HashMap;

/// A window of event time, of all events or of those of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Inclusive.
    pub start: DateTime<Utc>,
    /// Exclusive.
    pub end: DateTime<Utc>,
    /// The group; `None` where events are not grouped.
    pub key: Option<GroupingKey>,
}

/// The aggregates of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregationResult {
    /// The window.
    pub window: Window,
    /// `count`, `average`, ... or `latency_ms.count`, ... where there are several value fields.
    pub results: HashMap<String, serde_json::Value>,
    /// When the window fired.
    pub timestamp: DateTime<Utc>,
}
