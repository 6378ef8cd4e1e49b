//! One group of processes, from its start to its end.

use super::Launch;
use super::lines::{Mark, forward};
use super::verdict::{End, Ended};
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::{Control, Summary};
use std::io::IsTerminal;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at who has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// What writes goes on writing for no longer than this after its process has ended: a process of its own may have its outputs.
const REST_OF_LINES: Duration = Duration::from_secs(2);

/// The processes, those that have ended among them.
pub(super) struct Group {
    members: Vec<Member>,
    ends: Vec<Ended>,
    lines: Vec<JoinHandle<()>>,
    /// Where each process leaves what it came to.
    summaries: tempfile::TempDir,
}

struct Member {
    process: usize,
    child: Child,
    has_ended: bool,
}

impl Group {
    /// Starts all; where one cannot be started, none is left.
    pub fn start(plan: &Launch, is_first: bool, control: &Control) -> ProcessorResult<Self> {
        let summaries = tempfile::tempdir().map_err(|error| ProcessorError::io("a folder for summaries", error))?;
        let mut group = Group { members: Vec::new(), ends: Vec::new(), lines: Vec::new(), summaries };
        for (place, &process) in plan.local.iter().enumerate() {
            if let Err(error) = group.start_one(plan, is_first, (place, process), control) {
                group.kill();
                return Err(error);
            }
        }
        let members: Vec<String> =
            group.members.iter().map(|member| format!("{} (pid {})", member.process, member.child.id())).collect();
        tracing::info!(target: "launch", "started: process {}", members.join(", "));
        Ok(group)
    }

    /// The process at this place among those of this machine, with its index.
    fn start_one(
        &mut self,
        plan: &Launch,
        is_first: bool,
        (place, process): (usize, usize),
        control: &Control,
    ) -> ProcessorResult<()> {
        let mut command = Command::new(&plan.program);
        command.args(&plan.arguments).args(plan.first_arguments.iter().filter(|_| is_first));
        command.arg("-p").arg(process.to_string()).arg("--summary").arg(self.summary_of(process));
        command.envs(plan.environment.iter().map(|(name, value)| (name, value)));
        if let Some(pages) = plan.pages.filter(|pages| place > 0 && pages.port() > 0) {
            let port = usize::from(pages.port()) + place;
            command.env("PROCESSOR_METRICS__LISTEN", format!("{}:{port}", bracketed(pages.ip())));
        }
        // A terminal is for the process that asked at it, and would stop others that read it.
        let reads = place == 0 && !std::io::stdin().is_terminal();
        command.stdin(if reads { Stdio::inherit() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Of its own group: Ctrl-C is for this process, which passes it on once.
        command.process_group(0);
        end_with_this_process(&mut command);
        let failed = |error| ProcessorError::io(format!("starting {}", plan.program.display()), error);
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        self.members.push(Member { process, child, has_ended: false });
        let log_mark = if plan.json { Mark::Field(process) } else { Mark::Prefix(process) };
        if let Some(out) = out {
            self.lines.push(forward(out, || std::io::stdout().lock(), Mark::None, control)?);
        }
        if let Some(err) = err {
            self.lines.push(forward(err, || std::io::stderr().lock(), log_mark, control)?);
        }
        Ok(())
    }

    fn summary_of(&self, process: usize) -> std::path::PathBuf {
        self.summaries.path().join(format!("{process}.json"))
    }

    /// Waits until all have ended, in the order of their ends. When the end is asked for, it is passed on; when one has ended badly,
    /// those that have not ended by `patience` after that are killed.
    pub fn wait(&mut self, control: &Control, patience: Duration) -> Vec<Ended> {
        let (mut passed_on, mut bad_since) = (false, None);
        loop {
            self.look();
            if self.members.iter().all(|member| member.has_ended) {
                break;
            }
            if control.is_stopping() && !passed_on {
                passed_on = true;
                self.signal(libc::SIGTERM);
            }
            if bad_since.is_none() && self.ends.iter().any(|ended| ended.end != End::Code(0)) {
                bad_since = Some(Instant::now());
            }
            if bad_since.is_some_and(|since| since.elapsed() >= patience) {
                for member in self.members.iter().filter(|member| !member.has_ended) {
                    let process = member.process;
                    tracing::warn!(target: "launch", "process {process} has not ended with the others: it is killed");
                }
                self.kill();
            }
            std::thread::sleep(PAUSE);
        }
        let until = Instant::now() + REST_OF_LINES;
        while Instant::now() < until && self.lines.iter().any(|lines| !lines.is_finished()) {
            std::thread::sleep(PAUSE);
        }
        self.ends.clone()
    }

    /// Takes note of those that have ended.
    fn look(&mut self) {
        for member in self.members.iter_mut().filter(|member| !member.has_ended) {
            if let Ok(Some(status)) = member.child.try_wait() {
                member.has_ended = true;
                self.ends.push(Ended { process: member.process, end: end_of(status) });
            }
        }
    }

    fn signal(&self, signal: i32) {
        for member in self.members.iter().filter(|member| !member.has_ended) {
            // SAFETY: the call takes integers alone; the child was not waited for, so that its number is not another's.
            unsafe {
                libc::kill(member.child.id() as libc::pid_t, signal);
            }
        }
    }

    fn kill(&mut self) {
        self.signal(libc::SIGKILL);
    }

    /// Of the processes that have left one.
    pub fn summary(&self) -> Option<Summary> {
        let read = |member: &Member| {
            let text = std::fs::read(self.summary_of(member.process)).ok()?;
            serde_json::from_slice::<Summary>(&text).ok()
        };
        self.members.iter().filter_map(read).reduce(|mut all, one| {
            all.add_process(&one);
            all
        })
    }
}

/// Nobody looks after them any more.
impl Drop for Group {
    fn drop(&mut self) {
        self.look();
        self.kill();
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

fn bracketed(address: std::net::IpAddr) -> String {
    match address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Has the kernel ask the process to end when this one is gone, however that comes.
fn end_with_this_process(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let own = std::process::id() as libc::pid_t;
        let ask = move || {
            // SAFETY: between fork and exec only calls that may be made in a signal handler are allowed; prctl and getppid
            // are system calls on integers, and neither allocates nor takes a lock.
            let (asked, parent) =
                unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong), libc::getppid()) };
            match asked {
                0 if parent == own => Ok(()),
                0 => Err(std::io::ErrorKind::BrokenPipe.into()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: see above; the closure owns an integer and nothing else.
        unsafe {
            command.pre_exec(ask);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
