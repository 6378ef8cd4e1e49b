//! What a worker reports of its snapshot to whoever publishes the checkpoint.

use super::{Ending, Manifest, SinkFile, SinkShard, WorkerSnapshot};
use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::{Prepared, Shard};
use crate::time::{Epoch, EventTime};
use chrono::Utc;
use serde::{Deserialize, Serialize};

/// A worker's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    snapshot: WorkerSnapshot,
    /// Where the frontier was; `None` at the end of the input.
    frontier: Option<EventTime>,
    /// What the checkpoint holds for the sinks of the worker's process.
    sinks: Vec<SinkShard>,
}

impl SnapshotReport {
    /// Of a snapshot.
    pub fn new(snapshot: WorkerSnapshot, frontier: Option<EventTime>, prepared: &[(Shard, Prepared)]) -> Self {
        let sink = |(shard, prepared): &(Shard, Prepared)| SinkShard {
            shard: *shard,
            file: prepared.file.as_ref().map(|(path, length)| SinkFile { path: path.clone(), length: *length }),
            outbox_chunks: prepared.outbox.len() as u32,
        };
        Self { snapshot, frontier, sinks: prepared.iter().map(sink).collect() }
    }

    /// As JSON: what is between processes need not know it.
    pub fn to_json(&self) -> ProcessorResult<String> {
        serde_json::to_string(self)
            .map_err(|error| ProcessorError::State(format!("a worker's snapshot cannot be described: {error}")))
    }

    /// Reads it back.
    pub fn from_json(text: &str) -> ProcessorResult<Self> {
        serde_json::from_str(text)
            .map_err(|error| ProcessorError::State(format!("a worker's report cannot be read: {error}: {text}")))
    }
}

/// The manifest that these reports of all workers make, from one of the job that has everything else.
pub fn manifest_of(template: &Manifest, epoch: Epoch, ending: Ending, reports: Vec<SnapshotReport>) -> Manifest {
    let frontier = reports.iter().filter_map(|report| report.frontier).min().unwrap_or(EventTime::MAX);
    debug_assert!(
        reports.iter().all(|report| report.frontier.is_none_or(|of| of == frontier)),
        "all workers freeze their windows at one frontier"
    );
    let mut sinks: Vec<SinkShard> = reports.iter().flat_map(|report| report.sinks.clone()).collect();
    sinks.sort_by_key(|sink| sink.shard);
    let mut snapshots: Vec<WorkerSnapshot> = reports.into_iter().map(|report| report.snapshot).collect();
    snapshots.sort_by_key(|snapshot| snapshot.worker);
    let finished = ending == Ending::Finished;
    Manifest { epoch, created_at: Utc::now(), frontier, finished, snapshots, sinks, ..template.clone() }
}
