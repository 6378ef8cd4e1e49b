//! Places at which a test may have the process die, or be slow.
//!
//! The model: a debug build looks once for the environment variable [`FAILPOINT_VARIABLE`], `<name>` or `<name>:<n>`: the process
//! kills itself, as `kill -9` would, when it comes to the place of that name (for the n-th time). With `<name>:panic` whoever comes
//! there panics. Behind a comma may be `<name>=<milliseconds>`: whoever comes to that place rests there every other time, so that of
//! several workers one is behind the others. A thread of a run begins at the place of its own name, see
//! [`crate::runtime::Control::spawn`]. Release builds have none of it.

/// The variable that names a place and how often it is passed before.
pub const FAILPOINT_VARIABLE: &str = "LLM_OPTIMIZER_FAILPOINT";

/// A place at which a test may have the process die, or be slow.
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
    use std::time::Duration;

    struct Armed {
        name: String,
        panics: bool,
        left: AtomicU32,
        slow: Option<Slow>,
    }

    struct Slow {
        name: String,
        rest: Duration,
        passes: AtomicU32,
    }

    fn read() -> Option<Armed> {
        let text = std::env::var(super::FAILPOINT_VARIABLE).ok()?;
        let (deadly, slow) = text.split_once(',').map_or((&text[..], None), |(deadly, slow)| (deadly, Some(slow)));
        let (name, count) = deadly.split_once(':').unwrap_or((deadly, "1"));
        let panics = count == "panic";
        let left = AtomicU32::new(if panics { 0 } else { count.parse().ok()? });
        let slow = match slow {
            None => None,
            Some(slow) => {
                let (name, rest) = slow.split_once('=')?;
                let rest = Duration::from_millis(rest.parse().ok()?);
                Some(Slow { name: name.to_owned(), rest, passes: AtomicU32::new(0) })
            }
        };
        Some(Armed { name: name.to_owned(), panics, left, slow })
    }

    pub(super) fn pass(name: &str) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let Some(armed) = ARMED.get_or_init(read) else { return };
        if armed.name == name && armed.panics {
            panic!("failpoint {name}");
        }
        if armed.name == name && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            die(name);
        }
        if let Some(slow) = armed.slow.as_ref().filter(|slow| slow.name == name)
            && slow.passes.fetch_add(1, Ordering::SeqCst) % 2 == 1
        {
            std::thread::sleep(slow.rest);
        }
    }

    fn die(name: &str) {
        eprintln!("failpoint {name}: the process dies here");
        // SAFETY: both calls take integers alone; the signal ends this process and no other.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
}
