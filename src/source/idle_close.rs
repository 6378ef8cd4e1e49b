//! Closing windows by the wall clock, when nothing else will.
//!
//! The model: where every partition of every worker is idle, on evidence, no watermark moves and the last windows would stay open
//! for ever. Who has asked for it (`watermark.close_idle_after`) has them closed after that time: each worker moves its
//! capability to where the windows of all events are complete. Each decides by itself, on the words of all
//! ([`super::peers`]); the frontier is the least of their capabilities, so nothing closes before all have decided, and a
//! worker whose partition returns before that holds it.
//!
//! How it fails: on the safe side. A word that is missing, a partition that loses the evidence of being idle (a broker that does
//! not answer), or an event anywhere starts the time anew. What comes for a window that was closed and is kept (the allowed
//! lateness) refines it, what comes for one that is gone goes to the late side output as `expired`.

use crate::time::EventTime;
use std::time::{Duration, Instant};

/// One worker's clock of how long all have been idle.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleClose {
    after: Option<Duration>,
    /// Since when all have been idle, with what would be closed by moving there.
    since: Option<(Instant, EventTime)>,
}

impl IdleClose {
    /// Closes after this time; `None` is never.
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self { after, since: None }
    }

    /// Where to move now, if the time has come. `all_idle` is where the windows of all events are complete, if all partitions
    /// are idle.
    pub(super) fn look(&mut self, all_idle: Option<EventTime>, now: Instant) -> Option<EventTime> {
        let (after, complete) = (self.after?, all_idle.filter(|complete| *complete > EventTime::MIN));
        let Some(complete) = complete else {
            self.since = None;
            return None;
        };
        match self.since {
            Some((since, expected)) if expected == complete => {
                (now.saturating_duration_since(since) >= after).then_some(complete)
            }
            _ => {
                self.since = Some((now, complete));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(5);

    fn at(millis: i64) -> Option<EventTime> {
        Some(EventTime::from_millis(millis))
    }

    #[test]
    fn windows_close_when_all_have_been_idle_for_the_time() {
        let (mut clock, start) = (IdleClose::new(Some(AFTER)), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(clock.look(at(100), start), None);
        assert_eq!(clock.look(at(100), after(4)), None);
        assert_eq!(clock.look(at(100), after(5)), at(100));
        assert_eq!(clock.look(at(100), after(900)), at(100));
    }

    #[test]
    fn an_active_partition_or_a_new_event_starts_the_time_anew() {
        let (mut clock, start) = (IdleClose::new(Some(AFTER)), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(clock.look(at(100), start), None);
        assert_eq!(clock.look(None, after(4)), None);
        assert_eq!(clock.look(at(100), after(5)), None);
        assert_eq!(clock.look(at(200), after(9)), None);
        assert_eq!(clock.look(at(200), after(13)), None);
        assert_eq!(clock.look(at(200), after(14)), at(200));
    }

    #[test]
    fn nothing_closes_where_nobody_asked_or_nothing_came() {
        let (mut never, mut clock, start) = (IdleClose::new(None), IdleClose::new(Some(AFTER)), Instant::now());
        for secs in [0, 1_000] {
            let now = start + Duration::from_secs(secs);
            assert_eq!(never.look(at(100), now), None);
            assert_eq!(clock.look(Some(EventTime::MIN), now), None);
        }
    }
}
