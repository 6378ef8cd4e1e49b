//! How many rows may be on the way.
//!
//! The model: a worker may have [`Credits::limit`] rows between its source and the window operators of all workers. A receiver
//! that has put a batch into its windows returns the batch's rows to the sender with an [`Acknowledgement`], which travels the
//! dataflow like data does, so it works across processes. A receiver whose sinks are behind withholds them: a slow sink thus
//! slows the readers, and memory stays flat.

use crate::event::WorkerIndex;
use serde::{Deserialize, Serialize};
use crate::time::Time;
use std::cell::Cell;
use std::rc::Rc;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::Activator;

/// Rows that a receiver has taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who sent the rows.
    pub sender: WorkerIndex,
    /// How many they were.
    pub rows: u64,
}

/// One worker's account of its rows in flight. Clones are the same account.
#[derive(Clone, Debug)]
pub struct Credits {
    limit: usize,
    in_flight: Rc<Cell<usize>>,
}

impl Credits {
    /// An account with nothing in flight.
    pub fn new(limit: usize) -> Self {
        Self { limit, in_flight: Rc::default() }
    }

    /// How many rows may be sent now.
    pub fn available(&self) -> usize {
        self.limit.saturating_sub(self.in_flight.get())
    }

    /// How many rows are on the way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// The most that may be on the way.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes note of rows sent.
    pub fn spend(&self, rows: usize) {
        self.in_flight.set(self.in_flight.get() + rows);
    }

    /// Takes note of rows that arrived. Returns whether the account was exhausted before: the source waits for this.
    pub fn restore(&self, rows: usize) -> bool {
        let before = self.in_flight.get();
        debug_assert!(rows <= before, "{rows} rows returned of {before}");
        self.in_flight.set(before.saturating_sub(rows));
        before >= self.limit
    }
}

/// Brings acknowledgements home: restores `credits`, and wakes the source if it had run out.
pub fn return_credits(acknowledgements: Stream<'_, Time, Vec<Acknowledgement>>, credits: Credits, source: Activator) {
    let mut builder = OperatorBuilder::new("credits".to_owned(), acknowledgements.scope());
    let pact = Exchange::new(|acknowledgement: &Acknowledgement| u64::from(acknowledgement.sender.0));
    let mut input = builder.new_input(acknowledgements, pact);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            input.for_each(|_capability, acknowledgements| {
                for acknowledgement in acknowledgements.drain(..) {
                    if credits.restore(acknowledgement.rows as usize) {
                        source.activate();
                    }
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back() {
        let credits = Credits::new(10);
        credits.spend(4);
        assert_eq!((credits.available(), credits.in_flight()), (6, 4));
        credits.spend(9);
        assert_eq!(credits.available(), 0);
        assert!(credits.restore(4));
        assert!(!credits.restore(9));
        assert_eq!(credits.in_flight(), 0);
    }
}
