//! From the arrival of the record that closes a window to the window's results in a sink.

use super::events::event_json;
use super::files::bench_config;
use super::measure::Table;
use llm_optimizer_processor::aggregate::{AggregatePlan, AggregationResult};
use llm_optimizer_processor::async_trait;
use llm_optimizer_processor::error::ProcessorResult;
use llm_optimizer_processor::event::{Decoder, JsonDecoder};
use llm_optimizer_processor::runtime::{Input, InputContext, Job, SinkPlan, Topology};
use llm_optimizer_processor::sink::{EventSink, IntoSinkSpec};
use llm_optimizer_processor::source::Source;
use llm_optimizer_processor::source::stdin::StdinSource;
use llm_optimizer_processor::time::EventTime;
use llm_optimizer_processor::window::Naming;
use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECONDS: u64 = 10;
const EVENTS_PER_TICK: u64 = 10;
const TICK: Duration = Duration::from_millis(1);
const WINDOW_MILLIS: i64 = 20;

pub fn run(table: &mut Table) {
    if !table.wants("latency") {
        return;
    }
    let mut latencies = measure();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let figure = format!("p50 {:.2} ms, p99 {:.2} ms", millis(at(0.5)), millis(at(0.99)));
    table.figure("a closing record's arrival to the window's result, 10,000 events/s", "", &figure, "p99 < 5 ms");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// When the first record at or after a window's end was handed over, by that end.
type Arrivals = Arc<Mutex<BTreeMap<i64, Instant>>>;

fn measure() -> Vec<Duration> {
    let arrivals = Arrivals::default();
    let latencies: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let feeder = {
        let arrivals = Arc::clone(&arrivals);
        std::thread::spawn(move || feed(writer, &arrivals))
    };
    let sink = Stopwatch { arrivals, latencies: Arc::clone(&latencies) };
    let mut config = bench_config("[stdout]");
    config.windows.kind = llm_optimizer_processor::config::WindowKind::tumbling(
        llm_optimizer_processor::time::Span::from_millis(WINDOW_MILLIS),
    );
    config.watermark.max_out_of_orderness = llm_optimizer_processor::time::Span::ZERO;
    let input = Box::new(PipeInput { event: config.event.clone(), reader: Mutex::new(Some(reader)) });
    let sinks = SinkPlan::Given(vec![sink.into_sink_spec()]);
    let plan = vec![AggregatePlan::everything()];
    let job = Job::new(config, input, plan, Naming::Bare, vec!["latency_ms".into()], sinks).expect("a job");
    job.run(&Topology::single(NonZeroUsize::MIN)).expect("the job runs");
    feeder.join().expect("the feeder ends");
    let latencies = latencies.lock().expect("nobody panicked").clone();
    assert!(latencies.len() > 1_000, "{} results", latencies.len());
    latencies
}

/// Writes ten events a millisecond, stamped with the time at which they are written.
fn feed(mut writer: PipeWriter, arrivals: &Arrivals) {
    let begun = Instant::now();
    let mut line = Vec::new();
    for tick in 0..SECONDS * 1000 {
        let due = TICK * tick as u32;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        line.clear();
        let now = EventTime::now();
        for event in 0..EVENTS_PER_TICK {
            event_json(&mut line, now, tick * EVENTS_PER_TICK + event);
        }
        let window_end = now.as_millis().div_euclid(WINDOW_MILLIS) * WINDOW_MILLIS;
        arrivals.lock().expect("nobody panicked").entry(window_end).or_insert_with(Instant::now);
        writer.write_all(&line).expect("the processor reads");
    }
}

struct PipeInput {
    event: llm_optimizer_processor::config::EventConfig,
    reader: Mutex<Option<PipeReader>>,
}

impl Input for PipeInput {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let reader = self.reader.lock().expect("nobody panicked").take().expect("there is one worker");
        Ok((Box::new(StdinSource::from_reader(reader, context.waker)?), Box::new(JsonDecoder::new(&self.event))))
    }
}

/// Notes how long after the closing record each result comes. The last window closes with the end of the input: it has none.
struct Stopwatch {
    arrivals: Arrivals,
    latencies: Arc<Mutex<Vec<Duration>>>,
}

#[async_trait]
impl EventSink<AggregationResult> for Stopwatch {
    async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
        let end = result.window.end.timestamp_millis();
        let arrivals = self.arrivals.lock().expect("nobody panicked");
        if let Some((_, arrival)) = arrivals.range(end..).next() {
            self.latencies.lock().expect("nobody panicked").push(arrival.elapsed());
        }
        Ok(())
    }
}
