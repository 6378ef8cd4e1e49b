//! One worker: builds its share of the dataflow and steps it to the end.

use super::input::InputContext;
use super::job::Running;
use super::observe::{SinkWatch, SourceWatch, Tally, WindowWatch};
use super::summary::Summary;
use super::views;
use crate::checkpoint::WorkerEpochs;
use crate::dataflows::views::ViewParts;
use crate::dataflows::windowed_aggregates::{Parts, build};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Decoder, WorkerIndex};
use crate::exchange::flow::Credits;
use crate::sink::operator::SinkSettings;
use crate::source::operator::{RECORDS_PER_TURN, SourceSettings};
use crate::source::peers::PeerTable;
use crate::source::{Intake, Source};
use crate::time::{EventTime, Time};
use crate::window::{Completeness, WindowSettings};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use timely::dataflow::operators::probe::Handle;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;

/// How long a worker sleeps when nothing wakes it; it looks at the run's switch in between.
const PARK: Duration = Duration::from_millis(100);
/// How long the orderly end waits for rows in flight and results under way.
const DRAIN_LIMIT: Duration = Duration::from_millis(4_000);
/// How long the orderly end waits for the last checkpoint: the sinks need the rest of what supervisors wait.
const LAST_CHECKPOINT_LIMIT: Duration = Duration::from_millis(6_500);
/// How long workers with nothing on the way step on before they end: until then the frontier behind the sinks comes to rest,
/// and with it what is committed.
const REST: Duration = Duration::from_millis(100);

/// Runs one worker to its end and says what it did. The error is the reason why it could not begin.
pub fn run(worker: &mut Worker, running: &Running) -> ProcessorResult<Summary> {
    let index = WorkerIndex(worker.index() as u32);
    let wake: Arc<OnceLock<SyncActivator>> = Arc::default();
    let (source, decoder) = running.job.input.open(InputContext {
        worker: index,
        peers: worker.peers(),
        waker: waker(&wake),
        control: running.control().clone(),
        metrics: running.job.metrics.clone(),
        board: running.job.board.clone(),
        resume: running.resume(),
    })?;
    let share = Share::new(worker, running, index);
    let views = views::parts(running, share.local, share.epochs.clone())?;
    let parts = share.parts(source, decoder, views);
    let activator = worker.dataflow::<Time, _, _>(|scope| build(scope, parts));
    // Before this there was nothing to wake.
    let _ = wake.set(activator);
    share.step_to_the_end(worker);
    drop_dataflows(worker);
    let is_kept = |epochs: &WorkerEpochs| epochs.is_over() && epochs.published().is_some();
    let open_are_kept = share.epochs.as_ref().is_some_and(is_kept);
    Ok(Summary { open_are_kept, ..share.tally.take() })
}

/// Takes down what is left of the dataflow. Timely goes on stepping a worker that has one, for ever after a panic.
pub fn drop_dataflows(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

fn waker(wake: &Arc<OnceLock<SyncActivator>>) -> Arc<dyn Fn() + Send + Sync> {
    let wake = Arc::clone(wake);
    Arc::new(move || {
        if let Some(activator) = wake.get() {
            // The worker has ended: there is nobody left to wake.
            let _ = activator.activate();
        }
    })
}

/// What the operators of one worker share.
struct Share<'a> {
    running: &'a Running,
    index: WorkerIndex,
    peers: usize,
    /// The worker's place among those of this process.
    local: usize,
    credits: Credits,
    /// What all workers have said.
    words: PeerTable,
    written: Handle<Time>,
    needed: Handle<Time>,
    results_waiting: Rc<Cell<usize>>,
    /// What the operators share about epochs, in a job that takes checkpoints.
    epochs: Option<WorkerEpochs>,
    tally: Tally,
}

impl<'a> Share<'a> {
    fn new(worker: &Worker, running: &'a Running, index: WorkerIndex) -> Self {
        Self {
            running,
            index,
            peers: worker.peers(),
            local: worker.index() % running.threads(),
            credits: Credits::new(running.job.config.buffer_size.get()),
            words: PeerTable::new(worker.peers()),
            written: Handle::new(),
            needed: Handle::new(),
            results_waiting: Rc::default(),
            epochs: running
                .checkpoints()
                .map(|checkpoints| checkpoints.worker_epochs(worker.index() % running.threads())),
            tally: Tally::default(),
        }
    }

    fn parts(&self, source: Box<dyn Source>, decoder: Box<dyn Decoder>, views: Option<ViewParts>) -> Parts {
        let capacity = (RECORDS_PER_TURN / self.peers).max(64);
        let checkpoints = self.running.checkpoints().zip(self.epochs.clone());
        let intake = Intake::new(decoder, self.index, self.peers, capacity, self.running.intake_rules());
        let intake = match self.running.checkpoints() {
            Some(checkpoints) => intake.with_checkpoints(checkpoints.resume()),
            None => intake,
        };
        Parts {
            source,
            intake,
            source_settings: self.source_settings(),
            window_settings: self.window_settings(),
            views,
            sink_settings: self.sink_settings(),
            checkpoint_settings: checkpoints
                .map(|(checkpoints, epochs)| checkpoints.operator(self.local, epochs, self.running.hub().clone())),
            written: self.written.clone(),
            needed: self.needed.clone(),
        }
    }

    /// The frontier behind the sinks, as far as any worker of this process has seen it: what one worker lets go of because results
    /// are written, no other may still believe unwritten.
    fn written(&self) -> Rc<dyn Fn() -> Option<EventTime>> {
        let own = event_time_of(&self.written);
        let seen = Arc::clone(&self.running.written);
        Rc::new(move || {
            let own = own().unwrap_or(EventTime::MAX).as_millis();
            let furthest = EventTime::from_millis(own.max(seen.fetch_max(own, Ordering::SeqCst)));
            (furthest < EventTime::MAX).then_some(furthest)
        })
    }

    /// From where rows are needed beyond what they say themselves; `None` where none are.
    fn needed(&self) -> Rc<dyn Fn() -> Option<EventTime>> {
        match self.running.ends_are_known() {
            true => Rc::new(|| None),
            false => event_time_of(&self.needed),
        }
    }

    fn source_settings(&self) -> SourceSettings {
        let job = &self.running.job;
        let mut watch = SourceWatch::new(
            self.index,
            &job.metrics,
            &job.board,
            self.running.definition_names(),
            Rc::clone(&self.tally),
        );
        let credits = self.credits.clone();
        SourceSettings {
            worker: self.index,
            credits: self.credits.clone(),
            control: self.running.control().clone(),
            emit_interval: job.config.watermark.emit_interval,
            close_idle_after: job.config.watermark.close_idle_after,
            peers: self.words.clone(),
            tells_watermarks: self.running.has_triggers(),
            written: self.written(),
            needed: self.needed(),
            side_outputs: self.running.side_outputs().clone(),
            epochs: self.epochs.clone(),
            observer: Box::new(move |turn| watch.turn(turn, credits.in_flight())),
        }
    }

    fn window_settings(&self) -> WindowSettings {
        let job = &self.running.job;
        let mut watch = WindowWatch::new(self.index, &job.metrics, &job.board, Rc::clone(&self.tally));
        let hub = self.running.hub().clone();
        let limit = job.config.buffer_size.get();
        let words = self.words.clone();
        WindowSettings {
            states: self.running.window_states(),
            clock: Rc::new(EventTime::now),
            written: self.written(),
            sinks_are_behind: Rc::new(move || hub.backlog_rows() > limit),
            completeness: Rc::new(move || words.watermarks().map_or_else(Completeness::default, Completeness::new)),
            control: self.running.control().clone(),
            epochs: self.epochs.clone(),
            memory_limit: self.running.checkpoints().and_then(|checkpoints| checkpoints.memory_limit(self.local)),
            restore: self.running.checkpoints().and_then(|checkpoints| checkpoints.restore_windows(self.local)),
            observer: Box::new(move |turn| watch.turn(turn)),
        }
    }

    fn sink_settings(&self) -> SinkSettings {
        let mut watch = SinkWatch::new(self.index, &self.running.job.board);
        let (submitting, acknowledging, waking) =
            (self.running.hub().clone(), self.running.hub().clone(), self.running.hub().clone());
        let results_waiting = Rc::clone(&self.results_waiting);
        let ending = self.running.hub().clone();
        SinkSettings {
            epochs: self.epochs.clone(),
            end_epoch: Rc::new(move |epoch| ending.end_epoch(epoch)),
            submit: Rc::new(move |batch| submitting.submit(batch)),
            acknowledged: Rc::new(move || acknowledging.acknowledged()),
            on_acknowledged: Box::new(move |waker| waking.on_acknowledged(waker)),
            observer: Box::new(move |frontier, waiting| {
                results_waiting.set(waiting);
                watch.turn(frontier);
            }),
        }
    }

    /// Another process was asked to end, and all have come to the end of the last epoch: this one is to be started again.
    fn end_with_the_others(&self) {
        let control = self.running.control();
        if self.epochs.as_ref().is_some_and(WorkerEpochs::was_stopped) && !control.is_stopping() {
            let reason = "another process was asked to end; the last checkpoint is complete";
            control.fail(ProcessorError::PeerLost(reason.into()));
        }
    }

    /// Whether nothing is left to do: every result is written and, with checkpoints, the last one is published and delivered.
    fn is_done(&self) -> bool {
        match &self.epochs {
            Some(epochs) => epochs.is_over(),
            None => self.written.done(),
        }
    }

    /// Steps until every result is written, the run fails, or it is asked to end and nothing is in flight any more.
    fn step_to_the_end(&self, worker: &mut Worker) {
        let control = self.running.control();
        let (mut deadline, mut resting) = (None, None);
        loop {
            worker.step_or_park(Some(PARK));
            let busy = self.credits.in_flight() + self.results_waiting.get();
            self.running.set_busy(self.local, busy);
            if control.has_failed() {
                return;
            }
            if self.is_done() {
                return self.end_with_the_others();
            }
            if control.is_stopping() {
                let now = Instant::now();
                let limit = if self.epochs.is_some() { LAST_CHECKPOINT_LIMIT } else { DRAIN_LIMIT };
                let until = *deadline.get_or_insert(now + limit);
                if let Some(epochs) = &self.epochs {
                    epochs.say_stopping();
                    if now >= until {
                        tracing::warn!(
                            target: "checkpoint",
                            "the last checkpoint was not complete in time: the next start goes on from the one before"
                        );
                        return;
                    }
                    continue;
                }
                let rested = match self.running.is_drained() {
                    true => now.duration_since(*resting.get_or_insert(now)) >= REST,
                    false => {
                        resting = None;
                        false
                    }
                };
                if rested || now >= until {
                    return;
                }
            }
        }
    }
}

fn event_time_of(probe: &Handle<Time>) -> Rc<dyn Fn() -> Option<EventTime>> {
    let probe = probe.clone();
    Rc::new(move || probe.with_frontier(|frontier| frontier.iter().map(Time::event_time).min()))
}
