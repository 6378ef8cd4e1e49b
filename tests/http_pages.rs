//! The pages, read over HTTP as people, Prometheus and hostile clients read them.

use llm_optimizer_processor::ProcessorError;
use llm_optimizer_processor::event::{Offset, PartitionName, Reason, WorkerIndex};
use llm_optimizer_processor::http::{HttpServer, serve};
use llm_optimizer_processor::metrics::{
    PartitionStatus, Phase, ProcessorMetrics, SinkStatus, SourceState, StatusBoard, TimeRules,
};
use llm_optimizer_processor::runtime::Control;
use llm_optimizer_processor::time::disorder::Disorder;
use llm_optimizer_processor::time::{Epoch, EventTime, Span, Time};
use prometheus_parse::{Sample, Scrape, Value};
use serde_json::Value as Json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

struct Run {
    server: HttpServer,
    metrics: ProcessorMetrics,
    board: StatusBoard,
    control: Control,
}

struct Page {
    code: u16,
    content_type: String,
    body: String,
}

impl Page {
    fn json(&self) -> Json {
        assert_eq!(self.content_type, "application/json", "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Run {
    fn new() -> Run {
        let (metrics, board, control) = (ProcessorMetrics::new(), StatusBoard::new(), Control::new());
        let any_port = "127.0.0.1:0".parse().expect("an address");
        let server = serve(any_port, metrics.clone(), board.clone(), control.clone()).expect("a free port");
        Run { server, metrics, board, control }
    }

    fn request(&self, method: &str, path: &str) -> Page {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let url = format!("http://{}{path}", self.server.local_addr());
        let mut response = match method {
            "POST" => agent.post(&url).send("x").expect("an answer"),
            _ => agent.get(&url).call().expect("an answer"),
        };
        let content_type = response.headers().get("content-type").map(|value| value.to_str().expect("text").to_owned());
        Page {
            code: response.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            body: response.body_mut().read_to_string().expect("UTF-8"),
        }
    }

    fn get(&self, path: &str) -> Page {
        self.request("GET", path)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.local_addr()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
        stream
    }
}

fn partition(number: i32) -> PartitionName {
    PartitionName { topic: "feedback-events".into(), partition: number }
}

fn status(number: i32, watermark: EventTime, now: EventTime) -> PartitionStatus {
    PartitionStatus {
        name: partition(number),
        watermark,
        max_seen: watermark.saturating_add(Span::from_secs(30)),
        position: Offset(181),
        idle: false,
        closed: false,
        last_event_at: Some(now),
        records: 180,
    }
}

/// Two workers; partition 1 of worker 1 is behind.
fn some_traffic(run: &Run) -> (EventTime, EventTime) {
    let now = EventTime::now();
    let (behind, ahead) = (now.saturating_sub(Span::from_secs(100)), now.saturating_sub(Span::from_secs(40)));
    run.board.set_phase(Phase::Running);
    for worker in [WorkerIndex(0), WorkerIndex(1)] {
        run.board.set_source_state(worker, SourceState::Running);
        run.board.set_operator_frontier(worker, "window", Some(Time::new(Epoch::FIRST, behind)));
        run.board.note_events(worker, 90);
        run.metrics.worker(worker).record_events_processed(90);
        run.metrics.worker(worker).record_processing_latency(Duration::from_millis(2));
    }
    run.board.set_partition(WorkerIndex(0), status(0, ahead, now));
    run.board.set_partition(WorkerIndex(1), status(1, behind, now));
    run.metrics.partition(&partition(1)).set_consumer_lag(12_345);
    run.metrics.partition(&partition(1)).record_rejected(Reason::Late, 7);
    run.board.set_sink(SinkStatus { name: "file".into(), unacknowledged: 3, acknowledged: 48, trouble: None });
    run.metrics.sink("file").record_sent(48, Duration::from_millis(5));
    (behind, now)
}

fn scrape(run: &Run) -> Scrape {
    let page = run.get("/metrics");
    assert_eq!((page.code, page.content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    Scrape::parse(page.body.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus can read it")
}

fn sample<'a>(scrape: &'a Scrape, name: &str, labels: &[(&str, &str)]) -> &'a Sample {
    let fits = |sample: &&Sample| {
        sample.metric == name && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
    };
    let found: Vec<&Sample> = scrape.samples.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0]
}

fn number(sample: &Sample) -> f64 {
    match sample.value {
        Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number) => number,
        ref other => panic!("{} is no plain number: {other:?}", sample.metric),
    }
}

#[test]
fn a_prometheus_parser_reads_the_metrics() {
    let run = Run::new();
    let (behind, now) = some_traffic(&run);
    let scrape = scrape(&run);
    let one = [("topic", "feedback-events"), ("partition", "1")];
    let plain = |name: &str, labels: &[(&str, &str)]| number(sample(&scrape, name, labels));

    assert_eq!(plain("events_processed_total", &[]), 180.0);
    assert!(matches!(sample(&scrape, "events_processed_total", &[]).value, Value::Counter(_)));
    assert_eq!(plain("kafka_consumer_lag", &one), 12_345.0);
    assert!(matches!(sample(&scrape, "kafka_consumer_lag", &one).value, Value::Gauge(_)));
    assert_eq!(plain("events_dropped_total", &[one[0], one[1], ("reason", "late")]), 7.0);
    assert_eq!(plain("results_sent_total", &[("sink", "file")]), 48.0);
    assert_eq!(plain("watermark_seconds", &one), behind.as_millis() as f64 / 1000.0);
    let lag = plain("frontier_lag_seconds", &[("operator", "window")]);
    let elapsed = EventTime::now().since(now).as_millis() as f64 / 1000.0;
    assert!((100.0..=100.1 + elapsed).contains(&lag), "{lag}");
    assert!(plain("process_resident_memory_bytes", &[]) > 1_000_000.0);
    assert_eq!(plain("processor_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);

    match &sample(&scrape, "processing_latency_seconds", &[]).value {
        Value::Histogram(buckets) => {
            let bounds: Vec<f64> = buckets.iter().map(|bucket| bucket.less_than).collect();
            assert_eq!((bounds[0], bounds[bounds.len() - 2]), (0.0001, 60.0));
            assert_eq!(bounds[bounds.len() - 1], f64::INFINITY);
            assert!(bounds.is_sorted() && buckets.is_sorted_by(|a, b| a.count <= b.count));
            assert_eq!(buckets.last().map(|bucket| bucket.count), Some(2.0));
        }
        other => panic!("no histogram: {other:?}"),
    }
    let names = run.get("/metrics").body;
    for name in
        ["state_size_bytes", "windows_open", "rows_in_flight", "batches_in_flight", "bad_records_total", "errors_total"]
    {
        assert!(names.contains(&format!("# HELP {name} ")), "{name} has a help text");
        assert!(names.contains(&format!("# TYPE {name} ")), "{name} has a type");
    }
}

#[test]
fn health_and_readiness_follow_the_run() {
    let run = Run::new();
    let page = run.get("/ready");
    assert_eq!((page.code, page.json()["reason"].as_str()), (503, Some("the run is starting")));
    let page = run.get("/health");
    assert_eq!((page.code, page.json()["status"].as_str()), (200, Some("ok")));

    some_traffic(&run);
    let page = run.get("/ready");
    assert_eq!((page.code, page.json()["ready"].as_bool()), (200, Some(true)));

    let detail = "no broker of 127.0.0.1:9092 answers".to_owned();
    run.board.set_source_state(WorkerIndex(1), SourceState::Waiting { detail });
    assert_eq!(run.get("/ready").code, 503);
    let page = run.get("/health");
    let health = page.json();
    assert_eq!((page.code, health["status"].as_str()), (200, Some("degraded")));
    let reason = "the source of worker 1 is waiting: no broker of 127.0.0.1:9092 answers";
    assert_eq!(health["reasons"], serde_json::json!([reason]));

    run.board.set_failure("the disk is full");
    let page = run.get("/health");
    assert_eq!((page.code, page.json()["status"].as_str()), (503, Some("failed")));
    assert_eq!(page.json()["reasons"], serde_json::json!(["the run has failed: the disk is full"]));
}

#[test]
fn lateness_says_which_bound_would_do() {
    let run = Run::new();
    some_traffic(&run);
    let rules = TimeRules { max_out_of_orderness: Span::from_secs(2), close_idle_after: None };
    run.board.set_time_rules(rules);
    for (number, behind) in [(0, 40), (1, 2_500)] {
        let mut disorder = Disorder::default();
        (0..9).for_each(|_| disorder.record(Span::ZERO, false));
        disorder.record(Span::from_millis(behind), behind > 2_000);
        run.board.set_disorder(&partition(number), disorder);
    }
    let page = run.get("/lateness");
    let document = page.json();
    assert_eq!((page.code, &document["max_out_of_orderness_ms"]), (200, &2_000.into()));
    let (first, second, total) = (&document["partitions"][0], &document["partitions"][1], &document["total"]);
    assert_eq!((&first["partition"], &first["worker"], &first["late"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!((&second["partition"], &second["worker"], &second["late"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(second["buckets"], serde_json::json!([[0, 9], [2_559, 1]]));
    assert_eq!((&second["furthest_behind_ms"], &second["late_share"]), (&2_500.into(), &0.1.into()));
    assert_eq!((&total["events"], &total["late_share"]), (&20.into(), &0.05.into()));
    assert_eq!(total["late_with"][0], serde_json::json!({"max_out_of_orderness_ms": 0, "late": 2, "share": 0.1}));
    assert_eq!(total["bounds"][3], serde_json::json!({"on_time_share": 1.0, "max_out_of_orderness_ms": 2_500}));
    assert!(run.get("/").body.contains("/lateness") && run.get("/status").body.contains("href=\"/lateness\""));
}

#[test]
fn frontiers_say_who_holds_them_back() {
    let run = Run::new();
    let (behind, _) = some_traffic(&run);
    let page = run.get("/frontiers");
    let document = page.json();
    assert_eq!(page.code, 200);
    let held = &document["held_back_by"];
    assert_eq!(held["partition"], serde_json::json!({"topic": "feedback-events", "partition": 1}));
    assert_eq!(held["worker"], 1);
    let reason = held["reason"].as_str().expect("words");
    let expected = format!("partition feedback-events[1] on worker 1 holds the frontier at {behind}");
    assert!(reason.starts_with(&expected) && reason.ends_with("with 12,345 records still to read"), "{reason}");
    let time = serde_json::json!({"time": behind.to_string(), "ms": behind.as_millis()});
    assert_eq!(document["frontier"], time);
    let operator = &document["operators"][0];
    assert_eq!((&operator["operator"], &operator["workers"]["1"]["event_time"]), (&Json::from("window"), &time));
    let partition = &document["partitions"][1];
    assert_eq!((&partition["watermark"], &partition["position"]), (&time, &Json::from(181)));
    assert_eq!((&partition["lag"], &partition["idle"]), (&Json::from(12_345), &Json::from(false)));
    assert_eq!(document["partitions"][0]["lag"], Json::Null);
}

#[test]
fn pages_for_people() {
    let run = Run::new();
    some_traffic(&run);
    let page = run.get("/status");
    assert_eq!((page.code, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    for text in [
        "feedback-events[1]",
        "holds the frontier",
        "12,345",
        "http-equiv=refresh",
        "prefers-color-scheme:dark",
        "180 events",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    for from_elsewhere in ["http://", "https://", "src=", "@import", "<script"] {
        assert!(!page.body.contains(from_elsewhere), "{from_elsewhere}: {}", page.body);
    }
    let index = run.get("/");
    for path in ["/status", "/frontiers", "/metrics", "/health", "/ready"] {
        assert!(index.body.contains(&format!("href=\"{path}\"")), "{path}");
        assert_ne!(run.get(path).code, 404, "{path}");
    }
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let run = Run::new();
    let page = run.get("/nothing?here=1");
    assert_eq!((page.code, page.json()["error"].as_str()), (404, Some("there is no page /nothing")));
    let page = run.request("POST", "/metrics");
    let error = page.json()["error"].as_str().map(str::to_owned);
    assert_eq!((page.code, error.as_deref()), (405, Some("/metrics can only be read with GET, not POST")));
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let run = Run::new();
    let taken = run.server.local_addr();
    let error = serve(taken, ProcessorMetrics::new(), StatusBoard::new(), Control::new()).expect_err("it is taken");
    assert!(matches!(error, ProcessorError::Io { .. }));
    let message = error.to_string();
    assert!(message.contains(&taken.to_string()) && message.contains("metrics.listen"), "{message}");
}

#[test]
fn readers_that_dawdle_are_cut_off_and_others_are_served_meanwhile() {
    let run = Run::new();
    let start = Instant::now();
    let mut silent = run.connect();
    let mut half = run.connect();
    half.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").expect("it reads");
    let mut garbage = run.connect();
    garbage.write_all(&[0xff; 4096]).expect("it reads");
    let mut never_reading = run.connect();
    for _ in 0..200 {
        never_reading.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    }
    assert_eq!(run.get("/health").code, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "served while the others dawdle");

    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).expect("an end");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        // The end may come as a reset.
        let _ = stream.read_to_end(&mut rest);
        let _ = stream.shutdown(Shutdown::Both);
    }
    let waited = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(25)).contains(&waited), "cut off after {waited:?}");
}

#[test]
fn it_ends_with_the_run_and_frees_its_address() {
    let run = Run::new();
    let address = run.server.local_addr();
    run.control.stop();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(run.get("/health").code, 200, "people can watch a run end");
    run.board.set_phase(Phase::Finished);
    let start = Instant::now();
    run.server.join();
    assert!(start.elapsed() < Duration::from_secs(3));
    let again = serve(address, run.metrics, run.board, Control::new()).expect("the address is free again");
    drop(again);
    assert!(TcpStream::connect(address).is_err(), "dropping the handle ends the server");
}
