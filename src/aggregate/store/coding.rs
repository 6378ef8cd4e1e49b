//! Encoded accumulators: docs/checkpoint-format.md has their grammar.

use super::super::codec::{Reader, put_varint};
use super::super::quantiles::Quantiles;
use super::super::squares::ExactSquares;
use super::super::sum::ExactSum;
use super::{AccumulatorId, AccumulatorStore};
use crate::error::ProcessorResult;

/// The first byte of encoded accumulators.
const FORMAT: u8 = 1;
/// More values than any accumulator can have seen; a greater count in an encoding is damage.
const MOST_VALUES: u64 = 1 << 56;

impl AccumulatorStore {
    /// Appends the encoding: the same bytes for the same multiset of values, whatever the way they came.
    ///
    /// Fails only where a custom aggregate's state cannot be written.
    pub fn encode(&self, id: AccumulatorId, out: &mut Vec<u8>) -> ProcessorResult<()> {
        let index = id.index();
        let needs = self.plan.components();
        out.push(FORMAT);
        out.push(needs.to_bits());
        put_varint(out, self.counts[index]);
        if needs.sum {
            self.sums[index].encode(out);
        }
        if needs.squares {
            self.squares[index].encode(out);
        }
        for extreme in [self.least(index), self.greatest(index)].into_iter().flatten() {
            out.extend(extreme.to_le_bytes());
        }
        if needs.quantiles {
            self.quantiles[index].encode(self.plan.mapping(), out);
        }
        for column in &self.customs {
            let state = column.encode(id)?;
            put_varint(out, state.len() as u64);
            out.extend(state);
        }
        Ok(())
    }

    /// Makes an accumulator from what [`AccumulatorStore::encode`] wrote in a store of the same plan. Anything else is a
    /// [`ProcessorError::State`], and the store stays as it was.
    pub fn decode(&mut self, bytes: &[u8]) -> ProcessorResult<AccumulatorId> {
        let id = self.create();
        match self.decode_into(id, bytes) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.remove(id);
                Err(error)
            }
        }
    }

    /// Gives an accumulator that is there the values of an encoded one, instead of those that it has. After an error it has none.
    pub fn replace(&mut self, id: AccumulatorId, bytes: &[u8]) -> ProcessorResult<()> {
        self.clear(id);
        self.decode_into(id, bytes).inspect_err(|_| self.clear(id))
    }

    fn decode_into(&mut self, id: AccumulatorId, bytes: &[u8]) -> ProcessorResult<()> {
        let index = id.index();
        let needs = self.plan.components();
        let mut reader = Reader::new(bytes);
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(reader.error(&format!("format {format}, this program reads {FORMAT}")));
        }
        let kept = reader.byte()?;
        if kept != needs.to_bits() {
            let needed = needs.to_bits();
            return Err(reader.error(&format!(
                "it keeps {kept:#07b} where the configured aggregates keep {needed:#07b} \
                 (from the right: sum, squares, least, greatest, percentiles)"
            )));
        }
        let count = reader.varint()?;
        if count > MOST_VALUES {
            return Err(reader.error(&format!("a count of {count} values")));
        }
        self.counts[index] = count;
        if needs.sum {
            self.sums[index] = ExactSum::decode(&mut reader)?;
        }
        if needs.squares {
            self.squares[index] = ExactSquares::decode(&mut reader)?;
        }
        if needs.min && count > 0 {
            self.minima[index] = reader.number()?;
        }
        if needs.max && count > 0 {
            self.maxima[index] = reader.number()?;
        }
        if needs.min && needs.max && count > 0 && self.minima[index] > self.maxima[index] {
            return Err(reader.error("a least value above the greatest"));
        }
        if needs.quantiles {
            self.quantiles[index] = Quantiles::decode(self.plan.mapping(), count, &mut reader)?;
        }
        for column in &mut self.customs {
            column.decode(id, reader.prefixed()?)?;
        }
        reader.finish()
    }
}
