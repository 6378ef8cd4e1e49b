//! Runs a configured job in this process.

use llm_optimizer_processor::config;
use llm_optimizer_processor::runtime::{Job, Summary, Topology};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// No job of these tests takes a tenth of this on a busy machine: what takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Runs the job of this YAML on so many workers to its end. Panics where it fails or does not end.
pub fn run(yaml: &str, workers: usize) -> Summary {
    let loaded = config::load_str("test.yaml", yaml, std::iter::empty());
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}\n{yaml}")).config;
    let topology = Topology::single(NonZeroUsize::new(workers).expect("at least one worker"));
    let job = Job::from_config(config).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    let control = job.control.clone();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // Who waits for it may have given up.
        let _ = done.send(job.run(&topology));
    });
    match ended.recv_timeout(TIME_LIMIT) {
        Ok(outcome) => outcome.unwrap_or_else(|error| panic!("{error}\n{yaml}")),
        Err(reason) => {
            control.stop();
            panic!("the job did not end by itself: {reason}\n{yaml}");
        }
    }
}

/// Sorted lines: in which order they were written depends on which worker was faster.
pub fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// The lines of a result file without their last member `timestamp`: the only one that may differ between two runs.
pub fn results(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| line.rsplit_once(",\"timestamp\":\"").expect("a result ends with its timestamp").0.to_owned())
        .collect()
}

/// A path as YAML.
pub fn quoted(path: &Path) -> String {
    serde_json::to_string(path.to_str().expect("temporary paths are text")).expect("text is JSON")
}
