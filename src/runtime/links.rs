//! The links between the processes of a job.
//!
//! The model: each process listens at its own address, or where the configuration says, and calls those with a lower index, again and again until they answer.
//! Both sides prove that they know the job's secret, see [`super::handshake`]; each caller is heard out on a thread of its own, for
//! two seconds at most: one that says nothing, or little, holds nobody up. When every pair is linked, the links are timely's. A
//! [`Link`] takes note when the other side has closed it, because timely does not tell a peer that has ended in order from one that
//! is silent.
//!
//! How it fails: whoever is not there yet is waited for, with a line in the log now and then, up to the time-out; a name that has no
//! address yet is asked for again; a stop that is asked for meanwhile ends the waiting. What calls and is no process of this job
//! (another program, one without the secret, another job or build, another number of processes or workers) is refused with a reason
//! and does not keep the others from linking.

use super::handshake::{self, Profile, Secret, Side, Unlinked};
use super::link::{Link, News};
use super::{Control, Topology};
use crate::error::{ProcessorError, ProcessorResult};
use crossbeam_channel::{Receiver, Sender};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at who is there: the shortest, when the waiting begins, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];
/// Between two calls of the same process: the same.
const CALL_AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];
/// Pauses are this part of the time that was waited: processes that are started together are not to wait for one another's pauses.
const PART: u32 = 8;
/// Between two lines of the log about the same waiting.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// Callers that are heard out at the same time; they are gone after two seconds.
const CALLERS: usize = 1_024;
/// Reasons for refusals that are logged between two looks at who is there: a flood of callers is not to fill the log.
const REFUSALS_AT_A_TIME: usize = 5;

/// What the processes of a job are to each other.
#[derive(Clone, Debug)]
pub struct Terms {
    /// This process, and what all have in common.
    pub profile: Profile,
    /// What they know and others do not; empty for processes of one machine.
    pub secret: Secret,
    /// Where this process listens, where that is not its address: its name may have no address yet, or be somebody else's for others.
    pub listen: Option<SocketAddr>,
    /// How long they wait for one another.
    pub connect_timeout: Duration,
    /// After how long without an answer another host counts as lost.
    pub failure_timeout: Duration,
    /// What this process tells each other one before they are linked.
    pub opening: Arc<Vec<u8>>,
    /// What they tell each other while they are linked.
    pub news: Option<News>,
    /// The run's switch.
    pub control: Control,
}

/// The processes of a job, when all of them have met.
#[derive(Debug)]
pub struct Met {
    /// The links to the others, by their indices; none to this process itself.
    pub links: Vec<Option<Link>>,
    /// What each has told, this one too.
    pub openings: Vec<Vec<u8>>,
}

/// Which peers have closed their links, the first one with the time at which it was noticed.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    first: Arc<Mutex<Option<(usize, Instant)>>>,
}

impl Departures {
    /// Takes note that a peer has closed its link, or that it broke.
    pub fn note(&self, process: usize) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((process, Instant::now()));
    }

    /// The first peer to leave, and when.
    pub fn first(&self) -> Option<(usize, Instant)> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Links this process to all others: one link a process, none to itself. `None` where the end was asked for meanwhile.
pub fn connect(
    topology: &Topology,
    terms: &Terms,
    control: &Control,
    departures: &Departures,
) -> ProcessorResult<Option<Met>> {
    let mut meeting = Meeting::begin(topology, terms, departures)?;
    let on = &meeting.on;
    tracing::info!(target: "processor", "waiting for the other processes of the job, on {on}");
    let begun = meeting.begun;
    let mut say = begun + SAY_AGAIN;
    while let Some(missing) = meeting.missing() {
        meeting.accept();
        meeting.call()?;
        if Instant::now() >= say {
            say += SAY_AGAIN;
            tracing::info!(target: "processor", "waiting for {missing}");
        }
        if begun.elapsed() > terms.connect_timeout {
            let waited = terms.connect_timeout.as_secs_f64();
            return Err(ProcessorError::PeerLost(format!(
                "after {waited} s (cluster.connect_timeout) there is still no link to {missing}"
            )));
        }
        if meeting.missing().is_some() && control.sleep(pause(PAUSE, begun.elapsed())) {
            return Ok(None);
        }
    }
    Ok(Some(meeting.end()))
}

/// The linking of one process.
struct Meeting {
    terms: Terms,
    own: usize,
    addresses: Vec<String>,
    /// Where it listens.
    on: String,
    listener: TcpListener,
    links: Vec<Option<(Link, Vec<u8>)>>,
    /// When a process was called last, and what came of it.
    called: Vec<Option<(Instant, String)>>,
    departures: Departures,
    /// What callers came to.
    heard: (Sender<Heard>, Receiver<Heard>),
    /// Callers that are being heard out.
    hearing: usize,
    begun: Instant,
}

/// A caller's address, and its link or why it has none.
type Heard = (SocketAddr, Result<(Link, Vec<u8>), String>);

impl Meeting {
    fn begin(topology: &Topology, terms: &Terms, departures: &Departures) -> ProcessorResult<Self> {
        let (own, addresses) = (topology.process().index, topology.addresses().to_vec());
        let on = terms.listen.map_or_else(|| addresses[own].clone(), |listen| listen.to_string());
        if terms.secret.is_empty() {
            addresses
                .iter()
                .enumerate()
                .chain([(own, &on)])
                .try_for_each(|(process, address)| must_be_of_this_machine(process, address))?;
        }
        let listener = TcpListener::bind(on.as_str())
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| cannot_listen(topology, terms.listen, &error))?;
        let links = addresses.iter().map(|_| None).collect();
        let called = vec![None; addresses.len()];
        let heard = crossbeam_channel::unbounded();
        let (terms, departures) = (terms.clone(), departures.clone());
        Ok(Self {
            terms,
            own,
            addresses,
            on,
            listener,
            links,
            called,
            departures,
            heard,
            hearing: 0,
            begun: Instant::now(),
        })
    }

    /// For people: the first process that is not linked yet.
    fn missing(&self) -> Option<String> {
        let own = self.own;
        let index = (0..self.links.len()).find(|index| *index != own && self.links[*index].is_none())?;
        let reason = match &self.called[index] {
            Some((_, reason)) => format!(": {reason}"),
            None if index > own => ", which has not called".to_owned(),
            None => String::new(),
        };
        Some(format!("process {index} ({}){reason}", self.addresses[index]))
    }

    /// Hears out everybody who has called, and takes note of what that came to.
    fn accept(&mut self) {
        while self.hearing < CALLERS
            && let Ok((socket, from)) = self.listener.accept()
        {
            let (terms, departures, heard) = (self.terms.clone(), self.departures.clone(), self.heard.0.clone());
            let hear = move || drop(heard.send((from, welcome(socket, &terms, departures))));
            // A caller that is not heard out calls again.
            self.hearing += usize::from(self.terms.control.spawn("hear-caller", hear).is_ok());
        }
        let mut refused = 0;
        while let Ok((from, heard)) = self.heard.1.try_recv() {
            self.hearing -= 1;
            match heard {
                Ok((link, opening)) => {
                    let process = link.process();
                    self.links[process] = Some((link, opening));
                }
                Err(reason) if refused < REFUSALS_AT_A_TIME => {
                    refused += 1;
                    tracing::warn!(target: "processor", "refused a call from {from}: {reason}");
                }
                Err(_) => refused += 1,
            }
        }
        if refused > REFUSALS_AT_A_TIME {
            tracing::warn!(target: "processor", "refused {} more calls", refused - REFUSALS_AT_A_TIME);
        }
    }

    /// Calls the processes with lower indices that have no link yet.
    fn call(&mut self) -> ProcessorResult<()> {
        let call_again = pause(CALL_AGAIN, self.begun.elapsed());
        for index in 0..self.own {
            let recently = self.called[index].as_ref().is_some_and(|(when, _)| when.elapsed() < call_again);
            if self.links[index].is_some() || recently {
                continue;
            }
            match self.greet(index) {
                Ok(linked) => self.links[index] = Some(linked),
                Err(Unlinked::NotYet(reason)) => self.called[index] = Some((Instant::now(), reason)),
                Err(Unlinked::Refused(reason)) => {
                    let address = &self.addresses[index];
                    return Err(ProcessorError::Config(format!("process {index} ({address}) refused: {reason}")));
                }
            }
        }
        Ok(())
    }

    fn greet(&self, index: usize) -> Result<(Link, Vec<u8>), Unlinked> {
        let mut socket = call(&self.addresses[index])?;
        handshake::greet(&mut socket, &self.terms.profile, index, &self.terms.secret)?;
        let opening = handshake::exchange(&mut socket, &self.terms.opening, Side::Caller)?;
        Ok((Link::over(socket, index, &self.terms, self.departures.clone())?, opening))
    }

    /// All are linked.
    fn end(self) -> Met {
        let (own, mut met) = (self.terms.opening, Met { links: Vec::new(), openings: Vec::new() });
        for linked in self.links {
            let (link, opening) = linked.unzip();
            met.links.push(link);
            met.openings.push(opening.unwrap_or_else(|| own.to_vec()));
        }
        met
    }
}

/// How long to pause after so much waiting.
fn pause([shortest, longest]: [Duration; 2], waited: Duration) -> Duration {
    (waited / PART).clamp(shortest, longest)
}

/// Hears a caller out.
fn welcome(mut socket: TcpStream, terms: &Terms, departures: Departures) -> Result<(Link, Vec<u8>), String> {
    let process = handshake::hear(&mut socket, &terms.profile, &terms.secret)?;
    let linked = handshake::exchange(&mut socket, &terms.opening, Side::Listener)
        .and_then(|opening| Ok((Link::over(socket, process, terms, departures)?, opening)));
    linked.map_err(|error| format!("process {process} did not come to a link: {error}"))
}

fn call(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()?.collect::<Vec<SocketAddr>>() {
        match TcpStream::connect_timeout(&address, CALL_LIMIT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Without a secret anybody could call: then nobody but this machine is to be able to.
fn must_be_of_this_machine(process: usize, address: &str) -> ProcessorResult<()> {
    let is_loopback = |address: SocketAddr| address.ip().is_loopback();
    match address.to_socket_addrs() {
        Ok(found) if found.clone().next().is_some() && found.clone().all(is_loopback) => Ok(()),
        _ => Err(ProcessorError::Config(format!(
            "process {process} ({address}) is not on this machine's loopback interface, and the job has no secret: processes of \
             several machines prove to each other that they know one; write it into a file that all of them have and name that as \
             cluster.secret_file, or give all the same PROCESSOR_CLUSTER__SECRET"
        ))),
    }
}

fn cannot_listen(topology: &Topology, configured: Option<SocketAddr>, error: &io::Error) -> ProcessorError {
    let process = topology.process().index;
    let (address, place) = (&topology.addresses()[process], topology.place_of(process));
    let text = match (configured, &place) {
        (Some(listen), _) => format!("cannot listen on {listen} (cluster.listen): {error}"),
        (None, None) => format!("cannot listen on {address}, the address of process {process}: {error}"),
        (None, Some(place)) => {
            format!("{place}: cannot listen on {address}, the address of process {process}: {error}")
        }
    };
    match error.kind() {
        // Whoever has the port may let go of it.
        ErrorKind::AddrInUse => ProcessorError::PeerLost(text),
        _ if configured.is_some() || place.is_none() => ProcessorError::Config(text),
        _ => ProcessorError::Config(format!(
            "{text}; that line must name this machine: another index (-p) would be another line, and cluster.listen names an address \
             of this machine where it is known by another name"
        )),
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
