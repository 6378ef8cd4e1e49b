//! The grouping key of a record, in the decoder's own encoding.
//!
//! Each field is a tag byte for its type, its text, and 0xFF, which occurs in no UTF-8 text: so equal keys have equal bytes,
//! and different keys different ones.

use super::capture::Captured;
use super::plan::Slot;
use super::raw::{Kind, unescape_into};
use crate::config::model::KeyField;
use crate::event::key::push_json_string;
use crate::event::{BadRecord, GroupingKey, Reason};

const STRING: u8 = b's';
/// Numbers, `true` and `false`: their text is what JSON writes.
const LITERAL: u8 = b'l';
const END: u8 = 0xFF;

#[derive(Debug)]
pub(super) struct KeyReader {
    fields: Vec<(Slot, KeyField)>,
}

impl KeyReader {
    pub(super) fn new(fields: &[KeyField], slots: Vec<Slot>) -> Self {
        Self { fields: slots.into_iter().zip(fields.iter().cloned()).collect() }
    }

    /// Appends the encoded key of a record to `key`.
    #[inline]
    pub(super) fn read(&self, captured: &Captured, record: &[u8], key: &mut Vec<u8>) -> Result<(), BadRecord> {
        for (slot, field) in &self.fields {
            let raw = captured.slots[slot.0];
            match raw.kind() {
                Kind::String => push(key, STRING, raw.bytes(record)),
                Kind::EscapedString => {
                    key.push(STRING);
                    unescape_into(raw.bytes(record), key);
                    key.push(END);
                }
                Kind::Number | Kind::True | Kind::False => push(key, LITERAL, raw.bytes(record)),
                Kind::Absent | Kind::Null => match &field.default {
                    Some(default) => push(key, STRING, default.as_bytes()),
                    None => {
                        return Err(missing(
                            field,
                            format!("{}; send it, or give it a default in event.key", raw.describe(record)),
                        ));
                    }
                },
                Kind::Array | Kind::Object => {
                    let found = raw.describe(record);
                    return Err(missing(field, format!("{found}; a string, a number or a boolean is needed")));
                }
            }
        }
        Ok(())
    }

    /// The canonical JSON of an encoded key.
    pub(super) fn render(&self, encoded: &[u8]) -> GroupingKey {
        if self.fields.is_empty() {
            return GroupingKey::everything();
        }
        let mut json = String::from("{");
        for ((_, field), part) in self.fields.iter().zip(encoded.split(|byte| *byte == END)) {
            if json.len() > 1 {
                json.push(',');
            }
            push_json_string(&mut json, &field.name);
            json.push(':');
            match part.split_first() {
                Some((&LITERAL, text)) => json.push_str(&String::from_utf8_lossy(text)),
                Some((_, text)) => push_json_string(&mut json, &String::from_utf8_lossy(text)),
                None => json.push_str("null"),
            }
        }
        json.push('}');
        GroupingKey::from_canonical_json(json)
    }
}

#[inline(always)]
fn push(key: &mut Vec<u8>, tag: u8, text: &[u8]) {
    key.reserve(text.len() + 2);
    key.push(tag);
    key.extend_from_slice(text);
    key.push(END);
}

#[cold]
fn missing(field: &KeyField, detail: String) -> BadRecord {
    BadRecord::new(Reason::MissingKey, format!("the key field {}: {detail}", field.path))
}
