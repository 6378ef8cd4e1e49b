//! The real program, run on a configuration of the test.

use kafka_broker::process::{free_port, signal, spawn};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long the orderly end may take.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A configuration: 10 s windows over `data.latency_ms` by model and region, from one Kafka topic.
#[derive(Clone)]
pub struct Setup {
    pub servers: String,
    pub job: String,
    pub topic: String,
    pub group: String,
    pub parallelism: usize,
    pub buffer_size: usize,
    pub idle_timeout_secs: u32,
    pub allowed_lateness_secs: u32,
    /// Other windows: the section without its braces.
    pub windows: Option<String>,
    /// Further keys of `kafka.consumer` and `kafka.producer`, in YAML's flow style, without the braces.
    pub consumer: String,
    pub producer: String,
    /// Further sections of `processor`, a line each.
    pub more: Vec<String>,
}

impl Setup {
    /// Reads `topic` and writes to `results`, with the group `group`.
    pub fn new(servers: &str, topic: &str, results: &str, group: &str) -> Self {
        Self {
            servers: servers.to_owned(),
            job: "test".to_owned(),
            topic: topic.to_owned(),
            group: group.to_owned(),
            parallelism: 2,
            buffer_size: 10_000,
            idle_timeout_secs: 60,
            allowed_lateness_secs: 0,
            windows: None,
            consumer: "session_timeout_ms: 10000".to_owned(),
            producer: format!("result_topic: {results}"),
            more: Vec::new(),
        }
    }

    /// Adds a section.
    pub fn with(mut self, line: impl Into<String>) -> Self {
        self.more.push(line.into());
        self
    }

    fn windows(&self) -> String {
        let tumbling = || format!("tumbling: {{size_secs: 10, allowed_lateness_secs: {}}}", self.allowed_lateness_secs);
        self.windows.clone().unwrap_or_else(tumbling)
    }

    /// The text of the configuration.
    pub fn yaml(&self) -> String {
        let more: String = self.more.iter().map(|line| format!("  {line}\n")).collect();
        format!(
            "processor:\n  job: {}\n  parallelism: {}\n  buffer_size: {}\n  \
             event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
             windows: {{{}}}\n  \
             watermark: {{max_out_of_orderness_secs: 2, idle_timeout_secs: {}}}\n  kafka:\n    \
             consumer: {{bootstrap_servers: \"{}\", topics: [{}], group_id: {}, {}}}\n    producer: {{{}}}\n{more}",
            self.job,
            self.parallelism,
            self.buffer_size,
            self.windows(),
            self.idle_timeout_secs,
            self.servers,
            self.topic,
            self.group,
            self.consumer,
            self.producer,
        )
    }

    /// The same job over files, whose results go to `results`.
    pub fn yaml_of_files(&self, paths: &[PathBuf], results: &Path) -> String {
        let more: String = self.more.iter().map(|line| format!("  {line}\n")).collect();
        format!(
            "processor:\n  job: test\n  source: {{type: file, paths: {paths:?}}}\n  \
             event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
             windows: {{{}}}\n  \
             watermark: {{max_out_of_orderness_secs: 2}}\n  sinks: [{{type: file, path: {results:?}}}]\n  \
             metrics: {{enabled: false}}\n{more}",
            self.windows()
        )
    }
}

/// A running program.
pub struct Program {
    child: Child,
    folder: TempDir,
    port: u16,
}

/// How a program ended.
pub struct Ended {
    pub code: Option<i32>,
    pub log: String,
    pub took: Duration,
}

impl Program {
    /// Runs a job of one process.
    pub fn run(setup: &Setup) -> Self {
        Self::start(&setup.yaml(), &[])
    }

    /// Runs `processor run` on a configuration, with further arguments.
    pub fn start(yaml: &str, arguments: &[String]) -> Self {
        Self::start_with(yaml, arguments, &[])
    }

    /// The same, with further variables of the environment.
    pub fn start_with(yaml: &str, arguments: &[String], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, port) = (folder.path().join("processor.yaml"), free_port());
        fs::write(&config, yaml).expect("the folder can be written");
        let log = File::create(folder.path().join("log")).expect("the folder can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_processor"));
        command
            .args(["run", "--config"])
            .arg(&config)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("PROCESSOR_METRICS__LISTEN", format!("127.0.0.1:{port}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        Self { child: spawn(command), folder, port }
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).expect("the log is there")).into_owned()
    }

    /// A file it has written, by its name in the configuration; empty where there is none.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Ends it as `kill` does, and gives what it says; panics where that takes too long.
    pub fn stop(&mut self) -> Ended {
        let begun = Instant::now();
        self.ask_to_end();
        let ended = self.wait();
        assert!(begun.elapsed() < STOP_LIMIT, "the orderly end took {:?}:\n{}", begun.elapsed(), ended.log);
        Ended { took: begun.elapsed(), ..ended }
    }

    /// Asks it to end, as `kill` does.
    pub fn ask_to_end(&self) {
        signal(&self.child, libc::SIGTERM);
    }

    /// Stops it in its tracks, as a machine that stands still would.
    pub fn pause(&self) {
        signal(&self.child, libc::SIGSTOP);
    }

    /// Lets it go on after [`Program::pause`].
    pub fn resume(&self) {
        signal(&self.child, libc::SIGCONT);
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the process is ours").is_none()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> Ended {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return Ended { code: status.code(), log: self.log(), took: begun.elapsed() };
            }
            assert!(begun.elapsed() < PATIENCE, "the program does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until something is so, looking every now and then; the program must stay up.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&Program) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition(self) {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                panic!("{what}: the program ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "{what}: waited in vain; {}\n{}", self.page("/health"), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A page of its HTTP server; empty while it is not there yet.
    pub fn page(&self, path: &str) -> String {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        match agent.get(format!("http://127.0.0.1:{}{path}", self.port)).call() {
            Ok(mut response) => response.body_mut().read_to_string().expect("a page is text"),
            Err(_) => String::new(),
        }
    }

    /// The page `/health`: the status and the reasons.
    pub fn health(&self) -> (String, String) {
        let page: serde_json::Value = serde_json::from_str(&self.page("/health")).unwrap_or_default();
        (page["status"].as_str().unwrap_or_default().to_owned(), page["reasons"].to_string())
    }

    /// The sum of all series of a metric that have these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = self.page("/metrics");
        let scrape = prometheus_parse::Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).expect("a page");
        let mut total = 0.0;
        for sample in scrape.samples.iter().filter(|sample| sample.metric == name) {
            if labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
                && let prometheus_parse::Value::Counter(value)
                | prometheus_parse::Value::Gauge(value)
                | prometheus_parse::Value::Untyped(value) = sample.value
            {
                total += value;
            }
        }
        total
    }

    /// Memory in RAM, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
