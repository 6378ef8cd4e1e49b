//! Whether the brokers can be reached, for the log and the status.

use super::observer::SourceObserver;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The least time between two lines about the same outage.
const REMINDER: Duration = Duration::from_secs(30);

/// Logs and reports changes, and reminds of an outage now and then.
pub(super) struct Reach {
    observer: Arc<dyn SourceObserver>,
    servers: String,
    /// `None` before the first answer or failure.
    up: Option<bool>,
    since: Instant,
    reminded: Instant,
}

impl Reach {
    pub(super) fn new(observer: Arc<dyn SourceObserver>, servers: String) -> Self {
        observer.broker_state(false, format!("connecting to {servers}"));
        let now = Instant::now();
        Self { observer, servers, up: None, since: now, reminded: now }
    }

    /// Whether the last word was that they cannot be reached.
    pub(super) fn is_down(&self) -> bool {
        self.up == Some(false)
    }

    /// A broker answered.
    pub(super) fn answered(&mut self) {
        if self.up == Some(true) {
            return;
        }
        if self.is_down() {
            let secs = self.since.elapsed().as_secs_f32();
            tracing::info!(target: "kafka", "{} answers again after {secs:.1} s", self.servers);
        } else {
            tracing::info!(target: "kafka", "connected to {}", self.servers);
        }
        self.up = Some(true);
        self.observer.broker_state(true, format!("connected to {}", self.servers));
    }

    /// There is no answer; it will be tried again.
    pub(super) fn failed(&mut self, reason: &str) {
        let now = Instant::now();
        if !self.is_down() {
            tracing::warn!(target: "kafka", "{} cannot be read, trying again until it can: {reason}", self.servers);
            (self.up, self.since, self.reminded) = (Some(false), now, now);
            self.observer.broker_state(false, format!("no answer from {}: {reason}", self.servers));
        } else if now.saturating_duration_since(self.reminded) >= REMINDER {
            self.reminded = now;
            let secs = self.since.elapsed().as_secs();
            tracing::warn!(target: "kafka", "{} cannot be read since {secs} s, trying again: {reason}", self.servers);
            self.observer.broker_state(false, format!("no answer from {} since {secs} s: {reason}", self.servers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(bool, String)>>);

    impl SourceObserver for Heard {
        fn broker_state(&self, up: bool, detail: String) {
            self.0.lock().unwrap().push((up, detail));
        }
    }

    #[test]
    fn changes_are_told_once() {
        let heard = Arc::new(Heard::default());
        let mut reach = Reach::new(heard.clone(), "here:1".into());
        reach.failed("refused");
        reach.failed("refused");
        reach.answered();
        reach.answered();
        let told: Vec<(bool, String)> = heard.0.lock().unwrap().clone();
        assert_eq!(
            told,
            [
                (false, "connecting to here:1".to_owned()),
                (false, "no answer from here:1: refused".to_owned()),
                (true, "connected to here:1".to_owned()),
            ]
        );
    }
}
