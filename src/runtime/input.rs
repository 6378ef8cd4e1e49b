//! What each worker reads.

use crate::config::{ProcessorConfig, SourceConfig};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Decoder, JsonDecoder, WorkerIndex};
use crate::metrics::{ProcessorMetrics, StatusBoard};
use crate::runtime::Control;
use crate::source::file::{FileProgress, FileSource, InputFile, expand};
use crate::source::generator::GeneratorSource;
use crate::source::kafka::{KafkaSource, KafkaSourceOptions};
use crate::source::stdin::StdinSource;
use crate::source::{Resume, Source};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::observe::KafkaObserver;

/// What a worker's source is made with.
pub struct InputContext {
    /// The worker.
    pub worker: WorkerIndex,
    /// How many workers there are, in all processes.
    pub peers: usize,
    /// Wakes the worker, from any thread.
    pub waker: Arc<dyn Fn() + Send + Sync>,
    /// The run's switch.
    pub control: Control,
    /// The run's metrics.
    pub metrics: ProcessorMetrics,
    /// The run's status.
    pub board: StatusBoard,
    /// Where reading goes on.
    pub resume: Arc<Resume>,
}

/// Opens the sources of a job.
pub trait Input: Send + Sync {
    /// The source of one worker, with the decoder for its records. Called once a worker, on its thread.
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)>;

    /// How far files are read, where there are files.
    fn file_progress(&self) -> Option<Arc<FileProgress>> {
        None
    }

    /// Whether the input comes to an end by itself.
    fn is_bounded(&self) -> bool {
        false
    }
}

/// The source that a configuration names.
pub struct ConfiguredInput {
    config: ProcessorConfig,
    files: Vec<InputFile>,
    progress: Arc<FileProgress>,
}

impl ConfiguredInput {
    /// Looks for the files, where it is files. Fails where a pattern matches none.
    pub fn new(config: ProcessorConfig) -> ProcessorResult<Self> {
        let files = match &config.source {
            SourceConfig::File { paths } => expand(paths)?,
            _ => Vec::new(),
        };
        Ok(Self { config, files, progress: Arc::default() })
    }

    fn kafka(&self, context: InputContext) -> ProcessorResult<Box<dyn Source>> {
        let consumer = self.config.consumer.clone().ok_or_else(|| {
            ProcessorError::Config("source kafka needs kafka.consumer.{bootstrap_servers, topics}".into())
        })?;
        let observer = KafkaObserver::new(&context);
        Ok(Box::new(KafkaSource::new(KafkaSourceOptions {
            consumer,
            job: self.config.job.clone(),
            buffer_size: self.config.buffer_size,
            worker: context.worker,
            workers: NonZeroUsize::new(context.peers).unwrap_or(NonZeroUsize::MIN),
            idle_timeout: self.config.watermark.idle_timeout,
            control: context.control,
            waker: context.waker,
            observer: Arc::new(observer),
            resume: context.resume,
        })?))
    }
}

impl Input for ConfiguredInput {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let decoder = Box::new(JsonDecoder::new(&self.config.event));
        let (worker, peers) = (context.worker, context.peers);
        let source: Box<dyn Source> = match &self.config.source {
            SourceConfig::Kafka => self.kafka(context)?,
            SourceConfig::File { .. } => {
                Box::new(FileSource::resuming(&self.files, worker, peers, Arc::clone(&self.progress), context.resume))
            }
            SourceConfig::Stdin if worker == WorkerIndex(0) => {
                Box::new(StdinSource::new(context.waker)?.resuming(context.resume))
            }
            SourceConfig::Stdin => Box::new(Nothing),
            SourceConfig::Generator(generator) => {
                Box::new(GeneratorSource::resuming(generator, worker, peers, context.resume))
            }
        };
        Ok((source, decoder))
    }

    fn file_progress(&self) -> Option<Arc<FileProgress>> {
        matches!(self.config.source, SourceConfig::File { .. }).then(|| Arc::clone(&self.progress))
    }

    fn is_bounded(&self) -> bool {
        match &self.config.source {
            SourceConfig::Kafka => false,
            SourceConfig::File { .. } | SourceConfig::Stdin => true,
            SourceConfig::Generator(generator) => generator.count.is_some(),
        }
    }
}

/// The source of a worker that has nothing to read.
struct Nothing;

impl Source for Nothing {
    fn poll(
        &mut self,
        intake: &mut crate::source::Intake,
        _max_records: usize,
    ) -> ProcessorResult<crate::source::Polled> {
        intake.set_ready();
        Ok(crate::source::Polled::Finished)
    }
}
