//! The intake: from payloads to batches of rows.
//!
//! The model: a record is decoded into one row, judged, and routed. The judgement uses the watermark of the record's own
//! partition as it was before the record, so it depends on nothing but the partition's content:
//! on time or within the allowed lateness, it becomes a row (a late one together with the watermark it was judged against);
//! further behind, or too far ahead of the wall clock, it goes to the late side output and moves no watermark; unreadable, it
//! follows the error policy.
//!
//! How it fails: only the policy `fail` ends the run, with an error that names partition and offset. Everything else is counted
//! by partition and reason.

mod columns;
mod rejection;

pub use columns::KeyAddresses;

use self::rejection::Rejection;
use super::partition::Partition;
use super::{Resume, Settled};
use crate::checkpoint::PartitionCut;
use crate::config::{ErrorPolicy, TimestampFormat, WatermarkConfig};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{
    BadRecord, Decoded, Decoder, DefinitionIndex, Late, LateRow, Offset, PartitionName, Reason, RowBatch, RowScratch,
    WorkerIndex,
};
use crate::exchange::Router;
use crate::sink::SideRecord;
use crate::time::watermark::Lateness;
use crate::time::{EventTime, Span};
use crate::window::{ClosedBefore, WindowSet};
use std::sync::Arc;
use std::time::Instant;

/// A partition, to the intake of the worker that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionSlot(pub u32);

/// What a side output wants to know of a record beyond its payload. Asked only when the record goes there.
pub trait RecordOrigin {
    /// The record's key.
    fn key(&self) -> Option<Vec<u8>> {
        None
    }
    /// The record's headers.
    fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        Vec::new()
    }
}

/// A record with neither key nor headers: a line of a file.
pub struct NoOrigin;

impl RecordOrigin for NoOrigin {}

/// Takes a record that made it into no window.
pub type SideWriter = Arc<dyn Fn(SideRecord) + Send + Sync>;

/// The rules by which records are judged.
#[derive(Clone)]
pub struct IntakeRules {
    /// Watermarks and the bound on future timestamps.
    pub watermark: WatermarkConfig,
    /// How timestamps are written, to name the probable cause of one that cannot be right.
    pub timestamp_format: TimestampFormat,
    /// The windows of all definitions, for their ends and the allowed lateness.
    pub windows: WindowSet,
    /// Told what an earlier run has completed.
    pub closed: ClosedBefore,
    /// What becomes of bad records.
    pub policy: ErrorPolicy,
    /// Where records go that time rules out.
    pub late: SideWriter,
    /// Where bad records go under [`ErrorPolicy::DeadLetter`].
    pub dead_letter: SideWriter,
}

/// What happened since the last time it was asked; for metrics and the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Records that became rows.
    pub events: u64,
    /// Rows among them that were late.
    pub late: u64,
    /// Records that the filter left out.
    pub filtered: u64,
    /// Records without a value.
    pub tombstones: u64,
    /// Records read again whose windows an earlier run has completed.
    pub replayed: u64,
    /// Records that made it into no window, by partition and reason.
    pub dropped: Vec<(PartitionSlot, Reason, u64)>,
    /// Rows that came too late for some window definitions, while others took them.
    pub refused: Vec<(PartitionSlot, DefinitionIndex, Reason, u64)>,
}

/// Decodes, judges and routes the records of one worker.
pub struct Intake {
    decoder: Box<dyn Decoder>,
    row: RowScratch,
    partitions: Vec<PartitionIntake>,
    router: Router,
    rules: IntakeRules,
    counts: IntakeCounts,
    /// What partitions are restored from, in a job that takes checkpoints.
    resume: Option<Arc<Resume>>,
    ready: bool,
    latest_allowed: EventTime,
    /// The latest watermark against which a row of a partition that was idle was judged.
    refined_at: EventTime,
    /// Below this the frontier may have passed: the time of the capability with which this poll's rows are sent.
    sending_at: EventTime,
    read_at_micros: i64,
    /// The late ones of the rows that were taken last at once.
    late_rows: Vec<LateRow>,
}

struct PartitionIntake {
    partition: Partition,
    dropped: [u64; Reason::ALL.len()],
    /// Rows of an earlier time are in no window that ends later than those of rows before them.
    needed_from: EventTime,
    /// Whether this poll had a row.
    polled: bool,
}

impl Intake {
    /// For worker `worker` of `peers`.
    pub fn new(
        decoder: Box<dyn Decoder>,
        worker: WorkerIndex,
        peers: usize,
        capacity: usize,
        rules: IntakeRules,
    ) -> Self {
        Self {
            decoder,
            row: RowScratch::default(),
            partitions: Vec::new(),
            router: Router::new(worker, peers, capacity),
            rules,
            counts: IntakeCounts::default(),
            resume: None,
            ready: false,
            latest_allowed: EventTime::MAX,
            refined_at: EventTime::MIN,
            sending_at: EventTime::MIN,
            read_at_micros: 0,
            late_rows: Vec::new(),
        }
    }

    /// The same in a job that takes checkpoints: partitions are restored from `resume`, and nothing is asked of
    /// [`Intake::settle`], which would say what must be read again without them.
    pub fn with_checkpoints(self, resume: Arc<Resume>) -> Self {
        Self { resume: Some(resume), ..self }
    }

    /// Announces a partition. Until it is closed or idle it holds the frontier back. One that the restored checkpoint knows is what
    /// it was there, closed and idle ones included.
    ///
    /// `closed_before` is what [`Settled`] said in an earlier run of the same job, or [`EventTime::MIN`].
    pub fn open_partition(&mut self, name: PartitionName, closed_before: EventTime) -> PartitionSlot {
        self.note_closed(closed_before);
        let slot = PartitionSlot(self.partitions.len() as u32);
        let bound = self.rules.watermark.max_out_of_orderness;
        let resume = self.resume.as_deref();
        let partition = match resume.and_then(|resume| resume.cuts.get(&name)) {
            Some(cut) => Partition::restored(cut, bound),
            None => {
                let mut partition = Partition::new(name, closed_before, bound);
                // The frontier did not wait for one that is added.
                partition.returned = self.ready || resume.is_some_and(|resume| resume.is_restored);
                partition
            }
        };
        // With checkpoints no record is needed again once its epoch is in one: no row is late enough to be looked at for that.
        let needed_from = if resume.is_some() { EventTime::MAX } else { EventTime::MIN };
        self.partitions.push(PartitionIntake {
            partition,
            dropped: [0; Reason::ALL.len()],
            needed_from,
            polled: false,
        });
        slot
    }

    /// Says which record is the next of a partition, where it does not follow from the last one: the next line of a file is not a
    /// byte behind the beginning of this one, and Kafka has offsets without a record.
    pub fn set_next(&mut self, slot: PartitionSlot, next: Offset) {
        self.partitions[slot.0 as usize].partition.position = next;
    }

    /// The cut of every partition as it is now, between two polls, in the order in which they were opened; `None` before
    /// [`Intake::set_ready`]: a checkpoint then would forget partitions that are not opened yet.
    pub fn cuts(&self) -> Option<Vec<PartitionCut>> {
        self.ready.then(|| self.partitions().map(Partition::cut).collect())
    }

    /// The same before [`Intake::set_ready`]: the cuts of the restored checkpoint, of the partitions of all workers, but for those
    /// that this one has opened. `None` where nothing was restored: a partition without a cut is read from its beginning, which
    /// need not be where the job is to begin.
    pub fn cuts_unready(&self) -> Option<Vec<PartitionCut>> {
        let resume = self.resume.as_deref().filter(|resume| resume.is_restored)?;
        let mut cuts = resume.cuts.clone();
        cuts.extend(self.partitions().map(|partition| (partition.name.clone(), partition.cut())));
        Some(cuts.into_values().collect())
    }

    /// Says up to where windows were complete in an earlier run of the same job, whether there is a partition or not. It must be
    /// said before [`Intake::set_ready`].
    pub fn note_closed(&mut self, closed_before: EventTime) {
        self.rules.closed.note(closed_before);
    }

    /// Says that the partitions which exist at the start have all been opened. Before this the worker holds the frontier back
    /// even when it has no partition.
    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Takes one record. The error is the end of the run: a bad record under the policy `fail`.
    #[inline]
    pub fn record(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()> {
        self.row.clear();
        match self.decoder.decode(payload, &mut self.row) {
            Ok(Decoded::Row) => {
                let time = self.row.time;
                match self.judge(slot, offset, time) {
                    Ok(Verdict::Taken(late)) => {
                        let Self { router, row, decoder, .. } = self;
                        router.push(row, late, |encoded| decoder.render_key(encoded));
                        if let Some(late) = late.filter(|late| !late.refused_by.is_empty()) {
                            self.refuse_in_part(slot, offset, time, late, payload.to_vec(), origin);
                        }
                    }
                    Ok(Verdict::Replayed) => {}
                    Err(rejection) => self.reject(slot, offset, time, rejection, payload.to_vec(), origin),
                }
                Ok(())
            }
            Ok(Decoded::Filtered) => {
                self.filtered(slot, offset);
                Ok(())
            }
            Err(bad) => self.bad(slot, offset, bad, payload, origin),
        }
    }

    /// Takes note of an event that the source's own filter left out.
    pub fn filtered(&mut self, slot: PartitionSlot, offset: Offset) {
        self.counts.filtered += 1;
        self.advance(slot, offset);
    }

    /// Takes one record that is no row. The error is the end of the run, under the policy `fail`.
    #[cold]
    pub fn bad(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        bad: BadRecord,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()> {
        self.advance(slot, offset);
        let state = &mut self.partitions[slot.0 as usize];
        state.dropped[bad.reason as usize] += 1;
        match self.rules.policy {
            ErrorPolicy::Skip | ErrorPolicy::Retry => {
                tracing::debug!(target: "records", partition = %state.partition.name, %offset, reason = %bad.reason, "{}", bad.detail);
                Ok(())
            }
            ErrorPolicy::Fail => Err(ProcessorError::BadRecord(format!(
                "{} at offset {offset}: {}: {} (error_handling.policy is `fail`)",
                state.partition.name, bad.reason, bad.detail
            ))),
            ErrorPolicy::DeadLetter => {
                (self.rules.dead_letter)(SideRecord {
                    reason: bad.reason,
                    detail: bad.detail,
                    origin: state.partition.name.clone(),
                    offset,
                    timestamp: None,
                    watermark: None,
                    late_by: None,
                    refused_by: Vec::new(),
                    payload: payload.to_vec(),
                    key: origin.key(),
                    headers: origin.headers(),
                });
                Ok(())
            }
        }
    }

    /// Takes one record that is larger than the source reads: it goes where bad records go, with its first bytes.
    pub fn too_large(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        first_bytes: &[u8],
        size: u64,
    ) -> ProcessorResult<()> {
        let detail = format!("a record of {size} bytes; only its first {} are kept", first_bytes.len());
        self.bad(slot, offset, BadRecord::new(Reason::TooLarge, detail), first_bytes, &NoOrigin)
    }

    /// Takes note of a record without a value; it is counted and passed over.
    pub fn tombstone(&mut self, slot: PartitionSlot, offset: Offset) {
        self.counts.tombstones += 1;
        self.advance(slot, offset);
    }

    /// Says whether the partition is idle: read to its end, and silent for the idle time-out. An idle partition does not hold
    /// the frontier back; the next record wakes it.
    pub fn set_idle(&mut self, slot: PartitionSlot, idle: bool) {
        let partition = &mut self.partitions[slot.0 as usize].partition;
        if partition.idle && !idle {
            partition.returned = true;
        }
        partition.idle = idle;
    }

    /// Says that a partition has ended.
    pub fn close_partition(&mut self, slot: PartitionSlot) {
        self.partitions[slot.0 as usize].partition.closed = true;
    }

    /// Judges a row that is the next record of its partition.
    #[inline]
    fn judge(&mut self, slot: PartitionSlot, offset: Offset, time: EventTime) -> Result<Verdict, Rejection> {
        let state = &mut self.partitions[slot.0 as usize];
        state.partition.position = Offset(offset.0 + 1);
        state.partition.records += 1;
        if state.partition.idle {
            state.partition.idle = false;
            state.partition.returned = true;
        }
        if time > self.latest_allowed {
            return Err(Rejection::Future);
        }
        let watermark = state.partition.watermark.watermark();
        let behind = state.partition.watermark.max_seen().since(time);
        state.partition.disorder.record(behind, time < watermark);
        let was_late = match state.partition.watermark.judge(time, self.rules.windows.allowed_lateness()) {
            Lateness::OnTime => false,
            Lateness::Accepted => true,
            Lateness::TooLate(by) => return Err(Rejection::Late(watermark, by)),
        };
        state.partition.watermark.observe(time);
        // The frontier did not wait for a partition that was idle: a window that has fired without the row is refined by it.
        let left_behind = (state.partition.returned && time < self.sending_at).then_some(self.sending_at);
        let judged_against = was_late.then_some(watermark).max(left_behind);
        let mut late = None;
        if let Some(judged_against) = judged_against {
            let refused_by = self.rules.windows.refusing(time, watermark, left_behind);
            if self.rules.windows.are_all(refused_by) {
                return Err(Rejection::Expired(self.sending_at));
            }
            late = Some(Late { watermark: judged_against, refused_by });
        }
        self.refined_at = self.refined_at.max(left_behind.unwrap_or(EventTime::MIN));
        if state.partition.closed_before > EventTime::MIN
            && self.rules.windows.ends_are_known()
            && self.rules.windows.last_end(time) <= state.partition.closed_before
        {
            self.counts.replayed += 1;
            return Ok(Verdict::Replayed);
        }
        state.polled = true;
        if time >= state.needed_from {
            state.note_needed(offset, time, &self.rules.windows);
        }
        self.counts.events += 1;
        self.counts.late += u64::from(was_late);
        Ok(Verdict::Taken(late))
    }

    fn advance(&mut self, slot: PartitionSlot, offset: Offset) {
        let partition = &mut self.partitions[slot.0 as usize].partition;
        partition.position = Offset(offset.0 + 1);
        partition.records += 1;
    }

    /// Begins a poll at this wall-clock time. The poll's rows will be sent with a capability of `sending_at`.
    pub fn begin_poll(&mut self, now: EventTime, read_at_micros: i64, sending_at: EventTime) {
        self.latest_allowed = now.saturating_add(self.rules.watermark.max_future_skew);
        self.read_at_micros = read_at_micros;
        self.sending_at = sending_at;
    }

    /// Ends a poll: hands the batches to `send`.
    pub fn end_poll(&mut self, now: Instant, send: impl FnMut(RowBatch)) {
        for state in &mut self.partitions {
            if std::mem::take(&mut state.polled) {
                state.partition.last_record = Some(now);
            }
        }
        self.router.flush(self.decoder.fields(), self.read_at_micros, send);
    }

    /// The partitions, in the order in which they were opened.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = &Partition> {
        self.partitions.iter().map(|state| &state.partition)
    }

    /// The frontier at which everything is complete that the events so far are part of: the last window of the latest of them,
    /// and the refinements. [`EventTime::MIN`] before the first event.
    pub fn complete_at(&self) -> EventTime {
        let latest = self.partitions().map(|partition| partition.watermark.max_seen()).max();
        let Some(latest) = latest.filter(|latest| *latest > EventTime::MIN) else { return EventTime::MIN };
        // What ends at a frontier has fired; it is settled when the frontier has passed it.
        self.rules.windows.complete_from(latest).max(self.refined_at).saturating_add(Span::from_millis(1))
    }

    /// Whether [`Intake::set_ready`] was called.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// What is settled newly when the results of all windows that end before `frontier` are written, and windows need rows from
    /// `needed` on (their times plus the allowed lateness) beyond what the rows say themselves.
    pub fn settle(&mut self, frontier: EventTime, needed: EventTime) -> Vec<Settled> {
        let lateness = self.rules.windows.allowed_lateness();
        let settle = |(index, state): (usize, &mut PartitionIntake)| {
            state.partition.settle(PartitionSlot(index as u32), frontier, needed, lateness)
        };
        self.partitions.iter_mut().enumerate().filter_map(settle).collect()
    }

    /// What happened since the last call.
    pub fn take_counts(&mut self) -> IntakeCounts {
        let mut counts = std::mem::take(&mut self.counts);
        for (index, state) in self.partitions.iter_mut().enumerate() {
            for reason in Reason::ALL {
                let dropped = std::mem::take(&mut state.dropped[reason as usize]);
                if dropped > 0 {
                    counts.dropped.push((PartitionSlot(index as u32), reason, dropped));
                }
            }
        }
        counts
    }
}

impl PartitionIntake {
    /// Takes note that windows up to the last one of this row need the records from here on.
    #[cold]
    fn note_needed(&mut self, offset: Offset, time: EventTime, windows: &WindowSet) {
        self.partition.note_needed(offset, windows.last_end(time));
        self.needed_from = windows.needed_alike_until(time);
    }
}

/// What becomes of a row that time does not rule out.
enum Verdict {
    /// It goes into its windows; with how it was judged, if it was late.
    Taken(Option<Late>),
    /// An earlier run has completed its windows.
    Replayed,
}
