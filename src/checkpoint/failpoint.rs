//! Places at which a test may have the process die.
//!
//! The model: a debug build looks once for the environment variable [`FAILPOINT_VARIABLE`], `<name>` or `<name>:<n>`: the process
//! kills itself, as `kill -9` would, when it comes to the place of that name (for the n-th time). Release builds have none of it.

/// The variable that names a place and how often it is passed before.
pub const FAILPOINT_VARIABLE: &str = "LLM_OPTIMIZER_FAILPOINT";

/// A place at which a test may have the process die.
#[inline]
pub fn failpoint(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Armed {
        name: String,
        left: AtomicU32,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var(super::FAILPOINT_VARIABLE).ok()?;
            let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
            let left = AtomicU32::new(count.parse().ok()?);
            Some(Armed { name: name.to_owned(), left })
        };
        ARMED.get_or_init(read).as_ref()
    }

    pub(super) fn pass(name: &str) {
        let Some(armed) = armed().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            eprintln!("failpoint {name}: the process dies here");
            // SAFETY: both calls take integers alone; the signal ends this process and no other.
            unsafe {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
    }
}
