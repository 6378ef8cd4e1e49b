//! The accumulators of one value field, in columns.

mod coding;
mod difference;

use super::custom::CustomColumn;
use super::plan::AggregatePlan;
use super::quantiles::Quantiles;
use super::squares::{ExactSquares, sample_stddev};
use super::sum::ExactSum;
use crate::config::AggregateKind;
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::ResultValue;
use std::ops::Range;
use std::sync::Arc;

pub use difference::{Bounds, Difference};

/// An accumulator's place in its store. After [`AccumulatorStore::remove`] another may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccumulatorId(u32);

impl AccumulatorId {
    /// The place as an index: ids are dense, so a caller can keep columns of its own beside the store's.
    #[inline(always)]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The inverse of [`AccumulatorId::index`], for callers that give out places by themselves with
    /// [`AccumulatorStore::grow_to`]. Panics beyond 2^32.
    pub fn from_index(index: usize) -> Self {
        AccumulatorId(u32::try_from(index).expect("2^32 accumulators do not fit in memory"))
    }
}

/// The accumulators of one value field: a column for each thing that the plan needs, an accumulator's index the same in all.
///
/// An id is valid from [`AccumulatorStore::create`] or [`AccumulatorStore::decode`] to [`AccumulatorStore::remove`], in the store
/// that gave it. Other use of an id is a bug of the caller: it may panic, or meet another accumulator.
pub struct AccumulatorStore {
    plan: Arc<AggregatePlan>,
    counts: Vec<u64>,
    sums: Vec<ExactSum>,
    squares: Vec<ExactSquares>,
    minima: Vec<f64>,
    maxima: Vec<f64>,
    quantiles: Vec<Quantiles>,
    customs: Vec<Box<dyn CustomColumn>>,
    free: Vec<AccumulatorId>,
    /// The present rows of a column with absent values.
    present: (Vec<AccumulatorId>, Vec<f64>),
}

impl AccumulatorStore {
    /// An empty store.
    pub fn new(plan: Arc<AggregatePlan>) -> Self {
        let customs = plan.customs().iter().map(|aggregate| aggregate.column()).collect();
        Self {
            plan,
            counts: Vec::new(),
            sums: Vec::new(),
            squares: Vec::new(),
            minima: Vec::new(),
            maxima: Vec::new(),
            quantiles: Vec::new(),
            customs,
            free: Vec::new(),
            present: Default::default(),
        }
    }

    /// What it computes.
    pub fn plan(&self) -> &Arc<AggregatePlan> {
        &self.plan
    }

    /// How many accumulators there are.
    pub fn len(&self) -> usize {
        self.counts.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An accumulator without values. Panics beyond 2^32 accumulators.
    pub fn create(&mut self) -> AccumulatorId {
        let id = match self.free.pop() {
            Some(id) => {
                self.counts[id.index()] = 0;
                id
            }
            None => self.append(),
        };
        for column in &mut self.customs {
            column.create(id);
        }
        id
    }

    fn append(&mut self) -> AccumulatorId {
        let id = AccumulatorId(u32::try_from(self.counts.len()).expect("2^32 accumulators do not fit in memory"));
        let needs = self.plan.components();
        append(&mut self.counts, true, 0);
        append(&mut self.sums, needs.sum, ExactSum::default());
        append(&mut self.squares, needs.squares, ExactSquares::default());
        append(&mut self.minima, needs.min, f64::INFINITY);
        append(&mut self.maxima, needs.max, f64::NEG_INFINITY);
        append(&mut self.quantiles, needs.quantiles, Quantiles::default());
        id
    }

    /// Makes room for the accumulators of the ids below `len`, for a caller that gives out ids by itself, the same ones in
    /// several stores. Such a caller uses neither [`AccumulatorStore::create`] nor [`AccumulatorStore::remove`].
    #[inline]
    pub fn grow_to(&mut self, len: usize) {
        debug_assert!(self.free.is_empty(), "either the store gives out ids, or its caller");
        while self.counts.len() < len {
            let id = self.append();
            for column in &mut self.customs {
                column.create(id);
            }
        }
    }

    /// Empties an accumulator, whose id stays in use.
    pub fn clear(&mut self, id: AccumulatorId) {
        self.reset(id);
        for column in &mut self.customs {
            column.create(id);
        }
    }

    /// Drops an accumulator. Its id may be given out again.
    pub fn remove(&mut self, id: AccumulatorId) {
        self.reset(id);
        append(&mut self.free, true, id);
    }

    fn reset(&mut self, id: AccumulatorId) {
        let index = id.index();
        self.counts[index] = 0;
        reset(&mut self.sums, index, ExactSum::default());
        reset(&mut self.squares, index, ExactSquares::default());
        reset(&mut self.minima, index, f64::INFINITY);
        reset(&mut self.maxima, index, f64::NEG_INFINITY);
        reset(&mut self.quantiles, index, Quantiles::default());
        for column in &mut self.customs {
            column.remove(id);
        }
    }

    /// Adds row by row: `values[i]` to `ids[i]`. NaN stands for an absent value and is passed over, as are infinities, which the
    /// sources refuse. Panics where the lengths differ.
    pub fn add_column(&mut self, ids: &[AccumulatorId], values: &[f64]) {
        // Without a branch, so that it is done four values at a time.
        if values.iter().fold(true, |finite, value| finite & value.is_finite()) {
            return self.add_dense(ids, values);
        }
        assert_eq!(ids.len(), values.len(), "a value for each id");
        let (mut present_ids, mut present_values) = std::mem::take(&mut self.present);
        for (id, value) in ids.iter().zip(values).filter(|(_, value)| value.is_finite()) {
            present_ids.push(*id);
            present_values.push(*value);
        }
        self.add_dense(&present_ids, &present_values);
        present_ids.clear();
        present_values.clear();
        self.present = (present_ids, present_values);
    }

    /// [`AccumulatorStore::add_column`] for values that are all finite, which is the caller's promise: another makes the
    /// accumulator's results meaningless (and panics in debug builds).
    pub fn add_dense(&mut self, ids: &[AccumulatorId], values: &[f64]) {
        assert_eq!(ids.len(), values.len(), "a value for each id");
        debug_assert!(values.iter().all(|value| value.is_finite()), "a value that is not finite");
        let needs = self.plan.components();
        for id in ids {
            self.counts[id.index()] += 1;
        }
        if needs.sum {
            for (id, value) in ids.iter().zip(values) {
                self.sums[id.index()].add(*value);
            }
        }
        if needs.squares {
            for (id, value) in ids.iter().zip(values) {
                self.squares[id.index()].add(*value);
            }
        }
        if needs.min {
            for (id, value) in ids.iter().zip(values) {
                let least = &mut self.minima[id.index()];
                *least = if *value < *least { *value } else { *least };
            }
        }
        if needs.max {
            for (id, value) in ids.iter().zip(values) {
                let greatest = &mut self.maxima[id.index()];
                *greatest = if *value > *greatest { *value } else { *greatest };
            }
        }
        if needs.quantiles {
            let mapping = self.plan.mapping();
            for (id, value) in ids.iter().zip(values) {
                self.quantiles[id.index()].add(mapping, *value);
            }
        }
        for column in &mut self.customs {
            column.add(ids, values);
        }
    }

    /// Adds one value, as [`AccumulatorStore::add_column`] does.
    pub fn add(&mut self, id: AccumulatorId, value: f64) {
        self.add_column(&[id], &[value]);
    }

    /// How many values an accumulator has, whatever the plan.
    pub fn count(&self, id: AccumulatorId) -> u64 {
        self.counts[id.index()]
    }

    /// Adds the values of `from` to `into`; `from` stays as it is. Nothing happens where they are the same.
    pub fn merge(&mut self, into: AccumulatorId, from: AccumulatorId) {
        if into == from {
            return;
        }
        let (target, source) = (into.index(), from.index());
        self.counts[target] = self.counts[target].saturating_add(self.counts[source]);
        let mapping = self.plan.mapping();
        merge_within(&mut self.sums, target, source, |mine, theirs| mine.merge(theirs));
        merge_within(&mut self.squares, target, source, |mine, theirs| mine.merge(theirs));
        merge_within(&mut self.minima, target, source, |mine, theirs| *mine = mine.min(*theirs));
        merge_within(&mut self.maxima, target, source, |mine, theirs| *mine = mine.max(*theirs));
        merge_within(&mut self.quantiles, target, source, |mine, theirs| mine.merge(mapping, theirs));
        for column in &mut self.customs {
            column.merge(into, from);
        }
    }

    /// Gives `into` the values of two others, instead of those that it has. The three are different.
    pub fn set_to_sum(&mut self, into: AccumulatorId, one: AccumulatorId, other: AccumulatorId) {
        debug_assert!(into != one && into != other && one != other, "three accumulators");
        // Merging takes the longer the more values come.
        let one_has_more = self.counts[one.index()] >= self.counts[other.index()];
        let (more, fewer) = if one_has_more { (one, other) } else { (other, one) };
        self.assign(into, more);
        self.merge(into, fewer);
    }

    /// Gives `into` the values of `from`, instead of those that it has.
    fn assign(&mut self, into: AccumulatorId, from: AccumulatorId) {
        let (target, source) = (into.index(), from.index());
        self.counts[target] = self.counts[source];
        merge_within(&mut self.sums, target, source, |mine, theirs| mine.clone_from(theirs));
        merge_within(&mut self.squares, target, source, |mine, theirs| mine.clone_from(theirs));
        merge_within(&mut self.minima, target, source, |mine, theirs| *mine = *theirs);
        merge_within(&mut self.maxima, target, source, |mine, theirs| *mine = *theirs);
        merge_within(&mut self.quantiles, target, source, |mine, theirs| mine.assign(theirs));
        for column in &mut self.customs {
            column.create(into);
            column.merge(into, from);
        }
    }

    /// Adds the values of an accumulator of another store. The stores must share their plan, or have plans that keep the same things
    /// and no custom aggregates; others are an error.
    pub fn merge_from(
        &mut self,
        into: AccumulatorId,
        other: &AccumulatorStore,
        from: AccumulatorId,
    ) -> ProcessorResult<()> {
        if !self.keeps_the_same_as(other) {
            return Err(ProcessorError::State(format!(
                "accumulators of different aggregates cannot be merged: {:?} and {:?}",
                self.plan.config(),
                other.plan.config()
            )));
        }
        let (target, source) = (into.index(), from.index());
        self.counts[target] = self.counts[target].saturating_add(other.counts[source]);
        let needs = self.plan.components();
        if needs.sum {
            self.sums[target].merge(&other.sums[source]);
        }
        if needs.squares {
            self.squares[target].merge(&other.squares[source]);
        }
        if needs.min {
            self.minima[target] = self.minima[target].min(other.minima[source]);
        }
        if needs.max {
            self.maxima[target] = self.maxima[target].max(other.maxima[source]);
        }
        if needs.quantiles {
            self.quantiles[target].merge(self.plan.mapping(), &other.quantiles[source]);
        }
        for (mine, theirs) in self.customs.iter_mut().zip(&other.customs) {
            mine.merge_from(into, theirs.as_ref(), from);
        }
        Ok(())
    }

    fn keeps_the_same_as(&self, other: &AccumulatorStore) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
            || (self.plan.components() == other.plan.components()
                && self.plan.mapping().bins_per_octave() == other.plan.mapping().bins_per_octave()
                && self.customs.is_empty()
                && other.customs.is_empty())
    }

    /// Appends the results, one for each of [`AggregatePlan::names`].
    ///
    /// Without values the count and the sum are 0 and the rest is null; so is the standard deviation of one value, and what is beyond the
    /// range of `f64`. Sum, average, least and greatest value are exact (the nearest `f64`).
    pub fn result(&self, id: AccumulatorId, out: &mut Vec<ResultValue>) {
        let index = id.index();
        let count = self.counts[index];
        for kind in &self.plan.config().enabled {
            out.push(match kind {
                AggregateKind::Count => ResultValue::Count(count),
                AggregateKind::Sum => number(self.sums[index].value()),
                AggregateKind::Average => number(self.sums[index].mean(count)),
                AggregateKind::Min => number(self.least(index)),
                AggregateKind::Max => number(self.greatest(index)),
                AggregateKind::Stddev => number(sample_stddev(count, &self.sums[index], &self.squares[index])),
                AggregateKind::Percentile => {
                    self.percentiles(index, out);
                    continue;
                }
            });
        }
        out.extend(self.customs.iter().map(|column| ResultValue::Json(column.result(id))));
    }

    fn percentiles(&self, index: usize, out: &mut Vec<ResultValue>) {
        let percentiles = self.plan.percentiles();
        match self.least(index).zip(self.greatest(index)) {
            Some((least, greatest)) => {
                let about = (self.counts[index], least, greatest);
                let found = |value| out.push(ResultValue::Number(value));
                self.quantiles[index].values(self.plan.mapping(), percentiles, about, found);
            }
            None => out.extend(percentiles.iter().map(|_| ResultValue::Null)),
        }
    }

    /// The least value, where there are values and it is kept. Adding 0 makes -0 and 0 one, so that it does not matter which came first.
    fn least(&self, index: usize) -> Option<f64> {
        self.minima.get(index).filter(|_| self.counts[index] > 0).map(|least| least + 0.0)
    }

    /// The greatest value, likewise.
    fn greatest(&self, index: usize) -> Option<f64> {
        self.maxima.get(index).filter(|_| self.counts[index] > 0).map(|greatest| greatest + 0.0)
    }

    /// Asks memory for what an accumulator has beside its places in the columns, because it is encoded soon.
    pub(crate) fn prefetch(&self, id: AccumulatorId) {
        if let Some(quantiles) = self.quantiles.get(id.index()) {
            quantiles.prefetch();
        }
    }

    /// Bytes on the heap that an accumulator owns beside its places in the columns; custom states count as nothing.
    pub fn owned_bytes(&self, id: AccumulatorId) -> usize {
        let index = id.index();
        self.sums.get(index).map_or(0, ExactSum::heap_bytes)
            + self.squares.get(index).map_or(0, ExactSquares::heap_bytes)
            + self.quantiles.get(index).map_or(0, Quantiles::heap_bytes)
    }

    /// Bytes on the heap: the columns with their reserves, and what accumulators own beyond them. Custom states count without what
    /// they own elsewhere. It visits every accumulator.
    pub fn heap_bytes(&self) -> usize {
        self.column_bytes() + self.owned_bytes_within(0..self.places())
    }

    /// The part of [`AccumulatorStore::heap_bytes`] that is known without visiting accumulators.
    pub fn column_bytes(&self) -> usize {
        bytes_of(&self.counts)
            + bytes_of(&self.sums)
            + bytes_of(&self.squares)
            + bytes_of(&self.minima)
            + bytes_of(&self.maxima)
            + bytes_of(&self.quantiles)
            + bytes_of(&self.free)
            + bytes_of(&self.present.0)
            + bytes_of(&self.present.1)
            + self.customs.iter().map(|column| column.heap_bytes()).sum::<usize>()
    }

    /// The part of [`AccumulatorStore::heap_bytes`] that accumulators at some places own, of all [`AccumulatorStore::places`].
    pub fn owned_bytes_within(&self, places: Range<usize>) -> usize {
        within(&self.sums, &places).iter().map(ExactSum::heap_bytes).sum::<usize>()
            + within(&self.squares, &places).iter().map(ExactSquares::heap_bytes).sum::<usize>()
            + within(&self.quantiles, &places).iter().map(Quantiles::heap_bytes).sum::<usize>()
    }

    /// How many accumulators there is a place for in the columns.
    pub fn places(&self) -> usize {
        self.counts.len()
    }
}

/// Appends if the column is needed. It grows by a quarter, so that the reserve stays a small part of the whole.
#[inline]
fn append<T>(column: &mut Vec<T>, needed: bool, value: T) {
    if needed {
        if column.len() == column.capacity() {
            column.reserve_exact((column.len() / 4).max(64));
        }
        column.push(value);
    }
}

/// Replaces an item if the column is there.
fn reset<T>(column: &mut [T], index: usize, value: T) {
    if let Some(item) = column.get_mut(index) {
        *item = value;
    }
}

/// Brings an item of a column into another, if the column is there. The indices differ.
fn merge_within<T>(column: &mut [T], into: usize, from: usize, merge: impl FnOnce(&mut T, &T)) {
    if let Ok([target, source]) = column.get_disjoint_mut([into, from]) {
        merge(target, source);
    }
}

/// What of a column is at these places; nothing of one that the plan does not need.
fn within<'a, T>(column: &'a [T], places: &Range<usize>) -> &'a [T] {
    let end = places.end.min(column.len());
    &column[places.start.min(end)..end]
}

fn bytes_of<T>(column: &Vec<T>) -> usize {
    column.capacity() * size_of::<T>()
}

fn number(value: Option<f64>) -> ResultValue {
    value.map_or(ResultValue::Null, ResultValue::Number)
}
