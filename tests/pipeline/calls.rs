//! The events of these tests, pipelines over them, and what comes out.

pub use crate::kept::Kept;
use llm_optimizer_processor::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A program's own event.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    pub at_ms: i64,
    pub model: String,
    pub millis: f64,
}

pub fn call(at_ms: i64, model: &str, millis: f64) -> Call {
    Call { at_ms, model: model.to_owned(), millis }
}

/// 2026-09-21T14:00:00Z.
pub const START: i64 = 1_789_999_200_000;

/// A minute of calls of two models, a hundred milliseconds apart.
pub fn calls() -> impl Iterator<Item = Call> + Send + 'static {
    (0..600).map(|n| call(START + n * 100, if n % 3 == 0 { "opus" } else { "haiku" }, n as f64))
}

/// Windows of 10 s over calls by their model.
pub fn of_calls() -> PipelineBuilder<Call> {
    create_pipeline::<Call>()
        .with_timestamp(|call| EventTime::from_millis(call.at_ms))
        .with_key(|call| GroupingKey::from_fields(&[("model", &call.model)]))
        .with_values(|call, values| values.add("millis", call.millis))
        .with_watermark_generator(BoundedOutOfOrdernessWatermark::new(Duration::from_secs(1)))
        .with_tumbling_window(Duration::from_secs(10))
}

/// Two calls behind the watermark by more than is allowed, one by less.
pub fn with_late_calls() -> Vec<Call> {
    vec![
        call(START, "opus", 1.0),
        call(START + 60_000, "opus", 2.0),
        call(START + 1_000, "opus", 3.0),
        call(START + 58_000, "opus", 4.0),
        call(START + 2_000, "opus", 5.0),
    ]
}

impl Kept {
    /// Count and sum by the window's start, in seconds since the first, and the values of the key's fields.
    pub fn counts_and_sums(&self) -> BTreeMap<(i64, String), (u64, f64)> {
        let results = self.0.lock().unwrap();
        let each = results.iter().map(|result| {
            let second = (result.window.start.timestamp_millis() - START) / 1000;
            let fields = result.window.key.as_ref().map(GroupingKey::fields).unwrap_or_default();
            let key = fields.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("/");
            let numbers = (result.results["count"].as_u64().unwrap(), result.results["sum"].as_f64().unwrap());
            ((second, key), numbers)
        });
        each.collect()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

pub fn bounds(window: &Window) -> (i64, i64) {
    (window.start.timestamp_millis() - START, window.end.timestamp_millis() - START)
}

/// What the calls come to, computed the obvious way.
pub fn expected(calls: impl Iterator<Item = Call>) -> BTreeMap<(i64, String), (u64, f64)> {
    let mut windows: BTreeMap<(i64, String), (u64, f64)> = BTreeMap::new();
    for call in calls {
        let window = windows.entry(((call.at_ms - START) / 10_000 * 10, call.model)).or_default();
        window.0 += 1;
        window.1 += call.millis;
    }
    windows
}

pub async fn run_into(kept: &Kept, builder: PipelineBuilder<Call>) -> Summary {
    builder.with_sink(kept.clone()).build().unwrap().run().await.unwrap()
}

pub fn write_lines(path: &Path, lines: impl IntoIterator<Item = String>) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
}

pub fn as_json(call: &Call) -> String {
    format!(r#"{{"at_ms":{},"model":"{}","millis":{}}}"#, call.at_ms, call.model, call.millis)
}

pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
