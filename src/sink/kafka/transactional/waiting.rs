//! Waiting for brokers, without an end but that of the run.

use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::SinkContext;
use std::time::{Duration, Instant};

/// How late a pause notices that the run is over.
const STEP: Duration = Duration::from_millis(10);
/// Between two attempts to reach a broker.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Waits that long, but not beyond the end of the run. Unlike [`SinkContext::pause`] it does not look whether rows are left to
/// write: what is waited for here is the delivery of a published checkpoint. The error is `reason` where the run is over.
pub(super) fn rest(context: &SinkContext, duration: Duration, reason: &str) -> ProcessorResult<()> {
    let until = Instant::now() + duration;
    loop {
        if context.is_over() {
            return Err(ProcessorError::Kafka(format!("{reason}; the run ended first")));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Says that a broker does not answer, and waits before the next attempt.
pub(super) fn wait_for_broker(context: &SinkContext, reason: &str) -> ProcessorResult<()> {
    context.broker_answers(false);
    context.waiting(reason);
    rest(context, PAUSE, reason)
}

/// A broker has answered.
pub(super) fn answered(context: &SinkContext) {
    context.broker_answers(true);
    context.working();
}
