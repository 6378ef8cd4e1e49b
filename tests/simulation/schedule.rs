//! Schedules: made from a seed, run, and made smaller.

use crate::rules::{Broken, Generations};
use crate::world::{Action, Odds, Violation, World};
use llm_optimizer_processor::checkpoint::Placement;
use std::fmt;

/// So many things happen, while things go wrong.
const STEPS: std::ops::Range<u64> = 40..400;
/// So many more are enough to come to an end.
const ENOUGH: usize = 6_000;

/// What happens, one after the other; what is not possible when it is its turn is left out.
pub struct Schedule {
    generations: Generations,
    placement: Placement,
    actions: Vec<Action>,
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

/// Runs the schedule of a seed. The error has what happened.
pub fn run_seed(seed: u64, broken: Option<Broken>) -> Result<(), Schedule> {
    let generations = match broken {
        Some(_) => Generations::Starts,
        None => Generations::ALL[(seed % 3) as usize],
    };
    let placement = match (broken, seed / 3 % 4) {
        (Some(Broken::CommitUnprepared), _) => Placement::PerProcess,
        (None, 0) if generations != Generations::CheckpointsAlone => Placement::PerProcess,
        _ => Placement::Shared,
    };
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let steps = STEPS.start + random.next() % (STEPS.end - STEPS.start);
    let calm = [1, 2, 5, 12][(random.next() % 4) as usize];
    let odds = Odds { calm, awake: [1, 2 * calm][(random.next() % 2) as usize] };
    let mut world = World::new(generations, placement, broken);
    let mut schedule = Schedule { generations, placement, actions: Vec::new() };
    let mut possible = Vec::new();
    let mut result = Ok(());
    for _ in 0..steps {
        world.actions(Some(odds), &mut possible);
        let Some(action) = choose(&possible, random.next() as u32) else { continue };
        schedule.actions.push(action);
        result = world.act(action);
        if result.is_err() {
            break;
        }
    }
    result.and_then(|()| come_to_an_end(&mut world)).map_err(|_| schedule)
}

impl Schedule {
    fn run(&self, broken: Option<Broken>) -> Result<(), Failure> {
        let mut world = World::new(self.generations, self.placement, broken);
        let mut chosen = 0;
        let result = self.go_wrong(&mut world, &mut chosen).and_then(|()| come_to_an_end(&mut world));
        result.map_err(|violation| Failure { violation, story: std::mem::take(&mut world.story), chosen })
    }

    fn go_wrong(&self, world: &mut World, chosen: &mut usize) -> Result<(), Violation> {
        let mut possible = Vec::new();
        for action in &self.actions {
            world.actions(Some(Odds { calm: 1, awake: 1 }), &mut possible);
            if possible.iter().any(|(other, _)| other == action) {
                *chosen += 1;
                world.act(*action)?;
            }
        }
        Ok(())
    }

    /// Leaves out what is not needed for it to go wrong.
    pub fn shrink(mut self, broken: Option<Broken>) -> Failure {
        let mut failure = self.run(broken).expect_err("only what goes wrong is made smaller");
        loop {
            let before = self.actions.len();
            let mut size = before;
            while size > 0 {
                let mut at = 0;
                while at < self.actions.len() {
                    let mut actions = self.actions.clone();
                    actions.drain(at..(at + size).min(actions.len()));
                    let candidate = Schedule { actions, ..self };
                    match candidate.run(broken) {
                        Err(found) => (self, failure) = (candidate, found),
                        Ok(()) => at += size,
                    }
                }
                size /= 2;
            }
            if self.actions.len() == before {
                return failure;
            }
        }
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
    for turn in 1..=ENOUGH {
        if turn.is_multiple_of(ENOUGH / 4) && !world.is_finished() {
            world.end_what_hangs();
        }
        if !world.has_living_run() && !world.is_finished() {
            starts += 1;
            if starts > 12 {
                return Err("nobody can start the job any more".to_owned());
            }
            world.try_start(starts, 1 + (starts % 3) as u16);
        }
        world.actions(None, &mut actions);
        match choose(&actions, random.next() as u32) {
            None if world.is_finished() => return world.check_end(),
            None => {}
            Some(action) => world.act(action)?,
        }
    }
    Err("the job does not come to its end".to_owned())
}
