//! The workers of this process: started together, linked to those of other processes, and waited for.
//!
//! The model: timely's worker threads each run [`worker::run`]; a worker that fails or panics fails the run, so that the others
//! end too. How it fails: a peer whose link breaks fails the run at once; a peer that has ended in order fails it when this
//! process still has work a moment later, because that peer's share of it is gone; and so does a peer of which nothing is heard,
//! although a process that runs sends a pulse.

use super::handshake::{self, Profile, Secret};
use super::job::{Job, Running};
use super::link::{Link, News, Silence};
use super::links::{self, Departures, Met, Terms};
use super::{Summary, Topology, panics, worker};
use crate::config::ClusterConfig;
use crate::error::{ProcessorError, ProcessorResult};
use crate::http;
use crate::metrics::Phase;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use timely::CommunicationConfig;
use timely::communication::AllocatorBuilder;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::{CommsGuard, initialize_networking_from_sockets};
use timely::worker::Worker;

/// How often it is looked whether the workers have ended.
const JOIN_PAUSE: Duration = Duration::from_millis(20);
/// How long workers may go on after a peer has ended: where it had ended because all is done, they learn of that at once.
const DEPARTURE_LIMIT: Duration = Duration::from_secs(2);
/// How long a process that is through waits for the others to close their links.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

impl Job {
    /// Meets the other processes of the job: tells each what this one has, and hears what they have. `None` where the end was asked for
    /// before they had found each other.
    pub(super) fn meet(
        &self,
        topology: &Topology,
        opening: Vec<u8>,
    ) -> ProcessorResult<Option<(Meeting, Vec<Vec<u8>>)>> {
        let departures = Departures::default();
        let terms = self.terms(topology, opening)?;
        let met = links::connect(topology, &terms, &self.control, &departures)?;
        Ok(met.map(|Met { links, openings }| (Meeting { links, departures }, openings)))
    }

    /// What the processes of the job have in common, and which of them this is.
    fn terms(&self, topology: &Topology, opening: Vec<u8>) -> ProcessorResult<Terms> {
        let process = topology.process();
        let (config, fingerprint) = (&self.config, self.fingerprint());
        let parts = fingerprint.parts().iter().flat_map(|part| [part.name.as_str(), &part.text]);
        let profile = Profile {
            process: process.index as u32,
            processes: process.count as u32,
            threads: topology.threads() as u32,
            build: handshake::build()?,
            job: handshake::job(std::iter::once(config.job.as_str()).chain(parts)),
        };
        let secret = Secret::of(&config.cluster)?;
        let ClusterConfig { listen, connect_timeout, failure_timeout, .. } = config.cluster;
        Ok(Terms {
            profile,
            secret,
            listen,
            connect_timeout,
            failure_timeout,
            opening: Arc::new(opening),
            news: Some(self.news()),
            control: self.control.clone(),
        })
    }

    /// What the pages of the others show of this process, and those of this one of the others.
    fn news(&self) -> News {
        let (board, metrics, hearing) = (self.board.clone(), self.metrics.clone(), self.board.clone());
        News {
            tell: Arc::new(move || http::own_frontiers(&board, &metrics)),
            hear: Arc::new(move |process, text| hearing.hear_of(process, text)),
        }
    }
}

impl Running {
    /// Runs this process's workers, linked to those of the others, to their end.
    pub(super) fn run_workers(self: Arc<Self>, topology: &Topology) -> ProcessorResult<Summary> {
        let (allocators, links) = self.allocators(topology)?;
        self.job.board.set_phase(Phase::Running);
        let total: Arc<Mutex<Summary>> = Arc::default();
        let (running, sum) = (Arc::clone(&self), Arc::clone(&total));
        let guards =
            timely::execute::execute_from(allocators, Box::new(()), timely::WorkerConfig::default(), move |worker| {
                running.run_worker(worker, &sum)
            })
            .map_err(|error| ProcessorError::Runtime(format!("cannot start the workers: {error}")))?;
        match links {
            Some(Linked { links, silences, departures }) => {
                self.join_with_links(guards, links, Peers { topology, departures, silences });
            }
            None => drop(guards),
        }
        let total = total.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(total)
    }

    /// What the workers talk to each other by, what keeps the links to other processes, and what tells whether those run.
    fn allocators(&self, topology: &Topology) -> ProcessorResult<(Vec<AllocatorBuilder>, Option<Linked>)> {
        let failed = |error: String| ProcessorError::Runtime(format!("cannot start the workers: {error}"));
        let Some(Meeting { links, departures }) = self.take_meeting() else {
            let communication = match self.threads {
                1 => CommunicationConfig::Thread,
                threads => CommunicationConfig::Process(threads),
            };
            let (allocators, _) = communication.try_build().map_err(failed)?;
            return Ok((allocators, None));
        };
        let silences = links.iter().flatten().map(|link| (link.process(), Silence::of(link.pulses()))).collect();
        panics::watch_links(self.control());
        let hooks = timely::communication::Hooks::default();
        let within = ProcessBuilder::new_typed_vector(self.threads, hooks.refill.clone(), hooks.spill.clone());
        let (allocators, guard) =
            initialize_networking_from_sockets(within, links, topology.process().index, self.threads, hooks)
                .map_err(|error| failed(error.to_string()))?;
        let linked = Linked { links: guard, silences, departures };
        Ok((allocators.into_iter().map(AllocatorBuilder::Tcp).collect(), Some(linked)))
    }

    /// One worker from its beginning to its end.
    fn run_worker(&self, worker: &mut Worker, sum: &Mutex<Summary>) {
        // A worker that is gone would leave the others waiting: whatever ends it early ends the run.
        match catch_unwind(AssertUnwindSafe(|| worker::run(worker, self))) {
            Ok(Ok(summary)) => sum.lock().unwrap_or_else(PoisonError::into_inner).add(&summary),
            Ok(Err(error)) => self.control().fail(error),
            Err(panic) => {
                self.control().fail(match panics::message(&*panic) {
                    message if message == panics::QUEUE_PANIC => ProcessorError::PeerLost("a link broke".into()),
                    message => ProcessorError::Runtime(format!("worker {} panicked: {message}", worker.index())),
                });
                // What panics again on its way out has said its reason already.
                let _ = catch_unwind(AssertUnwindSafe(|| worker::drop_dataflows(worker)));
            }
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for the workers, and for the links to be closed on both sides. The threads of links that broke, or whose other side
    /// goes on, cannot be joined: they are left to the process's end.
    fn join_with_links(
        &self,
        guards: timely::communication::WorkerGuards<()>,
        links: CommsGuard,
        mut peers: Peers<'_>,
    ) {
        while !self.control().has_failed() && self.ended.load(Ordering::SeqCst) < self.threads {
            std::thread::sleep(JOIN_PAUSE);
            self.look_for_departures(&peers);
            self.look_for_silence(&mut peers);
        }
        if self.control().has_failed() {
            std::mem::forget((guards, links));
            return;
        }
        drop(guards);
        let (done, closed) = crossbeam_channel::bounded(1);
        let closing = self.control().spawn(panics::CLOSING_THREAD, move || {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(links)));
            let _ = done.send(());
        });
        if closing.is_ok() {
            let _ = closed.recv_timeout(CLOSE_LIMIT);
        }
    }

    /// A peer that has ended in order while this process still has work was stopped alone: what it had is missing here.
    fn look_for_departures(&self, peers: &Peers<'_>) {
        if let Some((process, since)) = peers.departures.first()
            && since.elapsed() > DEPARTURE_LIMIT
            && !self.control().is_stopping()
        {
            let address = &peers.topology.addresses()[process];
            self.control().fail(ProcessorError::PeerLost(format!("process {process} ({address}) has ended")));
        }
    }

    /// A peer that does not run, or whose host is gone, keeps all from going on. Where one has ended there is nothing to hear.
    fn look_for_silence(&self, peers: &mut Peers<'_>) {
        if peers.departures.first().is_some() {
            return;
        }
        let limit = self.job.config.cluster.failure_timeout;
        for (process, silence) in &mut peers.silences {
            if silence.look() < limit {
                continue;
            }
            let address = &peers.topology.addresses()[*process];
            self.control().fail(ProcessorError::PeerLost(format!(
                "nothing was heard of process {process} ({address}) for {} s (cluster.failure_timeout): it is stopped, or its host \
                 cannot be reached",
                limit.as_secs_f64()
            )));
        }
    }
}

/// Which peers do not speak, and for how long.
type Silences = Vec<(usize, Silence)>;

/// The links to the other processes, before timely has them.
pub(super) struct Meeting {
    links: Vec<Option<Link>>,
    departures: Departures,
}

/// The links to the other processes.
struct Linked {
    links: CommsGuard,
    silences: Silences,
    departures: Departures,
}

/// The other processes, while the workers are at work.
struct Peers<'a> {
    topology: &'a Topology,
    departures: Departures,
    silences: Silences,
}
