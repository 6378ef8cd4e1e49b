//! The entries of a batch's rows: the rows' slices and, in these, their keys.
//!
//! The model: of most batches all rows are in one slice, which then is looked up once. Rows out of order hop between a few slices
//! that follow each other. There a row's slice is found without a branch, which would be guessed wrong with every hop: the number
//! of the slice since the batch's first one is a multiplication, and it is the place of the slice in a table that is made for the
//! batch. What is in neither form (slices of different lengths, by the clocks of a time zone; rows that are so far apart that the table
//! would be long) goes run by run, with the latest slices at hand.
//!
//! Division by multiplication: with `m = floor(2^64 / d) + 1`, `n / d` is the upper half of `n * m` for all `n` and `d` of 32 bits
//! (D. Lemire, O. Kaser and N. Kurz, "Faster remainder by direct computation", Software: Practice and Experience 49(6), 2019).

use super::keys::KeySlot;
use super::recent::RecentSlices;
use super::sliding::Slices;
use super::state::{Slice, add_entry};
use super::tables::Tables;
use super::windowing::Windowing;
use crate::aggregate::AccumulatorId;
use crate::sink::TimeWindow;
use crate::time::EventTime;
use std::collections::BTreeSet;
use std::ops::Range;

/// The most slices of which a table is made.
const MOST_SLICES: u64 = 256;
/// The fewest rows for each slice and key for which it is worth it to remember the entries that were found.
const ROWS_PER_ENTRY: usize = 8;
/// The fewest rows a slice for which making a table is worth it.
const FEWEST_ROWS: u64 = 4;

/// What entries are found and made in.
pub(super) struct Placing<'a, F> {
    pub windowing: &'a Windowing,
    /// The ends of windows that will fire.
    pub unfired: &'a mut BTreeSet<EventTime>,
    pub tables: Tables<'a>,
    /// The keys of the batch's sender.
    pub dictionary: &'a [KeySlot],
    /// Told the end of a window that was not expected before.
    pub new_output_time: &'a mut F,
}

/// The rows of a batch.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub times: &'a [i64],
    pub keys: &'a [u32],
    /// Those that are left out, ascending.
    pub skip: &'a [u32],
}

impl Rows<'_> {
    /// The stretches between those that are left out.
    fn stretches(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut from = 0;
        let ends = self.skip.iter().map(|row| *row as usize).chain([self.times.len()]);
        ends.map(move |end| {
            let stretch = from..end;
            from = end + 1;
            stretch
        })
    }
}

impl<F: FnMut(EventTime)> Placing<'_, F> {
    /// Appends the entries of the rows that are not left out. Returns how many of these are in no window.
    pub(super) fn place(&mut self, slices: &mut Slices, rows: Rows<'_>, ids: &mut Vec<AccumulatorId>) -> u64 {
        if rows.skip.len() == rows.times.len() {
            return 0;
        }
        let (first, last) =
            rows.times.iter().fold((i64::MAX, i64::MIN), |(first, last), time| (first.min(*time), last.max(*time)));
        let window = self.windowing.slice(EventTime::from_millis(first));
        if last < window.end.as_millis() {
            return self.place_in_one(slices, window, rows, ids);
        }
        match Cells::of(self.windowing, window, last)
            .filter(|cells| cells.count * FEWEST_ROWS <= rows.times.len() as u64)
        {
            Some(cells) => self.place_by_number(slices, cells, rows, ids),
            None => self.place_by_runs(slices, rows, ids),
        }
    }

    /// All rows are in this slice.
    fn place_in_one(
        &mut self,
        slices: &mut Slices,
        window: TimeWindow,
        rows: Rows<'_>,
        ids: &mut Vec<AccumulatorId>,
    ) -> u64 {
        let slice = slices.entry(window.end).or_insert_with(|| self.open(window));
        let before = ids.len();
        for stretch in rows.stretches() {
            for key in &rows.keys[stretch] {
                ids.push(self.entry(slice, *key));
            }
        }
        if slice.in_a_window { 0 } else { (ids.len() - before) as u64 }
    }

    /// The rows are in some of these slices.
    fn place_by_number(
        &mut self,
        slices: &mut Slices,
        cells: Cells,
        rows: Rows<'_>,
        ids: &mut Vec<AccumulatorId>,
    ) -> u64 {
        let mut table = SliceTable::new(slices, cells);
        let width = self.dictionary.len();
        match cells.count as usize * width * ROWS_PER_ENTRY <= rows.times.len() {
            true => {
                // The id plus one of what was found in this batch, by slice and key: most rows look no further.
                let mut found = vec![0; cells.count as usize * width];
                for stretch in rows.stretches() {
                    let rows = rows.times[stretch.clone()].iter().zip(&rows.keys[stretch]);
                    ids.extend(rows.map(|(time, key)| {
                        let place = cells.number(*time);
                        let known = &mut found[place * width + *key as usize];
                        if *known == 0 {
                            *known = self.entry_in(&mut table, place, *key).index() as u32 + 1;
                        }
                        AccumulatorId::from_index(*known as usize - 1)
                    }));
                }
            }
            false => {
                for stretch in rows.stretches() {
                    let rows = rows.times[stretch.clone()].iter().zip(&rows.keys[stretch]);
                    ids.extend(rows.map(|(time, key)| self.entry_in(&mut table, cells.number(*time), *key)));
                }
            }
        }
        match table.give_back() {
            true => 0,
            false => {
                let times = rows.stretches().flat_map(|stretch| &rows.times[stretch]);
                let outside = |time: &&i64| {
                    let end = cells.window(cells.number(**time)).end;
                    slices.get(&end).is_some_and(|slice| !slice.in_a_window)
                };
                times.filter(outside).count() as u64
            }
        }
    }

    /// The entry of a key, by its number in the dictionary, in a slice of the table.
    #[inline(always)]
    fn entry_in(&mut self, table: &mut SliceTable<'_>, place: usize, key: u32) -> AccumulatorId {
        match table.at[place].entries.get(self.dictionary[key as usize]) {
            Some(id) => id,
            None => {
                let slice = table.take(place, |window| self.open(window));
                self.entry(slice, key)
            }
        }
    }

    /// The rows are anywhere.
    fn place_by_runs(&mut self, slices: &mut Slices, rows: Rows<'_>, ids: &mut Vec<AccumulatorId>) -> u64 {
        let mut slices = RecentSlices::of(slices);
        let mut in_no_window = 0;
        for Range { start: mut row, end } in rows.stretches() {
            while row < end {
                let window = self.windowing.slice(EventTime::from_millis(rows.times[row]));
                let slice = slices.get(window.end, || self.open(window));
                let first = row;
                let span = window.start.as_millis()..window.end.as_millis();
                // The slice that reaches to the end of time holds that too, though it seems to end before it.
                ids.push(self.entry(slice, rows.keys[row]));
                row += 1;
                let run = rows.times[row..end].iter().zip(&rows.keys[row..end]);
                for (_, key) in run.take_while(|(time, _)| span.contains(time)) {
                    ids.push(self.entry(slice, *key));
                    row += 1;
                }
                if !slice.in_a_window {
                    in_no_window += (row - first) as u64;
                }
            }
        }
        in_no_window
    }

    /// The entry of a key, by its number in the dictionary, in a slice.
    #[inline(always)]
    fn entry(&mut self, slice: &mut Slice, key: u32) -> AccumulatorId {
        let key = self.dictionary[key as usize];
        match slice.entries.get(key) {
            Some(id) => id,
            None => {
                let Tables { keys, entries, stores } = &mut self.tables;
                add_entry(slice, key, keys, entries, stores)
            }
        }
    }

    /// A slice that has no row yet.
    #[cold]
    fn open(&mut self, window: TimeWindow) -> Slice {
        let first_end = self.windowing.slicing().and_then(|slicing| slicing.first_end(window));
        if let Some(end) = first_end.filter(|end| self.unfired.insert(*end)) {
            (self.new_output_time)(end);
        }
        Slice::new(window, first_end.is_some(), false)
    }
}

/// Slices of one length that follow each other.
#[derive(Clone, Copy)]
struct Cells {
    start: i64,
    size: i64,
    /// `floor(2^64 / size) + 1`.
    reciprocal: u64,
    count: u64,
}

impl Cells {
    /// From this slice to that of `last`, if that is possible and they are not too many.
    fn of(windowing: &Windowing, first: TimeWindow, last: i64) -> Option<Self> {
        if !windowing.slices_are_alike() {
            return None;
        }
        let start = first.start.as_millis();
        let size = first.end.as_millis().checked_sub(start)?;
        let reach = u32::try_from(last.checked_sub(start)?).ok()?;
        let divisor = u32::try_from(size).ok().filter(|size| *size > 1)?;
        let cells =
            Self { start, size, reciprocal: u64::MAX / u64::from(divisor) + 1, count: u64::from(reach / divisor) + 1 };
        start.checked_add(size.checked_mul(i64::try_from(cells.count).ok()?)?)?;
        // At the ends of time slices are cut short.
        let is_so = cells.count <= MOST_SLICES
            && cells.window(cells.number(last)) == windowing.slice(EventTime::from_millis(last));
        is_so.then_some(cells)
    }

    /// The number of the slice of a time that is in one of them.
    #[inline(always)]
    fn number(&self, time: i64) -> usize {
        let into = time.wrapping_sub(self.start) as u64;
        ((u128::from(into) * u128::from(self.reciprocal)) >> 64) as usize
    }

    fn window(&self, number: usize) -> TimeWindow {
        let start = self.start + self.size * number as i64;
        TimeWindow { start: EventTime::from_millis(start), end: EventTime::from_millis(start + self.size) }
    }
}

/// The slices of a batch, taken out of the map of all while it is placed.
struct SliceTable<'a> {
    slices: &'a mut Slices,
    cells: Cells,
    /// By number; those that were not taken are without entries.
    at: Vec<Slice>,
    taken: Vec<bool>,
}

impl<'a> SliceTable<'a> {
    fn new(slices: &'a mut Slices, cells: Cells) -> Self {
        let count = cells.count as usize;
        let empty = |number| Slice::new(cells.window(number), true, false);
        Self { slices, cells, at: (0..count).map(empty).collect(), taken: vec![false; count] }
    }

    /// The slice of this number, which `open` makes if there is none.
    #[cold]
    fn take(&mut self, number: usize, open: impl FnOnce(TimeWindow) -> Slice) -> &mut Slice {
        if !std::mem::replace(&mut self.taken[number], true) {
            let window = self.cells.window(number);
            self.at[number] = self.slices.remove(&window.end).unwrap_or_else(|| open(window));
        }
        &mut self.at[number]
    }

    /// Puts back what was taken. Returns whether all of it is in windows.
    fn give_back(self) -> bool {
        let mut in_windows = true;
        for (slice, _) in self.at.into_iter().zip(self.taken).filter(|(_, taken)| *taken) {
            in_windows &= slice.in_a_window;
            self.slices.insert(slice.window.end, slice);
        }
        in_windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{WindowConfig, WindowKind};
    use crate::time::Span;
    use crate::window::entries::EntryTable;
    use crate::window::keys::KeyTable;
    use proptest::prelude::*;

    fn windowing(kind: WindowKind) -> Windowing {
        Windowing::new(&WindowConfig::of(kind)).unwrap()
    }

    /// How a batch may be placed.
    #[derive(Clone, Copy, Debug)]
    enum Way {
        AsItIs,
        ByRuns,
    }

    /// Entries a row, rows in no window, slices with their keys, times told.
    type Placed = (Vec<(TimeWindow, u32)>, u64, Vec<(TimeWindow, Vec<u32>)>, Vec<EventTime>);

    fn placed(kind: WindowKind, batches: &[Vec<(i64, u32)>], skip: &[u32], way: Way) -> Placed {
        let (windowing, mut slices, mut unfired) = (windowing(kind), Slices::new(), BTreeSet::new());
        let (mut keys, mut entries) = (KeyTable::default(), EntryTable::default());
        let dictionary: Vec<KeySlot> =
            (0..8).map(|key| keys.intern(crate::event::GroupingKey::from_fields(&[("k", key.to_string())]))).collect();
        let (mut found, mut outside, mut told) = (Vec::new(), 0, Vec::new());
        for batch in batches {
            let (times, numbers): (Vec<i64>, Vec<u32>) = batch.iter().copied().unzip();
            let skip: Vec<u32> = skip.iter().copied().filter(|row| (*row as usize) < batch.len()).collect();
            let rows = Rows { times: &times, keys: &numbers, skip: &skip };
            let mut ids = Vec::new();
            let mut placing = Placing {
                windowing: &windowing,
                unfired: &mut unfired,
                tables: Tables { keys: &mut keys, entries: &mut entries, stores: &mut [] },
                dictionary: &dictionary,
                new_output_time: &mut |time| told.push(time),
            };
            outside += match way {
                Way::AsItIs => placing.place(&mut slices, rows, &mut ids),
                Way::ByRuns => placing.place_by_runs(&mut slices, rows, &mut ids),
            };
            for id in ids {
                let mut of = slices.values().flat_map(|slice| slice.entries.iter().map(|entry| (slice.window, entry)));
                let (window, (key, _)) = of.find(|(_, (_, known))| *known == id).unwrap();
                found.push((window, key.0));
            }
        }
        let held = |slice: &Slice| (slice.window, slice.entries.iter().map(|(key, _)| key.0).collect());
        (found, outside, slices.values().map(held).collect(), told)
    }

    fn kind() -> impl Strategy<Value = WindowKind> {
        let span = |most| (1..most).prop_map(Span::from_millis);
        prop_oneof![
            span(60i64).prop_map(WindowKind::tumbling),
            (span(60), span(60)).prop_map(|(size, slide)| WindowKind::sliding(size, slide)),
        ]
    }

    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![
            20 => 1_000i64..1_100,
            2 => -100i64..2_000,
            // No event is at the very end of time.
            1 => prop_oneof![Just(i64::MIN), Just(i64::MIN + 30), Just(i64::MAX - 1), i64::MIN..i64::MAX],
        ]
    }

    proptest! {
        /// Against the assigner's formula for each row, and against the way by runs.
        #[test]
        fn every_way_finds_the_same_entries(
            kind in kind(),
            batches in proptest::collection::vec(proptest::collection::vec((times(), 0u32..8), 1..80), 1..4),
            near in any::<bool>(),
            mut skip in proptest::collection::vec(0u32..90, 0..6),
        ) {
            skip.sort_unstable();
            skip.dedup();
            let mut batches = batches;
            if near {
                batches.iter_mut().flatten().for_each(|(time, _)| *time = time.rem_euclid(200));
            }
            let as_it_is = placed(kind, &batches, &skip, Way::AsItIs);
            let windowing = windowing(kind);
            let left = batches.iter().flat_map(|batch| {
                let rows = batch.iter().enumerate().filter(|(row, _)| !skip.contains(&(*row as u32)));
                rows.map(|(_, (time, key))| (windowing.slice(EventTime::from_millis(*time)), *key))
            });
            prop_assert_eq!(&as_it_is.0, &left.collect::<Vec<_>>());
            prop_assert_eq!(as_it_is, placed(kind, &batches, &skip, Way::ByRuns));
        }

        #[test]
        fn numbers_are_quotients(start in any::<i32>(), size in 2u32.., into in any::<u32>()) {
            let start = i64::from(start);
            let cells =
                Cells { start, size: i64::from(size), reciprocal: u64::MAX / u64::from(size) + 1, count: u64::MAX };
            prop_assert_eq!(cells.number(start + i64::from(into)), (into / size) as usize);
        }
    }
}
