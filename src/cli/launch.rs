//! `processor launch`.

use super::arguments::LaunchOptions;
use super::{confirm, report, signals};
use crate::checkpoint::StartFrom;
use crate::config::{self, ProcessorConfig};
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::metrics::init_logging;
use crate::runtime::launch::{Launch, launch as look_after, local_processes, new_secret};
use crate::runtime::{Control, Topology};
use std::ffi::OsString;
use std::time::Duration;

/// What ends when its peers do has this long for it, after it has noticed.
const TIME_TO_END: Duration = Duration::from_secs(10);

/// Starts the processes of this machine and looks after them; prints what they came to.
pub fn launch(options: &LaunchOptions) -> ProcessorResult<ExitCode> {
    let path = options.job.config()?;
    let mut config = config::load(path, config::environment())?.config;
    options.job.set_logging(&mut config.logging);
    let threads = options.job.threads.unwrap_or(config.parallelism);
    let topology = Topology::new(threads, options.processes, 0, options.job.hostfile.as_deref())?;
    let local = local_processes(topology.addresses())?;
    can_listen(&config, local.len())?;
    let start = options.job.start();
    start.check(&config)?;
    if start.from == StartFrom::Anew {
        confirm::begin_anew(&config.state, options.job.yes)?;
    }
    init_logging(&config.logging)?;
    let control = Control::new();
    signals::stop_on_signals(&control)?;
    // Where to look whether the group has come to a new checkpoint.
    let checkpoints = local.first().and_then(|process| config.state.checkpoint_directory(*process));
    let plan = Launch {
        program: std::env::current_exe().map_err(|error| ProcessorError::io("finding this program", error))?,
        arguments: options.of_each(path, topology.threads()),
        first_arguments: options.of_the_first(),
        environment: environment(&config, local.len() == topology.addresses().len())?,
        checkpoints,
        local,
        pages: Some(config.metrics.listen).filter(|_| config.metrics.enabled),
        json: config.logging.json,
        most_restarts: options.max_restarts,
        patience: config.cluster.failure_timeout + TIME_TO_END,
    };
    let launched = look_after(&plan, &control)?;
    if let Some(summary) = &launched.summary {
        report::end(&config, summary);
    }
    if launched.restarts > 0 {
        tracing::warn!(target: "launch", "the group was started again {} times", launched.restarts);
    }
    Ok(launched.code)
}

/// Several processes cannot all listen at one address.
fn can_listen(config: &ProcessorConfig, processes: usize) -> ProcessorResult<()> {
    match config.cluster.listen {
        Some(listen) if processes > 1 => Err(ProcessorError::Config(format!(
            "cluster.listen is {listen}, and {processes} processes are to be launched here, which cannot all listen there; without it \
             each listens at its own line of the hostfile"
        ))),
        _ => Ok(()),
    }
}

/// Where all processes are children of this one, a secret that nobody else knows is theirs.
fn environment(config: &ProcessorConfig, all_are_local: bool) -> ProcessorResult<Vec<(String, OsString)>> {
    let has_secret = config.cluster.secret.is_some() || config.cluster.secret_file.is_some();
    match has_secret || !all_are_local {
        true => Ok(Vec::new()),
        false => Ok(vec![("PROCESSOR_CLUSTER__SECRET".to_owned(), new_secret()?.into())]),
    }
}
