//! Results with their accumulators in, aggregates over fewer key fields out.
//!
//! ```text
//! facts --+--> (group, sums)    ----------------------------------------------------+--> added up --> figures
//!         +--> (group, spread) --> combined in 4,096 buckets --> 256 --> 16 --> all --+
//! ```
//!
//! With custom aggregates, which can only be merged:
//!
//! ```text
//! facts --> (group, accumulators) --> merged in 4,096 buckets --> 256 --> 16 --> all --> figures
//! ```

use crate::view::parts::{Part, Spread, Sums};
use crate::view::tournament::{ALL_LEVELS_CHANGE, tournament};
use crate::view::{Fact, Facts, Figures, Merger, Rollup, ViewRows};
use std::rc::Rc;
use std::sync::Arc;

/// Wires the program.
pub fn rollup<'scope>(facts: Facts<'scope>, view: &Rollup, figures: Figures) -> ViewRows<'scope> {
    let merger = Rc::new(Merger::new(figures));
    match merger.is_subtractable() {
        true => adding(facts, view.clone(), merger),
        false => merging(facts, view.clone(), merger),
    }
}

fn adding<'scope>(facts: Facts<'scope>, view: Rollup, merger: Rc<Merger>) -> ViewRows<'scope> {
    let (parting, showing) = (Rc::clone(&merger), Rc::clone(&merger));
    let members = facts.map(move |fact| {
        let (sums, spread) = parting.parts(&fact.accumulators);
        ((view.group(&fact), fact.key.fnv()), (sums, spread))
    });
    let mut parts = members.clone().explode(|((group, _), (sums, _))| std::iter::once(((group, Part::Sums), sums)));
    if merger.has_spread() {
        let enter = |(member, (_, spread))| Some((member, spread));
        let combine = |parts: &[&Spread]| vec![Spread::combined(parts)];
        let spreads = tournament("rollup spread", ALL_LEVELS_CHANGE, members, enter, combine);
        let once = |(group, spread)| std::iter::once(((group, Part::Spread(spread)), Sums::one()));
        parts = parts.concat(spreads.explode(once));
    }
    parts
        .reduce_named("rollup", move |(window, key), parts: &[(&Part, Sums)], rows| {
            let sums = parts.iter().find_map(|(part, sums)| matches!(part, Part::Sums).then_some(sums));
            let spread = parts.iter().find_map(|(part, _)| match part {
                Part::Spread(spread) => Some(spread),
                Part::Sums => None,
            });
            if let Some(sums) = sums {
                rows.push((showing.row_of(*window, key.clone(), sums, spread), 1));
            }
        })
        .map(|(_group, row)| row)
}

fn merging<'scope>(facts: Facts<'scope>, view: Rollup, merger: Rc<Merger>) -> ViewRows<'scope> {
    let showing = Rc::clone(&merger);
    let enter = move |fact: Fact| Some(((view.group(&fact), fact.key.fnv()), fact.accumulators.clone()));
    let combine = move |parts: &[&Arc<[u8]>]| vec![merger.merge(parts)];
    tournament("rollup", ALL_LEVELS_CHANGE, facts, enter, combine)
        .map(move |((window, key), accumulators)| showing.row(window, key, &accumulators))
}
