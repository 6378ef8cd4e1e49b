//! The Rust of the reference card, as printed there, compiled and run. The values that the card leaves open stand around it.

#[path = "support/kept.rs"]
mod kept;

use chrono::{DateTime, Utc};
use kept::Kept;
use llm_optimizer_processor::*;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing in this file may drift from the card: the lines of each of its Rust snippets are here, in their order, with others
/// in between only where the card has an empty line or `// ...`.
#[test]
fn every_snippet_of_the_card_is_in_this_file() {
    let here: Vec<&str> = include_str!("card.rs").lines().map(str::trim).collect();
    let snippets = rust_of(include_str!("../docs/reference-card.md"));
    assert_eq!(snippets.len(), 13);
    for snippet in snippets {
        let mut at = 0;
        for part in snippet.split(|line| line.is_empty() || *line == "// ...").filter(|part| !part.is_empty()) {
            let found = here[at..].windows(part.len()).position(|window| window == part);
            at += found.unwrap_or_else(|| panic!("not here, or not in this order:\n{}", part.join("\n"))) + part.len();
        }
    }
}

/// The snippets between ```rust and ```, as trimmed lines.
fn rust_of(card: &str) -> Vec<Vec<&str>> {
    let mut snippets = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in card.lines() {
        match (&mut open, line.trim()) {
            (None, "```rust") => open = Some(Vec::new()),
            (Some(_), "```") => snippets.extend(open.take()),
            (Some(snippet), line) => snippet.push(line),
            (None, _) => {}
        }
    }
    snippets
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn millis(time: &str) -> EventTime {
    at(time).into()
}

/// A list of calls without commas, as the card prints them.
macro_rules! each {
    ($($name:ident::new($($argument:expr),*))*) => { ($($name::new($($argument),*),)*) };
}

#[test]
fn windows() {
    let (tumbling, sliding, session) = each! {
        // Tumbling: 5-minute non-overlapping
        TumblingWindowAssigner::new(Duration::from_secs(300))

        // Sliding: 10-minute window, 1-minute slide
        SlidingWindowAssigner::new(Duration::from_secs(600), Duration::from_secs(60))

        // Session: 5-minute gap
        SessionWindowAssigner::new(Duration::from_secs(300))
    };
    let event = millis("2026-09-21T14:13:19.831Z");
    let window = tumbling.assign(event);
    assert_eq!((window.start, window.end), (millis("2026-09-21T14:10:00Z"), millis("2026-09-21T14:15:00Z")));
    let windows = sliding.assign(event);
    assert_eq!(windows.len(), 10);
    assert_eq!(windows[0].start, millis("2026-09-21T14:04:00Z"));
    assert_eq!(windows[9].end, millis("2026-09-21T14:23:00Z"));
    assert_eq!(session.assign(event).end, millis("2026-09-21T14:18:19.831Z"));
}

#[test]
fn aggregations() {
    macro_rules! names {
        ($($name:ident)*) => { [$(stringify!($name)),*] };
    }
    let names = names! {
        // Available aggregators
        count       // Count of events
        sum         // Sum of values
        average     // Mean value
        min         // Minimum value
        max         // Maximum value
        percentile  // p50, p95, p99
        stddev      // Standard deviation
    };
    let mut kinds = AggregateKind::ALL.map(AggregateKind::as_str).to_vec();
    kinds.sort_unstable();
    let mut names = names.to_vec();
    names.sort_unstable();
    assert_eq!(names, kinds);
    assert_eq!(AggregationConfig::everything().percentiles, [50.0, 95.0, 99.0]);
}

#[test]
#[rustfmt::skip]
fn watermarks() {
    let watermark = {
        // Bounded out-of-orderness: 30 seconds
        BoundedOutOfOrdernessWatermark::new(Duration::from_secs(30))

        // Watermark = max_event_time - max_out_of_orderness
    };
    assert_eq!(watermark.max_out_of_orderness().as_millis(), 30_000);
}

/// There is no broker: the pipeline waits for one until it is told to end, and ends in good order.
#[tokio::test]
#[rustfmt::skip]
async fn basic_pipeline() -> ProcessorResult<()> {
    let directory = tempfile::tempdir().unwrap();
    let (path, cp_path) = (directory.path().join("state"), directory.path().join("checkpoints"));
    let kafka_config = ConsumerConfig::new("127.0.0.1:1", ["feedback-events"]);
    let producer_config = ProducerConfig::new("127.0.0.1:1", "results");

    let pipeline = create_pipeline::<FeedbackEvent>()
        .with_kafka_source(kafka_config)
        .with_watermark_generator(
            BoundedOutOfOrdernessWatermark::new(Duration::from_secs(30))
        )
        .with_tumbling_window(Duration::from_secs(300))
        .with_state_backend(Arc::new(RocksDBStateBackend::new(path, cp_path)?))
        .with_sink(KafkaAggregationSink::new(producer_config))
        .build()?;

    let handle = pipeline.shutdown_handle();
    let stop = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        handle.shutdown();
    });
    let begun = Instant::now();

    pipeline.run().await?;

    stop.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it did not wait for the broker");
    assert!(begun.elapsed() < Duration::from_secs(12), "it took {:?} to end", begun.elapsed());
    Ok(())
}

/// The state operations, on any backend.
async fn state_operations(state_backend: Arc<dyn StateBackend>) -> ProcessorResult<()> {
    let window = Window {
        start: at("2026-09-21T14:10:00Z"),
        end: at("2026-09-21T14:15:00Z"),
        key: Some(GroupingKey::from_fields(&[("model", "claude-3-opus")])),
    };
    let backend = Arc::clone(&state_backend);

    // Get/Put state
    let state_mgr = WindowStateManager::<AggregationState>::new(backend, "namespace");

    assert!(state_mgr.get_accumulator(&window).await?.is_none());
    let mut state = AggregationState::new(window.clone());
    state.add_value(42.0);
    state_mgr.put_accumulator(&window, &state).await?;

    let acc = state_mgr.get_accumulator(&window).await?;
    state_mgr.put_accumulator(&window, &acc).await?;
    state_mgr.delete_window(&window).await?;

    assert_eq!(acc.as_ref().map(AggregationState::count), Some(1));
    assert!(state_mgr.get_accumulator(&window).await?.is_none());
    state_mgr.put_accumulator(&window, &acc).await?;
    state_backend.checkpoint(CheckpointId(7)).await?;
    state_mgr.delete_window(&window).await?;
    assert!(state_mgr.windows().await?.is_empty());
    let unknown = state_backend.restore(CheckpointId(8)).await.unwrap_err();
    assert_eq!(unknown.to_string(), "state: there is no checkpoint 8; there are 7");
    state_backend.restore(CheckpointId(7)).await?;
    assert_eq!(state_mgr.windows().await?, std::slice::from_ref(&window));
    let restored = state_mgr.get_accumulator(&window).await?.unwrap();
    assert_eq!(restored.encode()?, state.encode()?);
    Ok(())
}

async fn checkpoint_and_restore(
    state_backend: Arc<dyn StateBackend>,
    checkpoint_id: CheckpointId,
) -> ProcessorResult<()> {
    // Checkpoint
    state_backend.checkpoint(checkpoint_id).await?;
    state_backend.restore(checkpoint_id).await?;
    Ok(())
}

#[tokio::test]
async fn state_operations_in_memory() -> ProcessorResult<()> {
    let backend = Arc::new(MemoryStateBackend::new());
    state_operations(backend.clone()).await?;
    checkpoint_and_restore(backend.clone(), CheckpointId(8)).await?;
    assert_eq!(backend.checkpoints().await?, [CheckpointId(7), CheckpointId(8)]);
    Ok(())
}

#[tokio::test]
async fn state_operations_in_rocksdb() -> ProcessorResult<()> {
    let directory = tempfile::tempdir().unwrap();
    let backend = RocksDBStateBackend::new(directory.path().join("state"), directory.path().join("checkpoints"))?;
    state_operations(Arc::new(backend.clone())).await?;
    checkpoint_and_restore(Arc::new(backend.clone()), CheckpointId(8)).await?;
    assert_eq!(backend.checkpoints().await?, [CheckpointId(7), CheckpointId(8)]);
    Ok(())
}

#[test]
fn aggregation_usage() {
    let window = Window { start: at("2026-09-21T14:10:00Z"), end: at("2026-09-21T14:15:00Z"), key: None };

    // Create aggregation state
    let mut state = AggregationState::new(window);

    // Add values
    state.add_value(42.0);
    state.add_value(50.0);

    // Get results
    let result = state.to_result();
    println!("Count: {}", result.results["count"]);
    println!("Average: {}", result.results["average"]);
    println!("p95: {}", result.results["p95"]);

    assert_eq!((&result.results["count"], &result.results["average"]), (&Value::from(2), &Value::from(46.0)));
    assert_eq!(result.results["p95"], 50.0);
}

/// The arms are empty on the card, so that nothing uses what they bind.
#[rustfmt::skip]
#[allow(unused_variables)]
fn handle(result: ProcessorResult<u64>) {
    match result {
        Ok(value) => { /* ... */ },
        Err(ProcessorError::Kafka(e)) => { /* retry */ },
        Err(ProcessorError::State(e)) => { /* checkpoint */ },
        Err(e) => { /* log and continue */ },
    }
}

#[tokio::test]
async fn error_handling() {
    let of_state = MemoryStateBackend::new().restore(CheckpointId(1)).await.unwrap_err();
    assert!(
        matches!(&of_state, ProcessorError::State(text) if text == "there is no checkpoint 1; none has been taken")
    );
    handle(Ok(1));
    handle(Err(of_state));
    handle(Err(ProcessorError::Kafka("no broker".into())));
    handle(Err(ProcessorError::Sink("no space".into())));
}

#[test]
fn expose_metrics() {
    let duration = Duration::from_millis(3);

    let metrics = ProcessorMetrics::new();
    metrics.record_event_processed();
    metrics.record_processing_latency(duration);
    metrics.record_error();

    let page = metrics.render();
    assert!(page.lines().any(|line| line == "events_processed_total 1"), "{page}");
    assert!(page.lines().any(|line| line == "processing_latency_seconds_count 1"), "{page}");
}

#[test]
#[rustfmt::skip]
fn keyed_aggregation() {
    let key = GroupingKey::from_fields(&[
        ("model", "claude-3-opus"),
        ("region", "us-west-2"),
    ]);

    let event = ProcessorEvent {
        key: Some(key),
        // ...
        ..ProcessorEvent::new(102.2, EventTimestamp::EventTime(at("2026-09-21T14:13:19.831Z")))
    };

    assert_eq!(event.key.unwrap().as_json(), r#"{"model":"claude-3-opus","region":"us-west-2"}"#);
    assert_eq!(event.data, 102.2);
}

/// As printed on the card: the body is a comment there, so that nothing uses what is bound.
#[allow(unused_variables)]
mod custom_sink {
    use super::*;

    pub struct Card;

    impl Card {
        /// The card's sink.
        pub fn sink() -> impl EventSink<AggregationResult> + 'static {
            CustomSink
        }
    }

    struct CustomSink;

    #[async_trait]
    impl EventSink<AggregationResult> for CustomSink {
        async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
            // Custom output logic
            Ok(())
        }
    }
}

#[tokio::test]
async fn custom_sink_in_a_run() -> ProcessorResult<()> {
    let start = at("2026-09-21T14:00:00Z");
    let events = (0..20).map(move |n| {
        FeedbackEvent::new(start + chrono::Duration::seconds(n), "gateway", "metric").with("latency_ms", n)
    });
    let kept = Kept::default();
    let pipeline = create_pipeline::<FeedbackEvent>()
        .with_iterator_source(events)
        .with_tumbling_window(Duration::from_secs(10))
        .with_sink(custom_sink::Card::sink())
        .with_sink(kept.clone())
        .build()?;
    let summary = pipeline.run().await?;
    assert_eq!((summary.events, summary.windows, summary.results), (20, 2, 2));
    let kept = kept.0.lock().unwrap();
    let averages: Vec<&Value> = kept.iter().map(|result| &result.results["average"]).collect();
    assert_eq!(averages, [&Value::from(4.5), &Value::from(14.5)]);
    Ok(())
}

/// Takes a value apart into the fields of the card, and no others, with the types of the card.
macro_rules! shape {
    ($value:expr => $name:ident { $($field:ident: $type:ty,)* }) => {
        let $name { $($field,)* } = $value;
        $(let $field: $type = $field;)*
    };
}

fn event_has_the_fields_of_the_card<T: PartialEq + std::fmt::Debug>(event: ProcessorEvent<T>, expected: T) {
    shape! { event =>
        ProcessorEvent {
            data: T,                        // Original event
            timestamp: EventTimestamp,      // Event/processing/ingestion time
            processing_time: DateTime<Utc>, // When received
            key: Option<GroupingKey>,       // Partition key
            metadata: EventMetadata,        // Partition, offset, etc.
        }
    }
    assert_eq!((data, key, metadata.partition, metadata.offset), (expected, None, None, None));
    assert!(processing_time <= Utc::now());
    assert_eq!(timestamp, EventTimestamp::EventTime(DateTime::UNIX_EPOCH));
}

#[test]
fn data_structures() {
    event_has_the_fields_of_the_card(
        ProcessorEvent::new("data", EventTimestamp::EventTime(DateTime::UNIX_EPOCH)),
        "data",
    );
    let (from, to) = (at("2026-09-21T14:10:00Z"), at("2026-09-21T14:15:00Z"));
    let made = Window { start: from, end: to, key: None };
    shape! { made.clone() =>
        Window {
            start: DateTime<Utc>,  // Inclusive
            end: DateTime<Utc>,    // Exclusive
            key: Option<GroupingKey>,
        }
    }
    assert_eq!((start, end, key), (from, to, None));
    let made_result = AggregationState::new(made.clone()).to_result();
    shape! { made_result =>
        AggregationResult {
            window: Window,
            results: HashMap<String, Value>,  // "count", "average", etc.
            timestamp: DateTime<Utc>,
        }
    }
    assert_eq!((window, &results["count"], &results["average"]), (made, &Value::from(0), &Value::Null));
    assert!(timestamp <= Utc::now());
}

/// The card's formulas, against runs over the numbers around each edge.
mod formulas {
    use super::*;
    use llm_optimizer_processor::time::Span;
    use llm_optimizer_processor::time::watermark::{Lateness, PartitionWatermark};

    const ORDER: i64 = 30;
    const ALLOWED: i64 = 10;

    /// `watermark = max_observed_event_time - max_out_of_orderness`, and who is late by it.
    #[test]
    fn watermark_and_late_events() {
        let mut partition = PartitionWatermark::new(Span::from_millis(ORDER));
        let mut max_observed_event_time = i64::MIN;
        // A walk that goes forwards and backwards.
        for step in 0..2_000i64 {
            let event_time = 1_000 + step / 3 + (step * 7_919) % 83 - 41;
            if max_observed_event_time != i64::MIN {
                let watermark = max_observed_event_time - ORDER;
                assert_eq!(partition.watermark(), EventTime::from_millis(watermark));
                let expected = if event_time >= watermark {
                    Lateness::OnTime
                } else if event_time >= watermark - ALLOWED {
                    Lateness::Accepted
                } else {
                    Lateness::TooLate(Span::from_millis(watermark - event_time))
                };
                let judged = partition.judge(EventTime::from_millis(event_time), Span::from_millis(ALLOWED));
                assert_eq!(judged, expected, "step {step}");
            }
            partition.observe(EventTime::from_millis(event_time));
            max_observed_event_time = max_observed_event_time.max(event_time);
        }
    }

    /// `window_start = (event_timestamp / window_size) * window_size; window_end = window_start + window_size`.
    #[test]
    fn window_assignment_tumbling() {
        let window_size = 7;
        let assigner = TumblingWindowAssigner::new(Duration::from_millis(7));
        for event_timestamp in 0..1_000i64 {
            let window_start = (event_timestamp / window_size) * window_size;
            let window = assigner.assign(EventTime::from_millis(event_timestamp));
            assert_eq!(window.start.as_millis(), window_start);
            assert_eq!(window.end.as_millis(), window_start + window_size);
        }
    }

    /// `window_start = n * slide_interval; window_start <= event_timestamp < window_start + window_size`.
    #[test]
    fn window_assignment_sliding() {
        let (window_size, slide_interval) = (10, 3);
        let assigner = SlidingWindowAssigner::new(Duration::from_millis(10), Duration::from_millis(3));
        for event_timestamp in -100..100i64 {
            let expected: Vec<i64> = (-100..100)
                .map(|n| n * slide_interval)
                .filter(|window_start| *window_start <= event_timestamp && event_timestamp < window_start + window_size)
                .collect();
            let windows = assigner.assign(EventTime::from_millis(event_timestamp));
            let starts: Vec<i64> = windows.iter().map(|window| window.start.as_millis()).collect();
            assert_eq!(starts, expected);
        }
    }
}
