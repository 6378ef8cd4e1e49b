//! From sections to the validated configuration, one file for each group of sections.

mod aggregation;
mod cluster;
mod definitions;
mod event;
mod kafka;
mod output;
mod service;
mod source;
mod state;
mod views;
mod windows;

use super::model::ProcessorConfig;
use super::reader::{Reader, Setting};
use super::values::{self, Problem};
use super::{Delivery, raw::Node};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// More worker threads than any machine has is a slip of the keyboard.
const MOST_WORKERS: u64 = 1024;
const DEFAULT_BUFFER: u64 = 10_000;
/// In-flight rows take some 100 bytes each: more than this is more memory than a worker can have.
const MOST_BUFFER: u64 = 100_000_000;
/// How often checkpoints are taken where RocksDB is asked for and nothing is said.
const DEFAULT_CHECKPOINT_MILLIS: i64 = 60_000;

const DELIVERIES: [(&str, Delivery); 2] =
    [("at_least_once", Delivery::AtLeastOnce), ("exactly_once", Delivery::ExactlyOnce)];

/// Reads everything. What comes out holds only if the reader has noted no error.
pub(super) fn build(reader: &mut Reader, root: &Node) -> ProcessorConfig {
    let root = &reader.root(root);
    let job = reader.setting(root, "job", "processor".to_owned(), job_name, |name| values::quote(name)).value;
    let parallelism = reader.whole(root, "parallelism", cores(), 1, MOST_WORKERS).value;
    let buffer_size = reader.whole(root, "buffer_size", DEFAULT_BUFFER, 1, MOST_BUFFER).value;
    let state = state::build(reader, root, &job);
    let delivery = reader.word(root, "delivery", "way of delivery", Delivery::AtLeastOnce, &DELIVERIES);
    let cluster = cluster::build(reader, root);
    let source = source::build(reader, root);
    let event = event::build(reader, root);
    let watermark = windows::watermark(reader, root);
    let aggregation = aggregation::build(reader, root, &aggregation::defaults());
    let kafka = kafka::Kafka::open(reader, root);
    let consumer = kafka.consumer(reader, &source, &job);
    let read_topics = match (&source, &consumer) {
        (super::SourceConfig::Kafka, Some(consumer)) => consumer.topics.clone(),
        _ => Vec::new(),
    };
    let dead_letter_topic = kafka.dead_letter_topic(consumer.as_ref(), &job);
    let (error_handling, dead_letter) = output::error_handling(reader, root, dead_letter_topic);
    let (windows, definitions, mut sinks) = definitions::build(reader, root, &aggregation, kafka.producer_written());
    let sinks_of_windows: Vec<usize> = (0..sinks.len()).collect();
    let views =
        views::build(reader, root, &views::Around::new(&event, &windows, &definitions, &aggregation), &mut sinks);
    output::check_modes(reader, &sinks, &source);
    state::check(reader, &state, &delivery, &source, &sinks);
    let late = output::late(reader, root);
    let sides: Vec<_> = late.iter().chain(&dead_letter).collect();
    let needed = output::needs_producer(&sinks, &sides);
    let producer = kafka.producer(reader, needed, consumer.as_ref(), &read_topics, &job, &delivery);
    let result_topic = producer.as_ref().map(|producer| producer.result_topic.as_str());
    output::check_places(reader, &sinks, &sides, &read_topics, result_topic);
    let metrics = service::metrics(reader, root);
    let logging = service::logging(reader, root);
    ProcessorConfig {
        job,
        parallelism: non_zero(parallelism),
        buffer_size: non_zero(buffer_size),
        checkpoint_interval: state.interval,
        checkpoint_timeout: state.timeout,
        state: state.config,
        cluster,
        consumer: consumer.filter(|_| matches!(source, super::SourceConfig::Kafka)),
        source,
        event,
        windows,
        definitions,
        watermark,
        aggregation,
        error_handling,
        producer,
        sinks_of_windows: (sinks.len() > sinks_of_windows.len()).then_some(sinks_of_windows),
        sinks: sinks.into_iter().map(|sink| sink.output).collect(),
        views,
        late_sink: late.map(|late| late.output),
        delivery: delivery.value,
        metrics,
        logging,
    }
}

/// The cores this process may use.
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64).min(MOST_WORKERS)
}

/// The job's name becomes part of topics, directories and client ids: it takes what Kafka takes.
fn job_name(node: &Node) -> Result<String, Problem> {
    let name = values::text(node)?;
    match kafka::is_name(&name) && name.len() <= 100 {
        true => Ok(name),
        false => Err(Problem::expected(node, "1 to 100 letters, digits, '.', '_' or '-'")),
    }
}

/// A duration from milliseconds that were checked to be at least 0.
fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

/// A number that was checked to be at least 1.
fn non_zero(number: u64) -> NonZeroUsize {
    usize::try_from(number).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// A number that was checked to be at least 1 and to fit.
fn non_zero_u32(setting: &Setting<u64>) -> NonZeroU32 {
    u32::try_from(setting.value).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}
