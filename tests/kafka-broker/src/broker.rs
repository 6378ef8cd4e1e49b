//! One broker: its life, its topics, and what is in them.

use crate::install::{copy_folder, format_data, formatted, java, make_home, properties, tail};
use crate::process::{free_port, signal, spawn};
use crate::records::{ReadRecord, TestRecord, read_record, send};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A running (or stopped) broker.
pub struct Broker {
    home: PathBuf,
    servers: String,
    process: Mutex<Option<Child>>,
}

/// A further listener of a broker.
#[derive(Default)]
pub struct Security {
    /// As in `listeners`, with a name of Kafka's own: `SASL_SSL://127.0.0.1:20001`.
    pub listener: Option<String>,
    /// Lines of the broker's configuration.
    pub properties: String,
    /// For the tool that prepares the data folder.
    pub format_arguments: Vec<String>,
}

impl Broker {
    /// The broker that all tests of this process may use. Nobody may stop it.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// Starts one, and waits until it answers.
    pub fn start() -> Broker {
        Self::start_with(|_| Security::default())
    }

    /// Starts one with a further listener, made in the broker's folder.
    pub fn start_with(security: impl FnOnce(&Path) -> Security) -> Broker {
        let home = make_home();
        let (port, controller) = (free_port(), free_port());
        let security = security(&home);
        fs::write(home.join("server.properties"), properties(&home, port, controller, &security))
            .expect("the folder can be written");
        match security.format_arguments.is_empty() {
            true => copy_folder(formatted(), &home.join("data")),
            false => format_data(&home, &security.format_arguments),
        }
        let broker = Broker { home, servers: format!("127.0.0.1:{port}"), process: Mutex::new(None) };
        broker.restart();
        broker
    }

    /// `host:port`, as for `bootstrap_servers`.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Ends it in its own time: it says good-bye to its clients.
    pub fn stop(&self) {
        let Some(mut child) = self.process.lock().unwrap().take() else { return };
        signal(&child, libc::SIGTERM);
        let until = Instant::now() + STOP_PATIENCE;
        while child.try_wait().expect("the process is ours").is_none() {
            if Instant::now() > until {
                child.kill().expect("the process is ours");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once, as a power failure would.
    pub fn kill(&self) {
        let Some(mut child) = self.process.lock().unwrap().take() else { return };
        child.kill().expect("the process is ours");
        child.wait().expect("the process is ours");
    }

    /// Starts it again on the same ports and data, and waits until it answers.
    pub fn restart(&self) {
        let mut process = self.process.lock().unwrap();
        assert!(process.is_none(), "the broker is running");
        let log = File::options().create(true).append(true).open(self.log()).expect("the folder can be written");
        let mut command = java(&self.home);
        command
            .args(["-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "kafka.Kafka"])
            .arg(self.home.join("server.properties"))
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        let mut child = spawn(command);
        if let Err(reason) = self.wait_until_ready(&mut child) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the broker on {} {reason}; the end of its log:\n{}", self.servers, tail(&self.log()));
        }
        *process = Some(child);
    }

    /// Stops it in its tracks: connections stay, nothing is answered.
    pub fn pause(&self) {
        signal(self.process.lock().unwrap().as_ref().expect("the broker is running"), libc::SIGSTOP);
    }

    /// Lets it go on after [`Broker::pause`].
    pub fn resume(&self) {
        signal(self.process.lock().unwrap().as_ref().expect("the broker is running"), libc::SIGCONT);
    }

    /// Takes the last batch off a partition's log, which must be the end of a transaction, while the broker is not running: as if it
    /// had never been written.
    pub fn lose_end_of_transaction(&self, topic: &str, partition: i32) {
        /// Of a batch: its length without offset and length itself, and its attributes; one of their bits says that it is a control batch.
        const LENGTH_AT: usize = 8;
        const ATTRIBUTES_AT: usize = 21;
        const IS_CONTROL: u16 = 0x20;
        assert!(self.process.lock().unwrap().is_none(), "the broker is running");
        let path = self.home.join("data").join(format!("{topic}-{partition}")).join("00000000000000000000.log");
        let bytes = fs::read(&path).expect("the log can be read");
        let (mut at, mut last) = (0, None);
        // Behind the last batch of a broker that was killed may be zeros.
        while at + 12 < bytes.len() {
            let length = u32::from_be_bytes(bytes[at + LENGTH_AT..][..4].try_into().expect("four bytes")) as usize;
            if length == 0 {
                break;
            }
            last = Some(at);
            at += 12 + length;
        }
        let last = last.expect("there is a batch");
        let attributes = u16::from_be_bytes(bytes[last + ATTRIBUTES_AT..][..2].try_into().expect("two bytes"));
        assert_ne!(attributes & IS_CONTROL, 0, "{topic}[{partition}] does not end with the end of a transaction");
        let file = File::options().write(true).open(&path).expect("the log can be written");
        file.set_len(last as u64).expect("the log can be cut");
    }

    /// Makes a topic; `config` are topic configurations.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin().create_topics([&topic], &AdminOptions::new()));
        results
            .expect("the broker answers")
            .into_iter()
            .for_each(|result| drop(result.expect("the topic can be made")));
    }

    /// Raises a topic's partitions to `total`.
    pub fn add_partitions(&self, name: &str, total: usize) {
        let results =
            block_on(self.admin().create_partitions([&NewPartitions::new(name, total)], &AdminOptions::new()));
        results
            .expect("the broker answers")
            .into_iter()
            .for_each(|result| drop(result.expect("partitions can be added")));
    }

    /// Deletes the records of a partition before an offset, as retention would.
    pub fn delete_records(&self, name: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(before)).expect("an offset");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("records can be deleted");
    }

    /// What a topic is configured to; `None` where the broker knows no such key.
    pub fn topic_config(&self, name: &str, key: &str) -> Option<String> {
        let topic = ResourceSpecifier::Topic(name);
        let resources = block_on(self.admin().describe_configs([&topic], &AdminOptions::new()));
        let resource = resources.expect("the broker answers").remove(0).expect("the topic is there");
        resource.get(key).and_then(|entry| entry.value.clone())
    }

    /// Up to where a reader of committed records may read a partition, and where the partition ends: they differ while a transaction is
    /// open.
    pub fn ends(&self, topic: &str, partition: i32) -> (i64, i64) {
        let end = |isolation: &str| {
            let consumer: BaseConsumer =
                self.client().set("group.id", "ends").set("isolation.level", isolation).create().expect("a consumer");
            let until = Instant::now() + START_PATIENCE;
            loop {
                match consumer.fetch_watermarks(topic, partition, START_PATIENCE) {
                    Ok((_, end)) => return end,
                    // A broker that has just begun does not lead its partitions yet.
                    Err(error) if Instant::now() > until => panic!("{topic}[{partition}]: {error}"),
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        };
        (end("read_committed"), end("read_uncommitted"))
    }

    /// Produces records, compressed with `codec` (`none`, `gzip`, `snappy`, `lz4`, `zstd`), and waits until all are
    /// acknowledged. Idempotent: nothing is written twice.
    pub fn produce(&self, topic: &str, codec: &str, records: impl IntoIterator<Item = TestRecord>) {
        let failures = Failures::default();
        let producer: BaseProducer<Failures> = self
            .client()
            .set("compression.codec", codec)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create_with_context(failures.clone())
            .expect("a producer");
        for record in records {
            send(&producer, topic, &record);
        }
        producer.flush(START_PATIENCE).expect("everything is acknowledged");
        let failures = failures.0.lock().unwrap();
        assert!(failures.is_empty(), "records were not acknowledged: {failures:?}");
    }

    /// Reads a whole topic as it is now, in the order of partitions and offsets, with `isolation.level` `read_committed`.
    pub fn read_all(&self, topic: &str) -> Vec<ReadRecord> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "read-all")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let list = self.beginning_of(&consumer, topic);
        let partitions = list.count();
        consumer.assign(&list).expect("an assignment");
        let mut records: BTreeMap<(i32, i64), ReadRecord> = BTreeMap::new();
        let (mut ended, until) = (0, Instant::now() + START_PATIENCE);
        while ended < partitions {
            assert!(Instant::now() < until, "topic {topic} could not be read to its end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    records.insert((message.partition(), message.offset()), read_record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => panic!("topic {topic}: {error}"),
                None => {}
            }
        }
        records.into_values().collect()
    }

    /// Reads committed records of a topic as they come, until `over` says so and nothing more comes for a while.
    pub fn follow(&self, topic: &str, over: impl Fn() -> bool) -> Vec<ReadRecord> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "follow")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a consumer");
        consumer.assign(&self.beginning_of(&consumer, topic)).expect("an assignment");
        let mut records = Vec::new();
        loop {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => records.push(read_record(&message)),
                // It goes on by itself.
                Some(Err(_)) => {}
                None if over() => return records,
                None => {}
            }
        }
    }

    /// In how many partitions of a topic a transaction is open: what is committed ends before what is written.
    pub fn open_transactions(&self, topic: &str) -> usize {
        let ends = |isolation: &str| -> Vec<i64> {
            let consumer: BaseConsumer =
                self.client().set("group.id", "ends").set("isolation.level", isolation).create().expect("a consumer");
            let partitions = self.beginning_of(&consumer, topic).count() as i32;
            let end =
                |partition| consumer.fetch_watermarks(topic, partition, START_PATIENCE).expect("the broker answers").1;
            (0..partitions).map(end).collect()
        };
        let (committed, written) = (ends("read_committed"), ends("read_uncommitted"));
        committed.iter().zip(&written).filter(|(committed, written)| committed != written).count()
    }

    fn beginning_of(&self, consumer: &BaseConsumer, topic: &str) -> TopicPartitionList {
        let metadata = consumer.fetch_metadata(Some(topic), START_PATIENCE).expect("the broker answers");
        let partitions = i32::try_from(metadata.topics()[0].partitions().len()).expect("few partitions");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        list
    }

    /// What a group has committed for a partition: offset and metadata.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, START_PATIENCE).expect("the broker answers");
        let element = list.find_partition(topic, partition)?;
        match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    fn log(&self) -> PathBuf {
        self.home.join("broker.log")
    }

    fn wait_until_ready(&self, child: &mut Child) -> Result<(), String> {
        let probe: BaseConsumer<Quiet> = self.client().create_with_context(Quiet).expect("a client");
        let until = Instant::now() + START_PATIENCE;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().expect("the process is ours") {
                return Err(format!("ended with {status}"));
            }
            if probe.fetch_metadata(None, Duration::from_millis(500)).is_ok_and(|answer| !answer.brokers().is_empty()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("was not ready within {} s", START_PATIENCE.as_secs()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// A name for a topic or a group that no other test has.
pub fn fresh(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Collects what was not acknowledged.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Vec<String>>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().push(error.to_string());
        }
    }
}

/// Says nothing of a broker that is not there yet.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
