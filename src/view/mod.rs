mod baseline;
mod compare;
mod fact;
mod figure;
mod leaderboard;
mod rollup;
mod student;
pub mod tournament;

pub use baseline::{Baseline, Measure, Regressed};
pub use compare::{Compare, Sample, Side, Welch, welch};
pub use fact::{Fact, Facts, ViewChange, ViewOp, ViewRow, ViewRows};
pub(crate) use fact::names;
pub use figure::Figure;
pub use leaderboard::{Leaderboard, Ranked};
pub use rollup::{Figures, Merger, Rollup, put_accumulators};
