//! Two processes, each with a directory of checkpoints of its own, as on hosts that share no disk.

use super::cluster::{ORDERLY, hostfile};
use super::interrupted::{Interrupted, PATIENCE, copy};
use super::program::{Live, without_times};
use std::fs;
use std::path::PathBuf;

/// The steps of a checkpoint's end at which a process may die: its copy of the manifest is written, durable, and counts.
const STEPS: [&str; 3] = ["manifest_written", "prepared", "renamed"];

struct Pair {
    job: Interrupted,
}

impl Pair {
    fn new(delivery: &'static str) -> Self {
        let job = Interrupted::new(delivery);
        let yaml = job.place.read("c.yaml").replace("retain: 3", "retain: 3, checkpoint_path_shared: false");
        job.place.write("c.yaml", yaml);
        hostfile(&job.place);
        Self { job }
    }

    /// Starts both with a worker each; `dies` at a place, when it comes there for the third time.
    fn start(&self, dies: Option<(usize, &str)>, threads: usize, further: &[&str]) -> [Live; 2] {
        [0, 1].map(|process| {
            let (index, threads) = (process.to_string(), threads.to_string());
            let mut command =
                self.job.command(&[&["-w", &threads, "-n", "2", "-p", &index, "-h", "hosts"], further].concat());
            if let Some((_, place)) = dies.filter(|(of, _)| *of == process) {
                command.env(llm_optimizer_processor::checkpoint::FAILPOINT_VARIABLE, format!("{place}:3"));
            }
            Live::start(&mut command)
        })
    }

    fn directory(&self, process: usize) -> PathBuf {
        self.job.checkpoints().join(format!("process-{process}"))
    }

    /// The epochs that count in a process's directory, in order.
    fn published(&self, process: usize) -> Vec<u64> {
        let entries = fs::read_dir(self.directory(process)).into_iter().flatten().flatten();
        let published = entries.filter(|entry| entry.path().join("manifest.json").exists());
        let mut epochs: Vec<u64> = published.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        epochs.sort_unstable();
        epochs
    }

    /// Runs until one dies at a place; what both said.
    fn die(&self, process: usize, place: &str) -> String {
        let mut both = self.start(Some((process, place)), 1, &[]);
        let [first, second] = both.each_mut().map(|live| live.end_within(PATIENCE));
        let (died, left) = if process == 0 { (&first, &second) } else { (&second, &first) };
        assert_eq!(died.0, None, "{place} was not come to: {}", died.1);
        assert_eq!(left.0, Some(75), "{}", left.1);
        format!("{}{}", first.1, second.1)
    }

    /// Runs to the end; what both said.
    fn end(&self, threads: usize) -> String {
        let mut both = self.start(None, threads, &[]);
        let mut said = String::new();
        for live in &mut both {
            let (code, err) = live.end_within(PATIENCE);
            assert_eq!(code, Some(0), "{err}");
            said += &err;
        }
        said
    }

    /// Both are refused, or one is and the other notices that.
    fn refused(&self, threads: usize, further: &[&str]) -> String {
        let mut both = self.start(None, threads, further);
        let ends = both.each_mut().map(|live| live.end_within(ORDERLY));
        assert!(ends.iter().any(|(code, _)| *code == Some(78)), "{ends:?}");
        assert!(ends.iter().all(|(code, _)| matches!(code, Some(78 | 75))), "{ends:?}");
        ends.map(|(_, said)| said).concat()
    }

    /// Compares the results of both with those of one process that nobody disturbed.
    fn check(&self) {
        let all = self.job.place.read("results.jsonl") + &self.job.place.read("results.1.jsonl");
        assert!(!without_times(&self.job.place.read("results.1.jsonl")).is_empty());
        self.job.place.write("results.jsonl", all);
        self.job.check();
    }
}

#[test]
fn whichever_process_dies_at_whichever_step_both_go_on_from_the_same() {
    let pair = Pair::new("exactly_once");
    for (process, place) in [0, 1].into_iter().flat_map(|process| STEPS.map(|place| (process, place))) {
        pair.die(process, place);
        let ahead = [0, 1].map(|process| pair.published(process).last().copied());
        // The first process decides; the other's copy may be prepared only.
        assert!(ahead[0] >= ahead[1], "{process} {place}: {ahead:?}");
    }
    let said = pair.end(1);
    assert_eq!(said.matches("going on from checkpoint").count(), 2, "{said}");
    pair.check();
    for process in [0, 1] {
        let path = pair.directory(process);
        let said = pair.job.place.run(&["checkpoints", "verify", "--path", path.to_str().expect("UTF-8")]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let list = || pair.job.place.run(&["checkpoints", "list", "--config", "c.yaml"]);
    let said = list();
    let named = format!("name one of them with --path: {}, ", pair.directory(0).display());
    assert!(said.code == Some(2) && said.err.contains(&named), "{said:?}");
    fs::remove_dir_all(pair.directory(0)).expect("removed");
    let said = list();
    assert!(said.code == Some(0) && said.out.lines().count() == 4 && said.out.contains("ok"), "{said:?}");
}

#[test]
fn what_only_one_has_made_count_counts_for_both() {
    let pair = Pair::new("exactly_once");
    // The first process publishes, and nobody hears of it.
    pair.die(0, "renamed");
    let published = *pair.published(0).last().expect("it was published");
    assert!(pair.published(1).last() < Some(&published), "the other has it prepared");
    let prepared = pair.directory(1).join(format!("{published}/manifest.json.prepared"));
    assert!(prepared.exists());
    let said = pair.end(1);
    assert_eq!(said.matches(&format!("going on from checkpoint {published},")).count(), 2, "{said}");
    pair.check();
}

#[test]
fn a_lost_disk_is_named_and_one_that_comes_back_will_do() {
    let pair = Pair::new("exactly_once");
    pair.die(1, "prepared");
    let (own, elsewhere) = (pair.directory(1), pair.job.place.path("elsewhere"));
    fs::rename(&own, &elsewhere).expect("moved");
    let said = pair.refused(1, &[]);
    let last = pair.published(0).last().copied().expect("there is one");
    let named = format!("process 1 has no checkpoint in {}, and process 0 has checkpoint {last} in", own.display());
    assert!(said.contains(&named), "{said}");
    assert_eq!(pair.published(0).last(), Some(&last), "nothing was removed");
    fs::remove_dir_all(&own).expect("what the refused start has made");
    fs::rename(&elsewhere, &own).expect("moved back");
    pair.end(1);
    pair.check();
}

#[test]
fn where_one_part_is_damaged_both_go_on_from_the_one_before() {
    let pair = Pair::new("at_least_once");
    pair.die(0, "manifest_written");
    let newest = *pair.published(1).last().expect("there is one");
    fs::remove_dir_all(pair.directory(1).join(format!("{newest}/worker-1"))).expect("removed");
    let said = pair.end(1);
    let named = format!("process 1 cannot restore checkpoint {newest} in {}", pair.directory(1).display());
    assert_eq!(said.matches(&named).count(), 2, "{said}");
    assert_eq!(said.matches("going on from checkpoint").count(), 2, "{said}");
    pair.check();
}

#[test]
fn another_number_of_workers_needs_all_parts_in_every_directory() {
    let pair = Pair::new("exactly_once");
    pair.die(0, "manifest_written");
    let said = pair.refused(2, &[]);
    assert!(said.contains("cannot restore checkpoint") && said.contains("worker-"), "{said}");
    let epoch = *pair.published(0).last().expect("there is one");
    for (from, to, worker) in [(0, 1, "worker-0"), (1, 0, "worker-1")] {
        let place = |process| pair.directory(process).join(format!("{epoch}/{worker}"));
        copy(&place(from), &place(to));
    }
    let said = pair.end(2);
    assert_eq!(said.matches(&format!("going on from checkpoint {epoch},")).count(), 2, "{said}");
    pair.check();
}

#[test]
fn processes_that_differ_in_where_checkpoints_are_or_how_to_begin_are_refused() {
    let pair = Pair::new("exactly_once");
    pair.die(0, "prepared");
    let shared = pair.job.place.read("c.yaml").replace("checkpoint_path_shared: false", "checkpoint_path_shared: true");
    pair.job.place.write("shared.yaml", shared);
    let arguments = ["-w", "1", "-n", "2", "-h", "hosts"];
    let first = pair.job.place.command(&[&["run", "--config", "c.yaml", "-p", "0"][..], &arguments].concat());
    let second = pair.job.place.command(&[&["run", "--config", "shared.yaml", "-p", "1"][..], &arguments].concat());
    let ends = [first, second].map(|mut command| Live::start(&mut command)).map(|mut live| live.end_within(ORDERLY));
    let said = ends.map(|(code, said)| format!("{code:?} {said}")).concat();
    assert!(said.contains("state.checkpoint_path_shared is false in process 0, and true in process 1"), "{said}");
    let said = pair.refused(1, &["--from-checkpoint", "77777"]);
    assert!(said.contains("process 0 has no checkpoint 77777 in") && said.contains("; there are "), "{said}");
}
