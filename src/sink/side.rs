//! Late records and dead letters.

use crate::event::{Offset, PartitionName, Reason};
use crate::time::{EventTime, Span};
use std::sync::Arc;

/// A record that made it into no window, with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SideRecord {
    /// Why.
    pub reason: Reason,
    /// For people: what was found and what would be right.
    pub detail: String,
    /// The partition it came from.
    pub origin: PartitionName,
    /// Its place there.
    pub offset: Offset,
    /// Its event time, where it has one.
    pub timestamp: Option<EventTime>,
    /// The watermark it was judged against, where time was the reason.
    pub watermark: Option<EventTime>,
    /// By how much it missed.
    pub late_by: Option<Span>,
    /// The window definitions that refused it, where others took it; empty where none did.
    pub refused_by: Vec<Arc<str>>,
    /// The original bytes.
    pub payload: Vec<u8>,
    /// The original Kafka key.
    pub key: Option<Vec<u8>>,
    /// The original Kafka headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}
