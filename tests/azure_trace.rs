//! An hour of real requests against figures that Python and DuckDB computed from the same file (tests/data/README.md).

#[path = "support/job.rs"]
mod job;

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const FIELDS: [&str; 2] = ["ContextTokens", "GeneratedTokens"];
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
    firing: String,
}

/// By window and key, the figures by name.
type Figures = BTreeMap<(i64, Option<String>), BTreeMap<String, Option<f64>>>;

fn expected(job: &str) -> Figures {
    let text = std::fs::read_to_string(format!("{DATA}/azure_expected.json")).expect("the committed figures");
    let mut jobs: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).expect("the script writes JSON");
    let windows = jobs.remove(job).expect("a job of the script");
    let windows: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(windows.get()).expect("a list of windows");
    let mut figures = Figures::new();
    for window in windows {
        let start: i64 = window["start_ms"].get().parse().expect("milliseconds");
        let key: Option<String> = serde_json::from_str(window["key"].get()).expect("a key");
        let by_name = figures.entry((start, key)).or_default();
        for field in FIELDS {
            let aggregates: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(window[field].get()).expect("figures of a field");
            by_name.extend(aggregates.iter().map(|(name, figure)| (format!("{field}.{name}"), number(figure))));
        }
    }
    figures
}

/// A JSON number, correctly rounded, or null.
fn number(text: &RawValue) -> Option<f64> {
    (text.get() != "null").then(|| text.get().parse().expect("a number"))
}

/// The trace as events, in the order of the file.
fn events() -> Vec<String> {
    let trace = std::fs::read_to_string(format!("{DATA}/azure_llm_2023_conv.csv")).expect("the trace");
    let mut lines = trace.lines();
    assert_eq!(lines.next(), Some("TIMESTAMP,ContextTokens,GeneratedTokens"));
    let event = |line: &str| {
        let [time, context, generated] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // As in make_azure_expected.py.
        let size = match context.parse().expect("a number of tokens") {
            0..256 => "short",
            256..1024 => "medium",
            1024..4096 => "long",
            4096u32.. => "huge",
        };
        format!(
            "{{\"timestamp\":\"{}Z\",\"source\":\"azure\",\"event_type\":\"request\",\
             \"data\":{{\"size\":\"{size}\",\"ContextTokens\":{context},\"GeneratedTokens\":{generated}}}}}\n",
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
fn run(key: &str, events: &[String], files: usize, workers: usize) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths: Vec<String> = write(events, files, directory.path()).iter().map(|path| job::quoted(path)).collect();
    let results = directory.path().join("results.jsonl");
    let yaml = format!(
        "processor:\n  source: {{type: file, paths: [{}]}}\n  \
         event: {{key: {key}, values: [data.ContextTokens, data.GeneratedTokens]}}\n  \
         windows: {{tumbling: {{size: 1m}}}}\n  watermark: {{max_out_of_orderness: 2m}}\n  \
         aggregation: {{relative_error: {RELATIVE_ERROR}}}\n  \
         error_handling: {{policy: fail}}\n  sinks: [{{type: file, path: {}}}]\n  metrics: {{enabled: false}}\n",
        paths.join(", "),
        job::quoted(&results)
    );
    let summary = job::run(&yaml, workers);
    assert_eq!((summary.events, summary.late, summary.dropped_late()), (19_366, 0, 0));
    job::results(&results)
}

fn found(lines: &[String]) -> Figures {
    let mut figures = Figures::new();
    for line in lines {
        let result: ResultLine =
            serde_json::from_str(&format!("{line}}}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((result.revision, result.firing.as_str()), (0, "on_time"), "{line}");
        let (start, end) = (result.window["start"], result.window["end"]);
        assert_eq!((end - start).num_seconds(), 60, "{line}");
        let by_name = result.results.iter().map(|(name, figure)| (name.clone(), number(figure))).collect();
        let identity = (start.timestamp_millis(), result.key.into_values().next());
        assert!(figures.insert(identity, by_name).is_none(), "twice: {line}");
    }
    figures
}

/// Count, sum, least and greatest exactly; mean and deviation to 12 digits; percentiles as documented.
fn compare(found: &Figures, expected: &Figures) {
    assert!(found.keys().eq(expected.keys()), "the windows and keys");
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
                "count" | "sum" | "min" | "max" => 0.0,
                "average" | "stddev" => 1e-12 * right.abs(),
                _ if count <= EXACT_PERCENTILES => 0.0,
                _ => RELATIVE_ERROR * right,
            };
            estimates += u32::from(is != right);
            assert!((is - right).abs() <= allowed, "{identity:?} {name}: {is} where {right} is right");
        }
    }
    assert!(estimates > 0, "there are windows with more values than are kept");
}

#[test]
fn an_hour_of_requests() {
    let events = events();
    for (job, key, windows) in [("all", "[]", 60), ("by_size", "[data.size]", 233)] {
        let expected = expected(job);
        assert_eq!(expected.len(), windows);
        let lines = run(key, &events, 1, 1);
        compare(&found(&lines), &expected);
        assert_eq!(run(key, &events, 4, 3), lines, "{job}: four files, three workers");
    }
}
