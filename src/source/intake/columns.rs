//! Many rows at once.
//!
//! The model: most rows are accepted, and whether all of a batch are is one pass over their times; such a batch is routed column
//! by column, and where some of its rows are late, another pass says which. One row that is refused sends its whole batch the way
//! of single rows, with the same outcome, and so does a partition about which there is more to decide than its watermark says.
//! A source names keys by the address that the dictionary gave them, so that the bytes of a key are looked at once for each key
//! and not for each row.

use super::{Intake, PartitionSlot, Verdict};
use crate::event::{DefinitionSet, Late, LateRow, Offset, RowColumns};
use crate::exchange::KeyAddress;
use crate::source::NoOrigin;
use crate::time::disorder::Stretch;
use crate::time::{EventTime, Span};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::Hash;

/// The addresses of a source's own keys, for [`RowColumns`].
#[derive(Debug)]
pub struct KeyAddresses<K> {
    known: HashMap<K, KeyAddress, RandomState>,
    generation: u32,
}

impl<K> Default for KeyAddresses<K> {
    fn default() -> Self {
        Self { known: HashMap::default(), generation: 0 }
    }
}

impl<K: Hash + Eq> KeyAddresses<K> {
    /// The address of `key`, for rows of this poll. `encode` makes what [`crate::event::Decoder::render_key`] reads; it is called
    /// once per key and generation of the dictionary.
    #[inline]
    pub fn of(&mut self, intake: &mut Intake, key: K, encode: impl FnOnce(&K) -> Vec<u8>) -> KeyAddress {
        if self.generation != intake.router.generation() {
            self.known.clear();
            self.generation = intake.router.generation();
        }
        match self.known.get(&key) {
            Some(address) => *address,
            None => {
                let address = intake.address(&encode(&key));
                self.known.insert(key, address);
                address
            }
        }
    }
}

impl Intake {
    /// The address of a key, for rows of this poll; `encoded` is what [`crate::event::Decoder::render_key`] reads.
    #[inline]
    pub fn address(&mut self, encoded: &[u8]) -> KeyAddress {
        let Self { router, decoder, .. } = self;
        router.address(encoded, |encoded| decoder.render_key(encoded))
    }

    /// Takes rows of one partition whose offsets follow one another from `first`. `raw` makes the bytes of one of them for the
    /// side output. The keys' addresses are of this poll: see [`KeyAddresses`].
    pub fn rows(
        &mut self,
        slot: PartitionSlot,
        first: Offset,
        rows: &RowColumns,
        raw: &mut dyn FnMut(usize) -> Vec<u8>,
    ) {
        if rows.is_empty() {
            return;
        }
        match self.accept_all(slot, first, rows.times()) {
            true => self.router.extend(rows, &self.late_rows),
            false => self.rows_one_by_one(slot, first, rows, raw),
        }
    }

    /// Whether all rows are accepted by all window definitions and no rule but the watermark has a say; if so, the partition has taken them, and
    /// `late_rows` says which of them are late.
    fn accept_all(&mut self, slot: PartitionSlot, first: Offset, times: &[EventTime]) -> bool {
        let state = &mut self.partitions[slot.0 as usize];
        let partition = &mut state.partition;
        let special = partition.idle || partition.returned || partition.closed_before > EventTime::MIN;
        let stretch = Stretch::of(partition.watermark.max_seen(), times);
        let bound = self.rules.watermark.max_out_of_orderness;
        let lateness = self.rules.windows.lateness_of_all();
        let accepted = Span::from_millis(bound.as_millis().saturating_add(lateness.as_millis()));
        if special || !stretch.is_within(accepted) || stretch.latest() > self.latest_allowed {
            return false;
        }
        self.late_rows.clear();
        let late_rows = &mut self.late_rows;
        partition.disorder.record_all(stretch, times, bound, |row, watermark| {
            let late = Late { watermark, refused_by: DefinitionSet::NONE };
            late_rows.push(LateRow { row: row as u32, late });
        });
        let late = self.late_rows.len() as u64;
        partition.watermark.observe(stretch.latest());
        partition.position = Offset(first.0 + times.len() as i64);
        partition.records += times.len() as u64;
        state.polled = true;
        if stretch.latest() >= state.needed_from {
            for (offset, time) in (first.0..).zip(times) {
                if *time >= state.needed_from {
                    state.note_needed(Offset(offset), *time, &self.rules.windows);
                }
            }
        }
        self.counts.events += times.len() as u64;
        self.counts.late += late;
        true
    }

    fn rows_one_by_one(
        &mut self,
        slot: PartitionSlot,
        first: Offset,
        rows: &RowColumns,
        raw: &mut dyn FnMut(usize) -> Vec<u8>,
    ) {
        for (row, (time, key)) in rows.times().iter().zip(rows.keys()).enumerate() {
            let offset = Offset(first.0 + row as i64);
            match self.judge(slot, offset, *time) {
                Ok(Verdict::Taken(late)) => {
                    self.router.push_row_of(rows, row, *key, late);
                    if let Some(late) = late.filter(|late| !late.refused_by.is_empty()) {
                        self.refuse_in_part(slot, offset, *time, late, raw(row), &NoOrigin);
                    }
                }
                Ok(Verdict::Replayed) => {}
                Err(rejection) => self.reject(slot, offset, *time, rejection, raw(row), &NoOrigin),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ErrorPolicy, TimestampFormat, WatermarkConfig, WatermarkStrategy, WindowConfig, WindowKind};
    use crate::event::{
        BadRecord, Decoded, Decoder, FieldIndex, GroupingKey, Late, PartitionName, RowBatch, RowScratch, WorkerIndex,
    };
    use crate::sink::SideRecord;
    use crate::source::{IntakeCounts, IntakeRules};
    use crate::time::Span;
    use crate::window::{ClosedBefore, WindowSet, Windowing};
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    /// A row as it is given: time, key, and a value of each of two fields, or none.
    type Given = (i64, u8, Option<i8>, Option<i8>);

    fn values((_, _, first, second): Given) -> Vec<(FieldIndex, f64)> {
        let of = |index, value: Option<i8>| value.map(|value| (FieldIndex(index), f64::from(value)));
        of(0, first).into_iter().chain(of(1, second)).collect()
    }

    fn payload(row: Given) -> Vec<u8> {
        serde_json::to_vec(&row).unwrap()
    }

    /// Reads [`payload`].
    struct Reader([Arc<str>; 2]);

    impl Decoder for Reader {
        fn decode(&mut self, payload: &[u8], row: &mut RowScratch) -> Result<Decoded, BadRecord> {
            let given: Given = serde_json::from_slice(payload).unwrap();
            row.time = EventTime::from_millis(given.0);
            row.key.push(given.1);
            row.values = values(given);
            Ok(Decoded::Row)
        }
        fn render_key(&self, encoded: &[u8]) -> GroupingKey {
            GroupingKey::from_fields(&[("k", encoded[0].to_string())])
        }
        fn fields(&self) -> &[Arc<str>] {
            &self.0
        }
    }

    /// How an intake is set up, and what is known of its one partition.
    #[derive(Clone, Copy, Debug)]
    struct Setting {
        peers: usize,
        idle: bool,
        closed_before: Option<i64>,
        frontier: Option<i64>,
    }

    /// Time, key, values of both fields, and the judgement if it was late; by sender and receiver, in order.
    type Sent = (u32, i64, String, Vec<Option<f64>>, Option<Late>);

    /// The rows of batches, with keys as text: which ids they have does not matter.
    fn sent(batches: &[RowBatch]) -> Vec<Sent> {
        let mut texts: HashMap<(WorkerIndex, u32), String> = HashMap::new();
        let mut rows = Vec::new();
        for batch in batches {
            texts.extend(batch.dictionary.iter().map(|entry| ((batch.receiver, entry.id), entry.key.clone())));
            for row in 0..batch.len() {
                let value = |column: &Vec<f64>| Some(column[row]).filter(|value| !value.is_nan());
                let late = batch.late.iter().find(|late| late.row as usize == row).map(|row| row.late);
                let key = texts[&(batch.receiver, batch.keys[row])].clone();
                let values = batch.values.iter().map(value).chain([None, None]).take(2).collect();
                rows.push((batch.receiver.0, batch.times[row], key, values, late));
            }
        }
        rows
    }

    #[derive(Debug, PartialEq)]
    struct Outcome {
        sent: Vec<Sent>,
        refused: Vec<SideRecord>,
        counts: IntakeCounts,
        partition: (Offset, u64, EventTime, bool),
        settled: Vec<crate::source::Settled>,
        disorder: (Vec<(Span, u64)>, Span, u64),
    }

    fn outcome(
        setting: Setting,
        polls: &[Vec<Given>],
        mut take: impl FnMut(&mut Intake, PartitionSlot, i64, &[Given]),
    ) -> Outcome {
        let refused = Arc::new(Mutex::new(Vec::new()));
        let writer = refused.clone();
        let kind = WindowKind::tumbling(Span::from_millis(10));
        let window = WindowConfig::of(kind);
        let rules = IntakeRules {
            watermark: WatermarkConfig {
                strategy: WatermarkStrategy::BoundedOutOfOrderness,
                max_out_of_orderness: Span::from_millis(20),
                emit_interval: None,
                max_future_skew: Span::from_millis(100),
                idle_timeout: None,
                close_idle_after: None,
            },
            timestamp_format: TimestampFormat::Rfc3339,
            windows: WindowSet::new([("short", 15), ("long", 22)].map(|(name, lateness)| {
                let window = WindowConfig { allowed_lateness: Span::from_millis(lateness), ..window.clone() };
                (Some(name.into()), Windowing::new(&window).unwrap())
            })),
            closed: ClosedBefore::default(),
            policy: ErrorPolicy::Skip,
            late: Arc::new(move |record| writer.lock().unwrap().push(record)),
            dead_letter: Arc::new(|_| ()),
        };
        let decoder = Box::new(Reader(["a".into(), "b".into()]));
        let mut intake = Intake::new(decoder, WorkerIndex(0), setting.peers, 16, rules);
        let at = |millis: Option<i64>| millis.map_or(EventTime::MIN, EventTime::from_millis);
        let slot = intake.open_partition(PartitionName { topic: "t".into(), partition: 3 }, at(setting.closed_before));
        intake.set_idle(slot, setting.idle);
        let (mut batches, mut next) = (Vec::new(), 100);
        for rows in polls {
            intake.begin_poll(EventTime::from_millis(0), 7, at(setting.frontier));
            take(&mut intake, slot, next, rows);
            next += rows.len() as i64;
            intake.end_poll(Instant::now(), |batch| batches.push(batch));
        }
        let counts = intake.take_counts();
        let settled = intake.settle(EventTime::from_millis(40), EventTime::MAX);
        let partition = &intake.partitions[0].partition;
        let disorder = &partition.disorder;
        let disorder = (disorder.buckets().collect(), disorder.greatest(), disorder.late());
        let partition = (partition.position, partition.records, partition.watermark.watermark(), partition.returned);
        let refused = std::mem::take(&mut *refused.lock().unwrap());
        Outcome { sent: sent(&batches), refused, counts, partition, settled, disorder }
    }

    fn row() -> impl Strategy<Value = Given> {
        let value = || proptest::option::weighted(0.8, any::<i8>());
        // Rarely beyond the wall clock's 100 ms; about the watermark and behind it.
        (prop_oneof![20 => 0i64..60, 1 => 0i64..110], 0u8..6, value(), value())
    }

    proptest! {
        #[test]
        fn many_rows_at_once_are_as_many_single_ones(
            polls in proptest::collection::vec(proptest::collection::vec(row(), 0..20), 1..8),
            peers in 1usize..4,
            idle in any::<bool>(),
            closed_before in proptest::option::of(0i64..50),
            frontier in proptest::option::of(0i64..80),
        ) {
            let setting = Setting { peers, idle, closed_before, frontier };
            let single = outcome(setting, &polls, |intake, slot, next, rows| {
                for (offset, row) in (next..).zip(rows) {
                    intake.record(slot, Offset(offset), &payload(*row), &NoOrigin).unwrap();
                }
            });
            let (mut keys, mut columns) = (KeyAddresses::default(), RowColumns::default());
            let at_once = outcome(setting, &polls, |intake, slot, next, rows| {
                columns.clear();
                for row in rows {
                    let key = keys.of(intake, row.1, |key| vec![*key]);
                    columns.push(EventTime::from_millis(row.0), key, &values(*row));
                }
                intake.rows(slot, Offset(next), &columns, &mut |row| payload(rows[row]));
            });
            prop_assert_eq!(single, at_once);
        }
    }
}
