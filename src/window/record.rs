//! The records of which snapshots of windows are made: what is in them, and their bytes.
//!
//! The model: each record can be read by itself. It names its key and its value fields by their texts, so that it means the same
//! to every worker, whichever wrote it, and to tools without a configuration. Whoever reads a record goes through
//! [`RecordView::read`], restoring workers and tools alike.
//!
//! # Keys
//! As in [`Changes`](crate::checkpoint::Changes): table, definition and, but for the table `Window`, key group. Then
//!
//! | table | rest of the key |
//! |---|---|
//! | `Window` | nothing: one record a definition and worker |
//! | `Entry` | accumulator id, 4 bytes, big-endian |
//! | `Revision` | the window's end, a time; the text of the key |
//! | `Pane` | of a tumbling or sliding window: one byte 0, the window's end, a time, and the text of the key; of a session: one byte 1 and its accumulator id, 4 bytes, big-endian |
//! | `Waiting` | one byte 0 for a late row and 1 for a row on time; then its number, 8 bytes, big-endian: rows of one key take effect in the order of their numbers |
//!
//! An accumulator id means something between the records of one key group and one snapshot alone.
//!
//! # Values
//! Their parts: a *time* is 8 bytes, milliseconds since 1970 with the sign bit flipped, big-endian, so that bytes are in the order
//! of time; a *varint* is an unsigned number in groups of 7 bits, the least significant first, the bit 128 set in all bytes but the
//! last, no longer than needed; *bytes* are a varint, their count, and the bytes; a *text* is bytes that are UTF-8; a *number* is an
//! `f64` in 8 bytes, little-endian, finite; a *list* is a varint, the count, and the items. The text of a key is its canonical JSON.
//! Every value begins with one byte, the version of its format, here 1.
//!
//! | table | value, after the version |
//! |---|---|
//! | `Window` | the definition's name, a list of no or one text; the time by which windows had ended that are forgotten, a time; the ends of windows that will fire, ascending, a list of times |
//! | `Entry` of a slice | one byte 0; start and end of the slice, times; the revision of its next result, a varint; the key, a text; fields |
//! | `Entry` of a session | one byte 1; start and end of the session and its latest event, times; 0 where it has not fired, else 1 more than the revision of its result, a varint; the key, a text; fields |
//! | `Revision` | the revision of the next result, a varint |
//! | `Pane` | the key, a text; events and events since the last early result, varints; latest event, a time; early results, a varint; wall clock at the last, a time; share of complete partitions at the last, a number; one byte, 1 where its content was purged, else 0; a list of results that stand |
//! | `Waiting` | the watermark for which a late row waits, or the row's own time, a time; the row's time, a time; the key, a text; a list of values, each the field's name, a text, and a number |
//!
//! *Fields* are a list, in the order of names, of those that have values: the field's name, a text, and its accumulators as
//! [`AccumulatorStore::encode`](crate::aggregate::AccumulatorStore::encode) writes them, bytes. A *result* is the window's start
//! and end, times; its revision, a varint; one byte, 0 for an upsert and 1 for a retraction; one byte, 0 for early, 1 for on time, 2
//! for late; when it fired, a time; the share of complete partitions, a list of no or one number; a list of figures, each a name, a text,
//! and one byte, 0 for null, 1 for a count, then a varint, 2 for a number, then that, 3 for JSON, then a text.
//!
//! # How it fails
//! What cannot be read is a [`ProcessorError::State`] that says where in the record and why.

use super::record_parts::{Parts, put_bytes, put_result, put_text, put_time};
use crate::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan, put_varint};
use crate::checkpoint::Table;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, GroupingKey, KeyGroup};
use crate::sink::{ResultRow, ResultValue, TimeWindow};
use crate::time::EventTime;
use std::sync::Arc;

/// The version with which values begin.
const FORMAT: u8 = 1;

/// One record of a window definition.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordView<'a> {
    /// Of which definition.
    pub definition: DefinitionIndex,
    /// The group of its key; `None` where it belongs to no key.
    pub group: Option<KeyGroup>,
    /// What it holds.
    pub content: RecordContent<'a>,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordContent<'a> {
    /// What a definition is apart from its keys, on one worker.
    Definition {
        /// Its name, where there are several.
        name: Option<&'a str>,
        /// Windows that had ended by this are forgotten.
        purged_until: EventTime,
        /// The ends of windows that will fire, ascending.
        unfired: Vec<EventTime>,
    },
    /// The accumulators of a key in a slice or session.
    Entry(EntryRecord<'a>),
    /// Of a window of several slices.
    Revision {
        /// The window's end.
        end: EventTime,
        /// The key.
        key: GroupingKey,
        /// The revision of its next result.
        next: u32,
    },
    /// What triggers go by.
    Pane(PaneRecord),
    /// A row that waits for the frontier.
    Waiting(WaitingRecord<'a>),
}

/// The accumulators of one key in one slice or session.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryRecord<'a> {
    /// Its place, on the worker that wrote it.
    pub id: AccumulatorId,
    /// The key.
    pub key: GroupingKey,
    /// What it is an entry of.
    pub of: EntryOf,
    /// The names of fields with their encoded accumulators.
    pub fields: Vec<(&'a str, &'a [u8])>,
}

impl EntryRecord<'_> {
    /// The results of each field, by the plan by which the accumulators were made: names are
    /// [`AggregatePlan::names`]. Accumulators of another plan, and damaged ones, are a [`ProcessorError::State`].
    pub fn results(&self, plan: &Arc<AggregatePlan>) -> ProcessorResult<Vec<(&str, Vec<ResultValue>)>> {
        let mut store = AccumulatorStore::new(Arc::clone(plan));
        let results = self.fields.iter().map(|(name, accumulators)| {
            let id = store.decode(accumulators)?;
            let mut values = Vec::with_capacity(plan.names().len());
            store.result(id, &mut values);
            store.remove(id);
            Ok((*name, values))
        });
        results.collect()
    }
}

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOf {
    /// A slice: a tumbling window, or a part of windows.
    Slice {
        /// Its bounds.
        window: TimeWindow,
        /// The revision of its next result, where it is a window.
        next_revision: u32,
    },
    /// A session.
    Session {
        /// Its bounds.
        window: TimeWindow,
        /// Its latest event.
        last: EventTime,
        /// The revision of its result, where it has fired.
        fired: Option<u32>,
    },
}

impl EntryOf {
    /// Its bounds.
    pub fn window(&self) -> TimeWindow {
        match self {
            EntryOf::Slice { window, .. } | EntryOf::Session { window, .. } => *window,
        }
    }
}

/// Which window a pane belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaneOf {
    /// The window that ends here, of the pane's key.
    Window(EventTime),
    /// The session of this entry.
    Session(AccumulatorId),
}

/// What triggers go by, for one window and key.
#[derive(Clone, Debug, PartialEq)]
pub struct PaneRecord {
    /// Which window.
    pub of: PaneOf,
    /// The key.
    pub key: GroupingKey,
    /// Its events.
    pub events: u64,
    /// Those that no result has shown.
    pub events_since_firing: u64,
    /// The latest of their times.
    pub last_event: EventTime,
    /// Early results.
    pub firings: u32,
    /// The wall clock at the last of them, or at the first event.
    pub fired_at: EventTime,
    /// The share of partitions that were past the window's end then.
    pub complete_at_firing: f64,
    /// Early results that stand, of sessions.
    pub standing: Vec<ResultRow>,
    /// Whether its content was forgotten.
    pub is_purged: bool,
}

/// A row that waits for the frontier.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingRecord<'a> {
    /// Why.
    pub kind: WaitingKind,
    /// Its place in the order of the rows of its kind and key.
    pub number: u64,
    /// The watermark for which a late row waits; of others their time.
    pub until: EventTime,
    /// When it happened.
    pub time: EventTime,
    /// The key.
    pub key: GroupingKey,
    /// The names of fields with its values.
    pub values: Vec<(&'a str, f64)>,
}

/// Why a row waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitingKind {
    /// It is late.
    Late = 0,
    /// It is on time, and the order of time matters.
    OnTime = 1,
}

/// The beginning of a key.
pub(super) fn key_of(table: Table, definition: DefinitionIndex, key: &GroupingKey) -> [u8; 4] {
    let group = (key.key_group().0 as u16).to_be_bytes();
    [table as u8, definition.0, group[0], group[1]]
}

/// The key of an entry's record.
pub(super) fn entry_key(definition: DefinitionIndex, key: &GroupingKey, id: AccumulatorId) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&key_of(Table::Entry, definition, key));
    bytes[4..].copy_from_slice(&(id.index() as u32).to_be_bytes());
    bytes
}

/// The key of a revision's record.
pub(super) fn revision_key(definition: DefinitionIndex, key: &GroupingKey, end: EventTime) -> Vec<u8> {
    let mut bytes = key_of(Table::Revision, definition, key).to_vec();
    put_time(&mut bytes, end);
    bytes.extend(key.as_json().as_bytes());
    bytes
}

/// The key of a pane's record.
pub(super) fn pane_key(definition: DefinitionIndex, key: &GroupingKey, of: PaneOf) -> Vec<u8> {
    let mut bytes = key_of(Table::Pane, definition, key).to_vec();
    match of {
        PaneOf::Window(end) => {
            bytes.push(0);
            put_time(&mut bytes, end);
            bytes.extend(key.as_json().as_bytes());
        }
        PaneOf::Session(id) => {
            bytes.push(1);
            bytes.extend((id.index() as u32).to_be_bytes());
        }
    }
    bytes
}

/// The key of a waiting row's record.
pub(super) fn waiting_key(definition: DefinitionIndex, key: &GroupingKey, kind: WaitingKind, number: u64) -> [u8; 13] {
    let mut bytes = [0; 13];
    bytes[..4].copy_from_slice(&key_of(Table::Waiting, definition, key));
    bytes[4] = kind as u8;
    bytes[5..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Appends the value of a definition's record.
pub(super) fn put_definition(
    out: &mut Vec<u8>,
    name: Option<&str>,
    purged_until: EventTime,
    unfired: impl ExactSizeIterator<Item = EventTime>,
) {
    out.push(FORMAT);
    put_varint(out, u64::from(name.is_some()));
    name.into_iter().for_each(|name| put_text(out, name));
    put_time(out, purged_until);
    put_varint(out, unfired.len() as u64);
    unfired.for_each(|end| put_time(out, end));
}

/// Appends the value of an entry's record but for the fields, which are to follow: their count, then [`put_field`] for each.
pub(super) fn put_entry(out: &mut Vec<u8>, of: EntryOf, key: &GroupingKey) {
    out.push(FORMAT);
    match of {
        EntryOf::Slice { window, next_revision } => {
            out.push(0);
            put_time(out, window.start);
            put_time(out, window.end);
            put_varint(out, u64::from(next_revision));
        }
        EntryOf::Session { window, last, fired } => {
            out.push(1);
            put_time(out, window.start);
            put_time(out, window.end);
            put_time(out, last);
            put_varint(out, fired.map_or(0, |revision| u64::from(revision) + 1));
        }
    }
    put_text(out, key.as_json());
}

/// Appends a field of an entry.
pub(super) fn put_field(out: &mut Vec<u8>, name: &str, accumulators: &[u8]) {
    put_text(out, name);
    put_bytes(out, accumulators);
}

/// Appends the value of a revision's record.
pub(super) fn put_revision(out: &mut Vec<u8>, next: u32) {
    out.push(FORMAT);
    put_varint(out, u64::from(next));
}

/// Appends the value of a pane's record.
pub(super) fn put_pane(out: &mut Vec<u8>, pane: &PaneRecord) {
    out.push(FORMAT);
    put_text(out, pane.key.as_json());
    put_varint(out, pane.events);
    put_varint(out, pane.events_since_firing);
    put_time(out, pane.last_event);
    put_varint(out, u64::from(pane.firings));
    put_time(out, pane.fired_at);
    out.extend(pane.complete_at_firing.to_le_bytes());
    out.push(u8::from(pane.is_purged));
    put_varint(out, pane.standing.len() as u64);
    pane.standing.iter().for_each(|row| put_result(out, row));
}

/// Appends the value of a waiting row's record.
pub(super) fn put_waiting<'v>(
    out: &mut Vec<u8>,
    (until, time): (EventTime, EventTime),
    key: &GroupingKey,
    values: impl ExactSizeIterator<Item = (&'v Arc<str>, f64)>,
) {
    out.push(FORMAT);
    put_time(out, until);
    put_time(out, time);
    put_text(out, key.as_json());
    put_varint(out, values.len() as u64);
    for (name, value) in values {
        put_text(out, name);
        out.extend(value.to_le_bytes());
    }
}

impl<'a> RecordView<'a> {
    /// Reads a record of one of the tables of windows. Anything else is a [`ProcessorError::State`].
    pub fn read(key: &'a [u8], value: &'a [u8]) -> ProcessorResult<Self> {
        let table = Table::of(key).ok_or_else(|| not_of_windows(key))?;
        let mut parts = Parts::of("the value of a record of windows", value);
        let format = parts.byte()?;
        if format != FORMAT {
            return Err(parts.error(&format!("format {format}, this program reads {FORMAT}")));
        }
        if table == Table::Window {
            let [_, definition] = key else { return Err(not_of_windows(key)) };
            let content = read_definition(&mut parts)?;
            parts.finish()?;
            return Ok(Self { definition: DefinitionIndex(*definition), group: None, content });
        }
        let header = key.split_first_chunk::<4>().ok_or_else(|| not_of_windows(key))?;
        let ([_, definition, high, low], rest) = header;
        let group = KeyGroup(u32::from(u16::from_be_bytes([*high, *low])));
        let mut rest = Parts::of("the key of a record of windows", rest);
        let (key, content) = match table {
            Table::Entry => read_entry(&mut rest, &mut parts)?,
            Table::Revision => read_revision(&mut rest, &mut parts)?,
            Table::Pane => read_pane(&mut rest, &mut parts)?,
            Table::Waiting => read_waiting(&mut rest, &mut parts)?,
            Table::Window | Table::Cut | Table::Outbox | Table::Fact | Table::Unclosed | Table::View => {
                return Err(not_of_windows(key));
            }
        };
        rest.finish()?;
        if key.key_group() != group {
            return Err(rest.error(&format!("the key {key} is of key group {}, not {}", key.key_group().0, group.0)));
        }
        parts.finish()?;
        Ok(Self { definition: DefinitionIndex(*definition), group: Some(group), content })
    }
}

fn not_of_windows(key: &[u8]) -> ProcessorError {
    ProcessorError::State(format!("the record with the key {} is of no table of windows", key.escape_ascii()))
}

fn read_definition<'a>(parts: &mut Parts<'a>) -> ProcessorResult<RecordContent<'a>> {
    let name = parts.option(Parts::text)?;
    let purged_until = parts.time()?;
    let unfired = parts.list(Parts::time)?;
    if !unfired.is_sorted_by(|one, next| one < next) {
        return Err(parts.error("ends that are not in their order, each once"));
    }
    Ok(RecordContent::Definition { name, purged_until, unfired })
}

type Read<'a> = ProcessorResult<(GroupingKey, RecordContent<'a>)>;

fn read_entry<'a>(rest: &mut Parts<'a>, parts: &mut Parts<'a>) -> Read<'a> {
    let id = rest.id()?;
    let kind = parts.byte()?;
    let window = parts.window()?;
    let of = match kind {
        0 => EntryOf::Slice { window, next_revision: parts.small()? },
        1 => {
            let last = parts.time()?;
            if last < window.start || last >= window.end {
                return Err(parts.error("a session whose latest event is outside of it"));
            }
            EntryOf::Session { window, last, fired: parts.small()?.checked_sub(1) }
        }
        other => return Err(parts.error(&format!("an entry of kind {other}"))),
    };
    let key = parts.key()?;
    let fields = parts.list(|parts| Ok((parts.text()?, parts.prefixed()?)))?;
    Ok((key.clone(), RecordContent::Entry(EntryRecord { id, key, of, fields })))
}

fn read_revision<'a>(rest: &mut Parts<'a>, parts: &mut Parts<'a>) -> Read<'a> {
    let end = rest.time()?;
    let key = rest.rest_as_key()?;
    Ok((key.clone(), RecordContent::Revision { end, key, next: parts.small()? }))
}

fn read_pane<'a>(rest: &mut Parts<'a>, parts: &mut Parts<'a>) -> Read<'a> {
    let key = parts.key()?;
    let of = match rest.byte()? {
        0 => {
            let end = rest.time()?;
            if rest.rest_as_key()? != key {
                return Err(rest.error("a pane of another key than its value says"));
            }
            PaneOf::Window(end)
        }
        1 => PaneOf::Session(rest.id()?),
        other => return Err(rest.error(&format!("a pane of kind {other}"))),
    };
    let mut pane = PaneRecord {
        of,
        key: key.clone(),
        events: parts.varint()?,
        events_since_firing: parts.varint()?,
        last_event: parts.time()?,
        firings: parts.small()?,
        fired_at: parts.time()?,
        complete_at_firing: parts.number()?,
        is_purged: parts.flag()?,
        standing: parts.list(Parts::result)?,
    };
    pane.standing.iter_mut().for_each(|row| row.key = key.clone());
    Ok((key, RecordContent::Pane(pane)))
}

fn read_waiting<'a>(rest: &mut Parts<'a>, parts: &mut Parts<'a>) -> Read<'a> {
    let kind = match rest.byte()? {
        0 => WaitingKind::Late,
        1 => WaitingKind::OnTime,
        other => return Err(rest.error(&format!("a waiting row of kind {other}"))),
    };
    let number = rest.eight()?;
    let (until, time) = (parts.time()?, parts.time()?);
    let key = parts.key()?;
    let values = parts.list(|parts| Ok((parts.text()?, parts.number()?)))?;
    let row = WaitingRecord { kind, number, until, time, key: key.clone(), values };
    Ok((key, RecordContent::Waiting(row)))
}
