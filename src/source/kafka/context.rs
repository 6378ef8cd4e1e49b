//! What librdkafka tells besides records: log lines and errors of connections.
//!
//! All of it arrives on the helper thread, which serves the consumer's queue. Log lines go on to the program's log (target
//! `librdkafka`), at most one of a kind in ten seconds: a broker that is down is one warning and a count, not a flood.

use crate::error::ProcessorError;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One worker's client.
pub(super) type Client = BaseConsumer<ReaderContext>;

/// The least time between two log lines of a kind.
const QUIET: Duration = Duration::from_secs(10);

/// Collects what librdkafka tells.
#[derive(Default)]
pub(super) struct ReaderContext {
    disturbances: AtomicU64,
    events: Mutex<Events>,
    limits: Mutex<HashMap<String, RateLimit>>,
}

/// What has happened since it was asked last.
#[derive(Default)]
pub(super) struct Events {
    /// The latest trouble with a broker: its reason.
    pub trouble: Option<String>,
    /// No broker is left to ask.
    pub all_down: bool,
    /// The client is of no use any more.
    pub fatal: Option<String>,
}

impl ReaderContext {
    /// How often a broker or a connection was in trouble. Evidence from before a change is worth nothing.
    pub(super) fn disturbances(&self) -> u64 {
        self.disturbances.load(Ordering::Acquire)
    }

    /// Notes trouble with the brokers.
    pub(super) fn disturb(&self, reason: Option<String>) {
        self.disturbances.fetch_add(1, Ordering::AcqRel);
        if let Some(reason) = reason {
            self.with_events(|events| events.trouble = Some(reason));
        }
    }

    /// What has happened since the last call.
    pub(super) fn take_events(&self) -> Events {
        self.with_events(std::mem::take)
    }

    fn with_events<R>(&self, change: impl FnOnce(&mut Events) -> R) -> R {
        // Nothing panics while the lock is held; were it poisoned, the list is whole all the same.
        let mut events = self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut events)
    }

    /// Whether a line of this kind may be logged now, and how many were kept back since the last.
    pub(super) fn may_log(&self, kind: &str) -> Option<u64> {
        let mut limits = self.limits.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        limits.entry(kind.to_owned()).or_default().pass(Instant::now())
    }
}

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel as Level;
        if facility == "FAIL" {
            // A connection broke; not each of these becomes an error as well.
            self.disturb(Some(message.to_owned()));
        }
        match level {
            Level::Debug => tracing::debug!(target: "librdkafka", "{facility}: {message}"),
            Level::Info | Level::Notice => tracing::info!(target: "librdkafka", "{facility}: {message}"),
            Level::Emerg | Level::Alert | Level::Critical | Level::Error | Level::Warning => {
                // "OFFSET" lines name a partition of which records are lost: each is told.
                let kept_back = if facility == "OFFSET" { Some(0) } else { self.may_log(facility) };
                match kept_back {
                    None => {}
                    Some(0) => tracing::warn!(target: "librdkafka", "{facility}: {message}"),
                    Some(more) => {
                        tracing::warn!(target: "librdkafka", "{facility}: {message} (and {more} more of the kind)");
                    }
                }
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::debug!(target: "librdkafka", "statistics: {}", String::from_utf8_lossy(statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        match code {
            // An event about a partition, which the reader sees in its own queue.
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.disturb(None);
                self.with_events(|events| events.all_down = true);
            }
            Some(RDKafkaErrorCode::Fatal) => self.with_events(|events| events.fatal = Some(reason.to_owned())),
            _ => {
                let text = match code {
                    Some(RDKafkaErrorCode::Authentication) => format!("authentication failed: {reason}"),
                    Some(RDKafkaErrorCode::SSL) => format!("TLS failed: {reason}"),
                    _ => reason.to_owned(),
                };
                if let Some(more) = self.may_log("error") {
                    tracing::warn!(target: "kafka", kept_back = more, "{text}");
                }
                self.disturb(Some(text));
            }
        }
    }
}

impl ConsumerContext for ReaderContext {}

/// librdkafka's own words for an error where it has a code.
pub(super) fn error_text(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

/// An error of the library for a client that could not be made.
pub(super) fn creation_error(error: &KafkaError) -> ProcessorError {
    ProcessorError::Config(format!("kafka.consumer: {error}"))
}

/// Lets one pass in [`QUIET`], and counts the others.
#[derive(Debug, Default)]
struct RateLimit {
    passed: Option<Instant>,
    kept_back: u64,
}

impl RateLimit {
    fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.passed.is_some_and(|passed| now.saturating_duration_since(passed) < QUIET) {
            self.kept_back += 1;
            return None;
        }
        self.passed = Some(now);
        Some(std::mem::take(&mut self.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_in_a_while_and_the_others_are_counted() {
        let mut limit = RateLimit::default();
        let start = Instant::now();
        assert_eq!(limit.pass(start), Some(0));
        for millis in [1, 5_000, 9_999] {
            assert_eq!(limit.pass(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(limit.pass(start + QUIET), Some(3));
        assert_eq!(limit.pass(start + QUIET), None);
    }

    #[test]
    fn trouble_with_a_broker_voids_evidence_and_is_told_once() {
        let context = ReaderContext::default();
        assert_eq!(context.disturbances(), 0);
        context.error(KafkaError::Global(RDKafkaErrorCode::SSL), "certificate has expired");
        assert_eq!(context.disturbances(), 1);
        assert_eq!(context.take_events().trouble.as_deref(), Some("TLS failed: certificate has expired"));
        assert_eq!(context.take_events().trouble, None);
    }

    #[test]
    fn the_end_of_a_partition_is_no_trouble() {
        let context = ReaderContext::default();
        context.error(KafkaError::Global(RDKafkaErrorCode::PartitionEOF), "no more messages");
        assert_eq!(context.disturbances(), 0);
    }
}
