//! The values of a record.
//!
//! Listed fields have fixed indices. Where every number of an object is wanted, a field gets its index when it is first seen.

use super::capture::{Captured, NamedNumber};
use super::plan::Slot;
use super::raw::{Kind, Raw, unescape_into};
use crate::config::model::{FieldPath, ValueField, ValueFields};
use crate::event::field_names::{FieldNames, MAX_FIELDS, put_value};
use crate::event::number::parse_number;
use crate::event::{BadRecord, FieldIndex, Reason};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the process has said that an integer was rounded.
static ROUNDING_REPORTED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub(super) enum ValueReader {
    /// These fields.
    Listed { fields: Vec<(Slot, ValueField)>, names: Vec<Arc<str>> },
    /// Every number directly under the object in this slot.
    AsTheyCome { slot: Slot, path: FieldPath, names: FieldNames, name_buffer: Vec<u8> },
}

impl ValueReader {
    pub(super) fn new(config: &ValueFields, slots: Vec<Slot>) -> Self {
        match config {
            ValueFields::Listed(fields) => Self::Listed {
                names: fields.iter().map(|field| field.name.as_str().into()).collect(),
                fields: slots.into_iter().zip(fields.iter().cloned()).collect(),
            },
            ValueFields::EveryNumberUnder(path) => Self::AsTheyCome {
                slot: slots.first().copied().expect("the object's path is one of the wanted ones"),
                path: path.clone(),
                names: FieldNames::default(),
                name_buffer: Vec::new(),
            },
        }
    }

    pub(super) fn fields(&self) -> &[Arc<str>] {
        match self {
            Self::Listed { names, .. } => names,
            Self::AsTheyCome { names, .. } => names.names(),
        }
    }

    /// Appends the values of a record to `values`.
    #[inline]
    pub(super) fn read(
        &mut self,
        captured: &Captured,
        record: &[u8],
        values: &mut Vec<(FieldIndex, f64)>,
    ) -> Result<(), BadRecord> {
        match self {
            Self::Listed { fields, .. } => read_listed(fields, captured, record, values),
            Self::AsTheyCome { slot, path, names, name_buffer } => {
                for named in &captured.numbers {
                    let name = name_of(named, record, name_buffer);
                    let value = finite(named.number, record, || format!("{path}.{name}"))?;
                    let before = values.last().map(|(index, _)| *index);
                    let index = names.index_of(name, before).ok_or_else(|| too_many_fields(name, path))?;
                    put_value(values, index, value);
                }
                if values.is_empty() { Err(no_number(captured.slots[slot.0], path, record)) } else { Ok(()) }
            }
        }
    }
}

#[inline]
fn read_listed(
    fields: &[(Slot, ValueField)],
    captured: &Captured,
    record: &[u8],
    values: &mut Vec<(FieldIndex, f64)>,
) -> Result<(), BadRecord> {
    for (index, (slot, field)) in fields.iter().enumerate() {
        let raw = captured.slots[slot.0];
        match raw.kind() {
            Kind::Number => {
                values.push((FieldIndex(index as u16), finite(raw, record, || field.path.to_string())?));
            }
            Kind::Absent | Kind::Null => {}
            _ => {
                let found = raw.describe(record);
                return Err(BadRecord::new(
                    Reason::NotANumber,
                    format!("the value field {}: {found}; a number is needed", field.path),
                ));
            }
        }
    }
    if values.is_empty() { Err(none_present(fields)) } else { Ok(()) }
}

#[cold]
fn none_present(fields: &[(Slot, ValueField)]) -> BadRecord {
    let names: Vec<String> = fields.iter().map(|(_, field)| field.path.to_string()).collect();
    let detail = match names.as_slice() {
        [one] => format!("the value field {one} is absent or null"),
        several => format!("all value fields are absent or null: {}", several.join(", ")),
    };
    BadRecord::new(Reason::MissingValue, detail)
}

#[cold]
fn no_number(object: Raw, path: &FieldPath, record: &[u8]) -> BadRecord {
    let detail = match object.kind() {
        Kind::Object => format!("no member of {path} is a number"),
        _ => format!("{path} is {}; an object with numbers is needed", object.describe(record)),
    };
    BadRecord::new(Reason::MissingValue, detail)
}

/// The member's name, its escapes resolved.
#[inline]
fn name_of<'r>(named: &NamedNumber, record: &'r [u8], buffer: &'r mut Vec<u8>) -> &'r str {
    let bytes = if named.name.kind() == Kind::String {
        named.name.bytes(record)
    } else {
        buffer.clear();
        unescape_into(named.name.bytes(record), buffer);
        buffer
    };
    // The record is UTF-8, and so is what its escapes stand for.
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cold]
fn too_many_fields(name: &str, path: &FieldPath) -> BadRecord {
    BadRecord::new(
        Reason::TooLarge,
        format!(
            "{path}.{} would be value field number {}; at most {MAX_FIELDS} are taken as they come: list those that count in \
             event.values",
            super::shorten(name),
            MAX_FIELDS + 1
        ),
    )
}

/// The number at `raw`, which must fit a double.
#[inline]
fn finite(raw: Raw, record: &[u8], field: impl Fn() -> String) -> Result<f64, BadRecord> {
    let number = parse_number(raw.bytes(record));
    if !number.value.is_finite() {
        let detail = format!("the value field {}: {} is beyond the largest double", field(), raw.describe(record));
        return Err(BadRecord::new(Reason::NotANumber, detail));
    }
    if number.rounded_integer {
        report_rounding(&field(), raw, record);
    }
    Ok(number.value)
}

/// Says once in a process that integers are rounded.
#[cold]
fn report_rounding(field: &str, raw: Raw, record: &[u8]) {
    if !ROUNDING_REPORTED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "the value field {field}: {} is beyond 2^53 and taken as the nearest double; integers of this size lose their \
             last digits (said once)",
            raw.describe(record)
        );
    }
}
