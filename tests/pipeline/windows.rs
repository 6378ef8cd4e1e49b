//! Windows of each kind, and what sinks are told of sessions that late events join.

use crate::calls::{Call, Kept, START, bounds, call, calls, expected, of_calls, run_into, with_late_calls};
use llm_optimizer_processor::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Half a minute of silence in the middle.
fn with_a_pause() -> impl Iterator<Item = Call> + Send + 'static {
    calls().filter(|call| !(10_000..40_000).contains(&(call.at_ms - START)))
}

#[tokio::test]
async fn sliding_windows_and_sessions_run() {
    let kept = Kept::default();
    let sliding = of_calls().with_iterator_source(calls());
    let sliding = sliding.with_sliding_window(Duration::from_secs(20), Duration::from_secs(10)).with_parallelism(2);
    let summary = run_into(&kept, sliding).await;
    assert_eq!((summary.events, summary.windows, summary.open), (600, 14, 0));
    let tumbling = expected(calls());
    let found = kept.counts_and_sums();
    for second in (-10..60).step_by(10) {
        for model in ["opus", "haiku"] {
            let halves =
                [second, second + 10].map(|half| tumbling.get(&(half, model.to_owned())).copied().unwrap_or_default());
            let sum = (halves[0].0 + halves[1].0, halves[0].1 + halves[1].1);
            assert_eq!(found[&(second, model.to_owned())], sum, "{second} {model}");
        }
    }

    let kept = Kept::default();
    let sessions = of_calls().with_iterator_source(with_a_pause()).with_session_window(Duration::from_secs(5));
    let summary = run_into(&kept, sessions).await;
    assert_eq!((summary.windows, summary.open), (4, 0));
    let bounds: Vec<(i64, i64)> = kept.0.lock().unwrap().iter().map(|result| bounds(&result.window)).collect();
    assert_eq!(bounds.iter().filter(|(start, _)| *start < 10_000).count(), 2);
    assert!(bounds.contains(&(0, 14_900)) && bounds.contains(&(40_200, 64_700)), "{bounds:?}");
}

#[tokio::test]
async fn gaps_between_windows_and_zones_and_policies() {
    let kept = Kept::default();
    let gaps = of_calls().with_iterator_source(calls());
    let gaps = gaps.with_sliding_window(Duration::from_secs(10), Duration::from_secs(30));
    let summary = run_into(&kept, gaps).await;
    assert_eq!((summary.events, summary.windows, summary.in_no_window), (600, 4, 400));
    assert!(summary.to_string().contains("between two windows: 400"), "{summary}");

    // START is half past seven in the evening there.
    let kept = Kept::default();
    let kind = WindowKind::Tumbling {
        size: time::Span::from_secs(24 * 3600),
        offset: time::Span::ZERO,
        time_zone: Some("Asia/Kolkata".parse().unwrap()),
    };
    run_into(&kept, of_calls().with_iterator_source(calls()).with_windows(kind)).await;
    let day = kept.0.lock().unwrap()[0].window.clone();
    assert_eq!(
        (day.start.to_rfc3339(), day.end - day.start),
        ("2026-09-20T18:30:00+00:00".into(), chrono::TimeDelta::days(1))
    );
    let short = WindowKind::Tumbling {
        size: time::Span::from_secs(90),
        offset: time::Span::ZERO,
        time_zone: Some("Asia/Kolkata".parse().unwrap()),
    };
    let error = of_calls().with_iterator_source(calls()).with_windows(short).with_sink(StdoutSink).build().unwrap_err();
    assert!(error.to_string().contains("whole hours that divide a day"), "{error}");

    let late = || with_late_calls().into_iter();
    for (policy, results) in [(LatePolicy::Refine, 4), (LatePolicy::FinalOnly, 3), (LatePolicy::Drop, 2)] {
        let kept = Kept::default();
        let builder = of_calls().with_iterator_source(late()).with_allowed_lateness(Duration::from_secs(60));
        let summary = run_into(&kept, builder.with_late_policy(policy)).await;
        let dropped = if policy == LatePolicy::Drop { 3 } else { 0 };
        assert_eq!((summary.results, summary.dropped_late()), (results, dropped), "{policy:?}");
    }
}

/// A producer's first event has the time at which clocks begin, and half a century lies between it and the next: no window of
/// these years costs anything.
#[tokio::test]
async fn a_leap_over_half_a_century_is_made_at_once() {
    let secs = Duration::from_secs;
    let hourly = WindowKind::Tumbling {
        size: time::Span::from_secs(3_600),
        offset: time::Span::ZERO,
        time_zone: Some("Europe/Berlin".parse().unwrap()),
    };
    let events = || [call(5_000, "opus", 1.0), call(START, "opus", 2.0), call(START + 1_000, "haiku", 3.0)];
    let kinds: [(&str, PipelineBuilder<Call>, u64); 4] = [
        ("tumbling", of_calls().with_tumbling_window(secs(1)), 3),
        ("sliding", of_calls().with_sliding_window(secs(600), secs(1)), 3 * 600),
        ("sessions", of_calls().with_session_window(secs(30)), 3),
        ("by the clocks of a zone", of_calls().with_windows(hourly), 3),
    ];
    for (kind, builder, windows) in kinds {
        let (kept, begun) = (Kept::default(), Instant::now());
        let summary = run_into(&kept, builder.with_iterator_source(events()).with_parallelism(2)).await;
        assert!(begun.elapsed() < secs(10), "{kind}: {:?}", begun.elapsed());
        assert_eq!((summary.events, summary.windows, summary.open), (3, windows, 0), "{kind}");
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.len() as u64, windows, "{kind}");
        let contents = kept.iter().map(|result| (&result.results["count"], result.results["sum"].as_f64().unwrap()));
        let of_one = |value: f64| contents.clone().filter(|found| *found == (&1.into(), value)).count() as u64;
        assert_eq!([1.0, 2.0, 3.0].map(of_one), [windows / 3; 3], "{kind}");
    }
}

/// What a sink was told: how, of which bounds, with which count.
type Word = (&'static str, (i64, i64), u64);

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Word>>>);

impl Told {
    fn note(&self, what: &'static str, result: &AggregationResult) {
        let count = result.results["count"].as_u64().unwrap();
        self.0.lock().unwrap().push((what, bounds(&result.window), count));
    }
}

#[async_trait]
impl EventSink<AggregationResult> for Told {
    async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
        self.note("send", &result);
        Ok(())
    }

    async fn retract(&self, result: AggregationResult) -> ProcessorResult<()> {
        self.note("retract", &result);
        Ok(())
    }
}

#[tokio::test]
async fn a_late_event_that_joins_sessions_takes_their_results_back() {
    let told = Told::default();
    // The fourth is late, and joins two sessions that have fired.
    let events = [0, 8_000, 60_000, 4_000, 200_000].map(|at| call(START + at, "opus", 1.0));
    let builder = of_calls()
        .with_iterator_source(events)
        .with_session_window(Duration::from_secs(5))
        .with_allowed_lateness(Duration::from_secs(120))
        .with_sink(told.clone());
    let summary = builder.build().unwrap().run().await.unwrap();
    assert_eq!((summary.windows, summary.refined, summary.retracted, summary.results), (4, 1, 2, 7));
    let mut told = told.0.lock().unwrap().clone();
    // The two that are taken back come in any order.
    told[2..4].sort_unstable();
    assert_eq!(
        told[..5],
        [
            ("send", (0, 5_000), 1),
            ("send", (8_000, 13_000), 1),
            ("retract", (0, 5_000), 1),
            ("retract", (8_000, 13_000), 1),
            ("send", (0, 13_000), 3),
        ]
    );
}

/// How often accumulators were merged.
struct Merges(Arc<AtomicU64>);

impl CustomAggregate for Merges {
    type State = ();

    fn name(&self) -> &str {
        "merges"
    }

    fn create(&self) {}

    fn add(&self, _: &mut (), _: f64) {}

    fn merge(&self, _: &mut (), _: &()) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn result(&self, _: &()) -> serde_json::Value {
        serde_json::Value::Null
    }
}

#[tokio::test]
async fn a_window_that_fires_merges_as_much_whatever_its_size_is_to_the_slide() {
    for ratio in [1, 10, 60, 600, 3600] {
        let slides = 2 * ratio + 100;
        let events = (0..slides).map(|n| call(START + i64::from(n) * 1_000, "opus", 1.0));
        let (merges, kept) = (Arc::new(AtomicU64::new(0)), Kept::default());
        let second = Duration::from_secs(1);
        let pipeline = of_calls()
            .with_iterator_source(events)
            .with_sliding_window(ratio * second, second)
            .with_custom_aggregate(Merges(Arc::clone(&merges)));
        let windows = run_into(&kept, pipeline).await.windows;
        assert_eq!(windows, u64::from(slides + ratio - 1));
        // A slice is added to the newer ones, becomes one of the older, and two sums make the window's; a sum of two is two merges.
        let merges = merges.load(Ordering::Relaxed);
        assert!(merges <= 6 * windows, "{ratio}: {merges} for {windows} windows");
        assert!(ratio == 1 || merges > windows, "{ratio}: {merges} for {windows} windows");
    }
}
