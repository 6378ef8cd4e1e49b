//! A job over generated events that is killed and started again, and what it must come to.

use super::program::{Live, Place, Said, eventually, without_times};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Enough for some seconds of a debug build.
const EVENTS: usize = 1_200_000;
/// How long a run may take that is left alone.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The configuration; `more` are further sections, a line each. Percentiles, so that windows are of some size.
pub fn yaml(delivery: &str, more: &str) -> String {
    let events = format!("count: {EVENTS}, keys: 200, partitions: 3, malformed_share: 0.001");
    generated("faults", delivery, &events, "count, sum, max, percentile", more)
}

/// The configuration of a job over generated events: `events` says which ones, `aggregates` what is made of them;
/// `more` are further sections, a line each. A small buffer, so that the job lives for a while.
pub fn generated(job: &str, delivery: &str, events: &str, aggregates: &str, more: &str) -> String {
    format!(
        "processor:\n  job: {job}\n  parallelism: 2\n  buffer_size: 1000\n  delivery: {delivery}\n  \
         source: {{type: generator, rate: null, {events}}}\n  \
         sinks: [{{type: file, path: results.jsonl}}]\n  \
         event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
         windows: {{tumbling: {{size: 10s, allowed_lateness: 60s}}}}\n  watermark: {{max_out_of_orderness: 5s}}\n  \
         aggregation: {{enabled: [{aggregates}], percentiles: [50, 99]}}\n{more}"
    )
}

/// The results of a run that nobody disturbed, sorted.
pub fn expected() -> &'static [String] {
    static EXPECTED: OnceLock<Vec<String>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let place = Place::new();
        place.write("c.yaml", yaml("at_least_once", "  metrics: {enabled: false}\n"));
        let said = place.run(&["run", "--config", "c.yaml"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let results = without_times(&place.read("results.jsonl"));
        assert!(results.len() > 5_000, "{} results are no test", results.len());
        results
    })
}

/// A job in a folder of its own, with its checkpoints in `c`.
pub struct Interrupted {
    pub place: Place,
    delivery: &'static str,
    /// Where the state and the checkpoints are.
    disk: PathBuf,
}

impl Interrupted {
    /// With state and checkpoints in the folder.
    pub fn new(delivery: &'static str) -> Self {
        let place = Place::new();
        let disk = place.path("disk");
        fs::create_dir(&disk).expect("a folder");
        Self::on(place, delivery, disk)
    }

    /// With state and checkpoints elsewhere.
    pub fn on(place: Place, delivery: &'static str, disk: PathBuf) -> Self {
        let job = Self { place, delivery, disk };
        job.set_interval("100ms");
        job
    }

    /// How often a checkpoint is taken from the next start on.
    pub fn set_interval(&self, interval: &str) {
        let state = format!(
            "  state: {{backend: rocksdb, path: {:?}, checkpoint_path: {:?}, retain: 3, tolerable_failures: 2}}\n",
            self.disk.join("state"),
            self.checkpoints()
        );
        let more = format!("{state}  checkpoint_interval: {interval}\n  metrics: {{listen: \"127.0.0.1:0\"}}\n");
        self.place.write("c.yaml", yaml(self.delivery, &more));
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.disk.join("c")
    }

    /// The command that runs it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.place.command(&[&["run", "--config", "c.yaml"], arguments].concat())
    }

    /// Starts it.
    pub fn start(&self) -> Live {
        Live::start(&mut self.command(&[]))
    }

    /// The epochs of complete checkpoints, in order.
    pub fn published(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.checkpoints()).into_iter().flatten().flatten();
        let published = entries.filter(|entry| entry.path().join("manifest.json").exists());
        let mut epochs: Vec<u64> = published.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        epochs.sort_unstable();
        epochs
    }

    /// Waits until there is a checkpoint of this epoch or a later one.
    pub fn wait_for_checkpoint(&self, live: &Live, epoch: u64) {
        eventually(&format!("checkpoint {epoch}"), || match self.published().last() {
            Some(last) if *last >= epoch => Ok(()),
            last => Err(format!("the last is {last:?}\n{}", live.err())),
        });
    }

    /// Runs it until it has so many checkpoints, and kills it.
    pub fn kill_after_checkpoint(&self, epoch: u64) {
        let mut live = self.start();
        self.wait_for_checkpoint(&live, epoch);
        assert!(live.child.try_wait().expect("a child").is_none(), "it has ended already: {}", live.err());
        live.signal(libc::SIGKILL);
        live.end_within(PATIENCE);
    }

    /// Runs it to its end; what it said on the way.
    pub fn end(&self) -> String {
        self.end_with(&mut self.command(&[]))
    }

    /// The same with a command of the test's own.
    pub fn end_with(&self, command: &mut Command) -> String {
        let (code, said) = Live::start(command).end_within(PATIENCE);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// `processor checkpoints verify`, of all there are.
    pub fn verify(&self) -> Said {
        self.place.run(&["checkpoints", "verify", "--path", self.checkpoints().to_str().expect("UTF-8")])
    }

    /// Compares the results with those of a run that nobody disturbed: all of them once, or at least once.
    pub fn check(&self) {
        check_results(without_times(&self.place.read("results.jsonl")), self.delivery);
    }
}

/// Compares results, sorted, with those of a run that nobody disturbed: all of them once, or at least once.
pub fn check_results(mut found: Vec<String>, delivery: &str) {
    if delivery == "at_least_once" {
        found.dedup();
    }
    let (found_set, expected_set): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), expected().iter().collect());
    let missing: Vec<_> = expected_set.difference(&found_set).take(3).collect();
    let surplus: Vec<_> = found_set.difference(&expected_set).take(3).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\ntoo many: {surplus:#?}");
    assert_eq!(found.len(), expected().len(), "some results are there twice");
}

/// The status and the reasons of `/health`.
pub fn health(pages: &str) -> (String, String) {
    let page: serde_json::Value = serde_json::from_str(&get(&format!("{pages}/health"))).unwrap_or_default();
    (page["status"].as_str().unwrap_or_default().to_owned(), page["reasons"].to_string())
}

/// A page; empty where there is none.
pub fn get(url: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    agent.get(url).call().ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
}

/// The sum of all series of a metric.
pub fn metric(pages: &str, name: &str) -> f64 {
    let page = get(&format!("{pages}/metrics"));
    let values = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Copies a folder with everything in it, hard links as such.
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "cp -a {} {}", from.display(), to.display());
}

/// Waits for a while, and not longer than a program lives.
pub fn while_it_runs(live: &mut Live, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && live.child.try_wait().expect("a child").is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
