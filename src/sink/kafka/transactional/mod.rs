//! Results into Kafka exactly once.
//!
//! The model: results are encoded at once into the records that they will be, and gathered in chunks: the *outbox* of the epoch.
//! [`ResultSink::prepare`] hands the chunks over to the checkpoint. When that is published, [`ResultSink::commit`] sends each chunk
//! in one Kafka transaction, and in the same transaction a marker into the topic `<job>-progress` (see `marker`). An epoch without
//! results has a chunk without records: a run that was fenced off notices.
//!
//! The transactional id is `<job>-<sink>-<process>`, the same at every start. [`ResultSink::recover`]
//! 1. reads the markers and refuses to start where they forbid it, before anybody is disturbed;
//! 2. takes its own transactional id and those of the shards that it takes over: whoever runs with one of them is fenced, and
//!    what it has left open is aborted, also where the broker has forgotten to (see `repair`);
//! 3. reads the markers again, to the end, and decides: this time nothing can come in between;
//! 4. writes its own first marker for each of these shards, which says that they are its own from now on;
//! 5. reads the markers once more: where a start that no manifest knows of has written one as a further shard, it goes back to 2;
//!    otherwise it marks that it is ready, and waits for the other processes of its start, one of which may have to refuse it;
//! 6. sends the restored chunks that have no marker.
//!
//! What is decided is decided by [`crate::checkpoint::protocol`].
//!
//! How it fails: a broker that is away is waited for. Where it is in doubt what became of a transaction (see `producer`), the
//! producer is thrown away, the id is taken again, and the markers tell. Where they tell of another run the error is
//! [`ProcessorError::Refused`]. A record that the broker refuses is an error after the transaction was aborted, and
//! calling again begins with its chunk.

mod chunk;
mod config;
mod marker;
mod producer;
mod progress;
mod reach;
mod repair;
mod shard;
mod undecided;
mod waiting;

pub(super) use chunk::Chunk;

use super::delivery::{Delivery, Oversize, RecordHeader, create};
use super::producer_config;
use super::results::{encode_record, record_headers};
use crate::checkpoint::failpoint;
use crate::checkpoint::protocol::{
    Delivered, Marker, Markers, OutboxFingerprint, RunId, Undelivered, all_ready, plan_recovery, refuses_start,
    strangers,
};
use crate::config::ProducerConfig;
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::{Generation, Prepared, ProcessIdentity, ResultRow, ResultSink, Shard, SinkContext, SinkRecovery};
use crate::time::Epoch;
use chunk::{ChunkWriter, Origin};
use config::{reading_config, transactional_config};
use progress::{ProgressTopic, UpTo};
use repair::repair;
use shard::{ShardDelivery, Start, refused, transactional_id};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};
use waiting::{PAUSE, rest};

/// With more than this gathered, the epoch should end soon.
const ENOUGH_BYTES: usize = 64 << 20;
/// Other processes that are not ready for this long are trouble.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Writes results to the producer's result topic, in transactions.
pub(in crate::sink) struct TransactionalResults {
    config: ProducerConfig,
    job: String,
    process: ProcessIdentity,
    headers: Vec<RecordHeader>,
    progress: ProgressTopic,
    start: Start,
    context: Option<SinkContext>,
    own: Option<ShardDelivery>,
    gathered: Gathered,
    prepared: Outbox,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Results of the epoch that has not ended.
#[derive(Default)]
struct Gathered {
    full: Vec<Vec<u8>>,
    last: Option<ChunkWriter>,
    bytes: usize,
}

/// Results of an epoch that has ended, and how many of the chunks are visible.
#[derive(Default)]
struct Outbox {
    epoch: Option<Epoch>,
    chunks: Vec<Vec<u8>>,
    visible: usize,
    /// What the shard had delivered when they were made.
    after: Option<Delivered>,
}

impl TransactionalResults {
    /// Nothing is connected. What cannot work with transactions is an error.
    pub fn new(config: &ProducerConfig, job: &str, process: ProcessIdentity) -> ProcessorResult<Self> {
        let trial = transactional_config(config, job, &transactional_id(job, Shard::default()))?;
        create(&trial).map_err(|error| match error {
            ProcessorError::Kafka(reason) => ProcessorError::Config(format!("kafka.producer: {reason}")),
            other => other,
        })?;
        Ok(TransactionalResults {
            config: config.clone(),
            job: job.to_owned(),
            process,
            headers: record_headers(job).to_vec(),
            progress: ProgressTopic::new(job, reading_config(config, job)),
            start: Start { generation: Generation(0), run: RunId(RandomState::new().hash_one(std::process::id())) },
            context: None,
            own: None,
            gathered: Gathered::default(),
            prepared: Outbox::default(),
            key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Of chunks whose epoch is prepared now. Some of their results may have come before the epoch before it was delivered.
    fn origin(&self) -> Origin {
        let after = self.own.as_ref().and_then(ShardDelivery::delivered);
        Origin { generation: self.start.generation, run: self.start.run, after }
    }

    fn context(&self) -> ProcessorResult<SinkContext> {
        self.context.clone().ok_or_else(|| ProcessorError::Runtime("a Kafka sink is used before it is open".to_owned()))
    }

    /// The broker would refuse a transaction that may take longer than it allows.
    fn check_time_out(&self, longest: Option<u64>) -> ProcessorResult<()> {
        let client = transactional_config(&self.config, &self.job, &transactional_id(&self.job, Shard::default()))?;
        let asked: u64 = client.get("transaction.timeout.ms").and_then(|text| text.parse().ok()).unwrap_or_default();
        match longest {
            Some(longest) if asked > longest => Err(ProcessorError::Config(format!(
                "kafka.producer: `transaction.timeout.ms: {asked}` is more than transaction.max.timeout.ms={longest} of the \
                 broker {}: lower the one in kafka.producer.properties, or raise the other in the broker's configuration",
                self.config.bootstrap_servers
            ))),
            _ => Ok(()),
        }
    }

    fn shard(&self, shard: Shard) -> ProcessorResult<ShardDelivery> {
        let client = transactional_config(&self.config, &self.job, &transactional_id(&self.job, shard))?;
        Ok(ShardDelivery::new(&self.job, shard, self.start, client))
    }

    /// Fences and claims the shards of `outboxes`, and of starts that no manifest knows; notes what is visible already.
    fn take(
        &self,
        recovery: &SinkRecovery,
        publisher: Option<Generation>,
        outboxes: &mut BTreeMap<Shard, Outbox>,
    ) -> ProcessorResult<Vec<ShardDelivery>> {
        let context = self.context()?;
        let own = self.start.generation;
        let (sink, process, processes) = (recovery.shard.sink, recovery.shard.process, self.process.count as u16);
        let mut markers = self.progress.read(&context, UpTo::Now)?;
        let mut fenced = BTreeSet::new();
        let mut deliveries = Vec::new();
        loop {
            allowed(own, recovery.restored, &markers)?;
            for shard in strangers(sink, process, processes, &markers, &fenced) {
                outboxes.entry(shard).or_insert_with(|| Outbox { epoch: recovery.restored, ..Outbox::default() });
            }
            let new: Vec<Shard> = outboxes.keys().filter(|shard| !fenced.contains(*shard)).copied().collect();
            if new.is_empty() {
                self.wait_for_the_others(recovery, &mut deliveries)?;
                return Ok(deliveries);
            }
            for &shard in &new {
                let mut delivery = self.shard(shard)?;
                delivery.fence(&context)?;
                fenced.insert(shard);
                deliveries.push(delivery);
            }
            let find = |shard: Shard, marker: &Marker| {
                outboxes.get(&shard).map_or(Ok(None), |held| held.chunk_of(shard, marker))
            };
            repair(&mut deliveries, &find, &self.config.result_topic, &self.progress, &context)?;
            markers = self.progress.read(&context, UpTo::End)?;
            let held = new.iter().filter_map(|shard| Some((*shard, outboxes.get(shard)?.held()))).collect();
            let plan = plan_recovery(own, recovery.restored, publisher, &held, &markers)
                .map_err(|refusal| refused(&refusal))?;
            for delivery in deliveries.iter_mut().filter(|delivery| plan.contains_key(&delivery.shard())) {
                let shard = delivery.shard();
                if let Some(outbox) = outboxes.get_mut(&shard) {
                    outbox.visible = plan[&shard] as usize;
                }
                delivery.claim(markers.get(&shard).copied(), &self.progress, &context)?;
            }
            markers = self.progress.read(&context, UpTo::End)?;
        }
    }

    /// Says that this process is ready, and waits until all are.
    fn wait_for_the_others(&self, recovery: &SinkRecovery, deliveries: &mut [ShardDelivery]) -> ProcessorResult<()> {
        let (context, processes) = (self.context()?, self.process.count as u16);
        if processes == 1 {
            return Ok(());
        }
        let own_one = deliveries.iter_mut().find(|delivery| delivery.shard() == recovery.shard);
        let own_one =
            own_one.ok_or_else(|| ProcessorError::Runtime("a sink has not fenced its own shard".to_owned()))?;
        own_one.set_ready(&self.progress, &context)?;
        let (own, begun) = (self.start.generation, Instant::now());
        loop {
            let markers = self.progress.read(&context, UpTo::End)?;
            allowed(own, recovery.restored, &markers)?;
            own_one.check(&markers)?;
            if all_ready(own, recovery.shard.sink, processes, &markers) {
                context.working();
                return Ok(());
            }
            let reason =
                format!("not all {processes} processes are ready to deliver, says topic `{}`", self.progress.name());
            if begun.elapsed() >= SLOW_AFTER {
                context.waiting(&reason);
            }
            rest(&context, PAUSE / 5, &reason)?;
        }
    }

    /// Sends the chunks that are not visible.
    fn send_chunks(&self, delivery: &mut ShardDelivery, outbox: &mut Outbox) -> ProcessorResult<()> {
        let context = self.context()?;
        let Some(epoch) = outbox.epoch else { return Ok(()) };
        let fingerprint = OutboxFingerprint::of(&outbox.chunks);
        while let Some(bytes) = outbox.chunks.get(outbox.visible) {
            let chunk = read_chunk(bytes, delivery.shard(), epoch, outbox.visible)?;
            let (chunks, by) = (outbox.visible as u32 + 1, self.start.generation);
            let delivered = Delivered { epoch, chunks, outbox: fingerprint, by };
            delivery.deliver(&chunk, delivered, &self.progress, &context)?;
            outbox.visible += 1;
        }
        Ok(())
    }
}

fn allowed(own: Generation, restored: Option<Epoch>, markers: &Markers) -> ProcessorResult<()> {
    refuses_start(own, restored, markers).map_or(Ok(()), |refusal| Err(refused(&refusal)))
}

fn read_chunk(bytes: &[u8], shard: Shard, epoch: Epoch, position: usize) -> ProcessorResult<Chunk<'_>> {
    Chunk::read(bytes).map_err(|reason| {
        ProcessorError::State(format!(
            "chunk {position} of the results of epoch {} that wait for delivery (shard {shard}): {reason}",
            epoch.number()
        ))
    })
}

impl ResultSink for TransactionalResults {
    fn name(&self) -> &str {
        "kafka"
    }

    fn identity(&self) -> String {
        format!("kafka {}", self.config.result_topic)
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.context = Some(context.clone());
        let client = producer_config(&self.config, &self.job);
        Delivery::new(client, &self.config.result_topic, Oversize::Refuse)?.open(context.clone())?;
        let longest = self.progress.make_ready(&context)?;
        self.check_time_out(longest)
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        for row in rows.iter().filter(|row| !row.is_replaced()) {
            self.key.clear();
            self.value.clear();
            let is_tombstone = !encode_record(row, &mut self.key, &mut self.value);
            let value = Some(&self.value[..]).filter(|_| !is_tombstone);
            let new = || ChunkWriter::new(&self.config.result_topic, &self.headers);
            self.gathered.push(new, &self.key, value);
        }
        Ok(())
    }

    /// Results become visible by [`ResultSink::commit`] alone.
    fn flush(&mut self) -> ProcessorResult<()> {
        Ok(())
    }

    fn recover(&mut self, recovery: SinkRecovery) -> ProcessorResult<()> {
        self.start.generation = recovery.generation;
        let mut outboxes: BTreeMap<Shard, Outbox> = BTreeMap::new();
        for &shard in std::iter::once(&recovery.shard).chain(&recovery.taken_over) {
            outboxes.insert(shard, Outbox { epoch: recovery.restored, ..Outbox::default() });
        }
        for (shard, prepared) in &recovery.prepared {
            let chunks = prepared.outbox.clone();
            outboxes.insert(*shard, Outbox { epoch: recovery.restored, chunks, ..Outbox::default() });
        }
        let mut publisher = None;
        for (&shard, outbox) in &mut outboxes {
            let epoch = outbox.epoch.unwrap_or_default();
            for (position, chunk) in outbox.chunks.iter().enumerate() {
                let origin = read_chunk(chunk, shard, epoch, position)?.origin;
                publisher = Some(origin.generation);
                if position == 0 {
                    outbox.after = origin.after;
                }
            }
        }
        for mut delivery in self.take(&recovery, publisher, &mut outboxes)? {
            let shard = delivery.shard();
            let Some(outbox) = outboxes.get_mut(&shard) else { continue };
            if outbox.visible < outbox.chunks.len() {
                tracing::info!(
                    target: "sink", %shard, chunks = outbox.chunks.len() - outbox.visible, visible = outbox.visible,
                    "results that the checkpoint holds are delivered"
                );
            }
            self.send_chunks(&mut delivery, outbox)?;
            if shard == recovery.shard {
                self.own = Some(delivery);
            }
        }
        Ok(())
    }

    /// Chunks of an epoch that was prepared and whose checkpoint was not published come first.
    fn prepare(&mut self, epoch: Epoch) -> ProcessorResult<Prepared> {
        self.prepared.epoch = Some(epoch);
        let mut chunks = self.gathered.take();
        if self.prepared.chunks.is_empty() && chunks.is_empty() {
            chunks.push(ChunkWriter::new(&self.config.result_topic, &self.headers).finish());
        }
        let origin = self.origin();
        chunks.iter_mut().for_each(|chunk| origin.put_into(chunk));
        self.prepared.chunks.extend(chunks);
        Ok(Prepared { file: None, outbox: self.prepared.chunks.clone() })
    }

    fn commit(&mut self, epoch: Epoch) -> ProcessorResult<()> {
        let mut outbox = std::mem::take(&mut self.prepared);
        let own = self.own.take().filter(|_| outbox.epoch == Some(epoch));
        let Some(mut own) = own else {
            return Err(ProcessorError::Runtime(format!(
                "a Kafka sink is to deliver epoch {}, and has prepared {:?}",
                epoch.number(),
                outbox.epoch
            )));
        };
        let result = self.send_chunks(&mut own, &mut outbox);
        self.own = Some(own);
        if result.is_ok() {
            failpoint("outbox_deleted");
        } else {
            self.prepared = outbox;
        }
        result
    }

    fn keeps_until_commit(&self) -> bool {
        true
    }

    fn wants_epoch_end(&self) -> bool {
        self.gathered.bytes >= ENOUGH_BYTES
    }
}

impl Gathered {
    /// `new` begins a chunk.
    fn push(&mut self, new: impl FnOnce() -> ChunkWriter, key: &[u8], value: Option<&[u8]>) {
        let size = key.len() + value.map_or(0, <[u8]>::len) + 10;
        if let Some(full) = self.last.take_if(|chunk| chunk.is_full_for(size)) {
            self.full.push(full.finish());
        }
        self.last.get_or_insert_with(new).push(key, value);
        self.bytes += size;
    }

    /// All of it, in chunks.
    fn take(&mut self) -> Vec<Vec<u8>> {
        let Gathered { mut full, last, .. } = std::mem::take(self);
        full.extend(last.map(ChunkWriter::finish));
        full
    }
}

impl Outbox {
    /// The chunk that was sent with a marker, where it is one of these.
    fn chunk_of(&self, shard: Shard, marker: &Marker) -> ProcessorResult<Option<Chunk<'_>>> {
        let sent = marker.delivered.filter(|delivered| Some(delivered.epoch) == self.epoch);
        let Some(sent) = sent.filter(|sent| sent.outbox == OutboxFingerprint::of(&self.chunks)) else {
            return Ok(None);
        };
        let position = (sent.chunks as usize).checked_sub(1);
        let Some((position, bytes)) = position.and_then(|position| Some((position, self.chunks.get(position)?))) else {
            return Ok(None);
        };
        read_chunk(bytes, shard, sent.epoch, position).map(Some)
    }

    fn held(&self) -> Undelivered {
        let outbox = OutboxFingerprint::of(&self.chunks);
        Undelivered { chunks: self.chunks.len() as u32, outbox, after: self.after }
    }
}

#[cfg(test)]
mod tests;
