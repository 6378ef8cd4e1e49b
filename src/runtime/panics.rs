//! What happens when a thread panics.
//!
//! The model: a panic anywhere ends the run with a reason, never with a thread missing and the rest waiting. Worker threads
//! catch their own, and so do all that [`Control::spawn`] starts. The threads of timely's links to other processes are not ours: a
//! hook sees their panics, most of which mean that a peer has gone.

use super::Control;
use crate::error::ProcessorError;
use std::any::Any;
use std::sync::{Mutex, Once, PoisonError};

/// How the names of the threads of timely's links begin.
const LINK_THREAD: &str = "timely:";

/// And those of its workers, who catch their own panics.
const WORKER_THREAD: &str = "timely:work-";

/// How the panics of timely's links begin.
const LINK_PANIC: &str = "timely communication error:";

/// What a worker panics with when the threads of a link have gone: the link's own panic has said why.
pub const QUEUE_PANIC: &str = "MergeQueue poisoned.";

/// The thread that waits for the links to close; when one broke meanwhile, there is nothing left to do.
pub const CLOSING_THREAD: &str = "close-links";

/// The runs that other processes take part in.
static CLUSTER_RUNS: Mutex<Vec<Control>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// What a panic said.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// From now on, a link that breaks fails the run.
pub fn watch_links(control: &Control) {
    CLUSTER_RUNS.lock().unwrap_or_else(PoisonError::into_inner).push(control.clone());
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some(CLOSING_THREAD) {
                return;
            }
            let text = message(info.payload());
            match text.strip_prefix(LINK_PANIC) {
                Some(reason) => lose_peer(reason.trim()),
                None if text == QUEUE_PANIC => {}
                None => {
                    previous(info);
                    fail_with_link(std::thread::current().name().unwrap_or_default(), &text);
                }
            }
        }));
    });
}

/// A panic of a link's thread that is nobody's end: something that it does for the processor, or a mistake.
fn fail_with_link(thread: &str, reason: &str) {
    if thread.starts_with(LINK_THREAD) && !thread.starts_with(WORKER_THREAD) {
        fail_runs(|| ProcessorError::Runtime(format!("the thread `{thread}` panicked: {reason}")));
    }
}

fn lose_peer(reason: &str) {
    fail_runs(|| ProcessorError::PeerLost(format!("the link to another process broke: {reason}")));
}

/// Peers that were asked to end go away one after the other: a run that ends as well is not failed by what that does to its links.
fn fail_runs(error: impl Fn() -> ProcessorError) {
    for control in CLUSTER_RUNS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if !control.is_stopping() {
            control.fail(error());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Who starts threads without [`super::Control::spawn`], which they are or do themselves: each hands a panic on.
    const OWN_WAYS: [&str; 4] =
        ["runtime/control.rs", "source/stdin.rs", "pipeline/run.rs", "checkpoint/remote/transfer.rs"];

    /// The parts of the program that are not tests, with their paths.
    fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.to_string_lossy().ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let program = text.split("mod tests {").next().unwrap_or_default().to_owned();
                found.push((path.to_string_lossy().replace('\\', "/"), program));
            }
        }
    }

    #[test]
    fn no_thread_is_started_whose_panic_nobody_sees() {
        let mut found = Vec::new();
        // Read when the test runs: checkouts may share a target folder.
        let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where it is");
        sources(&Path::new(&root).join("src"), &mut found);
        assert!(found.len() > 100);
        for (path, text) in found.iter().filter(|(path, _)| !OWN_WAYS.iter().any(|own| path.ends_with(own))) {
            for start in ["thread::spawn", "thread::Builder", "thread::scope"] {
                assert!(!text.contains(start), "{path}: {start}; Control::spawn would see its panics");
            }
        }
    }
}
