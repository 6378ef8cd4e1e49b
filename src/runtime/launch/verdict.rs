//! What follows when a group has ended: decided by how its processes did.

use crate::error::ExitCode;
use std::fmt;
use std::time::Duration;

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// One process's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub process: usize,
    pub end: End,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Everything has ended in order.
    Done,
    /// The group begins again, for this reason.
    Again(String),
    /// It does not: a person has to do something first, or has asked for the end.
    GiveUp(ExitCode, String),
}

/// The longest pause before a start.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// `ends` are in the order in which they came; `asked` is whether the end was asked for.
pub(super) fn verdict(ends: &[Ended], asked: bool) -> Verdict {
    let with = |code: ExitCode| ends.iter().find(move |ended| ended.end == End::Code(code as i32));
    for code in [ExitCode::Refused, ExitCode::Usage] {
        if let Some(ended) = with(code) {
            return Verdict::GiveUp(code, format!("{ended}, and would again: the group is not started again"));
        }
    }
    let Some(culprit) = culprit(ends) else { return Verdict::Done };
    if asked {
        let code = match with(ExitCode::Restart) {
            Some(_) if ends.iter().all(|ended| ended.is_done() || ended.is_code(ExitCode::Restart)) => {
                ExitCode::Restart
            }
            _ => ExitCode::Failed,
        };
        return Verdict::GiveUp(code, format!("{culprit} when the end was asked for"));
    }
    Verdict::Again(culprit.to_string())
}

/// Who has ended otherwise than in order: rather one who began it than one who has lost a peer. `None` where all is in order.
fn culprit(ends: &[Ended]) -> Option<&Ended> {
    let bad = || ends.iter().filter(|ended| !ended.is_done());
    bad().find(|ended| !ended.is_code(ExitCode::Restart)).or_else(|| bad().next())
}

/// How long to wait before the group is started again, when it was `in_a_row` times already: 1, 2, 4, 8, 16, and then 30 seconds.
pub(super) fn pause_before(in_a_row: u32) -> Duration {
    Duration::from_secs(1 << in_a_row.min(5)).min(LONGEST_PAUSE)
}

impl Ended {
    fn is_done(&self) -> bool {
        self.is_code(ExitCode::Done)
    }

    fn is_code(&self, code: ExitCode) -> bool {
        self.end == End::Code(code as i32)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Code(code) => write!(f, "process {} ended with code {code}", self.process),
            End::Signal(signal) => write!(f, "process {} was killed by signal {signal}", self.process),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends<const N: usize>(ends: [End; N]) -> Vec<Ended> {
        ends.into_iter().enumerate().map(|(process, end)| Ended { process, end }).collect()
    }

    #[test]
    fn all_that_end_in_order_are_done() {
        let ends = ends([End::Code(0), End::Code(0)]);
        assert_eq!(verdict(&ends, false), Verdict::Done);
        assert_eq!(verdict(&ends, true), Verdict::Done);
    }

    #[test]
    fn the_reason_is_who_began_it() {
        let again = |ends: &[Ended]| match verdict(ends, false) {
            Verdict::Again(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(again(&ends([End::Code(75), End::Signal(9)])), "process 1 was killed by signal 9");
        assert_eq!(again(&ends([End::Code(0), End::Code(75), End::Code(1)])), "process 2 ended with code 1");
        assert_eq!(again(&ends([End::Code(0), End::Code(75)])), "process 1 ended with code 75");
    }

    #[test]
    fn what_would_fail_again_is_given_up() {
        for code in [ExitCode::Usage, ExitCode::Refused] {
            for asked in [false, true] {
                let verdict = verdict(&ends([End::Code(75), End::Code(code as i32)]), asked);
                assert!(matches!(&verdict, Verdict::GiveUp(found, _) if *found == code), "{verdict:?}");
            }
        }
    }

    #[test]
    fn an_end_that_was_asked_for_is_the_last() {
        let code = |ends: &[Ended]| match verdict(ends, true) {
            Verdict::GiveUp(code, _) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&ends([End::Code(0), End::Code(75)])), ExitCode::Restart);
        assert_eq!(code(&ends([End::Signal(9), End::Code(75)])), ExitCode::Failed);
        assert_eq!(code(&ends([End::Code(1), End::Code(0)])), ExitCode::Failed);
    }

    #[test]
    fn pauses_grow_to_half_a_minute() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 99].map(|n| pause_before(n).as_secs()), [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
