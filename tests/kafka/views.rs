//! Views in Kafka, exactly once: a job that is killed, and a reader that keeps the latest record of each key.

use crate::program::Program;
use kafka_broker::{Broker, ReadRecord, fresh};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const EVENTS: usize = 1_500_000;

/// The latest value of each key; a tombstone takes it away.
fn compacted(records: Vec<ReadRecord>) -> BTreeMap<String, Value> {
    let mut latest = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.expect("a key")).expect("UTF-8");
        match record.value {
            Some(value) => latest.insert(key, serde_json::from_slice(&value).expect("JSON")),
            None => latest.remove(&key),
        };
    }
    latest
}

fn yaml(broker: &Broker, job: &str, results: &str, view: &str, folder: &Path) -> String {
    let (state, checkpoints) = (folder.join("state"), folder.join("checkpoints"));
    format!(
        "processor:\n  job: {job}\n  parallelism: 2\n  buffer_size: 1000\n  delivery: exactly_once\n  \
         source: {{type: generator, rate: null, count: {EVENTS}, keys: 40, partitions: 3, late_share: 0.01}}\n  \
         sinks: [kafka]\n  kafka: {{producer: {{bootstrap_servers: \"{}\", result_topic: {results}}}}}\n  \
         event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
         windows: {{tumbling: {{size: 10s, allowed_lateness: 60s}}}}\n  watermark: {{max_out_of_orderness: 5s}}\n  \
         aggregation: {{enabled: [count, max]}}\n  \
         state: {{backend: rocksdb, path: {state:?}, checkpoint_path: {checkpoints:?}}}\n  checkpoint_interval: 200ms\n  \
         views: [{{name: highest, type: leaderboard, by: max, top: 3, sinks: [{{type: kafka, topic: {view}}}]}}]\n",
        broker.servers()
    )
}

/// The three highest of each window, from the latest results.
fn highest(results: &BTreeMap<String, Value>) -> BTreeMap<(String, String), (u64, f64)> {
    let mut windows: BTreeMap<String, Vec<(f64, String)>> = BTreeMap::new();
    for result in results.values() {
        let end = result["window"]["end"].as_str().expect("an end").to_owned();
        windows
            .entry(end)
            .or_default()
            .push((result["results"]["max"].as_f64().expect("max"), result["key"].to_string()));
    }
    let mut rows = BTreeMap::new();
    for (end, mut keys) in windows {
        keys.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        for (rank, (max, key)) in (1..=3).zip(keys) {
            rows.insert((end.clone(), key), (rank, max));
        }
    }
    rows
}

#[test]
fn a_compacted_topic_has_the_content_of_a_view_whose_job_was_killed() {
    let broker = Broker::shared();
    let job = fresh("views");
    let (results, view) = (format!("{job}-results"), format!("{job}-highest"));
    broker.create_topic(&results, 3, &[]);
    broker.create_topic(&view, 3, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = yaml(broker, &job, &results, &view, folder.path());
    let published = || {
        let entries = std::fs::read_dir(folder.path().join("checkpoints")).into_iter().flatten().flatten();
        let epochs = entries.filter(|entry| entry.path().join("manifest.json").exists());
        epochs.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max().unwrap_or(0)
    };
    for _ in 0..2 {
        let mut program = Program::start(&yaml, &[]);
        let reached = published() + 2;
        program.wait_until("checkpoints", |_| published() >= reached);
        program.kill();
    }
    let ended = Program::start(&yaml, &[]).wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("going on from checkpoint"), "{}", ended.log);

    let expected = highest(&compacted(broker.read_all(&results)));
    let records = broker.read_all(&view);
    let tombstones = records.iter().filter(|record| record.value.is_none()).count();
    assert!(tombstones > 5, "{tombstones} rows that nothing replaced are no test");
    let found: BTreeMap<(String, String), (u64, f64)> = compacted(records)
        .into_values()
        .map(|row| {
            assert_eq!((row["view"].as_str(), row["op"].as_str()), (Some("highest"), Some("insert")), "{row}");
            let at = (row["window"]["end"].as_str().expect("an end").to_owned(), row["key"].to_string());
            (at, (row["row"]["rank"].as_u64().expect("a rank"), row["row"]["max"].as_f64().expect("max")))
        })
        .collect();
    assert!(found.len() > 100, "{} rows are no test", found.len());
    assert_eq!(found, expected);
}
