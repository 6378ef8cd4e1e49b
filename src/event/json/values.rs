//! The values of a record.
//!
//! Listed fields have fixed indices. Where every number of an object is wanted, a field gets its index when it is first seen;
//! events of one kind list their members in one order, so the next number is first looked for where it was the last time.

use super::capture::{Captured, NamedNumber};
use super::plan::Slot;
use super::raw::{Kind, Raw, unescape_into};
use crate::config::model::{FieldPath, ValueField, ValueFields};
use crate::event::number::parse_number;
use crate::event::{BadRecord, FieldIndex, Reason};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many distinct fields one decoder takes where they come as they are: past that, the names are most likely data.
pub(super) const MAX_FIELDS: usize = 256;

/// Whether the process has said that an integer was rounded.
static ROUNDING_REPORTED: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
pub(super) struct ValueReader {
    names: Vec<Arc<str>>,
    fields: Fields,
}

#[derive(Debug)]
enum Fields {
    Listed(Vec<(Slot, ValueField)>),
    AsTheyCome {
        /// The object that holds the numbers.
        slot: Slot,
        path: FieldPath,
        by_name: HashMap<Box<[u8]>, FieldIndex>,
        name_buffer: Vec<u8>,
    },
}

impl ValueReader {
    pub(super) fn new(config: &ValueFields, slots: Vec<Slot>) -> Self {
        match config {
            ValueFields::Listed(fields) => Self {
                names: fields.iter().map(|field| field.name.as_str().into()).collect(),
                fields: Fields::Listed(slots.into_iter().zip(fields.iter().cloned()).collect()),
            },
            ValueFields::EveryNumberUnder(path) => Self {
                names: Vec::new(),
                fields: Fields::AsTheyCome {
                    slot: slots.first().copied().expect("the object's path is one of the wanted ones"),
                    path: path.clone(),
                    by_name: HashMap::new(),
                    name_buffer: Vec::new(),
                },
            },
        }
    }

    pub(super) fn fields(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Appends the values of a record to `values`.
    #[inline]
    pub(super) fn read(
        &mut self,
        captured: &Captured,
        record: &[u8],
        values: &mut Vec<(FieldIndex, f64)>,
    ) -> Result<(), BadRecord> {
        match &mut self.fields {
            Fields::Listed(fields) => read_listed(fields, captured, record, values),
            Fields::AsTheyCome { slot, path, by_name, name_buffer } => {
                for named in &captured.numbers {
                    let name = name_of(named, record, name_buffer);
                    let value = finite(named.number, record, || format!("{path}.{}", String::from_utf8_lossy(name)))?;
                    let likely = FieldIndex(values.last().map_or(0, |(last, _)| last.0 + 1));
                    let index = if self.names.get(likely.0 as usize).is_some_and(|next| next.as_bytes() == name) {
                        likely
                    } else {
                        index_of(name, by_name, &mut self.names, path)?
                    };
                    // Ascending indices cannot repeat.
                    match values.last().is_some_and(|(last, _)| *last >= index) {
                        true => replace_or_push(values, index, value),
                        false => values.push((index, value)),
                    }
                }
                if values.is_empty() {
                    return Err(no_number(captured.slots[slot.0], path, record));
                }
                Ok(())
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

#[inline]
fn name_of<'r>(named: &NamedNumber, record: &'r [u8], buffer: &'r mut Vec<u8>) -> &'r [u8] {
    if named.name.kind() == Kind::String {
        return named.name.bytes(record);
    }
    buffer.clear();
    unescape_into(named.name.bytes(record), buffer);
    buffer
}

/// The index of a field, a new one where it was never seen.
fn index_of(
    name: &[u8],
    by_name: &mut HashMap<Box<[u8]>, FieldIndex>,
    names: &mut Vec<Arc<str>>,
    path: &FieldPath,
) -> Result<FieldIndex, BadRecord> {
    if let Some(index) = by_name.get(name) {
        return Ok(*index);
    }
    if names.len() >= MAX_FIELDS {
        let name = String::from_utf8_lossy(name);
        return Err(BadRecord::new(
            Reason::TooLarge,
            format!(
                "{path}.{} would be value field number {}; at most {MAX_FIELDS} are taken as they come: list those that \
                 count in event.values",
                super::shorten(&name),
                MAX_FIELDS + 1
            ),
        ));
    }
    let index = FieldIndex(names.len() as u16);
    names.push(String::from_utf8_lossy(name).into());
    by_name.insert(name.into(), index);
    Ok(index)
}

fn replace_or_push(values: &mut Vec<(FieldIndex, f64)>, index: FieldIndex, value: f64) {
    match values.iter_mut().find(|(present, _)| *present == index) {
        Some((_, present)) => *present = value,
        None => values.push((index, value)),
    }
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
