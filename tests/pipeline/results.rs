//! What results hold: aggregates of a program's own, several values, keys.

use crate::calls::{Kept, START, call, calls, of_calls, run_into};
use llm_optimizer_processor::*;
use serde_json::Value;

/// The difference between the greatest and the least value.
pub struct Range;

impl CustomAggregate for Range {
    type State = Option<(f64, f64)>;

    fn name(&self) -> &str {
        "range"
    }

    fn create(&self) -> Self::State {
        None
    }

    fn add(&self, state: &mut Self::State, value: f64) {
        self.merge(state, &Some((value, value)));
    }

    fn merge(&self, state: &mut Self::State, other: &Self::State) {
        *state = match (*state, *other) {
            (Some((low, high)), Some((other_low, other_high))) => Some((low.min(other_low), high.max(other_high))),
            (one, other) => one.or(other),
        };
    }

    fn result(&self, state: &Self::State) -> Value {
        state.map_or(Value::Null, |(low, high)| (high - low).into())
    }
}

#[tokio::test]
async fn a_custom_aggregate_is_in_the_results_of_every_sink() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one.jsonl"), directory.path().join("two.jsonl"));
    let kept = Kept::default();
    let builder = of_calls()
        .with_iterator_source(calls())
        .with_aggregates([AggregateKind::Count, AggregateKind::Percentile])
        .with_percentiles([50.0, 99.9])
        .with_custom_aggregate(Range)
        .with_sink(FileSink::append(&one))
        .with_sink(FileSink::atomic(&two));
    run_into(&kept, builder).await;
    let first = kept.0.lock().unwrap().iter().find(|result| result.results["count"] == 34).unwrap().clone();
    let mut names: Vec<&String> = first.results.keys().collect();
    names.sort_unstable();
    assert_eq!(names, ["count", "p50", "p99.9", "range"]);
    // Every third number from 0 to 99.
    assert_eq!(first.results["range"], 99.0);
    for path in [one, two] {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 12);
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["results"].as_object().unwrap().keys().collect::<Vec<_>>(), ["count", "p50", "p99.9", "range"]);
    }
}

/// Each of these events has fields of its own, so that results say which.
#[tokio::test]
async fn results_of_several_values_and_one_group() {
    let kept = Kept::default();
    let builder = of_calls()
        .with_iterator_source([call(START, "opus", 2.0), call(START, "haiku", 4.0), call(START, "none", 0.0)])
        .with_filter(|call| call.model != "none")
        .with_key(|_| GroupingKey::everything())
        .with_aggregates([AggregateKind::Sum])
        .with_values(|call, values| {
            values.add("millis", call.millis);
            values.add_optional("fast", (call.millis < 3.0).then_some(1.0));
        });
    let summary = run_into(&kept, builder).await;
    assert_eq!((summary.events, summary.filtered), (2, 1));
    let kept = kept.0.lock().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].window.key, None);
    assert_eq!(kept[0].results, [("millis.sum", 6.0), ("fast.sum", 1.0)].map(|(n, v)| (n.to_owned(), v.into())).into());
}
