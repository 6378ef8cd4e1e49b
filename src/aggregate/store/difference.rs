//! Accumulators that can be taken out of one another.
//!
//! The model: what is counted and added (counts, exact sums, the counters of percentiles) makes a group, so a [`Difference`] of many
//! accumulators follows a change by one addition and one subtraction, however many they are. The least and the greatest value, and the
//! values themselves while there are few, do not: of those each accumulator has its [`Bounds`], which are combined. A group's
//! accumulator comes back from the two ([`AccumulatorStore::insert`]), and is the one that merging would have made: few values are added
//! again, and of many their counters are what the values' bins say, whoever counted them.
//!
//! | what | in the difference | in the bounds |
//! |---|---|---|
//! | count, sum, squares | yes | |
//! | least, greatest | | yes |
//! | percentiles | counters of all values | the values, while there are no more than are kept exactly |
//!
//! How it fails: a difference that is no accumulator's (a negative count) is an error when it is to become one. Custom aggregates
//! are in neither: see [`AggregatePlan::is_subtractable`].

use super::super::codec::Exact;
use super::super::nat::Nat;
use super::super::plan::{AggregatePlan, Components};
use super::super::quantiles::{EXACT_LIMIT, Quantiles};
use super::super::squares::ExactSquares;
use super::super::sum::ExactSum;
use super::{AccumulatorId, AccumulatorStore};
use crate::error::{ProcessorError, ProcessorResult};
use differential_dataflow::difference::{IsZero, Semigroup};
use num_bigint::{BigInt, Sign};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// `number * 2^position`, in the units of whatever it is a sum of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Scaled {
    number: BigInt,
    position: u32,
}

impl Scaled {
    fn of(exact: &Exact) -> Self {
        let digits = exact.number.limbs().iter().flat_map(|limb| [*limb as u32, (limb >> 32) as u32]).collect();
        let sign = if exact.negative { Sign::Minus } else { Sign::Plus };
        Self { number: BigInt::new(sign, digits), position: exact.position }
    }

    fn exact(&self) -> Exact {
        let (sign, limbs) = self.number.to_u64_digits();
        Exact { negative: sign == Sign::Minus, number: Nat::from_limbs(&limbs), position: self.position }
    }

    fn add(&mut self, other: &Scaled) {
        match self.position.cmp(&other.position) {
            Ordering::Equal => self.number += &other.number,
            Ordering::Less => self.number += &other.number << (other.position - self.position),
            Ordering::Greater => {
                self.number <<= self.position - other.position;
                self.number += &other.number;
                self.position = other.position;
            }
        }
    }
}

/// Counters of bins, ascending, none of them 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Counters(Vec<(u32, i64)>);

/// Where one side has so many times the counters of the other, these are looked up instead of going through both.
const FEW: usize = 8;

impl Counters {
    /// Of these bins, in any order.
    fn of(mut bins: Vec<(u32, i64)>) -> Self {
        bins.sort_unstable();
        bins.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 += next.1;
            }
            is_same
        });
        Self(bins)
    }

    /// `None` where one is less than nothing.
    fn counts(&self) -> Option<Vec<(u32, u64)>> {
        self.0.iter().map(|(bin, count)| Some((*bin, u64::try_from(*count).ok()?))).collect()
    }

    fn add(&mut self, other: &Counters) {
        if other.0.len() * FEW > self.0.len() {
            self.0 = merged(&self.0, &other.0);
            return;
        }
        for (bin, count) in &other.0 {
            match self.0.binary_search_by_key(bin, |(own, _)| *own) {
                Ok(place) if self.0[place].1 + count == 0 => drop(self.0.remove(place)),
                Ok(place) => self.0[place].1 += count,
                Err(place) => self.0.insert(place, (*bin, *count)),
            }
        }
    }
}

/// Those of both.
fn merged(one: &[(u32, i64)], other: &[(u32, i64)]) -> Vec<(u32, i64)> {
    let mut all = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    while let (Some((bin, count)), Some((theirs, more))) = (one.peek(), other.peek()) {
        match bin.cmp(theirs) {
            Ordering::Less => all.extend(one.next()),
            Ordering::Greater => all.extend(other.next()),
            Ordering::Equal => {
                all.extend((count + more != 0).then_some((*bin, count + more)));
                (_, _) = (one.next(), other.next());
            }
        }
    }
    all.extend(one);
    all.extend(other);
    all
}

/// What a number of accumulators of one value field have in them together, less what others have.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// How many accumulators, with and without values.
    accumulators: i64,
    count: i64,
    sum: Scaled,
    squares: Scaled,
    zeros: i64,
    positive: Counters,
    negative: Counters,
}

impl IsZero for Difference {
    fn is_zero(&self) -> bool {
        let counts = [self.accumulators, self.count, self.zeros];
        let are_empty = self.positive.0.is_empty() && self.negative.0.is_empty();
        let are_zero = self.sum.number.sign() == Sign::NoSign && self.squares.number.sign() == Sign::NoSign;
        counts == [0; 3] && are_empty && are_zero
    }
}

impl Semigroup for Difference {
    fn plus_equals(&mut self, other: &Self) {
        self.accumulators += other.accumulators;
        self.count += other.count;
        self.sum.add(&other.sum);
        self.squares.add(&other.squares);
        self.zeros += other.zeros;
        self.positive.add(&other.positive);
        self.negative.add(&other.negative);
    }
}

impl Difference {
    /// The other way round.
    pub fn negate(&mut self) {
        for count in [&mut self.accumulators, &mut self.count, &mut self.zeros] {
            *count = -*count;
        }
        for sum in [&mut self.sum, &mut self.squares] {
            sum.number = -std::mem::take(&mut sum.number);
        }
        for (_, count) in self.positive.0.iter_mut().chain(&mut self.negative.0) {
            *count = -*count;
        }
    }
}

/// A finite number as an integer of the order of [`f64::total_cmp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Number(i64);

impl Number {
    fn of(number: f64) -> Self {
        Self(flipped(number.to_bits() as i64))
    }

    fn value(self) -> f64 {
        f64::from_bits(flipped(self.0) as u64)
    }
}

/// Of negative numbers the greater ones have the lesser bits. Its own inverse: the sign stays.
fn flipped(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// What cannot be taken out of an accumulator of one value field again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bounds {
    /// The least value and the greatest, where the plan keeps them and there is one.
    least: Option<Number>,
    greatest: Option<Number>,
    /// The values, ascending; `None` where there are more than are kept exactly, or the plan keeps none.
    few: Option<Vec<Number>>,
}

impl Bounds {
    /// Makes it those of its own and other values.
    pub fn combine(&mut self, other: &Bounds) {
        self.least = self.least.into_iter().chain(other.least).min();
        self.greatest = self.greatest.into_iter().chain(other.greatest).max();
        self.few = match (self.few.take(), &other.few) {
            (Some(mut mine), Some(theirs)) if mine.len() + theirs.len() <= EXACT_LIMIT => {
                mine.extend(theirs);
                mine.sort_unstable();
                Some(mine)
            }
            _ => None,
        };
    }
}

impl AggregatePlan {
    /// Whether accumulators are the sum of their [`Difference`] and their [`Bounds`]: custom aggregates can only be merged.
    pub fn is_subtractable(&self) -> bool {
        self.customs().is_empty()
    }

    /// Whether [`Bounds`] say anything.
    pub fn has_bounds(&self) -> bool {
        let Components { min, max, quantiles, .. } = self.components();
        min || max || quantiles
    }
}

impl AccumulatorStore {
    /// What is in an accumulator that can be taken out again.
    pub fn difference(&self, id: AccumulatorId) -> Difference {
        let index = id.index();
        let mut difference = Difference { accumulators: 1, count: self.count(id) as i64, ..Difference::default() };
        if let Some(sum) = self.sums.get(index) {
            difference.sum = Scaled::of(&sum.to_exact());
        }
        if let Some(squares) = self.squares.get(index) {
            difference.squares = Scaled::of(&squares.to_exact());
        }
        if let Some(quantiles) = self.quantiles.get(index) {
            let [mut positive, mut negative] = [Vec::new(), Vec::new()];
            difference.zeros = quantiles.counters(self.plan().mapping(), |is_positive, bin, count| {
                let bins = if is_positive { &mut positive } else { &mut negative };
                bins.push((bin, count as i64));
            }) as i64;
            (difference.positive, difference.negative) = (Counters::of(positive), Counters::of(negative));
        }
        difference
    }

    /// What is in it that cannot.
    pub fn bounds(&self, id: AccumulatorId) -> Bounds {
        let (least, greatest) = (self.least(id.index()), self.greatest(id.index()));
        let few = self.quantiles.get(id.index()).and_then(Quantiles::exact).map(|values| {
            let mut values: Vec<Number> = values.iter().map(|value| Number::of(value + 0.0)).collect();
            values.sort_unstable();
            values
        });
        Bounds { least: least.map(Number::of), greatest: greatest.map(Number::of), few }
    }

    /// A new accumulator that is the sum of both. Bounds are not asked for where they say nothing ([`AggregatePlan::has_bounds`]).
    pub fn insert(&mut self, difference: &Difference, bounds: Option<&Bounds>) -> ProcessorResult<AccumulatorId> {
        let id = self.create();
        if let Some(values) = bounds.and_then(|bounds| bounds.few.as_ref()) {
            values.iter().for_each(|value| self.add(id, value.value()));
            if self.count(id) as i64 == difference.count {
                return Ok(id);
            }
        } else if self.put(id, difference, bounds).is_some() {
            return Ok(id);
        }
        self.remove(id);
        Err(ProcessorError::State(format!(
            "accumulators of {} values were added up and do not make one: this is a fault of the program",
            difference.count
        )))
    }

    /// `None`, and an accumulator of no use, where it makes none.
    fn put(&mut self, id: AccumulatorId, difference: &Difference, bounds: Option<&Bounds>) -> Option<()> {
        let (needs, index) = (self.plan.components(), id.index());
        let count = u64::try_from(difference.count).ok()?;
        self.counts[index] = count;
        if needs.sum {
            self.sums[index] = ExactSum::from_exact(&difference.sum.exact());
        }
        if needs.squares {
            let exact = difference.squares.exact();
            self.squares[index] = (!exact.negative).then(|| ExactSquares::from_exact(&exact))?;
        }
        if needs.min && count > 0 {
            self.minima[index] = bounds?.least?.value();
        }
        if needs.max && count > 0 {
            self.maxima[index] = bounds?.greatest?.value();
        }
        if needs.quantiles {
            let zeros = u64::try_from(difference.zeros).ok()?;
            let [positive, negative] = [&difference.positive, &difference.negative].map(Counters::counts);
            self.quantiles[index] = Quantiles::of_counters(count, zeros, &positive?, &negative?)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AggregateKind, AggregationConfig};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn accumulator(store: &mut AccumulatorStore, values: &[f64]) -> AccumulatorId {
        let id = store.create();
        values.iter().for_each(|value| store.add(id, *value));
        id
    }

    fn encoded(store: &AccumulatorStore, id: AccumulatorId) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.encode(id, &mut bytes).unwrap();
        bytes
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            8 => 0.1..1e6f64,
            2 => -1e3..1e3f64,
            1 => prop::sample::select(vec![0.0, -0.0, 1e300, -1e300, 5e-324, 1e-310, f64::MAX]),
            1 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
        ];
        prop::collection::vec(value, 0..60)
    }

    fn plans() -> impl Strategy<Value = Arc<AggregatePlan>> {
        prop::sample::subsequence(AggregateKind::ALL.to_vec(), 1..=AggregateKind::ALL.len()).prop_map(|enabled| {
            let percentiles = match enabled.contains(&AggregateKind::Percentile) {
                true => vec![50.0, 99.0],
                false => Vec::new(),
            };
            Arc::new(AggregatePlan::new(&AggregationConfig { enabled, percentiles, relative_error: 0.01 }).unwrap())
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_merging_the_rest_would_have_made(
            plan in plans(),
            parts in prop::collection::vec((values(), any::<bool>(), any::<prop::sample::Index>()), 1..12),
        ) {
            let mut store = AccumulatorStore::new(plan);
            let (mut sum, mut kept, mut bounds) = (Difference::default(), Vec::new(), None::<Bounds>);
            // Some go before they come: differences may be added up in any order.
            let mut steps = Vec::new();
            for (part, is_kept, when) in &parts {
                let id = accumulator(&mut store, part);
                let difference = store.difference(id);
                let mut gone = difference.clone();
                gone.negate();
                steps.insert(when.index(steps.len() + 1), difference);
                if *is_kept {
                    kept.extend(part);
                    match &mut bounds {
                        Some(bounds) => bounds.combine(&store.bounds(id)),
                        None => bounds = Some(store.bounds(id)),
                    }
                } else {
                    steps.insert(when.index(steps.len() + 1), gone);
                }
            }
            steps.iter().for_each(|step| sum.plus_equals(step));
            let Some(bounds) = bounds else {
                prop_assert!(sum.is_zero());
                return Ok(());
            };
            prop_assert!(!sum.is_zero());
            let expected = accumulator(&mut store, &kept);
            let found = store.insert(&sum, Some(&bounds)).unwrap();
            prop_assert_eq!(encoded(&store, found), encoded(&store, expected));
            let [mut shown, mut wanted] = [Vec::new(), Vec::new()];
            store.result(found, &mut shown);
            store.result(expected, &mut wanted);
            prop_assert_eq!(shown, wanted);
        }
    }

    #[test]
    fn what_makes_no_accumulator_is_refused() {
        let mut store = AccumulatorStore::new(AggregatePlan::everything());
        let many = accumulator(&mut store, &[1.0; 100]);
        let bounds = store.bounds(many);
        let mut difference = store.difference(many);
        assert!(store.insert(&difference, None).is_err(), "the least value is nowhere");
        difference.negate();
        assert!(store.insert(&difference, Some(&bounds)).is_err());
        let few = accumulator(&mut store, &[1.0; 3]);
        assert!(store.insert(&store.difference(many), Some(&store.bounds(few))).is_err());
        assert_eq!(store.len(), 2);
    }
}
