//! A producer with a transactional id, and one transaction of it.
//!
//! The model: either the commit is answered at the first call, or the outcome is in doubt, and the producer is of no use any more:
//! the next one, by taking the same id, has the broker finish or abort what is open, and the markers say which.
//!
//! In doubt is more than seems necessary: also a transaction that was aborted, and a commit that was answered after it was asked
//! again. A request that was given up may still be on its way, and would end the *next* transaction of the same producer
//! before its time; after the id is taken again it can do no harm.

use super::super::delivery::{Reports, create};
use super::chunk::Chunk;
use super::progress::PARTITION;
use super::reach::{ABORTED, Aborted, RECORDS, Reach, encode};
use super::waiting::{PAUSE, answered, rest, wait_for_broker};
use crate::checkpoint::failpoint;
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::SinkContext;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long one call of librdkafka may take before it is asked again.
const CALL: Duration = Duration::from_secs(1);
/// The same for what needs delivery reports taken in between.
const SHORT_CALL: Duration = Duration::from_millis(50);
/// How long one look for delivery reports takes.
const POLL: Duration = Duration::from_millis(1);
/// Records that are not acknowledged for this long are trouble.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// The marker of a transaction, as a record.
pub(super) struct MarkerRecord<'a> {
    pub topic: &'a str,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// Where a transaction's records are.
pub(super) struct Sent {
    pub reach: Reach,
    /// The offset of the marker; `None` where the broker did not tell.
    pub marker: Option<i64>,
}

/// Which of a transaction's records are sent again: those that it had in some partitions.
#[derive(Clone, Copy)]
pub(super) struct Again<'a> {
    pub reach: &'a Reach,
    pub lost: &'a BTreeSet<i32>,
}

/// Why a transaction was not committed, as far as is known.
pub(super) enum Setback {
    /// The broker refuses a record.
    Refused(String),
    /// It is not known, or it will be done again by another producer.
    Doubt(String),
    /// The run is over.
    Ended(ProcessorError),
}

/// The producer of one transactional id.
pub(super) struct ShardProducer {
    id: String,
    client: ClientConfig,
    producer: Option<BaseProducer<Reports>>,
}

impl ShardProducer {
    /// Does not connect; see [`ShardProducer::fence`].
    pub fn new(id: &str, client: ClientConfig) -> Self {
        ShardProducer { id: id.to_owned(), client, producer: None }
    }

    /// Takes the id: what other producers with it have left open is ended, and they can do nothing more. Waits for the broker.
    pub fn fence(&mut self, context: &SinkContext) -> ProcessorResult<()> {
        self.discard();
        loop {
            let producer = create(&self.client)?;
            match self.initialize(&producer, context) {
                Ok(()) => {
                    self.producer = Some(producer);
                    answered(context);
                    return Ok(());
                }
                Err(Setback::Ended(error)) => return Err(error),
                Err(Setback::Refused(reason) | Setback::Doubt(reason)) => {
                    drop(producer);
                    wait_for_broker(context, &self.trouble(&reason))?;
                }
            }
        }
    }

    fn initialize(&self, producer: &BaseProducer<Reports>, context: &SinkContext) -> Result<(), Setback> {
        loop {
            let error = match producer.init_transactions(CALL) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) => error,
                Err(other) => return Err(Setback::Doubt(other.to_string())),
            };
            producer.poll(Duration::ZERO);
            match error.code() {
                RDKafkaErrorCode::InvalidTransactionTimeout => {
                    let asked = self.client.get("transaction.timeout.ms").unwrap_or_default();
                    return Err(Setback::Ended(ProcessorError::Config(format!(
                        "kafka.producer: `transaction.timeout.ms: {asked}` is more than the broker's \
                         transaction.max.timeout.ms: lower the one in kafka.producer.properties, or raise the other"
                    ))));
                }
                RDKafkaErrorCode::TransactionalIdAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                    let reason =
                        format!("transactional id `{}` may not be used: {error}; it needs Write and Describe", self.id);
                    return Err(Setback::Ended(ProcessorError::Kafka(self.trouble(&reason))));
                }
                _ if error.is_fatal() || !error.is_retriable() => return Err(Setback::Doubt(error.to_string())),
                _ => {
                    let reason = producer.context().notice().unwrap_or_else(|| error.to_string());
                    wait_for_broker(context, &self.trouble(&reason)).map_err(Setback::Ended)?;
                }
            }
        }
    }

    /// Forgets the producer. What it has open stays so, until the id is taken again or the broker's patience ends.
    pub fn discard(&mut self) {
        self.producer = None;
    }

    /// One transaction: the records of `chunk`, or those of them that `again` names, then the marker. After an error the id must be
    /// taken again. Returns where they are.
    pub fn transact(
        &self,
        chunk: Option<&Chunk<'_>>,
        again: Option<Again<'_>>,
        marker: &MarkerRecord<'_>,
        context: &SinkContext,
    ) -> Result<Sent, Setback> {
        let transaction = self.begin(context)?;
        failpoint("transaction_begun");
        let sent = transaction.send(chunk, again, marker).inspect_err(|_| transaction.take_back())?;
        failpoint("commit_sent");
        transaction.commit()?;
        failpoint("commit_answered");
        Ok(sent)
    }

    /// A transaction with a record in each of these partitions, aborted: it takes what is open there with it. The sign of that, with
    /// the key of `sign` and no value, is there before anything else.
    pub fn abort_with(
        &self,
        what: &Aborted,
        (topic, open): (&str, &[i32]),
        sign: &MarkerRecord<'_>,
        context: &SinkContext,
    ) -> Result<Sent, Setback> {
        let transaction = self.begin(context)?;
        let of = |topic, partition| {
            BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, 0).partition(partition).key(&sign.key[..])
        };
        let reports = transaction.producer.context();
        reports.note_places();
        let header = encode(what);
        let headers = OwnedHeaders::new().insert(Header { key: ABORTED, value: Some(&header) });
        transaction.enqueue(of(sign.topic, PARTITION).headers(headers))?;
        transaction.settle()?;
        let marker = reports.take_places().first.remove(&PARTITION);
        for &partition in open {
            transaction.enqueue(of(topic, partition))?;
        }
        transaction.settle()?;
        let reach = Reach { topic: topic.to_owned(), first: reports.take_places().first, partitions: Vec::new() };
        transaction.abort()?;
        Ok(Sent { reach, marker })
    }

    fn begin<'a>(&'a self, context: &'a SinkContext) -> Result<Transaction<'a>, Setback> {
        let Some(producer) = &self.producer else {
            return Err(Setback::Doubt("the id is to be taken again".to_owned()));
        };
        match producer.begin_transaction() {
            Ok(()) => Ok(Transaction { producer, context, owner: self }),
            Err(error) => Err(Setback::Doubt(format!("beginning a transaction: {error}"))),
        }
    }

    /// Whether the broker has said that another producer has the id, or that it has ended the transaction by itself: it cannot be
    /// told from which.
    pub fn is_fenced(&self) -> bool {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        fatal.is_some_and(|(code, _)| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
            )
        })
    }

    fn trouble(&self, reason: &str) -> String {
        let servers = self.client.get("bootstrap.servers").unwrap_or_default();
        format!("transactions of `{}` on broker {servers}: {reason}", self.id)
    }
}

/// A transaction that was begun.
struct Transaction<'a> {
    producer: &'a BaseProducer<Reports>,
    context: &'a SinkContext,
    owner: &'a ShardProducer,
}

impl Transaction<'_> {
    fn send(
        &self,
        chunk: Option<&Chunk<'_>>,
        again: Option<Again<'_>>,
        marker: &MarkerRecord<'_>,
    ) -> Result<Sent, Setback> {
        let reports = self.producer.context();
        reports.note_places();
        if let Some(chunk) = chunk {
            self.send_records(chunk, again)?;
        }
        failpoint("outbox_sent");
        let places = reports.take_places();
        let reach = match again {
            Some(Again { reach, lost }) => reach.with(lost, places.first),
            None => {
                let topic = chunk.map_or("", |chunk| chunk.topic).to_owned();
                Reach { topic, first: places.first, partitions: places.partitions.into_values().collect() }
            }
        };
        let header = encode(&reach);
        let headers = OwnedHeaders::new().insert(Header { key: RECORDS, value: Some(&header) });
        let position = chunk.map_or(0, |chunk| chunk.records.len());
        let record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(marker.topic, position).headers(headers);
        self.enqueue(record.partition(PARTITION).key(&marker.key[..]).payload(&marker.value[..]))?;
        self.settle()?;
        failpoint("marker_sent");
        Ok(Sent { reach, marker: reports.take_places().first.remove(&PARTITION) })
    }

    fn send_records(&self, chunk: &Chunk<'_>, again: Option<Again<'_>>) -> Result<(), Setback> {
        let mut headers = OwnedHeaders::new_with_capacity(chunk.headers.len());
        for (name, value) in &chunk.headers {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        for (position, (key, value)) in chunk.records.iter().enumerate() {
            let record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(chunk.topic, position);
            let mut record = record.key(*key).headers(headers.clone());
            if let Some(Again { reach, lost }) = again {
                match reach.partitions.get(position) {
                    Some(partition) if lost.contains(partition) => record = record.partition(*partition),
                    _ => continue,
                }
            }
            record.payload = *value;
            self.enqueue(record)?;
        }
        self.settle()
    }

    /// Gives the producer a record, when it has room.
    fn enqueue(&self, record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), Setback> {
        let mut record = record;
        loop {
            let error = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) => {
                    record = back;
                    error
                }
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let reason = format!("{}: {error}", record.topic);
                return Err(self.setback(error.rdkafka_error_code(), reason));
            }
            self.producer.poll(POLL);
            self.check()?;
        }
    }

    /// Waits until the broker has acknowledged all that was sent.
    fn settle(&self) -> Result<(), Setback> {
        let begun = Instant::now();
        let mut told = false;
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(POLL);
            self.check()?;
            if !told && begun.elapsed() >= SLOW_AFTER {
                told = true;
                let notice = self.producer.context().notice().unwrap_or_else(|| "no acknowledgement".to_owned());
                self.context.broker_answers(false);
                self.context.waiting(&self.owner.trouble(&notice));
            }
        }
        self.check()?;
        if told {
            answered(self.context);
        }
        Ok(())
    }

    /// What has gone wrong so far.
    fn check(&self) -> Result<(), Setback> {
        if let Some(failure) = self.producer.context().take_failure() {
            return Err(self.setback(failure.code, failure.reason));
        }
        let reason = || self.owner.trouble("a transaction is not committed");
        if self.context.is_over() {
            return Err(Setback::Ended(ProcessorError::Kafka(format!("{}; the run ended first", reason()))));
        }
        Ok(())
    }

    fn setback(&self, code: Option<RDKafkaErrorCode>, reason: String) -> Setback {
        if let Some((code, fatal)) = self.producer.client().fatal_error() {
            return Setback::Doubt(format!("{code}: {fatal}"));
        }
        let refused = matches!(
            code,
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                    | RDKafkaErrorCode::InvalidMessageSize
                    | RDKafkaErrorCode::InvalidRecord
                    | RDKafkaErrorCode::InvalidMessage
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::PolicyViolation
            )
        );
        match refused {
            true => Setback::Refused(reason),
            false => Setback::Doubt(reason),
        }
    }

    /// Aborts, if that is quick: only so that readers need not wait until the id is taken again.
    fn take_back(&self) {
        let begun = Instant::now();
        while begun.elapsed() < SLOW_AFTER {
            match self.producer.abort_transaction(SHORT_CALL) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !error.is_fatal() => {}
                _ => return,
            }
            self.producer.poll(POLL);
            if self.context.is_over() {
                return;
            }
        }
    }

    fn commit(&self) -> Result<(), Setback> {
        self.end("commit", || self.producer.commit_transaction(CALL))
    }

    fn abort(&self) -> Result<(), Setback> {
        self.end("abort", || self.producer.abort_transaction(CALL))
    }

    /// Asks until there is an answer.
    fn end(&self, what: &str, ask: impl Fn() -> Result<(), KafkaError>) -> Result<(), Setback> {
        let mut again = None;
        loop {
            let error = match ask() {
                Ok(()) => {
                    self.producer.poll(Duration::ZERO);
                    // A connection that broke: librdkafka may have asked twice.
                    let broke = self.producer.context().notice();
                    answered(self.context);
                    return again.or(broke).map_or(Ok(()), |reason| Err(Setback::Doubt(reason)));
                }
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort() =>
                {
                    error
                }
                Err(other) => return Err(Setback::Doubt(format!("the {what} of a transaction: {other}"))),
            };
            let notice = self.producer.context().notice().unwrap_or_else(|| error.to_string());
            let reason = self.owner.trouble(&format!("the {what} is not answered: {notice}"));
            self.context.broker_answers(false);
            self.context.waiting(&reason);
            rest(self.context, PAUSE / 5, &reason).map_err(Setback::Ended)?;
            again = Some(reason);
        }
    }
}
