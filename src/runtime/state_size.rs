//! How many bytes of state the windows of a worker hold, found out bit by bit.
//!
//! The model: what accumulators own has to be asked of each of them, and there may be millions. So each turn of the window operator asks
//! some, and when all have been asked there is a size: of no single moment, but no turn is longer for it. The columns are asked at the end.

use crate::window::WindowState;
use std::ops::Range;

/// Accumulators that are asked in a turn: a fraction of a millisecond.
const PLACES_PER_TURN: usize = 8192;

/// What there is to be measured.
pub trait Measured {
    /// Bytes that are known at once.
    fn at_once(&self) -> usize;
    /// How many places there are to be asked.
    fn places(&self) -> usize;
    /// Bytes of these places.
    fn within(&self, places: Range<usize>) -> usize;
}

impl Measured for WindowState {
    fn at_once(&self) -> usize {
        self.column_bytes()
    }

    fn places(&self) -> usize {
        WindowState::places(self)
    }

    fn within(&self, places: Range<usize>) -> usize {
        self.owned_bytes_within(places)
    }
}

/// A measurement on its way.
#[derive(Debug, Default)]
pub struct SizeScan {
    state: usize,
    place: usize,
    owned: usize,
}

impl SizeScan {
    /// Asks some more. Returns the size when all have been asked; the next call begins anew.
    pub fn turn(&mut self, states: &[impl Measured]) -> Option<u64> {
        let mut left = PLACES_PER_TURN;
        while let Some(state) = states.get(self.state) {
            let places = state.places();
            let until = places.min(self.place + left);
            self.owned += state.within(self.place.min(until)..until);
            left -= until.saturating_sub(self.place);
            if until < places {
                self.place = until;
                return None;
            }
            (self.state, self.place) = (self.state + 1, 0);
        }
        let Self { owned, .. } = std::mem::take(self);
        Some((owned + states.iter().map(Measured::at_once).sum::<usize>()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each place has its number of bytes.
    struct Places(usize);

    impl Measured for Places {
        fn at_once(&self) -> usize {
            1_000_000_000
        }

        fn places(&self) -> usize {
            self.0
        }

        fn within(&self, places: Range<usize>) -> usize {
            places.sum()
        }
    }

    fn turns(scan: &mut SizeScan, states: &[Places]) -> (usize, u64) {
        (1..100).find_map(|turn| Some((turn, scan.turn(states)?))).expect("it comes to an end")
    }

    #[test]
    fn every_place_is_asked_once_and_few_in_a_turn() {
        let mut scan = SizeScan::default();
        for counts in [vec![], vec![0], vec![10], vec![PLACES_PER_TURN], vec![5, 0, 2 * PLACES_PER_TURN, 7]] {
            let states: Vec<Places> = counts.iter().map(|count| Places(*count)).collect();
            let expected: usize = counts.iter().map(|count| 1_000_000_000 + (0..*count).sum::<usize>()).sum();
            let (turns, size) = turns(&mut scan, &states);
            assert_eq!(size, expected as u64, "{counts:?}");
            assert!(turns <= 1 + counts.iter().sum::<usize>() / PLACES_PER_TURN, "{counts:?}: {turns} turns");
        }
    }

    #[test]
    fn places_that_have_gone_in_between_are_not_missed() {
        let mut scan = SizeScan::default();
        assert_eq!(scan.turn(&[Places(3 * PLACES_PER_TURN), Places(4)]), None);
        let (_, size) = turns(&mut scan, &[Places(2), Places(4)]);
        assert_eq!(size, 2_000_000_000 + (0..PLACES_PER_TURN).sum::<usize>() as u64 + 6);
    }
}
