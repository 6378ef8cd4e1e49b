//! A real Apache Kafka for tests: one KRaft node on loopback, started from the jars that `scripts/kafka-jars.sh` fetches.
//!
//! The model: a [`Broker`] is one Java process with ports and a data folder of its own, which it keeps when it is stopped and
//! started again. It is ended by its process id when it is dropped, and by the kernel when the test process ends in whatever
//! way, because the shared one is never dropped. Ports lie below the range from which the kernel takes ports for outgoing
//! connections: a client that tries to reach a stopped broker could otherwise connect to itself.
//!
//! How it fails: with a panic that says what to install, or shows the end of the broker's log.

use crate::process::{free_port, signal, spawn};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Any 16 bytes in base64 will do.
const CLUSTER_ID: &str = "bGxtLW9wdGltaXplcg0K0A";

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

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub struct TestRecord {
    /// The partition; the producer chooses where there is none.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; the producer's clock where there is none.
    pub timestamp: Option<i64>,
}

impl TestRecord {
    /// A record of a value alone.
    pub fn to(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        Self { partition: Some(partition), value: Some(value.into()), ..Self::default() }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
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
        let formatted = java(&home)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(home.join("server.properties"))
            .args(security.format_arguments)
            .output()
            .expect("java can be started");
        let said = String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success(), "Kafka's data folder could not be made: {said}");
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
        let metadata = consumer.fetch_metadata(Some(topic), START_PATIENCE).expect("the broker answers");
        let partitions = i32::try_from(metadata.topics()[0].partitions().len()).expect("few partitions");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
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

fn send<C: ProducerContext<DeliveryOpaque = ()>>(producer: &BaseProducer<C>, topic: &str, record: &TestRecord) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: value.as_deref() });
    }
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
    message.partition = record.partition;
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.timestamp = record.timestamp;
    loop {
        match producer.send(message) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(rdkafka::error::RDKafkaErrorCode::QueueFull), back)) => {
                message = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("topic {topic}: {error}"),
        }
    }
}

fn read_record(message: &BorrowedMessage<'_>) -> ReadRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    ReadRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp: message.timestamp().to_millis(),
    }
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

fn properties(home: &Path, port: u16, controller: u16, security: &Security) -> String {
    let data = home.join("data");
    let further = security.listener.as_ref().map(|listener| format!(",{listener}")).unwrap_or_default();
    let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL";
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{further}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{further}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map={protocols}\ninter.broker.listener.name=PLAINTEXT\n\
         log.dirs={}\nauto.create.topics.enable=false\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\nlog.retention.hours=-1\n{}",
        data.display(),
        security.properties
    )
}

/// `java` with Kafka's jars, and with as little of the machine as will do.
fn java(home: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{}/*", jars().display())).current_dir(home).stdin(Stdio::null());
    command
}

/// The folder of the jars, fetched where they are missing.
fn jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka-jars.sh");
        let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("scripts/kafka-jars.sh can be run");
        let said = String::from_utf8_lossy(&output.stdout);
        let folder = said.lines().last().unwrap_or_default();
        assert!(output.status.success() && !folder.is_empty(), "no Kafka jars: scripts/kafka-jars.sh says above why");
        PathBuf::from(folder)
    })
}

/// A folder for one broker. Those of test processes that are gone are removed.
fn make_home() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("kafka-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let home = parent.join(format!("kafka-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&home).expect("the folder for test data can be written");
    home
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
