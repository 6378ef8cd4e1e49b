//! Events as JSON objects: the decoder that a configuration describes.
//!
//! The model: the configured paths form a tree ([`plan`]); one pass over the record checks all of its grammar and notes where
//! the wanted values stand ([`capture`]); then filter, timestamp, key and values are read from these places. Nothing is
//! allocated per record, and members that are not wanted are checked and passed over.
//!
//! What it promises: a record that is no valid JSON object anywhere in it, down to its last byte and its last escape, is
//! malformed, and so is one that nests deeper than 127 levels. A member name that occurs twice counts with its last value. A
//! key field keeps its type: the string `"1"` and the number `1` are two keys, and so are the numbers `1` and `1.0`, as the
//! record's own text is kept; how a string is escaped makes no difference.
//!
//! How it fails: with a [`BadRecord`] that names the field, says what was found and what would be right. The filter comes
//! first: an event that it leaves out needs neither timestamp nor key nor values.

mod block;
mod capture;
mod cursor;
mod key;
mod plan;
mod raw;
mod values;

pub(super) use raw::shorten;

use super::timestamp::TimestampReader;
use super::{BadRecord, Decoded, Decoder, GroupingKey, Reason, RowScratch};
use crate::config::model::{EventConfig, FieldPath, FilterCondition, ValueFields};
use crate::time::EventTime;
use capture::Captured;
use cursor::SyntaxError;
use key::KeyReader;
use plan::{Plan, Slot};
use raw::{Kind, Raw, unescape_into};
use std::sync::Arc;
use values::ValueReader;

/// Reads events that are JSON objects, as an [`EventConfig`] describes them.
#[derive(Debug)]
pub struct JsonDecoder {
    plan: Plan,
    captured: Captured,
    filter: Vec<(Slot, FilterCondition)>,
    timestamp_slot: Slot,
    timestamp_path: FieldPath,
    timestamp: TimestampReader,
    key: KeyReader,
    values: ValueReader,
    /// For strings with escapes.
    buffer: Vec<u8>,
}

impl JsonDecoder {
    /// The decoder of this configuration.
    pub fn new(config: &EventConfig) -> Self {
        let mut wanted: Vec<&FieldPath> = vec![&config.timestamp_field];
        wanted.extend(config.filter.iter().map(|condition| &condition.path));
        wanted.extend(config.key.iter().map(|field| &field.path));
        let mut every_number_under = None;
        match &config.values {
            ValueFields::Listed(fields) => wanted.extend(fields.iter().map(|field| &field.path)),
            // Wanted as a value too, to say what stands in its place.
            ValueFields::EveryNumberUnder(path) => {
                wanted.push(path);
                every_number_under = Some(path);
            }
        }
        let (plan, slots) = Plan::new(&wanted, every_number_under);
        let mut slots = slots.into_iter();
        let timestamp_slot = slots.next().expect("the timestamp's path is the first of the wanted ones");
        let filter = slots.by_ref().zip(&config.filter).map(|(slot, condition)| (slot, condition.clone())).collect();
        Self {
            plan,
            captured: Captured::default(),
            filter,
            timestamp_slot,
            timestamp_path: config.timestamp_field.clone(),
            timestamp: TimestampReader::new(config.timestamp_format),
            key: KeyReader::new(&config.key, slots.by_ref().take(config.key.len()).collect()),
            values: ValueReader::new(&config.values, slots.collect()),
            buffer: Vec::new(),
        }
    }

    fn passes_filter(&mut self, record: &[u8]) -> bool {
        let Self { filter, captured, buffer, .. } = self;
        filter.iter().all(|(slot, condition)| {
            scalar_text(captured.slots[slot.0], record, buffer)
                .is_some_and(|text| condition.any_of.iter().any(|wanted| wanted.as_bytes() == text))
        })
    }

    fn read_timestamp(&mut self, record: &[u8]) -> Result<EventTime, BadRecord> {
        let raw = self.captured.slots[self.timestamp_slot.0];
        let read = match raw.kind() {
            Kind::String => self.timestamp.read_string(raw.bytes(record)),
            Kind::Number => self.timestamp.read_number(raw.bytes(record)),
            Kind::EscapedString => {
                self.buffer.clear();
                unescape_into(raw.bytes(record), &mut self.buffer);
                self.timestamp.read_string(&self.buffer)
            }
            Kind::Absent => Err("absent; event.timestamp.field names where it is".to_owned()),
            _ => Err(format!("{}, not a timestamp", raw.describe(record))),
        };
        read.map_err(|detail| {
            BadRecord::new(Reason::MissingTimestamp, format!("the timestamp field {}: {detail}", self.timestamp_path))
        })
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, payload: &[u8], row: &mut RowScratch) -> Result<Decoded, BadRecord> {
        check_text(payload)?;
        capture::capture(&self.plan, payload, &mut self.captured).map_err(|error| explain(error, payload))?;
        if !self.filter.is_empty() && !self.passes_filter(payload) {
            return Ok(Decoded::Filtered);
        }
        row.time = self.read_timestamp(payload)?;
        self.key.read(&self.captured, payload, &mut row.key)?;
        self.values.read(&self.captured, payload, &mut row.values)?;
        Ok(Decoded::Row)
    }

    fn render_key(&self, encoded: &[u8]) -> GroupingKey {
        self.key.render(encoded)
    }

    fn fields(&self) -> &[Arc<str>] {
        self.values.fields()
    }
}

/// What must hold before the first token is looked at.
#[inline]
fn check_text(payload: &[u8]) -> Result<(), BadRecord> {
    if payload.len() >= raw::MAX_LENGTH {
        return Err(BadRecord::new(Reason::TooLarge, format!("{} bytes; less than 1 GiB can be read", payload.len())));
    }
    match std::str::from_utf8(payload) {
        Ok(_) => Ok(()),
        Err(error) => Err(malformed(format!("not JSON: byte {} is not valid UTF-8", error.valid_up_to()))),
    }
}

fn malformed(detail: String) -> BadRecord {
    BadRecord::new(Reason::Malformed, detail)
}

#[cold]
fn explain(error: SyntaxError, record: &[u8]) -> BadRecord {
    if record.starts_with("\u{feff}".as_bytes()) {
        return malformed("not JSON: it begins with a byte order mark; write UTF-8 without one".to_owned());
    }
    let rest = record.get(error.at..).and_then(|rest| std::str::from_utf8(rest).ok()).unwrap_or_default();
    let found = match rest.chars().next() {
        None => "the end".to_owned(),
        Some(character) => format!("{character:?}"),
    };
    malformed(format!("not a JSON object: at byte {} expected {}, found {found}", error.at, error.expected))
}

/// The text of a scalar, the escapes of a string resolved; `None` where it is null, absent, an array or an object.
#[inline]
fn scalar_text<'r>(raw: Raw, record: &'r [u8], buffer: &'r mut Vec<u8>) -> Option<&'r [u8]> {
    match raw.kind() {
        Kind::String | Kind::Number | Kind::True | Kind::False => Some(raw.bytes(record)),
        Kind::EscapedString => {
            buffer.clear();
            unescape_into(raw.bytes(record), buffer);
            Some(buffer)
        }
        Kind::Absent | Kind::Null | Kind::Array | Kind::Object => None,
    }
}

#[cfg(test)]
mod tests;
