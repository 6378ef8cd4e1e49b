//! Views as users meet them: what they write, killed or not, on one process or two, and what their pages and the command show.
//!
//! What a view has said is applied change by change: a row that is deleted must be there, one that is inserted must not. So what is
//! there twice or not at all is found. The content at the end must be what the last revisions of all results give.

use super::interrupted::{PATIENCE, generated, get};
use super::launch::{members, signal};
use super::program::{Live, Place, eventually};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const EVENTS: usize = 600_000;

/// Keys are few enough that comparing every window is quick.
fn yaml(delivery: &str, events: &str, more: &str) -> String {
    let events = format!("count: {events}, keys: 40, partitions: 3, late_share: 0.01");
    let views = format!(
        "  views:\n    \
         - {{name: slowest, type: leaderboard, by: max, top: 3, sinks: [{{type: file, path: slowest.jsonl}}]}}\n    \
         - {{name: drift, type: baseline, of: average, previous: 5, regressed: {{above: 2, clear: 1}}, \
         sinks: [{{type: file, path: drift.jsonl}}]}}\n    \
         - {{name: models, type: rollup, keep: [model], sinks: [{{type: file, path: models.jsonl}}]}}\n{more}"
    );
    generated("views", delivery, &events, "count, sum, average, max, stddev, percentile", &views)
}

fn state(place: &Place) -> String {
    let (state, checkpoints) = (place.path("state"), place.path("c"));
    format!(
        "  state: {{backend: rocksdb, path: {state:?}, checkpoint_path: {checkpoints:?}}}\n  checkpoint_interval: 100ms\n  \
         metrics: {{enabled: false}}\n"
    )
}

/// A window's end and start, and its key, as text.
pub type At = (String, String);

fn at(line: &Value) -> At {
    let bound = |name: &str| line["window"][name].as_str().expect("a time").to_owned();
    (format!("{} {}", bound("end"), bound("start")), line["key"].to_string())
}

/// The last revision of each result that stands.
pub fn results(place: &Place) -> BTreeMap<At, Value> {
    let lines = place.read("results.jsonl");
    let mut last: BTreeMap<At, (u64, Value)> = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(line.get("view").is_none(), "a view's change is not among the results: {line}");
        let revision = line["revision"].as_u64().expect("a revision");
        let at = at(&line);
        if last.get(&at).is_none_or(|(there, _)| *there <= revision) {
            let figures = if line["op"] == "retract" { Value::Null } else { line["results"].clone() };
            last.insert(at, (revision, figures));
        }
    }
    last.into_iter().map(|(at, (_, figures))| (at, figures)).filter(|(_, figures)| !figures.is_null()).collect()
}

/// What a view has said, applied: the rows by window and key. And how many rows were deleted.
pub fn content(place: &Place, file: &str) -> (BTreeMap<At, Value>, usize) {
    let mut rows: BTreeMap<At, Value> = BTreeMap::new();
    let mut frontier = String::new();
    let mut deleted = 0;
    for line in place.read(file).lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let at = at(&line);
        match line["op"].as_str() {
            Some("insert") => assert_eq!(rows.insert(at, line["row"].clone()), None, "{file}: it is there: {line}"),
            Some("delete") => {
                deleted += 1;
                assert_eq!(rows.remove(&at).as_ref(), Some(&line["row"]), "{file}: it is not there: {line}");
            }
            other => panic!("{file}: op {other:?}"),
        }
        let next = line["frontier"].as_str().expect("a frontier").to_owned();
        assert!(next >= frontier, "{file}: frontiers are in order: {frontier} before {next}");
        frontier = next;
    }
    (rows, deleted)
}

/// The same, of a file in which much is deleted.
fn revised(place: &Place, file: &str) -> BTreeMap<At, Value> {
    let (rows, deleted) = content(place, file);
    assert!(deleted > 20, "{file}: {deleted} deletions are no test");
    rows
}

fn slowest(results: &BTreeMap<At, Value>) -> BTreeMap<At, Value> {
    let mut windows: BTreeMap<&str, Vec<(f64, &str)>> = BTreeMap::new();
    for ((end, key), figures) in results {
        windows.entry(end).or_default().push((figures["max"].as_f64().expect("a number"), key));
    }
    let mut rows = BTreeMap::new();
    for (end, mut keys) in windows {
        keys.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(other.1)));
        for (place, (max, key)) in keys.into_iter().take(3).enumerate() {
            rows.insert((end.to_owned(), key.to_owned()), json!({"rank": place + 1, "max": max}));
        }
    }
    rows
}

/// Compares everything that a finished job has written.
fn check(place: &Place) {
    let results = results(place);
    assert!(results.len() > 1_000, "{} results are no test", results.len());
    let found = revised(place, "slowest.jsonl");
    assert_eq!(found.len(), slowest(&results).len());
    assert_eq!(found, slowest(&results));
    check_models(&results, &revised(place, "models.jsonl"));
    check_drift(&results, &revised(place, "drift.jsonl"));
}

/// Counts, sums and greatest values of a model are those of its regions together; percentiles are within its extremes.
fn check_models(results: &BTreeMap<At, Value>, found: &BTreeMap<At, Value>) {
    let mut groups: BTreeMap<At, (u64, f64, f64)> = BTreeMap::new();
    for ((end, key), figures) in results {
        let key: Value = serde_json::from_str(key).expect("JSON");
        let group = (end.clone(), json!({"model": key["model"]}).to_string());
        let sum = groups.entry(group).or_insert((0, 0.0, f64::MIN));
        sum.0 += figures["count"].as_u64().expect("a count");
        sum.1 += figures["sum"].as_f64().expect("a sum");
        sum.2 = sum.2.max(figures["max"].as_f64().expect("a number"));
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), groups.keys().collect::<Vec<_>>());
    for (at, (count, sum, max)) in groups {
        let row = &found[&at];
        assert_eq!((row["count"].as_u64(), row["max"].as_f64()), (Some(count), Some(max)), "{at:?}");
        let found = row["sum"].as_f64().expect("a sum");
        assert!((found - sum).abs() <= sum.abs() * 1e-9, "{at:?}: {found} instead of {sum}");
        assert!(row["p50"].as_f64() <= row["p99"].as_f64() && row["p99"].as_f64() <= Some(max), "{at:?}: {row}");
    }
}

fn check_drift(results: &BTreeMap<At, Value>, found: &BTreeMap<At, Value>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), results.keys().collect::<Vec<_>>());
    let ends: Vec<&String> = results.keys().map(|(end, _)| end).collect::<BTreeSet<_>>().into_iter().collect();
    let mut regressed = 0;
    for ((end, key), row) in found {
        let place = ends.iter().position(|other| *other == end).expect("it is one");
        // Every window has results here, so those before are the windows before.
        let before = ends[place.saturating_sub(5)..place].iter();
        let before: Vec<f64> =
            before.filter_map(|end| results.get(&((*end).clone(), key.clone()))?["average"].as_f64()).collect();
        assert_eq!(row["baseline_windows"].as_u64(), Some(before.len() as u64), "{end} {key}");
        let own = results[&(end.clone(), key.clone())]["average"].as_f64().expect("an average");
        assert_eq!(row["average"].as_f64(), Some(own));
        if !before.is_empty() {
            let mean = before.iter().sum::<f64>() / before.len() as f64;
            assert_eq!(row["baseline_mean"].as_f64(), Some(mean), "{end} {key}");
            assert_eq!(row["difference"].as_f64(), Some(own - mean), "{end} {key}");
        }
        regressed += usize::from(row["regressed"] == true);
    }
    assert!(regressed > 10 && regressed < found.len() / 2, "{regressed} of {} have regressed", found.len());
}

#[test]
fn what_views_have_said_at_the_end_is_what_the_last_revisions_give() {
    let place = Place::new();
    place.write("c.yaml", yaml("at_least_once", &EVENTS.to_string(), "  metrics: {enabled: false}\n"));
    let said = place.run(&["run", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    check(&place);
}

/// The last complete checkpoint.
pub fn published(place: &Place) -> usize {
    published_in(place, "c")
}

fn published_in(place: &Place, directory: &str) -> usize {
    let entries = fs::read_dir(place.path(directory)).into_iter().flatten().flatten();
    let epochs = entries.filter(|entry| entry.path().join("manifest.json").exists());
    epochs.filter_map(|entry| entry.file_name().to_str()?.parse::<usize>().ok()).max().unwrap_or(0)
}

#[test]
fn a_job_that_is_killed_says_every_change_once() {
    let place = Place::new();
    place.write("c.yaml", yaml("exactly_once", &EVENTS.to_string(), &state(&place)));
    let command = || place.command(&["run", "--config", "c.yaml"]);
    for kill in 1..=3 {
        let mut live = Live::start(&mut command());
        let reached = published(&place) + 2;
        eventually(&format!("checkpoint {reached}"), || match published(&place) {
            last if last >= reached => Ok(()),
            last => Err(format!("the last is {last}\n{}", live.err())),
        });
        assert!(live.child.try_wait().expect("a child").is_none(), "kill {kill}: it has ended: {}", live.err());
        live.signal(libc::SIGKILL);
        live.end_within(PATIENCE);
        // With another number of workers each time.
        let text = place.read("c.yaml");
        let (old, new) = (format!("parallelism: {}", 3 - kill % 2), format!("parallelism: {}", 2 + kill % 2));
        place.write("c.yaml", text.replace(&old, &new));
    }
    let (code, said) = Live::start(&mut command()).end_within(PATIENCE);
    assert_eq!(code, Some(0), "{said}");
    check(&place);
    let verified = place.run(&["checkpoints", "verify", "--path", place.path("c").to_str().expect("UTF-8")]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn two_processes_of_which_one_is_killed_write_each_change_of_a_view_once_and_in_one_place() {
    one_of_two_is_killed(true);
}

#[test]
fn what_two_processes_retain_for_views_goes_on_from_a_directory_for_each() {
    one_of_two_is_killed(false);
}

fn one_of_two_is_killed(is_shared: bool) {
    let place = Place::new();
    let state =
        state(&place).replace("backend: rocksdb", &format!("backend: rocksdb, checkpoint_path_shared: {is_shared}"));
    place.write("c.yaml", yaml("exactly_once", &EVENTS.to_string(), &state));
    let mut launched = Live::start(&mut place.command(&["launch", "-n", "2", "-w", "1", "--config", "c.yaml"]));
    let directories: &[&str] = if is_shared { &["c"] } else { &["c/process-0", "c/process-1"] };
    eventually("checkpoint 2", || match directories.iter().all(|directory| published_in(&place, directory) >= 2) {
        true => Ok(()),
        false => Err(launched.err()),
    });
    signal(members(&launched, 1)[1], libc::SIGKILL);
    let (code, said) = launched.end_within(PATIENCE);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("going on from checkpoint"), "{said}");
    // Each process has files of its own: those that belong together are put together.
    for name in ["results", "slowest", "drift", "models"] {
        let parts: Vec<String> = place
            .names()
            .into_iter()
            .filter(|file| file.starts_with(&format!("{name}.")) || file.starts_with(&format!("{name}-")))
            .collect();
        let texts: Vec<String> = parts.iter().map(|part| place.read(part)).filter(|text| !text.is_empty()).collect();
        if name != "results" {
            assert_eq!(texts.len(), 1, "{name}: {parts:?}");
        }
        place.write(&format!("{name}.jsonl"), texts.concat());
    }
    check(&place);
}

#[test]
fn a_view_that_has_changed_is_refused_and_both_are_named() {
    let place = Place::new();
    place.write("c.yaml", yaml("exactly_once", "50000", &state(&place)).replace("count: 50000", "count: null"));
    let mut live = Live::start(&mut place.command(&["run", "--config", "c.yaml"]));
    eventually("a checkpoint", || if published(&place) > 0 { Ok(()) } else { Err(live.err()) });
    live.signal(libc::SIGTERM);
    live.end_within(PATIENCE);
    place.write("c.yaml", place.read("c.yaml").replace("top: 3", "top: 4"));
    let said = place.run(&["run", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.err.contains("views.slowest"), "{}", said.err);
    assert!(said.err.contains("the 3 largest by max") && said.err.contains("the 4 largest by max"), "{}", said.err);
}

#[test]
fn pages_and_the_command_show_the_content() {
    let place = Place::new();
    let port = kafka_broker::process::free_port();
    let metrics = format!("  metrics: {{listen: \"127.0.0.1:{port}\"}}\n");
    let text = yaml("at_least_once", "null", &metrics).replace("rate: null", "rate: 20000");
    place.write(
        "c.yaml",
        text.replace("size: 10s, allowed_lateness: 60s", "size: 1s")
            .replace("max_out_of_orderness: 5s", "max_out_of_orderness: 3s"),
    );
    let live = Live::start(&mut place.command(&["run", "--config", "c.yaml"]));
    let url = format!("http://127.0.0.1:{port}");
    let page = |path: &str| serde_json::from_str::<Value>(&get(&format!("{url}{path}"))).unwrap_or_default();
    eventually("content", || match page("/views/slowest")["content"].as_array() {
        Some(rows) if rows.len() >= 6 => Ok(()),
        other => Err(format!("{other:?}\n{}", live.err())),
    });
    let list = page("/views");
    let names: Vec<&str> =
        list["views"].as_array().expect("a list").iter().filter_map(|of| of["name"].as_str()).collect();
    assert_eq!(names, ["slowest", "drift", "models"]);
    let slowest = page("/views/slowest");
    let rows = slowest["content"].as_array().expect("rows");
    let mut ranks: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for row in rows {
        ranks
            .entry(row["window"]["end"].as_str().expect("an end"))
            .or_default()
            .push(row["row"]["rank"].as_u64().expect("a rank"));
    }
    for (end, mut ranks) in ranks {
        ranks.sort_unstable();
        assert_eq!(ranks, [1, 2, 3], "{end}: never a part of a leaderboard");
        assert!(Some(end) <= slowest["frontier"].as_str(), "{end} is closed");
    }
    eventually("metrics", || {
        let metrics = get(&format!("{url}/metrics"));
        let value =
            |series: &str| metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
        let rows = value("view_rows{view=\"slowest\"}");
        let came = value("view_changes_total{op=\"insert\",view=\"slowest\"}");
        let went = value("view_changes_total{op=\"delete\",view=\"slowest\"}");
        let frontier = value("view_frontier_seconds{view=\"slowest\"}");
        match (rows, came, went, frontier) {
            (Some(rows), Some(came), Some(went), Some(_)) if rows >= 6.0 && came - went >= rows => Ok(()),
            _ => Err(format!("{rows:?} {came:?} {went:?} {frontier:?}")),
        }
    });
    assert!(get(&format!("{url}/views/nothing")).contains("there is no view nothing"));

    let said = place.run(&["views", "--config", "c.yaml"]);
    assert!(said.code == Some(0) && said.out.contains("slowest") && said.out.contains("leaderboard"), "{said:?}");
    let said = place.run(&["views", "slowest", "--url", &url, "--limit", "3"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("slowest (leaderboard), "), "{}", said.out);
    assert_eq!(lines.len(), 5, "{}", said.out);
    let said = place.run(&["views", "nothing", "--url", &url]);
    assert!(
        said.code == Some(1) && said.err.contains("has no view nothing: it has drift, models, slowest"),
        "{said:?}"
    );
    let mut watch = Live::start(&mut place.command(&["views", "slowest", "--url", &url, "--watch"]));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(watch.child.try_wait().expect("a child").is_none(), "it goes on: {}", watch.err());
    drop(live);
}
