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
mod parts;
mod process;
mod rules;
mod schedule;
mod world;

use rules::Broken;
use schedule::run_seed;

#[test]
fn no_schedule_loses_or_doubles_results() {
    let seeds = if std::env::var_os("LONG_TESTS").is_some() { 200_000 } else { 10_000 };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64).min(8);
    let failed = std::thread::scope(|scope| {
        let fails = |seed: &u64| run_seed(*seed, None).is_err();
        let run = move |thread: u64| (thread..seeds).step_by(threads as usize).find(fails);
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    });
    if let Some((seed, schedule)) = failed.and_then(|seed| Some((seed, run_seed(seed, None).err()?))) {
        panic!("seed {seed}: {}", schedule.shrink(None));
    }
}

/// Each rule has a reason: without it some schedule goes wrong, and the smallest one found is short enough to read.
#[test]
fn every_rule_is_needed() {
    let smallest_without = |broken: Broken| {
        let found = (0..200_000).find_map(|seed| Some((seed, run_seed(seed, Some(broken)).err()?)));
        let (seed, schedule) = found.unwrap_or_else(|| panic!("{broken:?} goes unnoticed"));
        (broken, seed, schedule.shrink(Some(broken)))
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let searches = Broken::ALL.map(|broken| scope.spawn(move || smallest_without(broken)));
        searches.into_iter().map(|search| search.join().unwrap()).collect()
    });
    for (broken, seed, smallest) in found {
        let steps = smallest.chosen;
        println!("{broken:?}, seed {seed}: {smallest}");
        assert!(steps <= 200, "{broken:?} takes {steps} steps to show");
    }
}
