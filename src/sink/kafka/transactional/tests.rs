//! What needs no broker; `tests/kafka` has the rest.

use super::*;
use crate::sink::encode::tests::documented_row;
use crate::sink::{ResultOp, ResultValue, encode_record_key, encode_result};

fn config(properties: &[(&str, &str)]) -> ProducerConfig {
    ProducerConfig {
        bootstrap_servers: "127.0.0.1:1".into(),
        result_topic: "results".into(),
        compression_type: "none".into(),
        acks: "all".into(),
        retries: None,
        properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }
}

fn sink() -> TransactionalResults {
    TransactionalResults::new(&config(&[]), "feedback", ProcessIdentity::ALONE).unwrap()
}

fn row(count: u64) -> ResultRow {
    let mut row = documented_row();
    row.values[0] = ResultValue::Count(count);
    row
}

#[test]
fn a_row_that_replaces_another_comes_without_a_tombstone() {
    let of_view = |op: ResultOp, count: u64, is_replaced: bool| {
        let mark = crate::sink::ViewMark { name: "slowest".into(), frontier: row(1).fired_at, is_replaced };
        ResultRow { op, view: Some(mark), ..row(count) }
    };
    let rows = [
        of_view(ResultOp::Retract, 1, true),
        of_view(ResultOp::Upsert, 2, false),
        of_view(ResultOp::Retract, 3, false),
    ];
    let mut sink = sink();
    sink.write(&rows).unwrap();
    let mut chunk = sink.prepare(Epoch::new(1)).unwrap().outbox.remove(0);
    Origin { generation: Generation(1), run: RunId(1), after: None }.put_into(&mut chunk);
    let records = Chunk::read(&chunk).unwrap().records;
    let values: Vec<bool> = records.iter().map(|(_, value)| value.is_some()).collect();
    assert_eq!(values, [true, false], "the new row, and the deletion of one that nothing replaces");
    assert!(records.iter().all(|(key, _)| key.starts_with(br#"{"view":"slowest","key":{"#)));
}

#[test]
fn chunks_hold_the_records_that_are_sent_and_are_the_same_each_time() {
    let mut retracted = row(2);
    retracted.op = ResultOp::Retract;
    let rows = [row(1), retracted];
    let chunks = |split: bool| {
        let mut sink = sink();
        match split {
            true => rows.iter().for_each(|row| sink.write(std::slice::from_ref(row)).unwrap()),
            false => sink.write(&rows).unwrap(),
        }
        let mut outbox = sink.prepare(Epoch::new(1)).unwrap().outbox;
        let origin = Origin { generation: Generation(1), run: RunId(1), after: None };
        outbox.iter_mut().for_each(|chunk| origin.put_into(chunk));
        outbox
    };
    assert_eq!(chunks(true), chunks(false), "but for where they come from");
    let chunks = chunks(false);
    assert_eq!(chunks.len(), 1);
    let chunk = Chunk::read(&chunks[0]).unwrap();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    encode_record_key(&row(1), &mut key);
    encode_result(&row(1), &mut value);
    assert_eq!(chunk.topic, "results");
    assert_eq!(chunk.headers, record_headers("feedback"));
    assert_eq!(chunk.records, [(&key[..], Some(&value[..])), (&key[..], None)]);
}

#[test]
fn an_epoch_is_cut_into_chunks_and_one_without_results_is_an_empty_one() {
    let mut sink = sink();
    let rows: Vec<ResultRow> = (0..12_000).map(row).collect();
    rows.chunks(999).for_each(|rows| sink.write(rows).unwrap());
    let outbox = sink.prepare(Epoch::new(1)).unwrap().outbox;
    let counts: Vec<usize> = outbox.iter().map(|chunk| Chunk::read(chunk).unwrap().records.len()).collect();
    assert_eq!(counts, [5_000, 5_000, 2_000]);
    let mut sink = self::sink();
    let outbox = sink.prepare(Epoch::new(2)).unwrap().outbox;
    assert_eq!(outbox.len(), 1, "it has to be marked");
    assert_eq!(Chunk::read(&outbox[0]).unwrap().records, []);
}

#[test]
fn results_of_a_checkpoint_that_was_not_published_come_first_in_the_next() {
    let mut sink = sink();
    sink.write(&[row(1)]).unwrap();
    let first = sink.prepare(Epoch::new(1)).unwrap().outbox;
    sink.write(&[row(2)]).unwrap();
    let second = sink.prepare(Epoch::new(2)).unwrap().outbox;
    assert_eq!((second.len(), &second[0]), (2, &first[0]));
    assert_eq!(sink.prepare(Epoch::new(2)).unwrap().outbox, second, "the same epoch again");
    let error = sink.commit(Epoch::new(1)).unwrap_err().to_string();
    assert!(error.contains("epoch 1") && error.contains('2'), "{error}");
}

#[test]
fn no_two_starts_have_the_same_outbox() {
    let outbox = || OutboxFingerprint::of(&sink().prepare(Epoch::new(1)).unwrap().outbox);
    assert_ne!(outbox(), outbox());
}

#[test]
fn much_that_waits_asks_for_the_end_of_the_epoch() {
    let mut sink = sink();
    let rows: Vec<ResultRow> = (0..10_000).map(row).collect();
    let mut written = 0usize;
    while !sink.wants_epoch_end() {
        sink.write(&rows).unwrap();
        written += rows.len();
        assert!(written < 1_000_000);
    }
    let bytes: usize = sink.prepare(Epoch::new(1)).unwrap().outbox.iter().map(Vec::len).sum();
    assert!((ENOUGH_BYTES * 9 / 10..ENOUGH_BYTES * 12 / 10).contains(&bytes), "{bytes}");
    assert!(!sink.wants_epoch_end());
}

#[test]
fn what_librdkafka_refuses_is_an_error_of_the_configuration() {
    for (name, value, part) in [("no.such.thing", "1", "no.such.thing"), ("max.in.flight", "9", "max.in.flight")] {
        match TransactionalResults::new(&config(&[(name, value)]), "feedback", ProcessIdentity::ALONE).err() {
            Some(ProcessorError::Config(reason)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}
