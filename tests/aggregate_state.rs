//! The library user's accumulator.

use chrono::{DateTime, Duration, Utc};
use llm_optimizer_processor::GroupingKey;
use llm_optimizer_processor::aggregate::{AggregationResult, AggregationState, Window};
use llm_optimizer_processor::config::{AggregateKind, AggregationConfig};
use serde_json::json;

fn window() -> Window {
    let start = DateTime::<Utc>::UNIX_EPOCH;
    let key = GroupingKey::from_fields(&[("model", "claude-3-opus"), ("region", "us-west-2")]);
    Window { start, end: start + Duration::minutes(5), key: Some(key) }
}

#[test]
fn values_become_results_by_name() {
    let mut state = AggregationState::new(window());
    state.add_value(42.0);
    state.add_value(50.0);
    let result = state.to_result();
    assert_eq!(result.window, window());
    assert_eq!(result.results["count"].to_string(), "2");
    assert_eq!(result.results["average"].to_string(), "46.0");
    assert_eq!(result.results["p95"].to_string(), "50.0");
    assert_eq!(result.results["stddev"], json!(32f64.sqrt()));
    assert_eq!(result.results.len(), 9);
}

#[test]
fn what_is_no_number_is_counted_or_refused() {
    let mut state = AggregationState::new(window());
    state.add_value(f64::NAN);
    state.add_value(f64::INFINITY);
    let message = state.try_add_value(f64::NEG_INFINITY).unwrap_err().to_string();
    assert!(message.contains("-inf cannot be aggregated in the window [1970-01-01T00:00:00Z"), "{message}");
    state.try_add_value(1.0).unwrap();
    assert_eq!((state.count(), state.rejected()), (1, 2));
    assert_eq!(AggregationState::new(window()).to_result().results["average"], json!(null));
}

#[test]
fn states_are_copied_merged_and_saved() {
    let config = AggregationConfig {
        enabled: vec![AggregateKind::Percentile, AggregateKind::Sum],
        percentiles: vec![50.0, 99.9],
        relative_error: 0.02,
    };
    let mut state = AggregationState::with_config(window(), &config).unwrap();
    (0..500).for_each(|value| state.add_value(f64::from(value) - 7.5));
    let mut copy = state.clone();
    copy.add_value(f64::NAN);
    let text = serde_json::to_string(&copy).unwrap();
    let restored: AggregationState = serde_json::from_str(&text).unwrap();
    assert_eq!(restored.encode().unwrap(), state.encode().unwrap());
    assert_eq!(restored.to_result().results, state.to_result().results);
    assert_eq!((restored.window(), restored.rejected()), (&window(), 1));

    state.merge(&restored).unwrap();
    assert_eq!((state.count(), copy.count(), state.rejected()), (1000, 500, 1));
    let message = state.merge(&AggregationState::new(window())).unwrap_err().to_string();
    assert!(message.contains("different aggregates"), "{message}");

    for (from, to, expected) in [
        ("\"sum\"", "\"total\"", "`total` is no aggregate"),
        ("\"accumulator\":\"", "\"accumulator\":\"!", "a saved aggregation state"),
        ("\"accumulator\":\"AR", "\"accumulator\":\"AA", "an encoded accumulator of"),
        ("0.02", "0.9", "0.001 to 0.1"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = serde_json::from_str::<AggregationState>(&text.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn results_are_saved_with_their_window() {
    let mut state = AggregationState::new(window());
    state.add_value(0.1);
    let result = state.to_result();
    let text = serde_json::to_string(&result).unwrap();
    assert!(text.contains(r#""key":"{\"model\":\"claude-3-opus\",\"region\":\"us-west-2\"}""#), "{text}");
    assert_eq!(serde_json::from_str::<AggregationResult>(&text).unwrap(), result);
}
