//! `processor run`.

use super::arguments::RunOptions;
use super::signals;
use crate::config;
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::metrics::init_logging;
use crate::runtime::{Job, Topology};

/// Loads the configuration, runs the job, prints the summary.
pub fn run(options: &RunOptions) -> ProcessorResult<ExitCode> {
    let path = options.config.as_deref().ok_or_else(|| {
        ProcessorError::Config("no configuration: processor --config FILE (processor --help says more)".into())
    })?;
    let loaded = config::load(path, config::environment())?;
    let mut config = loaded.config;
    config.logging.json |= options.log_json;
    if let Some(filter) = &options.log {
        config.logging.filter.clone_from(filter);
    }
    init_logging(&config.logging)?;
    for warning in &loaded.warnings {
        tracing::warn!(target: "processor", "{warning}");
    }
    let threads = options.threads.unwrap_or(config.parallelism);
    let topology = Topology::new(threads, options.processes, options.process, options.hostfile.as_deref())?;
    let job = Job::from_config(config)?;
    signals::stop_on_signals(&job.control)?;
    let summary = job.run(&topology)?;
    eprintln!("{summary}");
    Ok(ExitCode::Done)
}
