//! A reader of a real broker, driven as a worker would; what it hands over is kept as it comes, without decoding.

use kafka_broker::{Broker, TestRecord};
use llm_optimizer_processor::ProcessorResult;
use llm_optimizer_processor::config::{ConsumerConfig, OffsetReset};
use llm_optimizer_processor::event::{Offset, PartitionName, WorkerIndex};
use llm_optimizer_processor::runtime::Control;
use llm_optimizer_processor::source::kafka::{KafkaSource, KafkaSourceOptions, RecordReceiver, SourceObserver};
use llm_optimizer_processor::source::{PartitionSlot, Polled, RecordOrigin, Resume};
use llm_optimizer_processor::time::EventTime;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A record as it was handed over; no value is a tombstone.
pub type Seen = (i64, Option<Vec<u8>>);

/// What was told of each slot's idleness, in order.
pub type IdleTold = BTreeMap<u32, Vec<bool>>;

/// A record's key and headers.
pub type Origin = (Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

/// Takes note of everything.
#[derive(Default)]
pub struct Recorder {
    pub opened: Vec<(PartitionName, EventTime)>,
    pub seen: BTreeMap<(String, i32), Vec<Seen>>,
    pub next: BTreeMap<u32, i64>,
    pub origins: Vec<Origin>,
    pub keep_origins: bool,
    pub idle: IdleTold,
    pub ready: bool,
    pub count: usize,
}

impl Recorder {
    pub fn note(&mut self, slot: PartitionSlot, offset: Offset, payload: Option<&[u8]>) {
        let (name, _) = &self.opened[slot.0 as usize];
        self.seen
            .entry((name.topic.to_string(), name.partition))
            .or_default()
            .push((offset.0, payload.map(<[u8]>::to_vec)));
        self.count += 1;
    }

    pub fn slot(&self, topic: &str, partition: i32) -> PartitionSlot {
        let place = self.opened.iter().position(|(name, _)| &*name.topic == topic && name.partition == partition);
        PartitionSlot(u32::try_from(place.expect("the partition is open")).unwrap())
    }

    pub fn is_idle(&self, slot: PartitionSlot) -> bool {
        self.idle.get(&slot.0).and_then(|told| told.last()).copied().unwrap_or(false)
    }
}

impl RecordReceiver for Recorder {
    fn open_partition(&mut self, name: PartitionName, closed_before: EventTime) -> PartitionSlot {
        self.opened.push((name, closed_before));
        PartitionSlot(u32::try_from(self.opened.len() - 1).unwrap())
    }

    fn record(
        &mut self,
        slot: PartitionSlot,
        offset: Offset,
        payload: &[u8],
        origin: &dyn RecordOrigin,
    ) -> ProcessorResult<()> {
        self.note(slot, offset, Some(payload));
        if self.keep_origins {
            self.origins.push((origin.key(), origin.headers()));
        }
        Ok(())
    }

    fn tombstone(&mut self, slot: PartitionSlot, offset: Offset) {
        self.note(slot, offset, None);
    }

    fn set_ready(&mut self) {
        self.ready = true;
    }

    fn set_idle(&mut self, slot: PartitionSlot, idle: bool) {
        self.idle.entry(slot.0).or_default().push(idle);
    }

    fn set_next(&mut self, slot: PartitionSlot, next: Offset) {
        self.next.insert(slot.0, next.0);
    }
}

/// What the reader told of brokers and lag.
#[derive(Default)]
pub struct Heard {
    pub states: Mutex<Vec<(bool, String)>>,
    pub lag: Mutex<BTreeMap<(String, i32), i64>>,
}

impl SourceObserver for Heard {
    fn lag(&self, partition: &PartitionName, records: i64) {
        self.lag.lock().unwrap().insert((partition.topic.to_string(), partition.partition), records);
    }

    fn broker_state(&self, up: bool, detail: String) {
        self.states.lock().unwrap().push((up, detail));
    }
}

/// How a reader of a test is made.
pub struct Setup {
    pub consumer: ConsumerConfig,
    pub worker: u32,
    pub workers: usize,
    pub buffer_size: usize,
    pub idle_timeout: Option<Duration>,
    pub heard: Arc<Heard>,
    pub resume: Arc<Resume>,
}

impl Setup {
    pub fn new(broker: &Broker, topics: &[&str], group: &str) -> Self {
        Self {
            consumer: ConsumerConfig {
                bootstrap_servers: broker.servers().to_owned(),
                group_id: group.to_owned(),
                topics: topics.iter().map(|topic| topic.to_string()).collect(),
                auto_offset_reset: OffsetReset::Earliest,
                session_timeout: Duration::from_secs(30),
                max_poll_records: NonZeroUsize::new(500).unwrap(),
                enable_auto_commit: true,
                wait_for_topics: false,
                properties: BTreeMap::new(),
            },
            worker: 0,
            workers: 1,
            buffer_size: 10_000,
            idle_timeout: None,
            heard: Arc::default(),
            resume: Arc::default(),
        }
    }

    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.consumer.properties.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn source(&self) -> KafkaSource {
        let me = std::thread::current();
        KafkaSource::new(KafkaSourceOptions {
            consumer: self.consumer.clone(),
            job: "test".to_owned(),
            buffer_size: NonZeroUsize::new(self.buffer_size).unwrap(),
            worker: WorkerIndex(self.worker),
            workers: NonZeroUsize::new(self.workers).unwrap(),
            idle_timeout: self.idle_timeout,
            control: Control::new(),
            waker: Arc::new(move || me.unpark()),
            observer: self.heard.clone(),
            resume: Arc::clone(&self.resume),
        })
        .expect("the configuration is right")
    }
}

/// Polls until `done`, as a worker would.
pub fn pump(source: &mut KafkaSource, recorder: &mut Recorder, what: &str, mut done: impl FnMut(&Recorder) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done(recorder) {
        assert!(
            Instant::now() < until,
            "{what}: not within {} s; {} records so far",
            PATIENCE.as_secs(),
            recorder.count
        );
        match source.poll_into(recorder, 1_000).expect("reading goes on") {
            Polled::Records(_) => {}
            Polled::Nothing(rest) => std::thread::park_timeout(rest),
            Polled::Finished => panic!("{what}: a topic has no end"),
        }
    }
}

/// Polls for a while, whatever comes.
pub fn pump_for(source: &mut KafkaSource, recorder: &mut Recorder, duration: Duration) {
    let until = Instant::now() + duration;
    pump(source, recorder, "a while", |_| Instant::now() >= until);
}

pub fn numbered(partition: i32, range: std::ops::Range<u32>) -> impl Iterator<Item = TestRecord> {
    range.map(move |number| TestRecord::to(partition, format!("{partition}/{number}/{}", "x".repeat(200))))
}

/// Every offset once, in order, and nothing left out: the payload of offset n is that of number n.
pub fn assert_numbered(recorder: &Recorder, topic: &str, partition: i32, count: u32) {
    let seen = &recorder.seen[&(topic.to_owned(), partition)];
    assert_eq!(seen.len(), count as usize, "{topic}[{partition}]");
    for ((offset, payload), number) in seen.iter().zip(0..count) {
        assert_eq!(*offset, i64::from(number), "{topic}[{partition}]");
        let text = String::from_utf8(payload.clone().expect("a value")).unwrap();
        assert!(text.starts_with(&format!("{partition}/{number}/")), "{topic}[{partition}] offset {offset}: {text}");
    }
}
