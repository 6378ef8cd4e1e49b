//! How often a failed write is tried again, and how long it waits in between.

use crate::config::ErrorHandling;
use std::time::Duration;

/// What becomes of a failed write: it is tried again after pauses that double, a bounded number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a write is tried again after it failed; 0 gives up at once.
    pub max_retries: u32,
    /// The pause before the first retry.
    pub initial_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
}

impl RetryPolicy {
    /// The pause before retry number `retry` (from 0), or `None` when it is time to give up.
    pub fn delay(&self, retry: u32) -> Option<Duration> {
        if retry >= self.max_retries {
            return None;
        }
        let factor = 2u32.checked_pow(retry).unwrap_or(u32::MAX);
        Some(self.initial_delay.saturating_mul(factor).min(self.max_delay))
    }
}

impl From<&ErrorHandling> for RetryPolicy {
    fn from(config: &ErrorHandling) -> Self {
        RetryPolicy {
            max_retries: config.max_retries,
            initial_delay: config.initial_retry_delay,
            max_delay: config.max_retry_delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let policy = RetryPolicy {
            max_retries: 5,
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(500),
        };
        let pauses: Vec<_> = (0..7).map(|retry| policy.delay(retry).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(400), Some(500), Some(500), None, None]);
    }

    #[test]
    fn a_great_many_retries_do_not_overflow() {
        let policy = RetryPolicy {
            max_retries: u32::MAX,
            initial_delay: Duration::from_secs(u64::MAX / 2),
            max_delay: Duration::from_secs(60),
        };
        assert_eq!(policy.delay(4_000_000_000), Some(Duration::from_secs(60)));
    }
}
