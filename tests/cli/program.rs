//! Runs the binary in a folder of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_processor");

/// Events of two windows of a minute. Keyed by model: three of `a` and one of `b` in the first window, one of `a` in the second;
/// one more that comes too late, and one line that is no JSON.
pub const EVENTS: &str = r#"{"id":"1","timestamp":"2026-09-21T14:13:01.000Z","source":"s","event_type":"metric","data":{"model":"a","region":"x","latency_ms":10}}
{"id":"2","timestamp":"2026-09-21T14:13:02.000Z","source":"s","event_type":"metric","data":{"model":"b","region":"x","latency_ms":5.5}}
{"id":"3","timestamp":"2026-09-21T14:13:03.000Z","source":"s","event_type":"metric","data":{"model":"a","region":"y","latency_ms":20}}
{"id":"4","timestamp":"2026-09-21T14:13:02.500Z","source":"s","event_type":"metric","data":{"model":"a","region":"x","latency_ms":60}}
no JSON
{"id":"5","timestamp":"2026-09-21T14:14:30.000Z","source":"s","event_type":"metric","data":{"model":"a","region":"x","latency_ms":7}}
{"id":"6","timestamp":"2026-09-21T14:13:59.000Z","source":"s","event_type":"metric","data":{"model":"b","region":"x","latency_ms":8}}
"#;

/// What [`EVENTS`] come to under [`config`], without the times of firing, sorted.
pub const RESULTS: [&str; 3] = [
    r#"{"window":{"start":"2026-09-21T14:13:00.000Z","end":"2026-09-21T14:14:00.000Z"},"key":{"model":"a"},"results":{"count":3,"sum":90.0,"max":60.0},"revision":0,"op":"upsert","firing":"on_time"}"#,
    r#"{"window":{"start":"2026-09-21T14:13:00.000Z","end":"2026-09-21T14:14:00.000Z"},"key":{"model":"b"},"results":{"count":1,"sum":5.5,"max":5.5},"revision":0,"op":"upsert","firing":"on_time"}"#,
    r#"{"window":{"start":"2026-09-21T14:14:00.000Z","end":"2026-09-21T14:15:00.000Z"},"key":{"model":"a"},"results":{"count":1,"sum":7.0,"max":7.0},"revision":0,"op":"upsert","firing":"on_time"}"#,
];

/// How the summary of such a run begins.
pub const SUMMARY: &str = "5 events, 3 windows (0 refined), 0 late accepted, 1 late dropped, 1 bad, ";

/// A configuration for [`EVENTS`], with this source and these sinks as YAML on one line each.
pub fn config(source: &str, sinks: &str) -> String {
    format!(
        "processor:\n  parallelism: 2\n  source: {source}\n  sinks: {sinks}\n  event: {{key: [data.model], values: [data.latency_ms]}}\n  \
         windows: {{tumbling: {{size: 1m}}}}\n  watermark: {{max_out_of_orderness: 10s}}\n  \
         aggregation: {{enabled: [count, sum, max]}}\n  metrics: {{enabled: false}}\n"
    )
}

/// What a finished process said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A folder, and the binary run in it.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names of what is in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The binary with these arguments, and no setting from the tests' own environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command_in(self.0.path(), arguments)
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        finish(&mut self.command(arguments), "")
    }

    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        finish(self.command(arguments).envs(environment.iter().copied()), "")
    }
}

fn command_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROCESSOR_") {
            command.env_remove(name);
        }
    }
    command
}

fn start(command: &mut Command) -> Child {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.spawn().expect("the program starts")
}

/// Runs a command to its end with this standard input.
pub fn finish(command: &mut Command, input: &str) -> Said {
    let mut child = start(command);
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A program that does not read its input is no failure of the test.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("fed");
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A program that runs; what it says on standard error is gathered. It is killed when this is dropped.
pub struct Live {
    pub child: Child,
    err: Arc<Mutex<String>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Live {
    /// Starts it with standard input and output piped.
    pub fn start(command: &mut Command) -> Live {
        let mut child = start(command);
        let err = Arc::new(Mutex::new(String::new()));
        let (stderr, heard) = (child.stderr.take().expect("piped"), Arc::clone(&err));
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut heard = heard.lock().expect("no panic");
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Live { child, err, listener: Some(listener) }
    }

    pub fn err(&self) -> String {
        self.err.lock().expect("no panic").clone()
    }

    /// Waits until standard error has a line with this text, and returns the line.
    pub fn wait_for(&self, text: &str) -> String {
        eventually(&format!("`{text}` in the log"), || {
            let err = self.err();
            err.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or(err)
        })
    }

    /// Where the pages are, from the log.
    pub fn pages(&self) -> String {
        let line = self.wait_for("pages on http://");
        let (_, address) = line.split_once("pages on ").expect("the line has it");
        address.trim_end_matches('/').to_owned()
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill takes two integers; the child is ours and has not been waited for, so the number is still its own.
        let status = unsafe { libc::kill(pid, signal) };
        assert_eq!(status, 0, "the program had ended already: {}", self.err());
    }

    /// Waits for its end; not longer than this.
    pub fn end_within(&mut self, limit: Duration) -> (Option<i32>, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begin.elapsed() < limit, "still running after {limit:?}: {}", self.err());
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(listener) = self.listener.take() {
            listener.join().expect("heard");
        }
        (status.code(), self.err())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer; fails with the last refusal after 30 s.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(refusal) if begin.elapsed() > Duration::from_secs(30) => panic!("no {what}: {refusal}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Result lines without the time of firing, sorted.
pub fn without_times(lines: &str) -> Vec<String> {
    let mut results: Vec<String> = lines
        .lines()
        .map(|line| {
            let (result, time) = line.rsplit_once(r#","timestamp":""#).unwrap_or_else(|| panic!("no result: {line}"));
            assert!(time.ends_with("Z\"}"), "{line}");
            format!("{result}}}")
        })
        .collect();
    results.sort();
    results
}
