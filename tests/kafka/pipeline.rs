//! From a topic of events to a topic of results, with the real program.

use crate::events::{BASE, Results, closing, event, results_in, results_of_files, results_of_runs, stretch, time_text};
use crate::program::{Program, Setup};
use kafka_broker::{Broker, TestRecord, fresh};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// A topic of events, one of results, and a group, on the shared broker.
fn setup(name: &str, partitions: i32) -> (&'static Broker, Setup, String) {
    let (broker, topic) = (Broker::shared(), fresh(name));
    let results = format!("{topic}-results");
    broker.create_topic(&topic, partitions, &[]);
    broker.create_topic(&results, 3, &[]);
    (broker, Setup::new(broker.servers(), &topic, &results, &topic), results)
}

/// Waits until the program has written this many results.
fn wait_for_results(program: &mut Program, count: usize) {
    let sent = |program: &Program| program.metric("results_sent_total", &[("sink", "kafka")]);
    program.wait_until("all results", |program| sent(program) >= count as f64);
}

/// The first difference, instead of thousands of lines.
fn assert_same(found: &Results, expected: &Results) {
    let missing = expected.iter().find(|(key, text)| found.get(*key) != Some(text));
    if let Some((key, text)) = missing {
        panic!("expected {key}:\n{text}\nfound {:?}\n{} and {} results", found.get(key), expected.len(), found.len());
    }
    let more = found.keys().find(|key| !expected.contains_key(*key));
    assert_eq!(more, None, "not expected");
}

#[test]
fn generated_events_become_the_results_that_files_give_and_offsets_are_committed() {
    let (broker, setup, results) = setup("generated", 4);
    let setup = setup.with("error_handling: {policy: skip}");
    let generated = Command::new(env!("CARGO_BIN_EXE_processor"))
        .args(["generate", "--count", "40000", "--seed", "7", "--disorder", "1500ms", "--late", "0.01"])
        .args(["--malformed", "0.001", "--partitions", "4", "--topic", &setup.topic])
        .args(["--bootstrap-servers", broker.servers()])
        .output()
        .expect("the program can be started");
    let said = String::from_utf8_lossy(&generated.stderr).into_owned();
    assert!(generated.status.success() && said.contains("40000 events"), "{said}");
    broker.produce(&setup.topic, "none", closing(4));
    let expected = results_of_files(&setup, broker, 4);
    assert!(expected.len() > 100, "only {} results", expected.len());

    let mut program = Program::run(&setup);
    wait_for_results(&mut program, expected.len());
    program.wait_until("no lag", |program| {
        program.metric("events_processed_total", &[]) > 39_000.0 && program.metric("kafka_consumer_lag", &[]) == 0.0
    });
    assert_eq!(program.health(), ("ok".to_owned(), "[]".to_owned()));
    assert_eq!(program.page("/ready"), "{\"ready\":true}");
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(
        ended.log.contains(" bad, ") && ended.log.contains("1 window was still open; its result was not written"),
        "{}",
        ended.log
    );
    assert_same(&results_in(broker, &results), &expected);
    // Only the last record of each partition is still needed.
    let ends = broker.read_all(&setup.topic).into_iter().map(|record| (record.partition, record.offset + 1));
    for (partition, end) in ends.collect::<BTreeMap<_, _>>() {
        let (offset, metadata) = broker.committed(&setup.group, &setup.topic, partition).expect("it is committed");
        assert_eq!(offset, end - 1, "partition {partition}");
        assert!(metadata.starts_with("v1 closed_before="), "{metadata}");
    }
}

#[test]
fn topics_of_every_codec_give_the_same_results() {
    let (broker, setup, results) = setup("packed", 4);
    let records = stretch(4, 0..4_000);
    for (codec, records) in ["gzip", "snappy", "lz4", "zstd"].into_iter().zip(records.chunks(4_000)) {
        broker.produce(&setup.topic, codec, records.to_vec());
    }
    broker.produce(&setup.topic, "zstd", closing(4));
    let setup = Setup { consumer: "properties: {fetch.wait.max.ms: 20}".to_owned(), ..setup };
    let expected = results_of_files(&setup, broker, 4);
    let mut program = Program::run(&setup);
    wait_for_results(&mut program, expected.len());
    assert_eq!(program.metric("events_dropped_total", &[("reason", "late")]), 32.0);
    assert_eq!(program.stop().code, Some(0));
    assert_same(&results_in(broker, &results), &expected);
}

#[test]
fn a_run_goes_on_where_the_last_one_ended_however_that_ended() {
    let (broker, setup, results) = setup("restarted", 4);
    broker.produce(&setup.topic, "lz4", stretch(4, 0..3_000));
    let mut first = Program::run(&setup);
    first.wait_until("everything read", |program| program.metric("events_processed_total", &[]) >= 11_900.0);
    first.wait_until("results", |program| program.metric("results_sent_total", &[]) > 300.0);
    let ended = first.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let (after_first, doubles) = results_of_runs(broker, &results);
    assert_eq!(doubles, 0);
    let committed = broker.committed(&setup.group, &setup.topic, 0).expect("it is committed").0;
    assert!((2_000..3_000).contains(&committed), "{committed}");

    // The second is killed: what it had written and not committed comes again, the same.
    broker.produce(&setup.topic, "lz4", stretch(4, 3_000..6_000));
    let mut second = Program::run(&setup);
    let more = after_first.len() as f64;
    second.wait_until("results", |program| program.metric("results_sent_total", &[]) > more / 2.0);
    second.kill();

    broker.produce(&setup.topic, "lz4", stretch(4, 6_000..9_000).into_iter().chain(closing(4)));
    let expected = results_of_files(&setup, broker, 4);
    let mut third = Program::run(&setup);
    third.wait_until("the last window", |program| {
        program.metric("kafka_consumer_lag", &[]) == 0.0 && {
            let before_closing = (BASE + 86_000_000) as f64 / 1_000.0;
            program.metric("frontier_seconds", &[("operator", "sink")]) > before_closing
        }
    });
    let ended = third.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let (all, _) = results_of_runs(broker, &results);
    assert_same(&all, &expected);
    // What the first run wrote was final.
    assert!(after_first.iter().all(|(key, text)| all.get(key) == Some(text)));
}

#[test]
fn what_is_committed_of_a_partition_that_has_nothing_new_stays() {
    let (broker, setup, results) = setup("unchanged", 2);
    let setup = Setup { idle_timeout_secs: 1, ..setup };
    // Nothing of partition 1 is ever needed again.
    let tombstone = TestRecord { partition: Some(1), key: Some(b"k".to_vec()), ..TestRecord::default() };
    broker.produce(&setup.topic, "none", vec![tombstone; 5]);
    broker.produce(&setup.topic, "none", stretch(1, 0..1_000).into_iter().chain(closing(1)));
    let mut committed = Vec::new();
    for _ in 0..2 {
        let mut program = Program::run(&setup);
        program.wait_until("the frontier", |program| {
            program.metric("frontier_seconds", &[("operator", "sink")]) >= (BASE + 86_000_000) as f64 / 1_000.0
        });
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        committed.push([0, 1].map(|partition| broker.committed(&setup.group, &setup.topic, partition)));
    }
    assert_eq!(committed[0][1].as_ref().map(|(offset, _)| *offset), Some(5));
    assert_eq!(committed[1], committed[0]);
    assert_eq!(results_of_runs(broker, &results).1, 0, "the second run has nothing to add");
}

#[test]
fn an_empty_partition_holds_nothing_back_and_an_added_one_is_read() {
    let (broker, setup, results) = setup("partitions", 3);
    let of_two = |numbers| stretch(2, numbers);
    let setup = Setup {
        idle_timeout_secs: 1,
        consumer: "properties: {topic.metadata.refresh.interval.ms: 1000}".to_owned(),
        ..setup
    };
    broker.produce(&setup.topic, "none", of_two(0..2_000));
    let mut program = Program::run(&setup);
    // Partitions 0 and 1 are at 200 s; the third one has never had a record.
    let open_from = (BASE + 190_000) as f64 / 1_000.0;
    program
        .wait_until("the frontier", |program| program.metric("frontier_seconds", &[("operator", "sink")]) >= open_from);
    let before = results_in(broker, &results);
    assert!(before.len() > 200, "only {} results", before.len());
    let frontiers: Value = serde_json::from_str(&program.page("/frontiers")).expect("JSON");
    assert!(frontiers.to_string().contains(&setup.topic), "{frontiers}");

    // One is added, then the empty one gets its first records: all of them are ahead of the frontier, so none is late.
    let watermark_of = |program: &Program, partition: &str| {
        program.metric("watermark_seconds", &[("partition", partition), ("topic", &setup.topic)])
    };
    broker.add_partitions(&setup.topic, 4);
    for (partition, begin) in [(3, 250_000), (2, 300_000)] {
        let one = |number: i64| event(BASE + begin + number * 100, "model-9", "region-9", number as f64);
        broker.produce(&setup.topic, "none", (0..300).map(|number| TestRecord::to(partition, one(number))));
        program.wait_until("its records", |program| {
            watermark_of(program, &partition.to_string()) >= (BASE + begin + 27_000) as f64 / 1_000.0
        });
    }
    broker.produce(&setup.topic, "none", closing(4));
    let expected = results_of_files(&setup, broker, 4);
    wait_for_results(&mut program, expected.len());
    assert_eq!(program.stop().code, Some(0));
    assert_same(&results_in(broker, &results), &expected);
    let new: Vec<&String> = expected.values().filter(|text| text.contains("model-9")).collect();
    assert!(new.iter().all(|text| text.contains("\"count\":100,")) && new.len() == 6, "{new:?}");
}

#[test]
fn an_end_while_events_pour_in_commits_what_is_written_and_no_more() {
    let (broker, setup, results) = setup("pouring", 2);
    broker.produce(&setup.topic, "lz4", stretch(2, 0..120_000));
    let (late, expected) = (format!("{}-late", setup.topic), results_of_files(&setup, broker, 2));
    broker.create_topic(&late, 1, &[]);
    let setup = setup.with(format!("late: {{sink: {{type: kafka, topic: {late}}}}}"));
    let mut program = Program::run(&Setup { buffer_size: 500, ..setup.clone() });
    // The results alone: late events are written before any window has closed, and commit nothing.
    program.wait_until("some results", |program| program.metric("results_sent_total", &[("sink", "kafka")]) > 15.0);
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("asked to end"), "{}", ended.log);
    let written = results_in(broker, &results);
    assert!(written.len() < expected.len(), "everything was read: the test shows nothing");
    let committed = (0..2).filter_map(|partition| broker.committed(&setup.group, &setup.topic, partition));
    let closed_before =
        committed.filter_map(|(_, metadata)| metadata.strip_prefix("v1 closed_before=")?.parse().ok()).max();
    let closed_before: i64 = closed_before.unwrap_or_else(|| panic!("nothing is committed:\n{}", ended.log));
    for (key, text) in &expected {
        let end = key.rsplit_once("\"end\":\"").expect("a key has an end").1.trim_end_matches("\"}");
        match end <= time_text(closed_before).as_str() {
            true => assert_eq!(written.get(key), Some(text), "{key} is committed"),
            false => assert_eq!(written.get(key), None, "{key} is written, and would come again"),
        }
    }
}
