//! Pipelines that cannot be built, and what is said of them.

use crate::calls::{Call, Kept, calls, of_calls};
use crate::results::Range;
use llm_optimizer_processor::*;
use std::sync::Arc;
use std::time::Duration;

fn refusal<T: Send + 'static>(builder: PipelineBuilder<T>) -> String {
    let error = builder.build().unwrap_err();
    assert!(matches!(error, ProcessorError::Config(_)), "{error}");
    error.to_string()
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let text = refusal(create_pipeline::<Call>().with_tumbling_window(Duration::ZERO).with_parallelism(0));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert_eq!(lines[0], "a tumbling window's size of 0ns; at least 1 ms would be right");
    assert_eq!(lines[1], "a parallelism of 0; 1 to 1024 would be right");
    assert_eq!(lines[2], "no sink: nothing says where results go; call .with_sink(..)");
    assert!(lines[3].starts_with("no source: nothing says where events come from; call .with_kafka_source(..)"));
    for (line, call) in lines[4..].iter().zip([".with_timestamp(", ".with_key(", ".with_values("]) {
        assert!(
            line.starts_with("events of type pipeline::calls::Call: nothing says ") && line.contains(call),
            "{line}"
        );
    }
    let text = refusal(create_pipeline::<FeedbackEvent>());
    assert_eq!(text.lines().count(), 2, "feedback events need no closures: {text}");
}

#[test]
fn what_cannot_be_delivered_exactly_once_is_refused() {
    let of_calls = || of_calls().with_iterator_source(calls());
    let exactly = |builder: PipelineBuilder<Call>| builder.with_delivery(config::Delivery::ExactlyOnce);
    let text = refusal(exactly(of_calls().with_sink(FileSink::append("r.jsonl"))));
    assert!(text.contains(".with_state_backend(RocksDBStateBackend)"), "{text}");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let backend = Arc::new(RocksDBStateBackend::new(at("state"), at("checkpoints")).unwrap());
    let with_checkpoints = || of_calls().with_state_backend(backend.clone());
    let text = refusal(exactly(with_checkpoints().with_sink(StdoutSink)));
    assert!(text.starts_with("the sink Stdout cannot take back what it has shown"), "{text}");
    let text = refusal(exactly(with_checkpoints().with_sink(Kept::default())));
    assert!(text.contains("a sink that implements EpochSink would be right"), "{text}");
    let text = refusal(exactly(with_checkpoints().with_sink(ConsoleSink)));
    assert!(text.starts_with("the sink Console cannot"), "{text}");
    let text = refusal(with_checkpoints().with_sink(FileSink::atomic("r.jsonl")));
    assert!(text.contains("File(r.jsonl, Atomic)") && text.contains("FileSink::append"), "{text}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let of_calls = || of_calls().with_sink(StdoutSink);
    let kafka = |topics: &[&str]| ConsumerConfig::new("localhost:9092", topics.iter().copied());
    let text = refusal(of_calls().with_kafka_source(kafka(&["a"])).with_iterator_source(calls()));
    assert_eq!(text, "sources of Kafka and of iterators and channels; one kind would be right");
    let text = refusal(of_calls().with_kafka_source(kafka(&["a"])).with_kafka_source(kafka(&["b"])));
    assert_eq!(text, "two sources of Kafka; one that names all topics would be right");
    assert!(refusal(of_calls().with_kafka_source(kafka(&[]))).contains("names no topics"));
    let at_the_end = refusal(of_calls().with_kafka_source(kafka(&["calls"])).with_sink(FileSink::atomic("r.jsonl")));
    assert!(at_the_end.contains("File(r.jsonl, Atomic)") && at_the_end.contains("FileSink::append"), "{at_the_end}");
    let results = KafkaAggregationSink::new(ProducerConfig::new("localhost:9092", "a"));
    let text = refusal(of_calls().with_kafka_source(kafka(&["a"])).with_sink(results));
    assert!(text.starts_with("the topic `a` is read and written"), "{text}");
    let text = refusal(of_calls().with_iterator_source(calls()).with_error_policy(ErrorPolicy::DeadLetter));
    assert!(text.contains(".with_dead_letter(..)"), "{text}");
    let text = refusal(of_calls().with_file_source("/nowhere/*.jsonl"));
    assert!(text.contains("/nowhere/*.jsonl"), "{text}");
    let text =
        refusal(of_calls().with_iterator_source(calls()).with_custom_aggregate(Range).with_custom_aggregate(Range));
    assert!(text.contains("two aggregates are called `range`"), "{text}");
    let text = refusal(of_calls().with_iterator_source(calls()).with_job_name("no spaces"));
    assert!(text.starts_with("the job's name \"no spaces\""), "{text}");
    let closing = of_calls().with_iterator_source(calls()).with_idle_timeout(None);
    let text = refusal(closing.with_close_idle_after(Some(Duration::from_secs(1))));
    assert!(text.contains(".with_close_idle_after(..)"), "{text}");
    assert!(refusal(of_calls().with_iterator_source(calls()).with_session_window(Duration::ZERO)).contains("gap"));
    assert!(refusal(of_calls().with_iterator_source(calls()).with_aggregates([])).contains("no aggregate"));
}
