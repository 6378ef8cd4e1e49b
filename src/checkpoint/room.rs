//! Room for changes, which goes from one snapshot to the next.
//!
//! The model: a worker encodes changes into room that it takes here, and its store holds them until the snapshot that has them is
//! made; then their room is given back. Giving it back to the allocator instead costs the worker, whose it was: some thousand pages at
//! a time go back to the system when the worker next asks for any memory, which takes some 5 ms, and each of them is a page
//! fault when it comes anew.
//!
//! What is kept is what the last snapshot needed, and no more than [`MOST_BYTES`] or what memory has for it; what it did not need goes.

use super::Changes;
use crossbeam_channel::{Receiver, Sender, unbounded};

/// The most that is kept: of a larger snapshot the rest comes anew.
const MOST_BYTES: usize = 256 << 20;
/// The most that one may have: a larger one was made for something large, which may not come again.
const MOST_OF_ONE: usize = 8 << 20;

/// Room that is not in use. Clones are the same; whoever takes does not wait for who gives back.
#[derive(Clone)]
pub struct Rooms {
    give: Sender<Changes>,
    take: Receiver<Changes>,
    /// Bytes that are kept, at most.
    most: usize,
}

impl Rooms {
    /// None yet; no more than so many bytes are kept.
    pub fn within(bytes: usize) -> Self {
        let (give, take) = unbounded();
        Self { give, take, most: bytes.min(MOST_BYTES) }
    }

    /// Room for so many bytes, or more.
    pub fn take(&self, bytes: usize) -> Changes {
        let kept = self.take.try_iter().find(|room| room.room() >= bytes);
        kept.unwrap_or_else(|| Changes::with_room(bytes))
    }

    /// A snapshot is made that has these changes. What is left of the room of the snapshot before goes.
    pub fn give_back(&self, made: impl Iterator<Item = Changes>) {
        self.take.try_iter().for_each(drop);
        let mut left = self.most;
        for mut changes in made.filter(|changes| changes.room() <= MOST_OF_ONE) {
            if changes.room() > left {
                return;
            }
            left -= changes.room();
            changes.clear();
            // It holds the other end itself.
            let _ = self.give.send(changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_room(bytes: usize) -> Changes {
        let mut changes = Changes::with_room(bytes);
        changes.put(b"key", b"value");
        changes
    }

    #[test]
    fn room_comes_back_empty_and_none_is_made_while_there_is_some() {
        let rooms = Rooms::within(usize::MAX);
        let (one, other) = (with_room(1_000), with_room(2_000));
        let places = [&one, &other].map(|changes| changes.iter().next().expect("a change").key.as_ptr());
        rooms.give_back([one, other].into_iter());
        for place in places {
            let mut room = rooms.take(1_000);
            assert!(room.is_empty() && room.bytes() == 0);
            room.put(b"key", b"");
            assert_eq!(room.iter().next().expect("a change").key.as_ptr(), place);
        }
        assert!(rooms.take(1_000).room() >= 1_000, "there is none left");
    }

    #[test]
    fn what_is_too_small_is_not_used() {
        let rooms = Rooms::within(usize::MAX);
        rooms.give_back([Changes::default()].into_iter());
        assert!(rooms.take(1_000).room() >= 1_000);
    }

    #[test]
    fn what_the_last_snapshot_did_not_need_goes() {
        let rooms = Rooms::within(usize::MAX);
        rooms.give_back((0..10).map(|_| with_room(1_000)));
        let used: Vec<Changes> = (0..3).map(|_| rooms.take(1_000)).collect();
        rooms.give_back(used.into_iter());
        assert_eq!(rooms.take.len(), 3);
    }

    #[test]
    fn no_more_is_kept_than_is_allowed() {
        let rooms = Rooms::within(usize::MAX);
        let fitting = MOST_BYTES / MOST_OF_ONE;
        rooms.give_back((0..fitting + 3).map(|_| Changes::with_room(MOST_OF_ONE)));
        assert_eq!(rooms.take.len(), fitting);
        let few = Rooms::within(2_500);
        few.give_back((0..3).map(|_| with_room(1_000)));
        assert_eq!(few.take.len(), 2);
        rooms.give_back((0..2).map(|place| Changes::with_room(MOST_OF_ONE + place)));
        assert_eq!(rooms.take.len(), 1, "it is too large to be kept");
    }
}
