//! The thread that publishes checkpoints: the commit point of each.
//!
//! The model: it is given the reports of all workers, makes the manifest of them, publishes it, and removes checkpoints that are
//! older than those that are kept. Nothing is removed before: a start that is refused leaves what there was, and processes that
//! start one after the other find the same. How it fails: as the writers do, see [`Attempts`].

use super::attempts::Attempts;
use super::report::{SnapshotReport, manifest_of};
use super::{CheckpointStore, Ending, Manifest, Voice};
use crate::error::ProcessorResult;
use crate::runtime::{Control, yield_to_workers};
use crate::time::Epoch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);

/// A checkpoint to be published.
pub struct Publication {
    /// Its epoch.
    pub epoch: Epoch,
    /// Why the epoch ended.
    pub ending: Ending,
    /// When its end was announced.
    pub begun: Instant,
    /// What the workers have reported, as JSON.
    pub reports: Vec<String>,
}

/// What was published.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The epoch.
    pub epoch: Epoch,
    /// From the announcement to the commit point.
    pub took: Duration,
    /// Bytes of the whole checkpoint.
    pub size: u64,
    /// Bytes of records that were written for it.
    pub written: u64,
}

/// What the publisher is made from.
pub struct PublisherSettings {
    /// A manifest without what is of one checkpoint alone.
    pub template: Manifest,
    /// Where checkpoints are.
    pub checkpoints: CheckpointStore,
    /// How many are kept.
    pub retain: usize,
    /// Of another course of the job: removed when this run has published one.
    pub discarded: Vec<Epoch>,
    /// What is to be published.
    pub publications: Receiver<Publication>,
    /// Told of what is published, for the coordinator.
    pub published: Sender<Epoch>,
    /// Woken then.
    pub voice: Voice,
    /// How failures are met.
    pub attempts: Attempts,
    /// The run's switch.
    pub control: Control,
    /// Told as well, for metrics and the status.
    pub observer: Box<dyn Fn(Published) + Send>,
}

/// Starts the thread.
pub fn start_publisher(settings: PublisherSettings) -> ProcessorResult<JoinHandle<()>> {
    let control = settings.control.clone();
    control.spawn("publish", move || {
        yield_to_workers();
        run(&settings);
    })
}

fn run(settings: &PublisherSettings) {
    loop {
        let publication = match settings.publications.recv_timeout(LOOK) {
            Ok(publication) => publication,
            Err(RecvTimeoutError::Timeout) if !settings.attempts.is_over() => continue,
            Err(_) => return,
        };
        match manifest(&settings.template, &publication) {
            Ok(manifest) => {
                if publish(settings, &publication, &manifest).is_none() {
                    return;
                }
            }
            Err(error) => return settings.control.fail(error),
        }
    }
}

fn manifest(template: &Manifest, publication: &Publication) -> ProcessorResult<Manifest> {
    let reports = publication.reports.iter().map(|report| SnapshotReport::from_json(report));
    let reports = reports.collect::<ProcessorResult<_>>()?;
    Ok(manifest_of(template, publication.epoch, publication.ending, reports))
}

/// `None`: the run is over.
fn publish(settings: &PublisherSettings, publication: &Publication, manifest: &Manifest) -> Option<()> {
    let PublisherSettings { checkpoints, retain, discarded, published, voice, attempts, observer, .. } = settings;
    let lost = || checkpoints.lost(manifest);
    attempts.until_it_works_unless("publishing a checkpoint", lost, || checkpoints.publish(manifest))?;
    let (size, written) = (manifest.bytes(), manifest.snapshots.iter().map(|snapshot| snapshot.written.bytes).sum());
    observer(Published { epoch: publication.epoch, took: publication.begun.elapsed(), size, written });
    // Nobody listens where the run is over.
    let _ = published.send(publication.epoch);
    voice.wake();
    // The new one counts, whatever becomes of the old ones: what cannot be removed now is at the next.
    let discarded = || discarded.iter().try_for_each(|epoch| checkpoints.remove(*epoch));
    if let Err(error) = discarded().and_then(|()| checkpoints.retain(*retain)) {
        tracing::warn!(target: "checkpoint", "old checkpoints cannot be removed: {error}");
    }
    Some(())
}
