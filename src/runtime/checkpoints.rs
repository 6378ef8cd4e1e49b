//! The checkpoints of a run, in one process: from the configuration to what workers and sinks go on from, and the threads that write.
//!
//! The model: before anything else is opened the checkpoint to go on from is chosen, checked and opened; the process's sinks recover
//! from what it holds for them; each worker fills its windows from the records of its key groups, whichever worker wrote them; the
//! sources begin at its cuts. One writer a worker and, in the first process, one publisher make the next checkpoints.

use super::job::Job;
use super::{Control, Topology};
use crate::checkpoint::operator::{CheckpointSettings, CoordinatorSeat};
use crate::checkpoint::{
    Attempts, CheckpointStore, Command, Coordinator, FirstEpoch, Manifest, Part, ProcessIndex, Publication, PublisherSettings,
    RecordKey, Restored, Rules, SinkGathering, SnapshotReader, Table, Voice, WorkerEpochs, WorkerPort, WorkerStore, WriterSettings,
    start_publisher, start_writer,
};
use crate::config::{Delivery, StateBackendKind};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, KEY_GROUPS, KeyGroup, WorkerIndex};
use crate::sink::{SinkEpochs, SinkHub, SideOutputs};
use crate::window::{Restore, WindowState};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The least time between two checkpoints that are taken because somebody would welcome them.
const LEAST_PAUSE: Duration = Duration::from_millis(500);

/// The checkpoints of a run, in this process.
pub struct RunCheckpoints {
    store: CheckpointStore,
    restored: Option<Restored>,
    template: Manifest,
    first: FirstEpoch,
    process: ProcessIndex,
    threads: usize,
    peers: usize,
    locals: Vec<Local>,
    attempts: Attempts,
    /// The publisher's ends, until they are taken.
    publisher: Mutex<Option<PublisherEnds>>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

/// One worker of this process.
struct Local {
    store: WorkerStore,
    parts: Mutex<Option<Sender<Part>>>,
    taken: Mutex<Option<Receiver<Part>>>,
    voice: Voice,
}
