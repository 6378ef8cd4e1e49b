//! Small checkpoints, made as a run makes them, the same each time.

use chrono::{DateTime, Utc};
use llm_optimizer_processor::checkpoint::{
    AggregationSummary, Changes, CheckpointStore, DefinitionSummary, FORMAT_VERSION, JobFingerprint, KnownFiles,
    Manifest, OutboxKey, PartitionCut, SinkFile, SinkNames, SinkShard, WorkerSnapshot, WorkerStore, delete_outbox,
    put_cut, put_outbox,
};
use llm_optimizer_processor::config::{self, WindowDefinition};
use llm_optimizer_processor::event::{
    DefinitionIndex, DefinitionSet, DictionaryEntry, Late, LateRow, Offset, PartitionName, RowBatch, WorkerIndex,
};
use llm_optimizer_processor::sink::{Generation, Shard};
use llm_optimizer_processor::time::disorder::Disorder;
use llm_optimizer_processor::time::{Epoch, Span};
use llm_optimizer_processor::window::{
    ClosedBefore, Completeness, Naming, Triggers, WindowState, WindowStateSettings, Windowing,
};
use llm_optimizer_processor::{AggregatePlan, EventTime, GroupingKey, ProcessorResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Windows of every kind, of which records of every table come.
const CONFIG: &str = r#"
processor:
  source: stdin
  event: {key: [data.model], values: [data.latency_ms, data.cost_usd]}
  windows:
    definitions:
      - {name: minutely, type: tumbling, size: 1m, allowed_lateness: 5m, trigger: {every_events: 5}}
      - {name: trend, type: sliding, size: 60s, slide: 20s, allowed_lateness: 5m, aggregation: {enabled: [count, sum, max]}}
      - {name: visits, type: session, gap: 8s, max_length: 20s, allowed_lateness: 5m, trigger: {every_events: 2}, aggregation: {enabled: [count, percentile], percentiles: [50]}}
"#;

/// Events an epoch, one a second.
const ROWS: i64 = 40;
const MODELS: [&str; 6] = ["claude-3-opus", "claude-3-haiku", "gpt-4o", "llama-3-70b", "mistral", "\u{3b1}\"quoted\""];

/// A job of some workers, with their databases and checkpoints under one directory.
pub struct Job {
    pub store: CheckpointStore,
    pub workers: Vec<Worker>,
}

pub struct Worker {
    pub store: WorkerStore,
    pub known: KnownFiles,
    pub windows: Vec<WindowState>,
}

impl Job {
    /// Without windows.
    pub fn start(state: &Path, checkpoints: &Path, workers: usize) -> Job {
        let worker = |index: usize| Worker {
            store: WorkerStore::create(&state.join(format!("worker-{index}"))).expect("a database"),
            known: KnownFiles::default(),
            windows: Vec::new(),
        };
        Job {
            store: CheckpointStore::open(checkpoints).expect("a directory of checkpoints"),
            workers: (0..workers).map(worker).collect(),
        }
    }

    /// With windows of every kind, into which each epoch brings events.
    pub fn with_windows(state: &Path, checkpoints: &Path, workers: usize) -> Job {
        let mut job = Self::start(state, checkpoints, workers);
        job.workers.iter_mut().for_each(|worker| worker.windows = windows());
        job
    }

    /// Each worker lives through an epoch and writes what it has changed, then all is published.
    pub fn checkpoint(&mut self, epoch: u64) -> ProcessorResult<Manifest> {
        self.checkpoint_of(Epoch::new(epoch), live_through)
    }

    /// The same, with what `live` does to the windows of each worker.
    pub fn checkpoint_of(
        &mut self,
        epoch: Epoch,
        live: impl Fn(&mut WindowState, Epoch, WorkerIndex, usize),
    ) -> ProcessorResult<Manifest> {
        let peers = self.workers.len();
        self.store.begin(epoch)?;
        let mut snapshots = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let index = WorkerIndex(index as u32);
            let mut changes = changes(epoch, index);
            for windows in &mut worker.windows {
                live(windows, epoch, index, peers);
                windows.begin_snapshot();
                assert!(windows.write_snapshot(&mut changes, usize::MAX).expect("encoded"));
            }
            let written = worker.store.write(changes)?;
            let files = worker.store.snapshot_to(&self.store.worker_directory(epoch, index), &mut worker.known)?;
            worker.windows.iter_mut().for_each(WindowState::snapshot_stored);
            snapshots.push(WorkerSnapshot::new(index, files, written, &[cut(epoch, index)]));
        }
        let manifest = manifest(epoch, snapshots);
        self.store.publish(&manifest)?;
        Ok(manifest)
    }
}

fn definitions() -> Vec<WindowDefinition> {
    let loaded = config::load_str("sample.yaml", CONFIG, std::iter::empty()).expect("a configuration");
    loaded.config.window_definitions()
}

fn plan(definition: &WindowDefinition) -> AggregatePlan {
    AggregatePlan::new(&definition.aggregation).expect("aggregates")
}

fn windows() -> Vec<WindowState> {
    let state = |(place, definition): (usize, WindowDefinition)| {
        let mut state = WindowState::new(WindowStateSettings {
            definition: DefinitionIndex::of(place),
            windowing: Windowing::new(&definition.windows).expect("windows"),
            plan: Arc::new(plan(&definition)),
            naming: Naming::Qualified,
            fields: ["latency_ms", "cost_usd"].map(Arc::from).into(),
            closed: ClosedBefore::default(),
            triggers: Triggers::of(&definition.windows.trigger),
            takes_accumulators: false,
            name: definition.name,
        });
        state.track_changes();
        state
    };
    definitions().into_iter().enumerate().map(state).collect()
}

/// The epoch's events of a worker's keys, and what fires up to its frontier.
fn live_through(windows: &mut WindowState, epoch: Epoch, worker: WorkerIndex, peers: usize) {
    let now = EventTime::from_millis(base() + 3_600_000);
    windows.begin_turn(now, &Completeness::default());
    windows.apply(&batch(epoch, worker, peers), |_| ());
    windows.take_early();
    let mut results = Vec::new();
    while let Some(due) = windows.next_due(frontier(epoch)) {
        while !windows.fire(due, now, 1_000, &mut results) {}
    }
    windows.take_early();
    windows.purge(frontier(epoch));
}

fn base() -> i64 {
    "2026-09-21T14:13:00Z".parse::<DateTime<Utc>>().expect("a time").timestamp_millis()
}

pub fn frontier(epoch: Epoch) -> EventTime {
    EventTime::from_millis(base() + epoch.number() as i64 * ROWS * 1_000 - 10_000)
}

/// The last two rows are late for the frontier that comes after the epoch's.
fn batch(epoch: Epoch, worker: WorkerIndex, peers: usize) -> RowBatch {
    let keys: Vec<GroupingKey> = MODELS.map(|model| GroupingKey::from_fields(&[("model", model)])).into();
    let mine: Vec<usize> = (0..keys.len()).filter(|key| keys[*key].key_group().owner(peers) == worker).collect();
    let mut batch = RowBatch { receiver: worker, generation: 1, ..RowBatch::default() };
    batch.fields = ["latency_ms", "cost_usd"].map(Arc::from).into();
    batch.values = vec![Vec::new(); 2];
    if epoch == Epoch::new(1) {
        let entry = |(id, key): (usize, &usize)| DictionaryEntry { id: id as u32, key: keys[*key].as_json().into() };
        batch.dictionary = mine.iter().enumerate().map(entry).collect();
    }
    for row in 0..ROWS {
        let number = (epoch.number() as i64 - 1) * ROWS + row;
        let key = (number * 7 % 11 % 6) as usize;
        let Some(id) = mine.iter().position(|own| *own == key) else { continue };
        let is_late = row >= ROWS - 2;
        if is_late {
            let watermark = EventTime::from_millis(frontier(epoch).as_millis() + 5_000);
            let late = Late { watermark, refused_by: DefinitionSet::NONE };
            batch.late.push(LateRow { row: batch.times.len() as u32, late });
        }
        batch.times.push(base() + if is_late { number * 1_000 - 35_000 } else { number * 1_000 });
        batch.keys.push(id as u32);
        batch.values[0].push((number * 37 % 101) as f64 / 4.0);
        batch.values[1].push(if number % 2 == 0 { number as f64 * 0.001 } else { f64::NAN });
    }
    batch
}

pub fn cut(epoch: Epoch, worker: WorkerIndex) -> PartitionCut {
    let mut disorder = Disorder::default();
    (0..epoch.number() as i64 * 50).for_each(|event| disorder.record(Span::from_millis(event * 3), event > 40));
    PartitionCut {
        name: PartitionName { topic: "feedback-events".into(), partition: worker.0 as i32 },
        next: Offset(epoch.number() as i64 * 50),
        max_seen: EventTime::from_millis(base() + epoch.number() as i64 * ROWS * 1_000),
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

/// What a worker writes at the end of an epoch apart from windows: its cut, what it has delivered and what it has not.
pub fn changes(epoch: Epoch, worker: WorkerIndex) -> Changes {
    let mut changes = Changes::default();
    put_cut(&mut changes, &cut(epoch, worker));
    if worker.0 == 0 {
        let before = Epoch::new(epoch.number().saturating_sub(1));
        delete_outbox(&mut changes, chunk(before).0);
        let (key, chunk) = chunk(epoch);
        put_outbox(&mut changes, key, &chunk);
    }
    changes
}

pub fn manifest(epoch: Epoch, snapshots: Vec<WorkerSnapshot>) -> Manifest {
    assert_eq!(FORMAT_VERSION, 1);
    let shard = Shard { sink: 0, process: 0 };
    let file = SinkFile { path: PathBuf::from("results.jsonl"), length: 1_234 };
    let summary = |definition: WindowDefinition| DefinitionSummary {
        aggregation: AggregationSummary::of(&plan(&definition)),
        name: definition.name.as_deref().map(str::to_owned),
    };
    Manifest {
        epoch,
        job: "feedback".into(),
        generation: Generation(3),
        created_at: "2026-09-21T14:13:19.831Z".parse().expect("a time"),
        program: "processor 0.1.0".into(),
        processes: 1,
        part: None,
        workers: snapshots.len() as u32,
        key_groups: 256,
        fingerprint: JobFingerprint::default().with("windows", "tumbling 60s").with("event.key", "[data.model]"),
        definitions: definitions().into_iter().map(summary).collect(),
        frontier: frontier(epoch),
        max_out_of_orderness: Span::from_secs(10),
        finished: false,
        snapshots,
        sink_names: SinkNames::default(),
        sinks: vec![SinkShard { shard, file: Some(file), outbox_chunks: 1 }],
        transactional_shards: [shard].into(),
    }
}
