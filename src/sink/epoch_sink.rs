//! Users' sinks that take part in checkpoints.
//!
//! The model: a sink that implements [`EpochSink`] beside [`EventSink`] hears where epochs end. What it takes between
//! [`EpochSink::begin`] and [`EpochSink::prepare`] belongs to that epoch. It keeps that back, prepares it (durable, but not
//! visible), and makes it visible when the checkpoint of the epoch is published. In a job that delivers exactly once each result is
//! then visible once, whatever dies when; a sink without this trait sees results since the last checkpoint again after a crash.

use super::EventSink;
use crate::aggregate::AggregationResult;
use crate::error::ProcessorResult;
use crate::time::Epoch;
use async_trait::async_trait;
use std::fmt;

/// What a sink of one process takes in one epoch. Each process of a job has its own, under the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// The process's index. After a start with fewer processes the first ones settle what those that are no more have left.
    pub process: u16,
}

/// `<epoch>-<process>`.
impl fmt::Display for SinkEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.process)
    }
}

/// Two-phase delivery, for sinks whose [`EventSink::epochs`] says that they have it. Called in jobs that take checkpoints alone.
///
/// The order of calls, all from one thread and never two at a time:
///
/// 1. At the start [`EpochSink::abort`]; then, where a checkpoint was restored, [`EpochSink::commit`] with its epoch. Both for this
///    process, and for each that is no more and whose share this one takes over.
/// 2. For each epoch [`EpochSink::begin`], [`EventSink::send`] for each result (and [`EventSink::flush`] now and then), and
///    [`EpochSink::prepare`]. An epoch may be without results.
/// 3. [`EpochSink::commit`] when the checkpoint is published, in the order of epochs. Results of the next epoch may come before that;
///    the end of the next epoch does not. A checkpoint that failed is not published: its epoch is committed with the next one.
///
/// Each call that returns an error is made again, as the retry policy says, and after a crash what was called may be called again.
/// A process can die between any two instructions: between `prepare` and `commit` too, and in the middle of either.
///
/// ```
/// use async_trait::async_trait;
/// use llm_optimizer_processor::sink::{EpochSink, EventSink, SinkEpoch};
/// use llm_optimizer_processor::time::Epoch;
/// use llm_optimizer_processor::{AggregationResult, ProcessorError, ProcessorResult};
/// use std::fs;
/// use std::path::{Path, PathBuf};
/// use std::sync::Mutex;
///
/// /// A directory with a file for each epoch: hidden while it is prepared, renamed when it is committed.
/// struct Directory {
///     path: PathBuf,
///     lines: Mutex<String>,
/// }
///
/// impl Directory {
///     fn hidden(&self, of: SinkEpoch) -> PathBuf {
///         self.path.join(format!(".{of}"))
///     }
/// }
///
/// fn failed(path: &Path, error: std::io::Error) -> ProcessorError {
///     ProcessorError::Sink(format!("{}: {error}", path.display()))
/// }
///
/// /// Epoch and process of a hidden file.
/// fn parse(name: &str) -> Option<(u64, u16)> {
///     let (epoch, process) = name.strip_prefix('.')?.split_once('-')?;
///     Some((epoch.parse().ok()?, process.parse().ok()?))
/// }
///
/// #[async_trait]
/// impl EventSink<AggregationResult> for Directory {
///     async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
///         let line = format!("{} {}\n", result.window.start, result.results["count"]);
///         self.lines.lock().unwrap().push_str(&line);
///         Ok(())
///     }
///
///     fn epochs(&self) -> Option<&dyn EpochSink> {
///         Some(self)
///     }
/// }
///
/// #[async_trait]
/// impl EpochSink for Directory {
///     async fn prepare(&self, of: SinkEpoch) -> ProcessorResult<()> {
///         let (mut lines, hidden) = (self.lines.lock().unwrap(), self.hidden(of));
///         // A sink that is meant in earnest synchronises file and directory here.
///         fs::write(&hidden, &*lines).map_err(|error| failed(&hidden, error))?;
///         lines.clear();
///         Ok(())
///     }
///
///     async fn commit(&self, upto: SinkEpoch) -> ProcessorResult<()> {
///         for entry in fs::read_dir(&self.path).map_err(|error| failed(&self.path, error))? {
///             let path = entry.map_err(|error| failed(&self.path, error))?.path();
///             let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
///             if parse(&name).is_some_and(|(epoch, of)| of == upto.process && epoch <= upto.epoch.number()) {
///                 let visible = self.path.join(&name[1..]);
///                 fs::rename(&path, &visible).map_err(|error| failed(&path, error))?;
///             }
///         }
///         Ok(())
///     }
///
///     async fn abort(&self, process: u16, restored: Option<Epoch>) -> ProcessorResult<()> {
///         for entry in fs::read_dir(&self.path).map_err(|error| failed(&self.path, error))? {
///             let path = entry.map_err(|error| failed(&self.path, error))?.path();
///             let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
///             let is_later = |epoch| restored.is_none_or(|restored| epoch > restored.number());
///             if parse(&name).is_some_and(|(epoch, of)| of == process && is_later(epoch)) {
///                 fs::remove_file(&path).map_err(|error| failed(&path, error))?;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # let directory = std::env::temp_dir().join(format!("llm-optimizer-processor-epochs-{}", std::process::id()));
/// # fs::create_dir_all(&directory).unwrap();
/// # let sink = Directory { path: directory.clone(), lines: Mutex::new("a line\n".into()) };
/// # let of = |epoch| SinkEpoch { epoch: Epoch::new(epoch), process: 0 };
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// sink.prepare(of(7)).await.unwrap();
/// sink.prepare(of(8)).await.unwrap();
/// // The process dies, and the job goes on from the checkpoint of epoch 7.
/// sink.abort(0, Some(Epoch::new(7))).await.unwrap();
/// sink.commit(of(7)).await.unwrap();
/// # });
/// let mut visible: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
/// assert_eq!(visible, ["7-0"]);
/// # fs::remove_dir_all(&directory).unwrap();
/// ```
#[async_trait]
pub trait EpochSink: Send + Sync {
    /// Results of this epoch begin. Nothing need be done.
    async fn begin(&self, of: SinkEpoch) -> ProcessorResult<()> {
        let _ = of;
        Ok(())
    }

    /// All results of the epoch have been sent. When this returns they are durable, in a way that [`EpochSink::commit`] can make
    /// visible and [`EpochSink::abort`] can throw away, in this process or after its death in another. They must not be visible.
    ///
    /// The guarantee: the checkpoint of the epoch is published only after this has returned in every process. After an error it is
    /// called again, with the same results.
    async fn prepare(&self, of: SinkEpoch) -> ProcessorResult<()>;

    /// The checkpoint is published: what this process has prepared for this epoch, and for those before it, is to be visible when this
    /// returns.
    ///
    /// The guarantee: those results will not be sent again. It must be idempotent: after an error, and after each start from this
    /// checkpoint, it is called again, though all or some of it may be visible already.
    async fn commit(&self, upto: SinkEpoch) -> ProcessorResult<()>;

    /// The job goes on from the checkpoint of epoch `restored`, or begins where that is `None`: whatever `process` has sent or prepared
    /// for a later epoch, or for any epoch where that is `None`, is to be thrown away.
    ///
    /// The guarantee: those results will be sent again, as they were or as they ought to have been. What was committed is none of
    /// them, unless a person had the job go back to an earlier checkpoint. It must be idempotent, and is called where there is nothing
    /// to be thrown away too.
    async fn abort(&self, process: u16, restored: Option<Epoch>) -> ProcessorResult<()>;
}

/// Calls the sink's epochs where it has them.
pub(super) async fn with_epochs<'a, F: Future<Output = ProcessorResult<()>> + 'a>(
    sink: &'a dyn EventSink<AggregationResult>,
    call: impl FnOnce(&'a dyn EpochSink) -> F,
) -> ProcessorResult<()> {
    match sink.epochs() {
        Some(epochs) => call(epochs).await,
        None => Ok(()),
    }
}
