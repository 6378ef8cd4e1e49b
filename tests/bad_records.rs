//! A corpus of bad records, each with its reason and the exact message that a person reads in the dead letter.

use base64::Engine;
use llm_optimizer_processor::config::model::{
    EventConfig, FieldPath, KeyField, TimestampFormat, ValueField, ValueFields,
};
use llm_optimizer_processor::event::{Decoder, JsonDecoder, RowScratch};
use serde::Deserialize;
use std::collections::BTreeSet;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// `listed`, `every_number` or `epoch_s`: see [`config`].
    config: String,
    payload: Option<String>,
    /// Where the payload is no text.
    payload_base64: Option<String>,
    reason: String,
    detail: String,
}

fn config(name: &str) -> EventConfig {
    let key = |path: &str, default: Option<&str>| KeyField {
        path: FieldPath::parse(path),
        name: path.to_owned(),
        default: default.map(str::to_owned),
    };
    let value = |path: &str| ValueField { path: FieldPath::parse(path), name: path.to_owned() };
    let listed = EventConfig {
        timestamp_field: FieldPath::parse("timestamp"),
        timestamp_format: TimestampFormat::Rfc3339,
        key: vec![key("data.model", None), key("data.region", Some("unknown"))],
        values: ValueFields::Listed(vec![value("data.latency_ms"), value("data.cost_usd")]),
        filter: Vec::new(),
    };
    match name {
        "listed" => listed,
        "every_number" => EventConfig {
            key: Vec::new(),
            values: ValueFields::EveryNumberUnder(FieldPath::parse("data")),
            ..listed
        },
        "epoch_s" => EventConfig { timestamp_format: TimestampFormat::EpochSeconds, ..listed },
        other => panic!("no configuration is called {other}"),
    }
}

fn cases() -> Vec<Case> {
    let corpus = include_str!("corpus/bad_records.jsonl");
    corpus.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn every_bad_record_has_its_reason_and_message() {
    let mut wrong = Vec::new();
    for case in cases() {
        let payload = match (&case.payload, &case.payload_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64).unwrap(),
            _ => panic!("{}: one payload is needed", case.name),
        };
        let result = JsonDecoder::new(&config(&case.config)).decode(&payload, &mut RowScratch::default());
        let found = result.map_err(|bad| (bad.reason.to_string(), bad.detail));
        if found != Err((case.reason.clone(), case.detail.clone())) {
            wrong.push(format!("{}: {found:?} instead of {}: {}", case.name, case.reason, case.detail));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_corpus_is_broad() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 60);
    let reasons: BTreeSet<&str> = cases.iter().map(|case| case.reason.as_str()).collect();
    assert!(["malformed", "missing_key", "missing_timestamp", "missing_value", "not_a_number"].iter().all(|r| reasons.contains(r)));
}

/// A decoder that has just refused a record reads the next good one as if nothing had been.
#[test]
fn a_bad_record_leaves_no_trace() {
    let mut decoder = JsonDecoder::new(&config("listed"));
    let good = br#"{"timestamp":"2026-09-21T14:13:20Z","data":{"model":"m","latency_ms":1}}"#;
    let mut expected = RowScratch::default();
    JsonDecoder::new(&config("listed")).decode(good, &mut expected).expect("a good record");
    for case in cases() {
        let mut row = RowScratch::default();
        let _ = decoder.decode(case.payload.unwrap_or_default().as_bytes(), &mut row);
        row.clear();
        decoder.decode(good, &mut row).expect("a good record");
        assert_eq!((row.time, &row.key, &row.values), (expected.time, &expected.key, &expected.values), "{}", case.name);
    }
}
