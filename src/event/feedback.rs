//! The feedback event of LLM applications, as the library's default event type.

use super::{GroupingKey, TypedDecoder};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What an LLM application says about one of its calls.
///
/// ```
/// use llm_optimizer_processor::event::FeedbackEvent;
/// let event: FeedbackEvent = serde_json::from_str(
///     r#"{"id":"1818e811892f902b","timestamp":"2026-09-21T14:13:19.831Z","source":"observatory","event_type":"metric",
///         "data":{"model":"claude-3-opus","latency_ms":102.232},"metadata":{"user":"u6985"}}"#,
/// )?;
/// assert_eq!(event.numbers().collect::<Vec<_>>(), [("latency_ms", 102.232)]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackEvent {
    /// Identifies the event; empty where the sender gives none.
    #[serde(default)]
    pub id: String,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// Which system sent it.
    pub source: String,
    /// `metric`, `rating`, `error`, ...
    pub event_type: String,
    /// What was measured (numbers), and of what (model, region).
    #[serde(default)]
    pub data: Map<String, Value>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl FeedbackEvent {
    /// An event without data.
    pub fn new(timestamp: DateTime<Utc>, source: impl Into<String>, event_type: impl Into<String>) -> Self {
        Self {
            id: String::new(),
            timestamp,
            source: source.into(),
            event_type: event_type.into(),
            data: Map::new(),
            metadata: Map::new(),
        }
    }

    /// The same event with one more member of [`FeedbackEvent::data`].
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.data.insert(name.into(), value.into());
        self
    }

    /// The numbers directly under [`FeedbackEvent::data`], by name.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, f64)> {
        self.data.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)))
    }

    /// The default grouping key: source and event type.
    pub fn default_key(&self) -> GroupingKey {
        GroupingKey::from_fields(&[("source", &self.source), ("event_type", &self.event_type)])
    }
}

/// Reads feedback events with the default key, every number of theirs a value.
impl Default for TypedDecoder<FeedbackEvent> {
    fn default() -> Self {
        TypedDecoder::new(
            |event: &FeedbackEvent| event.timestamp,
            FeedbackEvent::default_key,
            |event, values| {
                for (name, value) in event.numbers() {
                    values.add(name, value);
                }
            },
        )
        .with_payload(|event| serde_json::to_vec(event).unwrap_or_default())
    }
}
