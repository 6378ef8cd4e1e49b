//! From the configuration to sinks and side outputs.

use super::context::SinkObserver;
use super::file::ProcessIdentity;
use super::kafka::KafkaSide;
use super::side_output::{FileSide, SideOutput, SideSink};
use super::{ResultSink, RetryPolicy, SinkSpec};
use crate::config::{ErrorPolicy, ProcessorConfig, ProducerConfig, SideSinkConfig, SinkConfig};
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::Control;
use std::sync::Arc;

/// Makes the configured sinks for one process, in the order of the configuration. Files are opened here; what needs a network
/// is connected later, on the sinks' threads.
pub fn build(config: &ProcessorConfig, process: ProcessIdentity) -> ProcessorResult<Vec<Box<dyn ResultSink>>> {
    config.sinks.iter().map(|sink| spec(config, sink)?.build(&config.job, process)).collect()
}

/// The output of records that are too late, expired or of the future.
pub fn late_output(
    config: &ProcessorConfig,
    process: ProcessIdentity,
    observer: Arc<dyn SinkObserver>,
    control: Control,
) -> ProcessorResult<SideOutput> {
    side_output("late", config.late_sink.as_ref(), config, process, observer, control)
}

/// The output of bad records; they are counted only unless the error policy is `dead_letter`.
pub fn dead_letter_output(
    config: &ProcessorConfig,
    process: ProcessIdentity,
    observer: Arc<dyn SinkObserver>,
    control: Control,
) -> ProcessorResult<SideOutput> {
    let errors = &config.error_handling;
    let destination = errors.dead_letter.as_ref().filter(|_| errors.policy == ErrorPolicy::DeadLetter);
    side_output("dead_letter", destination, config, process, observer, control)
}

fn spec(config: &ProcessorConfig, sink: &SinkConfig) -> ProcessorResult<SinkSpec> {
    Ok(match sink {
        SinkConfig::Kafka => SinkSpec::Kafka(producer(config, "a sink of type kafka")?.clone()),
        SinkConfig::File { path, mode } => SinkSpec::File { path: path.clone(), mode: *mode },
        SinkConfig::Stdout => SinkSpec::Stdout,
        SinkConfig::Console => SinkSpec::Console,
    })
}

fn side_output(
    name: &str,
    destination: Option<&SideSinkConfig>,
    config: &ProcessorConfig,
    process: ProcessIdentity,
    observer: Arc<dyn SinkObserver>,
    control: Control,
) -> ProcessorResult<SideOutput> {
    let Some(destination) = destination else { return Ok(SideOutput::counted_only()) };
    let sink: Box<dyn SideSink> = match destination {
        SideSinkConfig::File { path } => Box::new(FileSide::open(&process.path(path))?),
        SideSinkConfig::Kafka { topic } => {
            let producer = producer(config, &format!("the {name} output to topic `{topic}`"))?;
            Box::new(KafkaSide::new(producer, &config.job, topic)?)
        }
    };
    SideOutput::start(name, sink, RetryPolicy::from(&config.error_handling), observer, control)
}

fn producer<'a>(config: &'a ProcessorConfig, what: &str) -> ProcessorResult<&'a ProducerConfig> {
    config.producer.as_ref().ok_or_else(|| {
        ProcessorError::Config(format!("{what} needs kafka.producer.bootstrap_servers, which is not given"))
    })
}
