//! Whether a partition is idle: a state machine over evidence, apart from I/O and clocks.
//!
//! The model: silence proves nothing (a slow broker, a paused consumer and a stalled process are silent too). A partition is
//! idle when a broker *says* that there is nothing after the position, the partition has been silent for the idle time-out since
//! a broker first said so, and the broker says so again after that silence. The second word is a lease: it is renewed while the
//! partition stays idle, and when it cannot be renewed the partition is not idle any more.
//!
//! How it fails: on the safe side. A broker that does not answer, a connection that broke or an answer that names a later end
//! makes the partition not idle, and it holds the frontier back until there is new evidence.

use crate::event::Offset;
use std::time::{Duration, Instant};

/// Waits between two questions about one partition.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// Nothing.
    None,
    /// Ask the broker for the partition's end, and bring the answer to [`Idleness::answered`].
    Ask,
    /// Tell the intake that the partition is idle, or that it no longer is.
    Set(bool),
}

/// What is known of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Records come, or nothing is known.
    Reading,
    /// The position was at the end at some time, but evidence was lost since.
    Unsure,
    /// By a broker's word the position has been at the end since then, and no record came.
    AtEnd { since: Instant },
    /// Idle; a broker said so last at that time.
    Idle { confirmed: Instant },
}

/// The evidence about one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idleness {
    timeout: Option<Duration>,
    state: State,
    /// Where the end was by the last evidence.
    end: Offset,
    last_asked: Option<Instant>,
}

impl Idleness {
    /// Of a partition of which nothing is known; `timeout` `None` is never idle.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, state: State::Reading, end: Offset(-1), last_asked: None }
    }

    /// Of a partition that was idle at its position `end` when it was read last, and of which a broker said at `confirmed` that this
    /// is the end still: nothing has come since then.
    pub(super) fn still_idle(timeout: Option<Duration>, end: Offset, confirmed: Instant) -> Self {
        let state = if timeout.is_some() { State::Idle { confirmed } } else { State::Reading };
        Self { timeout, state, end, last_asked: None }
    }

    /// Whether it is idle.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. })
    }

    /// A record came. Answers whether the partition was idle.
    #[inline]
    pub(super) fn record(&mut self) -> bool {
        let was_idle = self.is_idle();
        self.state = State::Reading;
        was_idle
    }

    /// A fetch that a broker answered came to the end of the partition, `end`.
    ///
    /// At a new end the silence begins anew: something moved it (a transaction's marker, where no record came).
    pub(super) fn end_reached(&mut self, end: Offset, now: Instant) -> IdleAction {
        let was_idle = self.is_idle();
        if was_idle && end == self.end {
            // The first fetch after a restart.
            self.state = State::Idle { confirmed: now };
            return IdleAction::None;
        }
        self.end = end;
        self.state = State::AtEnd { since: now };
        if was_idle { IdleAction::Set(false) } else { IdleAction::None }
    }

    /// A connection broke or a broker did not answer: what was known is worth nothing.
    pub(super) fn disturbed(&mut self) -> IdleAction {
        match self.state {
            State::Reading | State::Unsure => IdleAction::None,
            State::AtEnd { .. } => {
                self.lose_evidence();
                IdleAction::None
            }
            State::Idle { .. } => {
                self.lose_evidence();
                IdleAction::Set(false)
            }
        }
    }

    fn lose_evidence(&mut self) {
        self.state = State::Unsure;
        self.last_asked = None;
    }

    /// A broker said at `asked_at` or later that the partition's end is `end`.
    pub(super) fn answered(&mut self, end: Offset, asked_at: Instant, now: Instant) -> IdleAction {
        let Some(timeout) = self.timeout else { return IdleAction::None };
        match self.state {
            // A record came after the question, or nothing was asked.
            State::Reading => IdleAction::None,
            State::Idle { .. } if end != self.end => {
                self.state = State::Reading;
                IdleAction::Set(false)
            }
            _ if end != self.end => {
                self.state = State::Reading;
                IdleAction::None
            }
            State::Unsure => {
                self.state = State::AtEnd { since: now };
                IdleAction::None
            }
            // Only a word that was asked for after the silence counts.
            State::AtEnd { since } if asked_at.saturating_duration_since(since) >= timeout => {
                self.state = State::Idle { confirmed: asked_at };
                IdleAction::Set(true)
            }
            State::AtEnd { .. } => IdleAction::None,
            State::Idle { .. } => {
                self.state = State::Idle { confirmed: asked_at };
                IdleAction::None
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> IdleAction {
        let Some(timeout) = self.timeout else { return IdleAction::None };
        let patience = timeout.max(LEAST_PATIENCE);
        match self.state {
            State::Reading => IdleAction::None,
            State::Unsure => self.ask(now),
            State::AtEnd { since } if now.saturating_duration_since(since) >= timeout => self.ask(now),
            State::AtEnd { .. } => IdleAction::None,
            State::Idle { confirmed } => {
                let age = now.saturating_duration_since(confirmed);
                if age >= 3 * patience {
                    self.lose_evidence();
                    IdleAction::Set(false)
                } else if age >= patience {
                    self.ask(now)
                } else {
                    IdleAction::None
                }
            }
        }
    }

    fn ask(&mut self, now: Instant) -> IdleAction {
        let due = self.last_asked.is_none_or(|asked| now.saturating_duration_since(asked) >= LEAST_PATIENCE);
        if !due {
            return IdleAction::None;
        }
        self.last_asked = Some(now);
        IdleAction::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const END: Offset = Offset(42);

    struct Scene {
        idleness: Idleness,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { idleness: Idleness::new(Some(TIMEOUT)), start: Instant::now() }
        }
        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }
        fn tick(&mut self, millis: u64) -> IdleAction {
            self.idleness.tick(self.start + Duration::from_millis(millis))
        }
        fn end(&mut self, millis: u64) {
            self.idleness.end_reached(END, self.start + Duration::from_millis(millis));
        }
        fn answer(&mut self, end: Offset, asked: u64, now: u64) -> IdleAction {
            let (asked, now) = (self.at(asked), self.at(now));
            self.idleness.answered(end, asked, now)
        }
        fn idle(millis: u64) -> Self {
            let mut scene = Self::new();
            scene.end(0);
            assert_eq!(scene.tick(millis), IdleAction::Ask);
            assert_eq!(scene.answer(END, millis, millis + 1), IdleAction::Set(true));
            scene
        }
    }

    #[test]
    fn a_timer_alone_never_makes_it_idle() {
        let mut scene = Scene::new();
        assert_eq!(scene.tick(3_600_000), IdleAction::None);
        scene.end(3_600_000);
        assert_eq!(scene.tick(3_604_999), IdleAction::None);
        for second in 1..100u64 {
            // It asks, and nobody answers.
            assert_eq!(scene.tick(3_604_000 + second * 1000), IdleAction::Ask, "{second}");
        }
    }

    #[test]
    fn the_end_silence_and_the_brokers_word_make_it_idle() {
        let mut scene = Scene::new();
        scene.end(0);
        assert_eq!(scene.tick(4_999), IdleAction::None);
        assert_eq!(scene.tick(5_000), IdleAction::Ask);
        assert_eq!(scene.tick(5_001), IdleAction::None, "one question at a time");
        assert_eq!(scene.answer(END, 5_000, 5_010), IdleAction::Set(true));
    }

    #[test]
    fn a_record_after_the_question_makes_the_answer_void() {
        let mut scene = Scene::new();
        scene.end(0);
        assert_eq!(scene.tick(5_000), IdleAction::Ask);
        assert!(!scene.idleness.record());
        assert_eq!(scene.answer(END, 5_000, 5_010), IdleAction::None);
        assert_eq!(scene.tick(60_000), IdleAction::None);
    }

    #[test]
    fn a_word_from_before_the_silence_does_not_count() {
        let mut scene = Scene::new();
        scene.end(0);
        assert_eq!(scene.answer(END, 4_999, 5_100), IdleAction::None);
    }

    #[test]
    fn a_later_end_means_that_records_are_on_their_way() {
        let mut scene = Scene::new();
        scene.end(0);
        assert_eq!(scene.tick(5_000), IdleAction::Ask);
        assert_eq!(scene.answer(Offset(43), 5_000, 5_010), IdleAction::None);
        assert_eq!(scene.tick(60_000), IdleAction::None);

        let mut scene = Scene::idle(5_000);
        assert_eq!(scene.answer(Offset(43), 10_000, 10_001), IdleAction::Set(false));
    }

    #[test]
    fn a_disturbance_resets_the_evidence_and_silence_is_counted_anew() {
        let mut scene = Scene::new();
        scene.end(0);
        assert_eq!(scene.idleness.disturbed(), IdleAction::None);
        assert_eq!(scene.tick(5_000), IdleAction::Ask);
        // The broker is back and nothing was written: the silence begins now.
        assert_eq!(scene.answer(END, 5_000, 20_000), IdleAction::None);
        assert_eq!(scene.tick(24_999), IdleAction::None);
        assert_eq!(scene.tick(25_000), IdleAction::Ask);
        assert_eq!(scene.answer(END, 25_000, 25_001), IdleAction::Set(true));
    }

    #[test]
    fn a_disturbance_ends_idleness() {
        let mut scene = Scene::idle(5_000);
        assert_eq!(scene.idleness.disturbed(), IdleAction::Set(false));
        assert_eq!(scene.idleness.disturbed(), IdleAction::None);
        assert_eq!(scene.tick(5_100), IdleAction::Ask);
    }

    #[test]
    fn idleness_is_a_lease() {
        let mut scene = Scene::idle(5_000);
        assert_eq!(scene.tick(9_999), IdleAction::None);
        assert_eq!(scene.tick(10_000), IdleAction::Ask);
        assert_eq!(scene.answer(END, 10_000, 10_001), IdleAction::None);
        assert_eq!(scene.tick(15_000), IdleAction::Ask);
        // No answer: it runs out.
        assert_eq!(scene.tick(24_999), IdleAction::Ask);
        assert_eq!(scene.tick(25_000), IdleAction::Set(false));
    }

    #[test]
    fn a_record_ends_idleness() {
        let mut scene = Scene::idle(5_000);
        assert!(scene.idleness.record());
        assert!(!scene.idleness.record());
        assert_eq!(scene.tick(60_000), IdleAction::None);
    }

    #[test]
    fn what_was_idle_and_has_not_moved_is_idle_still() {
        let start = Instant::now();
        let mut scene = Scene { idleness: Idleness::still_idle(Some(TIMEOUT), END, start), start };
        assert!(scene.idleness.is_idle());
        scene.end(100);
        assert!(scene.idleness.is_idle(), "the first fetch finds the same end");
        // It is a lease like any other.
        assert_eq!(scene.tick(5_100), IdleAction::Ask);
        assert_eq!(scene.answer(END, 5_100, 5_101), IdleAction::None);
        assert_eq!(scene.answer(Offset(43), 10_000, 10_001), IdleAction::Set(false));

        let mut moved = Idleness::still_idle(Some(TIMEOUT), END, start);
        assert_eq!(moved.end_reached(Offset(44), start), IdleAction::Set(false));
        assert!(!Idleness::still_idle(None, END, start).is_idle());
    }

    #[test]
    fn without_a_timeout_it_is_never_idle() {
        let mut idleness = Idleness::new(None);
        let start = Instant::now();
        idleness.end_reached(END, start);
        let later = start + Duration::from_secs(1_000);
        assert_eq!(idleness.tick(later), IdleAction::None);
        assert_eq!(idleness.answered(END, later, later), IdleAction::None);
    }
}
