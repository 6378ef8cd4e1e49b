//! Timestamps that cannot be right: they harm nobody else's windows, and the side output says what happened.

use crate::program::{Program, Setup};
use kafka_broker::{Broker, ReadRecord, TestRecord, fresh};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3_600_000;

fn event(partition: i32, timestamp: i64, model: &str) -> TestRecord {
    let text = format!(
        "{{\"timestamp\":{timestamp},\"source\":\"s\",\"event_type\":\"metric\",\
         \"data\":{{\"model\":\"{model}\",\"region\":\"r\",\"latency_ms\":1}}}}"
    );
    TestRecord::to(partition, text)
}

fn header(record: &ReadRecord, name: &str) -> String {
    let found = record.headers.iter().find(|(header, _)| header == name).and_then(|(_, value)| value.clone());
    String::from_utf8(found.unwrap_or_else(|| panic!("no {name}: {record:?}"))).expect("text")
}

/// Counts by window and model, of results that are each the first and only one.
fn counts_in(broker: &Broker, topic: &str) -> BTreeMap<(i64, String), u64> {
    let mut counts = BTreeMap::new();
    for record in broker.read_all(topic) {
        let result: Value = serde_json::from_slice(&record.value.expect("no tombstone")).expect("JSON");
        assert_eq!((&result["revision"], &result["firing"]), (&0.into(), &"on_time".into()), "{result}");
        let start = result["window"]["start"].as_str().expect("a time");
        let start = chrono::DateTime::parse_from_rfc3339(start).expect("a time").timestamp_millis();
        let model = result["key"]["model"].as_str().expect("a model").to_owned();
        let count = result["results"]["count"].as_u64().expect("a count");
        assert_eq!(counts.insert((start, model), count), None, "{result}");
    }
    counts
}

#[test]
fn impossible_times_go_to_the_side_output_with_their_cause_and_leave_all_windows_alone() {
    let (broker, topic) = (Broker::shared(), fresh("poison"));
    let (results, late) = (format!("{topic}-results"), format!("{topic}-late"));
    broker.create_topic(&topic, 3, &[]);
    broker.create_topic(&results, 1, &[]);
    broker.create_topic(&late, 1, &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis() as i64;
    let begin = (now - HOUR / 2).div_euclid(10_000) * 10_000;
    let at = |second: i64| begin + second * 1_000;

    // Ten minutes of good events in each partition, two a second; partition 1 has a producer whose clock is wrong by hours as
    // well, first ahead and then behind, and the other two have single impossible times.
    let good = |partition: i32, second: i64| event(partition, at(second / 2), &format!("good-{}", second % 2));
    let mut records = Vec::new();
    for second in 0..1_200 {
        records.extend((0..3).map(|partition| good(partition, second)));
        if second % 10 == 5 {
            let wrong = if second < 600 { 3 * HOUR } else { -3 * HOUR };
            records.push(event(1, at(second / 2) + wrong, "wrong-clock"));
        }
        match second {
            400 => records.push(event(0, 9_999_999_999_000, "of-2286")),
            500 => records.push(event(0, 5_000, "of-1970")),
            700 => records.push(event(2, at(350) / 1_000, "seconds")),
            800 => records.push(event(2, at(400) * 1_000, "microseconds")),
            _ => {}
        }
    }
    records.extend((0..3).map(|partition| event(partition, at(900), "closing")));
    broker.produce(&topic, "lz4", records);

    let setup = Setup::new(broker.servers(), &topic, &results, &topic)
        .with(format!("late: {{sink: {{type: kafka, topic: {late}}}}}"));
    let yaml = setup.yaml().replace("event: {", "event: {timestamp: {field: timestamp, format: epoch_ms}, ");
    let mut program = Program::start(&yaml, &[]);
    program.wait_until("the closing events", |program| {
        program.metric("frontier_seconds", &[("operator", "sink")]) >= at(898) as f64 / 1_000.0
    });
    let dropped = |reason: &str, partition: &str| {
        program.metric("events_dropped_total", &[("reason", reason), ("partition", partition), ("topic", &topic)])
    };
    assert_eq!([dropped("future", "0"), dropped("late", "0")], [1.0, 1.0]);
    assert_eq!([dropped("future", "1"), dropped("late", "1")], [60.0, 60.0]);
    assert_eq!([dropped("future", "2"), dropped("late", "2")], [1.0, 1.0]);
    // Of the future nothing is learned about disorder; of the past it is.
    let mut page = Value::Null;
    program.wait_until("the page of lateness", |program| {
        page = serde_json::from_str(&program.page("/lateness")).expect("JSON");
        page["total"]["events"] == 3_603 + 62
    });
    let of = |partition: usize, name: &str| page["partitions"][partition][name].as_u64().expect("a number");
    assert_eq!([of(0, "late"), of(1, "late"), of(2, "late")], [1, 60, 1]);
    assert_eq!((of(0, "events"), of(1, "furthest_behind_ms")), (1_202, 3 * HOUR as u64));
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);

    let mut expected = BTreeMap::new();
    for window in 0..60 {
        for model in ["good-0", "good-1"] {
            expected.insert((at(window * 10), model.to_owned()), 30);
        }
    }
    assert_eq!(counts_in(broker, &results), expected);

    let side = broker.read_all(&late);
    assert_eq!(side.len(), 124);
    let find = |model: &str| {
        let of_model = |record: &&ReadRecord| {
            String::from_utf8_lossy(record.value.as_deref().expect("an event")).contains(&format!("\"{model}\""))
        };
        side.iter().find(of_model).unwrap_or_else(|| panic!("no {model}"))
    };
    let future = find("of-2286");
    assert_eq!(
        (header(future, "reason"), header(future, "timestamp")),
        ("future".into(), "2286-11-20T17:46:39.000Z".into())
    );
    assert!(header(future, "detail").contains("further ahead of the wall clock than max_future_skew, 3600000 ms"));
    let past = find("of-1970");
    assert_eq!((header(past, "reason"), header(past, "timestamp")), ("late".into(), "1970-01-01T00:00:05.000Z".into()));
    assert_eq!(header(past, "late_by_ms"), (at(250) - 2_000 - 5_000).to_string());
    for (model, cause) in [("seconds", "looks like seconds"), ("microseconds", "looks like microseconds")] {
        let detail = header(find(model), "detail");
        assert!(detail.contains(cause), "{model}: {detail}");
    }
    assert_eq!(header(find("seconds"), "reason"), "late");
    assert_eq!(header(find("microseconds"), "reason"), "future");
    let wrong: Vec<&ReadRecord> = side.iter().filter(|record| header(record, "partition") == "1").collect();
    let reasons = |reason: &str| wrong.iter().filter(|record| header(record, "reason") == reason).count();
    assert_eq!((wrong.len(), reasons("future"), reasons("late")), (120, 60, 60));
    for record in wrong.iter().filter(|record| header(record, "reason") == "late") {
        assert_eq!(header(record, "late_by_ms"), (3 * HOUR - 2_000).to_string());
    }
}
