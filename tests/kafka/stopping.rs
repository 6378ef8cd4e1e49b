//! Jobs that are asked to end before their broker has answered: they end soon, in order, and lose nothing.

use crate::program::Program;
use crate::recovery::{KINDS, Story};
use kafka_broker::Broker;
use std::time::Duration;

/// How soon a job ends that has nothing to wait for but a question to the broker that is under way.
const SOON: Duration = Duration::from_secs(6);

/// Starts the job, lets it wait for the broker, and asks it to end.
fn starts_in_vain(story: &Story, workers: usize) {
    let mut program = story.start(workers, None);
    program.wait_until("the pages", |program| !program.page("/health").is_empty());
    std::thread::sleep(Duration::from_millis(300));
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.took < SOON, "it took {:?}: {}", ended.took, ended.log);
    assert!(ended.log.contains("0 events"), "{}", ended.log);
    assert!(!ended.log.contains("WARN checkpoint"), "{}", ended.log);
}

/// Enough for a test.
fn feed(story: &mut Story) {
    (0..4).for_each(|_| story.feed());
}

fn published(program: &Program) -> f64 {
    program.metric("checkpoints_total", &[("outcome", "published")])
}

fn loses_nothing(delivery: &'static str, seed: u64) {
    let broker: &'static Broker = Box::leak(Box::new(Broker::start()));
    let mut story = Story::on(broker, &format!("in-vain-{delivery}"), KINDS[0].1, delivery, seed);
    feed(&mut story);
    broker.pause();
    starts_in_vain(&story, 2);
    broker.resume();
    let mut program = story.start(2, None);
    program.wait_until("some checkpoints", |program| published(program) >= 3.0);
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    feed(&mut story);
    broker.pause();
    for workers in [1, 3] {
        starts_in_vain(&story, workers);
    }
    broker.resume();
    feed(&mut story);
    story.close();
    let program = story.start(2, None);
    story.finish(program);
    story.check();
    broker.kill();
}

#[test]
fn a_job_that_is_stopped_before_its_broker_answers_loses_nothing_at_least_once() {
    loses_nothing("at_least_once", 51);
}

#[test]
fn a_job_that_is_stopped_before_its_broker_answers_loses_and_doubles_nothing_exactly_once() {
    loses_nothing("exactly_once", 52);
}
