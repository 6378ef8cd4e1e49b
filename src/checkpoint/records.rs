//! The records that belong to no window: the cuts of partitions, and the outbox.
//!
//! | table | rest of the key | value, after a version byte |
//! |---|---|---|
//! | [`Table::Cut`] | the topic's text; the partition as 4 bytes, big-endian, the sign bit flipped | see [`put_cut`] |
//! | [`Table::Outbox`] | sink 2, process 2, epoch 8, chunk 4 bytes, big-endian | the chunk |

use super::{Changes, PartitionCut, RecordKey, Table};
use crate::aggregate::{Reader, put_varint};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Offset, PartitionName};
use crate::sink::Shard;
use crate::time::disorder::Disorder;
use crate::time::{Epoch, EventTime, Span};

/// The version of the values that this program writes, and the only one that it reads.
const CUT_VERSION: u8 = 1;
const OUTBOX_VERSION: u8 = 1;

const IDLE: u8 = 1;
const RETURNED: u8 = 2;
const CLOSED: u8 = 4;

const SIGN: u32 = 1 << 31;

/// Names one chunk of results that are not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxKey {
    /// Whose results.
    pub shard: Shard,
    /// The epoch that made them.
    pub epoch: Epoch,
    /// The chunk's place among those of the shard and epoch.
    pub chunk: u32,
}

/// Appends the record of a cut. Its value is
///
/// | part | bytes |
/// |---|---|
/// | version | 1 |
/// | `next` | 8, big-endian, the sign bit flipped |
/// | `max_seen` | the same, in milliseconds |
/// | flags | 1: 1 idle, 2 returned, 4 closed |
/// | `records` | varint |
/// | disorder | varints: the greatest distance, the late events, the number of buckets; then of each bucket, ascending, how much further than the bucket before it reaches (the first: than 0), and its events |
///
/// A varint is an unsigned number in groups of seven bits, the least significant first, in the shortest form.
pub fn put_cut(changes: &mut Changes, cut: &PartitionCut) {
    changes.put_with(&cut_key(&cut.name).0, |value| {
        value.push(CUT_VERSION);
        value.extend(EventTime::from_millis(cut.next.0).to_ordered().to_be_bytes());
        value.extend(cut.max_seen.to_ordered().to_be_bytes());
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        value.push(flag(cut.idle, IDLE) | flag(cut.returned, RETURNED) | flag(cut.closed, CLOSED));
        put_varint(value, cut.records);
        put_varint(value, cut.disorder.greatest().as_millis().unsigned_abs());
        put_varint(value, cut.disorder.late());
        put_varint(value, cut.disorder.buckets().count() as u64);
        let mut before = 0;
        for (up_to, events) in cut.disorder.buckets() {
            let up_to = up_to.as_millis().unsigned_abs();
            put_varint(value, up_to - before);
            put_varint(value, events);
            before = up_to;
        }
    });
}

/// There is no such partition any more.
pub fn delete_cut(changes: &mut Changes, name: &PartitionName) {
    changes.delete(&cut_key(name).0);
}

fn cut_key(name: &PartitionName) -> RecordKey {
    let number = (name.partition as u32 ^ SIGN).to_be_bytes();
    RecordKey::plain(Table::Cut, &[name.topic.as_bytes(), &number].concat())
}

/// Reads the record of a cut.
pub fn read_cut(key: &[u8], value: &[u8]) -> ProcessorResult<PartitionCut> {
    let name = read_cut_key(key)?;
    let mut reader = Reader::of("the cut of a partition", value);
    let cut = read_version(&mut reader, CUT_VERSION).and_then(|()| read_cut_value(name.clone(), &mut reader));
    cut.map_err(|error| match error {
        ProcessorError::State(why) => ProcessorError::State(format!("{name}: {why}")),
        other => other,
    })
}

fn read_version(reader: &mut Reader<'_>, known: u8) -> ProcessorResult<()> {
    match reader.byte()? {
        version if version == known => Ok(()),
        version => Err(reader.error(&format!("its version is {version}, and this program reads {known}"))),
    }
}

fn read_cut_value(name: PartitionName, reader: &mut Reader<'_>) -> ProcessorResult<PartitionCut> {
    let next = EventTime::from_ordered(reader.array().map(u64::from_be_bytes)?);
    let max_seen = EventTime::from_ordered(reader.array().map(u64::from_be_bytes)?);
    let flags = reader.byte()?;
    if flags & !(IDLE | RETURNED | CLOSED) != 0 {
        return Err(reader.error(&format!("unknown flags {flags:#04x}")));
    }
    let records = reader.varint()?;
    let disorder = read_disorder(reader)?;
    reader.finish()?;
    let is = |bit: u8| flags & bit != 0;
    Ok(PartitionCut {
        name,
        next: Offset(next.as_millis()),
        max_seen,
        idle: is(IDLE),
        returned: is(RETURNED),
        closed: is(CLOSED),
        records,
        disorder,
    })
}

fn read_cut_key(key: &[u8]) -> ProcessorResult<PartitionName> {
    let refused =
        |why| ProcessorError::State(format!("{} is not the key of a partition's cut: {why}", key.escape_ascii()));
    let rest = match key {
        [table, rest @ ..] if *table == Table::Cut as u8 => rest,
        _ => return Err(refused("another table")),
    };
    let (topic, number) = rest.split_last_chunk::<4>().ok_or_else(|| refused("it is too short"))?;
    let topic = std::str::from_utf8(topic).map_err(|_| refused("the topic is not UTF-8"))?;
    Ok(PartitionName { topic: topic.into(), partition: (u32::from_be_bytes(*number) ^ SIGN) as i32 })
}

fn read_disorder(reader: &mut Reader<'_>) -> ProcessorResult<Disorder> {
    let span = |millis: u64| i64::try_from(millis).ok().map(Span::from_millis);
    let greatest = reader.varint()?;
    let greatest = span(greatest).ok_or_else(|| reader.error("a distance beyond 63 bits"))?;
    let late = reader.varint()?;
    let (mut buckets, mut up_to, mut events) = (Vec::new(), 0u64, 0u64);
    for bucket in 0..reader.varint()? {
        let distance = reader.varint()?;
        if distance == 0 && bucket > 0 {
            return Err(reader.error("buckets that do not ascend"));
        }
        up_to = up_to.checked_add(distance).ok_or_else(|| reader.error("a distance beyond 63 bits"))?;
        let up_to = span(up_to).ok_or_else(|| reader.error("a distance beyond 63 bits"))?;
        let count = reader.varint()?;
        events = events.checked_add(count).filter(|_| count > 0).ok_or_else(|| reader.error("an impossible count"))?;
        buckets.push((up_to, count));
    }
    let disorder = Disorder::from_buckets(buckets.iter().copied(), greatest, late);
    // Bounds of buckets are part of the grammar: another bound would be counted elsewhere.
    match disorder.buckets().eq(buckets) {
        true => Ok(disorder),
        false => Err(reader.error("a bucket that ends between the bounds of buckets")),
    }
}

/// Appends the record of one chunk.
pub fn put_outbox(changes: &mut Changes, key: OutboxKey, chunk: &[u8]) {
    changes.put_with(&key.record_key().0, |value| {
        value.push(OUTBOX_VERSION);
        value.extend_from_slice(chunk);
    });
}

/// The chunk is delivered.
pub fn delete_outbox(changes: &mut Changes, key: OutboxKey) {
    changes.delete(&key.record_key().0);
}

/// Reads the record of one chunk.
pub fn read_outbox<'a>(key: &[u8], value: &'a [u8]) -> ProcessorResult<(OutboxKey, &'a [u8])> {
    let name = OutboxKey::of_record(key).ok_or_else(|| {
        ProcessorError::State(format!("{} is not the key of a chunk of the outbox", key.escape_ascii()))
    })?;
    let mut reader = Reader::of("a chunk of the outbox", value);
    read_version(&mut reader, OUTBOX_VERSION)?;
    Ok((name, reader.rest()))
}

impl OutboxKey {
    /// The key of its record.
    pub fn record_key(self) -> RecordKey {
        let mut rest = Vec::with_capacity(16);
        rest.extend(self.shard.sink.to_be_bytes());
        rest.extend(self.shard.process.to_be_bytes());
        rest.extend(self.epoch.number().to_be_bytes());
        rest.extend(self.chunk.to_be_bytes());
        RecordKey::plain(Table::Outbox, &rest)
    }

    /// What the key of a record names.
    pub fn of_record(key: &[u8]) -> Option<OutboxKey> {
        let rest: &[u8; 16] = match key {
            [table, rest @ ..] if *table == Table::Outbox as u8 => rest.try_into().ok()?,
            _ => return None,
        };
        let [s0, s1, p0, p1, e0, e1, e2, e3, e4, e5, e6, e7, chunk @ ..] = *rest;
        Some(OutboxKey {
            shard: Shard { sink: u16::from_be_bytes([s0, s1]), process: u16::from_be_bytes([p0, p1]) },
            epoch: Epoch::new(u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7])),
            chunk: u32::from_be_bytes(chunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut() -> impl Strategy<Value = PartitionCut> {
        let behind = prop_oneof![4 => 0i64..200, 2 => 0i64..10_000_000, 1 => 0i64..=i64::MAX];
        let distances = proptest::collection::vec((behind, any::<bool>()), 0..50);
        let time = prop_oneof![Just(i64::MIN), Just(i64::MAX), -5_000i64..2_000_000_000_000];
        (".{0,12}", any::<i32>(), any::<i64>(), time, any::<[bool; 3]>(), any::<u64>(), distances).prop_map(
            |(topic, partition, next, max_seen, [idle, returned, closed], records, distances)| {
                let mut disorder = Disorder::default();
                distances.iter().for_each(|(behind, late)| disorder.record(Span::from_millis(*behind), *late));
                PartitionCut {
                    name: PartitionName { topic: topic.into(), partition },
                    next: Offset(next),
                    max_seen: EventTime::from_millis(max_seen),
                    idle,
                    returned,
                    closed,
                    records,
                    // The vector of counts may be longer than it need be in one that was counted.
                    disorder: Disorder::from_buckets(disorder.buckets(), disorder.greatest(), disorder.late()),
                }
            },
        )
    }

    fn only(changes: &Changes) -> (Vec<u8>, Vec<u8>) {
        let change = changes.iter().next().expect("one change");
        (change.key.to_vec(), change.value.expect("a value").to_vec())
    }

    proptest! {
        #[test]
        fn cuts_come_back(cut in cut()) {
            let mut changes = Changes::default();
            put_cut(&mut changes, &cut);
            let (key, value) = only(&changes);
            prop_assert_eq!(read_cut(&key, &value).unwrap(), cut);
        }

        /// Whatever is read is what would be written; nothing panics.
        #[test]
        fn changed_cuts_are_refused_or_other_cuts(
            cut in cut(),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut changes = Changes::default();
            put_cut(&mut changes, &cut);
            let (key, mut value) = only(&changes);
            let place = keep.index(value.len()) + 1;
            value.truncate(place);
            for (place, byte) in edits {
                let place = place.index(value.len());
                value[place] = byte;
            }
            if let Ok(other) = read_cut(&key, &value) {
                let mut changes = Changes::default();
                put_cut(&mut changes, &other);
                prop_assert_eq!(only(&changes), (key, value));
            }
        }

        #[test]
        fn chunks_come_back(sink: u16, process: u16, epoch: u64, chunk: u32, bytes: Vec<u8>) {
            let key = OutboxKey { shard: Shard { sink, process }, epoch: Epoch::new(epoch), chunk };
            let mut changes = Changes::default();
            put_outbox(&mut changes, key, &bytes);
            let (record, value) = only(&changes);
            prop_assert_eq!(read_outbox(&record, &value).unwrap(), (key, &bytes[..]));
            prop_assert!(OutboxKey::of_record(&record[1..]).is_none());
            prop_assert!(read_outbox(&record, &[]).is_err());
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_parts() {
        let key = |sink, epoch, chunk| {
            OutboxKey { shard: Shard { sink, process: 0 }, epoch: Epoch::new(epoch), chunk }.record_key()
        };
        assert!(key(0, 9, 9) < key(1, 0, 0) && key(1, 255, 7) < key(1, 256, 0) && key(1, 1, 255) < key(1, 1, 256));
        let cut = |partition| cut_key(&PartitionName { topic: "t".into(), partition });
        assert!(cut(-1) < cut(0) && cut(0) < cut(256));
    }

    #[test]
    fn another_version_is_named() {
        let mut changes = Changes::default();
        let cut = PartitionCut {
            name: PartitionName { topic: "events".into(), partition: 3 },
            next: Offset(7),
            max_seen: EventTime::MIN,
            idle: false,
            returned: false,
            closed: false,
            records: 7,
            disorder: Disorder::default(),
        };
        put_cut(&mut changes, &cut);
        let (key, mut value) = only(&changes);
        value[0] = 2;
        assert_eq!(
            read_cut(&key, &value).unwrap_err().to_string(),
            "state: events[3]: the cut of a partition of 22 bytes is damaged or of another version, at byte 1: its version \
             is 2, and this program reads 1"
        );
    }
}
