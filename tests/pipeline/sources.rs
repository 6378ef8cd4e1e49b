//! Sources of a program's own events, and of feedback events.

use crate::calls::{Call, Kept, START, as_json, calls, expected, of_calls, run_into, write_lines};
use chrono::{DateTime, Utc};
use llm_optimizer_processor::*;

#[tokio::test]
async fn the_same_results_from_every_source_at_any_parallelism() {
    let expected = expected(calls());
    assert_eq!(expected.len(), 12);
    let directory = tempfile::tempdir().unwrap();
    write_lines(&directory.path().join("calls.jsonl"), calls().map(|call| as_json(&call)));
    let glob = format!("{}/*.jsonl", directory.path().display());
    let (to_crossbeam, crossbeam) = crossbeam_channel::bounded(16);
    let (to_tokio, tokio_channel) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || calls().for_each(|call| to_crossbeam.send(call).unwrap()));
    tokio::spawn(async move {
        for call in calls() {
            to_tokio.send(call).await.unwrap();
        }
    });
    let parts = |part| calls().enumerate().filter(move |(n, _)| n % 3 == part).map(|(_, call)| call);
    let sources: Vec<(&str, PipelineBuilder<Call>)> = vec![
        ("iterator", of_calls().with_iterator_source(calls())),
        ("three partitions", of_calls().with_partitions([0, 1, 2].map(parts)).with_parallelism(2)),
        ("two calls", of_calls().with_iterator_source(parts(0)).with_partitions([1, 2].map(parts)).with_parallelism(3)),
        ("crossbeam", of_calls().with_channel_source(crossbeam).with_parallelism(1)),
        ("tokio", of_calls().with_tokio_channel_source(tokio_channel).with_parallelism(2)),
        ("files", of_calls().with_file_source(glob).with_buffer_size(64)),
    ];
    for (name, source) in sources {
        let kept = Kept::default();
        let summary = run_into(&kept, source).await;
        assert_eq!((summary.events, summary.windows, summary.results), (600, 12, 12), "{name}");
        assert_eq!((kept.counts_and_sums(), kept.len()), (expected.clone(), 12), "{name}");
    }
}

/// Events of this type need no closures; with some, the others keep their defaults.
#[tokio::test]
async fn feedback_events_mean_something_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let line = |millis: i64, model: &str| {
        let at = DateTime::<Utc>::from_timestamp_millis(START + millis).unwrap();
        FeedbackEvent::new(at, "gateway", "metric").with("latency_ms", millis).with("model", model)
    };
    let events = [line(1, "opus"), line(2, "haiku"), line(3, "opus")];
    write_lines(&path, events.iter().map(|event| serde_json::to_string(event).unwrap()));
    let from_file = || create_pipeline::<FeedbackEvent>().with_file_source(path.display().to_string());
    let from_memory = || create_pipeline::<FeedbackEvent>().with_iterator_source(events.clone());
    for builder in [from_file(), from_memory()] {
        let kept = Kept::default();
        builder.with_sink(kept.clone()).build().unwrap().run().await.unwrap();
        assert_eq!(kept.counts_and_sums(), [((0, "gateway/metric".to_owned()), (3, 6.0))].into());
        let key = kept.0.lock().unwrap()[0].window.key.clone().unwrap();
        assert_eq!(key.as_json(), r#"{"source":"gateway","event_type":"metric"}"#);
    }
    for builder in [from_file(), from_memory()] {
        let kept = Kept::default();
        let model = |event: &FeedbackEvent| event.data["model"].as_str().unwrap_or("").to_owned();
        let builder = builder.with_key(move |event| GroupingKey::from_fields(&[("model", model(event))]));
        builder.with_sink(kept.clone()).build().unwrap().run().await.unwrap();
        let expected = [((0, "opus".to_owned()), (2, 4.0)), ((0, "haiku".to_owned()), (1, 2.0))];
        assert_eq!(kept.counts_and_sums(), expected.into());
    }
}
