//! The protocol of checkpoints and deliveries, through crashes at every step.
//!
//! The model: a schedule is a list of numbers; each chooses one of the things that may happen next: a process takes a step, a request
//! reaches the broker, an answer is lost, a process dies or stops, the job is started once more. Everything decided is decided by
//! the program's own functions: [`llm_optimizer_processor::checkpoint::protocol`] and the coordinator. When the schedule has come
//! to its end nothing goes wrong any more, and the job must come to its end: with exactly the results of a run that was never
//! killed.
//!
//! A failing schedule is made smaller by leaving steps out, and printed. That the simulation can fail is shown by breaking rules.

mod broker;
mod job;
mod process;
mod rules;
mod schedule;
mod world;

use rules::Broken;
use schedule::{Schedule, shrink};

#[test]
fn no_schedule_loses_or_doubles_results() {
    let seeds = if std::env::var_os("LONG_TESTS").is_some() { 1_000_000 } else { 10_000 };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64).min(8);
    let failed = std::thread::scope(|scope| {
        let fails = |seed: &u64| Schedule::of_seed(*seed).run(None).is_err();
        let run = move |thread: u64| (thread..seeds).step_by(threads as usize).find(fails);
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    });
    if let Some(seed) = failed {
        panic!("seed {seed}: {}", shrink(Schedule::of_seed(seed), None));
    }
}

/// Each rule has a reason: without it some schedule goes wrong, and the smallest one found is short enough to read.
#[test]
fn every_rule_is_needed() {
    for broken in Broken::ALL {
        let found = (0..200_000).find(|&seed| Schedule::of_seed(seed).run(Some(broken)).is_err());
        let seed = found.unwrap_or_else(|| panic!("{broken:?} goes unnoticed"));
        let smallest = shrink(Schedule::of_seed(seed), Some(broken));
        let steps = smallest.chosen;
        println!("{broken:?}, seed {seed}: {smallest}");
        assert!(steps <= 120, "{broken:?} takes {steps} steps to show");
    }
}
