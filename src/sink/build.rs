//! From the configuration to sinks and side outputs.

use super::context::SinkObserver;
use super::file::ProcessIdentity;
use super::side_output::SideOutput;
use super::side_spec::SideSpec;
use super::{ResultSink, RetryPolicy, SinkSpec};
use crate::config::{ErrorPolicy, ProcessorConfig, ProducerConfig, SideSinkConfig, SinkConfig};
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::Control;
use std::sync::Arc;

/// Makes the configured sinks for one process, in the order of the configuration. Files are opened here; what needs a network
/// is connected later, on the sinks' threads.
pub fn build(config: &ProcessorConfig, process: ProcessIdentity) -> ProcessorResult<Vec<Box<dyn ResultSink>>> {
    config.sinks.iter().map(|sink| spec(config, sink)?.build_for(&config.job, process, config.delivery)).collect()
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
        SinkConfig::Kafka { topic } => {
            let mut producer = producer(config, "a sink of type kafka")?.clone();
            if let Some(topic) = topic {
                producer.result_topic.clone_from(topic);
            }
            SinkSpec::Kafka(producer)
        }
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
    let spec = match destination {
        None => return Ok(SideOutput::counted_only()),
        Some(SideSinkConfig::File { path }) => SideSpec::file(path),
        Some(SideSinkConfig::Kafka { topic }) => {
            SideSpec::topic(producer(config, &format!("the {name} output to topic `{topic}`"))?.clone(), topic)
        }
    };
    given_side_output(name, spec, config, process, observer, control)
}

/// An output of late records or dead letters that does not come from the configuration; `name` is what logs and metrics call
/// it.
pub fn given_side_output(
    name: &str,
    spec: SideSpec,
    config: &ProcessorConfig,
    process: ProcessIdentity,
    observer: Arc<dyn SinkObserver>,
    control: Control,
) -> ProcessorResult<SideOutput> {
    let sink = spec.build(&config.job, process)?;
    SideOutput::start(name, sink, RetryPolicy::from(&config.error_handling), observer, control)
}

fn producer<'a>(config: &'a ProcessorConfig, what: &str) -> ProcessorResult<&'a ProducerConfig> {
    config.producer.as_ref().ok_or_else(|| {
        ProcessorError::Config(format!("{what} needs kafka.producer.bootstrap_servers, which is not given"))
    })
}
