//! Pipelines as programs build and run them: their own events, sources, aggregates, sinks; beside other work, and stopped.

use chrono::{DateTime, Utc};
use llm_optimizer_processor::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A program's own event.
#[derive(Clone, Debug, Deserialize)]
struct Call {
    at_ms: i64,
    model: String,
    millis: f64,
}

fn call(at_ms: i64, model: &str, millis: f64) -> Call {
    Call { at_ms, model: model.to_owned(), millis }
}

/// 2026-09-21T14:00:00Z.
const START: i64 = 1_789_999_200_000;

/// A minute of calls of two models, a hundred milliseconds apart.
fn calls() -> impl Iterator<Item = Call> + Send + 'static {
    (0..600).map(|n| call(START + n * 100, if n % 3 == 0 { "opus" } else { "haiku" }, n as f64))
}

/// Windows of 10 s over calls by their model.
fn of_calls() -> PipelineBuilder<Call> {
    create_pipeline::<Call>()
        .with_timestamp(|call| EventTime::from_millis(call.at_ms))
        .with_key(|call| GroupingKey::from_fields(&[("model", &call.model)]))
        .with_values(|call, values| values.add("millis", call.millis))
        .with_watermark_generator(BoundedOutOfOrdernessWatermark::new(Duration::from_secs(1)))
        .with_tumbling_window(Duration::from_secs(10))
}

/// A sink that keeps what it is sent.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<AggregationResult>>>);

#[async_trait]
impl EventSink<AggregationResult> for Kept {
    async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
        self.0.lock().unwrap().push(result);
        Ok(())
    }
}

impl Kept {
    /// Count and sum by the window's start, in seconds since the first, and the values of the key's fields.
    fn counts_and_sums(&self) -> BTreeMap<(i64, String), (u64, f64)> {
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

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// What the calls come to, computed the obvious way.
fn expected(calls: impl Iterator<Item = Call>) -> BTreeMap<(i64, String), (u64, f64)> {
    let mut windows: BTreeMap<(i64, String), (u64, f64)> = BTreeMap::new();
    for call in calls {
        let window = windows.entry(((call.at_ms - START) / 10_000 * 10, call.model)).or_default();
        window.0 += 1;
        window.1 += call.millis;
    }
    windows
}

async fn run_into(kept: &Kept, builder: PipelineBuilder<Call>) -> Summary {
    builder.with_sink(kept.clone()).build().unwrap().run().await.unwrap()
}

fn write_lines(path: &Path, lines: impl IntoIterator<Item = String>) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
}

fn as_json(call: &Call) -> String {
    format!(r#"{{"at_ms":{},"model":"{}","millis":{}}}"#, call.at_ms, call.model, call.millis)
}

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

/// The difference between the greatest and the least value.
struct Range;

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

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_live_pipeline_gives_results_as_windows_close_and_is_stopped_by_its_handle() {
    let (sender, receiver) = tokio::sync::mpsc::channel(100);
    let kept = Kept::default();
    let pipeline = of_calls().with_tokio_channel_source(receiver).with_sink(kept.clone()).build().unwrap();
    let (handle, metrics) = (pipeline.shutdown_handle(), pipeline.metrics());
    let running = tokio::spawn(pipeline.run());
    for call in calls() {
        sender.send(call).await.unwrap();
    }
    // The last window of each model is open: its end has not passed.
    wait_until("ten windows closed", || kept.len() == 10).await;
    assert!(!running.is_finished() && !handle.is_shutting_down());
    handle.shutdown();
    let begun = Instant::now();
    let summary = running.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((summary.events, summary.windows, summary.open), (600, 10, 2));
    assert_eq!(kept.len(), 10);
    assert!(metrics.render().contains("events_processed_total 600"), "{}", metrics.render());
    assert!(sender.is_closed() && handle.is_shutting_down());
}

#[tokio::test]
async fn a_pipeline_that_is_no_longer_wanted_stops() {
    let (sender, receiver) = tokio::sync::mpsc::channel(100);
    let pipeline = of_calls().with_tokio_channel_source(receiver).with_sink(StdoutSink).build().unwrap();
    let outcome = tokio::time::timeout(Duration::from_millis(300), pipeline.run()).await;
    assert!(outcome.is_err(), "the channel is open, so the run goes on: {outcome:?}");
    wait_until("the run let go of its source", || sender.is_closed()).await;
}

#[tokio::test]
async fn a_pipeline_that_was_stopped_before_it_began_ends_at_once() {
    let (_sender, receiver) = crossbeam_channel::unbounded();
    let pipeline = of_calls().with_channel_source(receiver).with_sink(Kept::default()).build().unwrap();
    pipeline.shutdown_handle().shutdown();
    let begun = Instant::now();
    assert_eq!(pipeline.run().await.unwrap().events, 0);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Runs a pipeline that takes its time, and counts how often another task of the runtime has its turn meanwhile.
async fn ticks_during_a_run() -> u32 {
    let slow = calls().inspect(|call| {
        if call.at_ms % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let kept = Kept::default();
    let running = run_into(&kept, of_calls().with_iterator_source(slow).with_parallelism(2));
    tokio::pin!(running);
    let mut timer = tokio::time::interval(Duration::from_millis(10));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0;
    loop {
        tokio::select! {
            summary = &mut running => {
                assert_eq!(summary.windows, 12);
                return ticks;
            }
            _ = timer.tick() => ticks += 1,
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_does_not_block_a_runtime_of_one_thread() {
    let ticks = ticks_during_a_run().await;
    assert!(ticks >= 20, "{ticks} turns in 600 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_does_not_block_a_runtime_of_several_threads() {
    let ticks = ticks_during_a_run().await;
    assert!(ticks >= 20, "{ticks} turns in 600 ms");
}

#[test]
fn a_run_without_any_runtime() {
    let kept = Kept::default();
    let pipeline = of_calls().with_iterator_source(calls()).with_sink(kept.clone()).build().unwrap();
    assert_eq!(pipeline.run_blocking().unwrap().windows, 12);
    assert_eq!(kept.counts_and_sums(), expected(calls()));
}

/// Two calls behind the watermark by more than is allowed, one by less.
fn with_late_calls() -> Vec<Call> {
    vec![
        call(START, "opus", 1.0),
        call(START + 60_000, "opus", 2.0),
        call(START + 1_000, "opus", 3.0),
        call(START + 58_000, "opus", 4.0),
        call(START + 2_000, "opus", 5.0),
    ]
}

#[tokio::test]
async fn late_events_go_where_the_program_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late.jsonl");
    let late: Arc<Mutex<Vec<SideRecord>>> = Arc::default();
    let keeping = Arc::clone(&late);
    let specs = [
        SideSpec::file(&path),
        SideSpec::each(move |record| {
            keeping.lock().unwrap().push(record.clone());
            Ok(())
        }),
    ];
    for spec in specs {
        let builder = of_calls()
            .with_iterator_source(with_late_calls())
            .with_allowed_lateness(Duration::from_secs(5))
            .with_payload(|call| as_json(call).into_bytes())
            .with_late_sink(spec);
        let summary = run_into(&Kept::default(), builder).await;
        assert_eq!((summary.events, summary.late, summary.dropped_late()), (3, 1, 2));
    }
    let late = late.lock().unwrap();
    let seen: Vec<_> = late
        .iter()
        .map(|record| (record.reason, record.offset.0, record.late_by.unwrap().as_millis(), record.payload.clone()))
        .collect();
    let payload = |index: usize| as_json(&with_late_calls()[index]).into_bytes();
    assert_eq!(seen, [(Reason::Late, 2, 58_000, payload(2)), (Reason::Late, 4, 57_000, payload(4))]);
    let lines = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["late_by_ms"], &lines[0]["reason"]), (2, &58_000.into(), &"late".into()));
    assert_eq!(lines[1]["payload"], as_json(&with_late_calls()[4]));
}

#[tokio::test]
async fn bad_lines_go_to_the_dead_letters_or_end_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.jsonl");
    let lines = [as_json(&call(START, "opus", 1.0)), r#"{"at_ms":1,"model":"opus"}"#.into(), "not JSON".into()];
    write_lines(&path, lines);
    let source = || of_calls().with_file_source(path.display().to_string());
    let bad: Arc<Mutex<Vec<SideRecord>>> = Arc::default();
    let keeping = Arc::clone(&bad);
    let builder = source().with_dead_letter(SideSpec::each(move |record| {
        keeping.lock().unwrap().push(record.clone());
        Ok(())
    }));
    let summary = run_into(&Kept::default(), builder).await;
    assert_eq!((summary.events, summary.bad()), (1, 2));
    let bad = bad.lock().unwrap().clone();
    assert!(bad[0].detail.contains("missing field `millis`"), "{}", bad[0].detail);
    assert_eq!(bad[1].payload, b"not JSON");
    let pipeline = source().with_error_policy(ErrorPolicy::Fail).with_sink(Kept::default()).build().unwrap();
    let error = pipeline.run().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ProcessorError::BadRecord(_)) && text.contains("calls.jsonl"), "{text}");
}

/// Handles what makes it into no window by noting it; what it is first given it refuses.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    async fn note(&self, record: SideRecord) -> ProcessorResult<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut notes = self.0.lock().unwrap();
        if notes.is_empty() {
            notes.push("refused".into());
            return Err(ProcessorError::Sink("not yet".into()));
        }
        notes.push(format!("{} at {}", record.reason, record.offset));
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl LateEventHandler for Noting {
    async fn handle(&self, late: SideRecord) -> ProcessorResult<()> {
        self.note(late).await
    }
    async fn close(&self) -> ProcessorResult<()> {
        self.0.lock().unwrap().push("closed".into());
        Ok(())
    }
}

#[async_trait]
impl DeadLetterSink for Noting {
    async fn send(&self, letter: SideRecord) -> ProcessorResult<()> {
        self.note(letter).await
    }
}

#[tokio::test]
async fn handlers_of_the_programs_own_take_late_events_and_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.jsonl");
    let lines =
        with_late_calls().iter().map(as_json).chain(["not JSON".to_owned(), "{}".to_owned()]).collect::<Vec<_>>();
    let offset = |line: usize| lines[..line].iter().map(|line| line.len() + 1).sum::<usize>();
    write_lines(&path, lines.clone());
    let (late, dead) = (Noting::default(), Noting::default());
    let retry =
        RetryPolicy { max_retries: 1, initial_delay: Duration::from_millis(1), max_delay: Duration::from_secs(1) };
    let builder = of_calls()
        .with_file_source(path.display().to_string())
        .with_allowed_lateness(Duration::from_secs(5))
        .with_retry_policy(retry)
        .with_late_event_handler(late.clone())
        .with_dead_letter_sink(Arc::new(dead.clone()));
    let summary = run_into(&Kept::default(), builder).await;
    assert_eq!((summary.events, summary.dropped_late(), summary.bad()), (3, 2, 2));
    let at = |reason: &str, line: usize| format!("{reason} at {}", offset(line));
    assert_eq!(late.notes(), ["refused".into(), at("late", 2), at("late", 4), "closed".into()]);
    assert_eq!(dead.notes(), ["refused".into(), at("malformed", 5), at("malformed", 6)]);
}

#[tokio::test]
async fn a_handler_that_goes_on_refusing_ends_the_run_with_its_reason() {
    let retry =
        RetryPolicy { max_retries: 1, initial_delay: Duration::from_millis(1), max_delay: Duration::from_secs(1) };
    let builder = of_calls()
        .with_iterator_source(with_late_calls())
        .with_retry_policy(retry)
        .with_late_event_handler(|_: SideRecord| Err(ProcessorError::Sink("the ledger is closed".into())));
    let error = builder.with_sink(Kept::default()).build().unwrap().run().await.unwrap_err();
    assert!(error.to_string().contains("the ledger is closed"), "{error}");
}

#[tokio::test]
async fn a_panic_in_a_closure_ends_the_run_with_its_message() {
    let builder = of_calls().with_iterator_source(calls()).with_values(|_, _| panic!("the closure's own mistake"));
    let error = builder.with_sink(Kept::default()).build().unwrap().run().await.unwrap_err();
    assert!(error.to_string().contains("the closure's own mistake"), "{error}");
}

#[tokio::test]
async fn the_pages_of_a_pipeline() {
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let metrics = ProcessorMetrics::new();
    let pipeline = of_calls()
        .with_tokio_channel_source(receiver)
        .with_metrics(metrics.clone())
        .with_metrics_listen(listen)
        .with_sink(Kept::default())
        .build()
        .unwrap();
    let running = tokio::spawn(pipeline.run());
    sender.send(call(START, "opus", 1.0)).await.unwrap();
    wait_until("the event was counted", || metrics.render().contains("events_processed_total 1")).await;
    let page = tokio::task::spawn_blocking(move || {
        ureq::get(format!("http://{listen}/metrics")).call().unwrap().body_mut().read_to_string().unwrap()
    });
    assert!(page.await.unwrap().contains("events_processed_total 1"));
    drop(sender);
    assert_eq!(running.await.unwrap().unwrap().windows, 1);
}

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
        assert!(line.starts_with("events of type pipeline::Call: nothing says ") && line.contains(call), "{line}");
    }
    let text = refusal(create_pipeline::<FeedbackEvent>());
    assert_eq!(text.lines().count(), 2, "feedback events need no closures: {text}");
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

fn bounds(window: &Window) -> (i64, i64) {
    (window.start.timestamp_millis() - START, window.end.timestamp_millis() - START)
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
