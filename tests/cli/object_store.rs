//! Jobs whose checkpoints are in an object store: killed, and started again on a machine that has nothing of them.

use super::cluster::hostfile;
use super::interrupted::{PATIENCE, check_results, yaml};
use super::program::{Live, Place, Said, eventually, without_times};
use super::s3::{BUCKET, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A job with its checkpoints in an object store.
struct Job {
    place: Place,
    delivery: &'static str,
    url: String,
    environment: Vec<(String, String)>,
}

impl Job {
    /// In a directory that counts as a store.
    fn in_directory(delivery: &'static str) -> Job {
        let place = Place::new();
        let url = format!("file://{}", place.path("objects").display());
        Self::new(place, delivery, url, Vec::new())
    }

    fn new(place: Place, delivery: &'static str, url: String, environment: Vec<(String, String)>) -> Job {
        let job = Job { place, delivery, url, environment };
        job.write("c.yaml", "state");
        job
    }

    /// A configuration with this working directory.
    fn write(&self, name: &str, state: &str) {
        let more = format!(
            "  state: {{backend: rocksdb, path: {state}, checkpoint_path: {:?}, retain: 3}}\n  checkpoint_interval: 100ms\n  \
             metrics: {{enabled: false}}\n",
            self.url
        );
        self.place.write(name, yaml(self.delivery, &more));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command.envs(self.environment.iter().cloned());
        command
    }

    fn start(&self) -> Live {
        Live::start(&mut self.command(&["run", "--config", "c.yaml"]))
    }

    fn tool(&self, arguments: &[&str]) -> Said {
        let place = ["--path", &self.url];
        super::program::finish(&mut self.command(&[&["checkpoints"], arguments, &place].concat()), "")
    }

    /// The epochs of checkpoints that `list` calls whole.
    fn published(&self) -> Vec<u64> {
        let said = self.tool(&["list"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let whole = said.out.lines().filter(|line| line.trim_end().ends_with(" ok"));
        whole.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
    }

    fn wait_for_checkpoint(&self, live: &Live, epoch: u64) {
        eventually(&format!("checkpoint {epoch}"), || match self.published().last() {
            Some(last) if *last >= epoch => Ok(()),
            last => Err(format!("the last is {last:?}\n{}", live.err())),
        });
    }

    fn kill_after_checkpoint(&self, epoch: u64) {
        let mut live = self.start();
        self.wait_for_checkpoint(&live, epoch);
        assert!(live.child.try_wait().expect("a child").is_none(), "it has ended already: {}", live.err());
        live.signal(libc::SIGKILL);
        live.end_within(PATIENCE);
    }

    /// Another machine goes on: it has the results, and nothing of the state.
    fn forget(&self) {
        fs::remove_dir_all(self.place.path("state")).expect("removed");
    }

    fn end(&self) -> String {
        let (code, said) = self.start().end_within(PATIENCE);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    fn check(&self) {
        check_results(without_times(&self.place.read("results.jsonl")), self.delivery);
    }
}

/// The files in a directory and in those in it.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// A job is killed, and goes on elsewhere; tools read what is there.
fn goes_on_elsewhere(job: &Job) {
    job.kill_after_checkpoint(3);
    job.forget();
    let newest = *job.published().last().expect("there are some");
    let verified = job.tool(&["verify"]);
    assert!(verified.code == Some(0) && verified.out.matches(": ok: ").count() >= 2, "{verified:?}");
    let inspected = job.tool(&["inspect", &newest.to_string(), "--limit", "1"]);
    assert!(inspected.code == Some(0) && inspected.out.contains(&job.url), "{inspected:?}");
    let compared = job.tool(&["diff", &(newest - 1).to_string(), &newest.to_string()]);
    assert!(compared.code == Some(0) && compared.out.contains("partitions that have moved"), "{compared:?}");
    let said = job.end();
    assert!(said.contains(&format!("going on from checkpoint {newest}, ")), "{said}");
    job.check();
    let copies = job.place.path("state/checkpoints/process-0");
    let kept = fs::read_dir(copies).expect("it is there").flatten().filter(|entry| entry.path().is_dir()).count();
    assert!(kept <= 2, "{kept} checkpoints are kept here");
    assert_eq!(job.published().len(), 3, "and three there");
    let said = super::program::finish(&mut job.command(&["checkpoints", "list", "--config", "c.yaml"]), "");
    assert!(said.code == Some(0) && said.out.contains(" yes "), "{said:?}");
}

#[test]
fn a_job_goes_on_from_a_directory_that_counts_as_a_store() {
    goes_on_elsewhere(&Job::in_directory("at_least_once"));
    goes_on_elsewhere(&Job::in_directory("exactly_once"));
}

#[test]
fn a_job_goes_on_from_s3_and_lives_through_its_outage() {
    let server = Server::start();
    let url = format!("s3://{BUCKET}/jobs/feedback");
    let job = Job::new(Place::new(), "exactly_once", url, server.environment());
    goes_on_elsewhere(&job);
    // One that has no longer anything to do with the first.
    let url = format!("s3://{BUCKET}/jobs/outage");
    let job = Job::new(Place::new(), "at_least_once", url, server.environment());
    let mut live = job.start();
    job.wait_for_checkpoint(&live, 1);
    server.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    assert!(live.child.try_wait().expect("a child").is_none(), "{}", live.err());
    server.signal(libc::SIGCONT);
    let before = job.published().last().copied().unwrap_or_default();
    let (code, said) = live.end_within(PATIENCE);
    assert_eq!(code, Some(0), "{said}");
    assert!(job.published().last() > Some(&before), "{said}");
    job.check();
}

#[test]
fn a_job_that_dies_at_any_step_goes_on() {
    let job = Job::in_directory("at_least_once");
    let steps = [
        "file_uploaded:20",
        "snapshot_uploaded:5",
        "remote_manifest_written:2",
        "remote_manifest_removed:1",
        "checkpoint_fetched:1",
        "manifest_written:1",
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let mut command = job.command(&["run", "--config", "c.yaml"]);
        let (code, said) = Live::start(command.env("LLM_OPTIMIZER_FAILPOINT", step)).end_within(PATIENCE);
        assert_eq!(code, None, "{step}: {said}");
        assert!(said.contains("failpoint"), "{step}: {said}");
        if number % 2 == 0 {
            job.forget();
        }
    }
    // As one leaves it that dies while it writes an object.
    let half_written = ["1/0123456789abcdef/worker-0/CURRENT#1", "tables/0123456789abcdef/worker-1/000009.sst#1"];
    for file in half_written.map(|name| job.place.path(&format!("objects/{name}"))) {
        fs::create_dir_all(file.parent().expect("it has one")).expect("made");
        fs::write(file, "half").expect("written");
    }
    job.end();
    job.check();
    // What the dead ones have left went with the first checkpoint of the last.
    let verified = job.tool(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let named: Vec<String> = {
        let of = |epoch: &u64| job.place.read(&format!("objects/{epoch}/manifest.json"));
        let mut objects: Vec<String> = Vec::new();
        for text in job.published().iter().map(of) {
            let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            for snapshot in manifest["snapshots"].as_array().expect("a list") {
                let files = snapshot["files"].as_array().expect("a list").iter();
                objects.extend(files.map(|file| file["object"].as_str().expect("it is named").to_owned()));
            }
        }
        objects.sort();
        objects.dedup();
        objects.extend(job.published().iter().map(|epoch| format!("{epoch}/manifest.json")));
        objects
    };
    let root = job.place.path("objects");
    let left: Vec<_> = files_in(&root).iter().map(|path| path.strip_prefix(&root).expect("in it").to_owned()).collect();
    let surplus: Vec<_> =
        left.iter().filter(|path| !named.iter().any(|name| Path::new(name) == path.as_path())).collect();
    assert_eq!((surplus, left.len()), (Vec::new(), named.len()), "nothing else is left");
}

#[test]
fn a_damaged_object_is_named_and_the_checkpoint_before_is_used() {
    let job = Job::in_directory("at_least_once");
    job.kill_after_checkpoint(4);
    job.forget();
    let [.., second, newest] = job.published()[..] else { panic!("{:?}", job.published()) };
    let files = files_in(&job.place.path(&format!("objects/{newest}")));
    let current = files.iter().find(|path| path.ends_with("worker-1/CURRENT")).expect("it is there");
    let length = fs::metadata(current).expect("it is there").len() as usize;
    fs::write(current, vec![b'x'; length]).expect("written");
    let url = format!("file://{}: is damaged", current.display());
    let verified = job.tool(&["verify", &newest.to_string()]);
    assert!(verified.code == Some(1) && verified.out.contains(&url), "{verified:?}");
    let listed = job.tool(&["list"]);
    let is_newest = |line: &&str| line.trim_start().starts_with(&format!("{newest} "));
    let shown = listed.out.lines().find(is_newest);
    assert!(shown.is_some_and(|line| line.trim_end().ends_with(" ok")), "only lengths: {listed:?}");
    fs::remove_file(current).expect("removed");
    let listed = job.tool(&["list"]);
    let missing = format!("damaged: file://{}: is missing", current.display());
    assert!(listed.out.contains(&missing), "{listed:?}");
    let said = job.end();
    assert!(said.contains(&format!("file://{}: is missing", current.display())), "{said}");
    assert!(said.contains(&format!("going on from checkpoint {second}, ")), "{said}");
    job.check();
}

#[test]
fn a_second_run_of_the_job_is_refused() {
    let job = Job::in_directory("at_least_once");
    job.write("other.yaml", "elsewhere");
    let other = job.place.read("other.yaml").replace("results.jsonl", "other.jsonl");
    job.place.write("other.yaml", other);
    let arguments = |config| [["run", "--config"], [config, "--log"]].concat();
    let mut command = job.command(&[&arguments("c.yaml")[..], &["info"]].concat());
    let mut first = Live::start(&mut command);
    job.wait_for_checkpoint(&first, 2);
    first.signal(libc::SIGSTOP);
    let mut second = Live::start(&mut job.command(&[&arguments("other.yaml")[..], &["info"]].concat()));
    let newest = *job.published().last().expect("there are some");
    job.wait_for_checkpoint(&second, newest + 2);
    first.signal(libc::SIGCONT);
    let (code, said) = first.end_within(PATIENCE);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("another run of the job has taken over"), "{said}");
    let (code, said) = second.end_within(PATIENCE);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn all_processes_of_a_job_go_on_from_one_store() {
    let job = Job::in_directory("at_least_once");
    hostfile(&job.place);
    let start = |process: &str| {
        let arguments = ["--config", "c.yaml", "-w", "1", "-n", "2", "-p", process, "-h", "hosts"];
        Live::start(&mut job.command(&arguments))
    };
    let mut processes = [start("0"), start("1")];
    job.wait_for_checkpoint(&processes[0], 3);
    processes.iter().for_each(|process| process.signal(libc::SIGKILL));
    processes.iter_mut().for_each(|process| drop(process.end_within(PATIENCE)));
    job.forget();
    let mut processes = [start("0"), start("1")];
    for process in &mut processes {
        let (code, said) = process.end_within(PATIENCE);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("going on from checkpoint"), "{said}");
    }
    for process in ["process-0", "process-1"] {
        assert!(job.place.path("state/checkpoints").join(process).is_dir());
    }
    let texts = ["results.jsonl", "results.1.jsonl"].map(|name| job.place.read(name));
    check_results(without_times(&texts.concat()), "at_least_once");
    let verified = job.tool(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn a_url_that_cannot_be_is_refused_before_anything_is_opened() {
    let job = Job::in_directory("at_least_once");
    for url in ["http://host/bucket", "s3:///prefix", "s3://key:secret@bucket/x"] {
        let text = job.place.read("c.yaml").replace(&job.url, url);
        job.place.write("bad.yaml", text);
        let said = job.place.run(&["run", "--config", "bad.yaml"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("state.checkpoint_path: ") && !said.err.contains("secret"), "{said:?}");
        let said = job.place.run(&["checkpoints", "list", "--path", url]);
        assert!(said.code == Some(2) && said.err.contains("--path: "), "{said:?}");
    }
}
