//! Schedules: made from a seed, run, and made smaller.

use crate::rules::Broken;
use crate::world::{Action, Violation, World};
use std::fmt;

/// So many things happen, while things go wrong.
const STEPS: std::ops::Range<u64> = 40..400;
/// So many more are enough to come to an end.
const ENOUGH: usize = 4_000;

/// Which of the things that may happen does, one after the other.
#[derive(Clone, Debug)]
pub struct Schedule {
    choices: Vec<u32>,
}

/// A schedule that goes wrong.
pub struct Failure {
    violation: Violation,
    story: Vec<String>,
    /// The length of the schedule.
    pub chosen: usize,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (after {} chosen steps)", self.violation, self.chosen)?;
        self.story.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Schedule {
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let steps = STEPS.start + random.next() % (STEPS.end - STEPS.start);
        Schedule { choices: (0..steps).map(|_| random.next() as u32).collect() }
    }

    pub fn run(&self, broken: Option<Broken>) -> Result<(), Failure> {
        let mut world = World::new(broken);
        let result = self.go_wrong(&mut world).and_then(|()| come_to_an_end(&mut world));
        let chosen = self.choices.len();
        result.map_err(|violation| Failure { violation, story: std::mem::take(&mut world.story), chosen })
    }

    fn go_wrong(&self, world: &mut World) -> Result<(), Violation> {
        let mut actions = Vec::new();
        for choice in &self.choices {
            world.actions(true, &mut actions);
            if let Some(action) = choose(&actions, *choice) {
                world.act(action)?;
            }
        }
        Ok(())
    }
}

fn choose(actions: &[(Action, u32)], choice: u32) -> Option<Action> {
    let total: u32 = actions.iter().map(|(_, weight)| weight).sum();
    let mut left = choice.checked_rem(total)?;
    let chosen = actions.iter().find(|(_, weight)| {
        let is_it = left < *weight;
        left = if is_it { left } else { left - weight };
        is_it
    });
    chosen.map(|(action, _)| *action)
}

/// Nothing goes wrong any more, and what can happen does.
fn come_to_an_end(world: &mut World) -> Result<(), Violation> {
    world.story.push("-- from here on nothing goes wrong".to_owned());
    world.repair();
    let mut actions: Vec<(Action, u32)> = Vec::new();
    let mut starts = 0;
    let mut random = Random(0);
    for _ in 0..ENOUGH {
        if !world.has_living_run() && !world.is_finished() {
            starts += 1;
            if starts > 12 {
                return Err("nobody can start the job any more".to_owned());
            }
            world.try_start(starts, 1 + (starts % 3) as u16);
        }
        world.actions(false, &mut actions);
        match choose(&actions, random.next() as u32) {
            None if world.is_finished() => return world.check_end(),
            None => {}
            Some(action) => world.act(action)?,
        }
    }
    Err("the job does not come to its end".to_owned())
}

/// Leaves out what is not needed for it to go wrong.
pub fn shrink(schedule: Schedule, broken: Option<Broken>) -> Failure {
    let mut smallest = schedule;
    let mut failure = smallest.run(broken).expect_err("only what goes wrong is made smaller");
    let mut size = smallest.choices.len();
    while size > 0 {
        let mut at = 0;
        while at < smallest.choices.len() {
            let mut candidate = smallest.clone();
            candidate.choices.drain(at..(at + size).min(smallest.choices.len()));
            match candidate.run(broken) {
                Err(found) => (smallest, failure) = (candidate, found),
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    failure
}
