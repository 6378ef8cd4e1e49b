//! `processor checkpoints verify`.

use super::words::{count, size};
use crate::checkpoint::remote::RemoteCopy;
use crate::checkpoint::{self, CheckpointState, CheckpointStore, Verification};
use crate::cli::arguments::VerifyOptions;
use crate::cli::text::print;
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::time::Epoch;

pub(super) fn verify(store: &CheckpointStore, options: &VerifyOptions) -> ProcessorResult<ExitCode> {
    let epochs = match options.epoch.map(Epoch::new) {
        // Says what there is instead where it is not published.
        Some(epoch) if store.manifest(epoch).is_err_and(|fault| fault.kind == checkpoint::FaultKind::Missing) => {
            return store.load(epoch).map(|_| ExitCode::Done);
        }
        Some(epoch) => vec![epoch],
        None => published(store)?,
    };
    refuse_none(&epochs, store)?;
    let mut is_well = true;
    for epoch in epochs {
        let found = checkpoint::verify(store, epoch);
        is_well &= found.faults.is_empty();
        print(&told(epoch, &found))?;
    }
    Ok(if is_well { ExitCode::Done } else { ExitCode::Failed })
}

/// The same of an object store, a checkpoint after the other.
pub(super) fn verify_remote(copy: &RemoteCopy, options: &VerifyOptions) -> ProcessorResult<ExitCode> {
    let epochs = options.epoch.map_or_else(|| copy.published(), |epoch| vec![Epoch::new(epoch)]);
    refuse_none(&epochs, copy.store())?;
    let mut is_well = true;
    for epoch in epochs {
        let found = match copy.try_bring(epoch)? {
            faults if faults.is_empty() => checkpoint::verify(copy.store(), epoch),
            faults => Verification { faults, ..Verification::default() },
        };
        copy.forget(epoch)?;
        let found = Verification { faults: found.faults.into_iter().map(|fault| copy.named(fault)).collect(), ..found };
        is_well &= found.faults.is_empty();
        print(&told(epoch, &found))?;
    }
    Ok(if is_well { ExitCode::Done } else { ExitCode::Failed })
}

fn refuse_none(epochs: &[Epoch], store: &CheckpointStore) -> ProcessorResult<()> {
    match epochs.is_empty() {
        false => Ok(()),
        true => Err(ProcessorError::State(format!("there is no published checkpoint in {}", store.place()))),
    }
}

fn published(store: &CheckpointStore) -> ProcessorResult<Vec<Epoch>> {
    let listed = store.list()?.into_iter();
    let published = listed.filter(|listed| !matches!(listed.state, CheckpointState::Incomplete { .. }));
    Ok(published.map(|listed| listed.epoch).collect())
}

fn told(epoch: Epoch, found: &Verification) -> String {
    let records: u64 = found.records.values().sum();
    let read = format!("{}, {}, {}", count(found.files, "file"), size(found.bytes), count(records, "record"));
    let state = if found.faults.is_empty() { "ok" } else { "damaged" };
    let mut text = format!("checkpoint {}: {state}: {read}\n", epoch.number());
    found.faults.iter().for_each(|fault| text.push_str(&format!("  {fault}\n")));
    found.unknown.iter().for_each(|file| text.push_str(&format!("  {file}: not part of the checkpoint\n")));
    text
}
