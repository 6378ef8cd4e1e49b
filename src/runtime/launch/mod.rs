//! The processes of a job on this machine, started and looked after together.
//!
//! The model: a *group* is one process of the job for each address of the hostfile that is this machine's. They begin together.
//! When one of them ends, [`verdict`] says what follows: the others are let end, and then either all is done, or the group begins
//! again after a pause that grows, from the newest checkpoint, or it is given up. What the processes write goes on line by line:
//! see [`lines`]. The counts at the end are of all processes of the last group together.
//!
//! How it fails: a process that does not end with the others, because it is stopped or stuck, is killed after a while. When this
//! process is killed itself, the kernel asks the group to end. The groups of other machines notice by their links that this one is
//! gone, end, and are started again by whoever looks after them there.

mod group;
mod lines;
mod local;
mod verdict;

pub use local::local_processes;

use super::{Control, Summary};
use crate::checkpoint::CheckpointStore;
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::time::Epoch;
use group::Group;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use verdict::{Verdict, pause_before, verdict};

/// A group that was there for so long has begun well: the next pause is the first one again.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// What is started, and how it is looked after.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, but for the process's index.
    pub arguments: Vec<OsString>,
    /// Further ones, until there is a checkpoint that is newer than those before the first start.
    pub first_arguments: Vec<OsString>,
    /// For all processes.
    pub environment: Vec<(String, OsString)>,
    /// The processes of this machine, by their indices.
    pub local: Vec<usize>,
    /// Where the first of them has its pages; each further one has them a port higher. `None` where they have none.
    pub pages: Option<SocketAddr>,
    /// Whether the log is JSON.
    pub json: bool,
    /// Where the checkpoints are.
    pub checkpoints: Option<PathBuf>,
    /// How often in a row the group is started again, when it has not been there for a minute in between.
    pub most_restarts: u32,
    /// How long the rest of a group may take to end when one has ended badly, before it is killed.
    pub patience: Duration,
}

/// What it came to.
#[derive(Debug)]
pub struct Launched {
    /// With what to end.
    pub code: ExitCode,
    /// Over the processes of the last group; `None` where none of them has ended in order.
    pub summary: Option<Summary>,
    /// How often the group was started again.
    pub restarts: u32,
}

/// Starts the group, and looks after it until it is done, given up, or the end is asked for.
pub fn launch(plan: &Launch, control: &Control) -> ProcessorResult<Launched> {
    let begun = Instant::now();
    let before = newest_checkpoint(plan);
    let (mut restarts, mut in_a_row) = (0, 0);
    loop {
        let started = Instant::now();
        let is_first = newest_checkpoint(plan) == before;
        let mut group = Group::start(plan, is_first, control)?;
        let ends = group.wait(control, plan.patience);
        let summary = group.summary().map(|summary| Summary { elapsed: begun.elapsed(), ..summary });
        let done = |code| Ok(Launched { code, summary, restarts });
        if let Some(failure) = control.take_failure() {
            return Err(failure);
        }
        let reason = match verdict(&ends, control.is_stopping()) {
            Verdict::Done => return done(ExitCode::Done),
            Verdict::GiveUp(code, reason) => {
                tracing::error!(target: "launch", "{reason}");
                return done(code);
            }
            Verdict::Again(reason) => reason,
        };
        in_a_row = if started.elapsed() >= LONG_ENOUGH { 0 } else { in_a_row };
        if in_a_row >= plan.most_restarts {
            tracing::error!(
                target: "launch",
                "{reason}; the group was started again {in_a_row} times in a row (--max-restarts): it is given up"
            );
            return done(ExitCode::Failed);
        }
        let pause = pause_before(in_a_row);
        tracing::warn!(target: "launch", "{reason}; the group begins again in {} s", pause.as_secs());
        if control.sleep(pause) {
            return done(ExitCode::Done);
        }
        (restarts, in_a_row) = (restarts + 1, in_a_row + 1);
    }
}

/// A job without checkpoints, and one that has none yet, has no newest.
fn newest_checkpoint(plan: &Launch) -> Option<Epoch> {
    let store = CheckpointStore::offline(plan.checkpoints.as_ref()?).ok()?;
    store.epochs().ok()?.into_iter().max()
}

/// A secret that nobody has seen, for processes of this machine alone.
pub fn new_secret() -> ProcessorResult<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| ProcessorError::Runtime(format!("the system has no random numbers for a secret: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
