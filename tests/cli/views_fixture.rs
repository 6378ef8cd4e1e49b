//! A checkpoint of version 1 of a job with views: it says what it said when it was made, and this program goes on from it.

use super::checkout;
use super::interrupted::PATIENCE;
use super::program::{Live, Place, eventually};
use super::views::{content, published, results};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What the job had written, up to the checkpoint and beyond.
const FILES: [&str; 5] = ["results.jsonl", "slowest.jsonl", "drift.jsonl", "models.jsonl", "sides.jsonl"];

/// Sessions and a second definition too, so that every kind of record is there.
fn yaml(state: &str) -> String {
    let view =
        |name: &str, rest: &str| format!("{{name: {name}, {rest}, sinks: [{{type: file, path: {name}.jsonl}}]}}");
    let compare = "type: compare, window: minutely, field: model, champion: claude-3-opus, challenger: claude-3-haiku";
    let views = [
        view("slowest", "type: leaderboard, window: bursts, by: max, top: 2"),
        view("drift", "type: baseline, window: minutely, of: average, previous: 3, regressed: {above: 2, clear: 1}"),
        view("models", "type: rollup, window: bursts, keep: []"),
        view("sides", compare),
    ];
    format!(
        "processor:\n  job: views\n  parallelism: 2\n  buffer_size: 500\n  delivery: exactly_once\n  \
         source: {{type: generator, rate: null, count: 300000, keys: 48, partitions: 3, late_share: 0.0005}}\n  \
         sinks: [{{type: file, path: results.jsonl}}]\n  \
         event: {{key: [data.model], values: [data.latency_ms]}}\n  \
         windows:\n    definitions:\n    \
         - {{name: minutely, type: tumbling, size: 60s, allowed_lateness: 60s, trigger: {{every_events: 2000}}}}\n    \
         - {{name: bursts, type: session, gap: 150ms, allowed_lateness: 2s}}\n  \
         watermark: {{max_out_of_orderness: 5s}}\n  metrics: {{enabled: false}}\n  \
         aggregation: {{enabled: [count, average, max, stddev, percentile], percentiles: [50]}}\n  views:\n    - {}\n{state}",
        views.join("\n    - ")
    )
}

fn state() -> &'static str {
    "  state: {backend: rocksdb, path: state, checkpoint_path: c, retain: 2}\n  checkpoint_interval: 100ms\n"
}

fn fixture() -> PathBuf {
    checkout::ROOT.join("tests/fixtures/checkpoint-v1-views")
}

/// Runs the job until some checkpoints are there, kills it, and keeps the last one and what the sinks have.
fn make(fixture: &Path) {
    let place = Place::new();
    place.write("c.yaml", yaml(state()));
    let mut live = Live::start(&mut place.command(&["run", "--config", "c.yaml"]));
    eventually("checkpoint 3", || if published(&place) >= 3 { Ok(()) } else { Err(live.err()) });
    live.signal(libc::SIGKILL);
    live.end_within(PATIENCE);
    drop(fs::remove_dir_all(fixture));
    let epoch = published(&place).to_string();
    super::checkpoints::copy(&place.path("c").join(&epoch), &fixture.join("c").join(&epoch));
    // What was written behind the checkpoint would be cut off where the job ran; the fixture is elsewhere.
    let manifest = fs::read_to_string(place.path("c").join(&epoch).join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    for (file, sink) in FILES.iter().zip(manifest["sinks"].as_array().expect("a list")) {
        let length = sink["file"]["length"].as_u64().expect("a length") as usize;
        fs::write(fixture.join(file), &fs::read(place.path(file)).expect("it was written")[..length]).expect("written");
    }
    fs::write(fixture.join("expected.json"), inspect(&place, fixture)).expect("written");
}

fn inspect(place: &Place, fixture: &Path) -> String {
    let path = fixture.join("c");
    let epoch = fs::read_dir(&path).expect("listed").next().expect("one").expect("an entry").file_name();
    let (epoch, path) = (epoch.to_str().expect("UTF-8"), path.to_str().expect("UTF-8"));
    let said = place.run(&["checkpoints", "inspect", epoch, "--path", path, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out
}

#[test]
fn a_checkpoint_of_version_1_with_views_is_read_and_gone_on_from() {
    let fixture = fixture();
    if std::env::var_os("MAKE_CHECKPOINT_FIXTURE").is_some() {
        make(&fixture);
    }
    let place = Place::new();
    let expected = fs::read_to_string(fixture.join("expected.json")).expect("the fixture");
    assert_eq!(inspect(&place, &fixture), expected);
    assert!(expected.contains("\"results\": [\n      {"), "the fixture has results of views");

    place.write("c.yaml", yaml(state()));
    super::checkpoints::copy(&fixture.join("c"), &place.path("c"));
    for file in FILES {
        fs::copy(fixture.join(file), place.path(file)).expect("a copy");
    }
    let said = place.run(&["run", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let verified = place.run(&["checkpoints", "verify", "--path", "c"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");

    let whole = Place::new();
    whole.write("c.yaml", yaml("").replace("exactly_once", "at_least_once"));
    let said = whole.run(&["run", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(results(&place), results(&whole));
    for file in &FILES[1..] {
        let ((resumed, _), (expected, _)) = (content(&place, file), content(&whole, file));
        assert!(!expected.is_empty(), "{file}");
        assert_eq!(resumed, expected, "{file}");
    }
}
