//! Which entries have changed since the last snapshot, and entries as they were when the next one was begun.
//!
//! The model: each entry is in one of these states, kept in a byte of flags beside its accumulators:
//!
//! | state | the entry | its record in the store |
//! |---|---|---|
//! | clean | is as in the last snapshot | is the same |
//! | changed | is to be written by the next snapshot | is older, or there is none |
//! | pending | is as it was when the snapshot under way was begun, and not written yet | is older, or there is none |
//! | cold | is in the store alone: its accumulators here are empty | is the same |
//!
//! Whoever is about to change an entry says so with [`Tables::touch`](super::tables::Tables::touch): a pending entry is written
//! first, a cold one is read back, and then it is changed, which for one that is changed already costs one comparison. Whoever
//! only reads says so with [`Tables::read`](super::tables::Tables::read). Beginning a snapshot makes the changed entries pending and
//! notes for each what beside its accumulators is in its record (bounds, revision), so that those may change in any order.
//!
//! A job without checkpoints has no tracking, and pays a test a batch for it.
//!
//! Records that go with an entry are deleted by the next snapshot, before it writes anything: ids are used again.
//!
//! How it fails: accumulators that cannot be written or read back are remembered as the state's error, which the operator asks
//! for; what is computed from then on is not to be used.

use super::cold::{Measuring, Memory};
use super::entries::EntryTable;
use super::keys::{KeySlot, KeyTable};
use super::record::{EntryOf, entry_key, put_entry, put_field};
use super::sessions::SessionTable;
use crate::aggregate::{AccumulatorId, AccumulatorStore, put_varint};
use crate::checkpoint::Changes;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::DefinitionIndex;
use crate::prefetch::prefetch;
use crate::sink::TimeWindow;
use crate::time::{EventTime, Span};
use std::sync::Arc;

/// It is to be written by the next snapshot. Accumulators that are no entry always seem so, as no snapshot has them.
const CHANGED: u8 = 1;
/// Its id is in the list of those that have changed.
const LISTED: u8 = 1 << 1;
/// It is to be written by the snapshot under way.
const PENDING: u8 = 1 << 2;
/// It is in the store alone.
const COLD: u8 = 1 << 3;
/// It has a record in the store, or in the snapshot under way.
const STORED: u8 = 1 << 4;
/// It was used since memory was last looked through.
const USED: u8 = 1 << 5;
/// It is no entry.
const SCRATCH: u8 = 1 << 6;

/// Of a word of them.
const BITS: usize = u64::BITS as usize;

/// Where one of so many entries has changed, they are all looked through: reading one after the other is that much faster than here
/// and there.
const MANY_SHARE: usize = 16;
/// How many entries are looked at in one go when memory is to be let go: few enough that nobody waits for it.
const PLACES_AT_A_TIME: usize = 1 << 15;
/// The same when memory is measured, which asks the accumulators.
const MEASURED_AT_A_TIME: usize = 1 << 13;

/// How many entries before its turn an entry is asked for from memory: about as much work as memory takes to answer.
const ENTRIES_AHEAD: usize = 8;

/// What is in an entry's record beside its accumulators.
#[derive(Clone, Copy, Debug)]
struct About {
    key: KeySlot,
    /// Of a slice the revision of the next result; of a session that has fired, one more than the revision of its result.
    revision: u32,
    start: EventTime,
    /// Of a session, its latest event.
    end: EventTime,
}

const NOTHING: About = About { key: KeySlot(0), revision: 0, start: EventTime::MIN, end: EventTime::MIN };

/// What has changed since the last snapshot.
pub(super) struct Tracking {
    pub definition: DefinitionIndex,
    /// Of sessions, the gap.
    gap: Option<Span>,
    /// The names of the value fields.
    fields: Vec<Arc<str>>,
    /// Their indices, by name.
    fields_by_name: Vec<usize>,
    /// By accumulator id.
    flags: Vec<u8>,
    /// A bit for each: where it is one, the entry has changed. Every row asks, and an eighth of the flags is more often in the nearest cache.
    known_changed: Vec<u64>,
    /// By accumulator id. Revisions, and the bounds of sessions, are right while an entry is pending.
    about: Vec<About>,
    /// The ids that are listed.
    changed: Vec<AccumulatorId>,
    /// How many entries the snapshot under way has still to write,
    pending: usize,
    /// and where the first of them is, or later: they are written in the order of their ids, which is that of memory.
    next_pending: usize,
    /// What belongs to the snapshot under way and was written before its turn.
    pub saved: Changes,
    /// What the next snapshot deletes.
    pub deleted: Changes,
    pub memory: Memory,
    error: Option<ProcessorError>,
    has_failed: bool,
    encoded: Vec<u8>,
}

impl Tracking {
    pub(super) fn new(definition: DefinitionIndex, gap: Option<Span>) -> Self {
        Self {
            definition,
            gap,
            fields: Vec::new(),
            fields_by_name: Vec::new(),
            flags: Vec::new(),
            known_changed: Vec::new(),
            about: Vec::new(),
            changed: Vec::new(),
            pending: 0,
            next_pending: 0,
            saved: Changes::default(),
            deleted: Changes::default(),
            memory: Memory::default(),
            error: None,
            has_failed: false,
            encoded: Vec::new(),
        }
    }

    /// There are these value fields now.
    pub(super) fn has_fields(&mut self, fields: &[Arc<str>], by_name: &[usize]) {
        (self.fields, self.fields_by_name) = (fields.to_vec(), by_name.to_vec());
    }

    /// A new entry of a key has this id.
    pub(super) fn created(&mut self, id: AccumulatorId, key: KeySlot) {
        self.grow(id);
        self.about[id.index()] = About { key, ..NOTHING };
        self.mark_changed(id, 0);
    }

    /// New accumulators have this id that are no entry.
    pub(super) fn created_scratch(&mut self, id: AccumulatorId) {
        self.grow(id);
        let flags = &mut self.flags[id.index()];
        *flags = *flags & LISTED | SCRATCH | CHANGED;
    }

    /// They are given up.
    pub(super) fn removed_scratch(&mut self, id: AccumulatorId) {
        self.flags[id.index()] &= LISTED;
        self.forget_changed(id);
    }

    fn grow(&mut self, id: AccumulatorId) {
        if id.index() >= self.flags.len() {
            self.flags.resize(id.index() + 1, 0);
            self.about.resize(id.index() + 1, NOTHING);
            self.known_changed.resize(id.index() / BITS + 1, 0);
        }
    }

    /// The slice that an entry is of.
    pub(super) fn is_of_slice(&mut self, id: AccumulatorId, window: TimeWindow) {
        let about = &mut self.about[id.index()];
        (about.start, about.end) = (window.start, window.end);
    }

    /// It is changed from now on, and of its other flags has those of `kept`.
    fn mark_changed(&mut self, id: AccumulatorId, kept: u8) {
        let flags = &mut self.flags[id.index()];
        if *flags & LISTED == 0 {
            self.changed.push(id);
        }
        *flags = *flags & kept | LISTED | CHANGED;
    }

    /// Whether it is known to be changed; where it is not, [`Tracking::touch`] looks closer.
    #[inline(always)]
    pub(super) fn is_known_changed(&self, id: AccumulatorId) -> bool {
        self.known_changed[id.index() / BITS] >> (id.index() % BITS) & 1 != 0
    }

    fn forget_changed(&mut self, id: AccumulatorId) {
        self.known_changed[id.index() / BITS] &= !(1 << (id.index() % BITS));
    }

    /// Entries are about to be changed, those of a batch's rows.
    pub(super) fn touch_all(&mut self, ids: &[AccumulatorId], keys: &KeyTable, stores: &mut [AccumulatorStore]) {
        self.memory.rows += ids.len();
        for (place, id) in ids.iter().enumerate() {
            if !self.is_known_changed(*id) {
                if let Some(soon) = ids.get(place + ENTRIES_AHEAD) {
                    self.ask_for_pending(*soon, keys, stores);
                }
                self.touch(*id, keys, stores);
            }
        }
    }

    /// A new entry is in the store alone, under its key.
    pub(super) fn restored_cold(&mut self, id: AccumulatorId) {
        let flags = &mut self.flags[id.index()];
        debug_assert!(*flags & CHANGED != 0, "it was made just now");
        *flags = *flags & LISTED | STORED | COLD;
        self.forget_changed(id);
    }

    /// An entry is about to be changed.
    #[cold]
    pub(super) fn touch(&mut self, id: AccumulatorId, keys: &KeyTable, stores: &mut [AccumulatorStore]) {
        self.known_changed[id.index() / BITS] |= 1 << (id.index() % BITS);
        let flags = self.flags[id.index()];
        if flags & CHANGED != 0 {
            return;
        }
        if flags & PENDING != 0 {
            self.save(id, keys, stores);
        }
        self.warm(id, keys, stores);
        self.mark_changed(id, STORED);
    }

    /// An entry is about to be read.
    pub(super) fn read(&mut self, id: AccumulatorId, keys: &KeyTable, stores: &mut [AccumulatorStore]) {
        self.warm(id, keys, stores);
        self.flags[id.index()] |= USED;
    }

    /// An entry is about to be removed.
    pub(super) fn removed(&mut self, id: AccumulatorId, keys: &KeyTable, stores: &[AccumulatorStore]) {
        let flags = self.flags[id.index()];
        if flags & PENDING != 0 {
            self.save(id, keys, stores);
        }
        if flags & STORED != 0 {
            let key = keys.get(self.about[id.index()].key);
            self.deleted.delete(&entry_key(self.definition, key, id));
        }
        self.flags[id.index()] = flags & LISTED;
        self.forget_changed(id);
    }

    /// Makes all entries changed ones.
    pub(super) fn change_all(&mut self, keys: &KeyTable, stores: &mut [AccumulatorStore]) {
        for index in 0..self.flags.len() {
            if self.flags[index] & (STORED | CHANGED) == STORED {
                self.touch(AccumulatorId::from_index(index), keys, stores);
            }
        }
    }

    /// Makes pending what has changed.
    fn freeze(&mut self, revisions: &[u32], sessions: Option<&SessionTable>) {
        debug_assert_eq!(self.pending, 0, "a snapshot is written to its end before the next is begun");
        self.next_pending = 0;
        self.known_changed.fill(0);
        let mut changed = std::mem::take(&mut self.changed);
        if changed.len() * MANY_SHARE < self.flags.len() {
            changed.drain(..).for_each(|id| self.freeze_one(id, revisions, sessions));
        } else {
            // In the order of memory, which that of the list is not.
            changed.clear();
            for index in 0..self.flags.len() {
                if self.flags[index] & LISTED != 0 {
                    self.freeze_one(AccumulatorId::from_index(index), revisions, sessions);
                }
            }
        }
        self.changed = changed;
    }

    /// Takes an entry off the list of those that have changed, and makes it pending if it is one.
    #[inline]
    fn freeze_one(&mut self, id: AccumulatorId, revisions: &[u32], sessions: Option<&SessionTable>) {
        let flags = &mut self.flags[id.index()];
        *flags &= !LISTED;
        if *flags & (CHANGED | SCRATCH) != CHANGED {
            return;
        }
        *flags = PENDING | STORED | USED;
        self.pending += 1;
        let about = &mut self.about[id.index()];
        match sessions {
            None => about.revision = revisions[id.index()],
            Some(sessions) => {
                let session = sessions.of(about.key).iter().find(|session| session.id == id);
                let session = session.expect("an entry of sessions is one of its key");
                (about.start, about.end) = (session.first, session.last);
                about.revision = session.fired.map_or(0, |revision| revision.saturating_add(1));
            }
        }
    }

    /// Writes what is pending until `out` has so many bytes. Returns whether that was all.
    pub(super) fn write(
        &mut self,
        keys: &KeyTable,
        stores: &[AccumulatorStore],
        out: &mut Changes,
        until_bytes: usize,
    ) -> bool {
        let mut asked_for = (0..ENTRIES_AHEAD).fold(self.next_pending, |from, _| self.ask_for_next(from, keys, stores));
        while self.pending > 0 && out.bytes() < until_bytes {
            asked_for = self.ask_for_next(asked_for, keys, stores);
            let index = self.next_pending_from(self.next_pending).expect("as many as are counted have the flag");
            self.next_pending = index + 1;
            self.written(AccumulatorId::from_index(index));
            self.encode(AccumulatorId::from_index(index), keys, stores, out);
        }
        self.pending == 0
    }

    /// The first pending entry from this place on.
    fn next_pending_from(&self, place: usize) -> Option<usize> {
        let rest = self.flags.get(place..)?.iter().position(|flags| flags & PENDING != 0);
        rest.map(|rest| place + rest)
    }

    /// Asks memory for the first pending entry from this place on, which is written soon. Returns the place after it.
    fn ask_for_next(&self, place: usize, keys: &KeyTable, stores: &[AccumulatorStore]) -> usize {
        let Some(index) = self.next_pending_from(place) else { return self.flags.len() };
        self.ask_for_pending(AccumulatorId::from_index(index), keys, stores);
        index + 1
    }

    /// Asks memory for an entry that has to be written before it changes, if it is one.
    fn ask_for_pending(&self, id: AccumulatorId, keys: &KeyTable, stores: &[AccumulatorStore]) {
        if self.flags[id.index()] & PENDING != 0 {
            prefetch(keys.get(self.about[id.index()].key).as_json().as_bytes());
            stores.iter().for_each(|store| store.prefetch(id));
        }
    }

    /// A pending entry is written now.
    fn written(&mut self, id: AccumulatorId) {
        debug_assert!(self.flags[id.index()] & PENDING != 0, "it is written once");
        self.flags[id.index()] &= !PENDING;
        self.pending -= 1;
    }

    /// Writes a pending entry before its turn.
    fn save(&mut self, id: AccumulatorId, keys: &KeyTable, stores: &[AccumulatorStore]) {
        self.written(id);
        let mut saved = std::mem::take(&mut self.saved);
        self.encode(id, keys, stores, &mut saved);
        self.saved = saved;
    }

    fn encode(&mut self, id: AccumulatorId, keys: &KeyTable, stores: &[AccumulatorStore], out: &mut Changes) {
        let About { key, revision, start, end } = self.about[id.index()];
        let of = match self.gap {
            None => EntryOf::Slice { window: TimeWindow { start, end }, next_revision: revision },
            Some(gap) => EntryOf::Session {
                window: TimeWindow { start, end: end.saturating_add(gap) },
                last: end,
                fired: revision.checked_sub(1),
            },
        };
        let key = keys.get(key);
        let (encoded, fields) = (&mut self.encoded, &self.fields);
        let mut result = Ok(());
        out.put_with(&entry_key(self.definition, key, id), |value| {
            put_entry(value, of, key);
            let fields_with_values = || self.fields_by_name.iter().filter(|field| stores[**field].count(id) > 0);
            put_varint(value, fields_with_values().count() as u64);
            for field in fields_with_values() {
                encoded.clear();
                result = std::mem::replace(&mut result, Ok(())).and(stores[*field].encode(id, encoded));
                put_field(value, &fields[*field], encoded);
            }
        });
        self.note(result);
    }

    /// Reads a cold entry back.
    #[inline]
    fn warm(&mut self, id: AccumulatorId, keys: &KeyTable, stores: &mut [AccumulatorStore]) {
        if self.flags[id.index()] & COLD != 0 {
            self.flags[id.index()] &= !COLD;
            let key = entry_key(self.definition, keys.get(self.about[id.index()].key), id);
            let read = self.memory.read_back(&key, id, &self.fields, stores);
            self.note(read);
            self.memory.was_read_back(id.index(), owned_bytes(stores, id));
        }
    }

    /// Remembers the first error.
    pub(super) fn note(&mut self, result: ProcessorResult<()>) {
        if let Err(error) = result
            && !self.has_failed
        {
            self.error = Some(error);
            self.has_failed = true;
        }
    }

    /// The first error, once.
    pub(super) fn take_error(&mut self) -> Option<ProcessorError> {
        self.error.take()
    }

    /// Fails if anything has failed: what is there now is not what the events have made.
    pub(super) fn check(&mut self) -> ProcessorResult<()> {
        match (self.take_error(), self.has_failed) {
            (Some(error), _) => Err(error),
            (None, true) => Err(ProcessorError::State("windows whose state could not be read have no snapshot".into())),
            (None, false) => Ok(()),
        }
    }

    /// Goes on measuring what is held, and when that is known drops what is too much: a part of either.
    pub(super) fn look_after_memory(&mut self, stores: &mut [AccumulatorStore]) {
        if let Some(mut measuring) = self.memory.measuring.take() {
            match self.measure(&mut measuring, stores) {
                false => self.memory.measuring = Some(measuring),
                true => {
                    let columns: usize = stores.iter().map(AccumulatorStore::column_bytes).sum();
                    self.memory.measured(columns + measuring.owned, measuring.changed, self.flags.len());
                }
            }
        }
        self.evict(stores);
    }

    /// Looks at some more entries. Returns whether all have been looked at.
    fn measure(&self, measuring: &mut Measuring, stores: &[AccumulatorStore]) -> bool {
        let until = self.flags.len().min(measuring.place + MEASURED_AT_A_TIME);
        for index in measuring.place.min(until)..until {
            let owned = owned_bytes(stores, AccumulatorId::from_index(index));
            measuring.owned += owned;
            // A snapshot lets these be dropped.
            if self.flags[index] & (CHANGED | SCRATCH) == CHANGED {
                measuring.changed += owned;
            }
        }
        measuring.place = until;
        until == self.flags.len()
    }

    /// Drops clean entries from memory while these hold more than they may, the longest unused first, about. It looks at some
    /// entries at a time; twice around takes the mark of use away first.
    fn evict(&mut self, stores: &mut [AccumulatorStore]) {
        let places = self.flags.len();
        let mut drops = self.memory.take_drops();
        for _ in 0..PLACES_AT_A_TIME {
            let Some(index) = self.memory.next_place(places) else { return };
            let flags = &mut self.flags[index];
            if *flags & (STORED | CHANGED | PENDING | COLD) != STORED {
                continue;
            }
            if *flags & USED != 0 {
                *flags &= !USED;
                continue;
            }
            let id = AccumulatorId::from_index(index);
            let owned = owned_bytes(stores, id);
            if owned > 0 {
                *flags |= COLD;
                stores.iter_mut().for_each(|store| store.clear(id));
                self.memory.dropped(index, owned);
                drops -= 1;
                if drops == 0 {
                    return;
                }
            }
        }
    }

    /// How many entries are in the store alone.
    pub(super) fn cold(&self) -> usize {
        self.flags.iter().filter(|flags| **flags & COLD != 0).count()
    }
}

/// What the accumulators of an entry own beside their places in the columns.
fn owned_bytes(stores: &[AccumulatorStore], id: AccumulatorId) -> usize {
    stores.iter().map(|store| store.owned_bytes(id)).sum()
}

impl EntryTable {
    /// Makes pending what has changed. Bounds of sessions are in their table.
    pub(super) fn freeze(&mut self, sessions: Option<&SessionTable>) {
        if let Some(tracking) = &mut self.tracking {
            tracking.freeze(&self.revisions, sessions);
        }
    }
}
