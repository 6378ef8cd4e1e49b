//! `processor validate`.

use super::arguments::ConfigOption;
use crate::config;
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::metrics::logging::parse_filter;
use crate::runtime::Job;
use std::io::{ErrorKind, Write};

/// Prints the configuration as it takes effect.
pub fn validate(options: &ConfigOption) -> ProcessorResult<ExitCode> {
    let loaded = config::load(&options.config, config::environment())?;
    // What cannot be run is no valid configuration, however well it reads.
    Job::check(&loaded.config)?;
    parse_filter(&loaded.config.logging.filter)?;
    match writeln!(std::io::stdout(), "{}", loaded.report().trim_end()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(ProcessorError::io("cannot write to standard output", error))
        }
        _ => Ok(ExitCode::Done),
    }
}
