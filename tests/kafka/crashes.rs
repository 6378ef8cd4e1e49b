//! Jobs that are killed at random moments, and started again with whatever number of workers: what a reader sees in the end is what
//! a run that was never killed gives, and what a reader has seen on the way is still there.

use crate::recovery::{KINDS, Story, a_while};
use kafka_broker::ReadRecord;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a job of each kind and delivery is killed: in all tests, and in the long run.
const KILLS: [usize; 2] = [5, 50];

fn kills() -> usize {
    KILLS[usize::from(std::env::var_os("LONG_TESTS").is_some())]
}

fn survives(kind: usize, delivery: &'static str, seed: u64) {
    let (name, windows) = KINDS[kind];
    let mut story = Story::new(&format!("crash-{name}"), windows, delivery, seed);
    let over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (broker, results, over) = (story.broker, story.results.clone(), Arc::clone(&over));
        std::thread::spawn(move || broker.follow(&results, || over.load(Ordering::SeqCst)))
    };
    let mut gone_on = 0;
    for _ in 0..kills() {
        let workers = story.rng().random_range(1..=3);
        let mut program = story.start(workers, None);
        let until = Instant::now() + a_while(story.rng(), 200, 2_500);
        while Instant::now() < until {
            story.feed();
            std::thread::sleep(Duration::from_millis(40));
        }
        program.kill();
        gone_on += usize::from(program.log().contains("going on from checkpoint"));
    }
    assert!(gone_on * 2 >= kills(), "only {gone_on} of {} runs went on from a checkpoint", kills());
    story.feed();
    story.close();
    let workers = story.rng().random_range(1..=3);
    story.finish(story.start(workers, None));
    story.check();
    over.store(true, Ordering::SeqCst);
    nothing_vanished(&reader.join().expect("the reader reads"), &story.broker.read_all(&story.results));
}

/// Each record that a reader has seen is in the topic in the end.
fn nothing_vanished(seen: &[ReadRecord], there: &[ReadRecord]) {
    assert!(!seen.is_empty());
    let there: BTreeMap<_, _> = there.iter().map(|record| ((record.partition, record.offset), record)).collect();
    for record in seen {
        assert_eq!(
            there.get(&(record.partition, record.offset)),
            Some(&record),
            "it was seen, and is not there any more"
        );
    }
}

#[test]
fn tumbling_windows_come_exactly_once() {
    survives(0, "exactly_once", 1);
}

#[test]
fn sliding_windows_come_exactly_once() {
    survives(1, "exactly_once", 2);
}

#[test]
fn sessions_come_exactly_once() {
    survives(2, "exactly_once", 3);
}

#[test]
fn tumbling_windows_come_at_least_once() {
    survives(0, "at_least_once", 4);
}

#[test]
fn sliding_windows_come_at_least_once() {
    survives(1, "at_least_once", 5);
}

#[test]
fn sessions_come_at_least_once() {
    survives(2, "at_least_once", 6);
}
