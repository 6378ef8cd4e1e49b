//! Standard input as a source of JSON lines: one partition, `stdin`, read by the first worker.
//!
//! The model: a thread reads chunks and hands them over a short bounded channel, so that a slow run slows the writer at the
//! other end of the pipe; after each it calls the waker, so that the worker need not poll. End of file ends the partition. How
//! it fails: an error of the operating system ends the run. What was read cannot be read again: a checkpoint that stands in the
//! middle of standard input is refused, see [`Resume`]; whoever accepts the loss goes on with its state and what comes now. A thread that waits for input cannot be interrupted: when the run
//! stops it is left behind, and ends at its next chunk or with the process.

use super::lines::{CHUNK, LineBuffer, NextLine};
use super::{Intake, NoOrigin, PartitionSlot, Polled, Resume, Source, StartAt};
use crate::checkpoint::failpoint;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Offset, PartitionName};
use crate::runtime::panic_message;
use crate::time::EventTime;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Called when there is something to poll.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// How many chunks may wait.
const CHUNKS: usize = 4;

/// Without a waker's call it is of no use to poll again before this.
const IDLE: Duration = Duration::from_millis(100);

type Chunk = std::io::Result<Vec<u8>>;

/// Reads standard input, or another stream.
pub struct StdinSource {
    chunks: Receiver<Chunk>,
    rest: Vec<u8>,
    used: usize,
    lines: LineBuffer,
    slot: Option<PartitionSlot>,
    finished: bool,
    resume: Arc<Resume>,
}

impl StdinSource {
    /// Starts reading standard input. Only one worker of a job may do so.
    pub fn new(waker: Waker) -> ProcessorResult<Self> {
        Self::from_reader(std::io::stdin(), waker)
    }

    /// Starts reading any stream, under the same name.
    pub fn from_reader(input: impl Read + Send + 'static, waker: Waker) -> ProcessorResult<Self> {
        let (sender, chunks) = crossbeam_channel::bounded(CHUNKS);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                // A thread that is gone would look like the end of the input.
                let read = AssertUnwindSafe(|| {
                    failpoint("stdin");
                    read_chunks(input, &sender, &waker);
                });
                if let Err(panic) = catch_unwind(read) {
                    let reason = format!("the thread that reads it panicked: {}", panic_message(&*panic));
                    // Nobody listens where the run is over.
                    let _ = sender.send(Err(std::io::Error::other(reason)));
                }
                // The end shows only when the channel is closed.
                drop(sender);
                waker();
            })
            .map_err(|error| ProcessorError::io("cannot start the thread that reads standard input", error))?;
        Ok(Self {
            chunks,
            rest: Vec::new(),
            used: 0,
            lines: LineBuffer::new(),
            slot: None,
            finished: false,
            resume: Arc::default(),
        })
    }

    /// The same, for a job that goes on from a checkpoint.
    pub fn resuming(self, resume: Arc<Resume>) -> Self {
        Self { resume, ..self }
    }

    /// Opens the one partition.
    fn announce(&mut self, intake: &mut Intake) -> ProcessorResult<PartitionSlot> {
        if let Some(slot) = self.slot {
            return Ok(slot);
        }
        let name = PartitionName { topic: "stdin".into(), partition: 0 };
        match self.resume.start(&name) {
            StartAt::New | StartAt::Record(Offset(0)) => {}
            StartAt::Ended => self.finished = true,
            StartAt::Record(next) => {
                self.resume.lose(&name, None, || {
                    format!("the checkpoint goes on at byte {next}, and what was read of standard input cannot be read again")
                })?;
                self.lines = LineBuffer::at(next.0.unsigned_abs());
            }
        }
        self.resume.vanished(|there| *there == name)?;
        let slot = intake.open_partition(name, EventTime::MIN);
        intake.set_ready();
        Ok(*self.slot.insert(slot))
    }

    /// Moves bytes into the line buffer; whether there were any, or the end.
    fn fill(&mut self) -> ProcessorResult<bool> {
        if self.used == self.rest.len() {
            match self.chunks.try_recv() {
                Ok(Ok(chunk)) => (self.rest, self.used) = (chunk, 0),
                Ok(Err(error)) => return Err(ProcessorError::Source(format!("cannot read standard input: {error}"))),
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => {
                    self.lines.set_ended();
                    return Ok(true);
                }
            }
        }
        let space = self.lines.space();
        let count = space.len().min(self.rest.len() - self.used);
        space[..count].copy_from_slice(&self.rest[self.used..self.used + count]);
        self.used += count;
        self.lines.filled(count);
        Ok(true)
    }
}

/// Reads until the end, an error, or nobody listens any more.
fn read_chunks(mut input: impl Read, chunks: &Sender<Chunk>, waker: &Waker) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let chunk = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => Ok(buffer[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        if chunks.send(chunk).is_err() || failed {
            break;
        }
        waker();
    }
}

impl Source for StdinSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        let slot = self.announce(intake)?;
        let mut handed = 0;
        while handed < max_records && !self.finished {
            match self.lines.next_line() {
                NextLine::Line { offset, bytes } => {
                    intake.record(slot, offset, bytes, &NoOrigin)?;
                    handed += 1;
                }
                NextLine::TooLong { offset, first_bytes, size } => {
                    intake.too_large(slot, offset, &first_bytes, size)?;
                    handed += 1;
                }
                NextLine::NeedMore => {
                    if !self.fill()? {
                        break;
                    }
                }
                NextLine::End => {
                    intake.close_partition(slot);
                    self.finished = true;
                }
            }
        }
        intake.set_next(slot, Offset(self.lines.offset() as i64));
        Ok(match handed {
            0 if self.finished => Polled::Finished,
            0 => Polled::Nothing(IDLE),
            records => Polled::Records(records),
        })
    }
}
