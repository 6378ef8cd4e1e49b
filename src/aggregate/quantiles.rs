//! Percentiles.
//!
//! The model: up to [`EXACT_LIMIT`] values are kept as they are and percentiles are exact. With more they are counted in bins of bounded
//! relative width ([`super::mapping`]), and a percentile is the representative of the bin that holds it. Which of the two is in use, and
//! every counter, follow from the multiset of values alone, so order, batches and merges leave no trace.
//!
//! The p-th percentile of n values is the one of rank `ceil(p / 100 * n)` in ascending order (nearest rank), that of rank 1 for p = 0. The
//! rank is the same in both forms, so the estimate is within the relative error of the exact answer; it never leaves the range from
//! the least to the greatest value, and at ranks 1 and n it is exact.
//!
//! How it fails: subnormal numbers (below 2.3e-308) are further within one least subnormal of the relative error, not better.

use super::bins::{Bins, Search};
use super::codec::{Reader, put_varint};
use super::mapping::Mapping;
use crate::error::ProcessorResult;
use crate::prefetch::prefetch;

/// How many values are kept exactly: a sketch of more is no larger than they are.
pub(super) const EXACT_LIMIT: usize = 32;

/// The values of one accumulator, as far as percentiles need them.
#[derive(Clone, Debug)]
pub(super) enum Quantiles {
    /// The first `len` of `values`, in any order.
    Exact { len: u32, values: Box<[f64]> },
    /// Positive values only.
    Positive(Bins),
    /// Any values.
    Signed(Box<Signed>),
}

/// Counters of values of both signs.
#[derive(Clone, Debug, Default)]
pub(super) struct Signed {
    zeros: u64,
    positive: Bins,
    negative: Bins,
}

impl Default for Quantiles {
    fn default() -> Self {
        Quantiles::Exact { len: 0, values: Box::default() }
    }
}

impl Quantiles {
    /// Adds a finite value.
    #[inline(always)]
    pub(super) fn add(&mut self, mapping: &Mapping, value: f64) {
        if value >= f64::MIN_POSITIVE
            && let Quantiles::Positive(bins) = self
            && bins.try_increment(mapping.index(value))
        {
            return;
        }
        self.add_otherwise(mapping, value);
    }

    #[inline(never)]
    fn add_otherwise(&mut self, mapping: &Mapping, value: f64) {
        match self {
            Quantiles::Exact { len, values } => match values.get_mut(*len as usize) {
                Some(place) => {
                    *place = value;
                    *len += 1;
                }
                None => self.grow_exact(mapping, value),
            },
            Quantiles::Positive(bins) => {
                if value > 0.0 {
                    bins.add(mapping.index_of_any(value), 1);
                } else {
                    self.signed().add(mapping, value);
                }
            }
            Quantiles::Signed(signed) => signed.add(mapping, value),
        }
    }

    /// Adds a value for which there is no place among the exact ones.
    #[cold]
    #[inline(never)]
    fn grow_exact(&mut self, mapping: &Mapping, value: f64) {
        let Quantiles::Exact { len, values } = self else { return };
        let held = *len as usize;
        if held < EXACT_LIMIT {
            let capacity = (held * 2).clamp(4, EXACT_LIMIT);
            let mut grown = vec![0.0; capacity].into_boxed_slice();
            grown[..held].copy_from_slice(values);
            grown[held] = value;
            *self = Quantiles::Exact { len: *len + 1, values: grown };
            return;
        }
        let values = std::mem::take(values);
        let mut bins = Bins::default();
        let positive = || values.iter().chain([&value]).filter(|value| **value > 0.0);
        let indices = || positive().map(|value| mapping.index_of_any(*value));
        if let Some((least, most)) = indices().min().zip(indices().max()) {
            bins.cover(least, most);
        }
        *self = Quantiles::Positive(bins);
        for value in values.iter().chain([&value]) {
            self.add(mapping, *value);
        }
    }

    /// Makes it fit for values of both signs.
    fn signed(&mut self) -> &mut Signed {
        if let Quantiles::Positive(bins) = self {
            let positive = std::mem::take(bins);
            *self = Quantiles::Signed(Box::new(Signed { positive, ..Signed::default() }));
        }
        match self {
            Quantiles::Signed(signed) => signed,
            _ => unreachable!("called on sketches only"),
        }
    }

    /// Adds all values of another.
    pub(super) fn merge(&mut self, mapping: &Mapping, other: &Quantiles) {
        let other = match other {
            Quantiles::Exact { len, values } => {
                values[..*len as usize].iter().for_each(|value| self.add(mapping, *value));
                return;
            }
            sketch => sketch,
        };
        match (&mut *self, other) {
            (Quantiles::Exact { len, values }, _) => {
                let values = std::mem::take(values).into_vec().into_iter().take(*len as usize);
                *self = other.clone();
                values.for_each(|value| self.add(mapping, value));
            }
            (Quantiles::Positive(mine), Quantiles::Positive(theirs)) => mine.merge(theirs),
            (_, Quantiles::Positive(theirs)) => self.signed().positive.merge(theirs),
            (_, Quantiles::Signed(theirs)) => {
                let mine = self.signed();
                mine.zeros = mine.zeros.saturating_add(theirs.zeros);
                mine.positive.merge(&theirs.positive);
                mine.negative.merge(&theirs.negative);
            }
            (_, Quantiles::Exact { .. }) => unreachable!("handled first"),
        }
    }

    /// Becomes what another is, in the memory that is there if possible.
    pub(super) fn assign(&mut self, other: &Quantiles) {
        match (&mut *self, other) {
            (Quantiles::Exact { len, values }, Quantiles::Exact { len: count, values: theirs })
                if values.len() >= *count as usize =>
            {
                values[..*count as usize].copy_from_slice(&theirs[..*count as usize]);
                *len = *count;
            }
            (Quantiles::Positive(mine), Quantiles::Positive(theirs)) => mine.assign(theirs),
            _ => self.clone_from(other),
        }
    }

    /// For each of `percentiles`, ascending, of `count` values between `least` and `greatest`: the value.
    pub(super) fn values(
        &self,
        mapping: &Mapping,
        percentiles: &[Percentile],
        (count, least, greatest): (u64, f64, f64),
        mut found: impl FnMut(f64),
    ) {
        if let Quantiles::Exact { len, values } = self {
            let mut sorted = [0.0; EXACT_LIMIT];
            let sorted = &mut sorted[..*len as usize];
            sorted.copy_from_slice(&values[..*len as usize]);
            sorted.sort_unstable_by(f64::total_cmp);
            for percentile in percentiles {
                found(sorted[percentile.rank(count) as usize - 1] + 0.0);
            }
            return;
        }
        let mut estimate = |rank: u64, value: &dyn Fn() -> f64| {
            found(match rank {
                1 => least,
                rank if rank == count => greatest,
                _ => value().clamp(least, greatest),
            });
        };
        let mut search = Search::new(percentiles.iter().map(|percentile| percentile.rank(count)));
        let positive = match self {
            Quantiles::Exact { .. } => return,
            Quantiles::Positive(bins) => bins,
            Quantiles::Signed(signed) => {
                let negative = |bin, rank| estimate(rank, &|| -mapping.value(bin));
                signed.negative.search(true, &mut search, negative);
                search.pass(signed.zeros, |rank| estimate(rank, &|| 0.0));
                &signed.positive
            }
        };
        positive.search(false, &mut search, |bin, rank| estimate(rank, &|| mapping.value(bin)));
    }

    /// Appends the one encoding of these values. Whether they are exact follows from their count, which the reader knows.
    pub(super) fn encode(&self, mapping: &Mapping, out: &mut Vec<u8>) {
        let empty = Bins::default();
        let (zeros, positive, negative) = match self {
            Quantiles::Exact { len, values } => {
                // 0.0 and -0.0 are one value.
                let mut sorted: Vec<f64> = values[..*len as usize].iter().map(|value| value + 0.0).collect();
                sorted.sort_unstable_by(f64::total_cmp);
                out.extend(sorted.iter().flat_map(|value| value.to_le_bytes()));
                return;
            }
            Quantiles::Positive(bins) => (0, bins, &empty),
            Quantiles::Signed(signed) => (signed.zeros, &signed.positive, &signed.negative),
        };
        put_varint(out, u64::from(mapping.bins_per_octave()));
        put_varint(out, zeros);
        put_bins(out, positive);
        put_bins(out, negative);
    }

    /// Reads what [`Quantiles::encode`] wrote of `count` values.
    pub(super) fn decode(mapping: &Mapping, count: u64, reader: &mut Reader<'_>) -> ProcessorResult<Self> {
        if count <= EXACT_LIMIT as u64 {
            let mut values = Vec::with_capacity(count as usize);
            for _ in 0..count {
                values.push(reader.number()?);
            }
            if !values.is_sorted() {
                return Err(reader.error("values that are not sorted"));
            }
            return Ok(Quantiles::Exact { len: count as u32, values: values.into() });
        }
        let bins_per_octave = reader.varint()?;
        if bins_per_octave != u64::from(mapping.bins_per_octave()) {
            return Err(reader.error(&format!(
                "percentiles were kept in {bins_per_octave} bins an octave, the configured relative error makes {}",
                mapping.bins_per_octave()
            )));
        }
        let zeros = reader.varint()?;
        let (positive, positives) = read_bins(mapping, reader)?;
        let (negative, negatives) = read_bins(mapping, reader)?;
        if zeros.checked_add(positives).and_then(|sum| sum.checked_add(negatives)) != Some(count) {
            return Err(reader.error("counters that do not add up to the count"));
        }
        Ok(if zeros == 0 && negatives == 0 {
            Quantiles::Positive(positive)
        } else {
            Quantiles::Signed(Box::new(Signed { zeros, positive, negative }))
        })
    }

    /// The values, in any order, while they are kept.
    pub(super) fn exact(&self) -> Option<&[f64]> {
        match self {
            Quantiles::Exact { len, values } => Some(&values[..*len as usize]),
            Quantiles::Positive(_) | Quantiles::Signed(_) => None,
        }
    }

    /// Calls `visit` with the bins of all values, also of those that are kept: whether it is one of positive values, the bin, how many are
    /// in it. In any order, and a bin more than once. Returns how many values are 0.
    pub(super) fn counters(&self, mapping: &Mapping, mut visit: impl FnMut(bool, u32, u64)) -> u64 {
        match self {
            Quantiles::Exact { len, values } => {
                let values = &values[..*len as usize];
                for value in values.iter().filter(|value| **value != 0.0) {
                    visit(*value > 0.0, mapping.index_of_any(value.abs()), 1);
                }
                values.iter().filter(|value| **value == 0.0).count() as u64
            }
            Quantiles::Positive(bins) => {
                bins.for_each(|bin, count| visit(true, bin, count));
                0
            }
            Quantiles::Signed(signed) => {
                signed.positive.for_each(|bin, count| visit(true, bin, count));
                signed.negative.for_each(|bin, count| visit(false, bin, count));
                signed.zeros
            }
        }
    }

    /// Of so many values that they are not kept, from their counters, ascending. `None` where these are not of `count` values.
    pub(super) fn of_counters(
        count: u64,
        zeros: u64,
        positive: &[(u32, u64)],
        negative: &[(u32, u64)],
    ) -> Option<Self> {
        let mut counts = positive.iter().chain(negative).map(|(_, count)| *count);
        let total = counts.try_fold(zeros, u64::checked_add);
        let is_right = total == Some(count) && count > EXACT_LIMIT as u64;
        is_right.then(|| match (zeros, negative) {
            (0, []) => Quantiles::Positive(bins_of(positive)),
            _ => {
                let [positive, negative] = [positive, negative].map(bins_of);
                Quantiles::Signed(Box::new(Signed { zeros, positive, negative }))
            }
        })
    }

    /// Asks memory for what is elsewhere.
    pub(super) fn prefetch(&self) {
        match self {
            Quantiles::Exact { values, .. } => prefetch::<f64>(values),
            Quantiles::Positive(bins) => bins.prefetch(),
            Quantiles::Signed(signed) => signed.positive.prefetch(),
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Quantiles::Exact { values, .. } => size_of_val::<[f64]>(values),
            Quantiles::Positive(bins) => bins.heap_bytes(),
            Quantiles::Signed(signed) => {
                size_of::<Signed>() + signed.positive.heap_bytes() + signed.negative.heap_bytes()
            }
        }
    }
}

impl Signed {
    fn add(&mut self, mapping: &Mapping, value: f64) {
        let bins = if value > 0.0 {
            &mut self.positive
        } else if value < 0.0 {
            &mut self.negative
        } else {
            self.zeros += 1;
            return;
        };
        let index = mapping.index_of_any(value.abs());
        if !bins.try_increment(index) {
            bins.add(index, 1);
        }
    }
}

/// A percentile from 0 to 100, in billionths of a percent, so that ranks are whole-number arithmetic: the 99.9th of 1,000 is the 999th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percentile(u64);

impl Percentile {
    const UNITS: f64 = 1e9;
    const WHOLE: u64 = 100_000_000_000;

    /// `None` outside 0 to 100.
    pub(super) fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Percentile((percent * Self::UNITS).round() as u64))
    }

    /// The rank, from 1 to `count`, which is not 0.
    pub(super) fn rank(self, count: u64) -> u64 {
        let rank = (u128::from(self.0) * u128::from(count)).div_ceil(u128::from(Self::WHOLE)) as u64;
        rank.clamp(1, count)
    }
}

fn put_bins(out: &mut Vec<u8>, bins: &Bins) {
    let used = bins.used();
    put_varint(out, used as u64);
    if !put_narrow_bins(out, bins, used) {
        let mut next = 0;
        bins.for_each(|bin, count| {
            put_varint(out, u64::from(bin - next));
            put_varint(out, count);
            next = bin + 1;
        });
    }
}

/// What [`put_bins`] does where every count, and every distance but the first, takes one byte, as nearly all do. Elsewhere it appends
/// nothing and answers false. Without a branch a counter: which of them are empty cannot be foreseen.
fn put_narrow_bins(out: &mut Vec<u8>, bins: &Bins, used: usize) -> bool {
    let Some(first) = bins.first() else { return true };
    let before = out.len();
    put_varint(out, u64::from(first));
    // Its count goes where the second byte of a pair would be. An empty counter is written after the last one in use, and not counted.
    let begin = out.len();
    out.resize(begin + 2 * used + 1, 0);
    let room = &mut out[begin - 1..];
    let first_distance = std::mem::take(&mut room[0]);
    let (mut at, mut next, mut widest) = (0, first, 0);
    bins.for_each_counter(|bin, count| {
        let (is_used, distance) = (count != 0, u64::from(bin.wrapping_sub(next)));
        (room[at], room[at + 1]) = (distance as u8, count as u8);
        at += 2 * usize::from(is_used);
        widest |= if is_used { distance | count } else { 0 };
        next = if is_used { bin + 1 } else { next };
    });
    room[0] = first_distance;
    let is_narrow = widest < 0x80;
    out.truncate(if is_narrow { begin - 1 + at } else { before });
    is_narrow
}

/// The bins, and the sum of their counts.
fn read_bins(mapping: &Mapping, reader: &mut Reader<'_>) -> ProcessorResult<(Bins, u64)> {
    let used = reader.varint()?;
    let (mut counters, mut next, mut total) = (Vec::new(), 0u64, 0u64);
    for _ in 0..used {
        let (distance, count) = (reader.varint()?, reader.varint()?);
        let bin = next.saturating_add(distance);
        if bin >= u64::from(mapping.end()) {
            return Err(reader.error("a bin beyond the greatest number"));
        }
        if count == 0 {
            return Err(reader.error("an empty bin"));
        }
        total = total.checked_add(count).ok_or_else(|| reader.error("counters beyond 64 bits"))?;
        counters.push((bin as u32, count));
        next = bin + 1;
    }
    Ok((bins_of(&counters), total))
}

/// Bins with these counters, ascending.
fn bins_of(counters: &[(u32, u64)]) -> Bins {
    let mut bins = Bins::default();
    if let (Some((least, _)), Some((most, _))) = (counters.first(), counters.last()) {
        // At once: growing bin by bin takes as long as all of them are long, for each.
        bins.cover(*least, *most);
    }
    counters.iter().for_each(|(bin, count)| bins.add(*bin, *count));
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_stays_small() {
        assert_eq!(size_of::<Quantiles>(), 32);
        assert_eq!(size_of::<super::super::sum::ExactSum>(), 24);
        assert_eq!(size_of::<super::super::squares::ExactSquares>(), 40);
    }

    #[test]
    fn bins_are_written_as_distances_and_counts_whether_they_are_narrow_or_not() {
        let narrow: &[(u32, u64)] = &[(0, 1), (1, 127), (128, 5), (129, 3)];
        let far = [(70_000, 4), (70_001, 1), (70_129, 127)];
        let wide_distance = [(300, 4), (301, 1), (430, 9)];
        let wide_count = [(300, 4), (301, 128), (302, 9)];
        let first_wide_count = [(300, 128), (301, 1)];
        let sparse = [(3, 1), (9_000_000, 2)];
        for counts in [&[], &narrow[..1], narrow, &far, &wide_distance, &wide_count, &first_wide_count, &sparse] {
            let mut bins = Bins::default();
            let (mut plain, mut next) = (vec![7], 0);
            put_varint(&mut plain, counts.len() as u64);
            for (bin, count) in counts.iter().copied() {
                (0..count).for_each(|_| bins.add(bin, 1));
                put_varint(&mut plain, u64::from(bin - next));
                put_varint(&mut plain, count);
                next = bin + 1;
            }
            let mut out = vec![7];
            put_bins(&mut out, &bins);
            assert_eq!(out, plain, "{counts:?}");
        }
    }

    #[test]
    fn ranks_are_those_of_decimal_percentiles() {
        let rank = |percent, count| Percentile::new(percent).map(|percentile| percentile.rank(count));
        assert_eq!(rank(99.9, 1000), Some(999));
        assert_eq!(rank(99.9, 1001), Some(1000));
        assert_eq!(rank(50.0, 2), Some(1));
        assert_eq!(rank(50.0, 3), Some(2));
        assert_eq!(rank(0.0, 7), Some(1));
        assert_eq!(rank(100.0, 7), Some(7));
        assert_eq!(rank(100.0, u64::MAX), Some(u64::MAX));
        assert_eq!(rank(100.1, 7), None);
        assert_eq!(rank(f64::NAN, 7), None);
    }
}
