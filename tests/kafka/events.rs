//! Events of tests, and what the program makes of the same events from files.

use crate::program::{Program, Setup};
use chrono::{DateTime, SecondsFormat};
use kafka_broker::{Broker, ReadRecord, TestRecord};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// 2025-01-01T00:00:00Z, in milliseconds.
pub const BASE: i64 = 1_735_689_600_000;
/// The model of the events that close all windows before them; their own windows stay open while a topic is read.
const CLOSING: &str = "closing";

/// The text of results without the time of firing, by the text of their Kafka keys.
pub type Results = BTreeMap<String, String>;

/// A time in milliseconds as results and events write it.
pub fn time_text(at: i64) -> String {
    DateTime::from_timestamp_millis(at).expect("a time").to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// One event.
pub fn event(at: i64, model: &str, region: &str, latency: f64) -> String {
    let time = time_text(at);
    format!(
        "{{\"id\":\"{at}\",\"timestamp\":\"{time}\",\"source\":\"test\",\"event_type\":\"metric\",\
         \"data\":{{\"model\":\"{model}\",\"region\":\"{region}\",\"latency_ms\":{latency}}}}}"
    )
}

/// Event `number` of a partition: ten a second, out of order by up to 1.2 s, and one in 500 a minute behind.
pub fn numbered(partition: i32, number: i64) -> String {
    let disorder = (number * 7 + i64::from(partition)) % 13 * 100;
    let late = if number % 500 == 499 { 60_000 } else { 0 };
    let model = format!("model-{}", (number * 31 + i64::from(partition)) % 5);
    let region = format!("region-{}", number % 3);
    let latency = ((number * 7_919 + i64::from(partition) * 104_729) % 100_003) as f64 / 100.0;
    event(BASE + number * 100 - disorder - late, &model, &region, latency)
}

/// These events of each partition.
pub fn stretch(partitions: i32, numbers: std::ops::Range<i64>) -> Vec<TestRecord> {
    let of_partition =
        |partition| numbers.clone().map(move |number| TestRecord::to(partition, numbered(partition, number)));
    (0..partitions).flat_map(of_partition).collect()
}

/// An event for each partition that is far ahead of all others.
pub fn closing(partitions: i32) -> Vec<TestRecord> {
    let one = |partition| TestRecord::to(partition, event(BASE + 86_400_000, CLOSING, "none", 1.0));
    (0..partitions).map(one).collect()
}

/// The results in a topic. Each has the key and the headers that are promised, and no window and key is there twice.
pub fn results_in(broker: &Broker, topic: &str) -> Results {
    let mut results = Results::new();
    for record in broker.read_all(topic) {
        let (key, text) = result(&record);
        if let Some(first) = results.insert(key.clone(), text.clone()) {
            panic!("{topic}: two results for {key}:\n{first}\n{text}");
        }
    }
    results
}

/// The results in a topic to which several runs wrote: what is there twice must be the same both times. Also how many are.
pub fn results_of_runs(broker: &Broker, topic: &str) -> (Results, usize) {
    let (mut results, mut doubles) = (Results::new(), 0);
    for record in broker.read_all(topic) {
        let (key, text) = result(&record);
        if let Some(first) = results.insert(key.clone(), text.clone()) {
            assert_eq!(first, text, "{topic}: two different results for {key}");
            doubles += 1;
        }
    }
    (results, doubles)
}

/// What the program makes of the records of a topic when it reads them from files, one a partition; without the windows that
/// stay open while a topic is read.
pub fn results_of_files(setup: &Setup, broker: &Broker, partitions: i32) -> Results {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = vec![String::new(); usize::try_from(partitions).expect("few partitions")];
    for record in broker.read_all(&setup.topic) {
        let text = String::from_utf8(record.value.expect("an event")).expect("events are text");
        files[usize::try_from(record.partition).expect("a partition")] += &format!("{text}\n");
    }
    let paths: Vec<_> = (0..files.len()).map(|place| folder.path().join(format!("{place}.jsonl"))).collect();
    for (path, text) in paths.iter().zip(files) {
        fs::write(path, text).expect("the folder can be written");
    }
    let output = folder.path().join("results.jsonl");
    let ended = Program::start(&setup.yaml_of_files(&paths, &output), &[]).wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let mut results = Results::new();
    for line in fs::read_to_string(&output).expect("the results are there").lines() {
        let key = key_of(line);
        if !key.contains(CLOSING) {
            assert_eq!(results.insert(key, without_time(line)), None, "{line}");
        }
    }
    results
}

fn result(record: &ReadRecord) -> (String, String) {
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().expect("no tombstone")).expect("text");
    let (key, value) = (text(&record.key), text(&record.value));
    assert_eq!(key, key_of(&value), "the key does not fit the value");
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    assert_eq!(record.headers, [header("schema-version", "1"), header("job", "test")], "{key}");
    (key, without_time(&value))
}

/// A result as it is in Kafka: its key, and its text without the time of firing; a retraction has no text.
pub fn results_text(result: &str) -> (String, Option<String>) {
    let retracts = result.contains(",\"op\":\"retract\",");
    (key_of(result), (!retracts).then(|| without_time(result)))
}

/// The Kafka key of a result: the same text for the same window and key.
fn key_of(result: &str) -> String {
    let value: Value = serde_json::from_str(result).unwrap_or_else(|error| panic!("{error}: {result}"));
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {result}")).to_owned();
    let name = &value["window"]["name"];
    let name = if name.is_null() { String::new() } else { format!(",\"name\":{name}") };
    format!(
        "{{\"key\":{{\"model\":\"{}\",\"region\":\"{}\"}},\"start\":\"{}\",\"end\":\"{}\"{name}}}",
        text(&value["key"]["model"]),
        text(&value["key"]["region"]),
        text(&value["window"]["start"]),
        text(&value["window"]["end"])
    )
}

/// Cuts the time of firing, which is the last member and the only one that may differ between two runs.
fn without_time(result: &str) -> String {
    let (rest, time) = result.rsplit_once(",\"timestamp\":\"").unwrap_or_else(|| panic!("no time: {result}"));
    let time = time.strip_suffix("\"}").unwrap_or_else(|| panic!("the time is not the last member: {result}"));
    assert!(DateTime::parse_from_rfc3339(time).is_ok() && time.len() == 24, "no time: {result}");
    rest.to_owned()
}
