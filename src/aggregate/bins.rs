//! Counters by bin.
//!
//! The model: bins lie close together for most data, so counters are an array from the first bin in use to the last, of bytes until
//! one of them is full, then of 16, 32 and 64 bits. Where the bins in use span more than [`DENSE_SPAN`] they are a sorted map instead. No
//! bin is ever joined with another, so the error of what is read from them is always the stated one.

use std::collections::BTreeMap;

/// The widest span of bins that is kept as an array.
const DENSE_SPAN: u32 = 4096;
/// Arrays begin and end at multiples of this, so that they grow in steps.
const STEP: u32 = 16;

/// Counters by bin; the form follows the data, the meaning does not depend on it.
#[derive(Clone, Debug)]
pub(super) enum Bins {
    U8 { first: u32, counts: Box<[u8]> },
    U16 { first: u32, counts: Box<[u16]> },
    U32 { first: u32, counts: Box<[u32]> },
    U64 { first: u32, counts: Box<[u64]> },
    Sparse(Box<BTreeMap<u32, u64>>),
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
                let counter = map.entry(bin).or_insert(0);
                *counter = counter.saturating_add(count);
                return;
            }
            let covered = dense!(self, first, counts => match counts.get_mut(bin.wrapping_sub(*first) as usize) {
                Some(counter) => match u64::from(*counter).saturating_add(count).try_into() {
                    Ok(sum) => {
                        *counter = sum;
                        return;
                    }
                    Err(_) => true,
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
        if let Some((least, most)) = other.range() {
            self.cover(least, most);
        }
        other.for_each(|bin, count| self.add(bin, count));
    }

    /// The least and the greatest bin in use.
    fn range(&self) -> Option<(u32, u32)> {
        dense!(self, first, counts => {
            let least = counts.iter().position(|count| *count != 0)?;
            let most = counts.iter().rposition(|count| *count != 0)?;
            Some((first + least as u32, first + most as u32))
        }, map => Some((*map.keys().next()?, *map.keys().next_back()?)))
    }

    /// Makes room for the bins from `least` to `most`, or becomes sparse.
    #[cold]
    #[inline(never)]
    pub(super) fn cover(&mut self, least: u32, most: u32) {
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
            let mut map = BTreeMap::new();
            self.for_each(|bin, count| {
                map.insert(bin, count);
            });
            *self = Bins::Sparse(Box::new(map));
        }
    }

    /// Calls `visit` with every bin in use and its count, ascending.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, u64)) {
        dense!(self, first, counts => {
            for (index, count) in counts.iter().enumerate() {
                if *count != 0 {
                    visit(first + index as u32, u64::from(*count));
                }
            }
        }, map => map.iter().for_each(|(bin, count)| visit(*bin, *count)))
    }

    /// Calls `visit` with every bin in use and its count, descending.
    pub(super) fn for_each_descending(&self, mut visit: impl FnMut(u32, u64)) {
        dense!(self, first, counts => {
            for (index, count) in counts.iter().enumerate().rev() {
                if *count != 0 {
                    visit(first + index as u32, u64::from(*count));
                }
            }
        }, map => map.iter().rev().for_each(|(bin, count)| visit(*bin, *count)))
    }

    /// Bytes on the heap; for a sorted map an estimate.
    pub(super) fn heap_bytes(&self) -> usize {
        dense!(self, _first, counts => size_of_val::<[_]>(counts), map => {
            // Nodes of 11 entries, two thirds full, and their links.
            size_of::<BTreeMap<u32, u64>>() + map.len() * 20
        })
    }
}
