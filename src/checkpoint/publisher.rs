//! The thread that publishes checkpoints: the commit point of each.
//!
//! The model: it is given the reports of all workers, makes the manifest of them, publishes it, and removes checkpoints that are
//! older than those that are kept. Nothing is removed before: a start that is refused leaves what there was, and processes that
//! start one after the other find the same. Where each process has a directory of its own, it prepares the checkpoint first, and commits
//! it when all processes have prepared theirs. How it fails: as the writers do, see [`Attempts`].

use super::attempts::Attempts;
use super::operator::Order;
use super::remote::RemotePublisher;
use super::report::{SnapshotReport, manifest_of};
use super::{CheckpointStore, Ending, Manifest, ProcessIndex, Voice};
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::{Control, yield_to_workers};
use crate::time::Epoch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be done about a checkpoint.
pub struct Publication {
    /// What.
    pub order: Order,
    /// When the end of its epoch was announced.
    pub begun: Instant,
}

/// What has come of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is prepared here; the other processes need this manifest.
    Prepared(Epoch, String),
    /// It is published.
    Published(Epoch),
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
    /// Publishes and removes in an object store instead, of which the directory has copies.
    pub remote: Option<RemotePublisher>,
    /// How many are kept.
    pub retain: usize,
    /// Of another course of the job: removed when this run has published one.
    pub discarded: Vec<Epoch>,
    /// What is to be published.
    pub publications: Receiver<Publication>,
    /// Told of what is prepared and published, for the coordinator.
    pub published: Sender<Step>,
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
    let mut prepared = None;
    loop {
        let publication = match settings.publications.recv_timeout(LOOK) {
            Ok(publication) => publication,
            Err(RecvTimeoutError::Timeout) if !settings.attempts.is_over() => continue,
            Err(_) => return,
        };
        match settings.obey(publication, &mut prepared) {
            Ok(Some(())) => {}
            Ok(None) => return,
            Err(error) => return settings.control.fail(error),
        }
    }
}

impl PublisherSettings {
    /// `None`: the run is over. `prepared` is what the next commit publishes.
    fn obey(
        &self,
        Publication { order, begun }: Publication,
        prepared: &mut Option<Manifest>,
    ) -> ProcessorResult<Option<()>> {
        let Self { checkpoints, attempts, .. } = self;
        match order {
            Order::Publish(epoch, ending, reports) => {
                let manifest = self.manifest(epoch, ending, &reports)?;
                let lost = || checkpoints.lost(&manifest).filter(|_| self.remote.is_none());
                let publish = || match &self.remote {
                    None => checkpoints.publish(&manifest),
                    Some(remote) => remote.publish(&manifest),
                };
                if attempts.until_it_works_unless("publishing a checkpoint", lost, publish).is_none() {
                    return Ok(None);
                }
                self.is_published(&manifest, begun);
            }
            Order::Prepare(epoch, ending, reports) => {
                let manifest = self.manifest(epoch, ending, &reports)?;
                let text = manifest.to_text()?;
                let own = Manifest { part: Some(ProcessIndex(0)), ..manifest };
                let lost = || checkpoints.lost(&own);
                let prepare = || checkpoints.prepare(&own);
                if attempts.until_it_works_unless("preparing a checkpoint", lost, prepare).is_none() {
                    return Ok(None);
                }
                self.tell(Step::Prepared(epoch, text));
                *prepared = Some(own);
            }
            Order::Commit(epoch) => {
                let Some(manifest) = prepared.take().filter(|manifest| manifest.epoch == epoch) else {
                    return Err(ProcessorError::State(format!(
                        "checkpoint {epoch} is to be published and was not prepared"
                    )));
                };
                let lost = || checkpoints.lost(&manifest);
                let commit = || checkpoints.commit(epoch);
                if attempts.until_it_works_unless("publishing a checkpoint", lost, commit).is_none() {
                    return Ok(None);
                }
                self.is_published(&manifest, begun);
            }
        }
        Ok(Some(()))
    }

    fn manifest(&self, epoch: Epoch, ending: Ending, reports: &[String]) -> ProcessorResult<Manifest> {
        let reports = reports.iter().map(|report| SnapshotReport::from_json(report));
        Ok(manifest_of(&self.template, epoch, ending, reports.collect::<ProcessorResult<_>>()?))
    }

    fn is_published(&self, manifest: &Manifest, begun: Instant) {
        let written = manifest.snapshots.iter().map(|snapshot| snapshot.written.bytes).sum();
        let published = Published { epoch: manifest.epoch, took: begun.elapsed(), size: manifest.bytes(), written };
        (self.observer)(published);
        self.tell(Step::Published(manifest.epoch));
        match &self.remote {
            None => remove_old(&self.checkpoints, &self.discarded, self.retain),
            Some(remote) => warn_of(remote.tidy(manifest)),
        }
    }

    fn tell(&self, step: Step) {
        // Nobody listens where the run is over.
        let _ = self.published.send(step);
        self.voice.wake();
    }
}

/// The new one counts, whatever becomes of the old ones: what cannot be removed now is at the next.
pub(super) fn remove_old(checkpoints: &CheckpointStore, discarded: &[Epoch], retain: usize) {
    let discarded = || discarded.iter().try_for_each(|epoch| checkpoints.remove(*epoch));
    warn_of(discarded().and_then(|()| checkpoints.retain(retain).map(drop)));
}

fn warn_of(removed: ProcessorResult<()>) {
    if let Err(error) = removed {
        tracing::warn!(target: "checkpoint", "old checkpoints cannot be removed: {error}");
    }
}
