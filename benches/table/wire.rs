//! What crosses a link between two processes: the same batches written and read back by the processor's own format, by timely's
//! default (serde and bincode), and by nothing but copies of the columns.

use super::measure::{Table, cpu, in_turn};
use llm_optimizer_processor::event::{DictionaryEntry, RowBatch, WorkerIndex};
use llm_optimizer_processor::exchange::wire::Batches;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use timely::bytes::arc::{Bytes, BytesMut};
use timely::container::PushInto;
use timely::dataflow::channels::ContainerBytes;

/// Rows of a batch: what a turn of the source has for each of four workers.
const ROWS: usize = 1024;
/// Batches that are written one after the other: more than the caches hold, as on a link that is busy.
const BATCHES: usize = 256;
const TIMES: usize = 8;

pub fn run(table: &mut Table) {
    if !table.wants("wire") {
        return;
    }
    for fields in [1, 4] {
        compare(table, fields);
    }
}

/// The lines for batches with so many value fields.
fn compare(table: &mut Table, fields: usize) {
    let rows = (ROWS * BATCHES * TIMES) as u64;
    let batches: Vec<RowBatch> = batches(fields);
    let ours: Vec<Batches> = batches.iter().cloned().map(container).collect();
    let serde: Vec<Vec<SerdeBatch>> = batches.iter().map(|batch| vec![SerdeBatch::of(batch)]).collect();
    let own_bytes = ROWS * (8 + 4 + 8 * fields);

    let copies = || cpu(|| (0..TIMES).for_each(|_| batches.iter().for_each(copy)));
    let (floor, time) = in_turn(copies, || cpu(|| (0..TIMES).for_each(|_| ours.iter().for_each(cross))));
    let name = format!("rows over a link, written and read, {fields} fields, to copies of the columns (CPU)");
    table.ratio(&name, floor, time, rows, "");
    let speed = (own_bytes * BATCHES * TIMES) as f64 / 1e6 / time.as_secs_f64();
    table.figure(&format!("the same, bytes of columns a second, {fields} fields"), "", &format!("{speed:.0} MB/s"), "");

    let safely = || cpu(|| (0..TIMES).for_each(|_| batches.iter().for_each(copy_safely)));
    let (floor, time) = in_turn(safely, || cpu(|| (0..TIMES).for_each(|_| ours.iter().for_each(cross))));
    table.ratio(&format!("the same, to copies in safe code, {fields} fields (CPU)"), floor, time, rows, "");

    let by_serde = || cpu(|| (0..TIMES).for_each(|_| serde.iter().for_each(cross)));
    let (floor, time) = in_turn(by_serde, || cpu(|| (0..TIMES).for_each(|_| ours.iter().for_each(cross))));
    table.ratio(&format!("the same, to serde and bincode, {fields} fields (CPU)"), floor, time, rows, ">= 1");

    let each = |bytes: usize| bytes as f64 / ROWS as f64;
    let share = ours[1].length_in_bytes() as f64 / own_bytes as f64;
    table.figure(
        &format!("bytes of a row on a link, {fields} fields"),
        &format!("{:.2} (bincode {:.2})", each(own_bytes), each(serde[1].length_in_bytes())),
        &format!("{:.2}, {share:.3} of the columns", each(ours[1].length_in_bytes())),
        "<= 1.2 of them",
    );
}

/// Batches of which the first has the texts of 48 keys.
fn batches(fields: usize) -> Vec<RowBatch> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(17);
    let batch = |number: usize| RowBatch {
        sender: WorkerIndex(1),
        receiver: WorkerIndex(2),
        dictionary: (0..if number == 0 { 48 } else { 0 })
            .map(|id| DictionaryEntry { id, key: format!(r#"{{"model":"model-{id}","region":"us-west-2"}}"#) })
            .collect(),
        fields: (0..fields).map(|field| format!("latency_ms_{field}").into()).collect(),
        times: (0..ROWS as i64).map(|row| 1_700_000_000_000 + row - random.random_range(0..2_000)).collect(),
        keys: (0..ROWS).map(|_| random.random_range(0..48)).collect(),
        values: (0..fields).map(|_| (0..ROWS).map(|_| random.random()).collect()).collect(),
        ..RowBatch::default()
    };
    (0..BATCHES).map(batch).collect()
}

fn container(batch: RowBatch) -> Batches {
    let mut batches = Batches::default();
    batches.push_into(batch);
    batches
}

/// Writes a container as timely does before it is sent, and reads it as timely does when it has come.
fn cross<C: ContainerBytes>(container: &C) {
    let mut room = black_box(Vec::with_capacity(container.length_in_bytes()));
    container.into_bytes(&mut room);
    let bytes: Bytes = BytesMut::from(room).freeze();
    black_box(C::from_bytes(black_box(bytes)));
}

/// What no format can do without: the columns copied to where they are sent from, and from there into memory of their own.
fn copy(batch: &RowBatch) {
    let mut room: Vec<u8> = black_box(Vec::with_capacity((8 + 4 + 8 * batch.values.len()) * ROWS));
    room.extend_from_slice(bytes_of(&batch.times));
    room.extend_from_slice(bytes_of(&batch.keys));
    batch.values.iter().for_each(|column| room.extend_from_slice(bytes_of(column)));
    let mut left: &[u8] = black_box(&room);
    let lengths = [8, 4].into_iter().chain(batch.values.iter().map(|_| 8)).map(|width| width * ROWS);
    for length in lengths {
        let (column, rest) = left.split_at(length);
        black_box(column.to_vec());
        left = rest;
    }
}

/// The same without a line of unsafe code: numbers to bytes and bytes to numbers, which the compiler makes copies of.
fn copy_safely(batch: &RowBatch) {
    let mut room: Vec<u8> = black_box(Vec::with_capacity((8 + 4 + 8 * batch.values.len()) * ROWS));
    write_safely(&batch.times, i64::to_le_bytes, &mut room);
    write_safely(&batch.keys, u32::to_le_bytes, &mut room);
    batch.values.iter().for_each(|column| write_safely(column, f64::to_le_bytes, &mut room));
    let (times, left) = black_box(&room[..]).split_at(8 * ROWS);
    let (keys, values) = left.split_at(4 * ROWS);
    read_safely(times, i64::from_le_bytes);
    read_safely(keys, u32::from_le_bytes);
    values.chunks(8 * ROWS).for_each(|column| read_safely(column, f64::from_le_bytes));
}

/// By way of a kilobyte or two on the stack, as what is written to takes bytes.
fn write_safely<T: Copy, const N: usize>(column: &[T], to_bytes: impl Fn(T) -> [u8; N], room: &mut Vec<u8>) {
    let mut bytes = [[0; N]; 256];
    for part in column.chunks(bytes.len()) {
        let bytes = &mut bytes[..part.len()];
        bytes.iter_mut().zip(part).for_each(|(bytes, number)| *bytes = to_bytes(*number));
        room.extend_from_slice(bytes.as_flattened());
    }
}

fn read_safely<T, const N: usize>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) {
    black_box(bytes.as_chunks::<N>().0.iter().map(|bytes| from_bytes(*bytes)).collect::<Vec<T>>());
}

fn bytes_of<T: Copy>(column: &[T]) -> &[u8] {
    // SAFETY: the columns are numbers, which have no padding; the bytes are those of the slice, for as long as it is borrowed.
    unsafe { std::slice::from_raw_parts(column.as_ptr().cast(), size_of_val(column)) }
}

/// A batch as serde sees it.
#[derive(Serialize, Deserialize)]
struct SerdeBatch {
    sender: u32,
    receiver: u32,
    generation: u32,
    dictionary: Vec<(u32, String)>,
    fields: Vec<String>,
    times: Vec<i64>,
    keys: Vec<u32>,
    values: Vec<Vec<f64>>,
    late: Vec<(u32, i64, u64)>,
    read_at_micros: i64,
}

impl SerdeBatch {
    /// Of a batch without late rows.
    fn of(batch: &RowBatch) -> Self {
        assert!(batch.late.is_empty());
        Self {
            sender: batch.sender.0,
            receiver: batch.receiver.0,
            generation: batch.generation,
            dictionary: batch.dictionary.iter().map(|entry| (entry.id, entry.key.clone())).collect(),
            fields: batch.fields.iter().map(|field| field.to_string()).collect(),
            times: batch.times.clone(),
            keys: batch.keys.clone(),
            values: batch.values.clone(),
            late: Vec::new(),
            read_at_micros: batch.read_at_micros,
        }
    }
}
