//! Views: what is made of results, and stays right when they are revised.
//!
//! The model: of the revisions of a window and key, one stands at a time: a [`Fact`]. A late event that refines a result, and a
//! session that swallows another, change the facts: one goes, another comes. A view is a program in differential dataflow over the
//! facts of a window definition (see [`crate::dataflows`]): what it makes of them changes where they change, at a cost that follows
//! the change.
//!
//! ```text
//! results --+--stamps--> closings (first worker) --to all--+
//!           |                                              v
//!           +-------------------------------------------> release --facts--> program --rows--> output --changes--> sinks
//! ```
//!
//! Views move in steps, the same on every worker: see [`closing`]. A step is a time in epoch and event time, and the steps are a
//! chain, although times of the dataflow are only partly ordered: so "the content at a step" has one meaning. Changes are said
//! when the frontier has passed their step, added up: whoever applies them has after each step exactly what a program that begins
//! anew makes of the results that stand, and sees nothing in between. An early result of a window stands until the next one does.
//!
//! Memory is bounded by [`View::retain`]: windows that ended earlier than that leave the facts, and with them the arrangements;
//! nothing is said of it. A view that looks back (a baseline) keeps results longer by its reach, so that no row that may still
//! change depends on what has left.
//!
//! At the end of an epoch every closing in it is done, and its changes are with the sinks. So a checkpoint has the facts and the results
//! that wait, nothing else; after a restart the facts are put in at the least time, and what the programs make of them is the
//! content that was said before.
//!
//! How it fails: a result older than `retain` is left out; the configuration asks for a `retain` that late events do not exceed.
//! Accumulators that cannot be merged end the run.

mod baseline;
pub mod board;
pub mod check;
pub mod closing;
mod compare;
mod fact;
mod fact_table;
mod figure;
pub mod keeper;
mod leaderboard;
pub mod output;
pub mod parts;
pub mod record;
pub mod release;
pub mod retained;
mod rollup;
mod spec;
mod student;
pub mod tournament;

pub use baseline::{Baseline, Measure, Regressed};
pub use board::ViewBoard;
pub use compare::{Compare, Sample, Side, Welch, welch};
pub(crate) use fact::names;
pub use fact::{Fact, Facts, ViewChange, ViewOp, ViewRow, ViewRows};
pub use figure::Figure;
pub use leaderboard::{Board, Leaderboard, Ranked};
pub use rollup::{Figures, Merger, Rollup, put_accumulators};
pub use spec::{OwnView, Program, View, ViewKind};
