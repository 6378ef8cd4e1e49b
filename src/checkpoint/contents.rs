//! What a checkpoint holds, for people and tools: records of every table, read without a configuration.
//!
//! The model: a record says what it is, but for the figures of accumulators, which the manifest's aggregates say how to read.
//! Of windows as many are kept as asked for, the first in the order of definitions, starts, ends and keys, however many there
//! are.

use super::manifest::{DefinitionSummary, Manifest};
use super::reader::SnapshotReader;
use super::{CheckpointStore, Crc32, Cuts, OutboxKey, PartitionCut, Table, read_cut, read_outbox};
use crate::aggregate::AccumulatorStore;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{DefinitionIndex, GroupingKey};
use crate::sink::{ResultValue, TimeWindow};
use crate::time::{Epoch, EventTime};
use crate::view::Fact;
use crate::view::record::ViewRecord;
use crate::view::retained::Waiting;
use crate::window::{EntryOf, EntryRecord, PaneRecord, RecordContent, RecordView, WaitingRecord};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordText<'a> {
    /// Of a window definition.
    Window(RecordView<'a>),
    /// The cut of a partition.
    Cut(PartitionCut),
    /// A chunk of results that are not delivered.
    Outbox(OutboxKey, &'a [u8]),
    /// Of views.
    View(Box<ViewRecord>),
}

/// Reads a record of any table.
pub fn read_record<'a>(key: &'a [u8], value: &'a [u8]) -> ProcessorResult<RecordText<'a>> {
    match Table::of(key) {
        Some(Table::Cut) => read_cut(key, value).map(RecordText::Cut),
        Some(Table::Outbox) => read_outbox(key, value).map(|(key, chunk)| RecordText::Outbox(key, chunk)),
        Some(Table::Fact | Table::Unclosed | Table::View) => {
            ViewRecord::read(key, value).map(|record| RecordText::View(Box::new(record)))
        }
        Some(_) => RecordView::read(key, value).map(RecordText::Window),
        None => Err(ProcessorError::State(format!("the key {} is that of no table", key.escape_ascii()))),
    }
}

/// Named results of an accumulator.
pub type FigureList = Vec<(Arc<str>, ResultValue)>;

/// Reads the figures of encoded accumulators.
pub struct Figures {
    /// By definition; `None` where only the program that wrote them can read them.
    stores: Vec<Option<AccumulatorStore>>,
}

impl Figures {
    /// Of a checkpoint.
    pub fn new(manifest: &Manifest) -> ProcessorResult<Self> {
        let store = |definition: &DefinitionSummary| {
            let plan = definition.aggregation.plan()?;
            Ok(plan.map(|plan| AccumulatorStore::new(Arc::new(plan))))
        };
        Ok(Self { stores: manifest.definitions.iter().map(store).collect::<ProcessorResult<_>>()? })
    }

    /// The figures of one accumulator; none where only the program that wrote it can read it.
    pub fn read(&mut self, definition: DefinitionIndex, encoded: &[u8]) -> ProcessorResult<FigureList> {
        let store = self
            .stores
            .get_mut(usize::from(definition.0))
            .ok_or_else(|| ProcessorError::State(format!("the manifest has no window definition {}", definition.0)))?;
        let Some(store) = store else { return Ok(Vec::new()) };
        let id = store.decode(encoded)?;
        let mut values = Vec::new();
        store.result(id, &mut values);
        store.remove(id);
        Ok(store.plan().names().iter().cloned().zip(values).collect())
    }
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those of keys whose text has this in it.
    pub key: Option<String>,
    /// How many windows, rows and panes at most, each.
    pub limit: Option<usize>,
}

impl Selection {
    fn takes(&self, key: &GroupingKey) -> bool {
        self.key.as_ref().is_none_or(|text| key.as_json().contains(text.as_str()))
    }
}

/// The accumulators of one key in one slice or session.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryContent {
    /// Of which definition.
    pub definition: DefinitionIndex,
    /// The key.
    pub key: GroupingKey,
    /// Its bounds and revision.
    pub of: EntryOf,
    /// Each field with its encoded accumulator.
    pub fields: Vec<(Arc<str>, Vec<u8>)>,
}

/// A row that waits for the frontier.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingContent {
    /// Of which definition.
    pub definition: DefinitionIndex,
    /// When it happened.
    pub time: EventTime,
    /// The key.
    pub key: GroupingKey,
    /// The time for which it waits.
    pub until: EventTime,
    /// Whether it is late.
    pub is_late: bool,
    /// Each field with its value.
    pub values: Vec<(Arc<str>, f64)>,
}

/// What a window definition is apart from its keys, on one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionContent {
    /// Which.
    pub definition: DefinitionIndex,
    /// Its name, where there are several.
    pub name: Option<String>,
    /// Windows that had ended by this are forgotten.
    pub purged_until: EventTime,
    /// When windows will fire, as far as that is known.
    pub unfired: Vec<EventTime>,
}

/// A chunk of results that are not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkContent {
    /// Which.
    pub key: OutboxKey,
    /// How long it is.
    pub bytes: usize,
    /// Its checksum.
    pub crc32: Crc32,
}

/// How many records, and how large keys and values are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Records.
    pub records: u64,
    /// Bytes, before they are packed.
    pub bytes: u64,
}

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its manifest.
    pub manifest: Manifest,
    /// The partitions, in the order of their names.
    pub cuts: Vec<PartitionCut>,
    /// Chunks that are not delivered.
    pub outbox: Vec<ChunkContent>,
    /// The window definitions, on each worker.
    pub definitions: Vec<DefinitionContent>,
    /// How much there is of each table.
    pub tables: BTreeMap<Table, TableSize>,
    /// Windows, slices and sessions.
    pub entries: Selected<EntryContent>,
    /// Next revisions of windows of several slices: definition, end, key, revision.
    pub revisions: Selected<(DefinitionIndex, EventTime, GroupingKey, u32)>,
    /// What triggers go by.
    pub panes: Selected<(DefinitionIndex, PaneRecord)>,
    /// Rows that wait.
    pub waiting: Selected<WaitingContent>,
    /// What views have.
    pub views: ViewContents,
}

/// What a checkpoint holds for views.
#[derive(Clone, Debug)]
pub struct ViewContents {
    /// Up to where everything is closed; `None` in a job without views.
    pub closed: Option<EventTime>,
    /// Results as they stand.
    pub facts: Selected<(DefinitionIndex, Fact)>,
    /// Results that views do not see yet, and when they were sent.
    pub unclosed: Selected<(EventTime, Waiting)>,
}

/// The first of those that a selection takes.
#[derive(Clone, Debug)]
pub struct Selected<T> {
    /// In their order, and not more than asked for.
    pub first: Vec<T>,
    /// How many there are.
    pub all: u64,
    limit: usize,
    order: fn(&T, &T) -> std::cmp::Ordering,
}

impl<T> Selected<T> {
    fn new(limit: Option<usize>, order: fn(&T, &T) -> std::cmp::Ordering) -> Self {
        Self { first: Vec::new(), all: 0, limit: limit.unwrap_or(usize::MAX), order }
    }

    fn push(&mut self, item: T) {
        self.all += 1;
        self.first.push(item);
        // Now and then, so that it costs little and holds little.
        if self.first.len() / 2 > self.limit.saturating_add(1_000) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.first.sort_by(self.order);
        self.first.truncate(self.limit);
    }
}

impl Contents {
    /// Reads a checkpoint, of which every file is checked.
    pub fn read(store: &CheckpointStore, epoch: Epoch, selection: &Selection) -> ProcessorResult<Self> {
        let manifest = store.load(epoch)?;
        let mut contents = Self::empty(manifest.clone(), selection.limit);
        for reader in store.snapshots(&manifest) {
            contents.add(&reader?, selection)?;
        }
        contents.outbox.sort_by_key(|chunk| chunk.key);
        contents.definitions.sort_by_key(|of| of.definition);
        contents.cuts = contents.cuts.into_iter().collect::<Cuts>().into_map().into_values().collect();
        contents.entries.settle();
        contents.revisions.settle();
        contents.panes.settle();
        contents.waiting.settle();
        contents.views.facts.settle();
        contents.views.unclosed.settle();
        Ok(contents)
    }

    fn empty(manifest: Manifest, limit: Option<usize>) -> Self {
        let entry_order = |one: &EntryContent, other: &EntryContent| {
            let place = |entry: &EntryContent| (entry.definition, entry.of.window());
            place(one).cmp(&place(other)).then_with(|| one.key.cmp(&other.key))
        };
        Self {
            manifest,
            cuts: Vec::new(),
            outbox: Vec::new(),
            definitions: Vec::new(),
            tables: BTreeMap::new(),
            entries: Selected::new(limit, entry_order),
            revisions: Selected::new(limit, Ord::cmp),
            panes: Selected::new(limit, |one, other| {
                (one.0, one.1.of).cmp(&(other.0, other.1.of)).then_with(|| one.1.key.cmp(&other.1.key))
            }),
            waiting: Selected::new(limit, |one, other| {
                (one.definition, one.time).cmp(&(other.definition, other.time)).then_with(|| one.key.cmp(&other.key))
            }),
            views: ViewContents {
                closed: None,
                facts: Selected::new(limit, |one, other| place(one.0, &one.1).cmp(&place(other.0, &other.1))),
                unclosed: Selected::new(limit, |one, other| {
                    let at = |(sent, row): &(EventTime, Waiting)| (row.epoch, *sent);
                    at(one).cmp(&at(other)).then_with(|| {
                        place(one.1.definition, &one.1.fact).cmp(&place(other.1.definition, &other.1.fact))
                    })
                }),
            },
        }
    }

    fn add(&mut self, reader: &SnapshotReader, selection: &Selection) -> ProcessorResult<()> {
        for record in reader.scan(&[]) {
            let (key, value) = record?;
            let read = read_record(&key, &value)
                .map_err(|error| within(&format!("{}", reader.directory().display()), error))?;
            if let Some(table) = Table::of(&key) {
                let size = self.tables.entry(table).or_default();
                size.records += 1;
                size.bytes += (key.len() + value.len()) as u64;
            }
            match read {
                RecordText::Cut(cut) => self.cuts.push(cut),
                RecordText::Outbox(key, chunk) => {
                    let crc32 = Crc32(crc32fast::hash(chunk));
                    self.outbox.push(ChunkContent { key, bytes: chunk.len(), crc32 });
                }
                RecordText::Window(view) => self.add_view(view, selection),
                RecordText::View(record) => self.views.add(*record, selection),
            }
        }
        Ok(())
    }

    fn add_view(&mut self, view: RecordView<'_>, selection: &Selection) {
        let definition = view.definition;
        match view.content {
            RecordContent::Definition { name, purged_until, unfired } => {
                let name = name.map(str::to_owned);
                self.definitions.push(DefinitionContent { definition, name, purged_until, unfired });
            }
            RecordContent::Entry(entry) if selection.takes(&entry.key) => {
                self.entries.push(EntryContent::of(definition, &entry));
            }
            RecordContent::Revision { end, key, next } if selection.takes(&key) => {
                self.revisions.push((definition, end, key, next));
            }
            RecordContent::Pane(pane) if selection.takes(&pane.key) => self.panes.push((definition, pane)),
            RecordContent::Waiting(row) if selection.takes(&row.key) => {
                self.waiting.push(WaitingContent::of(definition, row));
            }
            _ => {}
        }
    }
}

/// The place of a fact among others.
fn place(definition: DefinitionIndex, fact: &Fact) -> (DefinitionIndex, TimeWindow, &GroupingKey) {
    (definition, fact.window, &fact.key)
}

impl ViewContents {
    fn add(&mut self, record: ViewRecord, selection: &Selection) {
        match record {
            ViewRecord::Closed(time) => self.closed = self.closed.max(Some(time)),
            ViewRecord::Fact(definition, fact) if selection.takes(&fact.key) => self.facts.push((definition, fact)),
            ViewRecord::Waiting(_, sent, row) if selection.takes(&row.fact.key) => self.unclosed.push((sent, row)),
            ViewRecord::Fact(..) | ViewRecord::Waiting(..) => {}
        }
    }
}

impl EntryContent {
    pub(super) fn of(definition: DefinitionIndex, entry: &EntryRecord<'_>) -> Self {
        let fields = entry.fields.iter().map(|(name, encoded)| (Arc::from(*name), encoded.to_vec())).collect();
        Self { definition, key: entry.key.clone(), of: entry.of, fields }
    }
}

impl WaitingContent {
    fn of(definition: DefinitionIndex, row: WaitingRecord<'_>) -> Self {
        Self {
            definition,
            time: row.time,
            key: row.key,
            until: row.until,
            is_late: row.kind == crate::window::WaitingKind::Late,
            values: row.values.into_iter().map(|(name, value)| (Arc::from(name), value)).collect(),
        }
    }
}

/// Says where an error is from.
pub(super) fn within(place: &str, error: ProcessorError) -> ProcessorError {
    match error {
        ProcessorError::State(why) => ProcessorError::State(format!("{place}: {why}")),
        other => other,
    }
}
