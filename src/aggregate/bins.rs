//! Counters by bin.
//!
//! The model: bins lie close together for most data, so counters are an array from the first bin in use to the last, of bytes until
//! one of them is full, then of 16, 32 and 64 bits. Where the bins in use span more than [`DENSE_SPAN`] they are a sorted map instead. No
//! bin is ever joined with another, so the error of what is read from them is always the stated one.

use crate::prefetch::prefetch;
use std::collections::BTreeMap;
use std::iter::Peekable;

/// The widest span of bins that is kept as an array.
const DENSE_SPAN: u32 = 4096;
/// Arrays begin and end at multiples of this, so that they grow in steps.
const STEP: u32 = 16;
/// How much longer than needed an array may be that is used again.
const MOST_SPARE: usize = 8 * STEP as usize;

/// Counters by bin; the form follows the data, the meaning does not depend on it.
#[derive(Clone, Debug)]
pub(super) enum Bins {
    U8 { first: u32, counts: Box<[u8]> },
    U16 { first: u32, counts: Box<[u16]> },
    U32 { first: u32, counts: Box<[u32]> },
    U64 { first: u32, counts: Box<[u64]> },
    Sparse(Box<Sparse>),
}

/// Counters that lie far apart; boxed, because they are rare and [`Bins`] should stay small.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    counts: BTreeMap<u32, u64>,
}

impl Default for Bins {
    fn default() -> Self {
        Bins::U8 { first: 0, counts: Box::default() }
    }
}

/// Runs `$body` for whichever array it is.
macro_rules! dense {
    ($bins:expr, $first:ident, $counts:ident => $body:expr, $sparse:ident => $other:expr) => {
        match $bins {
            Bins::U8 { first: $first, counts: $counts } => $body,
            Bins::U16 { first: $first, counts: $counts } => $body,
            Bins::U32 { first: $first, counts: $counts } => $body,
            Bins::U64 { first: $first, counts: $counts } => $body,
            Bins::Sparse($sparse) => $other,
        }
    };
}

impl Bins {
    /// Adds 1 to a bin if that needs no change of form.
    #[inline(always)]
    pub(super) fn try_increment(&mut self, bin: u32) -> bool {
        dense!(self, first, counts => match counts.get_mut(bin.wrapping_sub(*first) as usize) {
            Some(counter) => match counter.checked_add(1) {
                Some(sum) => {
                    *counter = sum;
                    true
                }
                None => false,
            },
            None => false,
        }, _map => false)
    }

    /// Adds `count` to a bin. Counters stay at `u64::MAX` once there.
    pub(super) fn add(&mut self, bin: u32, count: u64) {
        loop {
            if let Bins::Sparse(map) = self {
                let counter = map.counts.entry(bin).or_insert(0);
                *counter = counter.saturating_add(count);
                return;
            }
            let covered = dense!(self, first, counts => match counts.get_mut(bin.wrapping_sub(*first) as usize) {
                Some(counter) => match narrow(wide(*counter).saturating_add(count)) {
                    Some(sum) => {
                        *counter = sum;
                        return;
                    }
                    None => true,
                },
                None => false,
            }, _map => true);
            if covered {
                self.widen();
            } else {
                self.cover(bin, bin);
            }
        }
    }

    /// Adds all counters of another.
    pub(super) fn merge(&mut self, other: &Bins) {
        let Some((least, most)) = other.range() else { return };
        self.cover(least, most);
        loop {
            match self.add_columns(other, least, most) {
                Some(true) => return,
                Some(false) => self.widen(),
                None => return other.for_each(|bin, count| self.add(bin, count)),
            }
        }
    }

    /// Adds the counters of another from `least` to `most`, many at a time. Returns whether they fit: if not, nothing happens until
    /// the counters here are wider. `None` where counters have to be added one by one.
    fn add_columns(&mut self, other: &Bins, least: u32, most: u32) -> Option<bool> {
        macro_rules! add {
            ($mine:expr, $theirs:expr, $counter:ty) => {{
                let ((first, mine), (other_first, theirs)) = ($mine, $theirs);
                let theirs = &theirs[(least - *other_first) as usize..=(most - *other_first) as usize];
                let begin = (least - *first) as usize;
                let mine = &mut mine[begin..begin + theirs.len()];
                // Two passes without a branch, so that both are done many counters at a time.
                let sums = mine.iter().zip(theirs).map(|(mine, count)| mine.overflowing_add(<$counter>::from(*count)));
                let fit = !sums.fold(false, |any, (_, overflow)| any | overflow);
                if fit {
                    mine.iter_mut().zip(theirs).for_each(|(mine, count)| *mine += <$counter>::from(*count));
                }
                Some(fit)
            }};
        }
        use Bins::{Sparse, U8, U16, U32, U64};
        match (self, other) {
            // The widest counters stay at their most.
            (Sparse(_) | U64 { .. }, _) | (_, Sparse(_)) => None,
            (U8 { first, counts }, U8 { first: other, counts: theirs }) => add!((first, counts), (other, theirs), u8),
            (U16 { first, counts }, U8 { first: other, counts: theirs }) => add!((first, counts), (other, theirs), u16),
            (U16 { first, counts }, U16 { first: other, counts: theirs }) => {
                add!((first, counts), (other, theirs), u16)
            }
            (U32 { first, counts }, U8 { first: other, counts: theirs }) => add!((first, counts), (other, theirs), u32),
            (U32 { first, counts }, U16 { first: other, counts: theirs }) => {
                add!((first, counts), (other, theirs), u32)
            }
            (U32 { first, counts }, U32 { first: other, counts: theirs }) => {
                add!((first, counts), (other, theirs), u32)
            }
            // Theirs are wider.
            (U8 { .. } | U16 { .. } | U32 { .. }, _) => Some(false),
        }
    }

    /// Becomes what another is, in the memory that is there if it is about as much as needed.
    pub(super) fn assign(&mut self, other: &Bins) {
        macro_rules! assign {
            ($first:expr, $counts:expr, $other:expr, $theirs:expr) => {{
                let spare = $counts.len().wrapping_sub($theirs.len());
                if spare <= MOST_SPARE {
                    let (same, beyond) = $counts.split_at_mut($theirs.len());
                    same.copy_from_slice($theirs);
                    beyond.fill(0);
                    *$first = *$other;
                    return;
                }
            }};
        }
        match (&mut *self, other) {
            (Bins::U8 { first, counts }, Bins::U8 { first: other, counts: theirs }) => {
                assign!(first, counts, other, theirs);
            }
            (Bins::U16 { first, counts }, Bins::U16 { first: other, counts: theirs }) => {
                assign!(first, counts, other, theirs);
            }
            _ => {}
        }
        self.clone_from(other);
    }

    /// The least and the greatest bin in use.
    fn range(&self) -> Option<(u32, u32)> {
        dense!(self, first, counts => {
            let least = counts.iter().position(|count| *count != 0)?;
            let most = counts.iter().rposition(|count| *count != 0)?;
            Some((first + least as u32, first + most as u32))
        }, map => Some((*map.counts.keys().next()?, *map.counts.keys().next_back()?)))
    }

    /// The least bin in use.
    pub(super) fn first(&self) -> Option<u32> {
        dense!(self, first, counts => counts.iter().position(|count| *count != 0).map(|index| first + index as u32),
            map => map.counts.keys().next().copied())
    }

    /// Makes room for the bins from `least` to `most`, or becomes sparse.
    #[cold]
    #[inline(never)]
    pub(super) fn cover(&mut self, least: u32, most: u32) {
        let covered = dense!(self, first, counts => {
            *first <= least && most.wrapping_sub(*first) < counts.len() as u32
        }, _map => false);
        if covered {
            return;
        }
        let (mut begin, mut end) = (least, most + 1);
        if let Some((used_least, used_most)) = self.range() {
            (begin, end) = (begin.min(used_least), end.max(used_most + 1));
        }
        if end - begin > DENSE_SPAN {
            return self.make_sparse();
        }
        let begin = begin / STEP * STEP;
        let length = (end.next_multiple_of(STEP) - begin) as usize;
        dense!(self, first, counts => {
            if begin >= *first && begin as usize + length <= *first as usize + counts.len() {
                return;
            }
            let mut grown = vec![0; length].into_boxed_slice();
            for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count != 0) {
                grown[(*first + index as u32 - begin) as usize] = *count;
            }
            *first = begin;
            *counts = grown;
        }, _map => {});
    }

    /// Doubles the width of the counters.
    #[cold]
    #[inline(never)]
    fn widen(&mut self) {
        *self = match std::mem::take(self) {
            Bins::U8 { first, counts } => Bins::U16 { first, counts: counts.iter().map(|c| u16::from(*c)).collect() },
            Bins::U16 { first, counts } => Bins::U32 { first, counts: counts.iter().map(|c| u32::from(*c)).collect() },
            Bins::U32 { first, counts } => Bins::U64 { first, counts: counts.iter().map(|c| u64::from(*c)).collect() },
            widest => widest,
        };
    }

    #[cold]
    #[inline(never)]
    fn make_sparse(&mut self) {
        if !matches!(self, Bins::Sparse(_)) {
            let mut map = Sparse::default();
            self.for_each(|bin, count| {
                map.counts.insert(bin, count);
            });
            *self = Bins::Sparse(Box::new(map));
        }
    }

    /// How many bins are in use.
    pub(super) fn used(&self) -> usize {
        dense!(self, _first, counts => counts.iter().filter(|count| **count != 0).count(), map => map.counts.len())
    }

    /// Calls `visit` with every bin in use and its count, ascending.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, u64)) {
        dense!(self, first, counts => {
            for (index, count) in counts.iter().enumerate() {
                if *count != 0 {
                    visit(first + index as u32, wide(*count));
                }
            }
        }, map => map.counts.iter().for_each(|(bin, count)| visit(*bin, *count)))
    }

    /// The same, and it may call `visit` with bins that are not in use, whose count is 0.
    #[inline]
    pub(super) fn for_each_counter(&self, mut visit: impl FnMut(u32, u64)) {
        dense!(self, first, counts => {
            for (index, count) in counts.iter().enumerate() {
                visit(first + index as u32, wide(*count));
            }
        }, map => map.counts.iter().for_each(|(bin, count)| visit(*bin, *count)))
    }

    /// Goes on with a search through the bins, ascending or descending, and calls `found` with the bin of every rank in them.
    pub(super) fn search<R: Iterator<Item = u64>>(
        &self,
        descending: bool,
        search: &mut Search<R>,
        mut found: impl FnMut(u32, u64),
    ) {
        let mut visit = |search: &mut Search<R>, bin, count| search.pass(count, |rank| found(bin, rank));
        dense!(self, first, counts => {
            let steps = counts.len().div_ceil(STEP as usize);
            for step in 0..steps {
                let step = if descending { steps - 1 - step } else { step };
                let begin = step * STEP as usize;
                let counters = &counts[begin..counts.len().min(begin + STEP as usize)];
                // Most steps are passed as a whole. All counters together are the count, so no sum wraps.
                let sum = counters.iter().fold(0u64, |sum, count| sum.wrapping_add(wide(*count)));
                if search.skip(sum) {
                    continue;
                }
                for index in 0..counters.len() {
                    let index = if descending { counters.len() - 1 - index } else { index };
                    visit(search, first + (begin + index) as u32, wide(counters[index]));
                }
            }
        }, map => if descending {
            map.counts.iter().rev().for_each(|(bin, count)| visit(search, *bin, *count));
        } else {
            map.counts.iter().for_each(|(bin, count)| visit(search, *bin, *count));
        })
    }

    /// Asks memory for the counters.
    pub(super) fn prefetch(&self) {
        dense!(self, _first, counts => prefetch(counts), _map => {})
    }

    /// Bytes on the heap; for a sorted map an estimate.
    pub(super) fn heap_bytes(&self) -> usize {
        dense!(self, _first, counts => size_of_val::<[_]>(counts), map => {
            // Nodes of 11 entries, two thirds full, and their links.
            size_of::<Sparse>() + map.counts.len() * 20
        })
    }
}

/// A counter of any width as the widest.
#[inline(always)]
fn wide<C: Into<u64>>(count: C) -> u64 {
    count.into()
}

/// A count as a counter of some width, where it fits.
fn narrow<C: TryFrom<u64>>(count: u64) -> Option<C> {
    C::try_from(count).ok()
}

/// A search for values of given ranks, through counters in the order of values.
pub(super) struct Search<R: Iterator<Item = u64>> {
    passed: u64,
    wanted: Peekable<R>,
}

impl<R: Iterator<Item = u64>> Search<R> {
    /// For these ranks, ascending, from 1.
    pub(super) fn new(ranks: R) -> Self {
        Self { passed: 0, wanted: ranks.peekable() }
    }

    /// Passes `held` values if none of the ranks is among them.
    fn skip(&mut self, held: u64) -> bool {
        let after = self.passed.saturating_add(held);
        let none = self.wanted.peek().is_none_or(|rank| *rank > after);
        if none {
            self.passed = after;
        }
        none
    }

    /// Passes `held` values and calls `found` for every rank among them.
    pub(super) fn pass(&mut self, held: u64, mut found: impl FnMut(u64)) {
        self.passed = self.passed.saturating_add(held);
        while let Some(rank) = self.wanted.next_if(|rank| *rank <= self.passed) {
            found(rank);
        }
    }
}
