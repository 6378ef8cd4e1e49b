//! The windows of one definition, on one worker: what they hold, when they fire, when they are forgotten.
//!
//! The model: rows go in by [`WindowState::apply`]; [`WindowState::next_due`] says what the frontier has made due, in the order
//! of time; [`WindowState::fire`] turns it into results, some at a time; [`WindowState::purge`] forgets what can no longer
//! change. No I/O, no timely, no clock: the operator around it has those.
//!
//! Contracts: a row's window has not been purged (the source judged the row against a watermark that the frontier has not
//! passed); nothing is purged that is still due.

use super::closed::ClosedBefore;
use super::entries::{EntryTable, SliceEntries};
use super::keys::{KeySlot, KeyTable};
use super::names::{NameTable, Naming};
use super::panes::Panes;
use super::placing::{Placing, Rows};
use super::record::WaitingKind;
use super::refinement::{Refinement, RefinementStash};
use super::restore::Restoring;
use super::session_state::SessionState;
use super::sessions::SessionTable;
use super::sliding::SlidingState;
use super::snapshot::Snapshots;
use super::tables::Tables;
use super::trigger::Triggers;
use super::windowing::Windowing;
use crate::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan};
use crate::event::{DefinitionIndex, LateRow, RowBatch, WorkerIndex};
use crate::exchange::ReceiverDictionary;
use crate::sink::{Firing, ResultRow, TimeWindow};
use crate::time::EventTime;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What the windows of one definition are made of.
#[derive(Clone)]
pub struct WindowStateSettings {
    /// Which of the job's definitions.
    pub definition: DefinitionIndex,
    /// Its name; `None` where there is no other.
    pub name: Option<Arc<str>>,
    /// The windows.
    pub windowing: Windowing,
    /// The aggregates.
    pub plan: Arc<AggregatePlan>,
    /// The names of results.
    pub naming: Naming,
    /// The names of the value fields, where they are configured.
    pub fields: Vec<Arc<str>>,
    /// What an earlier run has completed.
    pub closed: ClosedBefore,
    /// What makes windows emit before their end.
    pub triggers: Triggers,
    /// Whether results take their accumulators along, for views.
    pub takes_accumulators: bool,
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
    /// Its place in the order of time.
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
    /// Early results.
    pub early: u64,
    /// Results that refined another.
    pub refined: u64,
    /// Results that were taken back.
    pub retracted: u64,
    /// Rows between two windows, in none.
    pub in_no_window: u64,
}

impl std::iter::Sum for WindowCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, counts| Self {
            fired: sum.fired + counts.fired,
            early: sum.early + counts.early,
            refined: sum.refined + counts.refined,
            retracted: sum.retracted + counts.retracted,
            in_no_window: sum.in_no_window + counts.in_no_window,
        })
    }
}

/// The entries of one slice of time.
pub(super) struct Slice {
    pub(super) window: TimeWindow,
    pub(super) entries: SliceEntries,
    /// Whether its last window has fired.
    pub(super) fired: bool,
    pub(super) in_a_window: bool,
}

impl Slice {
    pub(super) fn new(window: TimeWindow, in_a_window: bool, fired: bool) -> Self {
        Slice { window, entries: SliceEntries::default(), fired, in_a_window }
    }
}

/// The windows of one definition, on one worker.
pub struct WindowState {
    pub(super) settings: WindowStateSettings,
    pub(super) names: NameTable,
    pub(super) keys: KeyTable,
    pub(super) senders: HashMap<WorkerIndex, Sender>,
    pub(super) fields: Vec<Arc<str>>,
    /// The indices of the fields, by name: which field came first depends on which worker was faster.
    pub(super) fields_by_name: Vec<usize>,
    /// One a field; an entry has the same id in each.
    pub(super) stores: Vec<AccumulatorStore>,
    pub(super) entries: EntryTable,
    /// By end.
    pub(super) slices: BTreeMap<EventTime, Slice>,
    /// The ends of windows that will fire.
    pub(super) unfired: BTreeSet<EventTime>,
    /// Entries of slices whose last window has fired.
    pub(super) fired_entries: usize,
    /// For windows of several slices.
    pub(super) sliding: Option<SlidingState>,
    /// Where there are triggers.
    pub(super) panes: Option<Panes>,
    /// For sessions.
    pub(super) sessions: Option<SessionState>,
    pub(super) refinements: RefinementStash,
    pub(super) firing: Option<InProgress>,
    pub(super) counts: WindowCounts,
    pub(super) ids: Vec<AccumulatorId>,
    /// Windows that have ended by this are forgotten.
    pub(super) purged_until: EventTime,
    /// The same, of those that an earlier run forgot. Their late rows are refused, but for where more lateness is allowed than then.
    pub(super) forgotten: EventTime,
    pub(super) snapshots: Snapshots,
    pub(super) restoring: Restoring,
}

#[derive(Default)]
pub(super) struct Sender {
    pub(super) dictionary: ReceiverDictionary<KeySlot>,
    /// The sender's value columns, as indices into the fields here.
    fields: Vec<usize>,
}

/// A firing that is not through, because its results are taken some at a time.
pub(super) struct InProgress {
    pub(super) due: Due,
    pub(super) firing: Firing,
    pub(super) work: Vec<Work>,
    /// Results that were made and not taken yet, the next one last.
    pub(super) made: Vec<ResultRow>,
}

/// A part of a firing.
pub(super) enum Work {
    /// The result of an entry.
    Entry { window: TimeWindow, key: KeySlot, id: AccumulatorId, purges: bool },
    /// The result of a session.
    Session { window: TimeWindow, key: KeySlot, id: AccumulatorId, revision: u32, purges: bool },
    /// The result of a key, combined from the slices of the window that is firing.
    Combined { window: TimeWindow, key: KeySlot },
    /// The results of windows of a key that have fired before, by their ends, ascending.
    Again { key: KeySlot, ends: Vec<EventTime> },
}

impl WindowState {
    /// Without a window.
    pub fn new(settings: WindowStateSettings) -> Self {
        let slicing = settings.windowing.slicing();
        // A window that emits once needs no count of its results.
        let keeps_revisions = !settings.windowing.kept_after_firing().is_zero() || !settings.triggers.are_none();
        let mut state = Self {
            sessions: settings.windowing.sessions().map(|rule| SessionState::new(SessionTable::new(rule))),
            sliding: slicing
                .and_then(|slicing| slicing.windows())
                .map(|windows| SlidingState::new(windows, keeps_revisions)),
            panes: (!settings.triggers.are_none()).then(|| Panes::new(settings.triggers.clone())),
            names: NameTable::new(settings.naming, settings.plan.names().to_vec()),
            keys: KeyTable::default(),
            senders: HashMap::new(),
            fields: Vec::new(),
            fields_by_name: Vec::new(),
            stores: Vec::new(),
            entries: EntryTable::default(),
            slices: BTreeMap::new(),
            unfired: BTreeSet::new(),
            fired_entries: 0,
            refinements: RefinementStash::new(WaitingKind::Late),
            firing: None,
            counts: WindowCounts::default(),
            ids: Vec::new(),
            purged_until: EventTime::MIN,
            forgotten: EventTime::MIN,
            snapshots: Snapshots::default(),
            restoring: Restoring::default(),
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
        let delay = self.settings.windowing.delay();
        let mut new_output_time = |time: EventTime| new_output_time(time.saturating_add(delay));
        self.learn(batch);
        let refinements = self.stash_refinements(batch, &mut new_output_time);
        if self.sessions.is_some() {
            return self.apply_to_sessions(batch, &refinements, &mut new_output_time);
        }
        if self.panes.is_some() {
            return self.apply_to_panes(batch, &refinements, &mut new_output_time);
        }
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
    pub(super) fn field(&mut self, name: &Arc<str>) -> usize {
        if let Some(index) = self.fields.iter().position(|known| known == name) {
            return index;
        }
        let place = self.fields_by_name.partition_point(|known| self.fields[*known] < *name);
        self.fields_by_name.insert(place, self.fields.len());
        self.fields.push(Arc::clone(name));
        if let Some(tracking) = &mut self.entries.tracking {
            tracking.has_fields(&self.fields, &self.fields_by_name);
        }
        let mut store = AccumulatorStore::new(Arc::clone(&self.settings.plan));
        store.grow_to(self.entries.capacity());
        self.stores.push(store);
        self.fields.len() - 1
    }

    /// Puts aside the rows whose window had ended by their own partition's watermark. Returns their indices, ascending, and those
    /// of rows that came too late for this definition.
    fn stash_refinements(&mut self, batch: &RowBatch, new_output_time: &mut impl FnMut(EventTime)) -> Vec<u32> {
        let mut stashed = Vec::new();
        let windowing = self.settings.windowing;
        // A slice that holds both a row and the watermark it is behind: no window of the row has ended.
        let mut both: Option<TimeWindow> = None;
        for LateRow { row, late } in &batch.late {
            if late.refused_by.contains(self.settings.definition) {
                stashed.push(*row);
                continue;
            }
            let time = EventTime::from_millis(batch.times[*row as usize]);
            let watermark = late.watermark.saturating_sub(windowing.delay());
            if both.is_some_and(|slice| slice.start <= time && watermark < slice.end) {
                continue;
            }
            if !windowing.waits(time, watermark) {
                both = windowing.slicing().map(|_| windowing.slice(time)).filter(|slice| watermark < slice.end);
                continue;
            }
            let refinement = self.waiting_row(batch, *row as usize);
            self.keys.retain(refinement.key);
            if self.refinements.push(watermark, refinement) {
                new_output_time(watermark);
            }
            stashed.push(*row);
        }
        stashed
    }

    /// A row by itself.
    pub(super) fn waiting_row(&self, batch: &RowBatch, row: usize) -> Refinement {
        let sender = &self.senders[&batch.sender];
        let key = sender.dictionary.keys()[batch.keys[row] as usize];
        let values = batch.values.iter().zip(&sender.fields);
        let values = values.map(|(column, field)| (*field, column[row])).filter(|(_, value)| !value.is_nan());
        Refinement { time: EventTime::from_millis(batch.times[row]), key, values: values.collect(), number: 0 }
    }

    /// Finds or makes the entry of each row that is not in `skip`.
    pub(super) fn find_entries(&mut self, batch: &RowBatch, skip: &[u32], new_output_time: &mut impl FnMut(EventTime)) {
        let Self { ids, senders, slices, unfired, settings, keys, entries, stores, counts, .. } = self;
        ids.clear();
        ids.reserve(batch.len());
        let mut placing = Placing {
            windowing: &settings.windowing,
            unfired,
            tables: Tables { keys, entries, stores },
            dictionary: senders[&batch.sender].dictionary.keys(),
            new_output_time,
        };
        counts.in_no_window += placing.place(slices, Rows { times: &batch.times, keys: &batch.keys, skip }, ids);
    }

    /// Adds the values of the rows that are not in `skip` to the entries found.
    pub(super) fn add_values(&mut self, batch: &RowBatch, skip: &[u32]) {
        let Self { ids, keys, entries, stores, .. } = self;
        Tables { keys, entries, stores }.touch_all(ids);
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

    /// An entry is about to be changed.
    pub(super) fn touch(&mut self, id: AccumulatorId) {
        let Self { keys, entries, stores, .. } = self;
        Tables { keys, entries, stores }.touch(id);
    }

    /// Windows of keys that are held: of windows of several slices, the slices.
    pub fn held_windows(&self) -> usize {
        self.entries.len()
    }

    /// Keys that are held.
    pub fn known_keys(&self) -> usize {
        self.keys.len()
    }

    /// Late rows that wait for the frontier.
    pub fn waiting_refinements(&self) -> usize {
        self.refinements.len()
    }

    /// Which of the job's definitions these are.
    pub fn definition(&self) -> DefinitionIndex {
        self.settings.definition
    }

    /// Bytes of the accumulators.
    pub fn heap_bytes(&self) -> usize {
        self.stores.iter().map(AccumulatorStore::heap_bytes).sum()
    }

    /// The part of [`WindowState::heap_bytes`] that is known at once.
    pub fn column_bytes(&self) -> usize {
        self.stores.iter().map(AccumulatorStore::column_bytes).sum()
    }

    /// The part of [`WindowState::heap_bytes`] that accumulators at some places own, of all [`WindowState::places`].
    pub fn owned_bytes_within(&self, places: Range<usize>) -> usize {
        self.stores.iter().map(|store| store.owned_bytes_within(places.clone())).sum()
    }

    /// How many accumulators there is a place for.
    pub fn places(&self) -> usize {
        self.stores.iter().map(AccumulatorStore::places).max().unwrap_or(0)
    }

    /// What was fired since the last call.
    pub fn take_counts(&mut self) -> WindowCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Makes the entry of a key in a slice.
#[cold]
pub(super) fn add_entry(
    slice: &mut Slice,
    key: KeySlot,
    keys: &mut KeyTable,
    entries: &mut EntryTable,
    stores: &mut [AccumulatorStore],
) -> AccumulatorId {
    let id = Tables { keys, entries, stores }.create_in_slice(key, slice.window);
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
