//! Checkpoints of a job of two processes: what they begin with.

use super::cluster::{ORDERLY, hostfile, start_with};
use super::interrupted::{get, metric};
use super::program::{Live, Place, config, eventually};
use std::time::Duration;

/// A place with a job that never ends and takes checkpoints all the time.
fn place() -> Place {
    let place = Place::new();
    hostfile(&place);
    let job = config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl, mode: append}]")
        .replace("size: 1m", "size: 100ms")
        .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 0s");
    let state = "  state: {backend: rocksdb, path: state, checkpoint_path: checkpoints, retain: 3}\n  checkpoint_interval: 300ms\n";
    place.write("c.yaml", job + state);
    place
}

/// Starts both, the second when the first has looked at the checkpoints.
fn start_both(place: &Place, first: &[&str], second: &[&str]) -> [Live; 2] {
    let one = start_with(place, 0, 1, first);
    one.wait_for("waiting for the other processes");
    [one, start_with(place, 1, 1, second)]
}

/// The epochs of complete checkpoints.
fn published(place: &Place) -> Vec<u64> {
    let complete = |name: &String| place.path("checkpoints").join(name).join("manifest.json").is_file();
    let names = std::fs::read_dir(place.path("checkpoints")).into_iter().flatten();
    let names = names.map(|entry| entry.expect("a name").file_name().into_string().expect("UTF-8")).filter(complete);
    let mut epochs: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
    epochs.sort_unstable();
    epochs
}

/// Runs until there is a checkpoint of this epoch or a later one, and stops.
fn run_until(place: &Place, epoch: u64, arguments: &[&str]) {
    let mut processes = start_both(place, arguments, arguments);
    eventually("checkpoint", || match published(place) {
        epochs if epochs.last() >= Some(&epoch) => Ok(()),
        epochs => Err(format!("{epochs:?}")),
    });
    processes.iter().for_each(|process| process.signal(libc::SIGTERM));
    for process in &mut processes {
        let (code, err) = process.end_within(ORDERLY);
        assert_eq!(code, Some(0), "{err}");
    }
}

#[test]
fn what_a_killed_run_has_left_is_no_hindrance() {
    let place = place();
    run_until(&place, 2, &[]);
    let last = *published(&place).last().unwrap();
    let left = place.path("checkpoints").join((last + 5).to_string());
    std::fs::create_dir_all(left.join("worker-0")).unwrap();
    run_until(&place, last + 7, &[]);
    assert!(published(&place).iter().all(|epoch| *epoch > last + 5), "numbers are not used again, and three are kept");
    assert!(!left.exists(), "it goes when there is a newer one");
}

#[test]
fn processes_that_begin_with_different_checkpoints_are_refused_and_nothing_is_removed() {
    let place = place();
    run_until(&place, 3, &[]);
    let before = published(&place);
    let oldest = before[0].to_string();
    let older: &[&str] = &["--from-checkpoint", &oldest];
    let mut processes = start_both(&place, older, &[]);
    let mut codes = Vec::new();
    for process in &mut processes {
        let (code, err) = process.end_within(ORDERLY);
        let reason = format!(
            "process 0 is to go on from checkpoint {oldest}, and process 1 is to go on from the newest checkpoint"
        );
        assert!(err.contains(&reason) || err.contains("peer lost"), "{err}");
        assert!(!err.contains("panicked"), "{err}");
        codes.push(code);
    }
    assert!(codes.contains(&Some(78)), "{codes:?}");
    assert_eq!(published(&place), before);
    let newest = *before.last().unwrap();
    run_until(&place, newest + 1, older);
    std::thread::sleep(Duration::from_millis(1));
    let after = published(&place);
    assert!(!after.contains(&newest), "those of another course are no more: {after:?}");
}

#[test]
fn every_process_shows_the_last_checkpoint() {
    let place = place();
    let yaml = place.read("c.yaml").replace("metrics: {enabled: false}", "metrics: {listen: \"127.0.0.1:0\"}");
    place.write("c.yaml", yaml);
    let processes = start_both(&place, &[], &[]);
    for process in &processes {
        let pages = process.pages();
        eventually("the epoch of a checkpoint", || match metric(&pages, "checkpoint_epoch") {
            epoch if epoch >= 2.0 => Ok(()),
            epoch => Err(format!("{epoch}\n{}", process.err())),
        });
    }
}

#[test]
fn every_process_shows_how_the_others_are() {
    let place = place();
    let yaml = place.read("c.yaml").replace("metrics: {enabled: false}", "metrics: {listen: \"127.0.0.1:0\"}");
    place.write("c.yaml", yaml);
    let processes = start_both(&place, &[], &[]);
    for (index, process) in processes.iter().enumerate() {
        let pages = process.pages();
        let other = eventually("news of the other process", || {
            let document: serde_json::Value = serde_json::from_str(&get(&format!("{pages}/frontiers"))).expect("JSON");
            match &document["peers"][0] {
                news if news["frontiers"]["phase"] == "running" => Ok(news.clone()),
                _ => Err(format!("{document}\n{}", process.err())),
            }
        });
        assert_eq!(other["process"], 1 - index, "{other}");
        assert!(other["heard_ms_ago"].as_i64().is_some_and(|ago| ago < 10_000), "{other}");
        // Its own worker, by the number that it has in the job.
        let workers = &other["frontiers"]["operators"][0]["workers"];
        assert!(workers.get((1 - index).to_string()).is_some(), "{other}");
        assert!(other["frontiers"].get("peers").is_none(), "{other}");
    }
}
