use super::check::{check, check_behind_lengths};
use super::message::{Damage, decode, encode, length};
use crate::event::{DefinitionSet, DictionaryEntry, Late, LateRow, RowBatch, WorkerIndex};
use crate::time::EventTime;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

/// Between two places that are tried: all of them, or some where each step is interpreted.
const STEP: usize = if cfg!(miri) { 37 } else { 1 };

fn encoded(batches: &[RowBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(batches, &mut bytes).unwrap();
    assert_eq!(bytes.len(), length(batches));
    bytes
}

/// What two batches have in common if they are the same to the last bit: NaN is not equal to itself.
fn bits(batch: &RowBatch) -> (RowBatch, Vec<Vec<u64>>) {
    let bits = batch.values.iter().map(|column| column.iter().map(|value| value.to_bits()).collect()).collect();
    (RowBatch { values: Vec::new(), ..batch.clone() }, bits)
}

fn assert_same(found: &[RowBatch], right: &[RowBatch]) {
    assert_eq!(found.iter().map(bits).collect::<Vec<_>>(), right.iter().map(bits).collect::<Vec<_>>());
}

fn late(row: u32, watermark: i64, refused_by: u64) -> LateRow {
    let late = Late { watermark: EventTime::from_millis(watermark), refused_by: DefinitionSet::from_bits(refused_by) };
    LateRow { row, late }
}

fn entry(id: u32, key: &str) -> DictionaryEntry {
    DictionaryEntry { id, key: key.to_owned() }
}

/// A batch with some of everything, and an odd number of rows.
fn sample() -> RowBatch {
    let payload = f64::from_bits(0x7ff4_dead_beef_0001);
    RowBatch {
        sender: WorkerIndex(3),
        receiver: WorkerIndex(u32::MAX),
        generation: 7,
        dictionary: vec![entry(0, r#"{"k":"a"}"#), entry(1, "{}"), entry(u32::MAX, "{\"k\":\"z\u{fc}rich\"}")],
        fields: vec!["latency_ms".into(), "".into(), "k\u{f6}sten".into()],
        times: vec![i64::MIN, -1, 0, 1_700_000_000_000, i64::MAX],
        keys: vec![0, 1, u32::MAX, 0, 1],
        values: vec![
            vec![1.5, f64::NAN, -0.0, f64::INFINITY, f64::MIN_POSITIVE],
            vec![payload, f64::from_bits(u64::MAX), f64::NEG_INFINITY, 5e-324, f64::MAX],
            vec![f64::NAN; 5],
        ],
        late: vec![late(0, i64::MIN, 0), late(4, i64::MAX, u64::MAX)],
        read_at_micros: -1,
    }
}

/// A batch without fields, keys and late rows, and one without anything.
fn bare(rows: usize) -> RowBatch {
    RowBatch { times: vec![i64::MIN; rows], keys: vec![9; rows], ..RowBatch::default() }
}

#[test]
fn what_is_written_is_read_to_the_last_bit() {
    for batches in [vec![], vec![RowBatch::default()], vec![bare(1), bare(2)], vec![sample(), bare(0), sample()]] {
        let bytes = encoded(&batches);
        assert_same(&decode(&bytes).unwrap(), &batches);
        assert!(check(&bytes));
    }
}

#[test]
fn a_message_is_read_wherever_it_lies() {
    let bytes = encoded(&[sample()]);
    for offset in 0..9 {
        let mut moved = vec![0xa5; offset];
        moved.extend_from_slice(&bytes);
        assert_same(&decode(&moved[offset..]).unwrap(), &[sample()]);
    }
}

#[test]
fn columns_are_read_into_memory_of_their_own() {
    let mut batch = decode(&encoded(&[sample()])).unwrap().remove(0);
    // They can grow, and be dropped.
    batch.times.push(1);
    batch.values[0].extend([2.0; 100]);
    assert_eq!((batch.times.len(), batch.values[0][104]), (6, 2.0));
}

#[test]
fn what_is_cut_off_or_longer_is_refused() {
    let bytes = encoded(&[sample(), bare(3)]);
    for end in (0..bytes.len()).step_by(STEP) {
        assert!(matches!(decode(&bytes[..end]), Err(Damage::Short { .. })), "{end}");
    }
    for more in 1..20 {
        let long = [&bytes[..], &vec![0; more]].concat();
        assert!(matches!(decode(&long), Err(Damage::Long { .. })), "{more}");
    }
}

/// How many of each thing there are in a batch.
fn shape(batch: &RowBatch) -> [usize; 5] {
    [batch.times.len(), batch.values.len(), batch.late.len(), batch.dictionary.len(), batch.fields.len()]
}

#[test]
fn a_changed_byte_is_refused_or_changes_a_value() {
    let batches = [sample(), bare(3)];
    let bytes = encoded(&batches);
    let shapes: Vec<_> = batches.iter().map(shape).collect();
    let (mut refused, mut read) = (0, 0);
    for place in (0..bytes.len()).step_by(STEP) {
        for change in [1u8, 2, 0x10, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= change;
            match decode(&changed) {
                Ok(batches) => {
                    assert_eq!(batches.iter().map(shape).collect::<Vec<_>>(), shapes, "{place}");
                    assert!(check(&changed));
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    // Values are most of the message.
    assert!(refused > 500 / STEP && read > 500 / STEP, "{refused} refused, {read} read");
}

#[test]
fn counts_of_anything_are_compared_with_the_bytes_before_memory_is_taken() {
    let bytes = encoded(&[sample()]);
    for word in 0..12 {
        for value in
            [0, 1, 2, 1 << 31, u64::from(u32::MAX), 1 << 32, 1 << 61, 1 << 62, u64::MAX / 8, u64::MAX - 1, u64::MAX]
        {
            let mut changed = bytes.clone();
            changed[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
            check(&changed);
            // All counts at once.
            for count in 4..9 {
                changed[count * 8..count * 8 + 8].copy_from_slice(&value.to_le_bytes());
            }
            assert!(!check(&changed));
        }
    }
}

/// The message of the sample with a word changed.
fn with_word(word: usize, value: u64) -> Result<Vec<RowBatch>, Damage> {
    let mut bytes = encoded(&[sample()]);
    bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
    decode(&bytes)
}

#[test]
fn what_is_wrong_is_told() {
    let told = |word, value| with_word(word, value).unwrap_err().to_string();
    let bytes = encoded(&[sample()]).len();
    assert_eq!(told(0, 0x31), "it begins with 0x0000000000000031 instead of 0x0a31762f73776f72");
    assert_eq!(told(1, 8), format!("{bytes} bytes where there should be 8"));
    assert_eq!(told(2, 2), "0 bytes where 72 are needed");
    assert_eq!(told(4, 6), format!("a batch of {} bytes, by its counts of {}", bytes - 24, bytes + 8));
    assert_eq!(told(4, u64::MAX), format!("a batch of {} bytes, by its counts of too many", bytes - 24));
    assert_eq!(told(10, 1 << 32), "4294967296 where a number of 32 bits should be");
    // Behind the header and five times: the word with the last key id.
    assert_eq!(told(12 + 5 + 2, 1 << 32), "something else than zeros between two columns");
    let late = 12 + 5 + 3 + 15;
    assert_eq!(told(late, 5), "row 5 cannot be the next that was late");
    assert_eq!(told(late + 1, 0), "row 0 cannot be the next that was late");
    let key_lengths = late + 6 + 2;
    assert_eq!(told(key_lengths, 8), "texts that are not UTF-8 or have other lengths");
    let text = key_lengths + 3 + 3;
    assert_eq!(told(text, u64::MAX), "texts that are not UTF-8 or have other lengths");
}

#[test]
fn a_text_is_not_cut_within_a_letter() {
    let batch = |fields: [&str; 2]| RowBatch {
        fields: fields.map(Arc::from).to_vec(),
        values: vec![Vec::new(); 2],
        ..RowBatch::default()
    };
    let mut bytes = encoded(&[batch(["\u{fc}", "ab"])]);
    assert!(check(&bytes));
    let lengths = (3 + 9) * 8;
    (bytes[lengths], bytes[lengths + 8]) = (1, 3);
    assert_eq!(decode(&bytes).unwrap_err(), Damage::Text);
}

#[test]
fn a_message_is_hardly_longer_than_its_columns() {
    for (rows, most) in [(64, 1.12), (1_000, 1.01)] {
        let batch = RowBatch { fields: vec!["latency_ms".into()], values: vec![vec![0.5; rows]], ..bare(rows) };
        let ratio = length(&[batch]) as f64 / (rows * (8 + 4 + 8)) as f64;
        assert!(ratio <= most, "{rows} rows: {ratio}");
    }
}

/// Pseudo-random words (splitmix64), the same in each run.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }

    /// A word as counts and lengths are: mostly small.
    fn small_word(&mut self) -> u64 {
        self.word() >> [63, 62, 61, 60, 32, 0][self.below(6)]
    }
}

/// As the fuzz target does, without its feedback.
#[test]
fn random_bytes_do_no_harm() {
    let mut random = Random(5);
    let cases = match (cfg!(miri), std::env::var_os("LONG_TESTS").is_some()) {
        (true, _) => 40,
        (false, false) => 200_000,
        (false, true) => 20_000_000,
    };
    let valid = encoded(&[sample(), bare(2), sample()]);
    let mut read = 0;
    for _ in 0..cases {
        let mut bytes: Vec<u8> = (0..random.below(40)).flat_map(|_| random.small_word().to_le_bytes()).collect();
        bytes.truncate(bytes.len() - random.below(2).min(bytes.len()));
        check(&bytes);
        read += u32::from(check_behind_lengths(&bytes));
        let mut changed = valid.clone();
        for _ in 0..1 + random.below(4) {
            let place = random.below(changed.len() / 8) * 8;
            changed[place..place + 8].copy_from_slice(&random.small_word().to_le_bytes());
        }
        check(&changed);
    }
    assert!(read > cases / 100, "{read} of {cases} were read");
}

fn any_f64() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits)
}

fn any_batch() -> impl Strategy<Value = RowBatch> {
    let shape = (0usize..40, 0usize..4);
    shape.prop_flat_map(|(rows, fields)| {
        let late_row = (any::<bool>(), any::<i64>(), any::<u64>());
        let heads = (any::<u32>(), any::<u32>(), any::<u32>(), any::<i64>());
        let columns = (vec(any::<i64>(), rows), vec(any::<u32>(), rows), vec(vec(any_f64(), rows), fields));
        let texts = (vec((any::<u32>(), ".{0,20}"), 0..5), vec(".{0,12}", fields));
        (heads, columns, texts, vec(late_row, rows)).prop_map(
            |(heads, (times, keys, values), (keys_told, names), lates)| {
                let (sender, receiver, generation, read_at_micros) = heads;
                let lates = lates.into_iter().zip(0..).filter(|((is_late, ..), _)| *is_late);
                RowBatch {
                    sender: WorkerIndex(sender),
                    receiver: WorkerIndex(receiver),
                    generation,
                    dictionary: keys_told.into_iter().map(|(id, key)| DictionaryEntry { id, key }).collect(),
                    fields: names.into_iter().map(Arc::from).collect(),
                    times,
                    keys,
                    values,
                    late: lates.map(|((_, watermark, refused_by), row)| late(row, watermark, refused_by)).collect(),
                    read_at_micros,
                }
            },
        )
    })
}

fn config() -> ProptestConfig {
    match cfg!(miri) {
        // Miri has no files to keep failures in.
        true => ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() },
        false => ProptestConfig::default(),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_batches_come_back(batches in vec(any_batch(), 0..4)) {
        let bytes = encoded(&batches);
        assert_same(&decode(&bytes).unwrap(), &batches);
        prop_assert!(check(&bytes));
    }

    #[test]
    fn a_part_of_any_message_is_refused(batches in vec(any_batch(), 1..3), share in 0.0f64..1.0) {
        let bytes = encoded(&batches);
        let cut = &bytes[..(bytes.len() as f64 * share) as usize];
        let refused = matches!(decode(cut), Err(Damage::Short { .. }));
        prop_assert!(refused);
    }
}
