//! Rows that time rules out, for all windows or for some.
//!
//! A row that every window definition refuses is dropped to the late side output and counted. One that some refuse while others
//! take it is a row, and goes to the side output as well, with the names of those that refused it; each of them counts it.

use super::{Intake, IntakeRules, PartitionSlot, RecordOrigin};
use crate::event::{Late, Offset, Reason, probable_cause};
use crate::sink::SideRecord;
use crate::time::{EventTime, Span};

/// Why time rules a row out.
pub(super) enum Rejection {
    /// Behind this watermark by so much.
    Late(EventTime, Span),
    /// Its partition was idle, and the frontier was here.
    Expired(EventTime),
    /// Too far ahead of the wall clock.
    Future,
}

impl Rejection {
    fn reason(&self) -> Reason {
        match self {
            Rejection::Late(..) => Reason::Late,
            Rejection::Expired(_) => Reason::Expired,
            Rejection::Future => Reason::Future,
        }
    }

    /// What the row was judged against, and by how much it missed.
    fn missed(&self, time: EventTime) -> (Option<EventTime>, Option<Span>) {
        match self {
            Rejection::Late(watermark, by) => (Some(*watermark), Some(*by)),
            Rejection::Expired(frontier) => (Some(*frontier), Some(frontier.since(time))),
            Rejection::Future => (None, None),
        }
    }

    fn describe(&self, time: EventTime, rules: &IntakeRules) -> String {
        let cause = probable_cause(rules.timestamp_format, time);
        let cause = cause.map(|cause| format!("; {cause}")).unwrap_or_default();
        match self {
            Rejection::Late(watermark, by) => format!(
                "{} ms behind its partition's watermark {watermark}; allowed_lateness is {} ms{cause}",
                by.as_millis(),
                rules.windows.allowed_lateness().as_millis()
            ),
            Rejection::Expired(frontier) => {
                format!("its partition was idle, and the frontier has passed its window: {frontier}{cause}")
            }
            Rejection::Future => {
                let skew = rules.watermark.max_future_skew.as_millis();
                format!("{time} is further ahead of the wall clock than max_future_skew, {skew} ms{cause}")
            }
        }
    }
}

impl Intake {
    /// Drops a row to the late side output.
    #[cold]
    pub(super) fn reject(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        time: EventTime,
        rejection: Rejection,
        payload: Vec<u8>,
        origin: &dyn RecordOrigin,
    ) {
        let state = &mut self.partitions[slot.0 as usize];
        state.dropped[rejection.reason() as usize] += 1;
        let (watermark, late_by) = rejection.missed(time);
        (self.rules.late)(SideRecord {
            reason: rejection.reason(),
            detail: rejection.describe(time, &self.rules),
            origin: state.partition.name.clone(),
            offset,
            timestamp: Some(time),
            watermark,
            late_by,
            refused_by: Vec::new(),
            payload,
            key: origin.key(),
            headers: origin.headers(),
        });
    }

    /// Tells the side output of a row that came too late for some window definitions and was taken by others.
    #[cold]
    pub(super) fn refuse_in_part(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        time: EventTime,
        late: Late,
        payload: Vec<u8>,
        origin: &dyn RecordOrigin,
    ) {
        let partition = &self.partitions[slot.0 as usize].partition;
        let left_behind = partition.returned && late.watermark == self.sending_at;
        let reason = if left_behind { Reason::Expired } else { Reason::Late };
        for definition in late.refused_by.iter() {
            let same = |(at, by, why, _): &&mut (_, _, _, u64)| (*at, *by, *why) == (slot, definition, reason);
            match self.counts.refused.iter_mut().find(same) {
                Some((.., count)) => *count += 1,
                None => self.counts.refused.push((slot, definition, reason, 1)),
            }
        }
        let refused_by = self.rules.windows.names(late.refused_by);
        let late_by = late.watermark.since(time);
        (self.rules.late)(SideRecord {
            reason,
            detail: format!(
                "{} ms behind {}: too late for the windows {}; others took it",
                late_by.as_millis(),
                late.watermark,
                refused_by.join(", ")
            ),
            origin: partition.name.clone(),
            offset,
            timestamp: Some(time),
            watermark: Some(late.watermark),
            late_by: Some(late_by),
            refused_by,
            payload,
            key: origin.key(),
            headers: origin.headers(),
        });
    }
}
