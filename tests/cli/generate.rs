//! `processor generate`.

use super::program::{Place, Said};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::time::{Duration, Instant};

fn generated(arguments: &[&str]) -> String {
    let all: Vec<&str> = ["generate"].iter().chain(arguments).copied().collect();
    let Said { code, out, err } = Place::new().run(&all);
    assert_eq!(code, Some(0), "{err}");
    let count = out.lines().count();
    assert!(err.trim_end().ends_with(&format!("{count} events")), "{err}");
    out
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn millis(event: &Value) -> i64 {
    let text = event["timestamp"].as_str().expect("a timestamp");
    chrono::DateTime::parse_from_rfc3339(text).expect("RFC 3339").timestamp_millis()
}

/// By how much each event is behind the latest before it.
fn steps_back(text: &str) -> Vec<i64> {
    let mut latest = i64::MIN;
    let back = |event: &Value| {
        let time = millis(event);
        latest = latest.max(time);
        latest - time
    };
    events(text).iter().map(back).collect()
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let first = generated(&["--count", "500", "--seed", "7"]);
    assert_eq!(first.lines().count(), 500);
    assert_eq!(generated(&["--count", "500", "--seed", "7"]), first);
    assert_ne!(generated(&["--count", "500", "--seed", "8"]), first);
    for event in events(&first) {
        for field in ["id", "timestamp", "source", "event_type"] {
            assert!(event[field].is_string(), "{event} lacks {field}");
        }
        assert!(event["data"]["latency_ms"].is_number() && event["data"]["model"].is_string(), "{event}");
    }
}

#[test]
fn keys_and_disorder_are_as_asked() {
    let keys = |text: &str| {
        let of = |event: &Value| (event["data"]["model"].to_string(), event["data"]["region"].to_string());
        events(text).iter().map(of).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(keys(&generated(&["--count", "2000", "--keys", "3"])), 3);
    assert!(keys(&generated(&["--count", "2000", "--keys", "40"])) > 20);

    let ordered = steps_back(&generated(&["--count", "1000", "--disorder", "0"]));
    assert!(ordered.iter().all(|back| *back == 0), "{ordered:?}");
    let disordered = steps_back(&generated(&["--count", "5000", "--disorder", "1500ms"]));
    let furthest = disordered.iter().max().expect("events");
    assert!((500..=1500).contains(furthest), "furthest back: {furthest} ms");
}

#[test]
fn malformed_records_are_made_on_request() {
    let bad = |text: &str| text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert_eq!(bad(&generated(&["--count", "2000"])), 0);
    let damaged = generated(&["--count", "2000", "--malformed", "0.2"]);
    assert!((20..=600).contains(&bad(&damaged)), "{}", bad(&damaged));
}

#[test]
fn the_rate_is_kept() {
    let begin = Instant::now();
    let text = generated(&["--count", "200", "--rate", "200", "--disorder", "0"]);
    let took = begin.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_secs(6)).contains(&took), "{took:?}");
    let now = chrono::Utc::now().timestamp_millis();
    assert!(events(&text).iter().all(|event| (now - millis(event)).abs() < 60_000), "events of now");
}

#[test]
fn files_are_packed_by_their_names() {
    let place = Place::new();
    let expected = generated(&["--count", "300", "--seed", "5"]);
    for name in ["e.jsonl", "e.jsonl.gz", "e.jsonl.zst"] {
        let said = place.run(&["generate", "--count", "300", "--seed", "5", "--output", name]);
        assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
        assert!(said.err.contains("300 events"), "{said:?}");
    }
    assert_eq!(place.read("e.jsonl"), expected);
    let mut unpacked = String::new();
    let packed = std::fs::read(place.path("e.jsonl.gz")).expect("read");
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, expected);
    let packed = std::fs::read(place.path("e.jsonl.zst")).expect("read");
    assert_eq!(zstd::decode_all(&packed[..]).expect("zstd"), expected.as_bytes());
}

#[test]
fn what_cannot_be_written_is_named() {
    let place = Place::new();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--output", "absent/e.jsonl"], 1, "cannot write absent/e.jsonl: No such file or directory"),
        (&["--output", "/dev/full", "--count", "1000"], 1, "/dev/full: No space left on device"),
        (&["--topic", "t", "--property", "nonsense"], 2, "--property `nonsense`: KEY=VALUE"),
        (&["--topic", "t", "--output", "e.jsonl"], 2, "cannot be used with"),
    ];
    for (arguments, code, message) in cases {
        let all: Vec<&str> = ["generate"].iter().chain(arguments).copied().collect();
        let said = place.run(&all);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.err.contains(message), "{arguments:?} lacks `{message}`: {said:?}");
    }
}

#[test]
fn a_broker_that_does_not_answer_is_one_line() {
    let said = Place::new().run(&["generate", "--count", "1", "--topic", "t", "--bootstrap-servers", "127.0.0.1:1"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.starts_with("processor: kafka: 127.0.0.1:1 does not answer: "), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}
