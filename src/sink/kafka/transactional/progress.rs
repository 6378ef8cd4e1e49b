//! The progress topic: made where it is missing, checked, and read.
//!
//! The model: one partition, compacted, with the last marker of each shard of the job. It is read from its beginning to its end:
//! compaction keeps it short. A reader of committed records sees only what lies before the first open transaction; so reading *to
//! the end* waits until there is none before the end that there was at the beginning of the wait. Transactions of shards that were
//! fenced are over by then; others end by themselves, or the broker ends them.

use super::super::delivery::Reports;
use super::marker::{decode_key, decode_value};
use super::waiting::{PAUSE, answered, rest, wait_for_broker};
use crate::checkpoint::protocol::{Marker, Markers};
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::SinkContext;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::cell::OnceCell;
use std::time::{Duration, Instant};

pub(super) const PARTITION: i32 = 0;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Creating a topic includes that the cluster knows it.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a record for this long, reading has failed and begins again.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// A transaction that is open for this long may never end.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpTo {
    /// What is decided now.
    Now,
    /// All that has been begun by now.
    End,
}

/// The progress topic of one job.
pub(super) struct ProgressTopic {
    job: String,
    topic: String,
    /// Of clients that ask and read.
    client: ClientConfig,
    /// For questions about what is committed: kept, as they are asked at each commit.
    committed: OnceCell<BaseConsumer<Reports>>,
    /// The same about what is there.
    uncommitted: OnceCell<BaseConsumer<Reports>>,
}

/// An attempt that did not work.
pub(super) enum Failed {
    /// Later it may.
    Away(String),
    Ended(ProcessorError),
}

impl From<KafkaError> for Failed {
    fn from(error: KafkaError) -> Self {
        Failed::Away(error.to_string())
    }
}

impl From<ProcessorError> for Failed {
    fn from(error: ProcessorError) -> Self {
        Failed::Ended(error)
    }
}

impl ProgressTopic {
    pub fn new(job: &str, client: ClientConfig) -> Self {
        ProgressTopic {
            job: job.to_owned(),
            topic: format!("{job}-progress"),
            client,
            committed: OnceCell::new(),
            uncommitted: OnceCell::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.topic
    }

    /// Makes the topic where it is missing, and checks how it cleans up. Returns the longest time-out of transactions that the
    /// broker takes; `None` where it may not be asked.
    pub fn make_ready(&self, context: &SinkContext) -> ProcessorResult<Option<u64>> {
        let admin: AdminClient<Reports> = self.client.create_with_context(Reports::default()).map_err(made_of)?;
        self.until_it_works(context, || self.create_if_missing(&admin))?;
        let topic = ResourceSpecifier::Topic(&self.topic);
        let found = self.until_it_works(context, || self.configured(&admin, &topic, "cleanup.policy"))?;
        if let Some(other) = found.filter(|found| found != "compact") {
            return Err(ProcessorError::Config(format!(
                "topic `{topic}` on {servers} has cleanup.policy={other}, and would lose markers: it must be `compact` \
                 (kafka-configs --alter --topic {topic} --add-config cleanup.policy=compact)",
                topic = self.topic,
                servers = self.servers(),
            )));
        }
        let longest = self.until_it_works(context, || {
            let metadata = admin.inner().fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT)?;
            let broker = metadata.brokers().first().ok_or_else(|| Failed::Away("no broker is known".to_owned()))?.id();
            self.configured(&admin, &ResourceSpecifier::Broker(broker), "transaction.max.timeout.ms")
        })?;
        Ok(longest.and_then(|text| text.parse().ok()))
    }

    /// The last marker of each shard.
    pub fn read(&self, context: &SinkContext, up_to: UpTo) -> ProcessorResult<Markers> {
        if up_to == UpTo::End {
            self.wait_for_open_transactions(context)?;
        }
        self.until_it_works(context, || self.read_once(context))
    }

    fn wait_for_open_transactions(&self, context: &SinkContext) -> ProcessorResult<()> {
        let end = self.until_it_works(context, || self.end())?;
        let begun = Instant::now();
        loop {
            let decided = self.until_it_works(context, || self.stable_end())?;
            if decided >= end {
                context.working();
                return Ok(());
            }
            let reason = self.open_transaction(decided, end, begun.elapsed());
            if begun.elapsed() >= PAUSE {
                context.waiting(&reason);
            }
            rest(context, PAUSE / 5, &reason)?;
        }
    }

    /// What is waited for where the end of the topic is not decided.
    pub(super) fn open_transaction(&self, decided: i64, end: i64, since: Duration) -> String {
        let seconds = since.as_secs();
        let mut text = format!(
            "topic `{}` is decided up to offset {decided} of {end}: another transaction is open, and ends by itself or by its \
             time-out ({seconds} s so far)",
            self.topic
        );
        if since >= LOST_AFTER {
            text += &format!(
                "; where it does not, `kafka-transactions.sh --bootstrap-server {} find-hanging` names its producer, and the job \
                 that it belongs to settles it when it starts",
                self.servers()
            );
        }
        text
    }

    /// The reader of committed records that is kept.
    pub(super) fn committed_reader(&self) -> Result<&BaseConsumer<Reports>, Failed> {
        self.kept(&self.committed, "read_committed")
    }

    /// The reader of all records that is kept.
    pub(super) fn uncommitted_reader(&self) -> Result<&BaseConsumer<Reports>, Failed> {
        self.kept(&self.uncommitted, "read_uncommitted")
    }

    fn kept<'a>(
        &self,
        kept: &'a OnceCell<BaseConsumer<Reports>>,
        isolation: &str,
    ) -> Result<&'a BaseConsumer<Reports>, Failed> {
        if let Some(reader) = kept.get() {
            return Ok(reader);
        }
        let reader = self.reader(isolation)?;
        self.connect(&reader)?;
        Ok(kept.get_or_init(|| reader))
    }

    /// Has a reader find the partition's broker at once: otherwise it takes a second.
    fn connect(&self, reader: &BaseConsumer<Reports>) -> Result<(), Failed> {
        reader.fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT)?;
        Ok(())
    }

    fn read_once(&self, context: &SinkContext) -> Result<Markers, Failed> {
        let mut markers = Markers::new();
        self.scan("read_committed", Offset::Beginning, |message| {
            self.take(message, &mut markers)?;
            rest(context, Duration::ZERO, &format!("topic `{}` is being read", self.topic))?;
            Ok(true)
        })?;
        Ok(markers)
    }

    /// Reads the topic from an offset to its end, or until `take` says that it has enough.
    pub(super) fn scan(
        &self,
        isolation: &str,
        from: Offset,
        take: impl FnMut(&BorrowedMessage<'_>) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        self.scan_partition(isolation, (&self.topic, PARTITION), from, take)
    }

    /// The same with a partition of any topic.
    pub(super) fn scan_partition(
        &self,
        isolation: &str,
        (topic, partition): (&str, i32),
        from: Offset,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<bool, Failed>,
    ) -> Result<(), Failed> {
        let consumer = self.reader(isolation)?;
        self.connect(&consumer)?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, from)?;
        consumer.assign(&assignment)?;
        let mut progress = Instant::now();
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    progress = Instant::now();
                    if !take(&message)? {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if progress.elapsed() >= READ_PATIENCE => return Err(error.into()),
                Some(Err(error)) => tracing::debug!(target: "sink", topic, "reading: {error}"),
                None if progress.elapsed() >= READ_PATIENCE => {
                    return Err(Failed::Away(format!("nothing came for {} s", READ_PATIENCE.as_secs())));
                }
                None => {}
            }
        }
    }

    /// The error where a record is none that this program writes.
    pub(super) fn no_marker(&self, offset: i64, reason: &str) -> ProcessorError {
        ProcessorError::Kafka(format!(
            "topic `{}` on {}: the record at offset {offset} is no marker: {reason}",
            self.topic,
            self.servers(),
        ))
    }

    /// The marker that a record of this offset has as its value.
    pub(super) fn marker(&self, offset: i64, value: &[u8]) -> ProcessorResult<Marker> {
        decode_value(value).map_err(|reason| self.no_marker(offset, &reason))
    }

    fn take(&self, message: &impl Message, markers: &mut Markers) -> Result<(), Failed> {
        let wrong = |reason: String| Failed::Ended(self.no_marker(message.offset(), &reason));
        let (job, shard) = decode_key(message.key().unwrap_or_default()).map_err(wrong)?;
        if job != self.job {
            return Ok(());
        }
        match message.payload() {
            None => markers.remove(&shard),
            Some(value) => markers.insert(shard, decode_value(value).map_err(wrong)?),
        };
        Ok(())
    }

    fn create_if_missing(&self, admin: &AdminClient<Reports>) -> Result<(), Failed> {
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
        let options = AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT)).operation_timeout(Some(CREATE_TIMEOUT));
        let results = wait_for(admin.create_topics([&topic], &options))??;
        let code = match results.into_iter().next() {
            Some(Ok(_)) => {
                tracing::info!(target: "sink", topic = self.topic, "the progress topic is made");
                return Ok(());
            }
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => return Ok(()),
            Some(Err((_, code))) => code,
            None => return Err(Failed::Away("the broker's answer is empty".to_owned())),
        };
        if self.exists()? {
            return Ok(());
        }
        let refused = matches!(
            code,
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::InvalidReplicationFactor
                | RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::InvalidTopic
        );
        match refused {
            false => Err(Failed::Away(format!("making topic `{}`: {code}", self.topic))),
            true => Err(Failed::Ended(ProcessorError::Kafka(format!(
                "topic `{}` does not exist on {} and cannot be made: {code}; create it with one partition and \
                 cleanup.policy=compact",
                self.topic,
                self.servers()
            )))),
        }
    }

    fn exists(&self) -> Result<bool, Failed> {
        let metadata = self.reader("read_committed")?.fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT)?;
        Ok(metadata.topics().iter().any(|topic| topic.name() == self.topic && topic.error().is_none()))
    }

    /// What the broker has configured; `None` where it does not tell.
    fn configured(
        &self,
        admin: &AdminClient<Reports>,
        of: &ResourceSpecifier<'_>,
        name: &str,
    ) -> Result<Option<String>, Failed> {
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let results = wait_for(admin.describe_configs([of], &options))??;
        let value = |resource: &ConfigResource| resource.get(name).and_then(|entry| entry.value.clone());
        match results.first() {
            Some(Ok(resource)) => Ok(value(resource)),
            Some(Err(
                code @ (RDKafkaErrorCode::ClusterAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed),
            )) => {
                tracing::warn!(target: "sink", "{name} of {of:?} cannot be checked: {code}");
                Ok(None)
            }
            Some(Err(code)) => Err(Failed::Away(format!("{name} of {of:?}: {code}"))),
            None => Err(Failed::Away("the broker's answer is empty".to_owned())),
        }
    }

    pub(super) fn until_it_works<T>(
        &self,
        context: &SinkContext,
        mut attempt: impl FnMut() -> Result<T, Failed>,
    ) -> ProcessorResult<T> {
        loop {
            match attempt() {
                Ok(value) => {
                    answered(context);
                    return Ok(value);
                }
                Err(Failed::Ended(error)) => return Err(error),
                Err(Failed::Away(reason)) => {
                    let reason = format!("topic `{}` on {}: {reason}", self.topic, self.servers());
                    wait_for_broker(context, &reason)?;
                }
            }
        }
    }

    fn reader(&self, isolation: &str) -> ProcessorResult<BaseConsumer<Reports>> {
        let mut client = self.client.clone();
        client
            .set("group.id", &self.topic)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // The broker says that this was the end by an empty answer, for which it waits this long.
            .set("fetch.wait.max.ms", "10")
            .set("isolation.level", isolation);
        client.create_with_context(Reports::default()).map_err(made_of)
    }

    fn servers(&self) -> &str {
        self.client.get("bootstrap.servers").unwrap_or_default()
    }
}

/// A client that cannot be made will not be later.
fn made_of(error: KafkaError) -> ProcessorError {
    ProcessorError::Config(format!("kafka.producer: librdkafka refuses its properties: {error}"))
}

/// Waits for the answer to a call of an admin client, which has a time-out of its own.
fn wait_for<F: Future>(call: F) -> ProcessorResult<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| ProcessorError::io("starting a runtime for the progress topic", error))?;
    Ok(runtime.block_on(call))
}
