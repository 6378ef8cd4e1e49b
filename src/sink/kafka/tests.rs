//! The Kafka sinks with the broker that librdkafka brings for tests.

use super::delivery::{Delivery, Outgoing, Oversize};
use super::{KafkaResults, KafkaSide, TransactionalResults};
use crate::config::ProducerConfig;
use crate::error::ProcessorError;
use crate::runtime::Control;
use crate::sink::encode::tests::documented_row;
use crate::sink::side_encode::tests::late_record;
use crate::sink::{
    NoObserver, ProcessIdentity, ResultOp, ResultRow, ResultSink, ResultValue, Shard, SideSink, SinkContext,
    SinkObserver, SinkRecovery, encode_record_key, encode_result, producer_config,
};
use crate::time::Epoch;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TOPIC: &str = "results";

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster
}

fn config(cluster: &Cluster) -> ProducerConfig {
    ProducerConfig {
        bootstrap_servers: cluster.bootstrap_servers(),
        result_topic: TOPIC.into(),
        compression_type: "lz4".into(),
        acks: "all".into(),
        retries: None,
        properties: [("reconnect.backoff.max.ms".to_owned(), "200".to_owned())].into(),
    }
}

fn context() -> SinkContext {
    SinkContext::new("kafka", Arc::new(NoObserver), Control::new())
}

/// A record as a consumer sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The first `count` records of the topic, and whatever comes in half a second after them.
fn seen(cluster: &Cluster, count: usize) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let begun = Instant::now();
    let mut records = Vec::new();
    loop {
        let patience = if records.len() < count { Duration::from_secs(20) } else { Duration::from_millis(500) };
        let Some(message) = consumer.poll(patience) else { return records };
        let Ok(message) = message else {
            assert!(begun.elapsed() < Duration::from_secs(30), "no record in time: {message:?}");
            continue;
        };
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        records.push(Seen { key: owned(message.key()), value: owned(message.payload()), headers });
    }
}

fn row(count: u64) -> ResultRow {
    let mut row = documented_row();
    row.values[0] = ResultValue::Count(count);
    row
}

fn value(row: &ResultRow) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    encode_result(row, &mut value);
    Some(value)
}

#[test]
fn results_are_keyed_and_say_their_schema_and_retractions_are_tombstones() {
    let cluster = cluster();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    sink.open(context()).unwrap();
    let mut retracted = row(2);
    retracted.op = ResultOp::Retract;
    sink.write(&[row(1), retracted]).unwrap();
    sink.flush().unwrap();
    let records = seen(&cluster, 2);
    let mut key = Vec::new();
    encode_record_key(&row(1), &mut key);
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let headers = vec![header("schema-version", "1"), header("job", "feedback")];
    assert_eq!(
        records,
        [
            Seen { key: Some(key.clone()), value: value(&row(1)), headers: headers.clone() },
            Seen { key: Some(key), value: None, headers },
        ]
    );
}

#[test]
fn a_broker_that_goes_away_and_comes_back_loses_and_doubles_nothing() {
    let cluster = cluster();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    let context = context();
    sink.open(context.clone()).unwrap();
    sink.write(&[row(0)]).unwrap();
    sink.flush().unwrap();
    cluster.broker_down(1).unwrap();
    let writer = std::thread::spawn(move || {
        for count in 1..200 {
            sink.write(&[row(count)]).unwrap();
            if count % 50 == 0 {
                sink.flush().unwrap();
            }
        }
        sink.flush().unwrap();
    });
    let begun = Instant::now();
    while context.trouble().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the outage does not show");
        std::thread::sleep(Duration::from_millis(20));
    }
    let reason = context.trouble().unwrap().reason;
    assert!(reason.contains("records for topic `results` are not acknowledged by broker"), "{reason}");
    assert!(!writer.is_finished());
    assert!(!context.control().has_failed());
    cluster.broker_up(1).unwrap();
    writer.join().unwrap();
    let values: Vec<_> = seen(&cluster, 200).into_iter().map(|record| record.value).collect();
    assert_eq!(values, (0..200).map(|count| value(&row(count))).collect::<Vec<_>>());
}

/// Remembers what it is told of brokers, once for each change.
#[derive(Default)]
struct Words(Mutex<Vec<bool>>);

impl SinkObserver for Words {
    fn broker_answers(&self, sink: &str, answers: bool) {
        assert_eq!(sink, "kafka");
        let mut words = self.0.lock().unwrap();
        if words.last() != Some(&answers) {
            words.push(answers);
        }
    }
}

#[test]
fn the_observer_is_told_when_brokers_stop_to_answer_and_when_they_answer_again() {
    let cluster = cluster();
    cluster.broker_down(1).unwrap();
    let words = Arc::new(Words::default());
    let context = SinkContext::new("kafka", Arc::clone(&words) as Arc<dyn SinkObserver>, Control::new());
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    let wait_for = |expected: &[bool]| {
        let begun = Instant::now();
        while *words.0.lock().unwrap() != expected {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?} instead of {expected:?}", words.0.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| sink.open(context).unwrap());
        wait_for(&[false]);
        cluster.broker_up(1).unwrap();
        opening.join().unwrap();
    });
    wait_for(&[false, true]);
    sink.write(&[row(1)]).unwrap();
    sink.flush().unwrap();
    cluster.broker_down(1).unwrap();
    std::thread::scope(|scope| {
        sink.write(&[row(2)]).unwrap();
        let flushing = scope.spawn(|| sink.flush().unwrap());
        wait_for(&[false, true, false]);
        cluster.broker_up(1).unwrap();
        flushing.join().unwrap();
    });
    wait_for(&[false, true, false, true]);
}

#[test]
fn what_the_broker_refuses_is_an_error_and_sent_again_in_order() {
    let cluster = cluster();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    sink.open(context()).unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    sink.write(&[row(1), row(2)]).unwrap();
    let error = sink.flush().unwrap_err();
    assert!(matches!(&error, ProcessorError::Kafka(reason) if reason.contains("results[0]")), "{error}");
    sink.write(&[row(3)]).unwrap();
    sink.flush().unwrap();
    let values: Vec<_> = seen(&cluster, 3).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [value(&row(1)), value(&row(2)), value(&row(3))]);
}

#[test]
fn a_flush_gives_up_when_the_run_fails() {
    let cluster = cluster();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    let context = context();
    sink.open(context.clone()).unwrap();
    cluster.broker_down(1).unwrap();
    sink.write(&[row(1)]).unwrap();
    let flushing = std::thread::spawn(move || sink.flush());
    std::thread::sleep(Duration::from_millis(50));
    context.control().fail(ProcessorError::Source("elsewhere".into()));
    let error = flushing.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("1 records for topic `results` are not acknowledged"), "{error}");
}

#[test]
fn a_broker_that_is_down_at_the_start_is_waited_for() {
    let cluster = cluster();
    cluster.broker_down(1).unwrap();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    let context = context();
    let opened = context.clone();
    let opening = std::thread::spawn(move || {
        sink.open(opened).unwrap();
        sink.write(&[row(1)]).unwrap();
        sink.flush().unwrap();
    });
    let begun = Instant::now();
    while context.trouble().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the outage does not show");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(context.trouble().unwrap().reason.contains("cannot be reached for topic `results`"), "{context:?}");
    cluster.broker_up(1).unwrap();
    opening.join().unwrap();
    assert_eq!(context.trouble(), None);
    assert_eq!(seen(&cluster, 1).len(), 1);
}

#[test]
fn an_end_without_results_does_not_wait_for_a_broker() {
    let cluster = cluster();
    cluster.broker_down(1).unwrap();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    let context = context();
    context.begin_closing();
    sink.open(context).unwrap();
    sink.close().unwrap();
}

#[test]
fn a_missing_topic_is_named() {
    let cluster = cluster();
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error("absent", unknown).unwrap();
    let mut config = config(&cluster);
    config.result_topic = "absent".into();
    let error = KafkaResults::new(&config, "feedback").unwrap().open(context()).unwrap_err().to_string();
    let servers = cluster.bootstrap_servers();
    assert!(error.contains(&format!("topic `absent` does not exist on {servers}; create it")), "{error}");
}

#[test]
fn a_wrong_property_is_a_configuration_error() {
    let cluster = cluster();
    let mut config = config(&cluster);
    config.properties.insert("no.such.thing".into(), "1".into());
    match KafkaResults::new(&config, "feedback").err() {
        Some(ProcessorError::Config(reason)) => assert!(reason.contains("no.such.thing"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn side_records_keep_their_bytes() {
    let cluster = cluster();
    let mut sink = KafkaSide::new(&config(&cluster), "feedback", TOPIC).unwrap();
    sink.open(context()).unwrap();
    sink.write(&[late_record(&[0xff, 0, 1]), late_record(b"")]).unwrap();
    sink.flush().unwrap();
    let records = seen(&cluster, 2);
    assert_eq!(records[0].value.as_deref(), Some(&[0xff, 0, 1][..]));
    assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(records[0].headers[0], ("trace".to_owned(), Some(b"abc".to_vec())));
    assert_eq!(records[0].headers[2], ("reason".to_owned(), Some(b"late".to_vec())));
    assert_eq!(records[1].value.as_deref(), Some(&b""[..]), "empty is not a tombstone");
}

#[test]
fn a_dead_letter_too_large_for_the_broker_is_cut_and_says_so() {
    let cluster = cluster();
    let mut client = producer_config(&config(&cluster), "feedback");
    client.set("message.max.bytes", "400000");
    let large = Outgoing { key: None, value: Some(vec![b'x'; 500_000]), headers: [].into() };
    let small = Outgoing { key: None, value: Some(b"after".to_vec()), headers: [].into() };

    let mut cutting = Delivery::new(client.clone(), TOPIC, Oversize::Cut).unwrap();
    cutting.open(context()).unwrap();
    cutting.push(large.clone());
    cutting.push(small);
    cutting.settle().unwrap();
    let records = seen(&cluster, 2);
    assert_eq!(records[0].value.as_ref().map(Vec::len), Some(256 * 1024));
    assert_eq!(records[0].headers, [("payload_cut_from".to_owned(), Some(b"500000".to_vec()))]);
    assert_eq!(records[1].value.as_deref(), Some(&b"after"[..]));

    let mut refusing = Delivery::new(client, TOPIC, Oversize::Refuse).unwrap();
    refusing.open(context()).unwrap();
    refusing.push(large);
    for _ in 0..2 {
        let error = refusing.settle().unwrap_err().to_string();
        assert!(error.contains("results") && error.contains("size"), "{error}");
    }
}

#[test]
fn a_full_queue_is_waited_for() {
    let cluster = cluster();
    let mut client = producer_config(&config(&cluster), "feedback");
    client.set("queue.buffering.max.messages", "10");
    let mut delivery = Delivery::new(client, TOPIC, Oversize::Refuse).unwrap();
    delivery.open(context()).unwrap();
    for number in 0..500u32 {
        delivery.push(Outgoing { key: None, value: Some(number.to_string().into_bytes()), headers: [].into() });
    }
    delivery.settle().unwrap();
    let values: Vec<_> = seen(&cluster, 500).into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, (0..500u32).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
}

#[test]
fn what_a_run_of_exactly_once_left_is_delivered_at_least_once() {
    let cluster = cluster();
    let mut before = TransactionalResults::new(&config(&cluster), "feedback", ProcessIdentity::ALONE).unwrap();
    before.write(&[row(1), row(2)]).unwrap();
    let prepared = before.prepare(Epoch::FIRST).unwrap();
    let mut sink = KafkaResults::new(&config(&cluster), "feedback").unwrap();
    sink.open(context()).unwrap();
    let recovery =
        SinkRecovery { prepared: vec![(Shard { sink: 0, process: 3 }, prepared)], ..SinkRecovery::default() };
    sink.recover(recovery.clone()).unwrap();
    sink.write(&[row(3)]).unwrap();
    sink.flush().unwrap();
    let values: Vec<_> = seen(&cluster, 3).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [value(&row(1)), value(&row(2)), value(&row(3))]);
    let mut damaged = recovery;
    damaged.prepared[0].1.outbox[0].pop();
    let error = sink.recover(damaged).unwrap_err().to_string();
    assert!(error.contains("shard 0-3"), "{error}");
}
