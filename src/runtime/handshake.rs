//! How two processes of a job come to trust each other before timely gets their socket.
//!
//! The model: a *caller* and a *listener*, each of which knows the job's shared secret and its own [`Profile`]. Neither sends the
//! secret; each proves that it has it, by an HMAC-SHA-256 (RFC 2104) over the caller's profile and two fresh random numbers, one of
//! each side. A proof names its side, so that it cannot be sent back to whoever made it, and holds for one conversation alone, so
//! that a recorded one is worth nothing. Who has not proved itself is told nothing and believed nothing:
//!
//! | who | bytes | what |
//! |---|---|---|
//! | caller | 120 | its [`Hello`] |
//! | listener | 64 | a random number, and the listener's proof |
//! | caller | 32 | the caller's proof |
//! | listener | 2 and more | the length of the reason why not, and the reason; an empty one is a welcome |
//! | caller | 1 | [`CONFIRMED`], so that nobody counts on a caller that has given up |
//! | each | 4 and more | the length of what it has to tell before they are linked, and that: see [`exchange`] |
//!
//! Without a secret the key is empty, and the addresses must be of this machine.
//!
//! How it fails: what is said is checked against its length, the conversation against a deadline, whatever the pace of the bytes. The
//! caller finds out first that the secrets differ; it may be talking to somebody who is in the place of the process for a
//! while, so it says so and calls again.

use crate::config::{ClusterConfig, LEAST_SECRET};
use crate::error::{ProcessorError, ProcessorResult};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a conversation may take, on the side that listens.
const LISTENER_LIMIT: Duration = Duration::from_secs(2);
/// The same for the caller: longer, so that whoever listens knows first that it failed.
const CALLER_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take until both sides have told what there is to know.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
/// The last word.
const CONFIRMED: u8 = 1;
/// How every hello begins; the last byte is the version of all that follows.
const MAGIC: [u8; 8] = *b"llmproc\x04";
/// What a process has to tell is no longer than this.
const LONGEST_OPENING: usize = 64 << 20;
const HELLO_BYTES: usize = 120;
const BYTES: usize = 32;

/// 256 bits: a proof, a random number, or what stands for a program or a job.
pub type Bits = [u8; BYTES];

/// What the processes of a job have in common, and which of them this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// This process's index.
    pub process: u32,
    /// How many there are.
    pub processes: u32,
    /// Worker threads of each.
    pub threads: u32,
    /// Stands for the program.
    pub build: Bits,
    /// Stands for the job: its name, and what gives its state its meaning.
    pub job: Bits,
}

/// What the processes of a job know and others do not. Its `Debug` shows nothing of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// What a caller says first, numbers in big-endian order.
///
/// | bytes | what |
/// |---|---|
/// | 8 | [`MAGIC`] |
/// | 4 | the caller's index |
/// | 4 | the index of the process that it means to call |
/// | 4 | how many processes there are |
/// | 4 | how many workers each has |
/// | 32 | what stands for its program |
/// | 32 | what stands for its job |
/// | 32 | a random number |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    caller: Profile,
    called: u32,
    random: Bits,
}

/// Why there is no link.
#[derive(Debug, PartialEq, Eq)]
pub enum Unlinked {
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

/// What stands for this program: equal for equal bytes of the executable. How rows are laid out in memory, which is how they are
/// sent, depends on nothing else.
pub fn build() -> ProcessorResult<Bits> {
    // On Linux that which runs, even where another has been put in its place.
    let path = std::path::Path::new("/proc/self/exe");
    let own = if path.exists() { Ok(path.to_owned()) } else { std::env::current_exe() };
    let hashed = own.and_then(File::open).and_then(|mut program| {
        let mut hash = Sha256::new();
        io::copy(&mut program, &mut hash)?;
        Ok(hash.finalize().into())
    });
    hashed
        .map_err(|error| ProcessorError::io("cannot read this program's own file, to tell it from other builds", error))
}

/// What stands for a job that is described by these texts.
pub fn job<'a>(texts: impl IntoIterator<Item = &'a str>) -> Bits {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

impl Secret {
    /// Of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The one that the configuration has, or names a file of.
    pub fn of(config: &ClusterConfig) -> ProcessorResult<Self> {
        if let Some(secret) = &config.secret {
            return Ok(Self::new(secret.0.as_bytes()));
        }
        let Some(path) = &config.secret_file else { return Ok(Self::default()) };
        let text = std::fs::read(path).map_err(|error| {
            ProcessorError::Config(format!("cannot read cluster.secret_file {}: {error}", path.display()))
        })?;
        let secret = text.trim_ascii();
        match secret.len() >= LEAST_SECRET {
            true => Ok(Self::new(secret)),
            false => Err(ProcessorError::Config(format!(
                "cluster.secret_file {} holds {} bytes; a secret is at least {LEAST_SECRET}, such as what `openssl rand -hex 32` prints",
                path.display(),
                secret.len()
            ))),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A proof that is not finished: of this side, in this conversation.
    fn proof(&self, side: &str, hello: &[u8; HELLO_BYTES], listeners_random: &Bits) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        mac.update(side.as_bytes());
        mac.update(hello);
        mac.update(listeners_random);
        mac
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(***)" })
    }
}

const LISTENER: &str = "listener";
const CALLER: &str = "caller";

fn random() -> io::Result<Bits> {
    let mut bits = [0; BYTES];
    getrandom::fill(&mut bits).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
    Ok(bits)
}

impl Hello {
    fn encode(self) -> [u8; HELLO_BYTES] {
        let Hello { caller, called, random } = self;
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        for (place, number) in [caller.process, called, caller.processes, caller.threads].into_iter().enumerate() {
            bytes[8 + 4 * place..12 + 4 * place].copy_from_slice(&number.to_be_bytes());
        }
        for (place, bits) in [caller.build, caller.job, random].into_iter().enumerate() {
            bytes[24 + BYTES * place..24 + BYTES * (place + 1)].copy_from_slice(&bits);
        }
        bytes
    }

    fn decode(bytes: &[u8; HELLO_BYTES]) -> Self {
        let number = |place: usize| {
            let bytes = &bytes[8 + 4 * place..12 + 4 * place];
            u32::from_be_bytes(bytes.try_into().expect("four bytes"))
        };
        let bits = |place: usize| -> Bits {
            let bytes = &bytes[24 + BYTES * place..24 + BYTES * (place + 1)];
            bytes.try_into().expect("32 bytes")
        };
        let caller =
            Profile { process: number(0), processes: number(2), threads: number(3), build: bits(0), job: bits(1) };
        Self { caller, called: number(1), random: bits(2) }
    }
}

/// Whether the bytes are the beginning of a hello, as far as they go.
fn check_magic(bytes: &[u8; 8]) -> Result<(), String> {
    if bytes[..7] != MAGIC[..7] {
        return Err("the caller is no processor".into());
    }
    match bytes[7] == MAGIC[7] {
        true => Ok(()),
        false => Err(format!("the caller speaks version {} of the greeting, this process {}", bytes[7], MAGIC[7])),
    }
}

impl Profile {
    /// Whether the caller may be linked to this process; if not, why.
    fn admits(&self, hello: &Hello) -> Result<(), String> {
        let caller = &hello.caller;
        if (caller.processes, caller.threads) != (self.processes, self.threads) {
            return Err(format!(
                "process {} was started with -n {} -w {}, process {} with -n {} -w {}; all processes of a job need the same",
                caller.process, caller.processes, caller.threads, self.process, self.processes, self.threads
            ));
        }
        if hello.called != self.process {
            return Err(format!(
                "process {} has called process {}, and this is process {}: give all processes the same hostfile, and each its own -p",
                caller.process, hello.called, self.process
            ));
        }
        if caller.process <= self.process || caller.process >= self.processes {
            return Err(format!("process {} is not expected to call process {}", caller.process, self.process));
        }
        if caller.job != self.job {
            return Err(format!(
                "process {} runs another job than process {}, or the same with another configuration: name, source, event, \
                 windows and aggregation must be the same",
                caller.process, self.process
            ));
        }
        match caller.build == self.build {
            true => Ok(()),
            false => Err(format!(
                "process {} is another build of the program than process {}: rows are sent as they lie in memory, so all \
                 processes of a job need the same executable",
                caller.process, self.process
            )),
        }
    }
}

/// A socket that must come to the end of a conversation by a certain time.
struct Timed<'a> {
    socket: &'a mut TcpStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    fn new(socket: &'a mut TcpStream, limit: Duration) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        // Small messages go at once.
        socket.set_nodelay(true)?;
        Ok(Self { socket, until: Instant::now() + limit })
    }

    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            left if left.is_zero() => Err(io::Error::new(ErrorKind::TimedOut, "it takes too long")),
            left => Ok(left),
        }
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, space: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < space.len() {
            let left = self.left()?;
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut space[filled..]) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "it was closed early")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What the system calls the end of a time-out differs.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left()?;
        self.socket.set_write_timeout(Some(left))?;
        self.socket.write_all(bytes)
    }
}

/// Hears a caller out and answers. The index of the process that has called, or why it is not welcome.
pub fn hear(socket: &mut TcpStream, own: &Profile, secret: &Secret) -> Result<usize, String> {
    let failed = |error: io::Error| format!("no greeting: {error}");
    let mut socket = Timed::new(socket, LISTENER_LIMIT).map_err(failed)?;
    // Another program says less, or more, and need not be waited for.
    let magic: [u8; 8] = socket.read().map_err(failed)?;
    check_magic(&magic)?;
    let mut bytes = [0; HELLO_BYTES];
    bytes[..8].copy_from_slice(&magic);
    socket.fill(&mut bytes[8..]).map_err(failed)?;
    let hello = Hello::decode(&bytes);
    let random = random().map_err(failed)?;
    let proof = secret.proof(LISTENER, &bytes, &random).finalize().into_bytes();
    socket.write(&[&random[..], &proof].concat()).map_err(failed)?;
    let callers: Bits = socket.read().map_err(failed)?;
    if secret.proof(CALLER, &bytes, &random).verify_slice(&callers).is_err() {
        return Err("the caller does not know the job's secret".into());
    }
    let judged = own.admits(&hello);
    socket.write(&answer(judged.as_ref().err().map_or("", String::as_str))).map_err(failed)?;
    judged?;
    match socket.read::<1>().map_err(failed)? {
        [CONFIRMED] => Ok(hello.caller.process as usize),
        _ => Err("no confirmation".into()),
    }
}

/// The length of the reason in two bytes, and the reason.
fn answer(reason: &str) -> Vec<u8> {
    let length = u16::try_from(reason.len()).unwrap_or(0);
    [&length.to_be_bytes()[..], &reason.as_bytes()[..usize::from(length)]].concat()
}

/// Greets process number `called`, and waits to be welcome.
pub fn greet(socket: &mut TcpStream, own: &Profile, called: usize, secret: &Secret) -> Result<(), Unlinked> {
    let mut socket = Timed::new(socket, CALLER_LIMIT)?;
    let hello = Hello { caller: *own, called: called as u32, random: random()? }.encode();
    socket.write(&hello)?;
    let (listeners_random, proof): (Bits, Bits) = (socket.read()?, socket.read()?);
    if secret.proof(LISTENER, &hello, &listeners_random).verify_slice(&proof).is_err() {
        return Err(Unlinked::NotYet("whoever answers there does not know the job's secret".into()));
    }
    socket.write(&secret.proof(CALLER, &hello, &listeners_random).finalize().into_bytes())?;
    let length = u16::from_be_bytes(socket.read()?);
    if length > 0 {
        let mut reason = vec![0; usize::from(length)];
        socket.fill(&mut reason)?;
        return Err(Unlinked::Refused(String::from_utf8_lossy(&reason).into_owned()));
    }
    socket.write(&[CONFIRMED])?;
    Ok(())
}

/// Which side of a conversation this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that has called: it tells first, so that neither waits for the other to read.
    Caller,
    /// The one that was called.
    Listener,
}

/// Tells the other side what there is to know before the processes are linked, and hears the same. Both sides have proved themselves.
pub fn exchange(socket: &mut TcpStream, own: &[u8], side: Side) -> io::Result<Vec<u8>> {
    let mut socket = Timed::new(socket, EXCHANGE_LIMIT)?;
    let length = u32::try_from(own.len()).ok().filter(|length| *length as usize <= LONGEST_OPENING);
    let length = length.ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidInput, format!("{} bytes about the checkpoints of this process", own.len()))
    })?;
    let message = [&length.to_be_bytes()[..], own].concat();
    if side == Side::Caller {
        socket.write(&message)?;
    }
    let theirs = u32::from_be_bytes(socket.read()?) as usize;
    if theirs > LONGEST_OPENING {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("the process announces {theirs} bytes")));
    }
    let mut bytes = vec![0; theirs];
    socket.fill(&mut bytes)?;
    if side == Side::Listener {
        socket.write(&message)?;
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
pub(super) mod tests;
