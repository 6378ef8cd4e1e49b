//! The worker's side of the Kafka source.

use super::batch::{BatchReader, FetchQueue, Record, RecordKind, TopicHandle, Waker};
use super::brokers::{Brokers, PartitionId};
use super::client_config::consumer_config;
use super::commit_metadata::Meaning;
use super::commit_queue::CommitQueue;
use super::commits::{Commit, Commits};
use super::context::{Client, ReaderContext, creation_error};
use super::helper::{GoneOn, Helper, Notice, Opening, Openings, Question, Request, Settings};
use super::idleness::{IdleAction, Idleness};
use super::observer::SourceObserver;
use super::partitions::{Partition, Partitions};
use super::reach::Reach;
use super::receiver::RecordReceiver;
use crate::checkpoint::PartitionCut;
use crate::config::ConsumerConfig;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Offset, PartitionName, WorkerIndex};
use crate::runtime::Control;
use crate::source::{Intake, Polled, Resume, Settled, Source};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records taken from librdkafka at a time: taking touches each record's descriptor, which should still be in the cache when the
/// record is read and given back.
const BATCH: usize = 256;
/// What an empty poll says: the waker cuts it short when records come, so it bounds only how late a timer may be.
const REST: Duration = Duration::from_millis(50);
/// How often partitions are looked at for idleness, and reported for lag.
const IDLE_TICK: Duration = Duration::from_millis(50);
const LAG_TICK: Duration = Duration::from_secs(1);
/// How long the orderly end waits for the helper: its last commit, and a little more.
const CLOSE_PATIENCE: Duration = Duration::from_secs(7);

/// What a worker's reader is made from.
pub struct KafkaSourceOptions {
    /// What to read.
    pub consumer: ConsumerConfig,
    /// The job's name.
    pub job: String,
    /// Rows that may be in flight per worker: bounds what is read ahead.
    pub buffer_size: NonZeroUsize,
    /// This worker.
    pub worker: WorkerIndex,
    /// How many workers there are in all processes.
    pub workers: NonZeroUsize,
    /// How long a partition must have been silent, at its end, to be idle; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Told where the helper thread panics.
    pub control: Control,
    /// Called when there is something to poll.
    pub waker: Waker,
    /// Told of lag and of brokers that do not answer.
    pub observer: Arc<dyn SourceObserver>,
    /// Where reading goes on.
    pub resume: Arc<Resume>,
}

/// One worker's reader of its share of the topics' partitions. See the [module](super).
pub struct KafkaSource {
    reader: BatchReader,
    state: State,
    max_poll_records: usize,
    idle_tick_at: Instant,
    lag_tick_at: Instant,
}

/// All but the reader, which a batch borrows while the rest is used.
struct State {
    partitions: Partitions,
    topics: Arc<[Arc<str>]>,
    queue: Arc<FetchQueue>,
    client: Arc<Client>,
    requests: Sender<Request>,
    openings: Receiver<Openings>,
    notices: Receiver<Notice>,
    observer: Arc<dyn SourceObserver>,
    idle_timeout: Option<Duration>,
    commits: bool,
    /// [`ReaderContext::disturbances`] when it was last looked at.
    disturbances: u64,
    /// Whether a question about ends is under way.
    asked: bool,
}

impl KafkaSource {
    /// Makes the client and starts the helper thread; connecting happens there, and [`Source::poll`] says
    /// [`Polled::Nothing`] until it is done.
    ///
    /// Errors: [`ProcessorError::Config`] for a property that librdkafka does not take or a topic that cannot be one,
    /// [`ProcessorError::Runtime`] where no thread can be started.
    pub fn new(options: KafkaSourceOptions) -> ProcessorResult<Self> {
        let KafkaSourceOptions {
            consumer,
            job,
            buffer_size,
            worker,
            workers,
            idle_timeout,
            control,
            waker,
            observer,
            resume,
        } = options;
        let config = consumer_config(&consumer, &job, worker, buffer_size)?;
        let topics = sorted_topics(&consumer)?;
        let client: Client = config.create_with_context(ReaderContext::default()).map_err(|e| creation_error(&e))?;
        let client = Arc::new(client);
        let handles =
            topics.iter().map(|topic| TopicHandle::new(client.clone(), topic)).collect::<Result<Vec<_>, _>>()?;
        let queue = Arc::new(FetchQueue::new(client.clone(), waker.clone()));
        let (requests, helper_requests) = unbounded();
        let (helper_openings, openings) = unbounded();
        let (helper_notices, notices) = unbounded();
        let helper = Helper {
            settings: Settings {
                worker,
                workers: workers.get(),
                reset: consumer.auto_offset_reset,
                wait_for_topics: consumer.wait_for_topics,
                refresh: refresh_interval(&config),
                resume,
            },
            brokers: Brokers {
                client: client.clone(),
                topics: topics.clone(),
                group: consumer.group_id.clone(),
                servers: consumer.bootstrap_servers.clone(),
            },
            queue: queue.clone(),
            requests: helper_requests,
            openings: helper_openings,
            notices: helper_notices,
            waker,
            reach: Reach::new(observer.clone(), consumer.bootstrap_servers.clone()),
            known: vec![0; topics.len()],
            commits: Commits::default(),
            commit_queue: CommitQueue::new(client.clone()),
        };
        control.spawn(&format!("kafka-{worker}"), move || helper.run())?;
        let now = Instant::now();
        Ok(Self {
            reader: BatchReader::new(queue.clone(), BATCH),
            state: State {
                partitions: Partitions::new(handles),
                topics,
                queue,
                client,
                requests,
                openings,
                notices,
                observer,
                idle_timeout,
                commits: consumer.enable_auto_commit,
                disturbances: 0,
                asked: false,
            },
            max_poll_records: consumer.max_poll_records.get(),
            idle_tick_at: now,
            lag_tick_at: now,
        })
    }

    /// As [`Source::poll`], with any receiver.
    pub fn poll_into<R: RecordReceiver>(&mut self, receiver: &mut R, max_records: usize) -> ProcessorResult<Polled> {
        self.state.take_openings(receiver);
        let count = self.read(receiver, max_records.min(self.max_poll_records))?;
        let now = Instant::now();
        self.state.take_notices(receiver, now)?;
        if now >= self.idle_tick_at {
            self.idle_tick_at = now + IDLE_TICK;
            self.state.watch_idleness(receiver, now);
        }
        if now >= self.lag_tick_at {
            self.lag_tick_at = now + LAG_TICK;
            self.state.report_lag();
        }
        Ok(if count > 0 { Polled::Records(count) } else { Polled::Nothing(REST) })
    }

    /// Takes what there is, at most `max_records`, a batch at a time; answers how many records there were.
    fn read<R: RecordReceiver>(&mut self, receiver: &mut R, max_records: usize) -> ProcessorResult<usize> {
        let mut count = 0;
        while count < max_records {
            let size = BATCH.min(max_records - count);
            let (taken, records) = self.read_batch(receiver, size)?;
            count += records;
            if taken < size {
                break;
            }
        }
        Ok(count)
    }

    /// Takes one batch; answers how many records and events there were, and how many of them were records.
    fn read_batch<R: RecordReceiver>(&mut self, receiver: &mut R, size: usize) -> ProcessorResult<(usize, usize)> {
        let Self { reader, state, .. } = self;
        let mut batch = reader.fetch(size);
        let (taken, mut count) = (batch.len(), 0);
        while let Some(record) = batch.advance() {
            match record.kind() {
                RecordKind::Data => {
                    let partition = state.partition_of(&record, receiver)?;
                    let offset = Offset(record.offset());
                    partition.position = offset.0 + 1;
                    let slot = partition.slot;
                    if partition.idleness.record() {
                        receiver.set_idle(slot, false);
                    }
                    count += 1;
                    match record.payload() {
                        Some(payload) => receiver.record(slot, offset, payload, &record)?,
                        None => receiver.tombstone(slot, offset),
                    }
                }
                RecordKind::End => {
                    let partition = state.partition_of(&record, receiver)?;
                    let end = Offset(record.offset());
                    // Transaction markers and compacted records leave the position behind the end; there is nothing between.
                    partition.position = end.0;
                    let slot = partition.slot;
                    if partition.idleness.end_reached(end, Instant::now()) == IdleAction::Set(false) {
                        receiver.set_idle(slot, false);
                    }
                    receiver.set_next(slot, end);
                }
                RecordKind::Error => state.partition_error(&record, receiver)?,
            }
        }
        Ok((taken, count))
    }

    /// As [`Source::close`].
    fn shut_down(&mut self) -> ProcessorResult<()> {
        let (done, outcome) = bounded(1);
        if self.state.requests.send(Request::Close(done)).is_err() {
            return Ok(());
        }
        match outcome.recv_timeout(CLOSE_PATIENCE) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(ProcessorError::Kafka(format!(
                "the reader did not end within {} s; offsets of the last seconds may not be committed",
                CLOSE_PATIENCE.as_secs()
            ))),
            // The helper has ended before, for a reason that was told.
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

impl State {
    /// Opens what the helper has announced. The first announcement, which may be of no partition, is of those that exist at the
    /// start.
    fn take_openings<R: RecordReceiver>(&mut self, receiver: &mut R) {
        while let Ok(openings) = self.openings.try_recv() {
            receiver.note_closed(openings.closed_before);
            for Opening { id, begin, closed_before, gone_on } in openings.partitions {
                let name = PartitionName { topic: self.topics[id.topic].clone(), partition: id.partition };
                let slot = receiver.open_partition(name.clone(), closed_before);
                receiver.set_next(slot, begin);
                let idleness = match gone_on {
                    Some(GoneOn { idle: Some(confirmed) }) => Idleness::still_idle(self.idle_timeout, begin, confirmed),
                    _ => Idleness::new(self.idle_timeout),
                };
                if gone_on.is_some() {
                    receiver.set_idle(slot, idleness.is_idle());
                }
                self.partitions.add(Partition { id, name, slot, position: begin.0, idleness });
            }
            receiver.set_ready();
        }
    }

    /// The partition of a record. It is always announced before its first record is fetched.
    #[inline]
    fn partition_of<R: RecordReceiver>(
        &mut self,
        record: &Record<'_>,
        receiver: &mut R,
    ) -> ProcessorResult<&mut Partition> {
        if self.partitions.of(record).is_none() {
            self.take_openings(receiver);
        }
        self.partitions.of(record).ok_or_else(|| {
            let (partition, offset) = (record.partition(), record.offset());
            ProcessorError::Runtime(format!(
                "kafka: a record of partition {partition}, offset {offset}, that was not asked for"
            ))
        })
    }

    /// librdkafka tries again whatever can be tried again; what it says is worth knowing.
    fn partition_error<R: RecordReceiver>(&mut self, record: &Record<'_>, receiver: &mut R) -> ProcessorResult<()> {
        let text = record.error_text();
        let skipped = record.is_skipped_batch();
        let partition = self.partition_of(record, receiver)?;
        let name = partition.name.clone();
        let (slot, position) = (partition.slot, partition.position);
        if partition.idleness.disturbed() == IdleAction::Set(false) {
            receiver.set_idle(slot, false);
        }
        if skipped {
            // The broker would give the same bytes again. Going on would leave records out of results without a trace.
            return Err(ProcessorError::Kafka(format!(
                "{name}: records from offset {position} are corrupt on the broker: {text}. Restore them from a replica, or set the \
                 group's offset behind them (kafka-consumer-groups.sh --reset-offsets)"
            )));
        }
        if let Some(more) = self.client.context().may_log("partition") {
            tracing::warn!(target: "kafka", kept_back = more, "{name}: {text}; trying again");
        }
        Ok(())
    }

    /// Takes note of what the helper says.
    fn take_notices<R: RecordReceiver>(&mut self, receiver: &mut R, now: Instant) -> ProcessorResult<()> {
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Failed(error) => return Err(error),
                Notice::Ends(question, ends) => {
                    self.asked = false;
                    if question.disturbances == self.client.context().disturbances() {
                        for (id, end) in ends {
                            self.end_answered(id, end, question.asked_at, now, receiver);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn end_answered<R: RecordReceiver>(
        &mut self,
        id: PartitionId,
        end: Offset,
        asked: Instant,
        now: Instant,
        receiver: &mut R,
    ) {
        // A fetch that came in since may wait in the queue with a record.
        let fetched =
            self.queue.known_end(self.partitions.handle(id), id.partition).map_or(end, |known| end.max(Offset(known)));
        let Some(partition) = self.partitions.get_mut(id) else { return };
        if let IdleAction::Set(idle) = partition.idleness.answered(fetched, asked, now) {
            tracing::debug!(target: "kafka", "{} is {}", partition.name, if idle { "idle" } else { "not idle" });
            let slot = partition.slot;
            receiver.set_idle(slot, idle);
        }
    }

    fn watch_idleness<R: RecordReceiver>(&mut self, receiver: &mut R, now: Instant) {
        let disturbances = self.client.context().disturbances();
        let disturbed = disturbances != self.disturbances;
        self.disturbances = disturbances;
        let mut ask = Vec::new();
        for partition in self.partitions.iter_mut() {
            let lost = if disturbed { partition.idleness.disturbed() } else { IdleAction::None };
            for action in [lost, partition.idleness.tick(now)] {
                match action {
                    IdleAction::None => {}
                    IdleAction::Ask => ask.push(partition.id),
                    IdleAction::Set(idle) => {
                        tracing::debug!(target: "kafka", "{} is {}", partition.name, if idle { "idle" } else { "not idle" });
                        receiver.set_idle(partition.slot, idle);
                    }
                }
            }
        }
        if !ask.is_empty() && !self.asked {
            let question = Question { partitions: ask, asked_at: now, disturbances };
            self.asked = self.requests.send(Request::Ends(question)).is_ok();
        }
    }

    fn report_lag(&self) {
        for partition in self.partitions.iter() {
            let handle = self.partitions.handle(partition.id);
            if let Some(end) = self.queue.known_end(handle, partition.id.partition) {
                self.observer.lag(&partition.name, (end - partition.position).max(0));
            }
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        self.poll_into(intake, max_records)
    }

    fn settled(&mut self, settled: &[Settled]) {
        if !self.state.commits {
            return;
        }
        for Settled { slot, offset, closed_before } in settled {
            if let Some(partition) = self.state.partitions.by_slot(*slot) {
                let commit = Commit { offset: *offset, meaning: Meaning::Needed(*closed_before) };
                // Where the helper has ended, the run ends with its reason.
                let _ = self.state.requests.send(Request::Commit(partition.id, commit));
            }
        }
    }

    fn checkpointed(&mut self, cuts: &[PartitionCut]) {
        if !self.state.commits {
            return;
        }
        for cut in cuts {
            if let Some(partition) = self.state.partitions.by_name(&cut.name) {
                let commit = Commit { offset: cut.next, meaning: Meaning::Checkpoint };
                // Where the helper has ended, the run ends with its reason.
                let _ = self.state.requests.send(Request::Commit(partition.id, commit));
            }
        }
    }

    fn close(&mut self) -> ProcessorResult<()> {
        self.shut_down()
    }
}

fn sorted_topics(consumer: &ConsumerConfig) -> ProcessorResult<Arc<[Arc<str>]>> {
    let mut topics = consumer.topics.clone();
    topics.sort();
    topics.dedup();
    if topics.is_empty() {
        return Err(ProcessorError::Config("kafka.consumer.topics: no topic is given; at least one is needed".into()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(bad) = topics.iter().find(|topic| topic.is_empty() || topic.len() > 249 || !topic.chars().all(allowed))
    {
        return Err(ProcessorError::Config(format!(
            "kafka.consumer.topics: {bad:?} is no topic name; it would be 1 to 249 of letters, digits, '.', '_' and '-'"
        )));
    }
    Ok(topics.into_iter().map(Arc::from).collect())
}

/// How often partitions are looked for: librdkafka's own setting for the same purpose, no more often than each 100 ms.
fn refresh_interval(config: &ClientConfig) -> Duration {
    let millis =
        config.get("topic.metadata.refresh.interval.ms").and_then(|text| text.parse::<i64>().ok()).unwrap_or(10_000);
    // -1 is librdkafka's "never".
    if millis < 0 {
        Duration::from_secs(u32::MAX.into())
    } else {
        Duration::from_millis(millis.max(100).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(topics: &[&str]) -> ConsumerConfig {
        ConsumerConfig {
            bootstrap_servers: "localhost:1".into(),
            group_id: "group".into(),
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            auto_offset_reset: crate::config::OffsetReset::Earliest,
            session_timeout: Duration::from_secs(30),
            max_poll_records: NonZeroUsize::new(500).unwrap(),
            enable_auto_commit: true,
            wait_for_topics: false,
            properties: Default::default(),
        }
    }

    #[test]
    fn topics_are_sorted_so_that_all_workers_agree_on_their_places() {
        let topics = sorted_topics(&consumer(&["b", "a", "b"])).unwrap();
        assert_eq!(topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_a_topic_is_said_before_anything_is_opened() {
        for bad in ["", "a b", "a\0b", "ü", &"x".repeat(250)] {
            let error = sorted_topics(&consumer(&["good", bad])).unwrap_err();
            assert!(matches!(&error, ProcessorError::Config(text) if text.contains("is no topic name")), "{error}");
        }
        assert!(sorted_topics(&consumer(&[])).unwrap_err().to_string().contains("no topic is given"));
    }

    #[test]
    fn the_refresh_interval_is_librdkafka_s() {
        let with = |text: &str| refresh_interval(ClientConfig::new().set("topic.metadata.refresh.interval.ms", text));
        assert_eq!(refresh_interval(&ClientConfig::new()), Duration::from_secs(10));
        assert_eq!(with("500"), Duration::from_millis(500));
        assert_eq!(with("10"), Duration::from_millis(100));
        assert!(with("-1") > Duration::from_secs(1_000_000_000));
    }
}
