//! What a sink knows of the run it works for, and what the run knows of its sinks.
//!
//! The model: each sink (and side output) has one [`SinkContext`], shared by its thread and by the handle that feeds it. It
//! counts what was handed over and is not yet durable, holds the trouble the sink is in, and says when waiting is over.

use crate::runtime::Control;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often one and the same outage is logged again.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How late a pause notices that waiting is over.
const PAUSE_STEP: Duration = Duration::from_millis(10);

/// Told of what sinks do, for metrics. Called from the sinks' threads.
pub trait SinkObserver: Send + Sync {
    /// `rows` more are durable in `sink`.
    fn sent(&self, sink: &str, rows: u64) {
        let _ = (sink, rows);
    }

    /// A batch became durable in `sink` this long after it was submitted.
    fn latency(&self, sink: &str, latency: Duration) {
        let _ = (sink, latency);
    }

    /// A Kafka broker answers `sink`, or none does. Told when it turns out, at each attempt to deliver.
    fn broker_answers(&self, sink: &str, answers: bool) {
        let _ = (sink, answers);
    }

    /// A write to `sink` failed, or its destination is away; it is tried again or the run ends.
    fn error(&self, sink: &str) {
        let _ = sink;
    }
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl SinkObserver for NoObserver {}

/// What keeps a sink from working at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The sink's name.
    pub sink: String,
    /// What is wrong, for a person.
    pub reason: String,
}

/// A sink's view of the run. Clones are the same context.
#[derive(Clone)]
pub struct SinkContext {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    observer: Arc<dyn SinkObserver>,
    control: Control,
    pending: AtomicU64,
    given: AtomicU64,
    done: AtomicU64,
    errors: AtomicU64,
    ready: AtomicBool,
    closing: AtomicBool,
    closed: AtomicBool,
    over: AtomicBool,
    trouble: Mutex<TroubleState>,
}

#[derive(Default)]
struct TroubleState {
    reason: Option<String>,
    logged: Option<Instant>,
}

impl SinkContext {
    /// For the sink `name` of the run that `control` steers.
    pub fn new(name: impl Into<String>, observer: Arc<dyn SinkObserver>, control: Control) -> Self {
        let shared = Shared {
            name: name.into(),
            observer,
            control,
            pending: AtomicU64::new(0),
            given: AtomicU64::new(0),
            done: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            trouble: Mutex::default(),
        };
        SinkContext { shared: Arc::new(shared) }
    }

    /// The sink's name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The run.
    pub fn control(&self) -> &Control {
        &self.shared.control
    }

    /// Whether waiting makes no sense any more: the run has failed, or its time to end is up.
    pub fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Acquire) || self.shared.control.has_failed()
    }

    /// Whether the orderly end has begun and nothing is left to deliver.
    pub fn nothing_left(&self) -> bool {
        self.is_closing() && self.pending() == 0
    }

    /// Waits, but not beyond the moment when waiting is over or nothing is left to wait for. Returns whether it is over.
    pub fn pause(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration.min(Duration::from_secs(3600));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_over() || self.nothing_left() || left.is_zero() {
                return self.is_over();
            }
            std::thread::sleep(left.min(PAUSE_STEP));
        }
    }

    /// Says that the sink cannot work at the moment and waits: counted, shown as trouble, and logged now and then.
    pub fn waiting(&self, reason: &str) {
        self.count_error();
        let Ok(mut trouble) = self.shared.trouble.lock() else { return };
        if trouble.logged.is_none_or(|at| at.elapsed() >= LOG_AGAIN_AFTER) {
            trouble.logged = Some(Instant::now());
            tracing::warn!(target: "sink", sink = self.name(), pending = self.pending(), "waiting: {reason}");
        }
        trouble.reason = Some(reason.to_owned());
    }

    /// Says that the sink works (again).
    pub fn working(&self) {
        let Ok(mut trouble) = self.shared.trouble.lock() else { return };
        if trouble.reason.take().is_some() {
            trouble.logged = None;
            tracing::info!(target: "sink", sink = self.name(), "working again");
        }
    }

    /// Says whether a Kafka broker answers this sink.
    pub fn broker_answers(&self, answers: bool) {
        self.shared.observer.broker_answers(&self.shared.name, answers);
    }

    /// What keeps the sink from working, if anything does.
    pub fn trouble(&self) -> Option<Trouble> {
        let reason = self.shared.trouble.lock().ok()?.reason.clone()?;
        Some(Trouble { sink: self.shared.name.clone(), reason })
    }

    /// Remembers why the last attempt failed.
    pub(super) fn failed_attempt(&self, reason: String) {
        self.count_error();
        if let Ok(mut trouble) = self.shared.trouble.lock() {
            trouble.reason = Some(reason);
        }
    }

    fn count_error(&self) {
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        self.shared.observer.error(&self.shared.name);
    }

    /// Rows handed over and not yet durable.
    pub(super) fn pending(&self) -> u64 {
        self.shared.pending.load(Ordering::Acquire)
    }

    /// Rows that became durable.
    pub(super) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Acquire)
    }

    /// Failed attempts and outages.
    pub(super) fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// Rows handed over in all.
    pub(super) fn given(&self) -> u64 {
        self.shared.given.load(Ordering::Acquire)
    }

    /// `rows` more are on their way.
    pub(super) fn handed_over(&self, rows: u64) {
        self.shared.given.fetch_add(rows, Ordering::AcqRel);
        self.shared.pending.fetch_add(rows, Ordering::AcqRel);
    }

    /// `rows` of them are durable, the first of which was handed over `latency` ago.
    pub(super) fn delivered(&self, rows: u64) {
        self.shared.done.fetch_add(rows, Ordering::AcqRel);
        self.shared.pending.fetch_sub(rows, Ordering::AcqRel);
        self.shared.observer.sent(&self.shared.name, rows);
    }

    /// `rows` of them are held back by the sink until a checkpoint is published: they are not on their way any more.
    pub(super) fn kept(&self, rows: u64) {
        self.shared.pending.fetch_sub(rows, Ordering::AcqRel);
    }

    /// `rows` that were held back are delivered.
    pub(super) fn delivered_kept(&self, rows: u64) {
        self.shared.done.fetch_add(rows, Ordering::AcqRel);
        self.shared.observer.sent(&self.shared.name, rows);
    }

    /// A batch took this long.
    pub(super) fn took(&self, latency: Duration) {
        self.shared.observer.latency(&self.shared.name, latency);
    }

    /// The sink is open, and has recovered.
    pub(super) fn set_ready(&self) {
        self.shared.ready.store(true, Ordering::Release);
    }

    /// Whether the sink has not come so far as to be given anything, and nothing waits for it. What a checkpoint holds for it, the
    /// next start delivers.
    pub(super) fn has_not_begun(&self) -> bool {
        !self.shared.ready.load(Ordering::Acquire) && self.pending() == 0
    }

    /// The orderly end begins: nothing more will be handed over.
    pub(super) fn begin_closing(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    /// The sink has been closed in good order.
    pub(super) fn set_closed(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Time is up.
    pub(super) fn set_over(&self) {
        self.shared.over.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for SinkContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SinkContext({}, {} pending)", self.name(), self.pending())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::ProcessorError;

    /// A context of no run in particular.
    pub(crate) fn detached() -> SinkContext {
        SinkContext::new("test", Arc::new(NoObserver), Control::new())
    }

    #[test]
    fn trouble_comes_and_goes() {
        let context = detached();
        assert_eq!(context.trouble(), None);
        context.waiting("broker away");
        context.waiting("broker still away");
        assert_eq!(context.trouble(), Some(Trouble { sink: "test".into(), reason: "broker still away".into() }));
        assert_eq!(context.errors(), 2);
        context.working();
        assert_eq!(context.trouble(), None);
    }

    #[test]
    fn a_pause_ends_when_the_run_fails() {
        let context = detached();
        assert!(!context.pause(Duration::from_millis(1)));
        let control = context.control().clone();
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            control.fail(ProcessorError::Sink("elsewhere".into()));
        });
        assert!(context.pause(Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30));
        thread.join().unwrap();
    }

    #[test]
    fn a_pause_ends_when_nothing_is_left() {
        let context = detached();
        context.handed_over(2);
        context.begin_closing();
        assert!(!context.nothing_left());
        context.delivered(2);
        assert!(context.nothing_left());
        let begun = Instant::now();
        assert!(!context.pause(Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
