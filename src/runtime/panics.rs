//! What happens when a thread panics.
//!
//! The model: a panic anywhere ends the run with a reason, never with a thread missing and the rest waiting. Worker threads
//! catch their own. The threads of timely's links to other processes are not ours: a hook sees their panics, which mean that a
//! peer has gone.

use super::Control;
use crate::error::ProcessorError;
use std::any::Any;
use std::sync::{Mutex, Once, PoisonError};

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
                None => previous(info),
            }
        }));
    });
}

fn lose_peer(reason: &str) {
    for control in CLUSTER_RUNS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // Peers that were asked to end go away one after the other.
        if !control.is_stopping() {
            control.fail(ProcessorError::PeerLost(format!("the link to another process broke: {reason}")));
        }
    }
}
