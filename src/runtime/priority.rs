//! Threads that yield to the workers.
//!
//! The model: what makes checkpoints durable has until the next one; a worker that has to share its core with it stalls. So the
//! threads that write are nice, and are not run at once when they have something to do, but when it is their turn; those that
//! RocksDB starts for them inherit it. They are not as nice as can be: on a machine without an idle core they still get a tenth of
//! each, so that checkpoints come to their end.

/// Beside what the process was started with, as of nice(1): a tenth of the weight of a thread that is not nice.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 10;

/// Has the calling thread, and those that it starts from now on, yield to others.
#[cfg(target_os = "linux")]
pub fn yield_to_workers() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the first call reads a structure that lives until it returns, the second takes a number alone. On Linux both are about
    // the calling thread, not the process; to yield more than before is always allowed.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
        libc::nice(NICENESS);
    }
}

/// Elsewhere priorities are of processes.
#[cfg(not(target_os = "linux"))]
pub fn yield_to_workers() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_nice_and_those_it_starts_and_no_other() {
        // SAFETY: the call takes numbers alone; on Linux 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        // SAFETY: the call takes numbers alone; on Linux 0 is the calling thread.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = niceness();
        let inner = std::thread::spawn(move || {
            yield_to_workers();
            assert_eq!(std::thread::spawn(policy).join().expect("it ends"), libc::SCHED_BATCH);
            (niceness(), std::thread::spawn(niceness).join().expect("it ends"))
        });
        let nicer = (before + NICENESS).min(19);
        assert_eq!(inner.join().expect("it ends"), (nicer, nicer));
        assert_eq!((niceness(), policy()), (before, libc::SCHED_OTHER));
    }
}
