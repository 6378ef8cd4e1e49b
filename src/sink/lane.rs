//! What the threads of all sinks have in common: attempts, retries, panics, and an end that can be waited for.

use super::{RetryPolicy, SinkContext};
use crate::error::{ProcessorError, ProcessorResult};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Instant;

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
            let Some(pause) = self.policy.delay(retry).filter(|_| !self.context.is_over()) else {
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
    /// Starts `body`. It must let no panic out of its sink's operations, see [`Attempts`].
    pub fn start(name: &str, body: impl FnOnce() + Send + 'static) -> ProcessorResult<LaneThread> {
        let (alive, ended): (Sender<Infallible>, _) = bounded(1);
        let handle = std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || {
                let _alive = alive;
                body();
            })
            .map_err(|error| ProcessorError::io(format!("starting the thread of sink `{name}`"), error))?;
        Ok(LaneThread { ended, handle: Mutex::new(Some(handle)) })
    }

    /// Waits for the thread's end, not beyond `deadline`. Returns whether it has ended.
    pub fn join_until(&self, deadline: Instant) -> bool {
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_deadline(deadline) {
            return false;
        }
        if let Some(handle) = self.handle.lock().ok().and_then(|mut handle| handle.take()) {
            // A panic outside the sink's operations has been printed by the panic hook, and the lane is not closed.
            let _ = handle.join();
        }
        true
    }
}

/// Waits for all `lanes` to end: until `drained` for what is left to deliver, then until `given_up` for those that were told that
/// time is up. The error names every lane that did not end in good order.
pub(super) fn finish_lanes(
    lanes: &[(&SinkContext, &LaneThread)],
    drained: Instant,
    given_up: Instant,
) -> ProcessorResult<()> {
    for (_, thread) in lanes {
        thread.join_until(drained);
    }
    for (context, thread) in lanes {
        if !thread.join_until(Instant::now()) {
            context.set_over();
        }
    }
    let mut reasons = Vec::new();
    for (context, thread) in lanes {
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
