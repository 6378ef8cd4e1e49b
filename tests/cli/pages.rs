//! The pages and the frontier's log while a job runs.

use super::program::{Live, Place, config, eventually};
use prometheus_parse::{Scrape, Value};
use serde_json::Value as Json;
use std::time::Duration;

pub fn get(url: &str) -> Result<(u16, String), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((response.status().as_u16(), body))
}

/// The page, once it is as expected.
fn page(url: &str, expected: impl Fn(&str) -> bool) -> String {
    eventually(url, || match get(url)? {
        (200, body) if expected(&body) => Ok(body),
        other => Err(format!("{other:?}")),
    })
}

fn json(url: &str, expected: impl Fn(&Json) -> bool) -> Json {
    let body = page(url, |body| serde_json::from_str(body).is_ok_and(|document| expected(&document)));
    serde_json::from_str(&body).expect("it was JSON")
}

#[test]
fn a_run_can_be_watched() {
    let place = Place::new();
    let text = config(
        "{type: generator, rate: 1000, partitions: 3, disorder_secs: 0, malformed_share: 0.05}",
        "[{type: file, path: r.jsonl}]",
    )
    .replace("size: 1m", "size: 500ms")
    .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 100ms")
    .replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}");
    place.write("c.yaml", text);
    let mut live = Live::start(&mut place.command(&["--config", "c.yaml", "--log", "info,frontier=debug"]));
    let pages = live.pages();

    let is_there = |scrape: &Scrape, name: &str| {
        scrape.samples.iter().any(|sample| {
            sample.metric == name
                && matches!(sample.value, Value::Counter(number) | Value::Gauge(number) if number > 0.0)
        })
    };
    let parse = |body: &str| Scrape::parse(body.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus text");
    // The size of the state is looked at once in a while, at first before there is any.
    let scrape = parse(&page(&format!("{pages}/metrics"), |body| {
        let scrape = parse(body);
        ["results_sent_total", "state_size_bytes"].iter().all(|name| is_there(&scrape, name))
    }));
    let total = |name: &str| -> f64 {
        let of_name = scrape.samples.iter().filter(|sample| sample.metric == name);
        of_name
            .map(|sample| match sample.value {
                Value::Counter(value) | Value::Gauge(value) => value,
                _ => f64::NAN,
            })
            .sum()
    };
    assert!(total("events_processed_total") > 100.0, "{}", total("events_processed_total"));
    assert!(total("windows_fired_total") > 0.0);
    assert!(total("bad_records_total") > 0.0);
    let latency = scrape.samples.iter().find(|sample| sample.metric == "processing_latency_seconds");
    assert!(latency.is_some_and(|sample| matches!(sample.value, Value::Histogram(_))), "{latency:?}");

    let health = json(&format!("{pages}/health"), |document| document["status"] == "ok");
    assert_eq!(health["phase"], "running");
    json(&format!("{pages}/ready"), |document| document["ready"] == true);

    let frontiers =
        json(&format!("{pages}/frontiers"), |document| document["held_back_by"]["partition"]["topic"] == "generator");
    let names = |list: &str, name: &str| -> Vec<String> {
        let items = frontiers[list].as_array().unwrap_or_else(|| panic!("no {list}: {frontiers}"));
        let mut names: Vec<String> = items.iter().map(|item| item[name].to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names("operators", "operator"), ["\"sink\"", "\"source\"", "\"window\""]);
    assert_eq!(names("partitions", "partition"), ["0", "1", "2"]);
    for partition in frontiers["partitions"].as_array().expect("a list") {
        assert!(partition["worker"] == partition["partition"].as_u64().expect("a number") % 2, "{partition}");
    }
    assert!(
        frontiers["held_back_by"]["reason"].as_str().is_some_and(|reason| reason.contains("generator[")),
        "{frontiers}"
    );

    let status = page(&format!("{pages}/status"), |body| body.contains("generator[2]"));
    assert!(status.to_lowercase().starts_with("<!doctype html>") && status.contains("running"), "{status}");
    assert_eq!(get(&format!("{pages}/absent")).expect("an answer").0, 404);

    live.wait_for("DEBUG frontier: ");
    live.signal(libc::SIGTERM);
    let (code, err) = live.end_within(Duration::from_secs(10));
    assert_eq!(code, Some(0), "{err}");
    let advances: Vec<&str> = err.lines().filter(|line| line.contains("DEBUG frontier: ")).collect();
    for operator in ["source", "window", "sink"] {
        assert!(advances.iter().any(|line| line.contains(operator)), "{operator}: {advances:?}");
    }
    assert!(get(&format!("{pages}/health")).is_err(), "the pages end with the run");
}
