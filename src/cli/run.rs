//! `processor run`.

use super::arguments::RunOptions;
use super::{confirm, report, signals};
use crate::checkpoint::StartFrom;
use crate::config;
use crate::error::{ExitCode, ProcessorResult};
use crate::metrics::init_logging;
use crate::runtime::{Job, Topology};

/// Loads the configuration, runs the job, prints the summary.
pub fn run(options: &RunOptions) -> ProcessorResult<ExitCode> {
    let path = options.job.config()?;
    let process = options.index()?;
    let mut loaded = config::load(path, config::environment())?;
    report::quieten_under_a_table(&mut loaded);
    let mut config = loaded.config;
    options.job.set_logging(&mut config.logging);
    let threads = options.job.threads.unwrap_or(config.parallelism);
    let topology = Topology::new(threads, options.processes, process, options.job.hostfile.as_deref())?;
    let start = options.job.start();
    start.check(&config)?;
    // One of the processes is enough: it alone begins anew.
    if (start.from, process) == (StartFrom::Anew, 0) {
        confirm::begin_anew(&config.state, options.job.yes)?;
    }
    init_logging(&config.logging)?;
    for warning in loaded.warnings.iter().chain(&topology.warning()) {
        tracing::warn!(target: "processor", "{warning}");
    }
    let mut job = Job::from_config(config.clone())?;
    job.start = start;
    signals::stop_on_signals(&job.control)?;
    report::begin(&config, &topology);
    let control = job.control.clone();
    match job.run(&topology) {
        Ok(summary) => match &options.summary {
            Some(path) => report::write_summary(path, &summary)?,
            None => report::end(&config, &summary),
        },
        Err(error) => return report::failed(&config, error, control.has_failed()),
    }
    Ok(ExitCode::Done)
}
