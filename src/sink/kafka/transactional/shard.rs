//! Deliveries of one shard: transactions, each with its marker, and what becomes of those whose outcome is in doubt.

use super::chunk::Chunk;
use super::marker::{encode_key, encode_value};
use super::producer::{MarkerRecord, Setback, ShardProducer};
use super::progress::{ProgressTopic, UpTo};
use super::repair::repair;
use super::waiting::{PAUSE, rest};
use crate::checkpoint::protocol::{
    AfterDoubt, Delivered, Marker, Markers, Refusal, RunId, after_doubt, lost, superseded,
};
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::{Generation, Shard, SinkContext};
use rdkafka::ClientConfig;

/// How often the markers are looked at, after the broker has refused a producer, before that counts as a time-out: a run that has
/// just fenced this one needs a moment for its first marker.
const LOOKS: u32 = 6;

/// Who delivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub generation: Generation,
    pub run: RunId,
}

/// One shard.
pub(super) struct ShardDelivery {
    shard: Shard,
    start: Start,
    key: Vec<u8>,
    producer: ShardProducer,
    /// The last marker that is known to be visible.
    known: Option<Marker>,
    /// Why this run has nothing more to do with it.
    lost: Option<Refusal>,
}

impl ShardDelivery {
    pub fn new(job: &str, shard: Shard, start: Start, client: ClientConfig) -> Self {
        let producer = ShardProducer::new(&transactional_id(job, shard), client);
        ShardDelivery { shard, start, key: encode_key(job, shard), producer, known: None, lost: None }
    }

    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// What its last marker says.
    pub fn delivered(&self) -> Option<Delivered> {
        self.known.and_then(|marker| marker.delivered)
    }

    /// Ends what others have open as this shard, and keeps them from doing more; see also [`repair`].
    pub fn fence(&mut self, context: &SinkContext) -> ProcessorResult<()> {
        self.producer.fence(context)
    }

    /// The key of its markers.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    pub fn producer(&self) -> &ShardProducer {
        &self.producer
    }

    /// Writes this start's first marker, which says what `last`, the shard's marker since it was fenced, says.
    pub fn claim(
        &mut self,
        last: Option<Marker>,
        progress: &ProgressTopic,
        context: &SinkContext,
    ) -> ProcessorResult<()> {
        self.known = last;
        self.transact(None, last.and_then(|marker| marker.delivered), false, progress, context)
    }

    /// Looks in markers that were read to the end whether another run has taken over.
    pub fn check(&mut self, markers: &Markers) -> ProcessorResult<()> {
        lost(self.shard, self.known.as_ref(), markers.get(&self.shard))
            .map_or(Ok(()), |refusal| Err(self.lose(refusal)))
    }

    /// Says that this process has found that it may go on.
    pub fn set_ready(&mut self, progress: &ProgressTopic, context: &SinkContext) -> ProcessorResult<()> {
        self.transact(None, self.known.and_then(|marker| marker.delivered), true, progress, context)
    }

    /// Returns when the records of `chunk` and the marker are visible.
    pub fn deliver(
        &mut self,
        chunk: &Chunk<'_>,
        delivered: Delivered,
        progress: &ProgressTopic,
        context: &SinkContext,
    ) -> ProcessorResult<()> {
        self.transact(Some(chunk), Some(delivered), true, progress, context)
    }

    fn transact(
        &mut self,
        chunk: Option<&Chunk<'_>>,
        delivered: Option<Delivered>,
        ready: bool,
        progress: &ProgressTopic,
        context: &SinkContext,
    ) -> ProcessorResult<()> {
        let marker = Marker { delivered, generation: self.start.generation, run: self.start.run, ready };
        if let Some(refusal) = &self.lost {
            return Err(refused(refusal));
        }
        loop {
            let record = MarkerRecord { topic: progress.name(), key: self.key.clone(), value: encode_value(&marker) };
            let sent = self.producer.transact(chunk, None, &record, context);
            let result = match sent {
                Ok(sent) => progress.is_ended(&sent.reach, sent.marker, context)?.map_err(Setback::Doubt),
                Err(setback) => Err(setback),
            };
            match result {
                Ok(()) => break,
                Err(Setback::Ended(error)) => return Err(error),
                Err(Setback::Refused(reason)) => {
                    self.producer.discard();
                    return Err(ProcessorError::Kafka(reason));
                }
                Err(Setback::Doubt(reason)) => {
                    if self.clear_up(&marker, chunk, &reason, progress, context)? {
                        break;
                    }
                }
            }
        }
        self.known = Some(marker);
        Ok(())
    }

    /// Takes the id again, and finds out what became of the transaction with the marker `sending`. Returns whether it was
    /// committed. Where another run has taken over, this one ends, without fencing the other off.
    fn clear_up(
        &mut self,
        sending: &Marker,
        chunk: Option<&Chunk<'_>>,
        reason: &str,
        progress: &ProgressTopic,
        context: &SinkContext,
    ) -> ProcessorResult<bool> {
        tracing::warn!(
            target: "sink", shard = %self.shard,
            "it is not known whether a transaction was committed ({reason}): the progress topic is asked"
        );
        context.failed_attempt(reason.to_owned());
        let looks = if self.producer.is_fenced() { LOOKS } else { 1 };
        self.producer.discard();
        for look in 1..=looks {
            let found = progress.read(context, UpTo::Now)?;
            if let Some(refusal) = superseded(self.shard, self.start.generation, found.get(&self.shard)) {
                return Err(self.lose(refusal));
            }
            if look < looks {
                rest(context, PAUSE, reason)?;
            }
        }
        self.producer.fence(context)?;
        let results = chunk.map_or("", |chunk| chunk.topic);
        let find = |_: Shard, marker: &Marker| Ok(chunk.filter(|_| marker == sending).cloned());
        repair(std::slice::from_mut(self), &find, results, progress, context)?;
        let found = progress.read(context, UpTo::End)?;
        match after_doubt(self.shard, self.known.as_ref(), sending, found.get(&self.shard)) {
            AfterDoubt::Delivered => Ok(true),
            AfterDoubt::SendAgain => Ok(false),
            AfterDoubt::Refuse(refusal) => Err(self.lose(refusal)),
        }
    }

    fn lose(&mut self, refusal: Refusal) -> ProcessorError {
        self.producer.discard();
        let error = refused(&refusal);
        self.lost = Some(refusal);
        error
    }
}

/// The transactional id of a shard: what is to be written in the broker's access rules.
pub(super) fn transactional_id(job: &str, shard: Shard) -> String {
    format!("{job}-{shard}")
}

pub(super) fn refused(refusal: &Refusal) -> ProcessorError {
    ProcessorError::Refused(refusal.to_string())
}
