//! Processes of tests: they end with the test process, whatever way that ends.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};

/// A port that nobody uses, outside the kernel's range for outgoing connections (32768 and up), a different one each time.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(64) % 12_000;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = u16::try_from(port).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Free addresses of this machine, for processes that listen at them later. A port that the kernel chose could meanwhile be given to
/// somebody's outgoing connection, and these cannot.
pub fn free_addresses(count: usize) -> Vec<String> {
    (0..count).map(|_| format!("127.0.0.1:{}", free_port())).collect()
}

/// Starts a process that the kernel ends when this process ends.
///
/// The kernel's promise is tied to the *thread* that starts the process, and a test's thread ends with the test: so one thread,
/// which never ends, starts all of them.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // SAFETY: between fork and exec the closure makes one system call, which is allowed there.
                unsafe {
                    command.pre_exec(|| {
                        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                            Ok(())
                        } else {
                            Err(std::io::Error::last_os_error())
                        }
                    });
                }
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, child) = channel();
    spawner.lock().unwrap().send((command, answer)).expect("the spawner never ends");
    child
        .recv()
        .expect("the spawner answers")
        .expect("the program can be started; Kafka needs a JRE of version 17 or later")
}

/// Sends a signal to a process that was started by [`spawn`] and not waited for.
pub fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("process ids are small");
    // SAFETY: a system call without memory; the process is ours and not yet waited for, so the id is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the process is ours");
}
