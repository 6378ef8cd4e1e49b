//! Rows that are parsed already, against the same accumulators in a plain loop with a hash map.

use super::files::bench_config;
use super::measure::{Table, cpu, in_turn};
use llm_optimizer_processor::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan};
use llm_optimizer_processor::config::{ProcessorConfig, WindowKind};
use llm_optimizer_processor::error::ProcessorResult;
use llm_optimizer_processor::event::{
    BadRecord, Decoded, Decoder, FieldIndex, GroupingKey, Offset, PartitionName, RowColumns, RowScratch, WorkerIndex,
};
use llm_optimizer_processor::runtime::{Input, InputContext, Job, SinkPlan, Summary, Topology};
use llm_optimizer_processor::sink::ResultValue;
use llm_optimizer_processor::source::{Intake, KeyAddresses, PartitionSlot, Polled, Source};
use llm_optimizer_processor::time::{EventTime, Span};
use llm_optimizer_processor::window::Naming;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

const ROWS: usize = 5_000_000;
const WINDOW_MILLIS: i64 = 60_000;

/// A parsed row.
#[derive(Clone, Copy)]
pub struct Row {
    pub time: i64,
    pub key: u64,
    pub value: f64,
}

pub fn run(table: &mut Table) {
    for keys in [48u64, 10_000] {
        if !table.wants(&format!("rows-{keys}")) {
            continue;
        }
        let rows = Arc::new(rows(keys));
        let (floor, time) = in_turn(|| cpu(|| plain_loop(&rows)), || cpu(|| processor(&rows)));
        let name = format!("rows already parsed -> results, 1 worker, {keys} keys (CPU)");
        table.ratio(&name, floor, time, ROWS as u64, ">= 0.85");
    }
}

/// Two minutes of events each million rows, up to 2 s out of order, latencies over two decades.
fn rows(keys: u64) -> Vec<Row> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    (0..ROWS as i64)
        .map(|index| Row {
            time: 1_700_000_000_000 + index * 120_000 / 1_000_000 - random.random_range(0..2_000),
            key: random.random_range(0..keys),
            value: 50.0 * (1.0 + 99.0 * random.random::<f64>().powi(3)),
        })
        .collect()
}

fn plan() -> Arc<AggregatePlan> {
    AggregatePlan::everything()
}

/// The floor: one hash map from window and key to an accumulator; a window's results when it is over.
fn plain_loop(rows: &[Row]) {
    let mut store = AccumulatorStore::new(plan());
    let mut map: HashMap<(i64, u64), AccumulatorId, foldhash::fast::FixedState> = HashMap::default();
    let mut results: Vec<ResultValue> = Vec::new();
    for row in rows {
        let window = row.time.div_euclid(WINDOW_MILLIS);
        let id = *map.entry((window, row.key)).or_insert_with(|| store.create());
        store.add(id, row.value);
    }
    for id in map.values() {
        results.clear();
        store.result(*id, &mut results);
        black_box(&results);
    }
}

/// The processor, from the intake on.
fn processor(rows: &Arc<Vec<Row>>) {
    let rows = Arc::clone(rows);
    let summary = run_rows((0..rows.len()).map(move |index| rows[index]), WINDOW_MILLIS / 1000);
    assert_eq!(summary.events, ROWS as u64);
}

/// Runs rows through the processor, tumbling windows of so many seconds, all aggregates, nobody taking the results.
pub fn run_rows(rows: impl Iterator<Item = Row> + Send + 'static, window_secs: i64) -> Summary {
    let windows = WindowKind::tumbling(Span::from_millis(window_secs * 1000));
    run_rows_in(rows, |config| config.windows.kind = windows)
}

/// The same with what `change` makes of the configuration.
pub fn run_rows_in(
    rows: impl Iterator<Item = Row> + Send + 'static,
    change: impl FnOnce(&mut ProcessorConfig),
) -> Summary {
    let mut config = bench_config("[stdout]");
    change(&mut config);
    let rows = Mutex::new(Some(Box::new(rows) as Rows));
    let only = move |_| rows.lock().expect("nobody panicked").take().expect("there is one worker");
    run_rows_on(&Topology::single(NonZeroUsize::MIN), config, only)
}

/// The same on this process's workers of a topology, each with rows of its own.
pub fn run_rows_on(
    topology: &Topology,
    config: ProcessorConfig,
    rows: impl Fn(WorkerIndex) -> Rows + Send + Sync + 'static,
) -> Summary {
    let input = Box::new(RowInput(Box::new(rows)));
    let job = Job::new(config, input, vec![plan()], Naming::Bare, vec!["value".into()], SinkPlan::Given(Vec::new()));
    job.expect("a job").run(topology).expect("the job runs")
}

/// What a worker reads.
pub type Rows = Box<dyn Iterator<Item = Row> + Send>;

struct RowInput(Box<dyn Fn(WorkerIndex) -> Rows + Send + Sync>);

impl Input for RowInput {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let (worker, rows) = (context.worker, (self.0)(context.worker));
        let (keys, columns) = (KeyAddresses::default(), RowColumns::default());
        let source = RowSource { worker, rows, next: 0, slot: None, keys, columns };
        Ok((Box::new(source), Box::new(Keys { fields: ["value".into()] })))
    }
}

struct RowSource {
    worker: WorkerIndex,
    rows: Rows,
    next: i64,
    slot: Option<PartitionSlot>,
    keys: KeyAddresses<u64>,
    columns: RowColumns,
}

impl Source for RowSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        let slot = *self.slot.get_or_insert_with(|| {
            let name = PartitionName { topic: "rows".into(), partition: self.worker.0 as i32 };
            let slot = intake.open_partition(name, EventTime::MIN);
            intake.set_ready();
            slot
        });
        self.columns.clear();
        for row in self.rows.by_ref().take(max_records) {
            let key = self.keys.of(intake, row.key, |key| key.to_le_bytes().to_vec());
            self.columns.push(EventTime::from_millis(row.time), key, &[(FieldIndex(0), row.value)]);
        }
        let polled = self.columns.len();
        if polled == 0 {
            intake.close_partition(slot);
            return Ok(Polled::Finished);
        }
        intake.rows(slot, Offset(self.next), &self.columns, &mut |_| Vec::new());
        self.next += polled as i64;
        Ok(Polled::Records(polled))
    }
}

/// Names keys and fields; there is nothing to decode.
struct Keys {
    fields: [Arc<str>; 1],
}

impl Decoder for Keys {
    fn decode(&mut self, _: &[u8], _: &mut RowScratch) -> Result<Decoded, BadRecord> {
        unreachable!("the rows are parsed already")
    }

    fn render_key(&self, encoded: &[u8]) -> GroupingKey {
        let number = u64::from_le_bytes(encoded.try_into().expect("eight bytes"));
        GroupingKey::from_fields(&[("k", number.to_string())])
    }

    fn fields(&self) -> &[Arc<str>] {
        &self.fields
    }
}
