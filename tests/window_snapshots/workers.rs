//! Workers with windows, as the operator drives them; with stores of their own, which outlive them.

use crate::plan::{FIELDS, JobPlan, PARTITIONS, Plan, Row, Step};
use llm_optimizer_processor::checkpoint::{Changes, RecordKey, Table};
use llm_optimizer_processor::event::{
    DefinitionSet, DictionaryEntry, GroupingKey, Late, LateRow, RowBatch, WorkerIndex,
};
use llm_optimizer_processor::sink::ResultRow;
use llm_optimizer_processor::time::EventTime;
use llm_optimizer_processor::window::{ColdStore, Completeness, MemoryLimit, Naming, WindowState};
use llm_optimizer_processor::{ProcessorError, ProcessorResult};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Records by their keys.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A worker's store.
#[derive(Default)]
pub struct Store(pub RefCell<Records>);

impl ColdStore for Store {
    fn get(&self, key: &[u8]) -> ProcessorResult<Option<Vec<u8>>> {
        Ok(self.0.borrow().get(key).cloned())
    }

    fn put(&self, records: &Changes) -> ProcessorResult<()> {
        apply(records, &mut self.0.borrow_mut());
        Ok(())
    }

    fn flush(&self) -> ProcessorResult<()> {
        Ok(())
    }
}

/// Makes changes in records.
pub fn apply(changes: &Changes, records: &mut Records) {
    for change in changes.iter() {
        match change.value {
            Some(value) => drop(records.insert(change.key.to_vec(), value.to_vec())),
            None => drop(records.remove(change.key)),
        }
    }
}

/// All records of a state.
pub fn full_snapshot(state: &mut WindowState) -> Records {
    let mut changes = Changes::default();
    state.change_all();
    state.begin_snapshot();
    assert!(state.write_snapshot(&mut changes, usize::MAX).unwrap());
    let mut records = Records::new();
    apply(&changes, &mut records);
    records
}

/// One worker.
pub struct Worker {
    pub state: WindowState,
    pub store: Rc<Store>,
    /// The snapshot under way, as far as it is written.
    changes: Changes,
    is_written: bool,
    /// When the operator has capabilities for results.
    held: BTreeSet<EventTime>,
}

impl Worker {
    pub fn new(job: &JobPlan, memory: Option<usize>) -> Self {
        let mut state = WindowState::new(job.settings());
        state.track_changes();
        let store = Rc::new(Store::default());
        if let Some(bytes) = memory {
            state.limit_memory(MemoryLimit { bytes, cold: store.clone() });
        }
        Self { state, store, changes: Changes::default(), is_written: true, held: BTreeSet::new() }
    }

    fn apply(&mut self, batch: &RowBatch) {
        let held = &mut self.held;
        self.state.apply(batch, |time| {
            held.insert(time);
        });
        self.state.wants_snapshot();
        assert!(self.state.take_error().is_none());
    }

    /// Fires all that is due, and forgets what can be.
    fn settle(&mut self, frontier: EventTime, now: EventTime, results: &mut Vec<ResultRow>) {
        self.state.ask_triggers();
        results.extend(self.state.take_early());
        while let Some(due) = self.state.next_due(frontier) {
            results.extend(self.state.take_early());
            let time = self.state.output_time(due);
            assert!(self.held.first().is_some_and(|held| *held <= time), "no capability for {due:?}: {:?}", self.held);
            while !self.state.fire(due, now, 3, results) {}
        }
        results.extend(self.state.take_early());
        match self.state.next_output_time() {
            None => self.held.clear(),
            Some(next) => {
                let before = self.held.len();
                self.held.retain(|time| *time >= next);
                if self.held.len() < before {
                    self.held.insert(next);
                }
            }
        }
        self.state.purge(frontier);
        assert!(self.state.take_error().is_none());
    }

    fn begin_snapshot(&mut self) {
        self.state.begin_snapshot();
        self.is_written = false;
    }

    fn write_snapshot(&mut self, portion: usize) {
        if !self.is_written {
            self.is_written = self.state.write_snapshot(&mut self.changes, portion).unwrap();
        }
    }

    fn store_snapshot(&mut self) {
        apply(&std::mem::take(&mut self.changes), &mut self.store.0.borrow_mut());
        self.state.snapshot_stored();
    }
}

/// The dictionaries of one partition, by receiver.
#[derive(Clone, Default)]
struct Sender {
    generation: u32,
    ids: Vec<BTreeMap<String, u32>>,
    fields: Vec<&'static str>,
}

fn key_of(name: &str) -> GroupingKey {
    GroupingKey::from_fields(&[("k", name)])
}

/// All workers.
pub struct Workers {
    pub workers: Vec<Worker>,
    senders: [Sender; PARTITIONS],
    naming: Naming,
}

impl Workers {
    pub fn new(job: &JobPlan, count: usize, memory: Option<usize>) -> Self {
        let sender = Sender { ids: vec![BTreeMap::new(); count], ..Sender::default() };
        Self {
            workers: (0..count).map(|_| Worker::new(job, memory)).collect(),
            senders: [sender.clone(), sender],
            naming: job.naming,
        }
    }

    /// Workers that go on from these records.
    pub fn restored(job: &JobPlan, count: usize, memory: Option<usize>, records: &[Records]) -> ProcessorResult<Self> {
        let mut workers = Self::new(job, count, memory);
        for (index, worker) in workers.workers.iter_mut().enumerate() {
            for (key, value) in records.iter().flatten() {
                let group = RecordKey::split_group(key).filter(|_| Table::of(key) != Some(Table::Window));
                if group.is_none_or(|(_, group, _)| group.owner(count).0 as usize == index) {
                    worker.state.restore(key, value)?;
                }
            }
            worker.state.finish_restore()?;
            worker.held.extend(worker.state.next_output_time());
        }
        Ok(workers)
    }

    /// A batch of a partition to each worker.
    fn batches(&mut self, partition: usize, rows: &[Row]) -> Vec<RowBatch> {
        let sender = &mut self.senders[partition];
        if self.naming == Naming::AsTheyCome {
            for row in rows {
                let present = (0..2).filter(|field| row.values[*field].is_some()).map(|field| FIELDS[field]);
                for field in present {
                    if !sender.fields.contains(&field) {
                        sender.fields.push(field);
                    }
                }
            }
        } else if sender.fields.is_empty() {
            sender.fields = FIELDS[..if self.naming == Naming::Bare { 1 } else { 2 }].to_vec();
        }
        let count = sender.ids.len();
        let mut batches: Vec<RowBatch> = (0..count)
            .map(|receiver| RowBatch {
                sender: WorkerIndex(partition as u32),
                receiver: WorkerIndex(receiver as u32),
                generation: sender.generation,
                fields: sender.fields.iter().map(|field| Arc::from(*field)).collect(),
                values: vec![Vec::new(); sender.fields.len()],
                ..RowBatch::default()
            })
            .collect();
        for row in rows {
            let key = key_of(&row.key);
            let receiver = key.key_group().owner(count).0 as usize;
            let (batch, ids) = (&mut batches[receiver], &mut sender.ids[receiver]);
            let next = ids.len() as u32;
            let id = *ids.entry(row.key.clone()).or_insert_with(|| {
                batch.dictionary.push(DictionaryEntry { id: next, key: key.as_json().to_owned() });
                next
            });
            if let Some(watermark) = row.late {
                let late = Late { watermark, refused_by: DefinitionSet::NONE };
                batch.late.push(LateRow { row: batch.times.len() as u32, late });
            }
            batch.times.push(row.time);
            batch.keys.push(id);
            for (column, field) in batch.values.iter_mut().zip(&sender.fields) {
                let value = FIELDS.iter().position(|known| known == field).and_then(|field| row.values[field]);
                column.push(value.unwrap_or(f64::NAN));
            }
        }
        batches
    }

    /// Lets a step happen, as the one of this number. `between` is called after each batch.
    pub fn step(
        &mut self,
        number: usize,
        step: &Step,
        watermarks: [EventTime; PARTITIONS],
        results: &mut Vec<ResultRow>,
        mut between: impl FnMut(&mut Worker),
    ) {
        let now = EventTime::from_millis(number as i64 * 10);
        let completeness = Completeness::new(watermarks.to_vec());
        self.workers.iter_mut().for_each(|worker| worker.state.begin_turn(now, &completeness));
        match step {
            Step::Rows(partition, rows) => {
                let batches = self.batches(*partition, rows);
                for (worker, batch) in self.workers.iter_mut().zip(&batches).filter(|(_, batch)| !batch.is_empty()) {
                    worker.apply(batch);
                    between(worker);
                }
            }
            Step::Generation(partition) => {
                let sender = &mut self.senders[*partition];
                sender.generation += 1;
                sender.ids.iter_mut().for_each(BTreeMap::clear);
            }
            Step::Watermarks(_) => {}
        }
        let frontier = watermarks.into_iter().min().unwrap();
        self.workers.iter_mut().for_each(|worker| worker.settle(frontier, now, results));
    }
}

fn watermarks_after(steps: &[Step]) -> Vec<[EventTime; PARTITIONS]> {
    let mut now = [EventTime::MIN; PARTITIONS];
    let after = steps.iter().map(|step| {
        if let Step::Watermarks(watermarks) = step {
            now = *watermarks;
        }
        now
    });
    after.collect()
}

/// Results without an order.
fn sorted(results: impl IntoIterator<Item = ResultRow>) -> Vec<String> {
    let mut texts: Vec<String> = results.into_iter().map(|row| format!("{row:?}")).collect();
    texts.sort();
    texts
}

/// What one worker makes of the steps that never takes a snapshot.
pub fn undisturbed(job: &JobPlan, steps: &[Step]) -> Vec<String> {
    let mut workers = Workers::new(job, 1, None);
    workers.workers[0].state = WindowState::new(job.settings());
    let (mut results, watermarks) = (Vec::new(), watermarks_after(steps));
    for (number, step) in steps.iter().enumerate() {
        workers.step(number, step, watermarks[number], &mut results, |_| {});
    }
    assert_eq!((workers.workers[0].state.open_windows(), workers.workers[0].state.unfired_windows()), (0, 0));
    sorted(results)
}

/// What happened in a run with snapshots and losses.
#[derive(Default)]
pub struct Happened {
    pub results: Vec<String>,
    pub snapshots: usize,
    pub restored: usize,
    pub cold: usize,
}

/// What workers make of the steps that take snapshots and are lost as planned. In each snapshot's records there must be what twins
/// write all at once that have kept nothing in mind and nothing out of memory.
pub fn disturbed(plan: &Plan, steps: &[Step]) -> Result<Happened, ProcessorError> {
    let Plan { job, run, .. } = plan;
    let watermarks = watermarks_after(steps);
    let mut happened = Happened::default();
    let mut results: Vec<(usize, ResultRow)> = Vec::new();
    let mut workers = Workers::new(job, run.workers, run.memory);
    let mut twins = Workers::new(job, run.workers, None);
    let mut losses = run.losses.clone();
    // The last snapshot that is stored: the step after which it was begun, and its records.
    let mut last: Option<(usize, Vec<Records>)> = None;
    // The one under way, with what is right.
    let mut under_way: Option<(usize, Vec<Records>)> = None;
    let mut number = 0;
    while number < steps.len() {
        let (mut made, mut of_twins) = (Vec::new(), Vec::new());
        workers
            .step(number, &steps[number], watermarks[number], &mut made, |worker| worker.write_snapshot(run.portion));
        twins.step(number, &steps[number], watermarks[number], &mut of_twins, |_| {});
        assert_eq!(sorted(made.clone()), sorted(of_twins), "nobody sees snapshots");
        results.extend(made.into_iter().map(|row| (number, row)));
        workers.workers.iter_mut().for_each(|worker| worker.write_snapshot(run.portion));
        happened.cold += workers.workers.iter().map(|worker| worker.state.cold_windows()).sum::<usize>();
        if workers.workers.iter().all(|worker| worker.is_written)
            && let Some((step, right)) = under_way.take()
        {
            workers.workers.iter_mut().for_each(Worker::store_snapshot);
            let records: Vec<Records> = workers.workers.iter().map(|worker| worker.store.0.borrow().clone()).collect();
            assert_eq!(records, right, "what is stored of the snapshot after step {step}");
            last = Some((step, records));
            happened.snapshots += 1;
        }
        if under_way.is_none() && run.snapshots.contains(&number) {
            workers.workers.iter_mut().for_each(Worker::begin_snapshot);
            under_way = Some((number, twins.workers.iter_mut().map(|twin| full_snapshot(&mut twin.state)).collect()));
        }
        match losses.iter().position(|(step, _)| *step == number) {
            None => number += 1,
            Some(place) => {
                let (_, count) = losses.remove(place);
                under_way = None;
                let (next, records) = last.as_ref().map_or((0, &[][..]), |(step, records)| (step + 1, &records[..]));
                number = next;
                results.retain(|(step, _)| *step < next);
                workers = Workers::restored(job, count, run.memory, records)?;
                twins = Workers::restored(job, count, None, records)?;
                happened.restored += usize::from(!records.is_empty());
                // Stores are made anew: until there is a snapshot of theirs, this one is the last.
            }
        }
    }
    happened.results = sorted(results.into_iter().map(|(_, row)| row));
    Ok(happened)
}
