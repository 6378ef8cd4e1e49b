//! Windows of several slices: what a window holds is combined from its slices when it fires.
//!
//! The model: each key that has events in the window's slices has a queue of these slices, in the order of time. A window that
//! fires takes in the slices that ended since the one before, and its results are the sums of the queues; then the slices that
//! the next window lacks leave their queues. A queue is two stacks. Slices come into the back, of which only the sum is kept
//! beside them; they leave from the front, where each carries the sum of itself and all after it; when the front is empty the
//! back is turned over into it, from the newest slice to the oldest. So each slice is merged twice in its life, a window merges
//! one front and one back, and nothing is ever subtracted, which sketches of percentiles cannot do: the time of a firing does
//! not depend on how many slices a window has. (The queue of two stacks is folklore; K. Tangwongsan, M. Hirzel, S. Schneider and
//! K.-L. Wu, "General Incremental Sliding-Window Aggregation", PVLDB 8(7), 2015, compare it with others.)
//!
//! A key without an event in the window has no queue: it emits nothing and costs nothing.
//!
//! Late rows change slices in the middle of queues. The queue of such a key is made anew from the slices, and the windows that
//! have fired already are combined once more in a queue of their own, one after the other.

use super::assigner::SlidingWindowAssigner;
use super::keys::{KeySlot, KeyTable};
use super::revisions::Revisions;
use super::state::Slice;
use super::tables::Tables;
use super::tracking::Tracking;
use crate::aggregate::AccumulatorId;
use crate::sink::TimeWindow;
use crate::time::EventTime;
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Included};

/// The slices of all keys, by their ends.
pub(super) type Slices = BTreeMap<EventTime, Slice>;

/// A sum of slices: of one, then it is the slice's own accumulator, or of several.
#[derive(Clone, Copy, Debug)]
enum Sum {
    OfOne(AccumulatorId),
    OfMany(AccumulatorId),
}

impl Sum {
    fn id(self) -> AccumulatorId {
        match self {
            Sum::OfOne(id) | Sum::OfMany(id) => id,
        }
    }

    fn release(self, tables: &mut Tables<'_>) {
        if let Sum::OfMany(id) = self {
            tables.remove_scratch(id);
        }
    }
}

/// The slices of one key in a window.
#[derive(Debug, Default)]
pub(super) struct SliceQueue {
    /// The older slices, the oldest last, each by its end with the sum of itself and all after it in here.
    front: Vec<(EventTime, Sum)>,
    /// The newer slices, the oldest first.
    back: VecDeque<(EventTime, AccumulatorId)>,
    back_sum: Option<Sum>,
}

impl SliceQueue {
    /// Adds the newest slice.
    fn push(&mut self, end: EventTime, id: AccumulatorId, tables: &mut Tables<'_>) {
        self.back_sum = Some(match self.back_sum {
            None => Sum::OfOne(id),
            Some(Sum::OfMany(sum)) => {
                tables.merge(sum, id);
                Sum::OfMany(sum)
            }
            Some(Sum::OfOne(only)) => sum_of(only, id, tables),
        });
        self.back.push_back((end, id));
    }

    /// Lets the slices go that end at or before this time.
    fn evict(&mut self, until: EventTime, tables: &mut Tables<'_>) {
        loop {
            while let Some((_, sum)) = self.front.pop_if(|(end, _)| *end <= until) {
                sum.release(tables);
            }
            if !self.front.is_empty() || self.back.front().is_none_or(|(end, _)| *end > until) {
                return;
            }
            self.turn_over(until, tables);
        }
    }

    /// Makes the back the front, without the slices that end at or before this time.
    fn turn_over(&mut self, until: EventTime, tables: &mut Tables<'_>) {
        if let Some(sum) = self.back_sum.take() {
            sum.release(tables);
        }
        while let Some((end, id)) = self.back.pop_back() {
            if end <= until {
                self.back.clear();
                return;
            }
            let sum = match self.front.last() {
                None => Sum::OfOne(id),
                Some((_, newer)) => sum_of(newer.id(), id, tables),
            };
            self.front.push((end, sum));
        }
    }

    /// The sum of all its slices; it may be made in `scratch`. `None` where there are none.
    fn sum(&self, scratch: AccumulatorId, tables: &mut Tables<'_>) -> Option<AccumulatorId> {
        let front = self.front.last().map(|(_, sum)| sum.id());
        match (front, self.back_sum.map(Sum::id)) {
            (Some(front), Some(back)) => {
                tables.set_to_sum(scratch, front, back);
                Some(scratch)
            }
            (one, None) | (None, one) => one,
        }
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty() && self.back.is_empty()
    }

    fn clear(&mut self, tables: &mut Tables<'_>) {
        self.back.clear();
        self.front.drain(..).map(|(_, sum)| sum).chain(self.back_sum.take()).for_each(|sum| sum.release(tables));
    }
}

fn sum_of(one: AccumulatorId, other: AccumulatorId, tables: &mut Tables<'_>) -> Sum {
    let sum = tables.create_scratch();
    tables.set_to_sum(sum, one, other);
    Sum::OfMany(sum)
}

/// The queues of all keys, as the last window that fired has left them for the next.
pub(super) struct SlidingState {
    windows: SlidingWindowAssigner,
    queues: HashMap<KeySlot, SliceQueue>,
    /// Slices that end at or before this are in the queues, unless the next window lacks them.
    taken_in: EventTime,
    /// Of windows that have fired and are kept.
    pub(super) revisions: Revisions,
    scratch: Option<AccumulatorId>,
}

impl SlidingState {
    /// For these windows. Revisions are counted where a window may emit more than once.
    pub(super) fn new(windows: SlidingWindowAssigner, keeps_revisions: bool) -> Self {
        Self {
            windows,
            queues: HashMap::new(),
            taken_in: EventTime::MIN,
            revisions: Revisions::new(keeps_revisions),
            scratch: None,
        }
    }

    /// The window that ends here.
    pub(super) fn window(&self, end: EventTime) -> TimeWindow {
        TimeWindow { start: end.saturating_sub(self.windows.size()), end }
    }

    /// The end of the window after the one that ends here; `None` at the end of time.
    pub(super) fn after(&self, end: EventTime) -> Option<EventTime> {
        Some(end.saturating_add(self.windows.slide())).filter(|next| *next > end)
    }

    /// What the window after this one lacks of this one's slices: those that end at or before this.
    fn left_behind(&self, end: EventTime) -> EventTime {
        self.after(end).map_or(end, |next| self.window(next).start.min(end))
    }

    /// Takes in the slices of the window that ends here. Returns the keys that have events in it.
    pub(super) fn begin(&mut self, end: EventTime, slices: &Slices, tables: &mut Tables<'_>) -> Vec<KeySlot> {
        let from = self.taken_in.max(self.window(end).start);
        for (slice_end, slice) in slices.range((Excluded(from), Included(end))) {
            for (key, id) in slice.entries.iter() {
                self.queues.entry(key).or_default().push(*slice_end, id, tables);
            }
        }
        self.taken_in = end;
        self.queues.keys().copied().collect()
    }

    /// The accumulators of a key in the window that was begun.
    pub(super) fn combined(&mut self, key: KeySlot, tables: &mut Tables<'_>) -> AccumulatorId {
        let scratch = *self.scratch.get_or_insert_with(|| tables.create_scratch());
        let queue = self.queues.get(&key).expect("a key of a window that is firing has a queue");
        queue.sum(scratch, tables).expect("a queue holds a slice")
    }

    /// Ends the firing of this window: lets go of what the next one lacks. Returns the slices that are through with their last
    /// window, by their ends.
    pub(super) fn finish(&mut self, end: EventTime, slices: &Slices, tables: &mut Tables<'_>) -> Vec<EventTime> {
        let until = self.left_behind(end);
        let mut through = Vec::new();
        for (slice_end, slice) in slices.range((Excluded(self.window(end).start), Included(until))) {
            through.push(*slice_end);
            for (key, _) in slice.entries.iter() {
                if let Some(queue) = self.queues.get_mut(&key) {
                    queue.evict(until, tables);
                    if queue.is_empty() {
                        self.queues.remove(&key);
                    }
                }
            }
        }
        through
    }

    /// Whether the window after this one has slices that were in this one.
    pub(super) fn goes_on(&self, end: EventTime, slices: &Slices) -> bool {
        let until = self.left_behind(end);
        until < end && slices.range((Excluded(until), Included(end))).next().is_some()
    }

    /// Makes the queue of a key anew, after one of its slices was changed: for the window that fires next, if there is one.
    pub(super) fn renew(&mut self, key: KeySlot, next: Option<EventTime>, slices: &Slices, tables: &mut Tables<'_>) {
        let mut queue = self.queues.remove(&key).unwrap_or_default();
        queue.clear(tables);
        let from = next.map_or(EventTime::MAX, |next| self.window(next).start);
        if from < self.taken_in {
            fill(&mut queue, key, from, self.taken_in, slices, tables);
        }
        if !queue.is_empty() {
            self.queues.insert(key, queue);
        }
    }

    /// Combines windows of a key that have fired already, by their ends, ascending. Each goes to `combined`, with its revision.
    pub(super) fn again(
        &mut self,
        key: KeySlot,
        ends: &[EventTime],
        slices: &Slices,
        tables: &mut Tables<'_>,
        mut combined: impl FnMut(TimeWindow, AccumulatorId, u32, &mut Tables<'_>),
    ) {
        let scratch = *self.scratch.get_or_insert_with(|| tables.create_scratch());
        let mut queue = SliceQueue::default();
        let mut taken_in = EventTime::MIN;
        for end in ends {
            let window = self.window(*end);
            queue.evict(window.start, tables);
            fill(&mut queue, key, taken_in.max(window.start), *end, slices, tables);
            taken_in = *end;
            let id = queue.sum(scratch, tables).expect("the row that changed the window is in it");
            let revision = self.revisions.next(*end, key);
            combined(window, id, revision, tables);
        }
        queue.clear(tables);
    }

    /// Forgets the windows that end at or before this time.
    pub(super) fn purge(&mut self, until: EventTime, keys: &KeyTable, tracking: Option<&mut Tracking>) {
        self.revisions.purge(until, keys, tracking);
    }
}

/// Pushes the slices of a key that end after `from` and no later than `until`.
fn fill(
    queue: &mut SliceQueue,
    key: KeySlot,
    from: EventTime,
    until: EventTime,
    slices: &Slices,
    tables: &mut Tables<'_>,
) {
    for (end, slice) in slices.range((Excluded(from), Included(until))) {
        if let Some(id) = slice.entries.get(key) {
            queue.push(*end, id, tables);
        }
    }
}
