//! Runs the asynchronous calls of users' sinks and handlers on the thread that the run gives them.
//!
//! The model: a runtime of its own, made when it is first needed, on that thread. Neither a slow sink nor the user's runtime gets
//! in the way of the other; timers and sockets of tokio work, and make progress while a call is running.

use crate::error::{ProcessorError, ProcessorResult};
use tokio::runtime::Runtime;

/// A runtime for one thread.
#[derive(Default)]
pub(super) struct Driver {
    runtime: Option<Runtime>,
}

impl Driver {
    /// Runs a call to its end; `name` says whose it is.
    pub(super) fn drive(&mut self, name: &str, call: impl Future<Output = ProcessorResult<()>>) -> ProcessorResult<()> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| ProcessorError::io(format!("starting the runtime of sink `{name}`"), error))?,
        };
        self.runtime.insert(runtime).block_on(call)
    }
}
