//! The manifest: what makes the snapshots of the workers one checkpoint.
//!
//! The model: a JSON document for programs and people, written last and put in its place by renaming. It begins with the CRC-32 of
//! itself (the eight digits of the checksum counted as zeros) and the version of the format of everything in the checkpoint;
//! these two stay where they are in every version. What is there for people only says so.
//!
//! How it fails: a manifest with another checksum, of a newer format, or whose content contradicts itself is a [`Fault`]. Members
//! that this version does not know are passed over.

use super::fault::{Crc32, Fault, FaultKind};
use super::files::SnapshotFiles;
use super::fingerprint::JobFingerprint;
use super::worker_store::Written;
use super::{CheckpointStore, PartitionCut, ProcessIndex, SinkNames};
use crate::aggregate::AggregatePlan;
use crate::config::{AggregateKind, AggregationConfig};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Offset, WorkerIndex};
use crate::sink::{Generation, Shard};
use crate::time::{Epoch, EventTime, Span};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The version of the format of checkpoints that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// How every manifest begins, up to the digits of its checksum.
const HEAD: &[u8] = b"{\n  \"crc32\": \"";
const DIGITS: usize = 8;
const NO_DIGITS: [u8; DIGITS] = *b"00000000";

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The epoch that it is the end of.
    pub epoch: Epoch,
    /// The job's name.
    pub job: String,
    /// The start of the job that took it.
    pub generation: Generation,
    /// When; for people.
    pub created_at: DateTime<Utc>,
    /// The program that took it; for people.
    pub program: String,
    /// Processes of the job.
    pub processes: u32,
    /// Workers of all processes.
    pub workers: u32,
    /// The process whose workers' snapshots are beside this copy of the manifest; without it all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<ProcessIndex>,
    /// Classes of keys.
    pub key_groups: u32,
    /// What the state means.
    pub fingerprint: JobFingerprint,
    /// The window definitions, in order; for tools.
    pub definitions: Vec<DefinitionSummary>,
    /// The event time up to which everything due has fired.
    #[serde(rename = "frontier_ms")]
    pub frontier: EventTime,
    /// What a partition's watermark is behind the latest event time that it has shown; for people.
    #[serde(rename = "max_out_of_orderness_ms")]
    pub max_out_of_orderness: Span,
    /// The input has come to its end: there is nothing to go on with.
    pub finished: bool,
    /// Each worker's part, in the order of the workers.
    pub snapshots: Vec<WorkerSnapshot>,
    /// All sinks that the job ever had, by their numbers.
    pub sink_names: SinkNames,
    /// What the checkpoint holds for the sinks.
    pub sinks: Vec<SinkShard>,
    /// Every shard that has ever delivered in transactions: whatever still runs as one of them must be fenced off.
    pub transactional_shards: BTreeSet<Shard>,
}

/// A window definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DefinitionSummary {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// What its accumulators keep.
    pub aggregation: AggregationSummary,
}

/// What accumulators keep: by this tools show their results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AggregationSummary {
    /// The built-in aggregates, by their words in the configuration.
    pub enabled: Vec<String>,
    /// Which percentiles.
    pub percentiles: Vec<f64>,
    /// Of percentiles of many values.
    pub relative_error: f64,
    /// The names of the program's own aggregates, which only that program can read.
    pub custom: Vec<String>,
}

/// One worker's part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSnapshot {
    /// Which.
    pub worker: WorkerIndex,
    /// Its directory, in that of the checkpoint.
    pub directory: String,
    /// What has changed since the snapshot before; for people.
    pub written: Written,
    /// The files of its database.
    pub files: SnapshotFiles,
    /// Where its partitions are; for people, as the records of the database are what counts.
    pub cuts: Vec<CutSummary>,
}

/// Where a partition is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutSummary {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The first record of the next epoch.
    pub next: Offset,
    /// The latest event time seen; without it before the first event.
    #[serde(rename = "max_seen_ms")]
    pub max_seen: Option<EventTime>,
    /// Read to its end, and silent.
    pub idle: bool,
    /// Ended.
    pub closed: bool,
}

/// What a checkpoint holds for one sink of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkShard {
    /// Which.
    #[serde(flatten)]
    pub shard: Shard,
    /// Its file, and how long it was.
    pub file: Option<SinkFile>,
    /// Chunks of its outbox.
    pub outbox_chunks: u32,
}

/// A file that a sink writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkFile {
    /// Where.
    pub path: PathBuf,
    /// How long it was at the end of the epoch.
    pub length: u64,
}

/// A manifest with what is said of it before its content is known.
#[derive(Serialize)]
struct Document<'a> {
    crc32: Crc32,
    format_version: u32,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl Manifest {
    /// The document. Fails for a sink's path that is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let document = Document { crc32: Crc32(0), format_version: FORMAT_VERSION, manifest: self };
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        let crc32 = Crc32(crc32fast::hash(&bytes)).to_string();
        bytes[HEAD.len()..HEAD.len() + DIGITS].copy_from_slice(crc32.as_bytes());
        Ok(bytes)
    }

    /// The same as text, for another process.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn to_text(&self) -> ProcessorResult<String> {
        let failed =
            |why: String| ProcessorError::State(format!("the manifest of checkpoint {} is no JSON: {why}", self.epoch));
        let bytes = self.to_bytes().map_err(|error| failed(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
    }

    /// Reads a document; `path` is where it is from.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, Fault> {
        check_checksum(bytes, path)?;
        let unreadable = |error: serde_json::Error| Fault::content(path, format_args!("is no manifest: {error}"));
        let found = serde_json::from_slice::<Version>(bytes).map_err(unreadable)?.format_version;
        if found > FORMAT_VERSION {
            return Err(Fault::new(path, FaultKind::NewerFormat { found, known: FORMAT_VERSION }));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(unreadable)?;
        match manifest.contradiction() {
            Some(what) => Err(Fault::content(path, what)),
            None => Ok(manifest),
        }
    }

    fn contradiction(&self) -> Option<String> {
        let numbers = self.snapshots.iter().map(|snapshot| snapshot.worker.0);
        if !numbers.eq(0..self.workers) {
            return Some(format!("{} workers, and not one snapshot of each in their order", self.workers));
        }
        if let Some(ProcessIndex(process)) = self.part
            && (u32::from(process) >= self.processes || !self.workers.is_multiple_of(self.processes))
        {
            let Self { processes, workers, .. } = self;
            return Some(format!("the part of process {process} of {processes}, which have {workers} workers"));
        }
        let files = self.snapshots.iter().flat_map(|snapshot| snapshot.files.0.iter().map(|file| &file.name));
        let mut names = files.chain(self.snapshots.iter().map(|snapshot| &snapshot.directory));
        if let Some(name) = names.find(|name| !is_plain(name)) {
            return Some(format!("{name:?} is not the name of a file"));
        }
        let objects =
            self.snapshots.iter().flat_map(|snapshot| snapshot.files.0.iter().filter_map(|file| file.object.as_ref()));
        let mut objects = objects.filter(|key| !key.split('/').all(is_plain));
        objects.next().map(|key| format!("{key:?} is not the name of an object"))
    }

    /// What all copies of the manifest have in common: the checksum of one that is of no process's part.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn digest(&self) -> ProcessorResult<Crc32> {
        let whole = Self { part: None, ..self.clone() };
        Ok(Crc32(crc32fast::hash(whole.to_text()?.as_bytes())))
    }

    /// The workers of a process.
    pub fn workers_of(&self, process: ProcessIndex) -> Range<u32> {
        let each = self.workers / self.processes.max(1);
        let first = u32::from(process.0) * each;
        first..first + each
    }

    /// The snapshots that are beside this copy of the manifest.
    pub fn held(&self) -> &[WorkerSnapshot] {
        match self.part {
            None => &self.snapshots,
            Some(process) => self.held_by(process),
        }
    }

    /// The snapshots of a process's workers.
    pub fn held_by(&self, process: ProcessIndex) -> &[WorkerSnapshot] {
        let Range { start, end } = self.workers_of(process);
        &self.snapshots[start as usize..end as usize]
    }

    /// The length of all files of the snapshots.
    pub fn bytes(&self) -> u64 {
        self.snapshots.iter().map(|snapshot| snapshot.files.bytes()).sum()
    }
}

/// Whether it names something in a directory, and nothing elsewhere.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == name)
}

fn check_checksum(bytes: &[u8], path: &Path) -> Result<(), Fault> {
    let damaged = || Fault::content(path, "is damaged: it does not begin as a manifest does");
    let rest = bytes.strip_prefix(HEAD).ok_or_else(damaged)?;
    let (digits, rest) = rest.split_first_chunk::<DIGITS>().ok_or_else(damaged)?;
    let digits = std::str::from_utf8(digits).map_err(|_| damaged())?;
    let expected = u32::from_str_radix(digits, 16).ok().map(Crc32).filter(|crc| crc.to_string() == digits);
    let expected = expected.ok_or_else(damaged)?;
    let mut hasher = crc32fast::Hasher::new();
    for part in [HEAD, &NO_DIGITS, rest] {
        hasher.update(part);
    }
    let found = Crc32(hasher.finalize());
    match found == expected {
        true => Ok(()),
        false => Err(Fault::new(path, FaultKind::Checksum { expected, found })),
    }
}

impl WorkerSnapshot {
    /// Of a worker whose database is in the directory that [`CheckpointStore`] has for it.
    pub fn new(worker: WorkerIndex, files: SnapshotFiles, written: Written, cuts: &[PartitionCut]) -> Self {
        let directory = CheckpointStore::worker_name(worker);
        Self { worker, directory, written, files, cuts: cuts.iter().map(CutSummary::of).collect() }
    }
}

impl AggregationSummary {
    /// Of a plan.
    pub fn of(plan: &AggregatePlan) -> Self {
        let config = plan.config();
        let percentiles =
            if config.enabled.contains(&AggregateKind::Percentile) { config.percentiles.len() } else { 0 };
        let built_in = config.enabled.iter().filter(|kind| **kind != AggregateKind::Percentile).count() + percentiles;
        Self {
            enabled: config.enabled.iter().map(|kind| kind.as_str().to_owned()).collect(),
            percentiles: config.percentiles.clone(),
            relative_error: config.relative_error,
            custom: plan.names().iter().skip(built_in).map(|name| name.to_string()).collect(),
        }
    }

    /// The plan by which accumulators can be read; `None` where they hold the program's own aggregates.
    pub fn plan(&self) -> ProcessorResult<Option<AggregatePlan>> {
        if !self.custom.is_empty() {
            return Ok(None);
        }
        let kind = |word: &String| {
            let known = AggregateKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            known.ok_or_else(|| ProcessorError::State(format!("there is no aggregate `{word}`")))
        };
        let enabled = self.enabled.iter().map(kind).collect::<ProcessorResult<Vec<AggregateKind>>>()?;
        let config =
            AggregationConfig { enabled, percentiles: self.percentiles.clone(), relative_error: self.relative_error };
        AggregatePlan::new(&config).map(Some)
    }
}

impl CutSummary {
    /// Of a cut.
    pub fn of(cut: &PartitionCut) -> Self {
        Self {
            topic: cut.name.topic.to_string(),
            partition: cut.name.partition,
            next: cut.next,
            max_seen: Some(cut.max_seen).filter(|seen| *seen != EventTime::MIN),
            idle: cut.idle,
            closed: cut.closed,
        }
    }
}
