//! What `with_sink` takes: built-in sinks by their descriptors, and users' own.

use super::ResultSink;
use super::console::ConsoleResults;
use super::file::{FileResults, ProcessIdentity};
use super::kafka::{KafkaResults, TransactionalResults};
use super::stdout::StdoutResults;
use super::user::{EventSink, UserSink};
use crate::aggregate::AggregationResult;
use crate::config::{Delivery, FileMode, ProducerConfig};
use crate::error::ProcessorResult;
use std::path::PathBuf;
use std::sync::Arc;

/// A sink that is not yet open.
#[derive(Clone)]
#[non_exhaustive]
pub enum SinkSpec {
    /// The producer's result topic.
    Kafka(ProducerConfig),
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
    /// A sink of the user's.
    User(Arc<dyn EventSink<AggregationResult>>),
}

impl SinkSpec {
    /// The same, for results that are delivered as `delivery` says: exactly once needs [`ResultSink::recover`],
    /// [`ResultSink::prepare`] and [`ResultSink::commit`] to be called.
    pub fn build_for(
        &self,
        job: &str,
        process: ProcessIdentity,
        delivery: Delivery,
    ) -> ProcessorResult<Box<dyn ResultSink>> {
        match (self, delivery) {
            (SinkSpec::Kafka(producer), Delivery::ExactlyOnce) => {
                Ok(Box::new(TransactionalResults::new(producer, job, process)?))
            }
            (SinkSpec::File { path, mode }, _) => {
                Ok(Box::new(FileResults::open(&process.path(path), *mode, delivery)?))
            }
            _ => self.build(job, process),
        }
    }

    /// Whether results can be in it exactly once, whatever dies when: it can take back what it has shown, or shows nothing before it
    /// counts.
    pub fn is_exact(&self) -> bool {
        match self {
            SinkSpec::Kafka(_) => true,
            SinkSpec::File { mode, .. } => *mode == FileMode::Append,
            SinkSpec::Stdout | SinkSpec::Console => false,
            SinkSpec::User(sink) => sink.epochs().is_some(),
        }
    }

    /// Whether it commits epochs in a way of its own, which cannot be looked up afterwards.
    pub fn commits(&self) -> bool {
        matches!(self, SinkSpec::User(sink) if sink.epochs().is_some())
    }

    /// Makes the sink for one process of `job`. A file is opened; Kafka is connected to later, on the sink's thread.
    pub fn build(&self, job: &str, process: ProcessIdentity) -> ProcessorResult<Box<dyn ResultSink>> {
        Ok(match self {
            SinkSpec::Kafka(producer) => Box::new(KafkaResults::new(producer, job)?),
            SinkSpec::File { path, mode } => {
                Box::new(FileResults::open(&process.path(path), *mode, Delivery::AtLeastOnce)?)
            }
            SinkSpec::Stdout => Box::new(StdoutResults::new()),
            SinkSpec::Console => Box::new(ConsoleResults::new()),
            SinkSpec::User(sink) => Box::new(UserSink::new(Arc::clone(sink))),
        })
    }
}

impl std::fmt::Debug for SinkSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Properties may hold passwords.
            SinkSpec::Kafka(producer) => {
                write!(f, "Kafka({} on {})", producer.result_topic, producer.bootstrap_servers)
            }
            SinkSpec::File { path, mode } => write!(f, "File({}, {mode:?})", path.display()),
            SinkSpec::Stdout => f.write_str("Stdout"),
            SinkSpec::Console => f.write_str("Console"),
            SinkSpec::User(sink) => write!(f, "User({})", sink.name()),
        }
    }
}

/// What can be a sink of a pipeline: the descriptors here, and every [`EventSink`] of [`AggregationResult`].
pub trait IntoSinkSpec {
    /// The sink, not yet open.
    fn into_sink_spec(self) -> SinkSpec;
}

impl<S: EventSink<AggregationResult> + 'static> IntoSinkSpec for S {
    fn into_sink_spec(self) -> SinkSpec {
        SinkSpec::User(Arc::new(self))
    }
}

impl IntoSinkSpec for SinkSpec {
    fn into_sink_spec(self) -> SinkSpec {
        self
    }
}

/// Results in Kafka, keyed by window and key: the producer's result topic.
#[derive(Clone)]
pub struct KafkaAggregationSink {
    producer: ProducerConfig,
}

impl KafkaAggregationSink {
    /// Results go to `producer_config.result_topic`.
    pub fn new(producer_config: ProducerConfig) -> Self {
        KafkaAggregationSink { producer: producer_config }
    }
}

impl IntoSinkSpec for KafkaAggregationSink {
    fn into_sink_spec(self) -> SinkSpec {
        SinkSpec::Kafka(self.producer)
    }
}

/// Results as JSON lines in a file.
#[derive(Clone, Debug)]
pub struct FileSink {
    path: PathBuf,
    mode: FileMode,
}

impl FileSink {
    /// Lines are appended to the file as windows close; an existing file is continued.
    pub fn append(path: impl Into<PathBuf>) -> Self {
        FileSink { path: path.into(), mode: FileMode::Append }
    }

    /// The file appears, complete, when the run has ended in good order; an existing file is replaced then. Not for a source of
    /// Kafka, whose offsets are committed before the end.
    pub fn atomic(path: impl Into<PathBuf>) -> Self {
        FileSink { path: path.into(), mode: FileMode::Atomic }
    }
}

impl IntoSinkSpec for FileSink {
    fn into_sink_spec(self) -> SinkSpec {
        SinkSpec::File { path: self.path, mode: self.mode }
    }
}

/// Results as JSON lines on standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdoutSink;

impl IntoSinkSpec for StdoutSink {
    fn into_sink_spec(self) -> SinkSpec {
        SinkSpec::Stdout
    }
}

/// Results as a table for people on standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsoleSink;

impl IntoSinkSpec for ConsoleSink {
    fn into_sink_spec(self) -> SinkSpec {
        SinkSpec::Console
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mine;

    #[async_trait::async_trait]
    impl EventSink<AggregationResult> for Mine {
        async fn send(&self, _: AggregationResult) -> ProcessorResult<()> {
            Ok(())
        }

        fn name(&self) -> &str {
            "mine"
        }
    }

    fn spec(sink: impl IntoSinkSpec) -> String {
        format!("{:?}", sink.into_sink_spec())
    }

    #[test]
    fn built_in_sinks_and_users_sinks_go_the_same_way() {
        let producer = ProducerConfig {
            bootstrap_servers: "kafka:9092".into(),
            result_topic: "results".into(),
            compression_type: "none".into(),
            acks: "all".into(),
            retries: None,
            properties: [("sasl.password".to_owned(), "secret".to_owned())].into(),
        };
        assert_eq!(spec(KafkaAggregationSink::new(producer)), "Kafka(results on kafka:9092)");
        assert_eq!(spec(FileSink::atomic("r.jsonl")), "File(r.jsonl, Atomic)");
        assert_eq!(spec(FileSink::append("r.jsonl")), "File(r.jsonl, Append)");
        assert_eq!(spec(StdoutSink), "Stdout");
        assert_eq!(spec(ConsoleSink), "Console");
        assert_eq!(spec(Mine), "User(mine)");
        let shared: Arc<dyn EventSink<AggregationResult>> = Arc::new(Mine);
        assert_eq!(spec(shared), "User(mine)");
        assert_eq!(spec(SinkSpec::Stdout), "Stdout");
        assert_eq!(SinkSpec::User(Arc::new(Mine)).build("job", ProcessIdentity::ALONE).unwrap().name(), "mine");
    }
}
