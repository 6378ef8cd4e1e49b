//! Events that are in the program already: iterators and channels of a user's own type.
//!
//! The model: each iterator or channel is one partition, named `memory`, in the order in which its events come; an offset counts
//! them from 0. Partition i belongs to worker i modulo the number of workers. An iterator ends its partition with `None`, a
//! channel when all its senders are gone. A job that goes on from a checkpoint takes from an iterator what it has had already and
//! throws it away: the iterator must begin where it began the first time. What came from a channel does not come again, see
//! [`Resume`]. Events are turned into rows by a [`TypedDecoder`] on the worker's thread; an iterator
//! that blocks blocks the worker, a channel never does.

use super::{Intake, NoOrigin, PartitionSlot, Polled, Resume, Source, StartAt};
use crate::error::ProcessorResult;
use crate::event::{Decoded, Decoder, Offset, PartitionName, RowColumns, RowScratch, TypedDecoder};
use crate::time::EventTime;
use std::sync::Arc;
use std::time::Duration;

/// How soon a worker looks again into a channel that was empty, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(10));

/// One partition's events.
trait Feed<T>: Send {
    fn next(&mut self) -> Fed<T>;

    /// Passes over the first `count` events; fewer where there are not so many, `None` where that cannot be done.
    fn pass_over(&mut self, count: u64) -> Option<u64>;
}

enum Fed<T> {
    Event(T),
    NothingNow,
    Ended,
}

struct FromIterator<I>(I);

impl<T, I: Iterator<Item = T> + Send> Feed<T> for FromIterator<I> {
    fn next(&mut self) -> Fed<T> {
        self.0.next().map_or(Fed::Ended, Fed::Event)
    }

    fn pass_over(&mut self, count: u64) -> Option<u64> {
        Some((0..count).take_while(|_| self.0.next().is_some()).count() as u64)
    }
}

impl<T: Send> Feed<T> for crossbeam_channel::Receiver<T> {
    fn next(&mut self) -> Fed<T> {
        match self.try_recv() {
            Ok(event) => Fed::Event(event),
            Err(crossbeam_channel::TryRecvError::Empty) => Fed::NothingNow,
            Err(crossbeam_channel::TryRecvError::Disconnected) => Fed::Ended,
        }
    }

    fn pass_over(&mut self, _: u64) -> Option<u64> {
        None
    }
}

impl<T: Send> Feed<T> for tokio::sync::mpsc::Receiver<T> {
    fn next(&mut self) -> Fed<T> {
        match self.try_recv() {
            Ok(event) => Fed::Event(event),
            Err(tokio::sync::mpsc::error::TryRecvError::Empty) => Fed::NothingNow,
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => Fed::Ended,
        }
    }

    fn pass_over(&mut self, _: u64) -> Option<u64> {
        None
    }
}

/// The events of a job, by partition.
pub struct EventInput<T> {
    feeds: Vec<Box<dyn Feed<T>>>,
}

impl<T: Send + 'static> EventInput<T> {
    /// One partition with the items of `events`.
    pub fn from_events(events: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        Self::with_partitions([events])
    }

    /// One partition an iterator.
    pub fn with_partitions<E>(partitions: impl IntoIterator<Item = E>) -> Self
    where
        E: IntoIterator<Item = T, IntoIter: Send + 'static>,
    {
        let feed = |events: E| -> Box<dyn Feed<T>> { Box::new(FromIterator(events.into_iter())) };
        Self { feeds: partitions.into_iter().map(feed).collect() }
    }

    /// One partition with what comes from a channel of crossbeam's. A bounded one makes its senders wait for a slow job.
    pub fn from_channel(events: crossbeam_channel::Receiver<T>) -> Self {
        Self { feeds: vec![Box::new(events)] }
    }

    /// One partition with what comes from a channel of tokio's.
    pub fn from_tokio_channel(events: tokio::sync::mpsc::Receiver<T>) -> Self {
        Self { feeds: vec![Box::new(events)] }
    }

    /// The partitions of both.
    pub fn and(mut self, other: Self) -> Self {
        self.feeds.extend(other.feeds);
        self
    }

    /// The sources of `workers` workers, in their order, each with a decoder of its own.
    pub fn into_sources(self, decoder: &TypedDecoder<T>, workers: usize) -> Vec<MemorySource<T>> {
        let mut sources: Vec<MemorySource<T>> =
            (0..workers.max(1)).map(|_| MemorySource::new(decoder.clone())).collect();
        sources[0].all = Some(self.feeds.len());
        for (number, feed) in self.feeds.into_iter().enumerate() {
            let worker = number % sources.len();
            sources[worker].partitions.push(Partition {
                number: number as i32,
                slot: PartitionSlot(0),
                feed: Some(feed),
                next: 0,
            });
        }
        sources
    }
}

/// One worker's share of an [`EventInput`].
pub struct MemorySource<T> {
    decoder: TypedDecoder<T>,
    row: RowScratch,
    /// The rows that are ready to be handed over, and the events that they came from.
    rows: RowColumns,
    events: Vec<T>,
    partitions: Vec<Partition<T>>,
    announced: bool,
    /// Whose turn it is.
    turn: usize,
    pause: Duration,
    resume: Arc<Resume>,
    /// How many partitions the job has, with the worker that looks for those that are gone.
    all: Option<usize>,
}

struct Partition<T> {
    number: i32,
    slot: PartitionSlot,
    /// `None` once it has ended.
    feed: Option<Box<dyn Feed<T>>>,
    next: i64,
}

fn name_of(number: i32) -> PartitionName {
    PartitionName { topic: "memory".into(), partition: number }
}

impl<T> Partition<T> {
    /// Passes over what was read before the checkpoint.
    fn go_on(&mut self, name: &PartitionName, resume: &Resume) -> ProcessorResult<()> {
        match resume.start(name) {
            StartAt::New | StartAt::Record(Offset(0)) => {}
            StartAt::Ended => self.feed = None,
            StartAt::Record(next) => {
                self.next = next.0;
                let wanted = next.0.unsigned_abs();
                let reason = match self.feed.as_mut().and_then(|feed| feed.pass_over(wanted)) {
                    Some(passed) if passed == wanted => return Ok(()),
                    Some(passed) => {
                        format!("the checkpoint goes on at event {wanted}, and the iterator has only {passed}")
                    }
                    None => format!(
                        "the checkpoint goes on at event {wanted}, and what came from a channel before does not come again"
                    ),
                };
                resume.lose(name, None, || reason)?;
            }
        }
        Ok(())
    }
}

/// How many events a partition hands over before another has its turn.
const CHUNK: usize = 256;

impl<T> MemorySource<T> {
    fn new(decoder: TypedDecoder<T>) -> Self {
        let (pause, _) = PAUSES;
        Self {
            decoder,
            row: RowScratch::default(),
            rows: RowColumns::default(),
            events: Vec::new(),
            partitions: Vec::new(),
            announced: false,
            turn: 0,
            pause,
            resume: Arc::default(),
            all: None,
        }
    }

    /// The same source, from where `resume` says. To be said before the first poll.
    pub fn resuming(self, resume: Arc<Resume>) -> Self {
        Self { resume, ..self }
    }

    /// The decoder for the intake to which this source hands its rows.
    pub fn intake_decoder(&self) -> Box<dyn Decoder> {
        Box::new(self.decoder.names())
    }

    fn announce(&mut self, intake: &mut Intake) -> ProcessorResult<()> {
        if std::mem::replace(&mut self.announced, true) {
            return Ok(());
        }
        for partition in &mut self.partitions {
            let name = name_of(partition.number);
            partition.go_on(&name, &self.resume)?;
            partition.slot = intake.open_partition(name, EventTime::MIN);
        }
        if let Some(all) = self.all.take() {
            for ended in self.resume.vanished(|name| (0..all).any(|number| name_of(number as i32) == *name))? {
                intake.open_partition(ended, EventTime::MIN);
            }
        }
        intake.set_ready();
        Ok(())
    }

    /// Hands over at most `max` events of one partition; how many it was.
    fn read(&mut self, index: usize, intake: &mut Intake, max: usize) -> ProcessorResult<usize> {
        let mut handed = 0;
        while handed < max
            && let Some(feed) = &mut self.partitions[index].feed
        {
            match feed.next() {
                Fed::Event(event) => self.take(index, intake, event)?,
                Fed::NothingNow => break,
                Fed::Ended => {
                    self.hand_over(index, intake);
                    self.partitions[index].feed = None;
                    intake.close_partition(self.partitions[index].slot);
                    break;
                }
            }
            handed += 1;
        }
        self.hand_over(index, intake);
        Ok(handed)
    }

    /// Adds an event to the rows that are handed over next; what is no row goes at once, behind the rows before it.
    fn take(&mut self, index: usize, intake: &mut Intake, event: T) -> ProcessorResult<()> {
        self.row.clear();
        let extracted = self.decoder.extract(&event, &mut self.row);
        if extracted == Ok(Decoded::Row) {
            self.rows.push(self.row.time, intake.address(&self.row.key), &self.row.values);
            self.events.push(event);
            return Ok(());
        }
        self.hand_over(index, intake);
        let partition = &mut self.partitions[index];
        let offset = Offset(partition.next);
        partition.next += 1;
        match extracted {
            Ok(_) => {
                intake.filtered(partition.slot, offset);
                Ok(())
            }
            Err(bad) => intake.bad(partition.slot, offset, bad, &self.decoder.payload_of(&event), &NoOrigin),
        }
    }

    /// Hands over the rows that are ready.
    fn hand_over(&mut self, index: usize, intake: &mut Intake) {
        let (partition, decoder, events) = (&mut self.partitions[index], &self.decoder, &self.events);
        intake.rows(partition.slot, Offset(partition.next), &self.rows, &mut |row| decoder.payload_of(&events[row]));
        partition.next += self.rows.len() as i64;
        self.rows.clear();
        self.events.clear();
    }
}

impl<T> Source for MemorySource<T> {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        self.announce(intake)?;
        let (mut handed, mut silent) = (0, 0);
        // Until the turn is used up, or every partition has had nothing.
        while handed < max_records && silent < self.partitions.len() {
            let index = self.turn % self.partitions.len();
            self.turn = index + 1;
            match self.read(index, intake, CHUNK.min(max_records - handed))? {
                0 => silent += 1,
                count => (handed, silent) = (handed + count, 0),
            }
        }
        let (shortest, longest) = PAUSES;
        if handed > 0 {
            self.pause = shortest;
            return Ok(Polled::Records(handed));
        }
        if self.partitions.iter().all(|partition| partition.feed.is_none()) {
            return Ok(Polled::Finished);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(longest);
        Ok(Polled::Nothing(pause))
    }
}
