//! Results in, two groups side by side out.
//!
//! ```text
//! facts --+--> (window, other fields) of the champion ----+--join--> rows
//!         +--> (window, other fields) of the challenger --+
//! ```

use crate::view::{Compare, Facts, Side, ViewRows};

/// Wires the program.
pub fn compare<'scope>(facts: Facts<'scope>, view: &Compare) -> ViewRows<'scope> {
    let (choosing, showing) = (view.clone(), view.clone());
    let sides = facts.flat_map(move |fact| choosing.side(&fact));
    let of = |wanted: Side| {
        sides.clone().flat_map(move |(group, (side, sample))| (side == wanted).then_some((group, sample)))
    };
    of(Side::Champion).join_map(of(Side::Challenger), move |(window, key), champion, challenger| {
        showing.row(*window, key, champion, challenger)
    })
}
