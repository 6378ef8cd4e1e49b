//! What the events of a pipeline mean: when, which group, which numbers.

use crate::event::{Decoder, FeedbackEvent, GroupingKey, TypedDecoder, TypedJsonDecoder, ValueSink};
use crate::time::EventTime;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::sync::Arc;

type TimestampOf<T> = Arc<dyn Fn(&T) -> EventTime + Send + Sync>;
type KeyOf<T> = Arc<dyn Fn(&T) -> GroupingKey + Send + Sync>;
type ValuesOf<T> = Arc<dyn Fn(&T, &mut ValueSink<'_>) + Send + Sync>;
type FilterOf<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;
type PayloadOf<T> = Arc<dyn Fn(&T) -> Vec<u8> + Send + Sync>;

/// Makes the decoder of one worker for payloads of JSON.
pub(super) type ReadJson<T> = fn(TypedDecoder<T>) -> Box<dyn Decoder>;

/// The user's closures, as far as they are given.
pub(super) struct Mapping<T> {
    pub(super) timestamp: Option<TimestampOf<T>>,
    pub(super) key: Option<KeyOf<T>>,
    pub(super) values: Option<ValuesOf<T>>,
    pub(super) filter: Option<FilterOf<T>>,
    pub(super) payload: Option<PayloadOf<T>>,
    /// Whether it is the mapping of feedback events as configuration files have it by default, which JSON can be read by
    /// without making events.
    pub(super) is_default: bool,
}

impl<T: 'static> Mapping<T> {
    /// What is known of events of this type before the user says anything: everything of a [`FeedbackEvent`], nothing of others.
    pub(super) fn initial() -> Self {
        let of_feedback: Box<dyn Any> = Box::new(Mapping::<FeedbackEvent>::of_feedback_events());
        match of_feedback.downcast::<Self>() {
            Ok(mapping) => *mapping,
            Err(_) => Self { timestamp: None, key: None, values: None, filter: None, payload: None, is_default: false },
        }
    }

    /// The decoder of the closures, or what is missing.
    pub(super) fn decoder(&self) -> Result<TypedDecoder<T>, Vec<String>> {
        match (self.timestamp.clone(), self.key.clone(), self.values.clone()) {
            (Some(timestamp), Some(key), Some(values)) => {
                let mut decoder = TypedDecoder::new(
                    move |event: &T| timestamp(event),
                    move |event| key(event),
                    move |event, sink| values(event, sink),
                );
                if let Some(filter) = self.filter.clone() {
                    decoder = decoder.with_filter(move |event| filter(event));
                }
                if let Some(payload) = self.payload.clone() {
                    decoder = decoder.with_payload(move |event| payload(event));
                }
                Ok(decoder)
            }
            _ => Err(self.missing()),
        }
    }

    fn missing(&self) -> Vec<String> {
        let events = std::any::type_name::<T>();
        let closures = [
            (self.timestamp.is_none(), "when an event happened", ".with_timestamp(|event| event.at)"),
            (
                self.key.is_none(),
                "which group an event is in",
                ".with_key(|event| GroupingKey::from_fields(&[(\"model\", &event.model)])), \
                 or .with_key(|_| GroupingKey::everything()) for one group",
            ),
            (
                self.values.is_none(),
                "what is aggregated",
                ".with_values(|event, values| values.add(\"latency_ms\", event.latency_ms))",
            ),
        ];
        let missing = closures.into_iter().filter(|(missing, ..)| *missing);
        missing.map(|(_, what, call)| format!("events of type {events}: nothing says {what}; call {call}")).collect()
    }
}

impl Mapping<FeedbackEvent> {
    fn of_feedback_events() -> Self {
        Self {
            timestamp: Some(Arc::new(|event| event.timestamp.into())),
            key: Some(Arc::new(FeedbackEvent::default_key)),
            values: Some(Arc::new(|event, values| {
                for (name, value) in event.numbers() {
                    values.add(name, value);
                }
            })),
            filter: None,
            payload: Some(Arc::new(|event| serde_json::to_vec(event).unwrap_or_default())),
            is_default: true,
        }
    }
}

/// The [`ReadJson`] of a type that serde reads.
pub(super) fn read_json<T: DeserializeOwned + 'static>(decoder: TypedDecoder<T>) -> Box<dyn Decoder> {
    Box::new(TypedJsonDecoder::new(decoder))
}
