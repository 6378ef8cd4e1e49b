//! Where a pipeline's late records and dead letters go: built-in destinations by their descriptors, and users' own.

use super::file::ProcessIdentity;
use super::handlers::{DeadLetterSink, LateEventHandler, dead_letter_side, late_side};
use super::kafka::KafkaSide;
use super::side_output::{FileSide, SideSink};
use super::{SideRecord, SinkContext};
use crate::config::ProducerConfig;
use crate::error::ProcessorResult;
use std::fmt;
use std::path::PathBuf;

/// A side output that is not yet open.
#[non_exhaustive]
pub enum SideSpec {
    /// JSON lines, appended to a file.
    File(PathBuf),
    /// A topic: the original bytes as the value, the rest in headers.
    Topic {
        /// The brokers; its result topic is not used.
        producer: ProducerConfig,
        /// The topic.
        topic: String,
    },
    /// A side sink of the user's.
    User(Box<dyn SideSink>),
}

impl SideSpec {
    /// JSON lines, appended to this file; `{process}` in the path stands for the process's index.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        SideSpec::File(path.into())
    }

    /// This topic on the brokers of `producer`, whose result topic is not used.
    pub fn topic(producer: ProducerConfig, topic: impl Into<String>) -> Self {
        SideSpec::Topic { producer, topic: topic.into() }
    }

    /// A sink of the user's.
    pub fn sink(sink: impl SideSink + 'static) -> Self {
        SideSpec::User(Box::new(sink))
    }

    /// A closure that is called with each record, on a thread of its own. After an error it is called again with the same
    /// record, as the retry policy says.
    pub fn each(call: impl FnMut(&SideRecord) -> ProcessorResult<()> + Send + 'static) -> Self {
        Self::sink(Each { call, taken: 0 })
    }

    /// A handler of late events, of the program's own.
    pub fn late_events(handler: impl LateEventHandler + 'static) -> Self {
        SideSpec::User(late_side(handler))
    }

    /// A sink of dead letters, of the program's own.
    pub fn dead_letters(sink: impl DeadLetterSink + 'static) -> Self {
        SideSpec::User(dead_letter_side(sink))
    }

    /// Makes the sink for one process of `job`. A file is opened; Kafka is connected to later, on the sink's thread.
    pub fn build(self, job: &str, process: ProcessIdentity) -> ProcessorResult<Box<dyn SideSink>> {
        Ok(match self {
            SideSpec::File(path) => Box::new(FileSide::open(&process.path(&path))?),
            SideSpec::Topic { producer, topic } => Box::new(KafkaSide::new(&producer, job, &topic)?),
            SideSpec::User(sink) => sink,
        })
    }
}

impl fmt::Debug for SideSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SideSpec::File(path) => write!(f, "File({})", path.display()),
            // Properties may hold passwords.
            SideSpec::Topic { producer, topic } => write!(f, "Topic({topic} on {})", producer.bootstrap_servers),
            SideSpec::User(_) => f.write_str("User"),
        }
    }
}

/// A closure as a side sink.
struct Each<F> {
    call: F,
    /// Records of the current batch that the closure has taken: a batch that is given again goes on from there.
    taken: usize,
}

impl<F: FnMut(&SideRecord) -> ProcessorResult<()> + Send> SideSink for Each<F> {
    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        tracing::debug!(target: "sink", sink = context.name(), "side output of the user's started");
        Ok(())
    }

    fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()> {
        while let Some(record) = records.get(self.taken) {
            (self.call)(record)?;
            self.taken += 1;
        }
        self.taken = 0;
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProcessorError;
    use crate::sink::side_encode::tests::late_record;

    #[test]
    fn a_closure_takes_each_record_once_though_a_batch_fails_in_the_middle() {
        let (seen, mut failures) = (std::sync::Arc::new(std::sync::Mutex::new(Vec::new())), 1);
        let taken = std::sync::Arc::clone(&seen);
        let spec = SideSpec::each(move |record| {
            if record.payload == b"2" && failures > 0 {
                failures -= 1;
                return Err(ProcessorError::Sink("not now".into()));
            }
            taken.lock().unwrap().push(record.payload.clone());
            Ok(())
        });
        let mut sink = spec.build("job", ProcessIdentity::ALONE).unwrap();
        let records = [late_record(b"1"), late_record(b"2"), late_record(b"3")];
        assert!(sink.write(&records).is_err());
        sink.write(&records).unwrap();
        sink.write(&records[..1]).unwrap();
        assert_eq!(*seen.lock().unwrap(), [b"1", b"2", b"3", b"1"]);
    }

    #[test]
    fn a_description_shows_no_passwords() {
        let mut producer = ProducerConfig::new("k:9092", "");
        producer.properties.insert("sasl.password".into(), "secret".into());
        assert_eq!(format!("{:?}", SideSpec::topic(producer, "late")), "Topic(late on k:9092)");
        assert_eq!(format!("{:?}", SideSpec::file("late.jsonl")), "File(late.jsonl)");
    }
}
