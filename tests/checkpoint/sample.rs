//! Small checkpoints to try things out with.

use llm_optimizer_processor::ProcessorResult;
use llm_optimizer_processor::checkpoint::{
    AggregationSummary, Changes, CheckpointStore, DefinitionSummary, FORMAT_VERSION, JobFingerprint, KnownFiles,
    Manifest, OutboxKey, PartitionCut, SinkFile, SinkShard, WorkerSnapshot, WorkerStore, put_cut, put_outbox,
};
use llm_optimizer_processor::event::{Offset, PartitionName, WorkerIndex};
use llm_optimizer_processor::sink::{Generation, Shard};
use llm_optimizer_processor::time::disorder::Disorder;
use llm_optimizer_processor::time::{Epoch, Span};
use llm_optimizer_processor::{AggregatePlan, EventTime};
use std::path::{Path, PathBuf};

/// A job of some workers, with their databases and checkpoints under one directory.
pub struct Job {
    pub store: CheckpointStore,
    pub workers: Vec<Worker>,
}

pub struct Worker {
    pub store: WorkerStore,
    pub known: KnownFiles,
}

impl Job {
    pub fn start(state: &Path, checkpoints: &Path, workers: usize) -> Job {
        let worker = |index: usize| Worker {
            store: WorkerStore::create(&state.join(format!("worker-{index}"))).expect("a database"),
            known: KnownFiles::default(),
        };
        Job {
            store: CheckpointStore::open(checkpoints).expect("a directory of checkpoints"),
            workers: (0..workers).map(worker).collect(),
        }
    }

    /// Each worker writes its changes, then all is published.
    pub fn checkpoint(&mut self, epoch: u64) -> ProcessorResult<Manifest> {
        let epoch = Epoch::new(epoch);
        self.store.begin(epoch)?;
        let mut snapshots = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let index = WorkerIndex(index as u32);
            let written = worker.store.write(changes(epoch, index))?;
            let files = worker.store.snapshot_to(&self.store.worker_directory(epoch, index), &mut worker.known)?;
            snapshots.push(WorkerSnapshot::new(index, files, written, &[cut(epoch, index)]));
        }
        let manifest = manifest(epoch, snapshots);
        self.store.publish(&manifest)?;
        Ok(manifest)
    }
}

pub fn cut(epoch: Epoch, worker: WorkerIndex) -> PartitionCut {
    let mut disorder = Disorder::default();
    (0..epoch.number() as i64 * 50).for_each(|event| disorder.record(Span::from_millis(event * 3), event > 40));
    PartitionCut {
        name: PartitionName { topic: "feedback-events".into(), partition: worker.0 as i32 },
        next: Offset(epoch.number() as i64 * 50),
        max_seen: EventTime::from_millis(1_790_000_000_000 + epoch.number() as i64 * 1_000),
        idle: false,
        returned: false,
        closed: worker.0 == 1,
        records: epoch.number() * 50,
        // With the room that it takes, not that which counting has made.
        disorder: Disorder::from_buckets(disorder.buckets(), disorder.greatest(), disorder.late()),
    }
}

pub fn chunk(epoch: Epoch) -> (OutboxKey, Vec<u8>) {
    let key = OutboxKey { shard: Shard { sink: 0, process: 0 }, epoch, chunk: 0 };
    (key, format!("results of {}", epoch.number()).into_bytes())
}

/// What a worker writes at the end of an epoch: its cut, what it has delivered and what it has not, and some records of windows.
pub fn changes(epoch: Epoch, worker: WorkerIndex) -> Changes {
    let mut changes = Changes::default();
    put_cut(&mut changes, &cut(epoch, worker));
    if worker.0 == 0 {
        let (key, chunk) = chunk(epoch);
        put_outbox(&mut changes, key, &chunk);
    }
    changes
}

pub fn manifest(epoch: Epoch, snapshots: Vec<WorkerSnapshot>) -> Manifest {
    assert_eq!(FORMAT_VERSION, 1);
    let shard = Shard { sink: 0, process: 0 };
    let aggregation = AggregationSummary::of(&AggregatePlan::everything());
    let file = SinkFile { path: PathBuf::from("results.jsonl"), length: 1_234 };
    Manifest {
        epoch,
        job: "feedback".into(),
        generation: Generation(3),
        created_at: "2026-09-21T14:13:19.831Z".parse().expect("a time"),
        program: "processor 0.1.0".into(),
        processes: 1,
        workers: snapshots.len() as u32,
        key_groups: 256,
        fingerprint: JobFingerprint::default().with("windows", "tumbling 60s").with("event.key", "[data.model]"),
        definitions: vec![DefinitionSummary { name: None, allowed_lateness: Span::ZERO, aggregation }],
        frontier: EventTime::from_millis(1_790_000_000_000),
        max_out_of_orderness: Span::from_secs(10),
        finished: false,
        snapshots,
        sinks: vec![SinkShard { shard, file: Some(file), outbox_chunks: 1 }],
        transactional_shards: [shard].into(),
    }
}
