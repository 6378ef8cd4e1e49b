//! Checkpoints: what a job is at the end of an epoch, on disk, and how it goes on from there.
//!
//! The model: an epoch ends when every source has cut it (noted its positions and moved its capabilities to the next) and no
//! operator can meet a row of it any more. Then each worker's state is exactly what the events up to the cuts have made of it.
//! Each worker writes what has changed since the snapshot before into its own RocksDB database and makes a snapshot of that by
//! hard links; when all have, the coordinator publishes a manifest by renaming a file: that is the commit point. Nothing before it
//! counts, nothing after it may be lost.
//!
//! What is decided (which epoch may be cut, published, delivered, forgotten; which checkpoint is restored, what is sent again) is
//! decided by pure functions over plain data, apart from I/O.

mod agreement;
mod attempts;
mod choice;
mod compare;
mod contents;
mod coordinator;
mod cut;
mod direct_io;
mod failpoint;
mod fault;
mod files;
mod fingerprint;
mod keeper;
mod manifest;
mod meaning;
mod numbers;
pub mod operator;
mod port;
mod progress;
pub mod protocol;
mod publisher;
mod reader;
mod record;
mod records;
pub mod remote;
mod report;
mod restored;
mod room;
mod sinks;
mod start;
mod store;
mod verify;
mod words;
mod worker;
mod worker_store;
mod writer;

pub use agreement::{Agreement, Held, Offer, agree, check_alike, cuts_of, offer};
pub use attempts::{Attempts, FailureObserver};
pub use choice::{Choice, Expectation, choose, choose_agreed};
pub use compare::{Changed, Comparison, Difference, EntryCounts, compare};
pub use contents::{
    ChunkContent, Contents, DefinitionContent, EntryContent, FigureList, Figures, RecordText, Selected, Selection,
    TableSize, ViewContents, WaitingContent, read_record,
};
pub use coordinator::{Command, Coordinator, Ending, Event, HasCuts, Placement, ProcessIndex, Rules};
pub use cut::{Cuts, PartitionCut};
pub use failpoint::{FAILPOINT_VARIABLE, failpoint};
pub use fault::{Crc32, Fault, FaultKind};
pub use files::{KnownFiles, SnapshotFile, SnapshotFiles};
pub use fingerprint::{FingerprintDifference, FingerprintPart, JobFingerprint};
pub use keeper::{Heard, KeeperSettings, start_keeper};
pub use manifest::{
    AggregationSummary, CutSummary, DefinitionSummary, FORMAT_VERSION, Manifest, SinkFile, SinkShard, WorkerSnapshot,
};
pub use meaning::DefinitionParts;
pub use numbers::{SinkNames, SinkNumber, check_sinks};
pub use port::{Part, Voice, WorkerPort};
pub use progress::{Loaded, RestoreProgress};
pub use publisher::{Publication, Published, PublisherSettings, Step, start_publisher};
pub use reader::{Record, SnapshotReader};
pub use record::{Changes, RecordKey, Table};
pub use records::{OutboxKey, delete_cut, delete_outbox, put_cut, put_outbox, read_cut, read_outbox};
pub use report::SnapshotReport;
pub use restored::{Restored, key_groups_of, sink_recovery};
pub use room::Rooms;
pub use sinks::SinkGathering;
pub use start::{StartFrom, StartOptions};
pub use store::{CheckpointState, CheckpointStore, LEAST_RETAINED, ListedCheckpoint, Own};
pub use verify::{Verification, verify};
pub use words::{Beginning, Word};
pub use worker::{FirstEpoch, WorkerEpochs};
pub use worker_store::{DiskBytes, WorkerStore, Written};
pub use writer::{WriterSettings, start_writer};
