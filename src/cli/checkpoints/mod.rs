//! `processor checkpoints`: what is on disk, without a running processor.

mod diff;
mod inspect;
mod json;
mod list;
mod verify;
mod words;

use super::arguments::{CheckpointsCommand, CheckpointsOptions, CheckpointsPlace};
use crate::checkpoint::CheckpointStore;
use crate::config;
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use std::path::PathBuf;

/// Does what was asked.
pub fn checkpoints(options: &CheckpointsOptions) -> ProcessorResult<ExitCode> {
    match &options.command {
        CheckpointsCommand::List(place) => list::list(&open(place)?),
        CheckpointsCommand::Inspect(options) => inspect::inspect(&open(&options.place)?, options),
        CheckpointsCommand::Verify(options) => verify::verify(&open(&options.place)?, options),
        CheckpointsCommand::Diff(options) => diff::diff(&open(&options.place)?, options),
    }
}

fn open(place: &CheckpointsPlace) -> ProcessorResult<CheckpointStore> {
    CheckpointStore::offline(directory(place)?)
}

fn directory(place: &CheckpointsPlace) -> ProcessorResult<PathBuf> {
    match (&place.path, &place.config) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(file)) => {
            let state = config::load(file, config::environment())?.config.state;
            state.checkpoint_path.ok_or_else(|| {
                ProcessorError::Config(format!(
                    "{}: state.checkpoint_path is not set, and state.backend is `memory`: this job takes no checkpoints; \
                     --path DIR would be right for those of another",
                    file.display()
                ))
            })
        }
        // The parser asks for one of them.
        (None, None) => Err(ProcessorError::Config("--path DIR or --config FILE would be right".to_owned())),
    }
}
