//! What workers tell each other about their sources.
//!
//! The model: a worker whose partitions are all idle must not hold the frontier back, but must keep a capability to be able to
//! come back. So it moves that capability along with the workers that do read: to the least watermark of an active partition
//! anywhere, or, when none is active, to the greatest watermark that any partition had. Each worker's word is broadcast through
//! the dataflow, so it reaches other processes too; a word that is late only makes the frontier late.

use crate::event::WorkerIndex;
use crate::time::{EventTime, Time};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;

/// One worker's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerWord {
    /// Who says it.
    pub worker: WorkerIndex,
    /// The least watermark of its active partitions; `None` when it has none.
    pub least_active: Option<EventTime>,
    /// The greatest watermark that any of its partitions had.
    pub greatest: EventTime,
    /// Where everything is complete that its events are part of; [`EventTime::MIN`] where it had none.
    pub complete_at: EventTime,
    /// The watermark of each of its partitions, [`EventTime::MAX`] for one that is idle or has ended; `None` where nobody asks, and
    /// while it does not know its partitions.
    pub watermarks: Option<Vec<EventTime>>,
}

/// The last word of every worker. Clones are the same table.
#[derive(Clone, Debug)]
pub struct PeerTable {
    words: Rc<RefCell<Vec<PeerWord>>>,
}

impl PeerTable {
    /// Of `peers` workers that have said nothing: each is taken to be active from the beginning of time.
    pub fn new(peers: usize) -> Self {
        let silent = |worker| PeerWord {
            worker: WorkerIndex(worker as u32),
            least_active: Some(EventTime::MIN),
            greatest: EventTime::MIN,
            complete_at: EventTime::MIN,
            watermarks: None,
        };
        Self { words: Rc::new(RefCell::new((0..peers).map(silent).collect())) }
    }

    /// Takes note of a word.
    pub fn hear(&self, word: PeerWord) {
        if let Some(slot) = self.words.borrow_mut().get_mut(word.worker.0 as usize) {
            *slot = word;
        }
    }

    /// Where a worker without an active partition may move its capability.
    pub fn where_the_others_are(&self) -> EventTime {
        let words = self.words.borrow();
        let least_active = words.iter().filter_map(|word| word.least_active).min();
        least_active.unwrap_or_else(|| words.iter().map(|word| word.greatest).max().unwrap_or(EventTime::MIN))
    }

    /// The watermarks of all partitions of all workers; `None` until every worker has said them.
    pub fn watermarks(&self) -> Option<Vec<EventTime>> {
        let words = self.words.borrow();
        let of_each: Option<Vec<&Vec<EventTime>>> = words.iter().map(|word| word.watermarks.as_ref()).collect();
        of_each.map(|of_each| of_each.into_iter().flatten().copied().collect())
    }

    /// Where everything is complete that the events of all workers are part of, if no worker has an active partition.
    pub fn all_idle(&self) -> Option<EventTime> {
        let words = self.words.borrow();
        let all = words.iter().all(|word| word.least_active.is_none());
        all.then(|| words.iter().map(|word| word.complete_at).max().unwrap_or(EventTime::MIN))
    }
}

/// Brings the words of all workers to each.
pub fn hear_peers(words: Stream<'_, Time, Vec<PeerWord>>, table: PeerTable) {
    if words.scope().peers() == 1 {
        return;
    }
    let words = words.broadcast();
    let mut builder = OperatorBuilder::new("peers".to_owned(), words.scope());
    let mut input = builder.new_input(words, Pipeline);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            input.for_each(|_capability, words| words.drain(..).for_each(|word| table.hear(word)));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(worker: u32, least_active: Option<i64>, greatest: i64) -> PeerWord {
        PeerWord {
            worker: WorkerIndex(worker),
            least_active: least_active.map(EventTime::from_millis),
            greatest: EventTime::from_millis(greatest),
            complete_at: EventTime::from_millis(greatest + 10),
            watermarks: Some(vec![EventTime::from_millis(greatest)]),
        }
    }

    #[test]
    fn nobody_moves_before_everybody_has_spoken() {
        let table = PeerTable::new(2);
        table.hear(word(0, None, 50));
        assert_eq!(table.where_the_others_are(), EventTime::MIN);
    }

    #[test]
    fn the_idle_follow_the_slowest_that_reads() {
        let table = PeerTable::new(3);
        table.hear(word(0, None, 90));
        assert_eq!(table.watermarks(), None, "two have not spoken");
        table.hear(word(1, Some(40), 70));
        table.hear(word(2, Some(60), 60));
        assert_eq!(table.watermarks(), Some([90, 70, 60].map(EventTime::from_millis).to_vec()));
        assert_eq!(table.where_the_others_are(), EventTime::from_millis(40));
    }

    #[test]
    fn when_all_are_idle_the_latest_watermark_holds() {
        let table = PeerTable::new(2);
        table.hear(word(0, None, 90));
        assert_eq!(table.all_idle(), None, "one has not spoken");
        table.hear(word(1, None, 70));
        assert_eq!(table.where_the_others_are(), EventTime::from_millis(90));
        assert_eq!(table.all_idle(), Some(EventTime::from_millis(100)));
        table.hear(word(1, Some(70), 70));
        assert_eq!(table.all_idle(), None);
    }
}
