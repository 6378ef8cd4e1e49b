//! A pipeline that can run, and the handle that stops it.

use crate::error::{ProcessorError, ProcessorResult};
use crate::metrics::{ProcessorMetrics, StatusBoard};
use crate::runtime::{Control, Job, Summary, Topology};
use crate::state::StateBackend;
use std::fmt;
use std::sync::Arc;

/// A pipeline, ready to run: made by [`PipelineBuilder::build`](super::PipelineBuilder::build).
pub struct Pipeline {
    job: Job,
    state: Option<Arc<dyn StateBackend>>,
}

impl Pipeline {
    pub(super) fn new(job: Job, state: Option<Arc<dyn StateBackend>>) -> Self {
        Self { job, state }
    }

    /// Runs to the end: of the input, where it has one, or by [`ShutdownHandle::shutdown`].
    ///
    /// The work is done on threads of its own, so that this future never blocks; any runtime may drive it, also one with a
    /// single thread. Dropping it asks the run to stop: it then ends in the background, in good order, within some 10 s.
    ///
    /// # Errors
    /// The first reason for which the run could not go on: a file, a broker's refusal, a sink that failed for longer than the
    /// retry policy allows, a bad record under [`ErrorPolicy::Fail`](crate::config::ErrorPolicy::Fail), a panic of a closure.
    pub async fn run(self) -> ProcessorResult<Summary> {
        let _stop = StopOnDrop(self.job.control.clone());
        let (done, outcome) = tokio::sync::oneshot::channel();
        let body = move || {
            // Nobody waits any more where the future was dropped.
            let _ = done.send(self.run_blocking());
        };
        std::thread::Builder::new()
            .name("pipeline".into())
            .spawn(body)
            .map_err(|error| ProcessorError::io("cannot start the thread of the pipeline", error))?;
        outcome.await.unwrap_or_else(|_| {
            Err(ProcessorError::Runtime("the thread of the pipeline panicked; the panic's message says where".into()))
        })
    }

    /// As [`Pipeline::run`], on this thread. Not for asynchronous code.
    ///
    /// # Errors
    /// Those of [`Pipeline::run`].
    pub fn run_blocking(self) -> ProcessorResult<Summary> {
        if let Some(state) = self.state.as_ref().filter(|state| state.name() != "memory")
            && state.pipeline_directories().is_none()
        {
            tracing::warn!(
                target: "processor",
                "state backend `{}` has no place for the state of pipelines: the windows stay in memory and no checkpoints are taken",
                state.name()
            );
        }
        let topology = Topology::single(self.job.config.parallelism);
        self.job.run(&topology)
    }

    /// A handle that stops the run, from any thread, before or while it runs.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle { control: self.job.control.clone() }
    }

    /// The counters of this pipeline. They can be read while it runs and afterwards; see [`ProcessorMetrics::render`].
    pub fn metrics(&self) -> ProcessorMetrics {
        self.job.metrics.clone()
    }

    /// What is the case in this pipeline: frontiers, partitions, sinks.
    pub fn status(&self) -> StatusBoard {
        self.job.board.clone()
    }

    /// The state backend, where one was given.
    pub fn state_backend(&self) -> Option<&Arc<dyn StateBackend>> {
        self.state.as_ref()
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.job.config;
        write!(f, "Pipeline({}, {:?}, {} workers)", config.job, config.windows.kind, config.parallelism)
    }
}

/// Stops a pipeline. Clones stop the same one.
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    control: Control,
}

impl ShutdownHandle {
    /// Asks for the orderly end: no more is read, what was read goes through, sinks are flushed, offsets committed. Windows that
    /// are still open then are not written; [`Summary::open`] counts them. A run that has not begun ends at once.
    pub fn shutdown(&self) {
        self.control.stop();
    }

    /// Whether the end was asked for, or has come.
    pub fn is_shutting_down(&self) -> bool {
        self.control.is_stopping()
    }
}

struct StopOnDrop(Control);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
