//! On which checkpoint the processes of a job go on together, where each has a directory of its own.
//!
//! The model: when the processes have met, each tells all others what it has: its [`Offer`]. All look at the same offers with the
//! same function, [`agree`], so that all come to the same. A checkpoint *counts* where a process has committed it: all had prepared it
//! before. What is only prepared does not count, however many have it: nobody can have been told of it. The job goes on from the
//! newest that counts, and each process that has it prepared only commits it then.
//!
//! How it fails: a process that cannot restore what counts is named, with why. Where the sinks allow it, an older checkpoint that all
//! can restore will do. A process that has nothing at all where others have checkpoints has lost its disk, or was started on another
//! host: nothing will do, as its share of every checkpoint is gone.

use super::{
    CheckpointStore, Cuts, PartitionCut, Placement, ProcessIndex, RecordKey, RestoreProgress, Restored, StartFrom,
    Table, read_cut,
};
use crate::error::{ProcessorError, ProcessorResult};
use crate::time::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Of how many checkpoints every file is read before the processes meet: the newest that is sound, and the one before it, which is
/// where others are that did not come so far.
const SOUND: usize = 2;

/// What a process has, as it tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Whose it is.
    pub process: ProcessIndex,
    /// Where it believes that checkpoints are.
    pub placement: Placement,
    /// Its directory; for people.
    pub directory: String,
    /// How its command line has it begin.
    pub start: StartFrom,
    /// The first epoch of which there is nothing here.
    pub next: Epoch,
    /// What there is here, in the order of epochs.
    pub held: Vec<Held>,
}

/// A process's part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub epoch: Epoch,
    /// Whether it is committed here; else it is prepared.
    pub is_committed: bool,
    /// What its manifest says: equal where equal.
    pub digest: Option<u32>,
    /// Why it cannot be restored here.
    pub fault: Option<String>,
    /// Where its sources were: records as the snapshots have them, key and value in hexadecimal digits.
    pub cuts: Vec<(String, String)>,
}

/// What the processes go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The checkpoint; `None`: the job begins anew.
    pub restored: Option<Epoch>,
    /// The first epoch of the run.
    pub first: Epoch,
    /// What was passed over, and why.
    pub passed_over: Vec<String>,
}

/// What this process can offer, and those of it that were read: every file of the newest checkpoints.
pub fn offer(
    store: &CheckpointStore,
    process: ProcessIndex,
    start: StartFrom,
    progress: &RestoreProgress,
) -> ProcessorResult<(Offer, Vec<Restored>)> {
    let epochs = store.epochs()?;
    let (mut held, mut sound): (Vec<Held>, Vec<Restored>) = (Vec::new(), Vec::new());
    for epoch in epochs.iter().rev() {
        let is_wanted = match start {
            StartFrom::Newest => true,
            StartFrom::Checkpoint(wanted) => *epoch == wanted,
            StartFrom::Anew => false,
        };
        held.extend(part(store, *epoch, (is_wanted && sound.len() < SOUND).then_some((&mut sound, progress))));
    }
    held.reverse();
    let offer = Offer {
        process,
        placement: Placement::PerProcess,
        directory: store.root().display().to_string(),
        start,
        next: epochs.last().map_or(Epoch::FIRST, |last| last.next()),
        held,
    };
    Ok((offer, sound))
}

impl Offer {
    /// Of a process of a job all of whose checkpoints are in one directory: there is nothing to agree on.
    pub fn shared(process: ProcessIndex, directory: String, start: StartFrom) -> Self {
        Self { process, placement: Placement::Shared, directory, start, next: Epoch::FIRST, held: Vec::new() }
    }

    /// As bytes for another process.
    pub fn to_bytes(&self) -> ProcessorResult<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            ProcessorError::State(format!("what there is of checkpoints cannot be described: {error}"))
        })
    }

    /// Reads it back.
    pub fn from_bytes(bytes: &[u8]) -> ProcessorResult<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            ProcessorError::State(format!("what another process says of its checkpoints cannot be read: {error}"))
        })
    }

    fn of(&self, epoch: Epoch) -> Option<&Held> {
        self.held.iter().find(|held| held.epoch == epoch)
    }
}

/// This process's part of a checkpoint; `None` where there is neither a manifest nor one that is prepared.
fn part(
    store: &CheckpointStore,
    epoch: Epoch,
    reading: Option<(&mut Vec<Restored>, &RestoreProgress)>,
) -> Option<Held> {
    use super::FaultKind::Missing;
    let (is_committed, manifest) = match store.manifest(epoch) {
        Err(fault) if fault.kind == Missing => match store.prepared(epoch) {
            Err(fault) if fault.kind == Missing => return None,
            prepared => (false, prepared),
        },
        committed => (true, committed),
    };
    let held = |digest, outcome: Result<Vec<(String, String)>, String>| match outcome {
        Ok(cuts) => Held { epoch, is_committed, digest, fault: None, cuts },
        Err(fault) => Held { epoch, is_committed, digest, fault: Some(fault), cuts: Vec::new() },
    };
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(fault) => return Some(held(None, Err(fault.to_string()))),
    };
    let digest = manifest.digest().ok().map(|digest| digest.0);
    if let Some(fault) = store.faults(&manifest).into_iter().next() {
        return Some(held(digest, Err(fault.to_string())));
    }
    let Some((sound, progress)) = reading else { return Some(held(digest, Ok(Vec::new()))) };
    let cuts = Restored::open_shown(store, manifest, progress).and_then(|restored| {
        let cuts = restored.cut_records();
        sound.push(restored);
        cuts
    });
    Some(held(digest, cuts.map_err(|error| error.to_string())))
}

/// What the processes go on from, by what all of them have; `may_fall_back`: an older checkpoint will do where the newest that counts
/// cannot be restored.
///
/// # Errors
/// [`ProcessorError::Refused`], with the processes that are in the way.
pub fn agree(offers: &[Offer], may_fall_back: bool) -> ProcessorResult<Agreement> {
    check_alike(offers)?;
    let Some(first) = offers.first() else { return Err(refused("there is no process".into())) };
    let begins = offers.iter().map(|offer| offer.next).max().unwrap_or(Epoch::FIRST);
    let anew = Agreement { restored: None, first: begins, passed_over: Vec::new() };
    let committed = |epoch: Epoch| offers.iter().any(|offer| offer.of(epoch).is_some_and(|held| held.is_committed));
    let all: BTreeSet<Epoch> = offers.iter().flat_map(|offer| offer.held.iter().map(|held| held.epoch)).collect();
    let counting: Vec<Epoch> = all.into_iter().filter(|epoch| committed(*epoch)).collect();
    match first.start {
        StartFrom::Anew => Ok(anew),
        StartFrom::Checkpoint(epoch) => match obstacle(offers, epoch) {
            None if committed(epoch) => Ok(Agreement { restored: Some(epoch), ..anew }),
            None => Err(refused(format!("checkpoint {epoch} was never published"))),
            Some(why) => Err(refused(format!("{why}; {}", there_are(&counting)))),
        },
        StartFrom::Newest => newest(offers, &counting, may_fall_back, anew),
    }
}

fn newest(offers: &[Offer], counting: &[Epoch], may_fall_back: bool, anew: Agreement) -> ProcessorResult<Agreement> {
    let Some(latest) = counting.last() else { return Ok(anew) };
    let lost = offers.iter().find(|offer| offer.held.is_empty());
    if let (Some(lost), Some(other)) = (lost, offers.iter().find(|offer| offer.of(*latest).is_some())) {
        return Err(refused(format!(
            "process {} has no checkpoint in {}, and process {} has checkpoint {latest} in {}: its host has lost its disk, or it was \
             started on another one. Start it where its directory is, or put that back from a copy; --ignore-checkpoint on all \
             processes begins anew",
            lost.process.0, lost.directory, other.process.0, other.directory
        )));
    }
    let mut passed_over = Vec::new();
    for epoch in counting.iter().rev() {
        match obstacle(offers, *epoch) {
            None => return Ok(Agreement { restored: Some(*epoch), passed_over, ..anew }),
            Some(why) => passed_over.push(why),
        }
        if !may_fall_back {
            return Err(refused(format!(
                "{}, and a sink has committed what that checkpoint holds. Put the directory back from a copy, or start all processes \
                 with --from-checkpoint or --ignore-checkpoint",
                passed_over.join("; ")
            )));
        }
    }
    Err(refused(format!(
        "there is no checkpoint that all processes can restore: {}. Put the directories back from copies, or start all processes with \
         --ignore-checkpoint",
        passed_over.join("; ")
    )))
}

/// Why not all processes can restore a checkpoint.
fn obstacle(offers: &[Offer], epoch: Epoch) -> Option<String> {
    if let Some(offer) = offers.iter().find(|offer| offer.of(epoch).is_none()) {
        return Some(format!("process {} has no checkpoint {epoch} in {}", offer.process.0, offer.directory));
    }
    let parts = || offers.iter().filter_map(|offer| Some((offer, offer.of(epoch)?)));
    for (Offer { process: ProcessIndex(process), directory, .. }, held) in parts() {
        if let Some(fault) = &held.fault {
            return Some(format!("process {process} cannot restore checkpoint {epoch} in {directory}: {fault}"));
        }
    }
    let (first, held) = parts().next()?;
    let other = parts().find(|(_, other)| other.digest != held.digest);
    other.map(|(other, _)| {
        format!(
            "checkpoint {epoch} of process {} in {} and that of process {} in {} are of different runs",
            first.process.0, first.directory, other.process.0, other.directory
        )
    })
}

fn there_are(epochs: &[Epoch]) -> String {
    let names: Vec<String> = epochs.iter().map(Epoch::to_string).collect();
    match names.is_empty() {
        true => "there is none that counts".to_owned(),
        false => format!("there are {}", names.join(", ")),
    }
}

/// Refuses processes that differ in how they begin: they would not be one job.
pub fn check_alike(offers: &[Offer]) -> ProcessorResult<()> {
    offers.iter().try_for_each(|other| alike(&offers[0], other))
}

fn alike(one: &Offer, other: &Offer) -> ProcessorResult<()> {
    let (first, second) = (one.process.0, other.process.0);
    if one.placement != other.placement {
        let says = |offer: &Offer| offer.placement == Placement::Shared;
        return Err(refused(format!(
            "state.checkpoint_path_shared is {} in process {first}, and {} in process {second}: give all the same",
            says(one),
            says(other)
        )));
    }
    match one.start == other.start {
        true => Ok(()),
        false => Err(refused(format!(
            "process {first} {}, and process {second} {}: give all processes the same --from-checkpoint or --ignore-checkpoint",
            begins(one.start),
            begins(other.start)
        ))),
    }
}

fn begins(start: StartFrom) -> String {
    match start {
        StartFrom::Newest => "is to go on from the newest checkpoint".into(),
        StartFrom::Checkpoint(epoch) => format!("is to go on from checkpoint {epoch}"),
        StartFrom::Anew => "is to begin without a checkpoint".into(),
    }
}

fn refused(text: String) -> ProcessorError {
    ProcessorError::Refused(text)
}

/// Where the sources of all processes were at a checkpoint that they have agreed on.
pub fn cuts_of(offers: &[Offer], epoch: Epoch) -> ProcessorResult<Vec<PartitionCut>> {
    let mut cuts = Cuts::default();
    for (key, value) in offers.iter().filter_map(|offer| offer.of(epoch)).flat_map(|held| &held.cuts) {
        cuts.insert(read_cut(&unhex(key)?, &unhex(value)?)?);
    }
    Ok(cuts.into_map().into_values().collect())
}

impl Restored {
    /// The records of the cuts, for another process.
    fn cut_records(&self) -> ProcessorResult<Vec<(String, String)>> {
        let mut records = Vec::new();
        for snapshot in self.snapshots() {
            for record in snapshot.scan(&RecordKey::plain(Table::Cut, &[]).0) {
                let (key, value) = record?;
                records.push((hex(&key), hex(&value)));
            }
        }
        Ok(records)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> ProcessorResult<Vec<u8>> {
    let digit = |letter: &u8| char::from(*letter).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(pair.first()?)? << 4 | digit(pair.get(1)?)?) as u8);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| ProcessorError::State(format!("another process has sent `{text}` for a record")))
}

#[cfg(test)]
#[path = "agreement_tests.rs"]
mod tests;
