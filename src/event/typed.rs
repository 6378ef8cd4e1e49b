//! Events of the user's own type.
//!
//! The model: three closures say when an event happened, which group it belongs to, and what its numbers are. A
//! [`TypedDecoder`] applies them to events that are there already ([`TypedDecoder::extract`]) or that it reads from JSON with
//! serde ([`Decoder::decode`]). How it fails: bytes that are no `T` are malformed, with serde's own message; a NaN or an
//! infinity is not a number; an event without any value is reported as such.

use super::field_names::{FieldNames, MAX_FIELDS, put_value};
use super::json::shorten;
use super::{BadRecord, Decoded, Decoder, FieldIndex, GroupingKey, Reason, RowScratch};
use crate::time::EventTime;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

type TimestampOf<T> = Box<dyn Fn(&T) -> EventTime + Send>;
type KeyOf<T> = Box<dyn Fn(&T) -> GroupingKey + Send>;
type ValuesOf<T> = Box<dyn Fn(&T, &mut ValueSink<'_>) + Send>;
type FilterOf<T> = Box<dyn Fn(&T) -> bool + Send>;

/// Turns events of type `T` into rows.
///
/// ```
/// use chrono::{DateTime, Utc};
/// use llm_optimizer_processor::GroupingKey;
/// use llm_optimizer_processor::event::{Decoded, RowScratch, TypedDecoder};
///
/// struct Call { at: DateTime<Utc>, model: String, millis: f64 }
///
/// let mut decoder = TypedDecoder::new(
///     |call: &Call| call.at,
///     |call| GroupingKey::from_fields(&[("model", &call.model)]),
///     |call, values| values.add("millis", call.millis),
/// );
/// let call = Call { at: DateTime::UNIX_EPOCH, model: "claude-3-opus".into(), millis: 102.2 };
/// let mut row = RowScratch::default();
/// assert_eq!(decoder.extract(&call, &mut row), Ok(Decoded::Row));
/// ```
pub struct TypedDecoder<T> {
    timestamp: TimestampOf<T>,
    key: KeyOf<T>,
    values: ValuesOf<T>,
    filter: Option<FilterOf<T>>,
    names: FieldNames,
}

/// Takes the values of one event.
pub struct ValueSink<'e> {
    names: &'e mut FieldNames,
    values: &'e mut Vec<(FieldIndex, f64)>,
    failure: Option<BadRecord>,
}

impl ValueSink<'_> {
    /// Adds the value of a field; a second one of the same name replaces the first. It must be finite.
    pub fn add(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            self.fail(Reason::NotANumber, format!("the value field {}: {value} is not finite", shorten(name)));
            return;
        }
        let before = self.values.last().map(|(index, _)| *index);
        match self.names.index_of(name, before) {
            Some(index) => put_value(self.values, index, value),
            None => {
                let detail = format!("more than {MAX_FIELDS} distinct value fields, {} is one more", shorten(name));
                self.fail(Reason::TooLarge, detail);
            }
        }
    }

    /// Adds the value of a field where there is one.
    pub fn add_optional(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn fail(&mut self, reason: Reason, detail: String) {
        self.failure.get_or_insert_with(|| BadRecord::new(reason, detail));
    }
}

impl<T> TypedDecoder<T> {
    /// From the closures that give an event's time (chrono's or an [`EventTime`]), its group, and its values.
    pub fn new<Time: Into<EventTime>>(
        timestamp: impl Fn(&T) -> Time + Send + 'static,
        key: impl Fn(&T) -> GroupingKey + Send + 'static,
        values: impl Fn(&T, &mut ValueSink<'_>) + Send + 'static,
    ) -> Self {
        Self {
            timestamp: Box::new(move |event| timestamp(event).into()),
            key: Box::new(key),
            values: Box::new(values),
            filter: None,
            names: FieldNames::default(),
        }
    }

    /// Takes only the events for which `filter` returns true.
    pub fn with_filter(mut self, filter: impl Fn(&T) -> bool + Send + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Turns an event that is already there into a row; `row` comes cleared.
    pub fn extract(&mut self, event: &T, row: &mut RowScratch) -> Result<Decoded, BadRecord> {
        if self.filter.as_ref().is_some_and(|filter| !filter(event)) {
            return Ok(Decoded::Filtered);
        }
        row.time = (self.timestamp)(event);
        row.key.extend_from_slice((self.key)(event).as_json().as_bytes());
        let mut sink = ValueSink { names: &mut self.names, values: &mut row.values, failure: None };
        (self.values)(event, &mut sink);
        match sink.failure {
            Some(failure) => Err(failure),
            None if row.values.is_empty() => Err(BadRecord::new(Reason::MissingValue, "the event has no value")),
            None => Ok(Decoded::Row),
        }
    }

    /// The key of which `encoded` is what [`TypedDecoder::extract`] put into the row.
    pub fn key_of(&self, encoded: &[u8]) -> GroupingKey {
        GroupingKey::from_canonical_json(String::from_utf8_lossy(encoded).as_ref())
    }

    /// The names of the value fields seen so far.
    pub fn field_names(&self) -> &[Arc<str>] {
        self.names.names()
    }
}

impl<T: DeserializeOwned> Decoder for TypedDecoder<T> {
    fn decode(&mut self, payload: &[u8], row: &mut RowScratch) -> Result<Decoded, BadRecord> {
        let event: T = serde_json::from_slice(payload)
            .map_err(|error| BadRecord::new(Reason::Malformed, format!("not the expected JSON: {error}")))?;
        self.extract(&event, row)
    }

    fn render_key(&self, encoded: &[u8]) -> GroupingKey {
        self.key_of(encoded)
    }

    fn fields(&self) -> &[Arc<str>] {
        self.field_names()
    }
}

impl<T> fmt::Debug for TypedDecoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypedDecoder<{}>({:?})", std::any::type_name::<T>(), self.names.names())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FeedbackEvent;
    use super::*;
    use chrono::{DateTime, Utc};

    fn decode(payload: &str) -> Result<(EventTime, String, Vec<f64>), BadRecord> {
        let mut decoder = TypedDecoder::<FeedbackEvent>::default();
        let mut row = RowScratch::default();
        decoder.decode(payload.as_bytes(), &mut row)?;
        let key = decoder.render_key(&row.key).as_json().to_owned();
        Ok((row.time, key, row.values.iter().map(|(_, value)| *value).collect()))
    }

    #[test]
    fn feedback_events_from_bytes() {
        let payload = r#"{"timestamp":"2026-09-21T16:13:20.5+02:00","source":"s","event_type":"metric","data":{"a":1,"m":"x","b":2.5}}"#;
        let expected =
            (EventTime::from_millis(1_790_000_000_500), r#"{"source":"s","event_type":"metric"}"#.to_owned());
        let (time, key, values) = decode(payload).unwrap();
        assert_eq!((time, key), expected);
        assert_eq!(values, [1.0, 2.5]);
    }

    #[test]
    fn what_is_no_event_is_malformed_with_the_message_of_serde() {
        let error = decode(r#"{"timestamp":"2026-09-21T14:13:20Z","event_type":"metric"}"#).unwrap_err();
        assert_eq!(error.reason, Reason::Malformed);
        assert!(error.detail.contains("missing field `source`"), "{}", error.detail);
        let error =
            decode(r#"{"timestamp":"2026-09-21T14:13:20Z","source":"s","event_type":"m","data":{}}"#).unwrap_err();
        assert_eq!(error, BadRecord::new(Reason::MissingValue, "the event has no value"));
    }

    #[test]
    fn an_event_survives_the_way_to_json_and_back() {
        let event =
            FeedbackEvent::new(DateTime::<Utc>::UNIX_EPOCH, "s", "e").with("latency_ms", 1.5).with("model", "m");
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<FeedbackEvent>(&json).unwrap(), event);
    }

    #[test]
    fn values_that_are_not_finite_are_bad_and_the_filter_comes_first() {
        let mut decoder = TypedDecoder::new(
            |_: &f64| EventTime::from_millis(7),
            |_| GroupingKey::everything(),
            |value, values| {
                values.add("x", 1.0);
                values.add_optional("y", None);
                values.add("x", *value);
            },
        )
        .with_filter(|value| *value != 3.0);
        let mut row = RowScratch::default();
        assert_eq!(decoder.extract(&2.0, &mut row), Ok(Decoded::Row));
        assert_eq!(row.values, [(FieldIndex(0), 2.0)]);
        row.clear();
        assert_eq!(decoder.extract(&3.0, &mut row), Ok(Decoded::Filtered));
        let error = decoder.extract(&f64::NAN, &mut row).unwrap_err();
        assert_eq!(error, BadRecord::new(Reason::NotANumber, "the value field x: NaN is not finite"));
    }
}
