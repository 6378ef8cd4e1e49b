//! `processor launch`: the processes of a machine as one.

use super::cluster::{ORDERLY, hostfile};
use super::program::{EVENTS, Live, Place, RESULTS, config, eventually, without_times};
use std::time::Duration;

/// The end of a group takes less than this, after a process of it was killed.
const GROUP_END: Duration = Duration::from_secs(30);

fn launch(place: &Place, further: &[&str]) -> Live {
    let arguments = ["launch", "-n", "2", "-w", "1", "--hostfile", "hosts", "--config", "c.yaml"];
    Live::start(&mut place.command(&[&arguments, further].concat()))
}

/// The process numbers of the group that was started last, when so many were.
pub fn members(launched: &Live, groups: usize) -> Vec<libc::pid_t> {
    eventually("group", || {
        let err = launched.err();
        let started: Vec<&str> = err.lines().filter(|line| line.contains("started: process 0 (pid ")).collect();
        let Some(line) = started.get(groups - 1) else { return Err(err) };
        Ok(line.split("(pid ").skip(1).map(|rest| rest.split(')').next().unwrap().parse().unwrap()).collect())
    })
}

pub fn signal(process: libc::pid_t, signal: libc::c_int) {
    // SAFETY: kill takes two integers; the process is a child of the program that this test has started.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0, "process {process} is there");
}

/// Whether a process is there that has not ended; nobody may have waited for it.
fn is_running(process: libc::pid_t) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// A job that never ends, with checkpoints.
fn endless() -> Place {
    let place = Place::new();
    hostfile(&place);
    let job = config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl, mode: append}]")
        .replace("size: 1m", "size: 100ms")
        .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 0s");
    let state =
        "  state: {backend: rocksdb, path: state, checkpoint_path: checkpoints}\n  checkpoint_interval: 300ms\n";
    place.write("c.yaml", job + state);
    place
}

fn has_checkpoint(place: &Place, number: u64) -> bool {
    (number..number + 1_000).any(|number| place.path("checkpoints").join(format!("{number}/manifest.json")).is_file())
}

#[test]
fn processes_that_would_listen_at_one_address_are_not_launched() {
    let place = Place::new();
    hostfile(&place);
    place.write("c.yaml", config("stdin", "[{type: stdout}]"));
    let arguments = ["launch", "-n", "2", "-w", "1", "--hostfile", "hosts", "--config", "c.yaml"];
    let said = place.run_with(&arguments, &[("PROCESSOR_CLUSTER__LISTEN", "0.0.0.0:2101")]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("2 processes are to be launched here, which cannot all listen there"), "{said:?}");
}

#[test]
fn a_job_with_an_end_comes_to_it_with_one_summary() {
    let place = Place::new();
    hostfile(&place);
    place.write("events.jsonl", EVENTS);
    place.write("c.yaml", config("{type: file, paths: [events.jsonl]}", "[{type: stdout}]"));
    let said = place.run(&["launch", "-n", "2", "-w", "1", "--hostfile", "hosts", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(without_times(&said.out), RESULTS);
    let summaries: Vec<&str> = said.err.lines().filter(|line| line.contains("late dropped")).collect();
    assert_eq!(summaries.len(), 1, "{}", said.err);
    assert!(
        summaries[0].starts_with("5 events, 3 windows (0 refined), 0 late accepted, 1 late dropped, 1 bad"),
        "{summaries:?}"
    );
    for process in ["[0] ", "[1] "] {
        assert!(said.err.lines().any(|line| line.starts_with(process)), "{}", said.err);
    }
}

#[test]
fn a_log_of_json_stays_one() {
    let place = Place::new();
    hostfile(&place);
    place.write("events.jsonl", EVENTS);
    place.write("c.yaml", config("{type: file, paths: [events.jsonl]}", "[{type: file, path: r.jsonl}]"));
    let said = place.run(&["launch", "-n", "2", "-w", "1", "--hostfile", "hosts", "--config", "c.yaml", "--log-json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let records: Vec<serde_json::Value> =
        said.err.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for process in [0, 1] {
        assert!(records.iter().any(|record| record["process"] == process), "{}", said.err);
    }
    assert_eq!(records.iter().filter(|record| record["message"] == "the run is over").count(), 1, "{}", said.err);
}

#[test]
fn the_group_begins_again_when_one_of_it_is_killed_and_ends_when_it_is_asked_to() {
    let place = endless();
    let mut launched = launch(&place, &[]);
    eventually("checkpoint", || if has_checkpoint(&place, 1) { Ok(()) } else { Err(launched.err()) });
    signal(members(&launched, 1)[1], libc::SIGKILL);
    let again = members(&launched, 2);
    assert!(
        launched.err().contains("process 1 was killed by signal 9; the group begins again in 1 s"),
        "{}",
        launched.err()
    );
    launched.wait_for("going on from checkpoint");
    let written = place.read("r.jsonl").len();
    eventually("further results", || if place.read("r.jsonl").len() > written { Ok(()) } else { Err(launched.err()) });
    launched.signal(libc::SIGTERM);
    let (code, err) = launched.end_within(ORDERLY);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(err.matches(" late dropped").count(), 1, "one summary: {err}");
    assert!(err.contains("the group was started again 1 times"), "{err}");
    assert!(again.into_iter().all(|process| !is_running(process)));
}

#[test]
fn one_that_does_not_end_with_the_others_is_killed() {
    let place = endless();
    let job = place.read("c.yaml") + "  cluster: {failure_timeout: 1s}\n";
    place.write("c.yaml", job);
    let launched = launch(&place, &[]);
    eventually("checkpoint", || if has_checkpoint(&place, 1) { Ok(()) } else { Err(launched.err()) });
    let first = members(&launched, 1);
    signal(first[0], libc::SIGSTOP);
    signal(first[1], libc::SIGKILL);
    launched.wait_for("process 0 has not ended with the others: it is killed");
    members(&launched, 2);
}

#[test]
fn what_cannot_work_is_not_tried_again() {
    let place = Place::new();
    hostfile(&place);
    place.write("events.jsonl", EVENTS);
    place.write("c.yaml", config("{type: file, paths: [events.jsonl]}", "[{type: stdout}]"));
    let begun = std::time::Instant::now();
    let said = place.run(&["launch", "-n", "3", "--hostfile", "hosts", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("hosts: -n 3 processes need 3 addresses, one a line, and there are 2"), "{}", said.err);
    place.write("elsewhere", "198.51.100.1:2101\nno-such-host.invalid:2101\n");
    let said = place.run(&["launch", "-n", "2", "--hostfile", "elsewhere", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("none of the job's addresses is this machine's"), "{}", said.err);
    // Something that the processes find out themselves.
    place.write("c.yaml", config("{type: file, paths: [absent.jsonl]}", "[{type: stdout}]"));
    let said = place.run(&[
        "launch",
        "-n",
        "2",
        "-w",
        "1",
        "--hostfile",
        "hosts",
        "--config",
        "c.yaml",
        "--max-restarts",
        "1",
    ]);
    assert!(said.code == Some(2) || said.code == Some(1), "{:?} {}", said.code, said.err);
    assert!(begun.elapsed() < GROUP_END, "{}", said.err);
}

#[test]
fn nothing_is_left_when_it_is_killed_itself() {
    let place = endless();
    let mut launched = launch(&place, &[]);
    eventually("checkpoint", || if has_checkpoint(&place, 1) { Ok(()) } else { Err(launched.err()) });
    let group = members(&launched, 1);
    launched.signal(libc::SIGKILL);
    let _ = launched.end_within(GROUP_END);
    eventually("end of the group", || match group.iter().any(|process| is_running(*process)) {
        true => Err("a process is there".to_owned()),
        false => Ok(()),
    });
}
