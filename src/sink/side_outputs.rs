//! The side outputs of a run together, and how far they have come.
//!
//! The model: each output numbers the records it is given. A [`SideMark`] is how many both had been given at a moment; once both
//! have written that many, everything that was given out before the moment is durable, whatever came since. So offsets can be
//! committed during a flood that never lets an output run empty.

use super::SideOutput;

/// The late output and the dead letters. Clones are the same outputs.
#[derive(Clone, Debug)]
pub struct SideOutputs {
    /// Of records that are too late, expired or of the future.
    pub late: SideOutput,
    /// Of bad records.
    pub dead_letter: SideOutput,
}

/// How many records each side output had been given at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideMark {
    late: u64,
    dead_letter: u64,
}

impl SideOutputs {
    /// How many records each has been given.
    pub fn mark(&self) -> SideMark {
        SideMark { late: self.late.given(), dead_letter: self.dead_letter.given() }
    }

    /// Whether every record that was given before the mark is durable.
    pub fn have_written(&self, mark: SideMark) -> bool {
        self.late.written() >= mark.late && self.dead_letter.written() >= mark.dead_letter
    }

    /// Whether everything given so far is durable.
    pub fn are_settled(&self) -> bool {
        self.late.is_settled() && self.dead_letter.is_settled()
    }
}
