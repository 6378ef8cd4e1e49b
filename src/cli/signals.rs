//! SIGTERM and Ctrl-C: the first asks for the orderly end, the second ends at once.

use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::runtime::Control;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Watches for the signals on a thread of its own.
pub fn stop_on_signals(control: &Control) -> ProcessorResult<()> {
    let failed = |error| ProcessorError::io("cannot watch for signals", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?)
    };
    let (switch, control) = (control, control.clone());
    let watch = move || {
        runtime.block_on(next(&mut terminate, &mut interrupt));
        control.stop();
        tracing::info!(target: "processor", "asked to end: finishing what is in flight; once more ends at once");
        runtime.block_on(next(&mut terminate, &mut interrupt));
        std::process::exit(ExitCode::Failed as i32);
    };
    switch.spawn("signals", watch).map(drop)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
