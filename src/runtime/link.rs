//! One link to another process: what timely writes and reads, in frames, and a pulse between them.
//!
//! The model: each write is a *frame*: its length in four bytes, little-endian, and the bytes. A frame without bytes is a *pulse*: a
//! thread of the link's own writes one several times within `cluster.failure_timeout`, however idle or busy the workers are. So
//! a process that reads nothing from a peer for that long knows that the peer does not run, be it stopped or its host gone;
//! [`Pulses`] counts what was read. The kernel's own keep-alive would not tell: it answers for a process that is stopped. A frame
//! with the highest bit of its length set is *news*: a pulse that says how its process is, for the pages of the others ([`News`]).
//!
//! How it fails: where a write waits because the other side does not read, no pulse gets through either; but then it is the other side
//! that does not run, as what a link brings is always read at once. A process that was stopped itself finds no peer silent because
//! of it: [`Silence`] counts the time in which it has looked.

use super::Control;
use super::links::{Departures, Terms};
use crate::checkpoint::failpoint;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use timely::communication::allocator::zero_copy::stream::Stream;

/// Bytes of a frame before its content.
const LENGTH_BYTES: usize = 4;
/// A frame is no longer than this.
const LONGEST_FRAME: usize = 1 << 30;
/// Set in the length of news.
const NEWS: u32 = 1 << 31;
/// News are no longer than this: what would be is not told.
const LONGEST_NEWS: usize = 1 << 20;
/// What is read ahead, so that short frames do not cost a call each.
const READ_AHEAD: usize = 16 << 10;
/// So many pulses are written in the time after which silence counts.
const PULSES: u32 = 5;
/// They need not be more frequent than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What counts of the time between two looks; a process that was stopped for longer has not looked.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// A socket to another process.
#[derive(Debug)]
pub struct Link {
    process: usize,
    departures: Departures,
    read: BufReader<TcpStream>,
    /// Bytes of the frame that are not read yet.
    left: usize,
    heard: Arc<AtomicU64>,
    news: Option<News>,
    writing: Arc<Mutex<Writing>>,
}

/// What processes tell each other of how they are.
#[derive(Clone)]
pub struct News {
    /// How this process is.
    pub tell: Arc<Tell>,
    /// Takes what another has told, by its index.
    pub hear: Arc<Hear>,
}

/// See [`News`].
pub type Tell = dyn Fn() -> Vec<u8> + Send + Sync;
/// See [`News`].
pub type Hear = dyn Fn(usize, &[u8]) + Send + Sync;

impl std::fmt::Debug for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("News")
    }
}

/// The side that writes; the pulse shares it.
#[derive(Debug)]
struct Writing {
    socket: TcpStream,
    is_closed: bool,
}

/// How much was heard of one peer: counts reads.
#[derive(Clone, Debug)]
pub struct Pulses(Arc<AtomicU64>);

/// For how long a peer has been silent.
#[derive(Debug)]
pub struct Silence {
    heard: Pulses,
    last: u64,
    looked: Instant,
    silent: Duration,
}

impl Link {
    /// Over a socket that is timely's from now on.
    pub fn over(socket: TcpStream, process: usize, terms: &Terms, departures: Departures) -> io::Result<Self> {
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        notice_silence(&socket, terms.failure_timeout)?;
        let writing = Arc::new(Mutex::new(Writing { socket: socket.try_clone()?, is_closed: false }));
        let news = terms.news.clone();
        let pause = (terms.failure_timeout / PULSES).min(LONGEST_PAUSE);
        beat(Arc::downgrade(&writing), pause, news.clone(), &terms.control)?;
        let read = BufReader::with_capacity(READ_AHEAD, socket);
        Ok(Self { process, departures, read, left: 0, heard: Arc::default(), news, writing })
    }

    /// The other process's index.
    pub fn process(&self) -> usize {
        self.process
    }

    /// What tells whether the other process runs.
    pub fn pulses(&self) -> Pulses {
        Pulses(Arc::clone(&self.heard))
    }

    /// Reads what a frame has, into a space that is not empty; 0 is the end.
    fn read_frame(&mut self, space: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut length = [0; LENGTH_BYTES];
            if self.read.read(&mut length[..1])? == 0 {
                return Ok(0);
            }
            self.heard.fetch_add(1, Ordering::Relaxed);
            self.read.read_exact(&mut length[1..])?;
            let length = u32::from_le_bytes(length);
            let (is_news, bytes) = (length & NEWS != 0, (length & !NEWS) as usize);
            if bytes > if is_news { LONGEST_NEWS } else { LONGEST_FRAME } {
                let text = format!("process {} says that {bytes} bytes follow: it is no peer", self.process);
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            match is_news {
                true => self.hear_news(bytes)?,
                false => self.left = bytes,
            }
        }
        let most = space.len().min(self.left);
        let read = self.read.read(&mut space[..most])?;
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.left -= read;
        match read {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the link ended within a frame")),
            _ => Ok(read),
        }
    }
}

impl Link {
    fn hear_news(&mut self, bytes: usize) -> io::Result<()> {
        let mut text = vec![0; bytes];
        self.read.read_exact(&mut text)?;
        failpoint("news");
        if let Some(news) = &self.news {
            (news.hear)(self.process, &text);
        }
        Ok(())
    }
}

impl Read for Link {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if space.is_empty() {
            return Ok(0);
        }
        loop {
            let read = self.read_frame(space);
            match &read {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(1..) => {}
                _ => self.departures.note(self.process),
            }
            return read;
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(LONGEST_FRAME)];
        if !bytes.is_empty() {
            lock(&self.writing).write_frame(bytes, 0)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        debug_assert!(self.left == 0 && self.read.buffer().is_empty(), "what was read of a frame belongs to one link");
        Ok(Self {
            process: self.process,
            departures: self.departures.clone(),
            read: BufReader::with_capacity(READ_AHEAD, self.read.get_ref().try_clone()?),
            left: 0,
            heard: Arc::clone(&self.heard),
            news: self.news.clone(),
            writing: Arc::clone(&self.writing),
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.read.get_ref().set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            lock(&self.writing).is_closed = true;
        }
        match self.read.get_ref().shutdown(how) {
            // The peer was faster.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }
}

impl Writing {
    fn write_frame(&mut self, bytes: &[u8], kind: u32) -> io::Result<()> {
        let length = (bytes.len() as u32 | kind).to_le_bytes();
        let mut parts = [io::IoSlice::new(&length), io::IoSlice::new(bytes)];
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            match self.socket.write_vectored(parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => io::IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Silence {
    /// From now on.
    pub fn of(heard: Pulses) -> Self {
        let last = heard.0.load(Ordering::Relaxed);
        Self { heard, last, looked: Instant::now(), silent: Duration::ZERO }
    }

    /// Looks whether something was heard; returns for how long nothing was.
    pub fn look(&mut self) -> Duration {
        let (now, heard) = (Instant::now(), self.heard.0.load(Ordering::Relaxed));
        let passed = now.duration_since(self.looked).min(LONGEST_LOOK);
        self.silent = if heard == self.last { self.silent + passed } else { Duration::ZERO };
        (self.last, self.looked) = (heard, now);
        self.silent
    }
}

fn lock(writing: &Mutex<Writing>) -> MutexGuard<'_, Writing> {
    writing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes pulses until the link is closed or broken. A thread a link: one that waits for a peer that does not read is not to keep
/// the others from pulses.
fn beat(writing: Weak<Mutex<Writing>>, pause: Duration, news: Option<News>, control: &Control) -> io::Result<()> {
    let beat = move || {
        loop {
            std::thread::sleep(pause);
            let Some(writing) = writing.upgrade() else { return };
            let told = news.as_ref().map(|news| (news.tell)()).filter(|text| text.len() <= LONGEST_NEWS);
            let (text, kind) = told.map_or((Vec::new(), 0), |text| (text, NEWS));
            let mut writing = lock(&writing);
            // That it is broken, whoever reads or writes finds out.
            if writing.is_closed || writing.write_frame(&text, kind).is_err() {
                return;
            }
        }
    };
    control.spawn("pulse", beat).map(drop).map_err(|error| io::Error::other(error.to_string()))
}

/// Has a socket fail when the other host has not answered for so long, be it that nothing was sent to it or that what was sent is not
/// acknowledged: a host that has lost its power or its network closes no socket.
fn notice_silence(socket: &TcpStream, limit: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    // Seconds are what the system counts in: asked three times, the last time before the limit.
    let pause = (limit / 4).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(pause).with_interval(pause).with_retries(3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limit))?;
    Ok(())
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
