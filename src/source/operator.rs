//! The source operator: polls a worker's source, and turns partition watermarks into capabilities.
//!
//! The model: there is one capability for each partition that is neither idle nor closed, at the partition's watermark, and one
//! for the worker, at the least of these; the worker's is what rows are sent with, and what lets an idle partition return or a
//! new one appear. When the source is finished, all are dropped.
//!
//! In a job that takes checkpoints the operator cuts an epoch when its end is announced: it notes where each partition is, and moves
//! its capabilities to the next epoch at the event time at which they are. Until every worker is through with the epoch that ended
//! they stay at that event time, so that all workers freeze their windows at one and the same frontier.
//!
//! A turn polls once, for no more rows than there is credit, and asks to be scheduled again; a source that has nothing wakes
//! the worker by itself, or is asked again after the time it names. When the end is asked for, it stops reading and keeps its
//! capabilities: windows that are not complete must not fire. A source that does not know its partitions yet is asked for them all the
//! same, for no rows; where it does not know them when the last epoch ends, it hands on the cuts that the run began with.

use super::idle_close::IdleClose;
use super::peers::{PeerTable, PeerWord};
use super::{Intake, IntakeCounts, Partition, Polled, Settled, Source};
use crate::checkpoint::{PartitionCut, WorkerEpochs};
use crate::event::{RowBatch, WorkerIndex};
use crate::exchange::flow::Credits;
use crate::exchange::wire::Batches;
use crate::runtime::Control;
use crate::sink::{SideMark, SideOutputs};
use crate::time::{Epoch, EventTime, Time};
use std::rc::Rc;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::{Activator, SyncActivator};

/// The most records of one turn: enough to spread a turn's fixed cost thin, few enough that the columns stay in the cache.
pub const RECORDS_PER_TURN: usize = 4096;

/// The same from the cut of an epoch until its snapshot is encoded: each record may find an entry that has to be encoded before it
/// changes, which takes longer than the record itself.
const RECORDS_PER_TURN_OF_SNAPSHOT: usize = 256;
/// The same until the checkpoint is published: the database is at work beside the worker, and memory can be slow.
const RECORDS_PER_TURN_OF_CHECKPOINT: usize = 1024;
/// How often settled offsets are told, peers are spoken to, and a stopped source looks whether it may end.
const HOUSEKEEPING: Duration = Duration::from_millis(50);

/// What the source operator needs from its surroundings.
pub struct SourceSettings {
    /// This worker.
    pub worker: WorkerIndex,
    /// The worker's account of rows in flight.
    pub credits: Credits,
    /// The run's switch.
    pub control: Control,
    /// The least wall-clock time between two advances of the watermarks.
    pub emit_interval: Option<Duration>,
    /// How long all partitions of all workers must have been idle for the windows that are open to be closed; `None` is never.
    pub close_idle_after: Option<Duration>,
    /// The last words of all workers.
    pub peers: PeerTable,
    /// Whether windows want to know how far each partition has come.
    pub tells_watermarks: bool,
    /// The frontier behind the sinks: results of windows that end before it are written. `None` when all are.
    pub written: Rc<dyn Fn() -> Option<EventTime>>,
    /// From where windows need rows, by the rows' times plus the allowed lateness, where the rows do not say it themselves. `None`
    /// when none are.
    pub needed: Rc<dyn Fn() -> Option<EventTime>>,
    /// Where records go that made it into no window: settled offsets wait for those that were given out before.
    pub side_outputs: SideOutputs,
    /// What the worker's operators share about epochs, in a job that takes checkpoints.
    pub epochs: Option<WorkerEpochs>,
    /// Told after each turn what happened in it.
    pub observer: Box<dyn FnMut(SourceTurn<'_>)>,
}

/// What happened in one turn.
pub struct SourceTurn<'a> {
    /// Counts of this turn.
    pub counts: IntakeCounts,
    /// The intake, for its partitions.
    pub intake: &'a Intake,
    /// What the poll came to; `None` where there was none.
    pub polled: Option<Polled>,
    /// The worker's capability.
    pub holds: Option<Time>,
    /// Whether the windows were closed because all partitions of all workers have been idle.
    pub closed_idle: bool,
}

/// The streams that leave the source operator.
pub struct SourceOutputs<'scope> {
    /// Batches of rows, each for one receiver.
    pub rows: Stream<'scope, Time, Batches>,
    /// This worker's word to the others.
    pub words: Stream<'scope, Time, Vec<PeerWord>>,
    /// Wakes the operator, on this worker's thread.
    pub activator: Activator,
    /// Wakes the operator, from any thread.
    pub wake: SyncActivator,
}

/// Builds the source operator.
pub fn source<'scope>(
    scope: Scope<'scope, Time>,
    source: Box<dyn Source>,
    intake: Intake,
    settings: SourceSettings,
) -> SourceOutputs<'scope> {
    let mut builder = OperatorBuilder::new("source".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let own_activator = scope.activator_for(Rc::clone(&address));
    if let Some(epochs) = &settings.epochs {
        epochs.wake_on_news(scope.activator_for(address));
    }
    let (rows, rows_stream) = builder.new_output::<Batches>();
    let (words, words_stream) = builder.new_output::<Vec<PeerWord>>();
    let mut rows = OutputBuilder::<_, CapacityContainerBuilder<Batches>>::from(rows);
    let mut words = OutputBuilder::<_, CapacityContainerBuilder<Vec<PeerWord>>>::from(words);

    builder.build(move |mut capabilities| {
        let mut for_words = capabilities.pop().expect("one capability an output");
        let mut for_rows = capabilities.pop().expect("one capability an output");
        let first = settings.epochs.as_ref().map(WorkerEpochs::first);
        if let Some(first) = first {
            let begin = Time::new(first.epoch, first.frontier);
            for_rows.downgrade(&begin);
            for_words.downgrade(&begin);
        }
        let mut operator = SourceOperator {
            idle_close: IdleClose::new(settings.close_idle_after),
            closed_idle: false,
            source,
            intake,
            capabilities: Some(Capabilities { worker: for_rows, words: for_words, partitions: Vec::new() }),
            settings,
            activator: own_activator,
            last_advance: None,
            last_housekeeping: Instant::now(),
            last_word: None,
            settled_at: (EventTime::MIN, EventTime::MIN),
            waiting_settled: None,
            epoch: first.map_or(Epoch::FIRST, |first| first.epoch),
            frozen: None,
            stays: None,
        };
        move |_frontiers| {
            operator.turn(
                |capability, batch| rows.activate().session(capability).give(batch),
                |capability, word| words.activate().session(capability).give(word),
            );
        }
    });
    SourceOutputs { rows: rows_stream, words: words_stream, activator, wake }
}

struct Capabilities {
    worker: Capability<Time>,
    words: Capability<Time>,
    partitions: Vec<Option<Capability<Time>>>,
}

struct SourceOperator {
    source: Box<dyn Source>,
    intake: Intake,
    /// `None` once the source is finished.
    capabilities: Option<Capabilities>,
    settings: SourceSettings,
    activator: Activator,
    idle_close: IdleClose,
    closed_idle: bool,
    last_advance: Option<Instant>,
    last_housekeeping: Instant,
    last_word: Option<PeerWord>,
    settled_at: (EventTime, EventTime),
    /// Settled, but for the side records that had been given out when it was.
    waiting_settled: Option<(SideMark, Vec<Settled>)>,
    /// The epoch of the capabilities.
    epoch: Epoch,
    /// The epoch that was cut and that not every worker is through with.
    frozen: Option<Epoch>,
    /// What keeps the operator when the source is finished, in a job that takes checkpoints. Nobody waits for words.
    stays: Option<Capability<Time>>,
}

impl SourceOperator {
    fn turn(
        &mut self,
        mut send: impl FnMut(&Capability<Time>, RowBatch),
        say: impl FnOnce(&Capability<Time>, PeerWord),
    ) {
        let now = Instant::now();
        if self.settings.control.has_failed() {
            return;
        }
        self.cut_if_due();
        let mut polled = None;
        let budget = self.budget();
        if budget > 0 || !self.intake.is_ready() {
            polled = self.poll(now, budget, &mut send);
        }
        // While an epoch is being frozen the capabilities stay; the source says again that it is finished.
        if polled == Some(Polled::Finished) && self.frozen.is_none() {
            self.finish(say);
        } else {
            self.advance(now);
            self.speak(now, say);
        }
        match self.settings.epochs.is_some() {
            true => self.tell_checkpointed(),
            false => self.settle(now),
        }
        self.report(polled);
        self.schedule_next(polled);
    }

    /// Cuts the epoch, if its end is announced.
    fn cut_if_due(&mut self) {
        let Some(epochs) = &self.settings.epochs else { return };
        if let Some(epoch) = self.frozen.take_if(|epoch| epochs.is_through(*epoch)) {
            debug_assert!(epoch < self.epoch);
        }
        if self.frozen.is_some() || !epochs.ends(self.epoch) {
            return;
        }
        let Some(cuts) = self.cuts(epochs) else { return };
        epochs.cut(self.epoch, cuts, self.settings.side_outputs.mark());
        tracing::trace!(target: "checkpoint", worker = self.settings.worker.0, "the source cuts epoch {}", self.epoch);
        self.frozen = Some(self.epoch);
        self.epoch = self.epoch.next();
        if let Some(capabilities) = &mut self.capabilities {
            let Capabilities { worker, words, partitions } = capabilities;
            for capability in partitions.iter_mut().flatten().chain([worker, words]) {
                let time = capability.time().in_epoch(self.epoch);
                capability.downgrade(&time);
            }
        }
    }

    /// Where the partitions are. `None`: nobody can say yet, or ever.
    fn cuts(&self, epochs: &WorkerEpochs) -> Option<Vec<PartitionCut>> {
        if self.intake.is_ready() || !epochs.is_stopping() {
            return self.intake.cuts();
        }
        let cuts = self.intake.cuts_unready();
        epochs.say_unready(cuts.is_some());
        cuts
    }

    /// Tells the source of cuts whose checkpoint is published.
    fn tell_checkpointed(&mut self) {
        if let Some(cuts) = self.settings.epochs.as_ref().and_then(WorkerEpochs::take_published_cuts) {
            self.source.checkpointed(&cuts);
        }
    }

    /// The most records of this turn.
    fn budget(&self) -> usize {
        if self.settings.control.is_stopping() {
            return 0;
        }
        self.settings.credits.available().min(self.most_records())
    }

    /// As many as keep a turn short.
    fn most_records(&self) -> usize {
        let Some(epochs) = &self.settings.epochs else { return RECORDS_PER_TURN };
        let cut = self.epoch.previous().filter(|cut| *cut >= epochs.first().epoch);
        if self.frozen.is_some() || epochs.is_writing() {
            RECORDS_PER_TURN_OF_SNAPSHOT
        } else if cut > epochs.published() {
            RECORDS_PER_TURN_OF_CHECKPOINT
        } else {
            RECORDS_PER_TURN
        }
    }

    /// Asks the source for records and sends the rows they became.
    fn poll(
        &mut self,
        now: Instant,
        budget: usize,
        send: &mut impl FnMut(&Capability<Time>, RowBatch),
    ) -> Option<Polled> {
        let capabilities = self.capabilities.as_ref()?;
        let wall_clock = EventTime::now();
        self.intake.begin_poll(wall_clock, micros_now(), capabilities.worker.time().event_time());
        let polled = self.source.poll(&mut self.intake, budget);
        let credits = &self.settings.credits;
        self.intake.end_poll(now, |batch| {
            credits.spend(batch.len());
            send(&capabilities.worker, batch);
        });
        match polled {
            Ok(polled) => Some(polled),
            Err(error) => {
                self.settings.control.fail(error);
                None
            }
        }
    }

    fn finish(&mut self, say: impl FnOnce(&Capability<Time>, PeerWord)) {
        if let Some(epochs) = &self.settings.epochs {
            epochs.say_finished();
            // Without one the operator would be taken down before the last cut.
            self.stays = self.capabilities.as_ref().map(|capabilities| capabilities.words.clone());
        }
        if let Some(capabilities) = self.capabilities.take() {
            // Of what has ended, nobody waits for a partition.
            let mut word = PeerWord { least_active: None, ..self.word() };
            word.watermarks.iter_mut().flatten().for_each(|watermark| *watermark = EventTime::MAX);
            self.settings.peers.hear(word.clone());
            say(&capabilities.words, word);
        }
    }

    /// Moves the capabilities to the watermarks, if it is time.
    fn advance(&mut self, now: Instant) {
        if self.frozen.is_some() {
            return;
        }
        if let (Some(interval), Some(last)) = (self.settings.emit_interval, self.last_advance)
            && now.duration_since(last) < interval
        {
            return;
        }
        self.last_advance = Some(now);
        let target = self.worker_target(now);
        let Some(capabilities) = &mut self.capabilities else { return };
        capabilities.partitions.resize_with(self.intake.partitions().len(), || None);
        for (partition, capability) in self.intake.partitions().zip(&mut capabilities.partitions) {
            move_partition(partition, capability, &capabilities.worker);
        }
        move_to(&mut capabilities.worker, target);
        move_to(&mut capabilities.words, target);
    }

    /// Where the worker's own capability belongs: at its slowest active partition, or where the other workers are.
    fn worker_target(&mut self, now: Instant) -> EventTime {
        if !self.intake.is_ready() {
            return EventTime::MIN;
        }
        let word = self.word();
        let least_active = word.least_active;
        self.settings.peers.hear(word);
        // Who was asked to end closes nothing that is not complete.
        let all_idle = self.settings.peers.all_idle().filter(|_| !self.settings.control.is_stopping());
        let complete = self.idle_close.look(all_idle, now);
        self.closed_idle = complete.is_some();
        match least_active {
            Some(watermark) => watermark,
            None => self.settings.peers.where_the_others_are().max(complete.unwrap_or(EventTime::MIN)),
        }
    }

    fn word(&self) -> PeerWord {
        let partitions = || self.intake.partitions();
        let least_active = partitions().filter(|p| p.is_active()).map(|p| p.watermark.watermark()).min();
        let least_active = if self.intake.is_ready() { least_active } else { Some(EventTime::MIN) };
        let greatest = partitions().map(|p| p.watermark.watermark()).max().unwrap_or(EventTime::MIN);
        let complete_at = self.intake.complete_at();
        let watermark = |p: &Partition| if p.is_active() { p.watermark.watermark() } else { EventTime::MAX };
        let tells = self.settings.tells_watermarks && self.intake.is_ready();
        let watermarks = tells.then(|| partitions().map(watermark).collect());
        PeerWord { worker: self.settings.worker, least_active, greatest, complete_at, watermarks }
    }

    /// Tells the other workers where this one is, when that has changed.
    fn speak(&mut self, now: Instant, say: impl FnOnce(&Capability<Time>, PeerWord)) {
        let Some(capabilities) = &self.capabilities else { return };
        let word = self.word();
        self.settings.peers.hear(word.clone());
        let due = self.last_word.as_ref().is_none_or(|last| {
            last.least_active.is_some() != word.least_active.is_some()
                || (*last != word && now.duration_since(self.last_housekeeping) >= HOUSEKEEPING)
        });
        if due {
            say(&capabilities.words, word.clone());
            self.last_word = Some(word);
        }
    }

    /// Tells the source which offsets are done with.
    fn settle(&mut self, now: Instant) {
        if now.duration_since(self.last_housekeeping) < HOUSEKEEPING {
            return;
        }
        self.last_housekeeping = now;
        let (written, needed) = self.done_with();
        if self.waiting_settled.is_none() && (written, needed) != self.settled_at {
            self.settled_at = (written, needed);
            let settled = self.intake.settle(written, needed);
            self.waiting_settled = (!settled.is_empty()).then(|| (self.settings.side_outputs.mark(), settled));
        }
        self.tell_settled();
    }

    /// Tells the source what waits, if the side records from before are written.
    fn tell_settled(&mut self) {
        let side_outputs = &self.settings.side_outputs;
        if let Some((_, settled)) = self.waiting_settled.take_if(|(mark, _)| side_outputs.have_written(*mark)) {
            self.source.settled(&settled);
        }
    }

    /// Up to where results are written, and from where rows are needed.
    fn done_with(&self) -> (EventTime, EventTime) {
        // In this order: what is let go of was written before.
        let needed = (self.settings.needed)().unwrap_or(EventTime::MAX);
        ((self.settings.written)().unwrap_or(EventTime::MAX), needed)
    }

    fn report(&mut self, polled: Option<Polled>) {
        let counts = self.intake.take_counts();
        let holds = self.capabilities.as_ref().map(|capabilities| *capabilities.worker.time());
        (self.settings.observer)(SourceTurn {
            counts,
            intake: &self.intake,
            polled,
            holds,
            closed_idle: self.closed_idle,
        });
    }

    fn schedule_next(&self, polled: Option<Polled>) {
        if self.capabilities.is_none() {
            // What is still to come, the cut of the last epoch, wakes it.
            return;
        }
        match polled {
            Some(Polled::Records(_)) => self.activator.activate(),
            Some(Polled::Nothing(pause)) => self.activator.activate_after(pause.min(HOUSEKEEPING)),
            // Finished while an epoch is frozen, out of credit (its return wakes us), or stopping.
            Some(Polled::Finished) | None => self.activator.activate_after(HOUSEKEEPING),
        }
    }
}

impl Drop for SourceOperator {
    /// The dataflow is gone: everything that will be settled is.
    fn drop(&mut self) {
        let (written, needed) = self.done_with();
        self.tell_checkpointed();
        if !self.settings.control.has_failed() && self.settings.epochs.is_none() {
            self.tell_settled();
            let rest = self.intake.settle(written, needed);
            if self.settings.side_outputs.are_settled() {
                let mut settled = self.waiting_settled.take().map_or_else(Vec::new, |(_, settled)| settled);
                settled.extend(rest);
                self.source.settled(&settled);
            }
        }
        if let Err(error) = self.source.close() {
            self.settings.control.fail(error);
        }
    }
}

/// Gives a partition the capability that its state asks for. A partition that returns, or is new, begins where the worker is.
fn move_partition(partition: &Partition, capability: &mut Option<Capability<Time>>, worker: &Capability<Time>) {
    if !partition.is_active() {
        *capability = None;
        return;
    }
    let held = capability.get_or_insert_with(|| worker.clone());
    move_to(held, partition.watermark.watermark());
}

/// Moves a capability forward to an event time; backwards it does not go.
fn move_to(capability: &mut Capability<Time>, event_time: EventTime) {
    let time = *capability.time();
    if event_time > time.event_time() {
        capability.downgrade(&Time::new(time.epoch(), event_time));
    }
}

fn micros_now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
