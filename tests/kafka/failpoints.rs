//! The job dies at each step of the protocol, and at each pair of steps in two runs that follow each other; what is read in the end is
//! what a run that was never killed gives.

use crate::program::Program;
use crate::recovery::{KINDS, Story};
use rand::RngExt;
use std::time::{Duration, Instant};

/// The steps, in their order.
const STEPS: [&str; 15] = [
    "cut",
    "stash",
    "batch_written",
    "rocksdb_checkpoint_made",
    "fsynced",
    "report",
    "manifest_written",
    "renamed",
    "transaction_begun",
    "outbox_sent",
    "marker_sent",
    "commit_sent",
    "commit_answered",
    "outbox_deleted",
    "old_checkpoint_removed",
];

/// How long a job may live that is to die at a step.
const LIFE: Duration = Duration::from_secs(40);

/// Runs the job until it dies at this step.
fn die_at(story: &mut Story, step: &str) {
    // The first times are those of the start; some later one is as good as any other.
    let pass = story.rng().random_range(1..=4);
    let slow = match step {
        // Rows wait where one worker reads on while another has not made its cut.
        "stash" => ",cut=200",
        _ => "",
    };
    let mut program = story.start(3, Some(&format!("{step}:{pass}{slow}")));
    let until = Instant::now() + LIFE;
    while program.is_alive() {
        assert!(Instant::now() < until, "{step}: the job has not come there:\n{}", program.log());
        story.feed();
        std::thread::sleep(Duration::from_millis(30));
    }
    let log = program.log();
    assert!(log.contains(&format!("failpoint {step}:")), "{step}: it died for another reason:\n{log}");
}

fn end_well(mut story: Story) {
    story.feed();
    story.close();
    let program: Program = story.start(2, None);
    story.finish(program);
    story.check();
}

#[test]
fn a_job_that_dies_at_any_step_goes_on_from_there() {
    let (name, windows) = KINDS[0];
    let mut story = Story::new(&format!("steps-{name}"), windows, "exactly_once", 11);
    for step in STEPS {
        die_at(&mut story, step);
    }
    end_well(story);
}

#[test]
fn a_job_that_dies_at_two_steps_in_a_row_goes_on_from_there() {
    if std::env::var_os("LONG_TESTS").is_none() {
        return;
    }
    for (number, first) in STEPS.into_iter().enumerate() {
        let (name, windows) = KINDS[number % KINDS.len()];
        let mut story = Story::new(&format!("pairs-{name}"), windows, "exactly_once", 100 + number as u64);
        for second in STEPS {
            die_at(&mut story, first);
            die_at(&mut story, second);
        }
        end_well(story);
    }
}
