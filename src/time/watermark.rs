//! A partition's watermark and what it decides about an event.
//!
//! The model: `watermark = max timestamp seen - max_out_of_orderness`, updated per record, one per partition. The decision
//! about an event uses the watermark of its own partition as it was before the event, so it is a function of the partition's
//! content and order alone: batching, worker counts and crashes cannot change it.

use super::{EventTime, Span};
use std::time::Duration;

/// The watermark of a stream whose events are at most `max_out_of_orderness` behind the latest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundedOutOfOrdernessWatermark {
    max_out_of_orderness: Span,
}

impl BoundedOutOfOrdernessWatermark {
    /// Events may be up to `max_out_of_orderness` behind the latest one and still be on time.
    pub fn new(max_out_of_orderness: Duration) -> Self {
        Self { max_out_of_orderness: max_out_of_orderness.into() }
    }

    /// The bound.
    pub fn max_out_of_orderness(&self) -> Span {
        self.max_out_of_orderness
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// At or after the watermark.
    OnTime,
    /// Behind the watermark by no more than the allowed lateness.
    Accepted,
    /// Further behind; by this much.
    TooLate(Span),
}

/// The watermark of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    max_seen: EventTime,
    watermark: EventTime,
    max_out_of_orderness: Span,
}

impl PartitionWatermark {
    /// Of a partition that has shown no event.
    pub fn new(max_out_of_orderness: Span) -> Self {
        Self { max_seen: EventTime::MIN, watermark: EventTime::MIN, max_out_of_orderness }
    }

    /// Of a partition whose latest event was at `max_seen`; [`EventTime::MIN`] where it has shown none.
    pub fn restored(max_out_of_orderness: Span, max_seen: EventTime) -> Self {
        let mut watermark = Self::new(max_out_of_orderness);
        watermark.observe(max_seen);
        watermark
    }

    /// The latest event time seen; [`EventTime::MIN`] before the first event.
    pub fn max_seen(&self) -> EventTime {
        self.max_seen
    }

    /// The watermark: no event before it is expected.
    #[inline]
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Judges an event against the watermark as it is, before [`PartitionWatermark::observe`].
    #[inline]
    pub fn judge(&self, event: EventTime, allowed_lateness: Span) -> Lateness {
        if event >= self.watermark {
            Lateness::OnTime
        } else if event >= self.watermark.saturating_sub(allowed_lateness) {
            Lateness::Accepted
        } else {
            Lateness::TooLate(self.watermark.since(event))
        }
    }

    /// Takes note of an event's time.
    #[inline]
    pub fn observe(&mut self, event: EventTime) {
        if event > self.max_seen {
            self.max_seen = event;
            self.watermark = event.saturating_sub(self.max_out_of_orderness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> EventTime {
        EventTime::from_millis(millis)
    }

    #[test]
    fn the_formula_of_the_watermark() {
        let mut partition = PartitionWatermark::new(Span::from_millis(30));
        assert_eq!(partition.watermark(), EventTime::MIN);
        partition.observe(at(100));
        assert_eq!(partition.watermark(), at(70));
        partition.observe(at(90));
        assert_eq!(partition.watermark(), at(70));
    }

    #[test]
    fn the_decision_at_its_edges() {
        let mut partition = PartitionWatermark::new(Span::from_millis(30));
        partition.observe(at(100));
        let lateness = Span::from_millis(10);
        assert_eq!(partition.judge(at(70), lateness), Lateness::OnTime);
        assert_eq!(partition.judge(at(69), lateness), Lateness::Accepted);
        assert_eq!(partition.judge(at(60), lateness), Lateness::Accepted);
        assert_eq!(partition.judge(at(59), lateness), Lateness::TooLate(Span::from_millis(11)));
    }

    #[test]
    fn what_was_seen_is_all_there_is_to_restore() {
        let bound = Span::from_millis(30);
        let mut partition = PartitionWatermark::new(bound);
        assert_eq!(PartitionWatermark::restored(bound, partition.max_seen()), partition);
        for time in [100, 90, 250] {
            partition.observe(at(time));
            assert_eq!(PartitionWatermark::restored(bound, partition.max_seen()), partition);
        }
    }

    #[test]
    fn before_the_first_event_everything_is_on_time() {
        let partition = PartitionWatermark::new(Span::ZERO);
        assert_eq!(partition.judge(EventTime::MIN, Span::ZERO), Lateness::OnTime);
    }
}
