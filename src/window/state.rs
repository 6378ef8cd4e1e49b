//! The windows of one worker: what they hold, when they fire, when they are forgotten.
//!
//! The model: rows go in by [`WindowState::apply`]; [`WindowState::next_due`] says what the frontier has made due, in the order
//! of time; [`WindowState::fire`] turns it into results, some at a time; [`WindowState::purge`] forgets what can no longer
//! change. No I/O, no timely, no clock: the operator around it has those.
//!
//! Contracts: a row's window has not been purged (the source judged the row against a watermark that the frontier has not
//! passed); nothing is purged that is still due.

use super::assigner::Windowing;
use super::entries::{EntryTable, SliceEntries};
use super::keys::{KeySlot, KeyTable};
use super::names::{NameTable, Naming};
use super::refinement::{Refinement, RefinementStash};
use crate::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan};
use crate::event::{RowBatch, WorkerIndex};
use crate::exchange::ReceiverDictionary;
use crate::sink::{Firing, ResultOp, ResultRow, ResultValue, TimeWindow};
use crate::time::EventTime;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the windows of a job are made of.
#[derive(Clone)]
pub struct WindowStateSettings {
    /// The windows.
    pub windowing: Windowing,
    /// The aggregates.
    pub plan: Arc<AggregatePlan>,
    /// The names of results.
    pub naming: Naming,
    /// The names of the value fields, where they are configured.
    pub fields: Vec<Arc<str>>,
}

/// Something that the frontier has made due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The window that ends here.
    Window {
        /// Its end.
        end: EventTime,
    },
    /// The late rows that were judged against this watermark.
    Refinements {
        /// The watermark.
        watermark: EventTime,
    },
}

impl Due {
    /// The time of its results in the dataflow.
    pub fn time(self) -> EventTime {
        match self {
            Due::Window { end } => end,
            Due::Refinements { watermark } => watermark,
        }
    }
}

/// Counts for metrics, since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    /// Results of windows that fired.
    pub fired: u64,
    /// Results that refined another.
    pub refined: u64,
}

struct Slice {
    window: TimeWindow,
    entries: SliceEntries,
    fired: bool,
}

/// The windows of one worker.
pub struct WindowState {
    settings: WindowStateSettings,
    names: NameTable,
    keys: KeyTable,
    senders: HashMap<WorkerIndex, Sender>,
    fields: Vec<Arc<str>>,
    /// The indices of the fields, by name: which field came first depends on which worker was faster.
    fields_by_name: Vec<usize>,
    /// One a field; an entry has the same id in each.
    stores: Vec<AccumulatorStore>,
    entries: EntryTable,
    /// By end, so that what is due comes first.
    slices: BTreeMap<EventTime, Slice>,
    refinements: RefinementStash,
    firing: Option<InProgress>,
    counts: WindowCounts,
    ids: Vec<AccumulatorId>,
}

#[derive(Default)]
struct Sender {
    dictionary: ReceiverDictionary<KeySlot>,
    /// The sender's value columns, as indices into the fields here.
    fields: Vec<usize>,
}

/// A firing that is not through, because its results are taken some at a time.
struct InProgress {
    due: Due,
    firing: Firing,
    results: Vec<(TimeWindow, KeySlot, AccumulatorId)>,
}

impl WindowState {
    /// Without a window.
    pub fn new(settings: WindowStateSettings) -> Self {
        let mut state = Self {
            names: NameTable::new(settings.naming, settings.plan.names().to_vec()),
            keys: KeyTable::default(),
            senders: HashMap::new(),
            fields: Vec::new(),
            fields_by_name: Vec::new(),
            stores: Vec::new(),
            entries: EntryTable::default(),
            slices: BTreeMap::new(),
            refinements: RefinementStash::default(),
            firing: None,
            counts: WindowCounts::default(),
            ids: Vec::new(),
            settings,
        };
        for field in state.settings.fields.clone() {
            state.field(&field);
        }
        state
    }

    /// Puts a batch into its windows. `new_output_time` is told each time at which results may come that were not expected
    /// before.
    pub fn apply(&mut self, batch: &RowBatch, mut new_output_time: impl FnMut(EventTime)) {
        batch.debug_check();
        self.learn(batch);
        let refinements = self.stash_refinements(batch, &mut new_output_time);
        self.find_entries(batch, &refinements, &mut new_output_time);
        self.add_values(batch, &refinements);
    }

    /// Takes in what a batch says of keys and fields.
    fn learn(&mut self, batch: &RowBatch) {
        let sender = self.senders.entry(batch.sender).or_default();
        for key in sender.dictionary.enter(batch.generation) {
            self.keys.release(key);
        }
        for entry in &batch.dictionary {
            sender.dictionary.push(entry.id, self.keys.intern(entry.grouping_key()));
        }
        for index in sender.fields.len()..batch.fields.len() {
            let field = self.field(&batch.fields[index]);
            self.senders.entry(batch.sender).or_default().fields.push(field);
        }
    }

    /// The index of a value field, which is new if it was not known.
    fn field(&mut self, name: &Arc<str>) -> usize {
        if let Some(index) = self.fields.iter().position(|known| known == name) {
            return index;
        }
        let place = self.fields_by_name.partition_point(|known| self.fields[*known] < *name);
        self.fields_by_name.insert(place, self.fields.len());
        self.fields.push(Arc::clone(name));
        let mut store = AccumulatorStore::new(Arc::clone(&self.settings.plan));
        store.grow_to(self.entries.capacity());
        self.stores.push(store);
        self.fields.len() - 1
    }

    /// Puts aside the rows whose window had ended by their own partition's watermark. Returns their indices, ascending.
    fn stash_refinements(&mut self, batch: &RowBatch, new_output_time: &mut impl FnMut(EventTime)) -> Vec<u32> {
        let mut stashed = Vec::new();
        for late in &batch.late {
            let row = late.row as usize;
            let time = EventTime::from_millis(batch.times[row]);
            if self.settings.windowing.slice(time).end > late.watermark {
                continue;
            }
            let sender = &self.senders[&batch.sender];
            let key = sender.dictionary.keys()[batch.keys[row] as usize];
            let values = batch.values.iter().zip(&sender.fields);
            let values = values.map(|(column, field)| (*field, column[row])).filter(|(_, value)| !value.is_nan());
            let refinement = Refinement { time, key, values: values.collect() };
            self.keys.retain(key);
            if self.refinements.push(late.watermark, refinement) {
                new_output_time(late.watermark);
            }
            stashed.push(late.row);
        }
        stashed
    }

    /// Finds or makes the entry of each row that is not in `skip`.
    fn find_entries(&mut self, batch: &RowBatch, skip: &[u32], new_output_time: &mut impl FnMut(EventTime)) {
        let Self { ids, senders, slices, settings, keys, entries, stores, .. } = self;
        ids.clear();
        ids.reserve(batch.len());
        let dictionary = senders[&batch.sender].dictionary.keys();
        let mut skip = skip.iter().map(|row| *row as usize).peekable();
        let mut row = 0;
        while row < batch.len() {
            if skip.peek() == Some(&row) {
                skip.next();
                row += 1;
                continue;
            }
            let window = settings.windowing.slice(EventTime::from_millis(batch.times[row]));
            let slice = slices.entry(window.end).or_insert_with(|| {
                new_output_time(window.end);
                Slice { window, entries: SliceEntries::default(), fired: false }
            });
            // Most rows are of the same slice as the row before, and few batches have rows to skip.
            let end = skip.peek().copied().unwrap_or(batch.len());
            let span = window.start.as_millis()..window.end.as_millis();
            let rows = batch.times[row..end].iter().zip(&batch.keys[row..end]);
            for (_, key) in rows.take_while(|(time, _)| span.contains(time)) {
                let key = dictionary[*key as usize];
                let id = match slice.entries.get(key) {
                    Some(id) => id,
                    None => add_entry(slice, key, keys, entries, stores),
                };
                ids.push(id);
                row += 1;
            }
        }
    }

    /// Adds the values of the rows that are not in `skip` to the entries found.
    fn add_values(&mut self, batch: &RowBatch, skip: &[u32]) {
        let sender = &self.senders[&batch.sender];
        for (column, field) in batch.values.iter().zip(&sender.fields) {
            let store = &mut self.stores[*field];
            if skip.is_empty() {
                store.add_column(&self.ids, column);
            } else {
                store.add_column(&self.ids, &without_rows(column, skip));
            }
        }
    }

    /// What is due next when the frontier is here: what is in progress, else the earliest; a window before its refinements.
    pub fn next_due(&self, frontier: EventTime) -> Option<Due> {
        if let Some(firing) = &self.firing {
            return Some(firing.due);
        }
        let window = self.slices.iter().find(|(_, slice)| !slice.fired).map(|(end, _)| *end);
        let window = window.filter(|end| *end <= frontier);
        match (window, self.refinements.due(frontier)) {
            (Some(end), Some(watermark)) if watermark < end => Some(Due::Refinements { watermark }),
            (Some(end), _) => Some(Due::Window { end }),
            (None, Some(watermark)) => Some(Due::Refinements { watermark }),
            (None, None) => None,
        }
    }

    /// Whether something is or will be due at this time, as far as is known.
    pub fn is_expected_at(&self, time: EventTime) -> bool {
        self.slices.get(&time).is_some_and(|slice| !slice.fired) || self.refinements.has(time)
    }

    /// Appends up to `limit` results of what is due. Returns whether that was all of it.
    pub fn fire(&mut self, due: Due, fired_at: EventTime, limit: usize, results: &mut Vec<ResultRow>) -> bool {
        let mut progress = match self.firing.take() {
            Some(progress) => progress,
            None => self.begin(due),
        };
        debug_assert_eq!(progress.due, due, "what is due is fired to its end before the next");
        for _ in 0..limit {
            let Some((window, key, id)) = progress.results.pop() else { break };
            let result = self.result(window, key, id, progress.firing, fired_at);
            results.push(result);
        }
        let done = progress.results.is_empty();
        if !done {
            self.firing = Some(progress);
        }
        done
    }

    fn begin(&mut self, due: Due) -> InProgress {
        match due {
            Due::Window { end } => {
                let slice = self.slices.get_mut(&end).expect("a window that is due is there");
                slice.fired = true;
                let window = slice.window;
                let results = slice.entries.iter().map(|(key, id)| (window, key, id)).collect();
                InProgress { due, firing: Firing::OnTime, results }
            }
            Due::Refinements { watermark } => {
                let results = self.refine(watermark);
                InProgress { due, firing: Firing::Late, results }
            }
        }
    }

    /// Adds the late rows of a watermark to their windows. Returns what changed, each once.
    fn refine(&mut self, watermark: EventTime) -> Vec<(TimeWindow, KeySlot, AccumulatorId)> {
        let mut changed = Vec::new();
        for late in self.refinements.take(watermark) {
            let window = self.settings.windowing.slice(late.time);
            // No slice: no key had an event in this window before it ended.
            let slice = self.slices.entry(window.end).or_insert_with(|| Slice {
                window,
                entries: SliceEntries::default(),
                fired: true,
            });
            debug_assert!(slice.fired, "a window fires before its refinements");
            let id = match slice.entries.get(late.key) {
                Some(id) => id,
                None => add_entry(slice, late.key, &mut self.keys, &mut self.entries, &mut self.stores),
            };
            for (field, value) in late.values {
                self.stores[field].add(id, value);
            }
            self.keys.release(late.key);
            changed.push((window, late.key, id));
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    fn result(
        &mut self,
        window: TimeWindow,
        key: KeySlot,
        id: AccumulatorId,
        firing: Firing,
        fired_at: EventTime,
    ) -> ResultRow {
        let shown: Vec<usize> = match self.names.naming() {
            Naming::Bare | Naming::Qualified => (0..self.fields.len()).collect(),
            Naming::AsTheyCome => {
                self.fields_by_name.iter().copied().filter(|field| self.stores[*field].count(id) > 0).collect()
            }
        };
        let names = self.names.names(&shown, &self.fields);
        let mut values: Vec<ResultValue> = Vec::with_capacity(names.len());
        for field in &shown {
            self.stores[*field].result(id, &mut values);
        }
        let revision = self.entries.next_revision(id);
        match firing {
            Firing::Late => self.counts.refined += 1,
            _ => self.counts.fired += 1,
        }
        let key = self.keys.key(key);
        ResultRow { window, window_name: None, key, names, values, revision, op: ResultOp::Upsert, firing, fired_at }
    }

    /// Forgets the windows whose end plus the allowed lateness the frontier has reached, once nothing is due.
    pub fn purge(&mut self, frontier: EventTime) {
        debug_assert!(self.next_due(frontier).is_none(), "what is due is fired before anything is forgotten");
        while let Some(entry) = self.slices.first_entry() {
            if entry.key().saturating_add(self.settings.windowing.allowed_lateness()) > frontier {
                break;
            }
            for (key, id) in entry.remove().entries.iter() {
                self.keys.release(key);
                self.stores.iter_mut().for_each(|store| store.clear(id));
                self.entries.remove(id);
            }
        }
    }

    /// Windows that are held, counted per key.
    pub fn open_windows(&self) -> usize {
        self.entries.len()
    }

    /// Windows that have not fired, counted per key.
    pub fn unfired_windows(&self) -> usize {
        self.slices.values().filter(|slice| !slice.fired).map(|slice| slice.entries.len()).sum()
    }

    /// Keys that are held.
    pub fn known_keys(&self) -> usize {
        self.keys.len()
    }

    /// Late rows that wait for the frontier.
    pub fn waiting_refinements(&self) -> usize {
        self.refinements.len()
    }

    /// Bytes of the accumulators.
    pub fn heap_bytes(&self) -> usize {
        self.stores.iter().map(AccumulatorStore::heap_bytes).sum()
    }

    /// What was fired since the last call.
    pub fn take_counts(&mut self) -> WindowCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Makes the entry of a key in a slice.
#[cold]
fn add_entry(
    slice: &mut Slice,
    key: KeySlot,
    keys: &mut KeyTable,
    entries: &mut EntryTable,
    stores: &mut [AccumulatorStore],
) -> AccumulatorId {
    keys.retain(key);
    let id = entries.create();
    stores.iter_mut().for_each(|store| store.grow_to(id.index() + 1));
    slice.entries.insert(key, id);
    id
}

/// A column without the rows of these indices, which ascend.
fn without_rows(column: &[f64], rows: &[u32]) -> Vec<f64> {
    let mut rows = rows.iter().map(|row| *row as usize).peekable();
    let keep = |(index, value): (usize, &f64)| {
        if rows.peek() == Some(&index) {
            rows.next();
            return None;
        }
        Some(*value)
    };
    column.iter().enumerate().filter_map(keep).collect()
}
