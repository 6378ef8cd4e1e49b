//! The checkpoints of a run, in one process: from the configuration to what workers and sinks go on from, and the threads that write.
//!
//! The model: before anything else is opened the checkpoint to go on from is chosen, checked and opened; the process's sinks recover
//! from what it holds for them; each worker fills its windows from the records of its key groups, whichever worker wrote them; the
//! sources begin at its cuts. One writer a worker and, in the first process, one publisher make the next checkpoints.

use super::opening::{OpenCheckpoints, read_offers};
use super::restoring::RestoreBar;
use super::{Control, Topology};
use crate::checkpoint::operator::{CheckpointSettings, CoordinatorSeat, WordObserver};
use crate::checkpoint::remote::{IsOver, Remote};
use crate::checkpoint::{
    Attempts, Beginning, Changes, CheckpointStore, Choice, Command, Coordinator, DefinitionSummary, Expectation,
    FORMAT_VERSION, FirstEpoch, Heard, JobFingerprint, KeeperSettings, Loaded, Manifest, Part, Placement, ProcessIndex,
    Publication, PublisherSettings, RestoreProgress, Restored, Rules, SinkGathering, SinkNames, SinkNumber,
    StartOptions, Step, Voice, Word, WorkerEpochs, WorkerPort, WorkerStore, WriterSettings, agree, check_alike,
    check_sinks, choose, choose_agreed, cuts_of, key_groups_of, sink_recovery, start_keeper, start_publisher,
    start_writer,
};
use crate::config::ProcessorConfig;
use crate::error::ProcessorResult;
use crate::event::{KEY_GROUPS, WorkerIndex};
use crate::metrics::{CheckpointMetrics, ProcessorMetrics, StatusBoard};
use crate::sink::{Generation, RoutedSink, Shard, SideOutputs, SinkEpochs, SinkHub};
use crate::source::Resume;
use crate::time::{Epoch, EventTime};
use crate::view::keeper::ViewRestore;
use crate::view::retained::Retained;
use crate::window::{ColdStore, MemoryLimit, Restore, WindowState};
use chrono::Utc;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The least time between two checkpoints that are taken because somebody would welcome them.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// The checkpoints of a run, in this process.
pub struct RunCheckpoints {
    store: CheckpointStore,
    /// Where they are, and `store` has copies of them.
    remote: Option<Remote>,
    restored: Option<Restored>,
    /// Checkpoints that count no more when this run has published one.
    discarded: Vec<Epoch>,
    first: FirstEpoch,
    resume: Arc<Resume>,
    progress: Arc<RestoreProgress>,
    bar: RestoreBar,
    template: Manifest,
    process: ProcessIndex,
    threads: usize,
    locals: Vec<Local>,
    attempts: Attempts,
    metrics: CheckpointMetrics,
    /// What the coordinator's seat is given; in the first process.
    publisher: Mutex<Option<(Sender<Publication>, Receiver<Step>)>>,
    threads_running: Mutex<Vec<JoinHandle<()>>>,
    /// Keeps the process's own part; in all processes but the first, where they share no directory.
    keeper: Mutex<Option<Sender<Heard>>>,
    rules: Rules,
    retain: usize,
    /// Bytes that the windows of this process may take.
    memory_limit: Option<usize>,
    definitions: usize,
}

/// What a checkpoint must fit, and what is said of the job in those that it takes.
pub struct Meaning {
    /// What gives the state its meaning.
    pub fingerprint: JobFingerprint,
    /// The window definitions.
    pub definitions: Vec<DefinitionSummary>,
    /// Whether the sinks allow going on from an older checkpoint where the newest is damaged.
    pub may_fall_back: bool,
    /// Count what becomes of checkpoints.
    pub metrics: ProcessorMetrics,
    /// Shows it.
    pub board: StatusBoard,
}

/// One worker of this process.
struct Local {
    store: WorkerStore,
    voice: Voice,
    /// Until the worker takes it.
    parts: Mutex<Option<Sender<Part>>>,
    /// Until the writer takes it.
    taken: Mutex<Option<Receiver<Part>>>,
}

impl RunCheckpoints {
    /// Chooses and opens what the job goes on from, when the processes have met: these are their offers.
    pub fn begin(
        config: &ProcessorConfig,
        meaning: Meaning,
        start: StartOptions,
        topology: &Topology,
        control: &Control,
        opened: OpenCheckpoints,
        openings: &[Vec<u8>],
    ) -> ProcessorResult<Self> {
        let OpenCheckpoints { path, store, remote, placement, offer: _, sound, progress, bar } = opened;
        let offers = read_offers(openings)?;
        check_alike(&offers)?;
        let process = topology.process();
        let Meaning { fingerprint, definitions, may_fall_back, metrics, board } = meaning;
        let losses = metrics.losses();
        let metrics = CheckpointMetrics::new(&metrics, &board, config.state.tolerable_failures);
        let expected = Expectation {
            job: &config.job,
            fingerprint: &fingerprint,
            may_fall_back,
            progress: &progress,
            remote: remote.as_ref(),
        };
        let Choice { restored, first, discarded } = match placement {
            Placement::Shared => choose(&store, start.from, &expected)?,
            Placement::PerProcess => {
                choose_agreed(&store, &agree(&offers, may_fall_back)?, start.from, sound, &expected)?
            }
        };
        match restored.as_ref().filter(|restored| !restored.manifest().finished) {
            Some(restored) => progress.begin_load(share(restored.about_records(), topology)),
            None => progress.end(),
        }
        if let (Some(oldest), Some(newest)) = (discarded.first(), discarded.last()) {
            tracing::warn!(
                target: "checkpoint",
                "the checkpoints {oldest} to {newest} are newer than the one asked for: they are removed when this run has \
                 published one"
            );
        }
        let memory_limit = config.state.memory_limit.map(|limit| usize::try_from(limit.0).unwrap_or(usize::MAX));
        let memory = memory_limit.unwrap_or(usize::MAX) / topology.threads();
        let local = |local: usize| {
            let worker = process.index * topology.threads() + local;
            let store = WorkerStore::create_within(&path.join(format!("worker-{worker}")), memory)?;
            let (parts, taken) = unbounded();
            let (parts, taken) = (Mutex::new(Some(parts)), Mutex::new(Some(taken)));
            Ok(Local { store, voice: Voice::default(), parts, taken })
        };
        let locals = (0..topology.threads()).map(local).collect::<ProcessorResult<_>>()?;
        let resume = match &restored {
            Some(restored) => {
                let cuts = match placement {
                    Placement::Shared => restored.cuts()?,
                    Placement::PerProcess => cuts_of(&offers, restored.manifest().epoch)?,
                };
                Resume::from_cuts(cuts, start.accept_loss, losses)
            }
            None => Resume::default(),
        };
        let before = restored.as_ref().map(Restored::manifest);
        let frontier = before.map_or(EventTime::MIN, |manifest| manifest.frontier);
        if let Some(manifest) = before {
            say_where_from(manifest);
            metrics.restored(manifest.epoch, manifest.created_at.into(), manifest.bytes());
        }
        let template = Manifest {
            epoch: Epoch::FIRST,
            job: config.job.clone(),
            generation: next_generation(before.map(|manifest| manifest.generation)),
            created_at: Utc::now(),
            program: format!("{} {}, format {FORMAT_VERSION}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            processes: process.count as u32,
            workers: topology.peers() as u32,
            part: None,
            key_groups: KEY_GROUPS,
            fingerprint,
            definitions,
            max_out_of_orderness: config.watermark.max_out_of_orderness,
            frontier: EventTime::MIN,
            finished: false,
            snapshots: Vec::new(),
            sink_names: before.map_or_else(SinkNames::default, |manifest| manifest.sink_names.clone()),
            sinks: Vec::new(),
            transactional_shards: before.map_or_else(BTreeSet::new, |manifest| manifest.transactional_shards.clone()),
        };
        Ok(Self {
            store,
            remote,
            first: FirstEpoch { epoch: first, frontier },
            restored,
            resume: Arc::new(resume),
            progress,
            bar,
            template,
            process: ProcessIndex(process.index as u16),
            threads: topology.threads(),
            locals,
            attempts: Attempts::new(control.clone(), metrics.failure_observer()),
            metrics,
            publisher: Mutex::default(),
            threads_running: Mutex::default(),
            discarded,
            rules: Rules {
                workers: topology.peers(),
                processes: process.count,
                placement,
                interval: config.checkpoint_interval,
                timeout: config.checkpoint_timeout,
                least_pause: LEAST_PAUSE,
            },
            retain: config.state.retain.get(),
            memory_limit,
            definitions: config.window_definitions().len(),
            keeper: Mutex::default(),
        })
    }

    /// The checkpoint that the job goes on from.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Where sources go on from.
    pub fn resume(&self) -> Arc<Resume> {
        Arc::clone(&self.resume)
    }

    /// Where the run begins.
    pub fn first(&self) -> FirstEpoch {
        self.first
    }

    /// How the sinks of this process take part.
    pub fn sink_epochs(&mut self, sinks: &[RoutedSink]) -> ProcessorResult<SinkEpochs> {
        let processes = self.template.processes as u16;
        let identities: Vec<String> = sinks.iter().map(|routed| routed.sink.identity()).collect();
        let numbers = self.template.sink_names.number(&identities);
        if let Some(restored) = &self.restored {
            check_sinks(restored.manifest(), &numbers, self.resume.accept_loss)?;
        }
        let transactional = sinks.iter().zip(&numbers).filter(|(routed, _)| routed.sink.keeps_until_commit());
        for (_, number) in transactional {
            let shards = (0..processes).map(|process| Shard { sink: number.0, process });
            self.template.transactional_shards.extend(shards);
        }
        let first = &self.locals[0];
        let parts = lock(&first.parts).clone().expect("sinks are opened before workers begin");
        let recovery = |number: &SinkNumber| {
            sink_recovery(self.restored.as_ref(), self.template.generation, number.0, self.process.0, processes)
        };
        let recoveries = numbers.iter().map(recovery).collect::<ProcessorResult<_>>()?;
        let gathering = SinkGathering::new(self.process, numbers, parts, first.voice.clone());
        Ok(SinkEpochs { observer: Arc::new(gathering), workers: self.threads, recoveries })
    }

    /// Starts the writers and, in the first process, the publisher.
    pub fn start(&self, side_outputs: &SideOutputs, control: &Control) -> ProcessorResult<()> {
        let mut running = Vec::new();
        for (local, of) in self.locals.iter().enumerate() {
            running.push(start_writer(WriterSettings {
                worker: self.worker(local),
                store: of.store.clone(),
                checkpoints: self.store.clone(),
                side_outputs: side_outputs.clone(),
                parts: lock(&of.taken).take().expect("writers are started once"),
                voice: of.voice.clone(),
                attempts: self.attempts.clone(),
                control: control.clone(),
                is_first_of_process: local == 0,
                uploader: self.remote.as_ref().map(|remote| remote.uploader(self.worker(local), self.is_over())),
            })?);
        }
        if self.process.0 == 0 {
            let metrics = self.metrics.clone();
            let (publish, publications) = unbounded();
            let (published, answers) = unbounded();
            running.push(start_publisher(PublisherSettings {
                template: self.template.clone(),
                checkpoints: self.store.clone(),
                remote: self
                    .remote
                    .as_ref()
                    .map(|remote| remote.publisher(self.retain, self.discarded.clone(), self.is_over())),
                retain: self.retain,
                discarded: self.discarded.clone(),
                publications,
                published,
                voice: self.locals[0].voice.clone(),
                attempts: self.attempts.clone(),
                control: control.clone(),
                observer: Box::new(move |of| metrics.published(of.epoch, of.took, of.size, of.written)),
            })?);
            *lock(&self.publisher) = Some((publish, answers));
        }
        if self.process.0 > 0 && self.rules.placement == Placement::PerProcess {
            let (hear, heard) = unbounded();
            running.push(start_keeper(KeeperSettings {
                process: self.process,
                checkpoints: self.store.clone(),
                retain: self.retain,
                discarded: self.discarded.clone(),
                heard,
                voice: self.locals[0].voice.clone(),
                attempts: self.attempts.clone(),
                control: control.clone(),
            })?);
            *lock(&self.keeper) = Some(hear);
        }
        lock(&self.threads_running).extend(running);
        Ok(())
    }

    /// Whether threads that wait for an object store are waited for.
    fn is_over(&self) -> IsOver {
        let attempts = self.attempts.clone();
        Arc::new(move || attempts.is_over())
    }

    fn worker(&self, local: usize) -> WorkerIndex {
        WorkerIndex((usize::from(self.process.0) * self.threads + local) as u32)
    }

    /// What the operators of a worker of this process share. Taken once, on its thread.
    pub fn worker_epochs(&self, local: usize) -> WorkerEpochs {
        let of = &self.locals[local];
        let parts = lock(&of.parts).take().expect("a worker begins once");
        let port = WorkerPort::new(parts, of.store.rooms().clone(), of.voice.clone(), local == 0);
        WorkerEpochs::new(self.worker(local), self.first(), port)
    }

    /// The surroundings of a worker's operator for checkpoints.
    pub fn operator(&self, local: usize, epochs: WorkerEpochs, hub: SinkHub) -> CheckpointSettings {
        let seat = lock(&self.publisher).take_if(|_| local == 0).map(|(publish, published)| {
            let begun = Rc::new(Cell::new(Instant::now()));
            let announced = Rc::clone(&begun);
            let (metrics, timeout) = (self.metrics.clone(), self.rules.timeout);
            CoordinatorSeat {
                coordinator: Coordinator::new(self.rules, self.first().epoch),
                publish: Box::new(move |order| {
                    // A publisher that has gone has failed the run.
                    let _ = publish.send(Publication { order, begun: begun.get() });
                }),
                published,
                observer: Box::new(move |command| match command {
                    Command::Announce(epoch, ending) => {
                        announced.set(Instant::now());
                        metrics.begun(*epoch);
                        tracing::debug!(target: "checkpoint", "epoch {epoch} ends: {ending:?}");
                    }
                    Command::Overdue(epoch) => metrics.overdue(*epoch, timeout),
                    _ => {}
                }),
            }
        });
        let restored = self.restored.as_ref().map(|restored| restored.manifest().epoch);
        let beginning = Beginning { process: self.process, restored, first: self.first().epoch };
        let (control, voice) = (self.attempts.control().clone(), self.locals[local].voice.clone());
        let heard = (self.process.0 > 0 && local == 0).then(|| self.other_words());
        CheckpointSettings { epochs, seat, hub, beginning, heard, control, voice }
    }

    /// In a process other than the first: shows what it hears of checkpoints, and keeps its own part of them where it has one.
    fn other_words(&self) -> WordObserver {
        let (metrics, keeper) = (self.metrics.clone(), lock(&self.keeper).take());
        let keep = move |heard| {
            if let Some(keeper) = &keeper {
                // A keeper that has gone has failed the run.
                let _ = keeper.send(heard);
            }
        };
        Box::new(move |word| match word {
            Word::Ends(epoch, _) => metrics.begun(*epoch),
            Word::Prepare(_, manifest) => keep(Heard::Prepare(manifest.clone())),
            Word::Published(epoch, _) => {
                metrics.published_elsewhere(*epoch);
                keep(Heard::Published(*epoch));
            }
            _ => {}
        })
    }

    /// How much memory the windows of each definition may take on a worker of this process, and where the rest is read back.
    pub fn memory_limit(&self, local: usize) -> Option<MemoryLimit> {
        let bytes = self.memory_limit? / self.threads / self.definitions;
        let cold = Rc::new(Cold(self.locals[local].store.clone()));
        Some(MemoryLimit { bytes, cold })
    }

    /// Fills the windows of a worker of this process.
    pub fn restore_windows(&self, local: usize) -> Option<Restore> {
        let restored = self.restored.clone()?;
        let groups = key_groups_of(self.worker(local), self.rules.workers);
        let progress = Arc::clone(&self.progress);
        Some(Box::new(move |states: &mut [WindowState]| {
            for state in states.iter_mut() {
                restored.windows(state.definition(), groups.clone(), |key, value| {
                    progress.loaded();
                    state.restore(key, value)
                })?;
                state.finish_restore()?;
            }
            let windows = states.iter().map(|state| state.held_windows() as u64).sum();
            let keys = states.iter().map(|state| state.known_keys() as u64).sum();
            if let Some(Loaded { windows, keys, took }) = progress.worker_done(windows, keys) {
                let took = took.as_secs_f64();
                tracing::info!(target: "checkpoint", "restored {windows} windows of {keys} keys in {took:.2} s");
            }
            Ok(())
        }))
    }

    /// Fills what the views of a worker of this process retain.
    pub fn restore_views(&self, local: usize, retained: &mut Retained) -> ProcessorResult<()> {
        let Some(restored) = &self.restored else { return Ok(()) };
        let groups = key_groups_of(self.worker(local), self.rules.workers);
        let mut restore = ViewRestore::default();
        restored.views(self.definitions, groups, |key, value| restore.take(key, value, retained))?;
        restore.finish(retained);
        Ok(())
    }

    /// Whether what is restored is shown on the terminal.
    pub fn is_restore_shown(&self) -> bool {
        !self.bar.is_gone()
    }

    /// Ends the threads, when the workers have ended.
    pub fn finish(&self) {
        self.attempts.give_up();
        lock(&self.publisher).take();
        self.locals.iter().for_each(|local| drop(lock(&local.parts).take()));
        for thread in lock(&self.threads_running).drain(..) {
            // What it had to say it has said; a panic of it has failed the run.
            let _ = thread.join();
        }
    }
}

/// A worker's own database, for reading back what is not in memory.
struct Cold(WorkerStore);

impl ColdStore for Cold {
    fn get(&self, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        self.0.get(key)
    }

    fn put(&self, records: &Changes) -> ProcessorResult<()> {
        self.0.write_once(records)
    }

    fn flush(&self) -> ProcessorResult<()> {
        self.0.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of all records this process loads, about.
fn share(records: u64, topology: &Topology) -> u64 {
    records * topology.threads() as u64 / topology.peers().max(1) as u64
}

fn say_where_from(manifest: &Manifest) {
    let cuts = manifest.snapshots.iter().flat_map(|snapshot| &snapshot.cuts);
    let partitions = cuts.map(|cut| (&cut.topic, cut.partition)).collect::<BTreeSet<_>>().len();
    let frontier = match manifest.frontier {
        EventTime::MAX => "all windows fired".to_owned(),
        EventTime::MIN => "nothing fired yet".to_owned(),
        frontier => format!("the frontier at {frontier}"),
    };
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    tracing::info!(
        target: "checkpoint",
        "going on from checkpoint {}, taken at {} by {} worker{}: {} partition{}, {} kB, {frontier}",
        manifest.epoch,
        manifest.created_at.format("%Y-%m-%d %H:%M:%S UTC"),
        manifest.workers,
        plural(manifest.workers as usize),
        partitions,
        plural(partitions),
        manifest.bytes() / 1_000,
    );
}

/// The number of this start: the same in all its processes, which have read the same checkpoint. Two starts from one checkpoint have
/// the same; sinks tell them apart.
fn next_generation(before: Option<Generation>) -> Generation {
    Generation(before.map_or(0, |before| before.0) + 1)
}
