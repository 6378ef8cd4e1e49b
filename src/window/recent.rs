//! The slices that a batch's rows are in, at hand.
//!
//! The model: rows out of order go back and forth between a few slices. Those are taken out of the ordered map for the time of a
//! batch, into an array that is searched from end to end, which for so few is faster than the map; afterwards they are put back.

use super::sliding::Slices;
use super::state::Slice;
use crate::time::EventTime;

/// How many slices are at hand.
const AT_HAND: usize = 16;

/// Some slices, and the map of the others.
pub(super) struct RecentSlices<'a> {
    slices: &'a mut Slices,
    ends: [EventTime; AT_HAND],
    taken: Vec<Slice>,
    /// The one that gives way to the next.
    oldest: usize,
}

impl<'a> RecentSlices<'a> {
    pub(super) fn of(slices: &'a mut Slices) -> Self {
        Self { slices, ends: [EventTime::MIN; AT_HAND], taken: Vec::new(), oldest: 0 }
    }

    /// The slice that ends here, which `make` makes if there is none.
    #[inline]
    pub(super) fn get(&mut self, end: EventTime, make: impl FnOnce() -> Slice) -> &mut Slice {
        let place = self.ends[..self.taken.len()].iter().position(|known| *known == end);
        let place = place.unwrap_or_else(|| self.take(end, make));
        &mut self.taken[place]
    }

    /// Takes a slice out of the map. Returns its place.
    fn take(&mut self, end: EventTime, make: impl FnOnce() -> Slice) -> usize {
        let slice = self.slices.remove(&end).unwrap_or_else(make);
        if self.taken.len() < AT_HAND {
            self.ends[self.taken.len()] = end;
            self.taken.push(slice);
            return self.taken.len() - 1;
        }
        let place = self.oldest;
        self.oldest = (place + 1) % AT_HAND;
        let before = std::mem::replace(&mut self.taken[place], slice);
        self.slices.insert(self.ends[place], before);
        self.ends[place] = end;
        place
    }
}

impl Drop for RecentSlices<'_> {
    /// Puts back what was taken.
    fn drop(&mut self) {
        for (end, slice) in self.ends.iter().zip(self.taken.drain(..)) {
            self.slices.insert(*end, slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TimeWindow;

    fn slice(end: i64) -> Slice {
        let at = EventTime::from_millis;
        Slice::new(TimeWindow { start: at(end - 1), end: at(end) }, true, false)
    }

    #[test]
    fn every_slice_is_in_the_map_again_however_many_there_were() {
        let mut slices = Slices::new();
        for end in 0..5 {
            slices.insert(EventTime::from_millis(end), slice(end));
        }
        let mut recent = RecentSlices::of(&mut slices);
        for end in (0..100).chain([3, 99, 50]) {
            let found = recent.get(EventTime::from_millis(end), || slice(end));
            assert_eq!(found.window.end, EventTime::from_millis(end));
        }
        drop(recent);
        assert!(slices.iter().all(|(end, slice)| slice.window.end == *end));
        assert_eq!(slices.len(), 100);
    }
}
