//! Who holds the frontier back, for how long, and why: a pure function of a snapshot.
//!
//! The model: the frontier of the dataflow is the least time that any operator may still see. It rests on the least watermark of
//! the partitions that are neither idle nor closed; where an operator is behind even that, the dataflow or a sink is slow. So
//! the search goes from the outside in: the run's phase, the sources, the partitions, then the operators and the sinks.

use super::snapshot::{OperatorStatus, PartitionView, Phase, Snapshot, SourceState};
use crate::event::{PartitionName, WorkerIndex};
use crate::time::{EventTime, Span};

/// A partition without a record for this long is silent rather than between two records.
const SILENT: Span = Span::from_secs(2);
/// An operator this long without a move, though the partitions are ahead of it, is behind rather than about to follow.
const SLOW: Span = Span::from_secs(2);
/// A sink with fewer results outstanding is working, not holding anything up.
const MANY_RESULTS: u64 = 1_000;

/// The kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The run has failed.
    Failed,
    /// The run is over.
    Finished,
    /// No worker has shown anything yet.
    NotStarted,
    /// A source is connecting, or waits for something outside.
    SourceWaiting,
    /// A partition has shown no event yet, so its watermark is still before every event.
    NoEventYet,
    /// A partition has been silent and is not idle.
    PartitionSilent,
    /// A partition's records come, but their timestamps do not get later.
    PartitionNotAdvancing,
    /// A partition is the furthest behind, and moves.
    PartitionSlowest,
    /// The partitions are ahead; a sink has not acknowledged what it was given.
    SinkBehind,
    /// The partitions are ahead; an operator has not caught up.
    OperatorBehind,
    /// Every partition is idle.
    AllIdle,
    /// Every partition has ended, the last windows are on their way.
    Draining,
}

impl Cause {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Failed => "failed",
            Cause::Finished => "finished",
            Cause::NotStarted => "not_started",
            Cause::SourceWaiting => "source_waiting",
            Cause::NoEventYet => "no_event_yet",
            Cause::PartitionSilent => "partition_silent",
            Cause::PartitionNotAdvancing => "partition_not_advancing",
            Cause::PartitionSlowest => "partition_slowest",
            Cause::SinkBehind => "sink_behind",
            Cause::OperatorBehind => "operator_behind",
            Cause::AllIdle => "all_idle",
            Cause::Draining => "draining",
        }
    }
}

/// What holds the frontier.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HeldBack {
    /// The partition, where it is one.
    pub partition: Option<PartitionName>,
    /// The worker, where it is one worker's doing.
    pub worker: Option<WorkerIndex>,
    /// The operator, where it is one.
    pub operator: Option<&'static str>,
    /// The sink, where it is one.
    pub sink: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What kind it is.
    pub cause: Cause,
    /// The least frontier of all operators; `None` before any is known, and when all are done.
    pub frontier: Option<EventTime>,
    /// How long that has not moved.
    pub held_for: Span,
    /// Who holds it.
    pub held_back_by: HeldBack,
    /// The answer in words, a full sentence without its full stop.
    pub reason: String,
}

/// Says who holds the frontier back at `now`.
pub fn diagnose(snapshot: &Snapshot, now: EventTime) -> Diagnosis {
    let view = View::of(snapshot, now);
    view.by_phase()
        .or_else(|| view.by_source())
        .or_else(|| view.by_partition())
        .unwrap_or_else(|| view.without_partition())
}

struct View<'a> {
    snapshot: &'a Snapshot,
    now: EventTime,
    frontier: Option<EventTime>,
    held_for: Span,
}

impl<'a> View<'a> {
    fn of(snapshot: &'a Snapshot, now: EventTime) -> Self {
        let least = snapshot.least_operator();
        let frontier = least.and_then(|(_, _, status)| status.event_time());
        let since = least.map_or(snapshot.started_at, |(operator, _, _)| operator.changed_at);
        View { snapshot, now, frontier, held_for: now.since(since) }
    }

    fn answer(&self, cause: Cause, held_back_by: HeldBack, reason: String) -> Diagnosis {
        Diagnosis { cause, frontier: self.frontier, held_for: self.held_for, held_back_by, reason }
    }

    fn by_phase(&self) -> Option<Diagnosis> {
        let nobody = HeldBack::default();
        match self.snapshot.phase {
            Phase::Failed => {
                let why = self.snapshot.failure.as_deref().unwrap_or("the log says why");
                Some(self.answer(Cause::Failed, nobody, format!("the run has failed: {why}")))
            }
            Phase::Finished => Some(self.answer(Cause::Finished, nobody, "the run is over".into())),
            _ if self.snapshot.workers.is_empty() && self.snapshot.partitions.is_empty() => {
                Some(self.answer(Cause::NotStarted, nobody, "no worker has started reading yet".into()))
            }
            _ => None,
        }
    }

    /// A source that cannot read explains everything behind it.
    fn by_source(&self) -> Option<Diagnosis> {
        self.snapshot.workers.iter().find_map(|(worker, view)| {
            let lasting = describe_span(self.now.since(view.source_since));
            let reason = match &view.source {
                SourceState::Waiting { detail } => {
                    format!("the source of worker {worker} has waited for {lasting}: {detail}")
                }
                SourceState::Connecting => format!("the source of worker {worker} has been connecting for {lasting}"),
                SourceState::Running | SourceState::Finished => return None,
            };
            let held = HeldBack { worker: Some(*worker), ..HeldBack::default() };
            Some(self.answer(Cause::SourceWaiting, held, reason))
        })
    }

    fn by_partition(&self) -> Option<Diagnosis> {
        let partition = self.snapshot.least_partition()?;
        if self.dataflow_is_behind(partition.status.watermark) {
            return Some(self.by_dataflow());
        }
        let held = HeldBack {
            partition: Some(partition.status.name.clone()),
            worker: Some(partition.worker),
            ..HeldBack::default()
        };
        let (cause, reason) = self.explain_partition(partition);
        Some(self.answer(cause, held, reason))
    }

    /// The partitions would let the frontier go on, and it has had the time to.
    fn dataflow_is_behind(&self, watermark: EventTime) -> bool {
        self.frontier.is_some_and(|frontier| frontier < watermark) && self.held_for >= SLOW
    }

    fn explain_partition(&self, partition: &PartitionView) -> (Cause, String) {
        let status = &partition.status;
        let subject = format!("partition {} on worker {}", status.name, partition.worker);
        if status.watermark == EventTime::MIN {
            return (Cause::NoEventYet, self.explain_no_event(partition, &subject));
        }
        let holds = format!("{subject} holds the frontier at {}", status.watermark);
        let silent_for = self.now.since(status.last_event_at.unwrap_or(self.snapshot.started_at));
        if silent_for >= SILENT {
            let (silence, why) = (describe_span(silent_for), self.why_not_idle(partition));
            return (
                Cause::PartitionSilent,
                format!("{holds}; it has had no record for {silence} and is not idle because {why}"),
            );
        }
        let unmoved = self.now.since(partition.changed_at);
        if unmoved >= SILENT {
            let (unmoved, latest) = (describe_span(unmoved), status.max_seen);
            return (
                Cause::PartitionNotAdvancing,
                format!("{holds}; its records come, but none for {unmoved} has a later timestamp than {latest}"),
            );
        }
        let lag = partition.lag.filter(|lag| *lag > 0);
        let unread = lag.map_or_else(String::new, |lag| format!(", with {} records still to read", group_digits(lag)));
        (
            Cause::PartitionSlowest,
            format!("{holds}; it is the furthest behind of those that are read, and moves on{unread}"),
        )
    }

    fn explain_no_event(&self, partition: &PartitionView, subject: &str) -> String {
        let active = || self.snapshot.partitions.iter().filter(|partition| partition.is_active());
        if active().count() > 1 && active().all(|partition| partition.status.watermark == EventTime::MIN) {
            return "no partition has shown an event yet".into();
        }
        let holds = format!("{subject} has shown no event yet, and holds the frontier before every event");
        if partition.status.records > 0 {
            let records = group_digits(partition.status.records);
            return format!("{holds}; of the {records} records read from it none was an event for the windows");
        }
        format!("{holds}; it is not idle because {}", self.why_not_idle(partition))
    }

    /// A partition is idle only on evidence: at its end, and silent for the time-out.
    fn why_not_idle(&self, partition: &PartitionView) -> String {
        match (partition.lag, self.snapshot.idle_timeout) {
            (Some(lag), _) if lag > 0 => format!("{} records in it are still to be read", group_digits(lag)),
            (_, Some(None)) => "no idle time-out is configured (watermark.idle_timeout_secs)".into(),
            (None, _) => "it is not known whether it has been read to its end".into(),
            (Some(_), Some(Some(timeout))) => {
                let silent = self.now.since(partition.status.last_event_at.unwrap_or(self.snapshot.started_at));
                let timeout = Span::from(timeout);
                if silent < timeout {
                    format!("the idle time-out of {} has not passed", describe_span(timeout))
                } else {
                    format!(
                        "its worker has not looked at it since the idle time-out of {} passed",
                        describe_span(timeout)
                    )
                }
            }
            (Some(_), None) => "the idle time-out has not passed".into(),
        }
    }

    /// The partitions are ahead of the frontier: a sink, or an operator.
    fn by_dataflow(&self) -> Diagnosis {
        let held_for = describe_span(self.held_for);
        let slowest = self.snapshot.sinks.iter().max_by_key(|sink| (sink.trouble.is_some(), sink.unacknowledged));
        if let Some(sink) = slowest.filter(|sink| sink.trouble.is_some() || sink.unacknowledged >= MANY_RESULTS) {
            let trouble = sink.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
            let reason = format!(
                "the sink {} has {} results unacknowledged{trouble}; the frontier has not moved for {held_for}",
                sink.name,
                group_digits(sink.unacknowledged)
            );
            return self.answer(
                Cause::SinkBehind,
                HeldBack { sink: Some(sink.name.to_string()), ..HeldBack::default() },
                reason,
            );
        }
        let Some((operator, worker, _)) = self.snapshot.least_operator() else {
            return self.answer(Cause::NotStarted, HeldBack::default(), "no operator has shown a frontier yet".into());
        };
        let held = HeldBack { worker: Some(worker), operator: Some(operator.name), ..HeldBack::default() };
        let at = self.frontier.map_or_else(|| "the end".to_owned(), |frontier| display_time(frontier).to_string());
        let reason = format!(
            "operator {} on worker {worker} is at {at} and has not moved for {held_for}, though every partition is further",
            operator.name
        );
        self.answer(Cause::OperatorBehind, held, reason)
    }

    fn explain_all_idle(&self) -> String {
        let close_after = self.snapshot.time_rules.and_then(|rules| rules.close_idle_after);
        let closed = self.snapshot.workers.values().all(|worker| worker.closed_idle);
        match close_after {
            None => "every partition is idle; the windows that are open wait for the next event \
                     (watermark.close_idle_after_secs, which is not set, would close them by the clock)"
                .into(),
            Some(after) if closed => format!(
                "every partition has been idle for {} (watermark.close_idle_after_secs): the windows were closed, the next \
                 event opens another",
                describe_span(after.into())
            ),
            Some(after) => format!(
                "every partition is idle; the windows that are open wait for the next event, or until all partitions have \
                 been idle for {} (watermark.close_idle_after_secs)",
                describe_span(after.into())
            ),
        }
    }

    /// Nothing at the sources holds the frontier.
    fn without_partition(&self) -> Diagnosis {
        let nobody = HeldBack::default();
        let partitions = &self.snapshot.partitions;
        if partitions.is_empty() {
            return self.answer(Cause::NotStarted, nobody, "no partition is being read yet".into());
        }
        if partitions.iter().any(|partition| !partition.status.closed) {
            return self.answer(Cause::AllIdle, nobody, self.explain_all_idle());
        }
        let done = |status: OperatorStatus| status == OperatorStatus::Done;
        match self.snapshot.least_operator() {
            Some((_, _, status)) if !done(status) && self.held_for >= SLOW => self.by_dataflow(),
            _ => self.answer(
                Cause::Draining,
                nobody,
                "every partition has ended; the last results are on their way".into(),
            ),
        }
    }
}

/// `before every event` in place of a date that no calendar has.
pub(crate) fn display_time(time: EventTime) -> impl std::fmt::Display {
    if time == EventTime::MIN { "before every event".to_owned() } else { time.to_string() }
}

/// A length of time for people: `0.4 s`, `73 s`, `5 min 3 s`, `2 h 4 min`.
pub(crate) fn describe_span(span: Span) -> String {
    let millis = span.as_millis();
    let secs = millis / 1000;
    match secs {
        0..=9 => format!("{}.{} s", secs, millis % 1000 / 100),
        10..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min {} s", secs / 60, secs % 60),
        7_200..=172_799 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// `12,000`.
pub(crate) fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
