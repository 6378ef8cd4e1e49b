//! The switch that every thread of a run looks at: stop, and why.
//!
//! The model: one [`Control`] a run, cloned into every thread. `stop` asks for the orderly end; `fail` records the first error
//! and asks for the end as well. Nobody waits on a thread that has died: whoever fails says so here, and the run ends with
//! that reason. So threads of a run are started by [`Control::spawn`], for which a panic is such a failure.

use super::panics;
use crate::checkpoint::failpoint;
use crate::error::{ProcessorError, ProcessorResult};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A handle on a run: to stop it, and to say that it failed. Clones are the same handle.
#[derive(Clone, Default)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<ProcessorError>>,
    changed: Condvar,
    /// When the end was first asked for.
    asked: OnceLock<Instant>,
}

impl Control {
    /// For a run that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the orderly end: stop reading, finish what is in flight, flush, commit.
    pub fn stop(&self) {
        let _guard = self.shared.failure.lock();
        self.shared.asked.get_or_init(Instant::now);
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    /// Records why the run cannot go on, unless another reason was first, and asks for its end.
    pub fn fail(&self, error: ProcessorError) {
        if let Ok(mut failure) = self.shared.failure.lock() {
            // What fails after the first failure mostly follows from it.
            match failure.is_none() && !self.has_failed() {
                true => tracing::error!(target: "processor", "{error}"),
                false => tracing::debug!(target: "processor", "{error}"),
            }
            failure.get_or_insert(error);
        }
        self.shared.asked.get_or_init(Instant::now);
        self.shared.failed.store(true, Ordering::SeqCst);
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    /// Whether the end was asked for.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Whether the run failed: nothing more should be written.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// What is left of `total` since the end was asked for; `None` while it has not been.
    pub fn time_left(&self, total: Duration) -> Option<Duration> {
        self.shared.asked.get().map(|asked| total.saturating_sub(asked.elapsed()))
    }

    /// The reason, once.
    pub fn take_failure(&self) -> Option<ProcessorError> {
        self.shared.failure.lock().ok().and_then(|mut failure| failure.take())
    }

    /// Sleeps, but not past a call of `stop` or `fail`. Returns whether the end was asked for.
    pub fn sleep(&self, duration: Duration) -> bool {
        if let Ok(guard) = self.shared.failure.lock() {
            let _ = self.shared.changed.wait_timeout_while(guard, duration, |_| !self.is_stopping());
        }
        self.is_stopping()
    }

    /// Starts a thread of the run. A panic of it fails the run, with the thread's name and what the panic said; whoever joins the
    /// thread finds it ended in order.
    ///
    /// The error is the system's, which has no room for another thread.
    pub fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> ProcessorResult<JoinHandle<()>> {
        let (control, own_name) = (self.clone(), name.to_owned());
        let guarded = move || {
            let body = || {
                failpoint(&own_name);
                body();
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                let reason = panics::message(&*panic);
                control.fail(ProcessorError::Runtime(format!("the thread `{own_name}` panicked: {reason}")));
            }
        };
        std::thread::Builder::new()
            .name(name.into())
            .spawn(guarded)
            .map_err(|error| ProcessorError::io(format!("cannot start the thread `{name}`"), error))
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control(stopping: {}, failed: {})", self.is_stopping(), self.has_failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_thread_fails_the_run_and_whoever_joins_it_goes_on() {
        let control = Control::new();
        control.spawn("quiet", || {}).unwrap().join().unwrap();
        assert!(!control.is_stopping());
        control.spawn("loud", || panic!("{} is too much", 1)).unwrap().join().unwrap();
        assert!(control.has_failed());
        let reason = control.take_failure().unwrap().to_string();
        assert!(reason.contains("the thread `loud` panicked: 1 is too much"), "{reason}");
    }
}
