//! The parts of the records of [`super::record`].

use crate::aggregate::{AccumulatorId, Reader, put_varint};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::GroupingKey;
use crate::sink::{Firing, ResultOp, ResultRow, ResultValue, TimeWindow};
use crate::time::EventTime;
use std::sync::Arc;

/// Appends a time.
pub(super) fn put_time(out: &mut Vec<u8>, time: EventTime) {
    out.extend(time.to_ordered().to_be_bytes());
}

/// Appends bytes with their count.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Appends a text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Appends a result.
pub(super) fn put_result(out: &mut Vec<u8>, row: &ResultRow) {
    put_time(out, row.window.start);
    put_time(out, row.window.end);
    put_varint(out, u64::from(row.revision));
    out.push(match row.op {
        ResultOp::Upsert => 0,
        ResultOp::Retract => 1,
    });
    out.push(match row.firing {
        Firing::Early => 0,
        Firing::OnTime => 1,
        Firing::Late => 2,
    });
    put_time(out, row.fired_at);
    put_varint(out, u64::from(row.complete.is_some()));
    row.complete.into_iter().for_each(|complete| out.extend(complete.to_le_bytes()));
    put_varint(out, row.names.len() as u64);
    for (name, value) in row.names.iter().zip(&row.values) {
        put_text(out, name);
        match value {
            ResultValue::Null => out.push(0),
            ResultValue::Count(count) => {
                out.push(1);
                put_varint(out, *count);
            }
            ResultValue::Number(number) => {
                out.push(2);
                out.extend(number.to_le_bytes());
            }
            ResultValue::Json(json) => {
                out.push(3);
                put_text(out, &json.to_string());
            }
        }
    }
}

/// Reads a record from front to back.
pub(super) struct Parts<'a>(Reader<'a>);

impl<'a> Parts<'a> {
    /// Of what errors call `what`.
    pub(super) fn of(what: &'static str, bytes: &'a [u8]) -> Self {
        Self(Reader::of(what, bytes))
    }

    pub(super) fn error(&self, why: &str) -> ProcessorError {
        self.0.error(why)
    }

    pub(super) fn finish(&self) -> ProcessorResult<()> {
        self.0.finish()
    }

    pub(super) fn byte(&mut self) -> ProcessorResult<u8> {
        self.0.byte()
    }

    pub(super) fn varint(&mut self) -> ProcessorResult<u64> {
        self.0.varint()
    }

    /// A varint of 32 bits.
    pub(super) fn small(&mut self) -> ProcessorResult<u32> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.error("a number beyond 32 bits"))
    }

    pub(super) fn flag(&mut self) -> ProcessorResult<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(&format!("{other} where 0 or 1 would be right"))),
        }
    }

    /// Eight bytes, big-endian.
    pub(super) fn eight(&mut self) -> ProcessorResult<u64> {
        self.0.array().map(u64::from_be_bytes)
    }

    pub(super) fn time(&mut self) -> ProcessorResult<EventTime> {
        self.eight().map(EventTime::from_ordered)
    }

    /// The bounds of a window that has room for an event.
    pub(super) fn window(&mut self) -> ProcessorResult<TimeWindow> {
        let window = TimeWindow { start: self.time()?, end: self.time()? };
        if window.start >= window.end {
            return Err(self.error("a window that ends before it begins"));
        }
        Ok(window)
    }

    pub(super) fn id(&mut self) -> ProcessorResult<AccumulatorId> {
        let index = self.0.array().map(u32::from_be_bytes)?;
        Ok(AccumulatorId::from_index(index as usize))
    }

    pub(super) fn number(&mut self) -> ProcessorResult<f64> {
        let number = self.0.array().map(f64::from_le_bytes)?;
        if number.is_finite() { Ok(number) } else { Err(self.error("a number that is not finite")) }
    }

    pub(super) fn prefixed(&mut self) -> ProcessorResult<&'a [u8]> {
        self.0.prefixed()
    }

    pub(super) fn text(&mut self) -> ProcessorResult<&'a str> {
        let bytes = self.prefixed()?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a text that is not UTF-8"))
    }

    pub(super) fn key(&mut self) -> ProcessorResult<GroupingKey> {
        self.text().map(GroupingKey::from_canonical_json)
    }

    /// All that is left.
    pub(super) fn rest_as_key(&mut self) -> ProcessorResult<GroupingKey> {
        let bytes = self.0.rest();
        let text = std::str::from_utf8(bytes).map_err(|_| self.error("a text that is not UTF-8"))?;
        Ok(GroupingKey::from_canonical_json(text))
    }

    /// A list, in which each item takes a byte at least.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> ProcessorResult<T>) -> ProcessorResult<Vec<T>> {
        let count = self.varint()?;
        let left = self.0.left();
        if count > left as u64 {
            return Err(self.error(&format!("{count} items in {left} bytes")));
        }
        let mut items = Vec::with_capacity((count as usize).min(64));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A list of no or one item.
    pub(super) fn option<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> ProcessorResult<T>,
    ) -> ProcessorResult<Option<T>> {
        if self.flag()? { item(self).map(Some) } else { Ok(None) }
    }

    /// A result, without the name of its window definition.
    pub(super) fn result(&mut self) -> ProcessorResult<ResultRow> {
        let window = self.window()?;
        let revision = self.small()?;
        let op = if self.flag()? { ResultOp::Retract } else { ResultOp::Upsert };
        let firing = match self.byte()? {
            0 => Firing::Early,
            1 => Firing::OnTime,
            2 => Firing::Late,
            other => return Err(self.error(&format!("a firing of kind {other}"))),
        };
        let fired_at = self.time()?;
        let complete = self.option(Self::number)?;
        let figures = self.list(|parts| Ok((Arc::from(parts.text()?), parts.figure()?)))?;
        let (names, values): (Vec<Arc<str>>, Vec<ResultValue>) = figures.into_iter().unzip();
        Ok(ResultRow {
            window,
            window_name: None,
            key: GroupingKey::everything(),
            names: names.into(),
            values,
            revision,
            op,
            firing,
            fired_at,
            complete,
            accumulators: None,
            view: None,
        })
    }

    fn figure(&mut self) -> ProcessorResult<ResultValue> {
        Ok(match self.byte()? {
            0 => ResultValue::Null,
            1 => ResultValue::Count(self.varint()?),
            2 => ResultValue::Number(self.number()?),
            3 => {
                let text = self.text()?;
                let json = serde_json::from_str(text);
                ResultValue::Json(json.map_err(|error| self.error(&format!("no JSON: {error}")))?)
            }
            other => return Err(self.error(&format!("a figure of kind {other}"))),
        })
    }
}
