//! Records that are kept until the broker has them.

use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::SinkContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long one look for delivery reports takes; also how late a completed flush is noticed.
const POLL: Duration = Duration::from_millis(1);
/// A flush without progress for this long is trouble.
const SLOW_AFTER: Duration = Duration::from_secs(2);
/// How often trouble is reported again.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How long one question for metadata may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a topic may be unknown before it counts as missing: the time that making one automatically takes.
const TOPIC_PATIENCE: Duration = Duration::from_secs(6);
/// What is kept of a value that the broker refuses for its size, where cutting is allowed.
const CUT_TO: usize = 256 * 1024;

/// A header: its name and its value.
pub(super) type RecordHeader = (String, Option<Vec<u8>>);

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Arc<[RecordHeader]>,
}

/// What becomes of a record that is too large for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oversize {
    /// It cannot be delivered.
    Refuse,
    /// Its value is cut, and the header `payload_cut_from` has its size.
    Cut,
}

/// See the parent module's documentation.
pub(super) struct Delivery {
    topic: String,
    servers: String,
    client: ClientConfig,
    oversize: Oversize,
    producer: BaseProducer<Reports>,
    context: Option<SinkContext>,
    /// Not acknowledged as a whole.
    unsettled: Vec<Outgoing>,
    /// How many of them the producer has.
    enqueued: usize,
    /// The last attempt failed. librdkafka remembers a topic's error until it asks for metadata again.
    ask_again: bool,
}

/// What a client reports back.
#[derive(Default)]
pub(super) struct Reports {
    failure: Mutex<Option<Failure>>,
    notice: Mutex<Option<String>>,
    /// Where records were delivered; `None` where nobody asks.
    places: Mutex<Option<Places>>,
}

/// Where records were delivered.
#[derive(Default)]
pub(super) struct Places {
    /// The offset of the first in each partition.
    pub first: BTreeMap<i32, i64>,
    /// The partition of each, by position.
    pub partitions: BTreeMap<usize, i32>,
}

/// The first record, by position, that was not delivered.
pub(super) struct Failure {
    position: usize,
    pub code: Option<RDKafkaErrorCode>,
    pub reason: String,
}

impl Reports {
    fn failed(&self, failure: Failure) {
        let Ok(mut first) = self.failure.lock() else { return };
        if first.as_ref().is_none_or(|known| failure.position < known.position) {
            *first = Some(failure);
        }
    }

    pub fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().ok()?.take()
    }

    /// Forgets where records were delivered, and begins to note it.
    pub fn note_places(&self) {
        if let Ok(mut places) = self.places.lock() {
            *places = Some(Places::default());
        }
    }

    /// Where records were delivered since the last call.
    pub fn take_places(&self) -> Places {
        self.places.lock().ok().and_then(|mut places| places.as_mut().map(std::mem::take)).unwrap_or_default()
    }

    fn delivered(&self, position: usize, partition: i32, offset: i64) {
        let Ok(mut places) = self.places.lock() else { return };
        let Some(places) = places.as_mut() else { return };
        places.partitions.insert(position, partition);
        // One that was sent twice may come without an offset.
        if offset >= 0 {
            places.first.entry(partition).and_modify(|first| *first = offset.min(*first)).or_insert(offset);
        }
    }

    pub fn notice(&self) -> Option<String> {
        self.notice.lock().ok()?.clone()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
            // Outages are told of by the sink itself, once, and not by every connection attempt.
            _ => tracing::info!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let text = if reason.is_empty() { error.to_string() } else { reason.to_owned() };
        if let Ok(mut notice) = self.notice.lock() {
            *notice = Some(text);
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, position: usize) {
        match result {
            Ok(message) => {
                self.delivered(position, message.partition(), message.offset());
                if let Ok(mut notice) = self.notice.lock() {
                    *notice = None;
                }
            }
            Err((error, message)) => {
                let reason = format!("{}[{}]: {error}", message.topic(), message.partition());
                self.failed(Failure { position, code: error.rdkafka_error_code(), reason });
            }
        }
    }
}

impl ConsumerContext for Reports {}

impl Delivery {
    /// For records of `topic`; connects in the background.
    pub fn new(client: ClientConfig, topic: &str, oversize: Oversize) -> ProcessorResult<Delivery> {
        let servers = client.get("bootstrap.servers").unwrap_or_default().to_owned();
        let producer = create(&client)?;
        Ok(Delivery {
            topic: topic.to_owned(),
            servers,
            client,
            oversize,
            producer,
            context: None,
            unsettled: Vec::new(),
            enqueued: 0,
            ask_again: false,
        })
    }

    /// Waits for the broker, and checks that the topic exists.
    pub fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.context = Some(context.clone());
        let mut missing_since: Option<Instant> = None;
        loop {
            let pause = match self.topic_state()? {
                TopicState::Present => {
                    context.broker_answers(true);
                    context.working();
                    return Ok(());
                }
                TopicState::Missing => {
                    let since = *missing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= TOPIC_PATIENCE {
                        return Err(ProcessorError::Kafka(format!(
                            "topic `{}` does not exist on {}; create it, or let the broker do so (auto.create.topics.enable)",
                            self.topic, self.servers
                        )));
                    }
                    Duration::from_millis(200)
                }
                TopicState::Unreachable(reason) => {
                    missing_since = None;
                    context.broker_answers(false);
                    context.waiting(&self.unreachable(&reason));
                    Duration::from_millis(500)
                }
            };
            if context.pause(pause) {
                return Err(ProcessorError::Kafka(self.unreachable("the run ended first")));
            }
            if context.nothing_left() {
                return Ok(());
            }
        }
    }

    /// Takes a record; it is on its way when there is room. Never waits and never fails: [`Delivery::settle`] does.
    pub fn push(&mut self, record: Outgoing) {
        self.unsettled.push(record);
        if !self.ask_again {
            self.enqueue();
        }
    }

    /// Returns when the broker has acknowledged every record. After an error, what was not acknowledged, and all that came after
    /// it, is sent again by the next call.
    pub fn settle(&mut self) -> ProcessorResult<()> {
        if std::mem::take(&mut self.ask_again) {
            // Only for its effect; where it fails, the records' own failures say more.
            let _ = self.producer.client().fetch_metadata(Some(&self.topic), METADATA_TIMEOUT);
        }
        let mut progress = Instant::now();
        let mut reported: Option<Instant> = None;
        let mut left = usize::MAX;
        loop {
            let waiting_for_room = self.enqueue();
            self.producer.poll(POLL);
            let in_flight = usize::try_from(self.producer.in_flight_count()).unwrap_or(0);
            if in_flight == 0
                && let Some(failure) = self.producer.context().take_failure()
            {
                self.after_failure(failure)?;
                continue;
            }
            if in_flight == 0 && !waiting_for_room && self.enqueued == self.unsettled.len() {
                self.all_delivered();
                return Ok(());
            }
            let still_left = in_flight + self.unsettled.len() - self.enqueued;
            if still_left < left {
                progress = Instant::now();
                left = still_left;
            }
            let Some(context) = self.context.clone() else { continue };
            if context.is_over() {
                return Err(ProcessorError::Kafka(self.undelivered(left)));
            }
            let report = reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
            if report && progress.elapsed() >= SLOW_AFTER {
                reported = Some(Instant::now());
                context.broker_answers(false);
                context.waiting(&self.undelivered(left));
            }
        }
    }

    fn all_delivered(&mut self) {
        let some = !self.unsettled.is_empty();
        self.unsettled.clear();
        self.enqueued = 0;
        if let Some(context) = self.context.as_ref().filter(|_| some) {
            context.broker_answers(true);
        }
    }

    /// Gives the producer what it has room for. Returns whether something is left over for want of room.
    fn enqueue(&mut self) -> bool {
        while let Some(record) = self.unsettled.get(self.enqueued) {
            let reports = Arc::clone(self.producer.context());
            if reports.failure.lock().is_ok_and(|failure| failure.is_some()) {
                // What follows a failed record is sent after it.
                return false;
            }
            let Err(error) = send(&self.producer, &self.topic, record, self.enqueued) else {
                self.enqueued += 1;
                continue;
            };
            let code = error.rdkafka_error_code();
            if code == Some(RDKafkaErrorCode::QueueFull) && self.producer.in_flight_count() > 0 {
                return true;
            }
            reports.failed(Failure { position: self.enqueued, code, reason: format!("{}: {error}", self.topic) });
        }
        false
    }

    /// Makes ready for sending again from the failed record on. An error where only the retry policy can help.
    fn after_failure(&mut self, failure: Failure) -> ProcessorResult<()> {
        self.enqueued = failure.position.min(self.unsettled.len());
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            tracing::warn!(target: "sink", topic = self.topic, "the producer is replaced after {code}: {reason}");
            self.producer = create(&self.client)?;
        }
        let too_large =
            matches!(failure.code, Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize));
        if too_large && self.oversize == Oversize::Cut && self.cut(self.enqueued) {
            return Ok(());
        }
        self.ask_again = true;
        Err(ProcessorError::Kafka(format!("{} (broker: {})", failure.reason, self.servers)))
    }

    /// Cuts the value of a record. Returns whether that made it smaller.
    fn cut(&mut self, position: usize) -> bool {
        let Some(record) = self.unsettled.get_mut(position) else { return false };
        let Some(value) = record.value.as_mut().filter(|value| value.len() > CUT_TO) else { return false };
        let size = value.len();
        value.truncate(CUT_TO);
        let mut headers = record.headers.to_vec();
        headers.push(("payload_cut_from".to_owned(), Some(size.to_string().into_bytes())));
        record.headers = headers.into();
        tracing::warn!(
            target: "sink", topic = self.topic, size, cut_to = CUT_TO,
            "a record is larger than the topic's max.message.bytes and is cut"
        );
        true
    }

    fn topic_state(&self) -> ProcessorResult<TopicState> {
        self.producer.poll(Duration::ZERO);
        let metadata = match self.producer.client().fetch_metadata(Some(&self.topic), METADATA_TIMEOUT) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.producer.poll(Duration::ZERO);
                let notice = self.producer.context().notice().unwrap_or_else(|| error.to_string());
                return Ok(TopicState::Unreachable(notice));
            }
        };
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        match topic.map(|topic| topic.error().map(RDKafkaErrorCode::from)) {
            Some(None) => Ok(TopicState::Present),
            None | Some(Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable)) => {
                Ok(TopicState::Missing)
            }
            Some(Some(code)) => {
                Err(ProcessorError::Kafka(format!("topic `{}` on {}: {code}", self.topic, self.servers)))
            }
        }
    }

    fn unreachable(&self, reason: &str) -> String {
        format!("broker {} cannot be reached for topic `{}`: {reason}", self.servers, self.topic)
    }

    fn undelivered(&self, count: usize) -> String {
        let notice = self.producer.context().notice().map_or(String::new(), |notice| format!(": {notice}"));
        format!("{count} records for topic `{}` are not acknowledged by broker {}{notice}", self.topic, self.servers)
    }
}

/// What a broker says about a topic.
enum TopicState {
    Present,
    Missing,
    Unreachable(String),
}

pub(super) fn create(client: &ClientConfig) -> ProcessorResult<BaseProducer<Reports>> {
    client.create_with_context(Reports::default()).map_err(|error| match error {
        KafkaError::ClientConfig(_, reason, property, value) => {
            ProcessorError::Config(format!("kafka.producer: librdkafka refuses `{property}: {value}`: {reason}"))
        }
        error => ProcessorError::Kafka(format!("cannot make a producer: {error}")),
    })
}

fn send(producer: &BaseProducer<Reports>, topic: &str, record: &Outgoing, position: usize) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (name, value) in record.headers.iter() {
        headers = headers.insert(Header { key: name, value: value.as_deref() });
    }
    let mut sent = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, position).headers(headers);
    sent.key = record.key.as_deref();
    sent.payload = record.value.as_deref();
    producer.send(sent).map_err(|(error, _)| error)
}
