//! Records that are bad, late or empty, under each policy, with the real program.

use crate::events::{BASE, closing, event, stretch, time_text};
use crate::program::{Program, Setup};
use kafka_broker::{Broker, ReadRecord, TestRecord, fresh};
use std::collections::BTreeMap;

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Three bad records, each of its own kind, with the reason it is given.
fn bad_records() -> [(TestRecord, &'static str); 3] {
    let trace: Headers = vec![
        ("trace".to_owned(), Some(vec![0, 255])),
        ("topic".to_owned(), Some(b"mine".to_vec())),
        ("x".to_owned(), None),
    ];
    let with_all =
        TestRecord { key: Some(b"\xffk".to_vec()), headers: trace, ..TestRecord::to(0, b"\xff\xfe{".to_vec()) };
    let timeless = TestRecord::to(1, r#"{"data":{"model":"m","region":"r","latency_ms":1}}"#);
    let keyless = TestRecord::to(1, event(BASE, "m", "r", 1.0).replace("region", "religion"));
    [(with_all, "malformed"), (timeless, "missing_timestamp"), (keyless, "missing_key")]
}

/// A topic with good events, bad ones, two tombstones and four late ones; on the shared broker.
fn topic(name: &str) -> (&'static Broker, String) {
    let (broker, topic) = (Broker::shared(), fresh(name));
    broker.create_topic(&topic, 2, &[]);
    broker.produce(&topic, "none", stretch(2, 0..1_000));
    broker.produce(&topic, "none", bad_records().map(|(record, _)| record));
    let tombstone = TestRecord { partition: Some(0), key: Some(b"k".to_vec()), ..TestRecord::default() };
    broker.produce(&topic, "none", [tombstone.clone(), tombstone]);
    broker.produce(&topic, "none", closing(2));
    (broker, topic)
}

/// A job over such a topic; results go to a topic of their own.
fn setup(broker: &Broker, topic: &str, name: &str) -> Setup {
    let results = format!("{topic}-{name}");
    broker.create_topic(&results, 1, &[]);
    Setup::new(broker.servers(), topic, &results, &results)
}

fn wait_for_all(program: &mut Program) {
    program.wait_until("everything read", |program| {
        program.metric("events_processed_total", &[]) == 1_998.0
            && program.metric("results_sent_total", &[("sink", "kafka")]) > 100.0
    });
}

fn header(record: &ReadRecord, name: &str) -> String {
    // The program's come after those that the record had.
    let found = record.headers.iter().rev().find(|(key, _)| key == name);
    let value = found.and_then(|(_, value)| value.clone()).unwrap_or_else(|| panic!("no {name}: {record:?}"));
    String::from_utf8(value).expect("text")
}

#[test]
fn dead_letters_and_late_events_reach_their_topics_as_they_were() {
    let (broker, topic) = topic("letters");
    let (dead, late) = (format!("{topic}-dead"), format!("{topic}-late"));
    broker.create_topic(&dead, 1, &[]);
    broker.create_topic(&late, 1, &[]);
    let setup = setup(broker, &topic, "results")
        .with(format!("error_handling: {{policy: dead_letter, dead_letter_topic: {dead}}}"))
        .with(format!("late: {{sink: {{type: kafka, topic: {late}}}}}"));
    let mut program = Program::run(&setup);
    wait_for_all(&mut program);
    assert_eq!(program.metric("tombstones_total", &[]), 2.0);
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);

    let letters = broker.read_all(&dead);
    assert_eq!(letters.len(), 3);
    for (record, reason) in bad_records() {
        let letter = letters.iter().find(|letter| letter.value == record.value).expect("the bytes as they were");
        assert_eq!(letter.key, record.key);
        assert_eq!(letter.headers[..record.headers.len()], record.headers, "the record's own headers come first");
        let partition = record.partition.expect("it has one");
        assert_eq!(header(letter, "reason"), reason);
        assert_eq!((header(letter, "topic"), header(letter, "partition")), (topic.clone(), partition.to_string()));
        let offset: i64 = header(letter, "offset").parse().expect("a number");
        let source = broker.read_all(&topic).into_iter().find(|r| (r.partition, r.offset) == (partition, offset));
        assert_eq!(source.expect("there is such a record").value, record.value);
        assert!(!header(letter, "detail").is_empty());
    }

    let late_ones = broker.read_all(&late);
    assert_eq!(late_ones.len(), 4);
    for record in late_ones {
        assert_eq!(header(&record, "reason"), "late");
        assert_eq!(header(&record, "topic"), topic);
        let offset: i64 = header(&record, "offset").parse().expect("a number");
        assert!(offset == 499 || offset == 999, "{offset}");
        // Partition 0: number 499 has disorder 900 ms; the latest before it is number 497, with 300 ms less than its index says.
        let behind: i64 = header(&record, "late_by_ms").parse().expect("a number");
        assert!((55_000..60_000).contains(&behind), "{behind}");
        let value = String::from_utf8(record.value.clone().expect("the event")).expect("text");
        assert!(value.contains(&format!("\"timestamp\":\"{}\"", header(&record, "timestamp"))), "{value}");
        let watermark = header(&record, "watermark");
        assert!(watermark > time_text(BASE + 45_000) && watermark < time_text(BASE + 100_000), "{watermark}");
    }
    // What was settled is committed: nothing waits for the records in no window.
    assert!(broker.committed(&setup.group, &topic, 0).is_some());
}

#[test]
fn skipped_records_are_counted_and_late_ones_go_to_a_file() {
    let (broker, topic) = topic("skipped");
    let setup = setup(broker, &topic, "results")
        .with("error_handling: {policy: skip}")
        .with("late: {sink: {type: file, path: late.jsonl}}");
    let mut program = Program::run(&setup);
    wait_for_all(&mut program);
    for (_, reason) in bad_records() {
        assert_eq!(program.metric("bad_records_total", &[("reason", reason)]), 1.0, "{reason}");
    }
    assert_eq!(program.metric("tombstones_total", &[]), 2.0);
    for partition in ["0", "1"] {
        let labels = [("reason", "late"), ("topic", topic.as_str()), ("partition", partition)];
        assert_eq!(program.metric("events_dropped_total", &labels), 2.0);
    }
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for part in ["4 late dropped, 3 bad", "late: 4", "malformed: 1", "missing_key: 1", "tombstones: 2"] {
        assert!(ended.log.contains(part), "{part}:\n{}", ended.log);
    }
    let lines: Vec<serde_json::Value> =
        program.file("late.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    for line in lines {
        let place = (line["topic"].as_str(), line["reason"].as_str(), line["payload_encoding"].as_str());
        assert_eq!(place, (Some(topic.as_str()), Some("late"), Some("utf-8")));
        let (partition, offset) = (line["partition"].as_i64(), line["offset"].as_i64());
        let source = broker
            .read_all(&topic)
            .into_iter()
            .find(|record| (Some(i64::from(record.partition)), Some(record.offset)) == (partition, offset))
            .expect("there is such a record");
        assert_eq!(line["payload"].as_str().map(|text| text.as_bytes().to_vec()), source.value);
    }
}

#[test]
fn the_policy_fail_ends_the_run_and_names_the_record() {
    let (broker, topic) = (Broker::shared(), fresh("failing"));
    broker.create_topic(&topic, 2, &[]);
    broker.produce(&topic, "none", stretch(2, 0..100));
    broker.produce(&topic, "none", [TestRecord::to(1, "no event")]);
    let setup = setup(broker, &topic, "results").with("error_handling: {policy: fail}");
    let ended = Program::run(&setup).wait();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let error = ended.log.lines().find(|line| line.contains("bad record")).unwrap_or_default();
    for part in [format!("{topic}[1]"), "offset 100".to_owned(), "malformed".to_owned(), "policy is `fail`".to_owned()]
    {
        assert!(error.contains(&part), "{part}:\n{}", ended.log);
    }
    // The record is read again by the next run.
    assert!(broker.committed(&setup.group, &topic, 1).is_none_or(|(offset, _)| offset <= 100));
}

#[test]
fn an_accepted_late_event_refines_its_window() {
    let (broker, topic) = (Broker::shared(), fresh("refined"));
    broker.create_topic(&topic, 1, &[]);
    let setup = setup(broker, &topic, "results");
    let setup = Setup { allowed_lateness_secs: 60, ..setup };
    let send = |at: i64, latency: f64| {
        broker.produce(&topic, "none", [TestRecord::to(0, event(BASE + at, "m", "r", latency))]);
    };
    let mut program = Program::run(&setup);
    send(1_000, 1.0);
    send(30_000, 3.0);
    program.wait_until("the window", |program| program.metric("results_sent_total", &[]) == 1.0);
    // It is late, and counts when the frontier has passed the watermark it was judged against.
    send(2_000, 2.0);
    send(31_000, 3.0);
    program.wait_until("its refinement", |program| program.metric("results_sent_total", &[]) == 2.0);
    assert_eq!(program.metric("windows_refined_total", &[]), 1.0);
    assert_eq!(program.stop().code, Some(0));
    let records = broker.read_all(&format!("{topic}-results"));
    let texts: Vec<String> =
        records.iter().map(|r| String::from_utf8(r.value.clone().expect("a value")).unwrap()).collect();
    assert_eq!(records[0].key, records[1].key, "a compacted topic keeps the last");
    for (text, parts) in texts.iter().zip([
        ["\"count\":1,", "\"sum\":1", "\"revision\":0,", "\"firing\":\"on_time\""],
        ["\"count\":2,", "\"sum\":3", "\"revision\":1,", "\"firing\":\"late\""],
    ]) {
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    // The next run may write it again, since late events were still welcome: what is there last is as before.
    let mut again = Program::run(&setup);
    send(120_000, 4.0);
    again.wait_until("the next window", |program| {
        program.metric("frontier_seconds", &[("operator", "sink")]) >= (BASE + 118_000) as f64 / 1_000.0
    });
    assert_eq!(again.stop().code, Some(0));
    let latest: BTreeMap<_, _> = broker
        .read_all(&format!("{topic}-results"))
        .into_iter()
        .map(|record| (record.key, String::from_utf8(record.value.expect("a value")).expect("text")))
        .collect();
    let windows: Vec<&String> = latest.values().collect();
    assert_eq!(windows.len(), 2, "{windows:?}");
    for (text, (start, count)) in windows.iter().zip([(0, 2), (30_000, 2)]) {
        let parts = [format!("\"start\":\"{}\"", time_text(BASE + start)), format!("\"count\":{count},")];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}
