//! The configuration as the program uses it: validated, with units in the types. [`super::load`] makes it from text.

use super::ObjectUrl;
use super::byte_size::ByteSize;
use super::windows::{WindowConfig, WindowDefinition};
use crate::time::Span;
use crate::view::View;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that one job needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessorConfig {
    /// Name of the job: Kafka client ids, headers, later state and transactional ids.
    pub job: String,
    /// Worker threads of this process.
    pub parallelism: NonZeroUsize,
    /// Rows that may be in flight per worker.
    pub buffer_size: NonZeroUsize,
    /// How often checkpoints are taken; `None` is at the end alone. Without RocksDB there are none.
    pub checkpoint_interval: Option<Duration>,
    /// How long a checkpoint may take; then it counts as a failure, and is waited for all the same.
    pub checkpoint_timeout: Duration,
    /// Where state lives.
    pub state: StateConfig,
    /// How several processes of the job find each other.
    pub cluster: ClusterConfig,
    /// Where events come from.
    pub source: SourceConfig,
    /// How an event is read.
    pub event: EventConfig,
    /// Which windows, where [`ProcessorConfig::definitions`] are none.
    pub windows: WindowConfig,
    /// Several windows over the one stream, each with a name; empty where there is one.
    pub definitions: Vec<WindowDefinition>,
    /// How time advances.
    pub watermark: WatermarkConfig,
    /// What is computed, unless a definition says otherwise.
    pub aggregation: AggregationConfig,
    /// What becomes of bad records and failed writes.
    pub error_handling: ErrorHandling,
    /// Connection to Kafka for reading; present where the source is Kafka.
    pub consumer: Option<ConsumerConfig>,
    /// Connection to Kafka for writing; present where a sink, late output or dead letters go there.
    pub producer: Option<ProducerConfig>,
    /// Where results go, at least one.
    pub sinks: Vec<SinkConfig>,
    /// Where records go that are too late, expired or of the future; `None` counts them only.
    pub late_sink: Option<SideSinkConfig>,
    /// What is made of results.
    pub views: Vec<ViewConfig>,
    /// The places in [`ProcessorConfig::sinks`] of the sinks that take the results of windows, where
    /// [`ProcessorConfig::definitions`] are none; `None` is all. Others are those of views.
    pub sinks_of_windows: Option<Vec<usize>>,
    /// How results are delivered.
    pub delivery: Delivery,
    /// The pages for people and Prometheus.
    pub metrics: MetricsConfig,
    /// Logs.
    pub logging: LoggingConfig,
}

impl ProcessorConfig {
    /// The window definitions, at least one: those with names, or the one that needs none.
    pub fn window_definitions(&self) -> Vec<WindowDefinition> {
        match self.definitions.is_empty() {
            true => vec![WindowDefinition {
                name: None,
                windows: self.windows.clone(),
                aggregation: self.aggregation.clone(),
                sinks: self.sinks_of_windows.clone(),
            }],
            false => self.definitions.clone(),
        }
    }
}

/// A view, and where its changes go.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewConfig {
    /// The view.
    pub view: View,
    /// The places in [`ProcessorConfig::sinks`] of the sinks that take its changes; `None` is all.
    pub sinks: Option<Vec<usize>>,
}

/// Where state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// Which backend.
    pub backend: StateBackendKind,
    /// The working directory of the backend.
    pub path: Option<PathBuf>,
    /// Where checkpoints go; where they are in an object store, what each process has a directory of copies in.
    pub checkpoint_path: Option<PathBuf>,
    /// Whether all processes of a job have their checkpoints in that one directory; else each in one of its own.
    pub checkpoint_path_shared: bool,
    /// The object store that checkpoints are in.
    pub checkpoint_url: Option<ObjectUrl>,
    /// How many checkpoints are kept, at least 2.
    pub retain: NonZeroUsize,
    /// How much memory the windows of this process may take; `None` is no limit.
    pub memory_limit: Option<ByteSize>,
    /// After so many failed attempts in a row `/health` says so.
    pub tolerable_failures: NonZeroU32,
}

impl StateConfig {
    /// The directory of the checkpoints of a process.
    pub fn checkpoint_directory(&self, process: usize) -> Option<PathBuf> {
        let directory = self.checkpoint_path.as_ref()?;
        Some(match self.checkpoint_path_shared && self.checkpoint_url.is_none() {
            true => directory.clone(),
            false => directory.join(format!("process-{process}")),
        })
    }
}

/// How several processes of a job find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What they know and others do not.
    pub secret: Option<SharedSecret>,
    /// The file that holds it, instead.
    pub secret_file: Option<PathBuf>,
    /// Where a process listens for the others; without it at its own line of the hostfile.
    pub listen: Option<SocketAddr>,
    /// How long they wait for one another.
    pub connect_timeout: Duration,
    /// After how long without an answer another host counts as lost.
    pub failure_timeout: Duration,
}

/// A secret, at least [`LEAST_SECRET`] bytes. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(pub String);

/// Bytes of a secret: with fewer it could be guessed.
pub const LEAST_SECRET: usize = 16;

/// Which state backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateBackendKind {
    /// In memory.
    Memory,
    /// In RocksDB.
    RocksDb,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    /// Kafka topics, see [`ProcessorConfig::consumer`].
    Kafka,
    /// Files of JSON lines: paths and globs, not yet expanded; plain, `.gz` or `.zst`.
    File {
        /// Paths and globs.
        paths: Vec<String>,
    },
    /// Standard input, JSON lines.
    Stdin,
    /// The built-in generator of live events.
    Generator(GeneratorConfig),
}

/// The built-in generator.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// Events a second; `None` is as fast as it goes.
    pub rate: Option<f64>,
    /// How many events, then the end; `None` is for ever.
    pub count: Option<u64>,
    /// How many distinct keys.
    pub keys: NonZeroU32,
    /// The same seed makes the same events.
    pub seed: u64,
    /// How far events are out of order.
    pub disorder: Duration,
    /// Share of events that come later than `disorder` explains, 0 to 1.
    pub late_share: f64,
    /// Share of payloads that are malformed, 0 to 1.
    pub malformed_share: f64,
    /// How many partitions it plays.
    pub partitions: NonZeroU32,
}

/// How an event is read.
#[derive(Clone, Debug, PartialEq)]
pub struct EventConfig {
    /// Path of the timestamp.
    pub timestamp_field: FieldPath,
    /// Its format.
    pub timestamp_format: TimestampFormat,
    /// The fields of the grouping key, in order; empty puts every event in one group.
    pub key: Vec<KeyField>,
    /// Where the values are.
    pub values: ValueFields,
    /// Only events whose field has one of the values are taken; all conditions must hold.
    pub filter: Vec<FilterCondition>,
}

/// A dotted path into a JSON object, split: `data.model`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<String>);

impl FieldPath {
    /// From dotted text.
    pub fn parse(text: &str) -> Self {
        FieldPath(text.split('.').map(str::to_owned).collect())
    }

    /// The last part.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// How timestamps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `2026-09-21T14:13:19.831Z`, any offset.
    Rfc3339,
    /// A number of seconds since 1970, fractions allowed.
    EpochSeconds,
    /// Milliseconds.
    EpochMillis,
    /// Microseconds.
    EpochMicros,
    /// Nanoseconds.
    EpochNanos,
}

/// One field of the grouping key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyField {
    /// Where it is in the event.
    pub path: FieldPath,
    /// Its name in results: the last part of the path, or the whole where two would be the same.
    pub name: String,
    /// The value where the field is absent; `None` makes such an event a bad record.
    pub default: Option<String>,
}

/// Where the values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueFields {
    /// Every number directly under this object, as it comes.
    EveryNumberUnder(FieldPath),
    /// These fields; the names are those of results.
    Listed(Vec<ValueField>),
}

/// One value field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueField {
    /// Where it is in the event.
    pub path: FieldPath,
    /// Its name in results, by the rule of [`KeyField::name`].
    pub name: String,
}

/// One condition of the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterCondition {
    /// The field.
    pub path: FieldPath,
    /// The values that pass, as text.
    pub any_of: Vec<String>,
}

/// How time advances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkConfig {
    /// When the frontier follows the partitions' watermarks.
    pub strategy: WatermarkStrategy,
    /// How far behind the latest event an event may be and still be on time.
    pub max_out_of_orderness: Span,
    /// The least wall-clock time between two advances; `None` is with each batch.
    pub emit_interval: Option<Duration>,
    /// How far ahead of the wall clock a timestamp may be.
    pub max_future_skew: Span,
    /// How long a partition must have been silent, at its end, to be idle; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// How long every partition of the job must have been idle for the windows that are open to be closed by the wall clock;
    /// `None` is never.
    pub close_idle_after: Option<Duration>,
}

/// When the frontier follows the partitions' watermarks. The watermark's value is the card's formula in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatermarkStrategy {
    /// With each batch, or every `emit_interval` where that is given.
    BoundedOutOfOrderness,
    /// Every `emit_interval`, which must be given.
    Periodic,
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregationConfig {
    /// The aggregates, without doubles, in the order given.
    pub enabled: Vec<AggregateKind>,
    /// Which percentiles: 0 to 100, ascending, without doubles; none unless [`AggregateKind::Percentile`] is enabled.
    pub percentiles: Vec<f64>,
    /// The relative error of percentiles of windows with many values, 0.001 to 0.1.
    pub relative_error: f64,
}

/// One of the built-in aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AggregateKind {
    /// How many values.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Average,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Percentiles.
    Percentile,
    /// The sample standard deviation.
    Stddev,
}

impl AggregateKind {
    /// All of them, in the order in which results show them by default.
    pub const ALL: [AggregateKind; 7] = [
        AggregateKind::Count,
        AggregateKind::Sum,
        AggregateKind::Average,
        AggregateKind::Min,
        AggregateKind::Max,
        AggregateKind::Stddev,
        AggregateKind::Percentile,
    ];

    /// The word in the configuration and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            AggregateKind::Count => "count",
            AggregateKind::Sum => "sum",
            AggregateKind::Average => "average",
            AggregateKind::Min => "min",
            AggregateKind::Max => "max",
            AggregateKind::Percentile => "percentile",
            AggregateKind::Stddev => "stddev",
        }
    }
}

/// What becomes of bad records and failed writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorHandling {
    /// The policy.
    pub policy: ErrorPolicy,
    /// How often a failed write is tried again before the process gives up.
    pub max_retries: u32,
    /// The first pause; it doubles each time.
    pub initial_retry_delay: Duration,
    /// The longest pause.
    pub max_retry_delay: Duration,
    /// Where dead letters go; present where the policy is [`ErrorPolicy::DeadLetter`].
    pub dead_letter: Option<SideSinkConfig>,
}

/// What becomes of a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPolicy {
    /// Counted and passed over; failed writes are retried. Reading a record again gives the same bytes.
    Retry,
    /// Counted and passed over.
    Skip,
    /// Written to the dead-letter output.
    DeadLetter,
    /// The process ends with exit code 1.
    Fail,
}

/// How to read from Kafka.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `host:port,...`.
    pub bootstrap_servers: String,
    /// The group to which offsets are committed.
    pub group_id: String,
    /// The topics.
    pub topics: Vec<String>,
    /// Where to begin without committed offsets.
    pub auto_offset_reset: OffsetReset,
    /// librdkafka's `session.timeout.ms`.
    pub session_timeout: Duration,
    /// Records a worker takes in one turn, which takes 4096 at most: a turn has its fixed cost, its
    /// results wait for its end, and what a restart reads again begins with a turn.
    pub max_poll_records: NonZeroUsize,
    /// Whether offsets are committed to the group at all (always after the results they led to are acknowledged).
    pub enable_auto_commit: bool,
    /// Wait for topics that do not exist instead of failing.
    pub wait_for_topics: bool,
    /// Any other librdkafka property.
    pub properties: BTreeMap<String, String>,
}

/// Where to begin without committed offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the oldest record.
    Earliest,
    /// At the next record.
    Latest,
}

/// How to write to Kafka.
#[derive(Clone, PartialEq, Eq)]
pub struct ProducerConfig {
    /// `host:port,...`.
    pub bootstrap_servers: String,
    /// The topic of results.
    pub result_topic: String,
    /// `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    pub compression_type: String,
    /// `all`, `1`, `0`.
    pub acks: String,
    /// librdkafka's `retries`; `None` leaves its default.
    pub retries: Option<u32>,
    /// Any other librdkafka property.
    pub properties: BTreeMap<String, String>,
}

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkConfig {
    /// A topic of the producer's cluster.
    Kafka {
        /// The topic; `None` is the producer's result topic.
        topic: Option<String>,
    },
    /// JSON lines in a file.
    File {
        /// Where; `{process}` stands for the process's index.
        path: PathBuf,
        /// When lines appear.
        mode: FileMode,
    },
    /// JSON lines on standard output.
    Stdout,
    /// A table for people on standard output.
    Console,
}

/// When a file sink's lines appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// Appended batch by batch; an existing file is continued.
    Append,
    /// All at once when the run ends, by renaming a temporary file.
    Atomic,
}

/// Where late or bad records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideSinkConfig {
    /// JSON lines in a file, appended.
    File {
        /// Where.
        path: PathBuf,
    },
    /// A topic: the original bytes as the value, the rest in headers.
    Kafka {
        /// The topic.
        topic: String,
    },
}

/// How results are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As they fire.
    AtLeastOnce,
    /// In transactions tied to checkpoints.
    ExactlyOnce,
}

/// The pages for people and Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Whether the pages are served.
    pub enabled: bool,
    /// Where.
    pub listen: SocketAddr,
    /// How often gauges that cost something are brought up to date.
    pub export_interval: Duration,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// `tracing` filter directives: `info`, `info,frontier=debug`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}
