//! Results in, each beside its key's earlier windows out.
//!
//! ```text
//! facts --> (key, block of the series) --> scores --+-------------------------------------> rows
//!                                                   +--> (key, block of windows) --judged--> rows with `regressed`
//! ```
//!
//! A series is cut into blocks as long as a row looks back; a result goes into its own block and the next, so a change is worked
//! out in two blocks, however long results are kept.

use crate::view::{Baseline, Facts, ViewRows};

/// Wires the program.
pub fn baseline<'scope>(facts: Facts<'scope>, view: &Baseline) -> ViewRows<'scope> {
    let (placing, scoring, showing) = (view.clone(), view.clone(), view.clone());
    let points = facts.flat_map(move |fact| placing.points(&fact));
    let scored = points.reduce_named("baseline", move |block, points, scored| {
        let points: Vec<_> = points.iter().map(|(point, _)| *point).collect();
        scored.extend(scoring.score(block, &points).into_iter().map(|scored| (scored, 1)));
    });
    let scored = scored.map(|((key, _phase, _block), scored)| (key, scored));
    let Some(regressed) = view.regressed else {
        return scored.map(move |(key, scored)| showing.row(&key, &scored, None));
    };
    let placing = view.clone();
    let needed = scored.flat_map(move |(key, scored)| {
        placing.judged_in(&regressed, &key, &scored).map(|block| (block, scored.clone()))
    });
    needed
        .reduce_named("regressed", move |block, scored, rows| {
            let scored: Vec<_> = scored.iter().map(|(scored, _)| *scored).collect();
            let judged = regressed.judge(block, &scored);
            rows.extend(
                judged.into_iter().map(|(scored, is_regressed)| (showing.row(&block.0, scored, Some(is_regressed)), 1)),
            );
        })
        .map(|(_block, row)| row)
}
