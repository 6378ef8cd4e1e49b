//! Events of the user's own type.
//!
//! The model: three closures say when an event happened, which group it belongs to, and what its numbers are. A
//! [`TypedDecoder`] applies them to events that are there already, a [`TypedJsonDecoder`] to events that it reads from JSON with
//! serde. Where a source extracts and the intake needs to know the names, the intake has a
//! [`TypedNames`] of the same decoder. How it fails: bytes that are no `T` are malformed, with serde's own message; a NaN or an
//! infinity is not a number; an event without any value is reported as such.

use super::field_names::{FieldNames, MAX_FIELDS, put_value};
use super::json::shorten;
use super::{BadRecord, Decoded, Decoder, FieldIndex, GroupingKey, Reason, RowScratch};
use crate::time::EventTime;
use serde::de::DeserializeOwned;
use std::cell::OnceCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type TimestampOf<T> = Arc<dyn Fn(&T) -> EventTime + Send + Sync>;
type KeyOf<T> = Arc<dyn Fn(&T) -> GroupingKey + Send + Sync>;
type ValuesOf<T> = Arc<dyn Fn(&T, &mut ValueSink<'_>) + Send + Sync>;
type PayloadOf<T> = Arc<dyn Fn(&T) -> Vec<u8> + Send + Sync>;
type FilterOf<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

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
    payload: Option<PayloadOf<T>>,
    names: Arc<Mutex<FieldNames>>,
}

/// A decoder of the same events for another worker: it has field names of its own.
impl<T> Clone for TypedDecoder<T> {
    fn clone(&self) -> Self {
        Self {
            timestamp: self.timestamp.clone(),
            key: self.key.clone(),
            values: self.values.clone(),
            filter: self.filter.clone(),
            payload: self.payload.clone(),
            names: Arc::default(),
        }
    }
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
        timestamp: impl Fn(&T) -> Time + Send + Sync + 'static,
        key: impl Fn(&T) -> GroupingKey + Send + Sync + 'static,
        values: impl Fn(&T, &mut ValueSink<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            timestamp: Arc::new(move |event| timestamp(event).into()),
            key: Arc::new(key),
            values: Arc::new(values),
            filter: None,
            payload: None,
            names: Arc::default(),
        }
    }

    /// Takes only the events for which `filter` returns true.
    pub fn with_filter(mut self, filter: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Writes an event as bytes: what a late or bad event leaves in the side outputs. Without it they hold no payload.
    pub fn with_payload(mut self, payload: impl Fn(&T) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.payload = Some(Arc::new(payload));
        self
    }

    /// The event as bytes, for side outputs; see [`TypedDecoder::with_payload`].
    pub fn payload_of(&self, event: &T) -> Vec<u8> {
        self.payload.as_ref().map_or_else(Vec::new, |payload| payload(event))
    }

    /// Turns an event that is already there into a row; `row` comes cleared.
    pub fn extract(&mut self, event: &T, row: &mut RowScratch) -> Result<Decoded, BadRecord> {
        if self.filter.as_ref().is_some_and(|filter| !filter(event)) {
            return Ok(Decoded::Filtered);
        }
        row.time = (self.timestamp)(event);
        row.key.extend_from_slice((self.key)(event).as_json().as_bytes());
        let mut names = lock(&self.names);
        let mut sink = ValueSink { names: &mut names, values: &mut row.values, failure: None };
        (self.values)(event, &mut sink);
        match sink.failure {
            Some(failure) => Err(failure),
            None if row.values.is_empty() => Err(BadRecord::new(Reason::MissingValue, "the event has no value")),
            None => Ok(Decoded::Row),
        }
    }

    /// What an intake needs to know of the rows that this decoder extracts elsewhere.
    pub fn names(&self) -> TypedNames {
        TypedNames { shared: self.names.clone(), known: Snapshot::default() }
    }
}

/// Names change in whole steps, so they are sound even if a closure of the user's has panicked meanwhile.
fn lock(names: &Mutex<FieldNames>) -> MutexGuard<'_, FieldNames> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of which `encoded` is what [`TypedDecoder::extract`] put into the row.
fn key_of(encoded: &[u8]) -> GroupingKey {
    GroupingKey::from_canonical_json(String::from_utf8_lossy(encoded).as_ref())
}

/// The decoder of an intake whose source extracts rows by itself, with a [`TypedDecoder`]: it renders their keys and knows
/// their fields, and has no way to read bytes.
#[derive(Debug)]
pub struct TypedNames {
    shared: Arc<Mutex<FieldNames>>,
    known: Snapshot,
}

/// The names at one moment, and at later ones. A list that is lent out cannot grow; there are at most as many as fields.
#[derive(Debug, Default)]
struct Snapshot {
    names: Vec<Arc<str>>,
    later: OnceCell<Box<Snapshot>>,
}

impl TypedNames {
    fn current(&self) -> &[Arc<str>] {
        let mut newest = &self.known;
        while let Some(later) = newest.later.get() {
            newest = later;
        }
        let shared = lock(&self.shared);
        if shared.names().len() > newest.names.len() {
            let later = || Box::new(Snapshot { names: shared.names().to_vec(), later: OnceCell::new() });
            newest = newest.later.get_or_init(later);
        }
        &newest.names
    }
}

impl Decoder for TypedNames {
    fn decode(&mut self, _payload: &[u8], _row: &mut RowScratch) -> Result<Decoded, BadRecord> {
        Err(BadRecord::new(Reason::Malformed, "the source of this job hands over events, not bytes"))
    }

    fn render_key(&self, encoded: &[u8]) -> GroupingKey {
        key_of(encoded)
    }

    fn fields(&self) -> &[Arc<str>] {
        self.current()
    }
}

/// Reads events of type `T` from JSON.
#[derive(Debug)]
pub struct TypedJsonDecoder<T> {
    typed: TypedDecoder<T>,
    names: TypedNames,
}

impl<T> TypedJsonDecoder<T> {
    /// Reads JSON into `T`, and that into rows as `typed` says.
    pub fn new(typed: TypedDecoder<T>) -> Self {
        Self { names: typed.names(), typed }
    }
}

impl<T: DeserializeOwned> Decoder for TypedJsonDecoder<T> {
    fn decode(&mut self, payload: &[u8], row: &mut RowScratch) -> Result<Decoded, BadRecord> {
        let event: T = serde_json::from_slice(payload)
            .map_err(|error| BadRecord::new(Reason::Malformed, format!("not the expected JSON: {error}")))?;
        self.typed.extract(&event, row)
    }

    fn render_key(&self, encoded: &[u8]) -> GroupingKey {
        key_of(encoded)
    }

    fn fields(&self) -> &[Arc<str>] {
        self.names.current()
    }
}

impl<T> fmt::Debug for TypedDecoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypedDecoder<{}>({:?})", std::any::type_name::<T>(), lock(&self.names).names())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FeedbackEvent;
    use super::*;
    use chrono::{DateTime, Utc};

    fn decode(payload: &str) -> Result<(EventTime, String, Vec<f64>), BadRecord> {
        let mut decoder = TypedJsonDecoder::new(TypedDecoder::<FeedbackEvent>::default());
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
    fn an_intake_sees_names_that_came_after_it() {
        let mut decoder = TypedDecoder::new(
            |_: &&str| EventTime::from_millis(7),
            |_| GroupingKey::everything(),
            |name, values| values.add(name, 1.0),
        );
        let names = decoder.names();
        let none = names.fields();
        let mut row = RowScratch::default();
        decoder.extract(&"x", &mut row).unwrap();
        let one = names.fields();
        decoder.extract(&"y", &mut row).unwrap();
        decoder.extract(&"x", &mut row).unwrap();
        assert_eq!((none.len(), one, names.fields()), (0, &["x".into()][..], &["x".into(), "y".into()][..]));
        assert_eq!(names.render_key(&row.key[..2]), GroupingKey::everything());
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
