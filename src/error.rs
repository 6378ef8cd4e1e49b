//! The one error type of the library, and the exit codes it maps to.

use std::fmt;

/// What a fallible call of this library returns.
pub type ProcessorResult<T> = Result<T, ProcessorError>;

/// Why the processor could not do what it was asked.
///
/// Each variant holds a message for a person: it names the file, key, topic or offset that is at fault and, where there is one,
/// the value that would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorError {
    /// The configuration, or the way the library was called, cannot work; nothing was started.
    #[error("{0}")]
    Config(String),
    /// A broker, a topic, a partition or a producer.
    #[error("kafka: {0}")]
    Kafka(String),
    /// The state backend, a snapshot or a checkpoint.
    #[error("state: {0}")]
    State(String),
    /// A source other than Kafka.
    #[error("source: {0}")]
    Source(String),
    /// A sink other than Kafka, or a side output.
    #[error("sink: {0}")]
    Sink(String),
    /// A record that could not be read, under the error policy `fail`.
    #[error("bad record: {0}")]
    BadRecord(String),
    /// A file or a socket.
    #[error("{context}: {error}")]
    Io {
        /// What was being done, with the path or the address.
        context: String,
        /// What the operating system answered.
        #[source]
        error: std::io::Error,
    },
    /// Asked for something this build does not do.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A worker or a background thread ended when it should not have.
    #[error("{0}")]
    Runtime(String),
    /// Another process of the cluster went away: the whole group should be started again.
    #[error("peer lost: {0}")]
    PeerLost(String),
    /// Another run of the same job has taken over, or going on would lose or double results: a person must decide.
    #[error("refused: {0}")]
    Refused(String),
}

impl ProcessorError {
    /// Wraps an I/O error with what was being done at the time.
    pub fn io(context: impl fmt::Display, error: std::io::Error) -> Self {
        ProcessorError::Io { context: context.to_string(), error }
    }

    /// The code with which a process that ends for this reason exits.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ProcessorError::Config(_) | ProcessorError::Unsupported(_) => ExitCode::Usage,
            ProcessorError::PeerLost(_) => ExitCode::Restart,
            ProcessorError::Refused(_) => ExitCode::Refused,
            _ => ExitCode::Failed,
        }
    }
}

/// The process's exit codes; scripts and supervisors rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Ended as asked.
    Done = 0,
    /// Failed at run time.
    Failed = 1,
    /// Configuration or usage; given before any socket or file is opened.
    Usage = 2,
    /// A peer or a dependency failed: start again.
    Restart = 75,
    /// Fenced or refused: do not restart without a person.
    Refused = 78,
}
