//! An hour of real requests against figures that Python and DuckDB computed from the same file (tests/data/README.md).

#[path = "support/checkout.rs"]
mod checkout;
#[path = "support/job.rs"]
mod job;
#[path = "support/scratch.rs"]
mod scratch;

use checkout::ROOT;
use scratch::scratch;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FIELDS: [&str; 2] = ["ContextTokens", "GeneratedTokens"];
/// Of so many tokens is a block, one of the keys. As in make_azure_expected.py.
const BLOCK: u32 = 256;
const RELATIVE_ERROR: f64 = 0.01;
/// Windows of so many values have exact percentiles.
const EXACT_PERCENTILES: f64 = 32.0;

/// A line of results.
#[derive(Deserialize)]
struct ResultLine {
    window: BTreeMap<String, chrono::DateTime<chrono::Utc>>,
    key: BTreeMap<String, String>,
    results: BTreeMap<String, Box<RawValue>>,
    revision: u64,
    op: String,
    firing: String,
}

/// By window (start and end, milliseconds) and key, the figures by name.
type Figures = BTreeMap<((i64, i64), Option<String>), BTreeMap<String, Option<f64>>>;

fn data(name: &str) -> PathBuf {
    ROOT.join("tests/data").join(name)
}

fn expected(kind: &str, job: &str) -> Figures {
    let text = std::fs::read_to_string(data(&format!("azure_{kind}.json"))).expect("the committed figures");
    let mut jobs: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).expect("the script writes JSON");
    let windows = jobs.remove(job).expect("a job of the script");
    let windows: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(windows.get()).expect("a list of windows");
    let mut figures = Figures::new();
    for window in windows {
        let millis = |name: &str| -> i64 { window[name].get().parse().expect("milliseconds") };
        let key: Option<String> = serde_json::from_str(window["key"].get()).expect("a key");
        let mut by_name = BTreeMap::new();
        for field in FIELDS {
            let aggregates: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(window[field].get()).expect("figures of a field");
            by_name.extend(aggregates.iter().map(|(name, figure)| (format!("{field}.{name}"), number(figure))));
        }
        let identity = ((millis("start_ms"), millis("end_ms")), key);
        assert!(figures.insert(identity, by_name).is_none(), "the script writes each window of a key once");
    }
    figures
}

/// A JSON number, correctly rounded, or null.
fn number(text: &RawValue) -> Option<f64> {
    (text.get() != "null").then(|| text.get().parse().expect("a number"))
}

/// The trace as events, in the order of the file.
fn events() -> Vec<String> {
    let trace = std::fs::read_to_string(data("azure_llm_2023_conv.csv")).expect("the trace");
    let mut lines = trace.lines();
    assert_eq!(lines.next(), Some("TIMESTAMP,ContextTokens,GeneratedTokens"));
    let event = |line: &str| {
        let [time, context, generated] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let tokens: u32 = context.parse().expect("a number of tokens");
        let block = tokens / BLOCK;
        // As in make_azure_expected.py.
        let size = match tokens {
            0..256 => "short",
            256..1024 => "medium",
            1024..4096 => "long",
            4096.. => "huge",
        };
        format!(
            "{{\"timestamp\":\"{}Z\",\"source\":\"azure\",\"event_type\":\"request\",\
             \"data\":{{\"size\":\"{size}\",\"block\":\"block {block}\",\
             \"ContextTokens\":{context},\"GeneratedTokens\":{generated}}}}}\n",
            time.replace(' ', "T")
        )
    };
    lines.map(event).collect()
}

/// The events dealt out to `count` files; in each, events change places with those up to 8 further on.
fn write(events: &[String], count: usize, directory: &Path) -> Vec<PathBuf> {
    let write = |number: usize| {
        let mut share: Vec<&str> = events.iter().skip(number).step_by(count).map(String::as_str).collect();
        share.chunks_mut(8).for_each(<[&str]>::reverse);
        let path = directory.join(format!("requests-{number}.jsonl"));
        std::fs::write(&path, share.concat()).expect("a temporary directory takes files");
        path
    };
    (0..count).map(write).collect()
}

/// Runs the job over so many files with so many workers. Returns the lines of its results.
fn run(windows: &str, key: &str, events: &[String], files: usize, workers: usize) -> Vec<String> {
    let directory = scratch();
    let paths: Vec<String> = write(events, files, directory.path()).iter().map(|path| job::quoted(path)).collect();
    let results = directory.path().join("results.jsonl");
    let yaml = format!(
        "processor:\n  source: {{type: file, paths: [{}]}}\n  \
         event: {{key: {key}, values: [data.ContextTokens, data.GeneratedTokens]}}\n  \
         windows: {{{windows}}}\n  watermark: {{max_out_of_orderness: 2m}}\n  \
         aggregation: {{relative_error: {RELATIVE_ERROR}}}\n  \
         error_handling: {{policy: fail}}\n  sinks: [{{type: file, path: {}}}]\n  metrics: {{enabled: false}}\n",
        paths.join(", "),
        job::quoted(&results)
    );
    let summary = job::run(&yaml, workers);
    assert_eq!((summary.events, summary.late, summary.dropped_late()), (19_366, 0, 0));
    job::sorted(job::results(&results))
}

fn found(lines: &[String]) -> Figures {
    let mut figures = Figures::new();
    for line in lines {
        let result: ResultLine =
            serde_json::from_str(&format!("{line}}}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        let how = (result.revision, result.op.as_str(), result.firing.as_str());
        assert_eq!(how, (0, "upsert", "on_time"), "{line}");
        let window = ["start", "end"].map(|name| result.window[name].timestamp_millis());
        let by_name = result.results.iter().map(|(name, figure)| (name.clone(), number(figure))).collect();
        let identity = (window.into(), result.key.into_values().next());
        assert!(figures.insert(identity, by_name).is_none(), "twice: {line}");
    }
    figures
}

/// Percentiles as documented, standard deviations but for their last two bits, all else exactly. Returns how many
/// percentiles were estimates that are not exact.
fn compare(found: &Figures, expected: &Figures) -> usize {
    let missing: Vec<_> = expected.keys().filter(|identity| !found.contains_key(identity)).collect();
    let superfluous: Vec<_> = found.keys().filter(|identity| !expected.contains_key(identity)).collect();
    assert!(missing.is_empty() && superfluous.is_empty(), "missing: {missing:?}; superfluous: {superfluous:?}");
    let mut estimates = 0;
    for (identity, figures) in expected {
        let ours = &found[identity];
        assert!(ours.keys().eq(figures.keys()), "{identity:?}: {:?} and {:?}", ours.keys(), figures.keys());
        for (name, right) in figures {
            let (field, aggregate) = name.split_once('.').expect("field.aggregate");
            let count = figures[&format!("{field}.count")].expect("a count");
            let (Some(is), Some(right)) = (ours[name], *right) else {
                assert_eq!((ours[name], *right), (None, None), "{identity:?} {name}");
                continue;
            };
            let allowed = match aggregate {
                "count" | "sum" | "min" | "max" | "average" => 0.0,
                "stddev" => 2.0 * f64::EPSILON * right,
                _ if count <= EXACT_PERCENTILES => 0.0,
                _ => RELATIVE_ERROR * right,
            };
            estimates += usize::from(aggregate.starts_with('p') && is != right);
            assert!((is - right).abs() <= allowed, "{identity:?} {name}: {is} where {right} is right");
        }
    }
    estimates
}

/// The jobs of these windows, each with how many results it has.
fn check(kind: &str, windows: &str, jobs: &[(&str, &str, usize)]) {
    let events = events();
    let mut estimates = 0;
    for (job, key, results) in jobs {
        let expected = expected(kind, job);
        assert_eq!(expected.len(), *results);
        let lines = run(windows, key, &events, 1, 1);
        estimates += compare(&found(&lines), &expected);
        for (files, workers) in [(1, 2), (2, 2), (4, 3)] {
            assert_eq!(run(windows, key, &events, files, workers), lines, "{job}: {files} files, {workers} workers");
        }
    }
    assert!(estimates > 0, "there are windows with more values than are kept");
}

#[test]
fn an_hour_of_requests_by_the_minute() {
    check("tumbling", "tumbling: {size: 1m}", &[("all", "[]", 60), ("by_size", "[data.size]", 233)]);
}

#[test]
fn an_hour_of_requests_in_sliding_windows() {
    let jobs = [("all", "[]", 69), ("by_size", "[data.size]", 274)];
    check("sliding", "default_type: sliding, sliding: {size: 10m, slide: 1m}", &jobs);
}

#[test]
fn an_hour_of_requests_in_sessions() {
    let jobs = [("all", "[]", 1), ("by_size", "[data.size]", 26), ("by_block", "[data.block]", 376)];
    check("session", "default_type: session, session: {gap: 30s}", &jobs);
}
