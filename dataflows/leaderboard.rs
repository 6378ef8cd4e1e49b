//! Results in, the best keys of each window out.
//!
//! ```text
//! facts --> (board, ranked key) --> best of 4,096 buckets --> of 256 --> of 16 --> of all --> ranks
//! ```

use crate::view::tournament::tournament;
use crate::view::{Facts, Leaderboard, ViewRows};

/// Wires the program.
pub fn leaderboard<'scope>(facts: Facts<'scope>, view: &Leaderboard) -> ViewRows<'scope> {
    let (entering, choosing, ranking) = (view.clone(), view.clone(), view.clone());
    let entries = facts.flat_map(move |fact| {
        let hash = fact.key.fnv();
        entering.entry(&fact).map(|(board, ranked)| ((board, hash), ranked))
    });
    let best = tournament("leaderboard", entries, move |keys| choosing.best(keys));
    best.reduce_named("ranks", move |(window, _board), keys, rows| {
        rows.extend(ranking.rows(*window, keys.iter().map(|(key, _)| *key)).into_iter().map(|row| (row, 1)));
    })
    .map(|(_board, row)| row)
}
