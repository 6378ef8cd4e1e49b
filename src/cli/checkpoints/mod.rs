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
use std::path::{Path, PathBuf};

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
            let is_shared = state.checkpoint_path_shared;
            let path = state.checkpoint_path.ok_or_else(|| {
                ProcessorError::Config(format!(
                    "{}: state.checkpoint_path is not set, and state.backend is `memory`: this job takes no checkpoints; \
                     --path DIR would be right for those of another",
                    file.display()
                ))
            })?;
            if is_shared { Ok(path) } else { only_process(&path) }
        }
        // The parser asks for one of them.
        (None, None) => Err(ProcessorError::Config("--path DIR or --config FILE would be right".to_owned())),
    }
}

/// Of the directories of single processes the one that is on this host.
fn only_process(path: &Path) -> ProcessorResult<PathBuf> {
    let entries = std::fs::read_dir(path).map_err(|error| {
        ProcessorError::io(format!("cannot look for the checkpoints of processes in {}", path.display()), error)
    })?;
    let of_process = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("process-");
    let mut found: Vec<PathBuf> = entries.flatten().filter(of_process).map(|entry| entry.path()).collect();
    found.sort_unstable();
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(ProcessorError::State(format!(
            "{} has no directory process-<p>: no process of this job has run on this host",
            path.display()
        ))),
        several => Err(ProcessorError::Config(format!(
            "each process has its own part of the checkpoints (state.checkpoint_path_shared: false): name one of them with --path: {}",
            several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}
