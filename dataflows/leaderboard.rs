//! Results in, the best keys of each window out.
//!
//! ```text
//! facts --> (board, ranked key) --> best of 2,048 buckets --> of 256 --> of 16 --> of all, as rows
//! ```

use crate::view::tournament::{LEAVES_CHANGE, tournament_into};
use crate::view::{Board, Fact, Facts, Leaderboard, Ranked, ViewRows};

/// Wires the program.
pub fn leaderboard<'scope>(facts: Facts<'scope>, view: &Leaderboard) -> ViewRows<'scope> {
    let (entering, choosing, ranking) = (view.clone(), view.clone(), view.clone());
    let enter = move |fact: Fact| {
        let hash = fact.key.fnv();
        entering.entry(&fact).map(|(board, ranked)| ((board, hash), ranked))
    };
    let combine = move |keys: &[&Ranked]| choosing.best(keys);
    let finish = move |(window, _board): &Board, keys: &[&Ranked]| ranking.rows(*window, keys.iter().copied());
    tournament_into("leaderboard", LEAVES_CHANGE, facts, enter, combine, finish).map(|(_board, row)| row)
}
