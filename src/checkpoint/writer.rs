//! The thread that writes a worker's snapshots.
//!
//! The model: the parts of a snapshot come through a channel: the changes of windows a portion at a time, each of which goes into the
//! worker's own store at once; the cuts; and on the first worker of a process what the checkpoint holds for the sinks. When all of
//! an epoch are there, and the side records that belong to it are durable, the store is copied by hard links into the checkpoint's
//! directory, and the worker reports.
//!
//! How it fails: what fails is tried again, see [`Attempts`]. A panic ends the run with its reason.

use super::attempts::Attempts;
use super::remote::{Uploader, forget_older};
use super::report::SnapshotReport;
use super::{
    Changes, CheckpointStore, FaultKind, KnownFiles, OutboxKey, Part, PartitionCut, SnapshotFiles, Voice, Word,
    WorkerSnapshot, WorkerStore, Written, delete_outbox, failpoint, put_cut, put_outbox,
};
use crate::error::ProcessorResult;
use crate::event::WorkerIndex;
use crate::runtime::{Control, yield_to_workers};
use crate::sink::{Prepared, Shard, SideMark, SideOutputs};
use crate::time::{Epoch, EventTime};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);

/// What a worker's writer is made from.
pub struct WriterSettings {
    /// The worker.
    pub worker: WorkerIndex,
    /// Its own database.
    pub store: WorkerStore,
    /// Where checkpoints are.
    pub checkpoints: CheckpointStore,
    /// Records that made it into no window.
    pub side_outputs: SideOutputs,
    /// The parts of snapshots.
    pub parts: Receiver<Part>,
    /// Says when a snapshot is durable.
    pub voice: Voice,
    /// How failures are met.
    pub attempts: Attempts,
    /// The run's switch.
    pub control: Control,
    /// Whether it writes what checkpoints hold for the sinks of the process.
    pub is_first_of_process: bool,
    /// Sends snapshots to where the checkpoints are, of which the directory has copies.
    pub uploader: Option<Uploader>,
}

/// Starts the thread.
pub fn start_writer(settings: WriterSettings) -> ProcessorResult<JoinHandle<()>> {
    let (worker, control) = (settings.worker, settings.control.clone());
    let mut writer = Writer { settings, known: KnownFiles::default(), pending: Pending::default(), outbox: Vec::new() };
    control.spawn(&format!("snapshot-{worker}"), move || {
        yield_to_workers();
        writer.run();
    })
}

struct Writer {
    settings: WriterSettings,
    known: KnownFiles,
    pending: Pending,
    /// Chunks of the epoch before, which the store has and the next snapshot need not.
    outbox: Vec<OutboxKey>,
}

/// What has come of the epoch that ends.
#[derive(Default)]
struct Pending {
    windows: Option<(Epoch, Option<EventTime>)>,
    cuts: Option<(Vec<PartitionCut>, SideMark)>,
    sinks: Option<Vec<(Shard, Prepared)>>,
    written: Written,
}

impl Writer {
    fn run(&mut self) {
        loop {
            match self.settings.parts.recv_timeout(LOOK) {
                Ok(part) => {
                    if self.take(part).is_none() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) if !self.settings.attempts.is_over() => {}
                Err(_) => return,
            }
        }
    }

    /// `None`: the run is over.
    fn take(&mut self, part: Part) -> Option<()> {
        match part {
            Part::Changes(changes) => self.write(changes)?,
            Part::WindowsDone { epoch, frontier } => self.pending.windows = Some((epoch, frontier)),
            Part::Cuts { cuts, mark, .. } => self.pending.cuts = Some((cuts, mark)),
            Part::Sinks { prepared, .. } => self.pending.sinks = Some(prepared),
        }
        let waits_for_sinks = self.settings.is_first_of_process && self.pending.sinks.is_none();
        if self.pending.windows.is_none() || self.pending.cuts.is_none() || waits_for_sinks {
            return Some(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.finish(pending)
    }

    fn write(&mut self, changes: Changes) -> Option<()> {
        let Self { settings, pending, .. } = self;
        // The store remembers what it could not write, and writes it at the next call.
        let mut changes = Some(changes);
        let mut attempt = || settings.store.write(changes.take().unwrap_or_default());
        let lost = || settings.store.lost();
        pending.written += settings.attempts.until_it_works_unless("writing a snapshot", lost, &mut attempt)?;
        Some(())
    }

    /// All parts of an epoch are there.
    fn finish(&mut self, pending: Pending) -> Option<()> {
        let Pending { windows: Some((epoch, frontier)), cuts: Some((cuts, mark)), sinks, written } = pending else {
            return Some(());
        };
        let sinks = sinks.unwrap_or_default();
        self.pending.written = written;
        let changes = self.own_changes(epoch, &cuts, &sinks);
        self.write(changes)?;
        let Pending { written, .. } = std::mem::take(&mut self.pending);
        let Self { settings, known, .. } = self;
        let WriterSettings { worker, store, checkpoints, side_outputs, voice, attempts, control, uploader, .. } =
            settings;
        if !attempts.wait_until(|| side_outputs.have_written(mark)) {
            return None;
        }
        let directory = checkpoints.worker_directory(epoch, *worker);
        let lost = || store.lost();
        let make = || store.snapshot_to(&directory, known);
        let files = attempts.until_it_works_unless("making a snapshot", lost, make)?;
        voice.set_stored(epoch);
        let files = match uploader {
            None => files,
            Some(uploader) => {
                let lost = || missing_file(&directory, &files);
                let send = || uploader.upload(epoch, &directory, &files);
                let sent = attempts.until_it_works_unless("sending a snapshot", lost, send)?;
                if settings.is_first_of_process
                    && let Err(error) = forget_older(checkpoints, epoch)
                {
                    tracing::warn!(target: "checkpoint", "old snapshots cannot be removed: {error}");
                }
                sent
            }
        };
        let snapshot = WorkerSnapshot::new(*worker, files, written, &cuts);
        match SnapshotReport::new(snapshot, frontier, &sinks).to_json() {
            Ok(report) => {
                failpoint("report");
                voice.say(Word::Reported(*worker, epoch, report));
            }
            Err(error) => control.fail(error),
        }
        Some(())
    }

    /// The records that belong to no window.
    fn own_changes(&mut self, epoch: Epoch, cuts: &[PartitionCut], sinks: &[(Shard, Prepared)]) -> Changes {
        let mut changes = Changes::default();
        cuts.iter().for_each(|cut| put_cut(&mut changes, cut));
        self.outbox.drain(..).for_each(|key| delete_outbox(&mut changes, key));
        for (shard, prepared) in sinks {
            for (chunk, content) in prepared.outbox.iter().enumerate() {
                let key = OutboxKey { shard: *shard, epoch, chunk: chunk as u32 };
                put_outbox(&mut changes, key, content);
                self.outbox.push(key);
            }
        }
        changes
    }
}

/// Why a snapshot can never be sent: somebody has removed a file of it.
fn missing_file(directory: &Path, files: &SnapshotFiles) -> Option<String> {
    let fault = files.check_lengths(directory).into_iter().find(|fault| fault.kind == FaultKind::Missing)?;
    Some(format!("{fault}; it was there when the snapshot was made"))
}
