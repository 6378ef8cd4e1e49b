//! What has to do with the disk is tried again until it works.
//!
//! How it fails: each failure is counted, told to the status and logged; then it waits, longer each time. It is given up only when
//! the run fails or its time to end is up, or where what it needs is gone for good: that fails the run, as the next start can go on
//! from the checkpoint before.

use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::Control;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After so many attempts it is asked whether something is gone: a file on another machine may take a while to show.
const PATIENT_ATTEMPTS: u32 = 3;
/// How late it notices that it is to be given up.
const STEP: Duration = Duration::from_millis(10);

/// Told of each failed attempt: what was tried, and why it failed.
pub type FailureObserver = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How things are tried.
#[derive(Clone)]
pub struct Attempts {
    control: Control,
    /// Set when the time to end is up.
    over: Arc<AtomicBool>,
    failed: FailureObserver,
}

impl Attempts {
    /// Of this run; `failed` is told of each failure.
    pub fn new(control: Control, failed: FailureObserver) -> Self {
        Self { control, over: Arc::default(), failed }
    }

    /// The run's switch.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// From now on nothing is tried again.
    pub fn give_up(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether it makes no sense to go on.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.control.has_failed()
    }

    /// Tries until it works. `None` where it is given up.
    pub fn until_it_works<T>(&self, what: &str, attempt: impl FnMut() -> ProcessorResult<T>) -> Option<T> {
        self.until_it_works_unless(what, || None, attempt)
    }

    /// The same; where `lost` says why it never will, the run fails.
    pub fn until_it_works_unless<T>(
        &self,
        what: &str,
        lost: impl Fn() -> Option<String>,
        mut attempt: impl FnMut() -> ProcessorResult<T>,
    ) -> Option<T> {
        let mut pause = FIRST_PAUSE;
        let mut failures = 0;
        loop {
            match attempt() {
                Ok(done) => return Some(done),
                // Another run has taken over: trying again would be of no use.
                Err(error @ ProcessorError::Refused(_)) => {
                    self.control.fail(error);
                    return None;
                }
                Err(error) => {
                    tracing::warn!(target: "checkpoint", "{what} failed and is tried again in {pause:?}: {error}");
                    (self.failed)(what, &error.to_string());
                }
            }
            failures += 1;
            if let Some(reason) = lost().filter(|_| failures >= PATIENT_ATTEMPTS) {
                self.control.fail(ProcessorError::State(format!("{what} cannot work any more: {reason}")));
                return None;
            }
            if self.wait(pause) {
                return None;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until something is so. `false` where it is given up.
    pub fn wait_until(&self, mut is_so: impl FnMut() -> bool) -> bool {
        while !is_so() {
            if self.wait(Duration::from_millis(2)) {
                return false;
            }
        }
        true
    }

    /// Returns whether it is over.
    fn wait(&self, pause: Duration) -> bool {
        let mut left = pause;
        while !left.is_zero() && !self.is_over() {
            let step = left.min(STEP);
            std::thread::sleep(step);
            left -= step;
        }
        self.is_over()
    }
}
