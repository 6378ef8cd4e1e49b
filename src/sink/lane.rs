//! What the threads of all sinks have in common: attempts, retries, panics, and an end that can be waited for.

use super::{RetryPolicy, SinkContext};
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::Control;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The sink will do nothing more; the run knows the reason, or its time was up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GaveUp;

/// Runs a sink's operations so that neither an error nor a panic is lost.
pub(super) struct Attempts {
    pub context: SinkContext,
    pub policy: RetryPolicy,
}

impl Attempts {
    /// Does `operation`; its failure is the run's.
    pub fn once<T>(&self, what: &str, operation: impl FnOnce() -> ProcessorResult<T>) -> Result<T, GaveUp> {
        self.guarded(what, operation)?.map_err(|error| self.give_up(what, error, 0))
    }

    /// Does `operation` until it succeeds or the policy says that it is enough.
    pub fn retrying(&self, what: &str, mut operation: impl FnMut() -> ProcessorResult<()>) -> Result<(), GaveUp> {
        let mut retry = 0;
        loop {
            let error = match self.guarded(what, &mut operation)? {
                Ok(()) => {
                    self.context.working();
                    return Ok(());
                }
                Err(error) => error,
            };
            // What a person must decide does not become right by itself.
            let in_vain = matches!(error, ProcessorError::Refused(_)) || self.context.is_over();
            let Some(pause) = self.policy.delay(retry).filter(|_| !in_vain) else {
                return Err(self.give_up(what, error, retry));
            };
            self.context.failed_attempt(error.to_string());
            retry += 1;
            tracing::warn!(
                target: "sink", sink = self.context.name(), retry, of = self.policy.max_retries,
                "{what} failed, trying again in {pause:?}: {error}"
            );
            if self.context.pause(pause) {
                return Err(self.give_up(what, error, retry));
            }
        }
    }

    /// The outer error is a panic, of which the run has been told.
    fn guarded<T>(
        &self,
        what: &str,
        operation: impl FnOnce() -> ProcessorResult<T>,
    ) -> Result<ProcessorResult<T>, GaveUp> {
        catch_unwind(AssertUnwindSafe(operation)).map_err(|panic| {
            let reason = format!("sink `{}` panicked while {what}: {}", self.context.name(), panic_text(&*panic));
            self.context.failed_attempt(reason.clone());
            self.context.control().fail(ProcessorError::Sink(reason));
            GaveUp
        })
    }

    /// Tells the run, unless it has ended anyway: then whoever waits for the end reports the trouble.
    fn give_up(&self, what: &str, error: ProcessorError, retries: u32) -> GaveUp {
        self.context.failed_attempt(error.to_string());
        if !self.context.is_over() {
            let after = if retries == 0 { String::new() } else { format!(" (gave up after {retries} retries)") };
            self.context.control().fail(of_sink(self.context.name(), what, error, &after));
        }
        GaveUp
    }
}

/// The same error, with the sink's name and what it was doing.
fn of_sink(name: &str, what: &str, error: ProcessorError, after: &str) -> ProcessorError {
    let place = format!("sink `{name}`, {what}");
    match error {
        ProcessorError::Kafka(reason) => ProcessorError::Kafka(format!("{place}: {reason}{after}")),
        ProcessorError::Io { context, error } => {
            ProcessorError::Io { context: format!("{place}{after}: {context}"), error }
        }
        ProcessorError::Sink(reason) => ProcessorError::Sink(format!("`{name}`, {what}: {reason}{after}")),
        ProcessorError::Config(reason) => ProcessorError::Config(format!("{place}: {reason}")),
        ProcessorError::State(reason) => ProcessorError::State(format!("{place}: {reason}")),
        ProcessorError::Refused(reason) => ProcessorError::Refused(format!("{place}: {reason}")),
        other => ProcessorError::Sink(format!("`{name}`, {what}: {other}{after}")),
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// A thread whose end can be waited for with a time limit.
pub(super) struct LaneThread {
    ended: Receiver<Infallible>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl LaneThread {
    /// Starts `body`. Panics of its sink's operations are named as such, see [`Attempts`].
    pub fn start(context: &SinkContext, body: impl FnOnce() + Send + 'static) -> ProcessorResult<LaneThread> {
        let (alive, ended): (Sender<Infallible>, _) = bounded(1);
        let handle = context.control().spawn(&format!("sink-{}", context.name()), move || {
            let _alive = alive;
            body();
        })?;
        Ok(LaneThread { ended, handle: Mutex::new(Some(handle)) })
    }

    /// Waits for the thread's end, not beyond `deadline`. Returns whether it has ended.
    pub fn join_until(&self, deadline: Instant) -> bool {
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_deadline(deadline) {
            return false;
        }
        if let Some(handle) = self.handle.lock().ok().and_then(|mut handle| handle.take()) {
            // A panic outside the sink's operations has failed the run, and the lane is not closed.
            let _ = handle.join();
        }
        true
    }
}

/// How long the end may take to deliver what is left.
const DRAIN_LIMIT: Duration = Duration::from_millis(6_500);
/// How long a sink has to end when told that time is up.
const GIVE_UP_LIMIT: Duration = Duration::from_millis(1_500);
/// How long all of it may take from the moment when the end of the run was asked for: a supervisor waits 10 s before it kills.
const END_LIMIT: Duration = Duration::from_millis(8_500);
/// How long a sink that is opening when the end is asked for may take.
const TIME_TO_BEGIN: Duration = Duration::from_millis(500);
/// What even the last of several ends is given.
const LEAST: Duration = Duration::from_millis(200);

/// How long a lane has to deliver what is left, and then to end when told that time is up.
pub(super) fn end_limits(control: Option<&Control>) -> (Duration, Duration) {
    let left = control.and_then(|control| control.time_left(END_LIMIT));
    left.map_or((DRAIN_LIMIT, GIVE_UP_LIMIT), |left| {
        let drain = left.saturating_sub(GIVE_UP_LIMIT).clamp(LEAST, DRAIN_LIMIT);
        (drain, left.saturating_sub(drain).clamp(LEAST, GIVE_UP_LIMIT))
    })
}

/// Waits for all `lanes` to end: until `drained` for what is left to deliver, then until `given_up` for those that were told that
/// time is up. The error names every lane that did not end in good order.
///
/// Where the end was asked for, those that have not begun and have nothing to deliver are not waited for: a thread whose sink is
/// stuck while it opens ends when that returns.
pub(super) fn finish_lanes(
    lanes: &[(&SinkContext, &LaneThread)],
    drained: Instant,
    given_up: Instant,
) -> ProcessorResult<()> {
    let begin_until = drained.min(Instant::now() + TIME_TO_BEGIN);
    let begins_in_vain = |(context, thread): &&(&SinkContext, &LaneThread)| {
        let asked = context.control().is_stopping();
        asked && context.has_not_begun() && !thread.join_until(begin_until) && context.has_not_begun()
    };
    let (in_vain, lanes): (Vec<_>, Vec<_>) = lanes.iter().partition(begins_in_vain);
    in_vain.iter().for_each(|(context, _)| context.set_over());
    for (_, thread) in &lanes {
        thread.join_until(drained);
    }
    for (context, thread) in &lanes {
        if !thread.join_until(Instant::now()) {
            context.set_over();
        }
    }
    let mut reasons = Vec::new();
    for (context, thread) in &lanes {
        let ended = thread.join_until(given_up);
        if !(ended && context.is_closed()) {
            reasons.push(not_finished(context, ended));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(ProcessorError::Sink(reasons.join("; "))) }
}

/// Why the lane of `context` is not closed.
fn not_finished(context: &SinkContext, ended: bool) -> String {
    let how = if ended { "ended early" } else { "is stuck: it did not end in time" };
    let trouble = context.trouble().map_or(String::new(), |trouble| format!(": {}", trouble.reason));
    format!("`{}` {how}, {} rows are not acknowledged{trouble}", context.name(), context.pending())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_was_asked_for_shares_its_time() {
        let control = Control::new();
        assert_eq!(end_limits(Some(&control)), (DRAIN_LIMIT, GIVE_UP_LIMIT));
        assert_eq!(end_limits(None), (DRAIN_LIMIT, GIVE_UP_LIMIT));
        control.stop();
        std::thread::sleep(Duration::from_millis(600));
        let (drain, give_up) = end_limits(Some(&control));
        assert!(drain < DRAIN_LIMIT && drain >= LEAST, "{drain:?}");
        assert!(drain + give_up < END_LIMIT, "{drain:?} {give_up:?}");
        assert_eq!(control.time_left(Duration::from_millis(500)), Some(Duration::ZERO));
    }
}
