//! The links between the processes of a job.
//!
//! The model: each process listens at its own address and calls those with a lower index, again and again until they answer.
//! The caller says who it is and what it believes the job to be ([`Hello`]); the answer is a welcome, or why not; the caller
//! confirms, so that nobody counts on a caller that has given up. Each caller is heard out on a thread of its own: one that
//! says nothing holds nobody up. When every pair is linked, the sockets are timely's. A [`Link`] is a socket that takes note when the other side has closed it, because
//! timely does not tell a peer that has ended in order from one that is silent.
//!
//! How it fails: whoever is not there yet is waited for, with a line in the log now and then, up to [`CONNECT_LIMIT`]; a stop
//! that is asked for meanwhile ends the waiting. What calls and is no process of this job (another program, another number of
//! processes or workers) is refused with a reason on both sides and does not keep the others from linking.

use super::job::spawn;
use super::{Control, Topology};
use crate::error::{ProcessorError, ProcessorResult};
use crossbeam_channel::{Receiver, Sender};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use timely::communication::allocator::zero_copy::stream::Stream;

/// How long processes wait for one another.
const CONNECT_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks at who is there.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two calls of the same process.
const CALL_AGAIN: Duration = Duration::from_millis(500);
/// Between two lines of the log about the same waiting.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How long a caller may take for its greeting, and for the confirmation.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer may take: longer, so that whoever answers knows first that it failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Callers that are heard out at the same time.
const CALLERS: usize = 64;
/// The confirmation.
const CONFIRMED: u8 = 1;

/// What a caller says first: 24 bytes, numbers in big-endian order.
///
/// | bytes | what |
/// |---|---|
/// | 8 | [`MAGIC`], whose last byte is the version |
/// | 4 | the caller's index |
/// | 4 | how many processes there are |
/// | 4 | how many workers each has |
/// | 4 | 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    process: u32,
    processes: u32,
    threads: u32,
}

const MAGIC: [u8; 8] = *b"llmproc\x01";
const HELLO_BYTES: usize = 24;

impl Hello {
    fn of(topology: &Topology) -> Self {
        let process = topology.process();
        Self { process: process.index as u32, processes: process.count as u32, threads: topology.threads() as u32 }
    }

    fn encode(self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        for (place, number) in [self.process, self.processes, self.threads].into_iter().enumerate() {
            bytes[8 + 4 * place..12 + 4 * place].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, String> {
        if bytes[..7] != MAGIC[..7] {
            return Err("the caller is no processor".into());
        }
        if bytes[7] != MAGIC[7] {
            return Err(format!("the caller speaks version {} of the greeting, this process {}", bytes[7], MAGIC[7]));
        }
        let number = |place: usize| {
            let bytes = &bytes[8 + 4 * place..12 + 4 * place];
            u32::from_be_bytes(bytes.try_into().expect("four bytes"))
        };
        Ok(Self { process: number(0), processes: number(1), threads: number(2) })
    }

    /// Whether `caller` may be linked to this process; if not, why.
    fn admits(self, caller: Hello) -> Result<(), String> {
        if (caller.processes, caller.threads) != (self.processes, self.threads) {
            return Err(format!(
                "process {} was started with -n {} -w {}, process {} with -n {} -w {}; all processes of a job need the same",
                caller.process, caller.processes, caller.threads, self.process, self.processes, self.threads
            ));
        }
        if caller.process <= self.process || caller.process >= self.processes {
            return Err(format!("process {} is not expected to call process {}", caller.process, self.process));
        }
        Ok(())
    }
}

impl Hello {
    /// Hears a caller out and answers.
    fn welcome(self, mut socket: TcpStream, departures: Departures) -> Result<Link, String> {
        let failed = |error: io::Error| format!("no greeting: {error}");
        prepare(&socket, GREETING_LIMIT).map_err(failed)?;
        let mut bytes = [0; HELLO_BYTES];
        socket.read_exact(&mut bytes).map_err(failed)?;
        let caller = Hello::decode(&bytes)?;
        let judged = self.admits(caller);
        answer(&mut socket, judged.as_ref().err().map_or("", String::as_str)).map_err(failed)?;
        judged?;
        let mut confirmed = [0];
        socket.read_exact(&mut confirmed).map_err(failed)?;
        Link::over(socket, caller.process as usize, departures).map_err(failed)
    }
}

/// Which peers have closed their links, the first one with the time at which it was noticed.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    first: Arc<Mutex<Option<(usize, Instant)>>>,
}

impl Departures {
    fn note(&self, process: usize) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((process, Instant::now()));
    }

    /// The first peer to leave, and when.
    pub fn first(&self) -> Option<(usize, Instant)> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket to another process.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    process: usize,
    departures: Departures,
}

impl Link {
    /// Over a socket that is timely's from now on.
    fn over(socket: TcpStream, process: usize, departures: Departures) -> io::Result<Self> {
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        Ok(Self { socket, process, departures })
    }
}

impl Read for Link {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(space);
        let interrupted = matches!(&read, Err(error) if error.kind() == ErrorKind::Interrupted);
        if !space.is_empty() && !interrupted && read.as_ref().map_or(true, |count| *count == 0) {
            self.departures.note(self.process);
        }
        read
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        let socket = self.socket.try_clone()?;
        Ok(Self { socket, process: self.process, departures: self.departures.clone() })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.socket.shutdown(how) {
            // The peer was faster.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }
}

/// Links this process to all others: one link a process, none to itself. `None` where the end was asked for meanwhile.
pub fn connect(
    topology: &Topology,
    control: &Control,
    departures: &Departures,
) -> ProcessorResult<Option<Vec<Option<Link>>>> {
    let mut meeting = Meeting::begin(topology, departures)?;
    let own = &meeting.addresses[topology.process().index];
    tracing::info!(target: "processor", "waiting for the other processes of the job, on {own}");
    let begun = Instant::now();
    let mut say = begun + SAY_AGAIN;
    while let Some(missing) = meeting.missing() {
        meeting.accept();
        meeting.call()?;
        if Instant::now() >= say {
            say += SAY_AGAIN;
            tracing::info!(target: "processor", "waiting for {missing}");
        }
        if begun.elapsed() > CONNECT_LIMIT {
            let waited = CONNECT_LIMIT.as_secs();
            return Err(ProcessorError::PeerLost(format!("after {waited} s there is still no link to {missing}")));
        }
        if meeting.missing().is_some() && control.sleep(PAUSE) {
            return Ok(None);
        }
    }
    Ok(Some(meeting.links))
}

/// The linking of one process.
struct Meeting {
    hello: Hello,
    addresses: Vec<String>,
    listener: TcpListener,
    links: Vec<Option<Link>>,
    /// When a process was called last, and what came of it.
    called: Vec<Option<(Instant, String)>>,
    departures: Departures,
    /// What callers came to.
    heard: (Sender<Heard>, Receiver<Heard>),
    /// Callers that are being heard out.
    hearing: usize,
}

/// A caller's address, and its link or why it has none.
type Heard = (SocketAddr, Result<Link, String>);

impl Meeting {
    fn begin(topology: &Topology, departures: &Departures) -> ProcessorResult<Self> {
        let (hello, addresses) = (Hello::of(topology), topology.addresses().to_vec());
        let own = &addresses[hello.process as usize];
        let listener = TcpListener::bind(own.as_str())
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| cannot_listen(own, hello.process, &error))?;
        let links = addresses.iter().map(|_| None).collect();
        let called = vec![None; addresses.len()];
        let heard = crossbeam_channel::unbounded();
        Ok(Self { hello, addresses, listener, links, called, departures: departures.clone(), heard, hearing: 0 })
    }

    /// For people: the first process that is not linked yet.
    fn missing(&self) -> Option<String> {
        let own = self.hello.process as usize;
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
            let (hello, departures, heard) = (self.hello, self.departures.clone(), self.heard.0.clone());
            let hear = move || drop(heard.send((from, hello.welcome(socket, departures))));
            // A caller that is not heard out calls again.
            self.hearing += usize::from(spawn("hear-caller", hear).is_ok());
        }
        while let Ok((from, heard)) = self.heard.1.try_recv() {
            self.hearing -= 1;
            match heard {
                Ok(link) => {
                    let process = link.process;
                    self.links[process] = Some(link);
                }
                Err(reason) => tracing::warn!(target: "processor", "refused a call from {from}: {reason}"),
            }
        }
    }

    /// Calls the processes with lower indices that have no link yet.
    fn call(&mut self) -> ProcessorResult<()> {
        for index in 0..self.hello.process as usize {
            let recently = self.called[index].as_ref().is_some_and(|(when, _)| when.elapsed() < CALL_AGAIN);
            if self.links[index].is_some() || recently {
                continue;
            }
            match self.greet(index) {
                Ok(link) => self.links[index] = Some(link),
                Err(Unlinked::NotYet(reason)) => self.called[index] = Some((Instant::now(), reason)),
                Err(Unlinked::Refused(reason)) => {
                    let address = &self.addresses[index];
                    return Err(ProcessorError::Config(format!("process {index} ({address}) refused: {reason}")));
                }
            }
        }
        Ok(())
    }

    fn greet(&self, index: usize) -> Result<Link, Unlinked> {
        let mut socket = call(&self.addresses[index])?;
        prepare(&socket, ANSWER_LIMIT)?;
        socket.write_all(&self.hello.encode())?;
        let mut length = [0; 2];
        socket.read_exact(&mut length)?;
        if length != [0; 2] {
            let mut reason = vec![0; usize::from(u16::from_be_bytes(length))];
            socket.read_exact(&mut reason)?;
            return Err(Unlinked::Refused(String::from_utf8_lossy(&reason).into_owned()));
        }
        socket.write_all(&[CONFIRMED])?;
        Ok(Link::over(socket, index, self.departures.clone())?)
    }
}

/// Why there is no link.
enum Unlinked {
    /// It may come yet.
    NotYet(String),
    /// It will not.
    Refused(String),
}

impl From<io::Error> for Unlinked {
    fn from(error: io::Error) -> Self {
        Unlinked::NotYet(error.to_string())
    }
}

fn call(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()?.collect::<Vec<SocketAddr>>() {
        match TcpStream::connect_timeout(&address, GREETING_LIMIT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Small messages go at once, and a greeting that does not come is not waited for.
fn prepare(socket: &TcpStream, limit: Duration) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(GREETING_LIMIT))
}

/// The length of the reason in two bytes, and the reason; an empty one is a welcome.
fn answer(socket: &mut TcpStream, reason: &str) -> io::Result<()> {
    let length = u16::try_from(reason.len()).unwrap_or(0);
    socket.write_all(&length.to_be_bytes())?;
    socket.write_all(reason.as_bytes())
}

fn cannot_listen(address: &str, process: u32, error: &io::Error) -> ProcessorError {
    let text = format!("cannot listen on {address}, the address of process {process}: {error}");
    match error.kind() {
        // Whoever has the port may let go of it.
        ErrorKind::AddrInUse => ProcessorError::PeerLost(text),
        _ => ProcessorError::Config(format!("{text}; line {} of the hostfile must name this machine", process + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use std::thread;

    fn free_addresses<const N: usize>() -> [String; N] {
        let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        listeners.map(|listener| listener.local_addr().unwrap().to_string())
    }

    fn topology(threads: usize, process: usize, addresses: &[String]) -> Topology {
        Topology::of_addresses(NonZeroUsize::new(threads).unwrap(), process, addresses.to_vec())
    }

    fn link(topology: Topology, control: &Control) -> thread::JoinHandle<ProcessorResult<Option<Vec<Option<Link>>>>> {
        let control = control.clone();
        thread::spawn(move || connect(&topology, &control, &Departures::default()))
    }

    #[test]
    fn processes_find_each_other_whatever_calls_besides() {
        let (addresses, control) = (free_addresses::<3>(), Control::new());
        let first = link(topology(2, 0, &addresses), &control);
        thread::sleep(Duration::from_millis(50));
        // A scanner, somebody who says nothing, and another program.
        drop(TcpStream::connect(&addresses[0]).unwrap());
        let silent = TcpStream::connect(&addresses[0]).unwrap();
        TcpStream::connect(&addresses[0]).unwrap().write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let others = [2, 1].map(|process| link(topology(2, process, &addresses), &control));
        let linked = |found: ProcessorResult<Option<Vec<Option<Link>>>>| -> Vec<Option<usize>> {
            found.unwrap().unwrap().iter().map(|link| link.as_ref().map(|link| link.process)).collect()
        };
        assert_eq!(linked(first.join().unwrap()), [None, Some(1), Some(2)]);
        let [third, second] = others.map(|other| linked(other.join().unwrap()));
        assert_eq!((second, third), (vec![Some(0), None, Some(2)], vec![Some(0), Some(1), None]));
        drop(silent);
    }

    #[test]
    fn a_process_of_another_job_is_told_what_differs() {
        let (addresses, control) = (free_addresses::<2>(), Control::new());
        let first = link(topology(2, 0, &addresses), &control);
        let other = connect(&topology(3, 1, &addresses), &Control::new(), &Departures::default()).unwrap_err();
        assert_eq!(
            other.to_string(),
            format!(
                "process 0 ({}) refused: process 1 was started with -n 2 -w 3, process 0 with -n 2 -w 2; all processes of \
                 a job need the same",
                addresses[0]
            )
        );
        control.stop();
        assert!(first.join().unwrap().unwrap().is_none(), "the end was asked for");
    }

    #[test]
    fn waiting_ends_when_it_is_asked_to() {
        let (addresses, control) = (free_addresses::<2>(), Control::new());
        let waiting = link(topology(1, 1, &addresses), &control);
        thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        control.stop();
        assert!(waiting.join().unwrap().unwrap().is_none());
        assert!(asked.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn an_address_of_another_machine_is_no_place_to_listen() {
        let addresses = ["203.0.113.1:2101".to_owned(), "127.0.0.1:2102".to_owned()];
        let error = connect(&topology(1, 0, &addresses), &Control::new(), &Departures::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot listen on 203.0.113.1:2101, the address of process 0: "),
            "{error}"
        );
        assert!(error.to_string().ends_with("; line 1 of the hostfile must name this machine"), "{error}");
    }

    #[test]
    fn a_peer_that_leaves_is_noticed() {
        let (addresses, control) = (free_addresses::<2>(), Control::new());
        let departures = Departures::default();
        let other = link(topology(1, 1, &addresses), &control);
        let mut links = connect(&topology(1, 0, &addresses), &control, &departures).unwrap().unwrap();
        assert_eq!(departures.first(), None);
        drop(other.join().unwrap());
        let read = links[1].as_mut().unwrap().read(&mut [0]);
        assert_eq!(read.unwrap(), 0);
        assert_eq!(departures.first().unwrap().0, 1);
    }
}
