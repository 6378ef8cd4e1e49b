//! Jobs of two and three processes, one of which is killed at a random moment: the others notice and end, the group begins again,
//! whatever its size, and what a reader sees in the end is what a run that was never killed gives.

use crate::program::Program;
use crate::recovery::{KINDS, Story, a_while};
use rand::RngExt;
use std::time::{Duration, Instant};

/// How often a process of each kind of job is killed, by its delivery: in all tests 15 of them, and in the long run 102.
fn kills(delivery: &str) -> usize {
    match (std::env::var_os("LONG_TESTS").is_some(), delivery) {
        (true, _) => 17,
        (false, "exactly_once") => 3,
        (false, _) => 2,
    }
}

/// With what a process ends that has lost another.
const RESTART: Option<i32> = Some(75);
/// How long the others take to notice and to end: a link that breaks is noticed at once.
const NOTICED: Duration = Duration::from_secs(10);

fn survives(kind: usize, delivery: &'static str, seed: u64) {
    let (name, windows) = KINDS[kind];
    let story = Story::new(&format!("cluster-{name}"), windows, delivery, seed);
    survives_with(story, kills(delivery), |story| (story.rng().random_range(2..=3), story.rng().random_range(1..=2)));
}

/// Where each process has a directory of checkpoints of its own the group is of one size.
fn survives_apart(kind: usize, delivery: &'static str, seed: u64) {
    let (name, windows) = KINDS[kind];
    let story = Story::new(&format!("apart-{name}"), windows, delivery, seed).with_own_directories();
    survives_with(story, kills(delivery), |_| (2, 1));
}

fn survives_with(mut story: Story, kills: usize, mut size: impl FnMut(&mut Story) -> (usize, usize)) {
    let mut gone_on = 0;
    for _ in 0..kills {
        let (processes, workers) = size(&mut story);
        let mut group = story.start_group(processes, workers);
        let until = Instant::now() + a_while(story.rng(), 1_500, 5_000);
        while Instant::now() < until {
            story.feed();
            std::thread::sleep(Duration::from_millis(40));
        }
        let victim = story.rng().random_range(0..processes);
        let mut killed = group.remove(victim);
        killed.kill();
        gone_on += usize::from(killed.log().contains("going on from checkpoint"));
        for mut left in group {
            let ended = left.wait();
            assert_eq!(ended.code, RESTART, "{}", ended.log);
            assert!(ended.took < NOTICED, "it took {:?}: {}", ended.took, ended.log);
            assert!(!ended.log.contains("panicked"), "{}", ended.log);
        }
    }
    assert!(gone_on > 0, "none of {kills} groups went on from a checkpoint");
    story.feed();
    story.close();
    let mut group = story.start_group(2, 1);
    let mut first = group.remove(0);
    story.wait_for_last_windows(&mut first);
    group.push(first);
    group.iter().for_each(Program::ask_to_end);
    for mut process in group {
        let ended = process.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
    story.check();
}

#[test]
fn tumbling_windows_come_exactly_once() {
    survives(0, "exactly_once", 61);
}

#[test]
fn sliding_windows_come_exactly_once() {
    survives(1, "exactly_once", 62);
}

#[test]
fn sessions_come_exactly_once() {
    survives(2, "exactly_once", 63);
}

#[test]
fn tumbling_windows_come_at_least_once() {
    survives(0, "at_least_once", 64);
}

#[test]
fn sliding_windows_come_at_least_once() {
    survives(1, "at_least_once", 65);
}

#[test]
fn sessions_come_at_least_once() {
    survives(2, "at_least_once", 66);
}

#[test]
fn each_with_a_directory_of_its_own_tumbling_windows_come_exactly_once() {
    survives_apart(0, "exactly_once", 67);
}

#[test]
fn each_with_a_directory_of_its_own_sessions_come_at_least_once() {
    survives_apart(2, "at_least_once", 68);
}
