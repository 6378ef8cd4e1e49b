//! `processor checkpoints`: what is on disk, without a running processor.

mod diff;
mod inspect;
mod json;
mod list;
mod verify;
mod views;
mod words;

use super::arguments::{CheckpointsCommand, CheckpointsOptions, CheckpointsPlace};
use crate::checkpoint::CheckpointStore;
use crate::checkpoint::remote::RemoteCopy;
use crate::config::{self, ObjectUrl};
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::time::Epoch;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Does what was asked.
pub fn checkpoints(options: &CheckpointsOptions) -> ProcessorResult<ExitCode> {
    match &options.command {
        CheckpointsCommand::List(place) => match place_of(place)? {
            Place::Directory(store) => list::list(&store.list()?, &store.place()),
            Place::Remote(copy) => list::list(copy.listed(), &copy.store().place()),
        },
        CheckpointsCommand::Inspect(options) => {
            let place = place_of(&options.place)?;
            inspect::inspect(place.with(&[options.epoch])?, options)
        }
        CheckpointsCommand::Verify(options) => match place_of(&options.place)? {
            Place::Directory(store) => verify::verify(&store, options),
            Place::Remote(copy) => verify::verify_remote(&copy, options),
        },
        CheckpointsCommand::Diff(options) => {
            let place = place_of(&options.place)?;
            diff::diff(place.with(&[options.first, options.second])?, options)
        }
    }
}

/// Where the checkpoints are.
enum Place {
    Directory(CheckpointStore),
    Remote(Box<RemoteCopy>),
}

impl Place {
    /// The directory, with these checkpoints in it.
    fn with(&self, epochs: &[u64]) -> ProcessorResult<&CheckpointStore> {
        match self {
            Place::Directory(store) => Ok(store),
            Place::Remote(copy) => {
                let epochs: BTreeSet<u64> = epochs.iter().copied().collect();
                epochs.into_iter().try_for_each(|epoch| copy.bring(Epoch::new(epoch)))?;
                Ok(copy.store())
            }
        }
    }
}

fn place_of(place: &CheckpointsPlace) -> ProcessorResult<Place> {
    let remote = |url: &ObjectUrl| RemoteCopy::open(url).map(|copy| Place::Remote(Box::new(copy)));
    let directory = |path: &Path| CheckpointStore::offline(path).map(Place::Directory);
    match (&place.path, &place.config) {
        (Some(path), _) => match path.to_str().map_or(Ok(None), ObjectUrl::parse) {
            Ok(Some(url)) => remote(&url),
            Ok(None) => directory(path),
            Err((found, right)) => Err(ProcessorError::Config(format!("--path: {found}; {right}"))),
        },
        (None, Some(file)) => {
            let state = config::load(file, config::environment())?.config.state;
            match (&state.checkpoint_url, &state.checkpoint_path) {
                (Some(url), _) => remote(url),
                (None, Some(path)) if state.checkpoint_path_shared => directory(path),
                (None, Some(path)) => directory(&only_process(path)?),
                (None, None) => Err(ProcessorError::Config(format!(
                    "{}: state.checkpoint_path is not set, and state.backend is `memory`: this job takes no checkpoints; \
                     --path DIR would be right for those of another",
                    file.display()
                ))),
            }
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
