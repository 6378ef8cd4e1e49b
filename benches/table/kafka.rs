//! A Kafka topic to results, against a loop that drains librdkafka and parses.
//!
//! The broker is a process of its own: its time does not count. Both sides make a client, read the topic to its end and take the
//! client down; librdkafka's threads count on both. After the events each partition has one record two minutes later, which
//! closes the windows of all of them: the run is over when their results are in the file.

use super::events::{self, TUMBLING, event_json, folder, generate_events, job_named, job_with};
use super::files::bench_config;
use super::measure::{Table, cpu, in_turn, in_turn_times, wall};
use kafka_broker::{Broker, TestRecord, fresh};
use llm_optimizer_processor::ConsumerConfig;
use llm_optimizer_processor::event::{Decoder, JsonDecoder, RowScratch, WorkerIndex};
use llm_optimizer_processor::runtime::Control;
use llm_optimizer_processor::source::kafka::consumer_config;
use llm_optimizer_processor::time::{EventTime, Span};
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::ptr;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

const EVENTS: u64 = 1_000_000;
const PARTITIONS: u32 = 4;
/// The events, and the records that close their windows.
const RECORDS: u64 = EVENTS + PARTITIONS as u64;
const TOPIC: &str = "events";
/// A run that takes longer has lost something.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(table: &mut Table) {
    if !table.wants("kafka") {
        return;
    }
    let broker = Broker::start();
    let results = fill(&broker, TOPIC, EVENTS);
    let (floor, time) = in_turn(|| cpu(|| drain_and_parse(broker.servers())), || process(broker.servers(), results));
    table.ratio("Kafka topic, 4 partitions -> results, 1 worker (CPU)", floor, time, EVENTS, ">= 0.85");
}

/// Writes a topic, uncompressed: unpacking would cost both sides the same. Answers how many results its events have.
fn fill(broker: &Broker, topic: &str, events: u64) -> usize {
    broker.create_topic(topic, PARTITIONS as i32, &[]);
    // A few at a time: all of them would be half a gigabyte.
    let (sender, records) = sync_channel(10_000);
    let writer = std::thread::spawn(move || {
        let mut decoder = JsonDecoder::new(&bench_config("[stdout]").event);
        let mut row = RowScratch::default();
        let mut results: HashSet<(i64, Vec<u8>)> = HashSet::new();
        let mut latest = EventTime::MIN;
        generate_events(PARTITIONS, events, |partition, payload| {
            row.clear();
            decoder.decode(payload, &mut row).expect("a good record");
            latest = latest.max(row.time);
            results.insert((row.time.as_millis().div_euclid(60_000), row.key.clone()));
            sender.send(TestRecord::to(partition, payload)).expect("the producer takes all");
        });
        for partition in 0..PARTITIONS {
            let mut closing = Vec::new();
            event_json(&mut closing, latest.saturating_add(Span::from_millis(120_000)), partition.into());
            sender.send(TestRecord::to(partition as i32, closing)).expect("the producer takes all");
        }
        results.len()
    });
    broker.produce(topic, "none", records);
    writer.join().expect("events were made")
}

/// The floor: one client with the reader's own settings, its partitions led to one queue, batches of what is there; each record
/// parsed and given back.
fn drain_and_parse(servers: &str) {
    let config = bench_config("[stdout]");
    let consumer = ConsumerConfig { group_id: fresh("floor"), ..ConsumerConfig::new(servers, [TOPIC]) };
    let client = consumer_config(&consumer, "floor", WorkerIndex(0), config.buffer_size).expect("settings");
    let client: BaseConsumer = client.create().expect("a client");
    let queue = Queue::of(&client);
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS as i32 {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    }
    client.assign(&list).expect("an assignment");
    let mut decoder = JsonDecoder::new(&config.event);
    let mut row = RowScratch::default();
    let (mut records, until) = (0, Instant::now() + PATIENCE);
    let mut messages = vec![ptr::null_mut(); 256];
    while records < RECORDS {
        assert!(Instant::now() < until, "{records} records of {RECORDS}");
        records += queue.drain(&mut messages, |payload| {
            row.clear();
            black_box(decoder.decode(payload, &mut row).expect("a good record"));
            black_box(&row);
        });
    }
}

/// A queue of librdkafka's into which the partitions of the topic are led.
struct Queue<'a> {
    queue: *mut sys::rd_kafka_queue_t,
    _client: &'a BaseConsumer,
}

impl<'a> Queue<'a> {
    fn of(client: &'a BaseConsumer) -> Self {
        let topic = CString::new(TOPIC).expect("a name");
        // SAFETY: the client is valid for `'a`; every queue that is made or asked for is given back once.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_new(client.client().native_ptr());
            for partition in 0..PARTITIONS as i32 {
                let source = sys::rd_kafka_queue_get_partition(client.client().native_ptr(), topic.as_ptr(), partition);
                assert!(!source.is_null(), "a queue for partition {partition}");
                sys::rd_kafka_queue_forward(source, queue);
                sys::rd_kafka_queue_destroy(source);
            }
            queue
        };
        Self { queue, _client: client }
    }

    /// Takes a batch and lends each record's payload; answers how many there were.
    fn drain(&self, messages: &mut [*mut sys::rd_kafka_message_t], mut take: impl FnMut(&[u8])) -> u64 {
        // SAFETY: the queue is valid, and the array has room for as many pointers as are asked for.
        let count =
            unsafe { sys::rd_kafka_consume_batch_queue(self.queue, 100, messages.as_mut_ptr(), messages.len()) };
        let mut records = 0;
        for message in &messages[..usize::try_from(count).expect("a consumer's queue")] {
            // SAFETY: the message is ours until it is destroyed, once; its payload is `len` bytes of it.
            unsafe {
                if (**message).err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    records += 1;
                    take(std::slice::from_raw_parts((**message).payload.cast::<u8>(), (**message).len));
                }
                sys::rd_kafka_message_destroy(*message);
            }
        }
        records
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and used for the last time; its client is still there.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) }
    }
}

/// The CPU time of the job over the whole topic, until `results` results are in its file, offsets are committed and all is
/// closed.
fn process(servers: &str, results: usize) -> Duration {
    let folder = folder();
    let path = folder.path().join("results.jsonl");
    let sinks = format!("[{{type: file, path: \"{}\", mode: append}}]", path.display());
    let kafka = format!(
        "  kafka: {{consumer: {{bootstrap_servers: \"{servers}\", topics: [{TOPIC}], group_id: {}}}}}\n",
        fresh("bench")
    );
    let job = job_with("kafka", &sinks, &kafka);
    let (control, watched) = (job.control.clone(), path.clone());
    let time = cpu(|| {
        let watcher = std::thread::spawn(move || stop_after(&control, &watched, results));
        assert_eq!(events::run(job, 1).events, RECORDS);
        watcher.join().expect("the results came");
    });
    assert_eq!(std::fs::read_to_string(&path).expect("results").lines().count(), results);
    time
}

/// Events to results in Kafka with a checkpoint each second: all of the run, the last commit included, by the clock. Exactly once
/// against at least once.
pub fn exactly_once(table: &mut Table) {
    let broker = Broker::start();
    let input = |topic, events| Input { topic, events, results: fill(&broker, topic, events) };
    let (few, many) = (input("few", EVENTS), input("many", 6 * EVENTS));
    let least = |input| {
        let of = |delivery| deliver(&broker, delivery, input);
        in_turn_times(5, || of("at_least_once"), || of("exactly_once"))
    };
    let (long, short) = (least(&many), least(&few));
    // Both begin and end once.
    let (floor, time) = (long.0.saturating_sub(short.0), long.1.saturating_sub(short.1));
    let name = "exactly_once to at_least_once, Kafka -> Kafka, each further event, 1 worker (wall)";
    table.ratio(name, floor, time, many.events - few.events, ">= 0.9");
}

/// A topic that is read to its end.
struct Input {
    topic: &'static str,
    events: u64,
    /// How many there are of them.
    results: usize,
}

/// How long the job takes with this delivery from its start until all is read, committed and closed.
fn deliver(broker: &Broker, delivery: &str, input: &Input) -> Duration {
    let (topic, records) = (input.topic, input.events + u64::from(PARTITIONS));
    let folder = folder();
    let output = fresh("results");
    broker.create_topic(&output, PARTITIONS as i32, &[]);
    let (state, checkpoints) = (folder.path().join("state"), folder.path().join("checkpoints"));
    let further = format!(
        "  kafka:\n    consumer: {{bootstrap_servers: \"{servers}\", topics: [{topic}], group_id: {group}}}\n    \
         producer: {{bootstrap_servers: \"{servers}\", result_topic: {output}}}\n  delivery: {delivery}\n  \
         state: {{backend: rocksdb, path: {state:?}, checkpoint_path: {checkpoints:?}}}\n  checkpoint_interval: 1s\n",
        servers = broker.servers(),
        group = fresh("bench"),
    );
    let job = job_named(&output, TUMBLING, "kafka", "[kafka]", &further);
    let (control, metrics) = (job.control.clone(), job.metrics.clone());
    let time = wall(|| {
        let watcher = std::thread::spawn(move || {
            let until = Instant::now() + PATIENCE;
            while events_processed(&metrics.render()) < records && !control.sleep(Duration::from_millis(20)) {
                assert!(Instant::now() < until, "the events are not read");
            }
            control.stop();
        });
        assert_eq!(events::run(job, 1).events, records);
        watcher.join().expect("all was read");
    });
    let delivered = broker.read_all(&output).len();
    // The windows that the last records open stay open.
    assert_eq!(delivered, input.results, "results with {delivery}");
    time
}

/// What the page of metrics says of the events so far.
fn events_processed(page: &str) -> u64 {
    let lines = page.lines().filter(|line| !line.starts_with('#') && line.contains("events_processed_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Stops the run when the file has `results` lines.
fn stop_after(control: &Control, path: &Path, results: usize) {
    let (mut file, mut lines, until) = (None, 0, Instant::now() + PATIENCE);
    let mut news = Vec::new();
    while lines < results && !control.sleep(Duration::from_millis(25)) {
        assert!(Instant::now() < until, "{lines} results of {results}");
        if file.is_none() {
            file = File::open(path).ok();
        }
        if let Some(file) = &mut file {
            news.clear();
            file.read_to_end(&mut news).expect("the results can be read");
            lines += memchr::memchr_iter(b'\n', &news).count();
        }
    }
    control.stop();
}
