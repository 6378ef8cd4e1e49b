//! Which checkpoint a run goes on from.
//!
//! The model: the newest one, unless the command line says otherwise. Every file of it is read before anything else is done. One that
//! is damaged is passed over for an older one, where the guarantee that sinks give allows it: what lies between the two is done
//! again. Sinks that deliver in transactions look at their markers when they recover and refuse what would be doubled; the others
//! either may double results or are cut back to what the older checkpoint says.
//!
//! Numbers of epochs are never used twice: the first epoch of a run is after all of which there is a directory, so that what is
//! passed over, or ignored, cannot be taken for what comes now.

use super::remote::Remote;
use super::{
    Agreement, CheckpointState, CheckpointStore, Fault, FaultKind, JobFingerprint, ListedCheckpoint, Manifest,
    RestoreProgress, Restored, StartFrom,
};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::KEY_GROUPS;
use crate::time::Epoch;

/// What a checkpoint must fit.
pub struct Expectation<'a> {
    /// The job's name.
    pub job: &'a str,
    /// What gives its state its meaning.
    pub fingerprint: &'a JobFingerprint,
    /// Whether an older checkpoint will do where the newest is damaged.
    pub may_fall_back: bool,
    /// Told how far the check is.
    pub progress: &'a RestoreProgress,
    /// Where the checkpoints are, of which the directory has copies.
    pub remote: Option<&'a Remote>,
}

/// What a run begins with.
pub struct Choice {
    /// What it goes on from; `None`: nothing.
    pub restored: Option<Restored>,
    /// The first epoch.
    pub first: Epoch,
    /// Newer ones that count no more when this run has published one, because an older one was asked for.
    pub discarded: Vec<Epoch>,
}

/// Chooses, checks and opens.
///
/// # Errors
/// [`ProcessorError::Refused`] where what there is does not fit or cannot be restored; the message names it and what can be done.
pub fn choose(store: &CheckpointStore, from: StartFrom, expected: &Expectation<'_>) -> ProcessorResult<Choice> {
    let (store, listed, first) = match expected.remote {
        None => {
            let listed = store.list()?;
            let first = listed.last().map_or(Epoch::FIRST, |last| last.epoch.next());
            (store.clone(), listed, first)
        }
        Some(remote) => {
            let listed = remote.list()?;
            remote.distrust(store, &listed)?;
            let first = Remote::first_after(&listed);
            (store.called(&remote.url().to_string()), listed, first)
        }
    };
    let store = &store;
    let nothing = Vec::new();
    match from {
        StartFrom::Anew => Ok(Choice { restored: None, first, discarded: nothing }),
        StartFrom::Checkpoint(epoch) => {
            let manifest = match expected.remote {
                None => store.load(epoch)?,
                Some(remote) => remote.load(epoch, &listed)?,
            };
            fits(store, &manifest, expected)?;
            let published = listed.iter().filter(|other| other.state.manifest().is_some() && other.epoch > epoch);
            let discarded = published.map(|other| other.epoch).collect();
            Ok(Choice { restored: Some(open(store, manifest, expected)??), first, discarded })
        }
        StartFrom::Newest => Ok(Choice { restored: newest(store, &listed, expected)?, first, discarded: nothing }),
    }
}

/// Opens what the processes have agreed on, each in a directory of its own: `sound` is what this one has open already.
///
/// # Errors
/// As [`choose`].
pub fn choose_agreed(
    store: &CheckpointStore,
    agreement: &Agreement,
    from: StartFrom,
    sound: Vec<Restored>,
    expected: &Expectation<'_>,
) -> ProcessorResult<Choice> {
    for passed_over in &agreement.passed_over {
        tracing::error!(target: "checkpoint", "{passed_over}: going on from an older checkpoint");
    }
    let Agreement { restored: Some(epoch), first, .. } = *agreement else {
        return Ok(Choice { restored: None, first: agreement.first, discarded: Vec::new() });
    };
    // What is prepared here was committed elsewhere.
    store.commit(epoch)?;
    let listed = store.list()?;
    let published = listed.iter().filter(|other| other.state.manifest().is_some() && other.epoch > epoch);
    let discarded = match from {
        StartFrom::Checkpoint(_) => published.map(|other| other.epoch).collect(),
        StartFrom::Newest | StartFrom::Anew => Vec::new(),
    };
    let manifest = store.load(epoch)?;
    fits(store, &manifest, expected)?;
    let restored = match sound.into_iter().find(|restored| restored.manifest().epoch == epoch) {
        Some(restored) => restored,
        None => Restored::open_shown(store, manifest, expected.progress)?,
    };
    Ok(Choice { restored: Some(restored), first, discarded })
}

fn newest(
    store: &CheckpointStore,
    listed: &[ListedCheckpoint],
    expected: &Expectation<'_>,
) -> ProcessorResult<Option<Restored>> {
    let mut damaged: Option<ProcessorError> = None;
    for candidate in listed.iter().rev() {
        let opened = match &candidate.state {
            CheckpointState::Incomplete { .. } => continue,
            CheckpointState::Damaged { faults, .. } if faults.iter().any(is_newer_format) => {
                // Nothing is wrong with it: to go on from an older one would be to forget what a newer program has done.
                return Err(faults.iter().find(|fault| is_newer_format(fault)).expect("there is one").clone().into());
            }
            CheckpointState::Damaged { faults, .. } => Err(match faults.first() {
                Some(fault) => fault.clone().into(),
                None => ProcessorError::State(format!("{} is damaged", store.directory(candidate.epoch).display())),
            }),
            CheckpointState::Complete(manifest) => {
                fits(store, manifest, expected)?;
                open(store, (**manifest).clone(), expected)?
            }
        };
        match opened {
            Ok(restored) => {
                if damaged.is_some() {
                    tracing::warn!(target: "checkpoint", "going on from the older checkpoint {}", candidate.epoch);
                }
                return Ok(Some(restored));
            }
            Err(error) if expected.may_fall_back => {
                tracing::error!(target: "checkpoint", "checkpoint {} cannot be restored: {error}", candidate.epoch);
                damaged.get_or_insert(error);
            }
            Err(error) => return Err(refusal(store, candidate.epoch, &error, "a sink has committed what it holds")),
        }
    }
    match damaged {
        None => Ok(None),
        Some(error) => {
            let newest = listed.last().map_or(Epoch::FIRST, |last| last.epoch);
            Err(refusal(store, newest, &error, "there is no older one that can"))
        }
    }
}

fn is_newer_format(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::NewerFormat { .. })
}

/// What is wrong with the checkpoint is within; that it cannot be had now says nothing of it, and is no reason for an older one.
fn open(
    store: &CheckpointStore,
    manifest: Manifest,
    expected: &Expectation<'_>,
) -> ProcessorResult<ProcessorResult<Restored>> {
    let progress = expected.progress;
    if let Some(remote) = expected.remote
        && let Some(fault) = remote.fetch(store, &manifest, progress)?
    {
        return Ok(Err(fault.into()));
    }
    Ok(Restored::open_shown(store, manifest, progress))
}

fn refusal(store: &CheckpointStore, epoch: Epoch, error: &ProcessorError, why: &str) -> ProcessorError {
    ProcessorError::Refused(format!(
        "checkpoint {epoch} in {} cannot be restored, and {why}: {error}. Put it back from a copy, or start with \
         --from-checkpoint or --ignore-checkpoint",
        store.place()
    ))
}

/// Whether a checkpoint is of this job.
fn fits(store: &CheckpointStore, manifest: &Manifest, expected: &Expectation<'_>) -> ProcessorResult<()> {
    let name = format!("checkpoint {} in {}", manifest.epoch, store.place());
    if manifest.job != expected.job {
        return Err(ProcessorError::Refused(format!(
            "{name} is of the job `{}`, and this is `{}`: name another state.checkpoint_path, or call the job as it was",
            manifest.job, expected.job
        )));
    }
    if manifest.key_groups != KEY_GROUPS {
        return Err(ProcessorError::Refused(format!(
            "{name} has {} key groups, and this program {KEY_GROUPS}",
            manifest.key_groups
        )));
    }
    manifest.fingerprint.check(expected.fingerprint, &name)
}
