//! The broker goes away in the middle of commits, and comes back: what a reader sees in the end is what a run gives whose broker
//! was always there.

use crate::program::{PATIENCE, Program};
use crate::recovery::{KINDS, Story, a_while};
use kafka_broker::Broker;
use std::time::{Duration, Instant};

/// How often the broker goes away.
const OUTAGES: usize = 3;

/// Feeds until this many checkpoints of the run are published.
fn feed_until_published(story: &mut Story, program: &mut Program, count: f64) {
    let until = Instant::now() + PATIENCE;
    while program.metric("checkpoints_total", &[("outcome", "published")]) < count {
        assert!(Instant::now() < until && program.is_alive(), "{}", program.log());
        story.feed();
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// Runs one job over all outages of its broker, which ends as `end` does.
fn survives(kind: usize, seed: u64, end: impl Fn(&Broker)) {
    // It is killed below, and with the tests' process if they fail.
    let broker: &'static Broker = Box::leak(Box::new(Broker::start()));
    let (name, windows) = KINDS[kind];
    let mut story = Story::on(broker, &format!("commits-{name}"), windows, "exactly_once", seed);
    let mut program = story.start(2, None);
    for outage in 0..OUTAGES {
        let published = program.metric("checkpoints_total", &[("outcome", "published")]);
        feed_until_published(&mut story, &mut program, published + 2.0);
        // At any point of the next commit.
        for _ in 0..4 {
            story.feed();
        }
        std::thread::sleep(a_while(story.rng(), 0, 300));
        end(broker);
        std::thread::sleep(a_while(story.rng(), 200, 2_000));
        // Once the job dies while there is no broker.
        if outage == OUTAGES / 2 {
            program.kill();
        }
        broker.restart();
        if outage == OUTAGES / 2 {
            program = story.start(3, None);
        }
        assert!(program.is_alive(), "{}", program.log());
    }
    story.feed();
    story.close();
    story.finish(program);
    story.check();
    broker.kill();
}

#[test]
fn a_broker_that_is_restarted_in_the_middle_of_commits_gets_every_result_once() {
    survives(0, 41, Broker::stop);
}

#[test]
fn a_broker_that_is_killed_in_the_middle_of_commits_gets_every_result_once() {
    survives(1, 42, Broker::kill);
}
