//! The Kafka sinks against a real broker.

use kafka_broker::{Broker, ReadRecord};
use llm_optimizer_processor::GroupingKey;
use llm_optimizer_processor::config::ProducerConfig;
use llm_optimizer_processor::runtime::Control;
use llm_optimizer_processor::sink::{
    Firing, IntoSinkSpec, KafkaAggregationSink, NoObserver, ProcessIdentity, ResultOp, ResultRow, ResultValue,
    RetryPolicy, SinkHub, Ticket, TimeWindow, encode_record_key, encode_result,
};
use llm_optimizer_processor::time::EventTime;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: RetryPolicy =
    RetryPolicy { max_retries: 2, initial_delay: Duration::from_millis(10), max_delay: Duration::from_millis(20) };

fn config(broker: &Broker, topic: &str) -> ProducerConfig {
    ProducerConfig {
        bootstrap_servers: broker.servers().to_owned(),
        result_topic: topic.to_owned(),
        compression_type: "zstd".to_owned(),
        acks: "all".to_owned(),
        retries: None,
        properties: BTreeMap::new(),
    }
}

fn hub(config: ProducerConfig, control: &Control) -> SinkHub {
    let sink = KafkaAggregationSink::new(config).into_sink_spec().build("feedback", ProcessIdentity::ALONE).unwrap();
    SinkHub::start(vec![sink], RETRY, Arc::new(NoObserver), control.clone()).unwrap()
}

fn row(model: u64, minute: i64, revision: u32, op: ResultOp) -> ResultRow {
    let at = |minute: i64| EventTime::from_millis(1_790_000_000_000 / 60_000 * 60_000 + minute * 60_000);
    ResultRow {
        window: TimeWindow { start: at(minute), end: at(minute + 1) },
        window_name: None,
        key: GroupingKey::from_fields(&[("model", format!("model-{model}"))]),
        names: ["count", "average"].map(Arc::from).into(),
        values: vec![ResultValue::Count(12), ResultValue::Number(102.2)],
        revision,
        op,
        firing: if revision == 0 { Firing::OnTime } else { Firing::Late },
        fired_at: at(minute + 2),
        complete: None,
        accumulators: None,
        view: None,
    }
}

fn bytes(encode: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encode(&mut out);
    Some(out)
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is left of a topic when each key keeps its last record, and tombstones go.
fn compacted(records: &[ReadRecord]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut latest = BTreeMap::new();
    for record in records {
        let key = record.key.clone().expect("a result has a key");
        match &record.value {
            Some(value) => latest.insert(key, value.clone()),
            None => latest.remove(&key),
        };
    }
    latest
}

#[test]
fn the_topic_holds_the_latest_revision_of_each_window_and_key() {
    let broker = Broker::shared();
    broker.create_topic("sink-keyed", 4, &[("cleanup.policy", "compact")]);
    let control = Control::new();
    let hub = hub(config(broker, "sink-keyed"), &control);
    for minute in 0..3 {
        hub.submit((0..20).map(|model| row(model, minute, 0, ResultOp::Upsert)).collect());
    }
    let refined = row(3, 1, 1, ResultOp::Upsert);
    let retracted = row(4, 1, 1, ResultOp::Retract);
    let last = hub.submit([refined.clone(), retracted.clone()].into_iter().collect());
    wait_until("all is acknowledged", || hub.acknowledged() == last);
    let records = broker.read_all("sink-keyed");
    assert_eq!(records.len(), 62, "acknowledged means that a reader sees it");
    assert_eq!(hub.finish().unwrap().sinks[0].rows, 62);
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    for record in &records {
        assert_eq!(record.headers, [header("schema-version", "1"), header("job", "feedback")]);
    }
    let mut expected = BTreeMap::new();
    for minute in 0..3 {
        for model in 0..20 {
            let row = row(model, minute, 0, ResultOp::Upsert);
            expected.insert(bytes(|out| encode_record_key(&row, out)), bytes(|out| encode_result(&row, out)));
        }
    }
    expected.insert(bytes(|out| encode_record_key(&refined, out)), bytes(|out| encode_result(&refined, out)));
    expected.remove(&bytes(|out| encode_record_key(&retracted, out)));
    let found = compacted(&records).into_iter().map(|(key, value)| (Some(key), Some(value))).collect();
    assert_eq!(expected, found);
    assert!(records.iter().map(|record| record.partition).collect::<std::collections::BTreeSet<_>>().len() > 1);
}

#[test]
fn a_broker_that_stops_and_starts_during_the_run_loses_and_doubles_nothing() {
    let broker = Broker::start();
    broker.create_topic("sink-outage", 2, &[]);
    let control = Control::new();
    let hub = hub(config(&broker, "sink-outage"), &control);
    let submit = |from: i64| -> Ticket {
        let mut last = Ticket(0);
        for minute in from..from + 100 {
            last = hub.submit((0..10).map(|model| row(model, minute, 0, ResultOp::Upsert)).collect());
        }
        last
    };
    let before = submit(0);
    wait_until("the first part is acknowledged", || hub.acknowledged() == before);
    for (round, abrupt) in [(1, false), (2, true)] {
        let racing = std::thread::scope(|scope| {
            let submitted = scope.spawn(|| submit(round * 200));
            if abrupt {
                broker.kill()
            } else {
                broker.stop()
            }
            submitted.join().unwrap()
        });
        let during = submit(round * 200 + 100);
        assert!(racing < during);
        wait_until("the outage shows", || !hub.troubles().is_empty());
        assert!(hub.backlog_rows() >= 1000 && hub.acknowledged() < during);
        broker.restart();
        wait_until("all is acknowledged", || hub.acknowledged() == during);
        assert_eq!((hub.backlog_rows(), hub.troubles()), (0, vec![]));
    }
    assert!(!control.has_failed(), "an outage is no failure, however few the retries");
    assert_eq!(hub.finish().unwrap().rows, 5000);
    let records = broker.read_all("sink-outage");
    assert_eq!(records.len(), 5000, "nothing twice");
    assert_eq!(compacted(&records).len(), 5000, "nothing lost");
    for partition in 0..2 {
        let of_model: Vec<_> = records
            .iter()
            .filter(|record| record.partition == partition)
            .map(|record| serde_json::from_slice::<serde_json::Value>(record.value.as_ref().unwrap()).unwrap())
            .filter(|value| value["key"]["model"] == "model-7")
            .map(|value| value["window"]["start"].as_str().unwrap().to_owned())
            .collect();
        assert!(of_model.is_sorted(), "in the order in which they were submitted");
    }
}

#[test]
fn an_end_during_an_outage_comes_in_time_and_says_what_is_missing() {
    let broker = Broker::start();
    broker.create_topic("sink-end", 1, &[]);
    let control = Control::new();
    let hub = hub(config(&broker, "sink-end"), &control);
    let first = hub.submit([row(0, 0, 0, ResultOp::Upsert)].into_iter().collect());
    wait_until("the first is acknowledged", || hub.acknowledged() == first);
    broker.stop();
    hub.submit([row(1, 0, 0, ResultOp::Upsert)].into_iter().collect());
    let begun = Instant::now();
    let error = hub.finish().unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(error.contains("`kafka`") && error.contains("1 records for topic `sink-end`"), "{error}");
    assert!(error.contains(broker.servers()), "{error}");
}

#[test]
fn a_missing_topic_fails_the_run_by_name() {
    let broker = Broker::shared();
    let control = Control::new();
    let hub = hub(config(broker, "sink-absent"), &control);
    wait_until("the run failed", || control.has_failed());
    let failure = control.take_failure().unwrap().to_string();
    let expected = format!("topic `sink-absent` does not exist on {}; create it", broker.servers());
    assert!(failure.contains(&expected), "{failure}");
    assert!(hub.finish().is_err());
}
