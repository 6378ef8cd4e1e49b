//! `processor validate`.

use super::arguments::ConfigOption;
use crate::config;
use crate::error::{ExitCode, ProcessorResult};

/// Prints the configuration as it takes effect.
pub fn validate(options: &ConfigOption) -> ProcessorResult<ExitCode> {
    let loaded = config::load(&options.config, config::environment())?;
    println!("{}", loaded.report().trim_end());
    Ok(ExitCode::Done)
}
