//! Results with their accumulators in, aggregates over fewer key fields out.
//!
//! ```text
//! facts --> (group, accumulators) --> merged in 4,096 buckets --> 256 --> 16 --> all --> figures
//! ```

use crate::view::tournament::tournament;
use crate::view::{Facts, Figures, Merger, Rollup, ViewRows};
use std::rc::Rc;

/// Wires the program.
pub fn rollup<'scope>(facts: Facts<'scope>, view: &Rollup, figures: Figures) -> ViewRows<'scope> {
    let grouping = view.clone();
    let merger = Rc::new(Merger::new(figures));
    let showing = Rc::clone(&merger);
    let members = facts.map(move |fact| ((grouping.group(&fact), fact.key.fnv()), fact.accumulators.clone()));
    tournament("rollup", members, move |parts| vec![merger.merge(parts)])
        .map(move |((window, key), accumulators)| showing.row(window, key, &accumulators))
}
