//! Views in checkpoints: the facts, the results that wait, and up to where everything is closed.
//!
//! | table | key after the key group | value |
//! |---|---|---|
//! | [`Table::Fact`] | end and start of the window, 8 bytes each in the order of time; the key's text | names and figures, accumulators |
//! | [`Table::Unclosed`] | number, 8 bytes | epoch, time sent, whether it is taken back, window, key, then as a fact |
//! | [`Table::View`] | nothing (no definition either) | up to where everything is closed |

use super::retained::{Dirty, Identity, Retained, Waiting};
use super::{Fact, Figure};
use crate::aggregate::{Reader, put_varint};
use crate::checkpoint::{Changes, RecordKey, Table};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, GroupingKey};
use crate::sink::TimeWindow;
use crate::time::{Epoch, EventTime};
use std::sync::Arc;

/// The version of values, their first byte.
const FORMAT: u8 = 1;

/// A record of views.
#[derive(Clone, Debug, PartialEq)]
pub enum ViewRecord {
    /// A fact that stands.
    Fact(DefinitionIndex, Fact),
    /// A result that waits for its closing: its number among those of its worker, and when it was sent.
    Waiting(u64, EventTime, Waiting),
    /// Up to where everything is closed.
    Closed(EventTime),
}

impl ViewRecord {
    /// Reads a record of one of the tables of views.
    pub fn read(key: &[u8], value: &[u8]) -> ProcessorResult<Self> {
        let mut value = Reader::of("a record of views", value);
        let format = value.byte()?;
        if format != FORMAT {
            return Err(value.error(&format!("format {format}, this program reads {FORMAT}")));
        }
        let record = match Table::of(key) {
            Some(Table::View) => ViewRecord::Closed(time(&mut value)?),
            Some(Table::Fact) => {
                let (definition, _, rest) = RecordKey::split_group(key).ok_or_else(|| damaged(key))?;
                let mut rest = Reader::of("the key of a fact", rest);
                let [end, start] = [time(&mut rest)?, time(&mut rest)?];
                let text = std::str::from_utf8(rest.rest()).map_err(|_| damaged(key))?;
                let key = GroupingKey::from_canonical_json(text);
                ViewRecord::Fact(definition, fact(&mut value, TimeWindow { start, end }, key)?)
            }
            Some(Table::Unclosed) => {
                let (definition, _, rest) = RecordKey::split_group(key).ok_or_else(|| damaged(key))?;
                let number = u64::from_be_bytes(Reader::of("the key of a result", rest).array()?);
                let epoch = Epoch::new(value.varint()?);
                let sent = time(&mut value)?;
                let is_retraction = value.byte()? != 0;
                let [end, start] = [time(&mut value)?, time(&mut value)?];
                let key = GroupingKey::from_canonical_json(text(&mut value)?);
                let fact = fact(&mut value, TimeWindow { start, end }, key)?;
                ViewRecord::Waiting(number, sent, Waiting { epoch, definition, fact, is_retraction })
            }
            _ => return Err(damaged(key)),
        };
        value.finish()?;
        Ok(record)
    }
}

/// What has changed since the last snapshot.
pub fn changes(retained: &mut Retained) -> Changes {
    let Dirty { facts, waiting } = retained.take_dirty();
    let mut changes = Changes::default();
    for (definition, identity) in facts {
        let key = fact_key(definition, &identity);
        match retained.fact(definition, &identity) {
            Some(fact) => changes.put_with(&key.0, |out| put_value(out, |out| put_fact(fact, out))),
            None => changes.delete(&key.0),
        }
    }
    for (number, gone) in waiting {
        let (definition, group) = (gone.definition, gone.group);
        let key = RecordKey::of_group(Table::Unclosed, definition, group, &number.to_be_bytes());
        match retained.waiting(gone.sent, number) {
            Some(waiting) => changes.put_with(&key.0, |out| put_value(out, |out| put_waiting(gone.sent, waiting, out))),
            None => changes.delete(&key.0),
        }
    }
    changes
        .put_with(&RecordKey::plain(Table::View, &[]).0, |out| put_value(out, |out| put_time(retained.closed(), out)));
    changes
}

fn put_value(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(FORMAT);
    write(out);
}

fn fact_key(definition: DefinitionIndex, identity: &Identity) -> RecordKey {
    let mut rest = Vec::with_capacity(16 + identity.key.as_json().len());
    put_time(identity.end, &mut rest);
    put_time(identity.start, &mut rest);
    rest.extend(identity.key.as_json().as_bytes());
    RecordKey::of_group(Table::Fact, definition, identity.key.key_group(), &rest)
}

fn put_waiting(sent: EventTime, waiting: &Waiting, out: &mut Vec<u8>) {
    put_varint(out, waiting.epoch.number());
    put_time(sent, out);
    out.push(u8::from(waiting.is_retraction));
    put_time(waiting.fact.window.end, out);
    put_time(waiting.fact.window.start, out);
    put_bytes(waiting.fact.key.as_json().as_bytes(), out);
    put_fact(&waiting.fact, out);
}

fn put_fact(fact: &Fact, out: &mut Vec<u8>) {
    put_varint(out, fact.names.len() as u64);
    for (name, figure) in fact.names.iter().zip(fact.figures.iter()) {
        put_bytes(name.as_bytes(), out);
        put_figure(figure, out);
    }
    put_bytes(&fact.accumulators, out);
}

fn fact(value: &mut Reader<'_>, window: TimeWindow, key: GroupingKey) -> ProcessorResult<Fact> {
    let (mut names, mut figures) = (Vec::new(), Vec::new());
    for _ in 0..value.varint()? {
        names.push(Arc::from(text(value)?));
        figures.push(figure(value)?);
    }
    let accumulators = value.prefixed()?.into();
    Ok(Fact { window, key, names: names.into(), figures: figures.into(), accumulators })
}

fn put_figure(figure: &Figure, out: &mut Vec<u8>) {
    match figure {
        Figure::Null => out.push(0),
        Figure::Count(count) => {
            out.push(1);
            put_varint(out, *count);
        }
        Figure::Number(number) => {
            out.push(2);
            out.extend(number.to_bits().to_le_bytes());
        }
        Figure::Truth(truth) => out.push(3 + u8::from(*truth)),
        Figure::Json(text) => {
            out.push(5);
            put_bytes(text.as_bytes(), out);
        }
    }
}

fn figure(value: &mut Reader<'_>) -> ProcessorResult<Figure> {
    Ok(match value.byte()? {
        0 => Figure::Null,
        1 => Figure::Count(value.varint()?),
        2 => Figure::Number(f64::from_bits(u64::from_le_bytes(value.array()?))),
        3 => Figure::Truth(false),
        4 => Figure::Truth(true),
        5 => Figure::Json(text(value)?.into()),
        other => return Err(value.error(&format!("a figure of kind {other}"))),
    })
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn text<'a>(value: &mut Reader<'a>) -> ProcessorResult<&'a str> {
    let bytes = value.prefixed()?;
    std::str::from_utf8(bytes).map_err(|_| value.error("a text that is none"))
}

fn put_time(time: EventTime, out: &mut Vec<u8>) {
    out.extend(time.to_ordered().to_be_bytes());
}

fn time(value: &mut Reader<'_>) -> ProcessorResult<EventTime> {
    Ok(EventTime::from_ordered(u64::from_be_bytes(value.array()?)))
}

fn damaged(key: &[u8]) -> ProcessorError {
    ProcessorError::State(format!("the key {} is no key of a record of views", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Firing, ResultBatch, ResultOp, ResultRow, ResultValue};
    use crate::time::{Span, Time};
    use crate::view::keeper::ViewRestore;
    use crate::view::{Leaderboard, View, ViewKind};
    use std::collections::BTreeMap;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn retained() -> Retained {
        let kind = Leaderboard { by: "sum".into(), top: 1, smallest: false, per: Vec::new() };
        let (name, definition) = ("v".into(), DefinitionIndex::of(3));
        let view = View { name, definition, retain: Span::from_secs(100), kind: ViewKind::Leaderboard(kind) };
        let mut retained = Retained::new(&[view]);
        retained.track_changes();
        retained
    }

    fn row(end: i64, key: &str, op: ResultOp) -> ResultRow {
        let figures = [
            ("sum", ResultValue::Number(-0.5)),
            ("count", ResultValue::Count(300)),
            ("stddev", ResultValue::Null),
            ("own", ResultValue::Json(serde_json::json!({"a": [1, "b"]}))),
            ("flag", ResultValue::Json(true.into())),
        ];
        let (names, values): (Vec<Arc<str>>, Vec<ResultValue>) =
            figures.into_iter().map(|(name, value)| (Arc::from(name), value)).unzip();
        ResultRow {
            window: TimeWindow { start: at(end - 10), end: at(end) },
            window_name: None,
            key: GroupingKey::from_fields(&[("k", key)]),
            names: names.into(),
            values,
            revision: 0,
            op,
            firing: Firing::OnTime,
            fired_at: at(0),
            complete: None,
            accumulators: Some([1, 2, 3].into()),
            view: None,
        }
    }

    fn apply(records: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: &Changes) {
        for change in changes.iter() {
            match change.value {
                Some(value) => records.insert(change.key.to_vec(), value.to_vec()),
                None => records.remove(change.key),
            };
        }
    }

    /// Another program reads them: what these bytes are may not change without a new format.
    #[test]
    fn records_are_written_as_they_always_were() {
        let mut retained = retained();
        let time = Time::new(Epoch::new(7), at(1_000));
        let mut row = row(2_000, "a", ResultOp::Retract);
        (row.names, row.values) = (crate::view::names(&["sum"]), vec![ResultValue::Number(-0.5)]);
        retained.receive(time, &ResultBatch::new(DefinitionIndex::of(3), vec![row]));
        let told: Vec<String> = changes(&mut retained)
            .iter()
            .map(|change| format!("{} {}", hex(change.key), change.value.map_or_else(String::new, hex)))
            .collect();
        assert_eq!(told, EXPECTED);
    }

    const EXPECTED: [&str; 2] = [
        // Table, definition, key group, number; format, epoch, sent, taken back, end, start, key, one figure, accumulators.
        "090300f40000000000000001 \
         010780000000000003e80180000000000007d080000000000007c6097b226b223a2261227d010373756d02000000000000e0bf03010203",
        "0a 010000000000000000",
    ];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn restored(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Retained {
        let (mut again, mut restore) = (retained(), ViewRestore::default());
        for (key, value) in records {
            restore.take(key, value, &mut again).unwrap();
        }
        restore.finish(&mut again);
        again
    }

    #[test]
    fn what_is_kept_comes_back() {
        let mut one = retained();
        let batch = |rows: Vec<ResultRow>| ResultBatch::new(DefinitionIndex::of(3), rows);
        let time = |epoch, millis| Time::new(Epoch::new(epoch), at(millis));
        let mut records = BTreeMap::new();
        one.receive(time(0, 50), &batch(vec![row(50, "a", ResultOp::Upsert), row(50, "b", ResultOp::Upsert)]));
        one.receive(time(0, 60), &batch(vec![row(50, "a", ResultOp::Retract), row(60, "a", ResultOp::Upsert)]));
        one.close(Epoch::FIRST, at(55), &mut Vec::new());
        apply(&mut records, &changes(&mut one));
        assert_eq!(records.len(), 5, "two facts, two that wait, and up to where it is closed");
        one.receive(time(1, 70), &batch(vec![row(70, "c", ResultOp::Upsert)]));
        one.close(Epoch::new(1), at(65), &mut Vec::new());
        apply(&mut records, &changes(&mut one));
        assert_eq!(records.len(), 4, "b and a newer a, c that waits");

        let mut again = restored(&records);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        assert_eq!(again.closed(), at(65));
        again.restored(&mut Vec::new());
        for (retained, seen) in [(&mut one, &mut before), (&mut again, &mut after)] {
            retained.close(Epoch::new(1), at(100_000 + 55), seen);
        }
        assert_eq!(before, after);
        assert_eq!(before.len(), 2, "one has left and one has come: {before:?}");
        let mut all = BTreeMap::new();
        apply(&mut all, &changes(&mut again));
        assert_eq!(restored(&all).len(), again.len(), "what was restored is in the next snapshot too");
    }

    #[test]
    fn damage_is_told() {
        let mut one = retained();
        one.receive(
            Time::new(Epoch::FIRST, at(5)),
            &ResultBatch::new(DefinitionIndex::of(3), vec![row(5, "a", ResultOp::Upsert)]),
        );
        let mut records = BTreeMap::new();
        apply(&mut records, &changes(&mut one));
        for (key, value) in &records {
            for length in 0..value.len() {
                ViewRecord::read(key, &value[..length]).unwrap_err();
            }
            let mut longer = value.clone();
            longer.push(0);
            ViewRecord::read(key, &longer).unwrap_err();
            longer[0] = 9;
            assert!(ViewRecord::read(key, &longer).unwrap_err().to_string().contains("format 9"));
        }
    }
}
