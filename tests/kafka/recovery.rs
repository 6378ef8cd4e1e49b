//! What tests of recovery have in common: a job with checkpoints that is fed while it runs, killed and started again, and what must
//! have come out of it in the end.

use crate::events::{BASE, event, results_text};
use crate::program::{Program, Setup};
use kafka_broker::process::free_port;
use kafka_broker::{Broker, ReadRecord, TestRecord, fresh};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// What a job says that has ended with something left to deliver.
const LEFT: [&str; 2] = ["not everything was delivered", "the last checkpoint was not complete in time"];
/// So many ends in a row are enough to deliver everything.
const MOST_ENDS: usize = 4;

/// Partitions of the topic that is read, and of the one that is written.
pub const PARTITIONS: i32 = 4;
const RESULT_PARTITIONS: i32 = 3;
/// Events of each partition that are fed at a time.
const PORTION: i64 = 40;
/// Milliseconds of event time between two events of a partition.
const PACE: i64 = 100;

/// The kinds of windows, with a lateness that some late events keep to.
pub const KINDS: [(&str, &str); 3] = [
    ("tumbling", "tumbling: {size: 2s, allowed_lateness: 10s}"),
    ("sliding", "sliding: {size: 3s, slide: 1s, allowed_lateness: 10s}"),
    ("session", "session: {gap: 400ms, allowed_lateness: 10s}"),
];

/// What is written, in Kafka's terms: the key, and the value without the time of firing; none is a tombstone.
pub type Written = (String, Option<String>);

/// A job that is killed and started again.
pub struct Story {
    pub broker: &'static Broker,
    pub results: String,
    setup: Setup,
    folder: TempDir,
    /// The texts of all events, by partition.
    fed: Vec<Vec<String>>,
    rng: ChaCha8Rng,
    /// How far late events are behind at most, in milliseconds.
    most_behind: i64,
    /// What the number of each partition's first event is.
    first: Vec<i64>,
    delivery: &'static str,
}

impl Story {
    /// Of a job with these windows and delivery.
    pub fn new(name: &str, windows: &str, delivery: &'static str, seed: u64) -> Self {
        Self::on(Broker::shared(), name, windows, delivery, seed)
    }

    /// The same with a broker of the test's own.
    pub fn on(broker: &'static Broker, name: &str, windows: &str, delivery: &'static str, seed: u64) -> Self {
        let topic = fresh(name);
        let results = format!("{topic}-results");
        broker.create_topic(&topic, PARTITIONS, &[]);
        broker.create_topic(&results, RESULT_PARTITIONS, &[]);
        let folder = tempfile::tempdir().expect("a folder");
        let state = |name: &str| folder.path().join(name);
        let mut setup = Setup::new(broker.servers(), &topic, &results, &topic)
            .with(format!(
                "state: {{backend: rocksdb, path: {:?}, checkpoint_path: {:?}}}",
                state("state"),
                state("checkpoints")
            ))
            .with("checkpoint_interval: 150ms")
            .with(format!("delivery: {delivery}"));
        setup.job = topic.clone();
        setup.windows = Some(windows.to_owned());
        let fed = vec![Vec::new(); PARTITIONS as usize];
        Self {
            broker,
            results,
            setup,
            folder,
            fed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            most_behind: 14_000,
            first: vec![0; PARTITIONS as usize],
            delivery,
        }
    }

    /// The same where each process has a directory of checkpoints of its own.
    pub fn with_own_directories(mut self) -> Self {
        for line in &mut self.setup.more {
            *line = line.replace("backend: rocksdb", "backend: rocksdb, checkpoint_path_shared: false");
        }
        self
    }

    pub fn rng(&mut self) -> &mut impl Rng {
        &mut self.rng
    }

    /// Where everything of the job is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    /// The topic that is read.
    pub fn topic(&self) -> &str {
        &self.setup.topic
    }

    /// How many events were written to a partition.
    pub fn fed_to(&self, partition: usize) -> i64 {
        self.fed[partition].len() as i64
    }

    /// How far late events are behind at most, from now on.
    pub fn set_most_behind(&mut self, millis: i64) {
        self.most_behind = millis;
    }

    /// Adds partitions to the topic that is read. Their events begin after those that were fed, so that none of them comes too late
    /// for what has fired without them.
    pub fn add_partitions(&mut self, more: usize) {
        self.first.resize(self.fed.len() + more, self.fed_to(0) + 200);
        self.fed.resize(self.fed.len() + more, Vec::new());
        self.broker.add_partitions(&self.setup.topic, self.fed.len());
    }

    /// Adds a property of the producer.
    pub fn add_producer_property(&mut self, property: &str) {
        self.setup.producer += &format!(", properties: {{{property}}}");
    }

    /// Has other windows from now on.
    pub fn set_windows(&mut self, windows: &str) {
        self.setup.windows = Some(windows.to_owned());
    }

    /// Starts the job with other windows, this once.
    pub fn with_windows(&self, windows: &str) -> Program {
        Program::run(&Setup { windows: Some(windows.to_owned()), ..self.setup.clone() })
    }

    /// Writes some more events of each partition: mostly in order, some out of it, some late.
    pub fn feed(&mut self) {
        let mut records = Vec::new();
        for partition in 0..self.fed.len() as i32 {
            let texts = &mut self.fed[partition as usize];
            let begin = self.first[partition as usize] + texts.len() as i64;
            for number in begin..begin + PORTION {
                let behind = match self.rng.random_range(0..40) {
                    0 => self.rng.random_range(2_000..self.most_behind),
                    _ => self.rng.random_range(0..1_500),
                };
                let model = format!("model-{}", self.rng.random_range(0..5));
                let latency = f64::from(self.rng.random_range(0..100_000u32)) / 100.0;
                let text = event(BASE + number * PACE - behind, &model, "region", latency);
                records.push(TestRecord::to(partition, text.clone()));
                texts.push(text);
            }
        }
        self.broker.produce(&self.setup.topic, "lz4", records);
    }

    /// Writes an event of each partition that closes all windows before it.
    pub fn close(&mut self) {
        let mut records = Vec::new();
        for (partition, texts) in self.fed.iter_mut().enumerate() {
            let text = event(BASE + 86_400_000, "closing", "none", 1.0);
            records.push(TestRecord::to(partition as i32, text.clone()));
            texts.push(text);
        }
        self.broker.produce(&self.setup.topic, "none", records);
    }

    /// Starts the job with so many workers; `failpoint` is where it is to die.
    pub fn start(&self, workers: usize, failpoint: Option<&str>) -> Program {
        let setup = Setup { parallelism: workers, ..self.setup.clone() };
        let environment = failpoint.map(|name| ("LLM_OPTIMIZER_FAILPOINT", name));
        Program::start_with(&setup.yaml(), &[], environment.as_slice())
    }

    /// The same with further arguments.
    pub fn start_with(&self, workers: usize, arguments: &[&str]) -> Program {
        let setup = Setup { parallelism: workers, ..self.setup.clone() };
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Program::start(&setup.yaml(), &arguments)
    }

    /// Starts the job as another host would, with checkpoints of its own.
    pub fn start_at(&self, workers: usize, checkpoints: &Path) -> Program {
        let (before, after) = (format!("{:?}", self.checkpoints()), format!("{checkpoints:?}"));
        let state = format!("{:?}", self.folder.path().join("state"));
        let own_state = format!("{:?}", checkpoints.with_extension("state"));
        let setup = Setup { parallelism: workers, ..self.setup.clone() };
        Program::start(&setup.yaml().replace(&before, &after).replace(&state, &own_state), &[])
    }

    /// Starts the job as several processes of so many workers each.
    pub fn start_group(&self, processes: usize, workers: usize) -> Vec<Program> {
        let hosts = self.folder.path().join("hosts");
        let lines: String = (0..processes).map(|_| format!("127.0.0.1:{}\n", free_port())).collect();
        fs::write(&hosts, lines).expect("the folder can be written");
        let setup = Setup { parallelism: workers, ..self.setup.clone() };
        let start = |process: usize| {
            let numbers = [("-n", processes), ("-p", process)];
            let numbers = numbers.into_iter().flat_map(|(option, number)| [option.to_owned(), number.to_string()]);
            let arguments: Vec<String> = numbers.chain(["-h".to_owned(), hosts.display().to_string()]).collect();
            Program::start(&setup.yaml(), &arguments)
        };
        (0..processes).map(start).collect()
    }

    /// Waits until everything that was fed has come out.
    pub fn wait_for_last_windows(&self, program: &mut Program) {
        program.wait_until("the last windows", |program| {
            program.metric("frontier_seconds", &[("operator", "sink")]) >= (BASE / 1_000 + 86_000) as f64
        });
    }

    /// Waits until everything that was fed has come out, and ends the job. A broker that has just come back may keep it from delivering
    /// before it has to end; it says so then, and the next start does.
    pub fn finish(&self, mut program: Program) {
        for _ in 0..MOST_ENDS {
            self.wait_for_last_windows(&mut program);
            let ended = program.stop();
            assert_eq!(ended.code, Some(0), "{}", ended.log);
            if !LEFT.iter().any(|left| ended.log.contains(left)) {
                return;
            }
            program = self.start(2, None);
        }
        panic!("{MOST_ENDS} runs have left something to deliver: {}", program.log());
    }

    /// What must be in the topic of results: that of a run over the same events which was never killed.
    pub fn expected(&self) -> Vec<Written> {
        let paths: Vec<PathBuf> =
            (0..self.fed.len()).map(|partition| self.folder.path().join(format!("{partition}.jsonl"))).collect();
        for (path, texts) in paths.iter().zip(&self.fed) {
            fs::write(path, texts.join("\n")).expect("the folder can be written");
        }
        let output = self.folder.path().join("expected.jsonl");
        let plain = Setup { more: Vec::new(), ..self.setup.clone() };
        let ended = Program::start(&plain.yaml_of_files(&paths, &output), &[]).wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        let lines = fs::read_to_string(&output).expect("the results are there");
        let _ = fs::remove_file(&output);
        let mut written: Vec<Written> =
            lines.lines().map(results_text).filter(|(key, _)| !key.contains("closing")).collect();
        written.sort();
        written
    }

    /// Compares what a reader of committed records sees with what must be there.
    pub fn check(&self) {
        let found: Vec<Written> = self.broker.read_all(&self.results).iter().map(written).collect();
        let expected = self.expected();
        assert!(expected.len() > 100, "{} results are no test", expected.len());
        match self.delivery {
            "exactly_once" => compare(found, expected),
            _ => {
                let distinct = |mut all: Vec<Written>| {
                    all.sort();
                    all.dedup();
                    all
                };
                compare(distinct(found), distinct(expected));
            }
        }
        assert_eq!(self.broker.open_transactions(&self.results), 0, "transactions are open");
    }
}

fn written(record: &ReadRecord) -> Written {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("text");
    let key = text(record.key.as_ref().expect("a key"));
    match &record.value {
        Some(value) => results_text(&text(value)),
        None => (key, None),
    }
}

fn compare(mut found: Vec<Written>, expected: Vec<Written>) {
    found.sort();
    let count = |all: &[Written]| -> BTreeMap<Written, usize> {
        let mut counts = BTreeMap::new();
        all.iter().for_each(|one| *counts.entry(one.clone()).or_default() += 1);
        counts
    };
    let (found_counts, expected_counts) = (count(&found), count(&expected));
    let missing: Vec<_> =
        expected_counts.iter().filter(|(one, n)| found_counts.get(*one).copied().unwrap_or(0) < **n).take(5).collect();
    let surplus: Vec<_> =
        found_counts.iter().filter(|(one, n)| expected_counts.get(*one).copied().unwrap_or(0) < **n).take(5).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{} results where {} are right\nmissing: {missing:#?}\ntoo many: {surplus:#?}",
        found.len(),
        expected.len()
    );
}

/// A random while between two lengths, in milliseconds.
pub fn a_while(rng: &mut impl Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..to))
}
