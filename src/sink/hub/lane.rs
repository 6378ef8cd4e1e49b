//! One sink with its queue, on its thread.

use super::{EpochObserver, Progress};
use crate::sink::lane::{Attempts, GaveUp};
use crate::sink::{Prepared, ResultRow, ResultSink, SinkRecovery, Ticket};
use crate::time::Epoch;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Flushed after this many rows even while more are waiting.
const FLUSH_ROWS: u64 = 10_000;
/// Flushed after this long even while more are waiting.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// What goes through the queue of a sink.
pub(super) enum Item {
    /// Results.
    Batch(Submitted),
    /// All results of this epoch have gone through.
    EpochEnds(Epoch),
    /// The checkpoint of this epoch is published.
    Commit(Epoch),
}

/// A batch on its way to one sink; without rows where the sink does not take them.
pub(super) struct Submitted {
    pub ticket: Ticket,
    pub rows: Arc<[ResultRow]>,
    pub at: Instant,
}

/// A ticket whose rows a sink holds back until its epoch is committed.
pub(super) struct Kept {
    /// `None` until the epoch has ended.
    epoch: Option<Epoch>,
    ticket: Ticket,
    rows: u64,
    at: Instant,
}

/// One sink with its queue, on its thread.
pub(super) struct Lane {
    pub index: usize,
    pub sink: Box<dyn ResultSink>,
    pub queue: Receiver<Item>,
    pub attempts: Attempts,
    pub progress: Arc<Progress>,
    /// Told of epochs, in a job that takes checkpoints.
    pub epochs: Option<Arc<dyn EpochObserver>>,
    /// Until it has recovered.
    pub recovery: Option<SinkRecovery>,
    pub unflushed: Vec<Submitted>,
    pub unflushed_rows: u64,
    /// When the first of them was written.
    pub unflushed_since: Instant,
    /// What a sink that commits holds back.
    pub kept: Vec<Kept>,
}

/// What the queue had.
enum Next {
    Item(Item),
    Empty,
    Closed,
}

impl Lane {
    pub(super) fn run(mut self) {
        // The reason is with the run or in the context; nothing is left to do here.
        let _: Result<(), GaveUp> = self.work();
    }

    fn work(&mut self) -> Result<(), GaveUp> {
        let context = self.attempts.context.clone();
        self.attempts.once("opening", || self.sink.open(context.clone()))?;
        if let Some(recovery) = self.recovery.take() {
            self.attempts.once("recovering", || self.sink.recover(recovery))?;
        }
        context.set_ready();
        loop {
            let next = self.next();
            if context.is_over() {
                return Err(GaveUp);
            }
            match next {
                Next::Item(Item::Batch(submitted)) => self.write(submitted)?,
                Next::Item(Item::EpochEnds(epoch)) => self.end_epoch(epoch)?,
                Next::Item(Item::Commit(epoch)) => self.commit(epoch)?,
                Next::Empty => self.flush()?,
                Next::Closed => break,
            }
        }
        self.flush()?;
        if context.is_closing() {
            self.attempts.retrying("closing", || self.sink.close())?;
            context.set_closed();
        }
        Ok(())
    }

    /// Waits for an item, but no longer than what is unflushed may wait.
    fn next(&self) -> Next {
        if self.unflushed.is_empty() {
            return self.queue.recv().map_or(Next::Closed, Next::Item);
        }
        let linger = self.sink.linger();
        if linger.is_zero() {
            return match self.queue.try_recv() {
                Ok(item) => Next::Item(item),
                Err(TryRecvError::Empty) => Next::Empty,
                Err(TryRecvError::Disconnected) => Next::Closed,
            };
        }
        match self.queue.recv_deadline(self.unflushed_since + linger) {
            Ok(item) => Next::Item(item),
            Err(RecvTimeoutError::Timeout) => Next::Empty,
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    fn write(&mut self, submitted: Submitted) -> Result<(), GaveUp> {
        if submitted.rows.is_empty() {
            self.pass_by(submitted);
            return Ok(());
        }
        self.attempts.retrying("writing", || self.sink.write(&submitted.rows))?;
        if self.sink.keeps_until_commit() {
            self.keep(submitted);
            return Ok(());
        }
        if self.unflushed.is_empty() {
            self.unflushed_since = Instant::now();
        }
        self.unflushed_rows += submitted.rows.len() as u64;
        self.unflushed.push(submitted);
        let waited = self.unflushed_since.elapsed();
        if self.unflushed_rows >= FLUSH_ROWS || waited >= FLUSH_INTERVAL.max(self.sink.linger()) {
            self.flush()?;
        }
        Ok(())
    }

    /// A ticket without rows for this sink is as durable as those before it.
    fn pass_by(&mut self, submitted: Submitted) {
        if !self.kept.is_empty() {
            self.keep(submitted);
        } else if self.unflushed.is_empty() {
            self.progress.acknowledge(self.index, submitted.ticket);
        } else {
            self.unflushed.push(submitted);
        }
    }

    /// The sink holds these results back. They hold nobody up: what bounds them is the next checkpoint.
    fn keep(&mut self, submitted: Submitted) {
        let Submitted { ticket, rows, at } = submitted;
        self.attempts.context.kept(rows.len() as u64);
        self.kept.push(Kept { epoch: None, ticket, rows: rows.len() as u64, at });
        if let Some(epochs) = self.epochs.as_ref().filter(|_| self.sink.wants_epoch_end()) {
            epochs.wants_epoch_end(self.index);
        }
    }

    fn end_epoch(&mut self, epoch: Epoch) -> Result<(), GaveUp> {
        self.flush()?;
        let mut prepared = Prepared::default();
        self.attempts.retrying("preparing for a checkpoint", || {
            prepared = self.sink.prepare(epoch)?;
            Ok(())
        })?;
        self.kept.iter_mut().filter(|kept| kept.epoch.is_none()).for_each(|kept| kept.epoch = Some(epoch));
        if let Some(epochs) = &self.epochs {
            epochs.prepared(self.index, epoch, prepared);
        }
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), GaveUp> {
        self.attempts.retrying("committing", || self.sink.commit(epoch))?;
        let delivered = self.kept.iter().take_while(|kept| kept.epoch.is_some_and(|of| of <= epoch)).count();
        let context = &self.attempts.context;
        let mut last = None;
        for kept in self.kept.drain(..delivered) {
            if kept.rows > 0 {
                context.took(kept.at.elapsed());
                context.delivered_kept(kept.rows);
            }
            last = Some(kept.ticket);
        }
        if let Some(last) = last {
            self.progress.acknowledge(self.index, last);
        }
        if let Some(epochs) = &self.epochs {
            epochs.committed(self.index, epoch);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), GaveUp> {
        let Some(last) = self.unflushed.last().map(|submitted| submitted.ticket) else { return Ok(()) };
        self.attempts.retrying("flushing", || self.sink.flush())?;
        let context = &self.attempts.context;
        for submitted in self.unflushed.drain(..).filter(|submitted| !submitted.rows.is_empty()) {
            context.took(submitted.at.elapsed());
            context.delivered(submitted.rows.len() as u64);
        }
        self.unflushed_rows = 0;
        self.progress.acknowledge(self.index, last);
        Ok(())
    }
}
