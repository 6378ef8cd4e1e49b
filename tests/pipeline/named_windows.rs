//! Several windows over the same events.

use crate::calls::{Kept, calls, of_calls, run_into, with_late_calls};
use llm_optimizer_processor::*;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Results as text, with the name of their windows.
#[derive(Clone, Default)]
struct Named(Arc<Mutex<BTreeSet<(String, String)>>>);

#[async_trait]
impl EventSink<AggregationResult> for Named {
    async fn send(&self, _: AggregationResult) -> ProcessorResult<()> {
        unreachable!("results come with what is said of them")
    }

    async fn send_with(&self, result: AggregationResult, info: ResultInfo) -> ProcessorResult<()> {
        let mut results: Vec<_> = result.results.iter().map(|(name, value)| format!("{name}={value}")).collect();
        results.sort();
        let text = format!("{:?} {} {:?} {results:?}", result.window, info.revision, info.firing);
        let name = info.window_name.map_or(String::new(), |name| name.to_string());
        assert!(self.0.lock().unwrap().insert((name, text)), "twice");
        Ok(())
    }
}

impl Named {
    fn texts(&self, of: &str) -> BTreeSet<String> {
        self.0.lock().unwrap().iter().filter(|(name, _)| name == of).map(|(_, text)| text.clone()).collect()
    }
}

#[tokio::test]
async fn each_of_several_windows_is_as_if_it_were_alone() {
    let events = || calls().chain(with_late_calls());
    let lateness = 30 * SECOND;
    let (all, visits) = (Named::default(), Named::default());
    let summary = of_calls_without_windows()
        .with_iterator_source(events())
        .with_named_windows(NamedWindows::tumbling("short", 10 * SECOND).with_allowed_lateness(lateness))
        .with_named_windows(
            NamedWindows::sliding("long", 20 * SECOND, 5 * SECOND)
                .with_late_policy(LatePolicy::Drop)
                .with_aggregates([AggregateKind::Max, AggregateKind::Percentile])
                .with_percentiles([75.0]),
        )
        .with_named_windows(
            NamedWindows::session("visits", 5 * SECOND).with_allowed_lateness(2 * lateness).with_sink(visits.clone()),
        )
        .with_parallelism(2)
        .with_sink(all.clone())
        .build()
        .unwrap()
        .run()
        .await
        .unwrap();

    let alone = [
        of_calls().with_allowed_lateness(lateness),
        of_calls()
            .with_sliding_window(20 * SECOND, 5 * SECOND)
            .with_aggregates([AggregateKind::Max, AggregateKind::Percentile])
            .with_percentiles([75.0]),
        of_calls().with_session_window(5 * SECOND).with_allowed_lateness(2 * lateness),
    ];
    let mut events_of_most = 0;
    for ((name, pipeline), sink) in ["short", "long", "visits"].into_iter().zip(alone).zip([&all, &all, &visits]) {
        let kept = Named::default();
        let pipeline = pipeline.with_iterator_source(events()).with_sink(kept.clone()).build().unwrap();
        events_of_most = events_of_most.max(pipeline.run().await.unwrap().events);
        assert!(!kept.texts("").is_empty());
        assert_eq!(sink.texts(name), kept.texts(""), "{name}");
    }
    assert!(all.texts("visits").is_empty() && visits.texts("short").is_empty());
    assert_eq!(summary.events, events_of_most, "the most patient windows decide what is read");
    // One late call is too late for the short windows, three for those that take none.
    assert!(summary.refused >= 4, "{summary}");
    assert!(summary.to_string().contains("too late for some window definitions"), "{summary}");
}

/// The calls, with nothing said of windows.
fn of_calls_without_windows() -> PipelineBuilder<crate::calls::Call> {
    create_pipeline::<crate::calls::Call>()
        .with_timestamp(|call| EventTime::from_millis(call.at_ms))
        .with_key(|call| GroupingKey::from_fields(&[("model", &call.model)]))
        .with_values(|call, values| values.add("millis", call.millis))
        .with_watermark_generator(BoundedOutOfOrdernessWatermark::new(SECOND))
}

#[tokio::test]
async fn a_custom_aggregate_is_computed_in_all_windows() {
    struct Spread;
    impl CustomAggregate for Spread {
        type State = (f64, f64);
        fn name(&self) -> &str {
            "spread"
        }
        fn create(&self) -> Self::State {
            (f64::INFINITY, f64::NEG_INFINITY)
        }
        fn add(&self, accumulator: &mut Self::State, value: f64) {
            *accumulator = (accumulator.0.min(value), accumulator.1.max(value));
        }
        fn merge(&self, into: &mut Self::State, other: &Self::State) {
            *into = (into.0.min(other.0), into.1.max(other.1));
        }
        fn result(&self, accumulator: &Self::State) -> serde_json::Value {
            (accumulator.1 - accumulator.0).into()
        }
    }
    let kept = Kept::default();
    let pipeline = of_calls_without_windows()
        .with_iterator_source(calls())
        .with_named_windows(NamedWindows::tumbling("a", 60 * SECOND))
        .with_named_windows(NamedWindows::tumbling("b", 120 * SECOND).with_aggregates([AggregateKind::Count]))
        .with_custom_aggregate(Spread);
    run_into(&kept, pipeline).await;
    let results = kept.0.lock().unwrap();
    assert_eq!(results.len(), 4);
    let spread = |result: &AggregationResult| result.results["spread"].as_f64().unwrap();
    assert!(results.iter().all(|result| (597.0..=598.0).contains(&spread(result))), "{results:?}");
    assert_eq!(results.iter().filter(|result| result.results.len() == 2).count(), 2);
}

#[test]
fn windows_that_cannot_be_told_apart_are_refused() {
    let named = NamedWindows::tumbling;
    let refused = of_calls()
        .with_iterator_source(calls())
        .with_named_windows(named("a", SECOND))
        .with_named_windows(named("a", 2 * SECOND))
        .with_named_windows(named("b c", Duration::ZERO).with_sink(StdoutSink))
        .build()
        .unwrap_err()
        .to_string();
    for problem in [
        "windows with a name and windows without; .with_named_windows(..) for all would be right",
        "two windows are called \"a\"; a name of its own for each would be right",
        "the name \"b c\" of windows; 1 to 100 letters, digits, '.', '_' or '-' would be right",
        "a size of 0ns of the windows `b c`; at least 1 ms would be right",
        "no sink for the windows `a`: call .with_sink(..) on them or the pipeline",
    ] {
        assert!(refused.contains(problem), "{problem}\n{refused}");
    }
}
