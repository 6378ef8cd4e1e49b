//! When epochs end, and what may be published: the coordinator's decisions, apart from I/O and clocks.
//!
//! The model: one coordinator a job, on its first worker. It hears [`Event`]s and answers with [`Command`]s. An epoch is *open*
//! until the coordinator announces its end; then each worker reports its snapshot; when all have, the checkpoint is published;
//! when it is, the sinks of all processes commit it; only when all have is the next end announced. So at most one checkpoint holds
//! results that are not delivered.
//!
//! Where each process keeps its part of a checkpoint in a directory of its own, publishing is a commit in two phases: all processes
//! *prepare* the checkpoint, each durably; when all have, the first one *commits* it, which is the commit point, and the others when
//! they hear that it is published. What one of them has prepared and nobody committed does not count.
//!
//! How it fails: a worker whose snapshot fails tries again and reports when it has one, and so does the publisher; meanwhile the
//! epoch stays where it is, and the job goes on in the next one. A checkpoint that takes longer than the time-out counts as a
//! failure, for people to see; it is not given up, as everything of a later one would build on it.

use crate::event::WorkerIndex;
use crate::time::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ending {
    /// It is time.
    Periodic,
    /// The run was asked to end: there is no epoch after it.
    Stop,
    /// The input has come to its end: there is no epoch after it.
    Finished,
}

impl Ending {
    /// Whether there is no epoch after it.
    pub fn is_last(self) -> bool {
        self != Ending::Periodic
    }
}

/// What the coordinator hears; `R` is a worker's report of its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<R> {
    /// Time has passed: so much since the run began.
    Tick,
    /// A worker, or a sink, would welcome a checkpoint soon.
    Wanted,
    /// The run was asked to end.
    Stopping,
    /// A worker has read its input to the end.
    Finished(WorkerIndex),
    /// A worker has read nothing before the end was asked for, as it does not know its partitions yet. Without cuts of the
    /// checkpoint that the run began with there can be no other one.
    Unready(WorkerIndex, HasCuts),
    /// A worker's snapshot of an epoch is durable.
    Reported(WorkerIndex, Epoch, R),
    /// A process has durably prepared the checkpoint of an epoch.
    Prepared(ProcessIndex, Epoch),
    /// The checkpoint of an epoch is published.
    Published(Epoch),
    /// All sinks of a process have delivered what the checkpoint of an epoch holds for them.
    Committed(ProcessIndex, Epoch),
}

/// Whether there is a checkpoint whose cuts a worker can hand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HasCuts(pub bool);

/// A process's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessIndex(pub u16);

/// Where the processes of a job have their checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// All in one directory.
    Shared,
    /// Each its part of every checkpoint in a directory of its own, on whichever host it is.
    PerProcess,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<R> {
    /// Tell all workers that this epoch ends.
    Announce(Epoch, Ending),
    /// Have all processes prepare the checkpoint that these snapshots, one a worker, make.
    Prepare(Epoch, Ending, Vec<R>),
    /// Publish the checkpoint that all processes have prepared.
    Commit(Epoch),
    /// Publish the checkpoint that these snapshots, one a worker, make.
    Publish(Epoch, Ending, Vec<R>),
    /// Tell all that the checkpoint is published.
    TellPublished(Epoch, Ending),
    /// Tell all that everything of the last epoch is delivered: they may end.
    TellOver(Epoch),
    /// Say that the checkpoint takes longer than it should.
    Overdue(Epoch),
}

/// How many take part, and when checkpoints are taken.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Workers of all processes.
    pub workers: usize,
    /// Processes.
    pub processes: usize,
    /// Where these have their checkpoints.
    pub placement: Placement,
    /// The time from the end of one checkpoint's epoch to the next; `None`: at the end of the run alone.
    pub interval: Option<Duration>,
    /// How long a checkpoint may take until it counts as overdue.
    pub timeout: Duration,
    /// The least time between two checkpoints that are taken because somebody would welcome them.
    pub least_pause: Duration,
}

#[derive(Debug)]
enum Phase<R> {
    /// Nobody was told that the epoch ends.
    Open,
    /// Its end is announced.
    Ending(BTreeMap<WorkerIndex, R>),
    /// All workers have reported; these processes have prepared it.
    Preparing(BTreeSet<ProcessIndex>),
    /// It is about to count.
    Publishing,
    /// The checkpoint counts.
    Delivering(BTreeSet<ProcessIndex>),
    /// The last epoch is delivered.
    Over,
}

/// The coordinator.
#[derive(Debug)]
pub struct Coordinator<R> {
    rules: Rules,
    /// The epoch that is open or ends.
    epoch: Epoch,
    phase: Phase<R>,
    ending: Ending,
    /// When the last end was announced, or the run began.
    announced_at: Duration,
    overdue: bool,
    wanted: bool,
    stopping: bool,
    finished: BTreeSet<WorkerIndex>,
    unready: BTreeSet<WorkerIndex>,
}

impl<R> Coordinator<R> {
    /// Of a run that begins with this epoch.
    pub fn new(rules: Rules, first: Epoch) -> Self {
        Self {
            rules,
            epoch: first,
            phase: Phase::Open,
            ending: Ending::Periodic,
            announced_at: Duration::ZERO,
            overdue: false,
            wanted: false,
            stopping: false,
            finished: BTreeSet::new(),
            unready: BTreeSet::new(),
        }
    }

    /// Hears of something, `now` after the beginning of the run. Answers with what is to be done, in order.
    pub fn hear(&mut self, event: Event<R>, now: Duration) -> Vec<Command<R>> {
        match event {
            Event::Tick => {}
            Event::Wanted => self.wanted = true,
            Event::Stopping => self.stopping = true,
            Event::Finished(worker) => {
                self.finished.insert(worker);
            }
            Event::Unready(worker, HasCuts(has_cuts)) => {
                self.unready.insert(worker);
                let is_pointless = !has_cuts || self.unready.len() == self.rules.workers;
                if is_pointless && self.stopping && matches!(self.phase, Phase::Open | Phase::Ending(_)) {
                    self.phase = Phase::Over;
                    return vec![Command::TellOver(self.epoch)];
                }
            }
            Event::Reported(worker, epoch, report) => {
                if let Phase::Ending(reports) = &mut self.phase
                    && epoch == self.epoch
                {
                    reports.insert(worker, report);
                }
            }
            Event::Prepared(process, epoch) => {
                if let Phase::Preparing(processes) = &mut self.phase
                    && epoch == self.epoch
                {
                    processes.insert(process);
                }
            }
            Event::Published(epoch) => {
                if matches!(self.phase, Phase::Publishing) && epoch == self.epoch {
                    self.phase = Phase::Delivering(BTreeSet::new());
                    return vec![Command::TellPublished(epoch, self.ending)];
                }
            }
            Event::Committed(process, epoch) => {
                if let Phase::Delivering(processes) = &mut self.phase
                    && epoch == self.epoch
                {
                    processes.insert(process);
                }
            }
        }
        self.decide(now)
    }

    fn decide(&mut self, now: Duration) -> Vec<Command<R>> {
        match &mut self.phase {
            Phase::Open => self.end_if_due(now),
            Phase::Ending(reports) if reports.len() == self.rules.workers => {
                let reports = std::mem::take(reports).into_values().collect();
                match self.rules.placement {
                    Placement::Shared => {
                        self.phase = Phase::Publishing;
                        vec![Command::Publish(self.epoch, self.ending, reports)]
                    }
                    Placement::PerProcess => {
                        self.phase = Phase::Preparing(BTreeSet::new());
                        vec![Command::Prepare(self.epoch, self.ending, reports)]
                    }
                }
            }
            Phase::Preparing(processes) if processes.len() == self.rules.processes => {
                self.phase = Phase::Publishing;
                vec![Command::Commit(self.epoch)]
            }
            Phase::Delivering(processes) if processes.len() == self.rules.processes => {
                let delivered = self.epoch;
                if self.ending.is_last() {
                    self.phase = Phase::Over;
                    return vec![Command::TellOver(delivered)];
                }
                self.phase = Phase::Open;
                self.epoch = delivered.next();
                self.end_if_due(now)
            }
            Phase::Ending(_) | Phase::Preparing(_) | Phase::Publishing | Phase::Delivering(_) => {
                let late = now.saturating_sub(self.announced_at) >= self.rules.timeout;
                match late && !std::mem::replace(&mut self.overdue, late) {
                    true => vec![Command::Overdue(self.epoch)],
                    false => Vec::new(),
                }
            }
            Phase::Over => Vec::new(),
        }
    }

    /// Announces the end of the open epoch, if there is a reason.
    fn end_if_due(&mut self, now: Duration) -> Vec<Command<R>> {
        let since = now.saturating_sub(self.announced_at);
        let ending = if self.finished.len() == self.rules.workers {
            Ending::Finished
        } else if self.stopping {
            Ending::Stop
        } else if self.rules.interval.is_some_and(|interval| since >= interval)
            || (self.wanted && since >= self.rules.least_pause)
        {
            Ending::Periodic
        } else {
            return Vec::new();
        };
        self.phase = Phase::Ending(BTreeMap::new());
        (self.ending, self.announced_at, self.overdue, self.wanted) = (ending, now, false, false);
        vec![Command::Announce(self.epoch, ending)]
    }

    /// The epoch that is open, or whose checkpoint is being made.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Since when a checkpoint is under way, if one is.
    pub fn pending_since(&self) -> Option<Duration> {
        let is_pending = !matches!(self.phase, Phase::Open | Phase::Over);
        is_pending.then_some(self.announced_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        workers: 2,
        processes: 1,
        placement: Placement::Shared,
        interval: Some(Duration::from_secs(10)),
        timeout: Duration::from_secs(60),
        least_pause: Duration::from_secs(1),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn reported(worker: u32, epoch: u64) -> Event<u32> {
        Event::Reported(WorkerIndex(worker), Epoch::new(epoch), worker)
    }

    /// Takes a checkpoint of the open epoch to the end of its delivery.
    fn complete(coordinator: &mut Coordinator<u32>, epoch: u64, ending: Ending, now: u64) -> Vec<Command<u32>> {
        let of = Epoch::new(epoch);
        assert_eq!(coordinator.hear(reported(1, epoch), secs(now)), []);
        assert_eq!(
            coordinator.hear(reported(0, epoch), secs(now)),
            [Command::Publish(of, ending, vec![0, 1])],
            "in the order of workers"
        );
        assert_eq!(coordinator.hear(Event::Published(of), secs(now)), [Command::TellPublished(of, ending)]);
        coordinator.hear(Event::Committed(ProcessIndex(0), of), secs(now))
    }

    #[test]
    fn epochs_end_one_after_the_other() {
        let mut coordinator = Coordinator::new(RULES, Epoch::new(7));
        assert_eq!(coordinator.hear(Event::Tick, secs(9)), []);
        let announce = |epoch| [Command::Announce(Epoch::new(epoch), Ending::Periodic)];
        assert_eq!(coordinator.hear(Event::Tick, secs(10)), announce(7));
        assert_eq!(coordinator.hear(Event::Tick, secs(30)), [], "not before this one is delivered");
        assert_eq!(complete(&mut coordinator, 7, Ending::Periodic, 31), announce(8), "it is late already");
        assert_eq!(complete(&mut coordinator, 8, Ending::Periodic, 32), []);
        assert_eq!(coordinator.epoch(), Epoch::new(9));
    }

    #[test]
    fn what_each_process_keeps_counts_when_all_have_prepared_it() {
        let rules = Rules { processes: 2, placement: Placement::PerProcess, ..RULES };
        let mut coordinator = Coordinator::new(rules, Epoch::new(7));
        let of = Epoch::new(7);
        coordinator.hear(Event::Tick, secs(10));
        assert_eq!(
            coordinator.hear(Event::Prepared(ProcessIndex(0), of), secs(11)),
            [],
            "nothing is to be prepared yet"
        );
        assert_eq!(coordinator.hear(reported(0, 7), secs(11)), []);
        let prepare = [Command::Prepare(of, Ending::Periodic, vec![0, 1])];
        assert_eq!(coordinator.hear(reported(1, 7), secs(11)), prepare);
        assert_eq!(coordinator.hear(Event::Published(of), secs(11)), [], "nobody has committed it");
        for again in [0, 0, 0] {
            assert_eq!(coordinator.hear(Event::Prepared(ProcessIndex(again), of), secs(12)), []);
        }
        assert_eq!(coordinator.hear(Event::Prepared(ProcessIndex(1), Epoch::new(6)), secs(12)), [], "an earlier one");
        assert_eq!(coordinator.hear(Event::Prepared(ProcessIndex(1), of), secs(12)), [Command::Commit(of)]);
        let published = [Command::TellPublished(of, Ending::Periodic)];
        assert_eq!(coordinator.hear(Event::Published(of), secs(12)), published);
        assert_eq!(coordinator.hear(Event::Committed(ProcessIndex(1), of), secs(13)), []);
        assert_eq!(coordinator.hear(Event::Committed(ProcessIndex(0), of), secs(13)), []);
        assert_eq!(coordinator.epoch(), Epoch::new(8));
    }

    #[test]
    fn what_belongs_to_another_epoch_changes_nothing() {
        let mut coordinator = Coordinator::new(RULES, Epoch::new(7));
        coordinator.hear(Event::Tick, secs(10));
        for stale in [reported(0, 6), reported(1, 6), reported(0, 7), reported(0, 7)] {
            assert_eq!(coordinator.hear(stale, secs(11)), []);
        }
        assert_eq!(coordinator.hear(Event::Published(Epoch::new(7)), secs(11)), [], "it is not to be published yet");
        assert_eq!(coordinator.hear(Event::Committed(ProcessIndex(0), Epoch::new(7)), secs(11)), []);
        assert!(matches!(coordinator.hear(reported(1, 7), secs(11))[..], [Command::Publish(..)]));
    }

    #[test]
    fn the_end_of_the_run_is_an_end_without_a_next() {
        let mut coordinator = Coordinator::new(RULES, Epoch::new(0));
        let stop = [Command::Announce(Epoch::new(0), Ending::Stop)];
        assert_eq!(coordinator.hear(Event::Stopping, secs(1)), stop);
        assert_eq!(complete(&mut coordinator, 0, Ending::Stop, 2), [Command::TellOver(Epoch::new(0))]);
        assert_eq!(coordinator.hear(Event::Tick, secs(100)), []);
    }

    #[test]
    fn a_run_that_ends_before_there_is_anything_to_keep_ends_without_a_checkpoint() {
        let of = Epoch::new(0);
        let unready = |worker, has_cuts| Event::Unready(WorkerIndex(worker), HasCuts(has_cuts));
        for has_cuts in [false, true] {
            let mut coordinator = Coordinator::new(RULES, of);
            coordinator.hear(Event::Stopping, secs(1));
            // What was restored needs no new checkpoint where no worker has read anything; where nothing was, there cannot be one.
            match has_cuts {
                true => assert_eq!(coordinator.hear(unready(0, true), secs(1)), []),
                false => assert_eq!(coordinator.hear(reported(0, 0), secs(1)), []),
            }
            assert_eq!(coordinator.hear(unready(1, has_cuts), secs(1)), [Command::TellOver(of)]);
            assert_eq!(coordinator.hear(unready(1, has_cuts), secs(1)), []);
            assert_eq!(coordinator.hear(reported(1, 0), secs(2)), []);
        }
        let mut coordinator = Coordinator::new(RULES, of);
        assert_eq!(coordinator.hear(Event::Tick, secs(10)), [Command::Announce(of, Ending::Periodic)]);
        assert_eq!(coordinator.hear(Event::Stopping, secs(11)), []);
        assert_eq!(
            coordinator.hear(unready(0, false), secs(11)),
            [Command::TellOver(of)],
            "it would never be complete"
        );
        let mut coordinator = Coordinator::new(RULES, of);
        coordinator.hear(Event::Stopping, secs(1));
        assert_eq!(coordinator.hear(unready(1, true), secs(1)), [], "the other one has read something");
        assert_eq!(complete(&mut coordinator, 0, Ending::Stop, 2), [Command::TellOver(of)]);
    }

    #[test]
    fn the_end_of_the_input_waits_for_all_workers_and_for_the_checkpoint_under_way() {
        let mut coordinator = Coordinator::new(RULES, Epoch::new(0));
        coordinator.hear(Event::Tick, secs(10));
        assert_eq!(coordinator.hear(Event::Finished(WorkerIndex(0)), secs(11)), []);
        assert_eq!(coordinator.hear(Event::Finished(WorkerIndex(1)), secs(11)), []);
        let next = [Command::Announce(Epoch::new(1), Ending::Finished)];
        assert_eq!(complete(&mut coordinator, 0, Ending::Periodic, 12), next);
    }

    #[test]
    fn a_checkpoint_that_is_wanted_is_taken_soon_but_not_all_the_time() {
        let mut coordinator: Coordinator<u32> = Coordinator::new(Rules { interval: None, ..RULES }, Epoch::new(0));
        assert_eq!(coordinator.hear(Event::Tick, secs(1_000_000)), []);
        let announced = coordinator.hear(Event::Wanted, secs(1_000_000));
        assert_eq!(announced, [Command::Announce(Epoch::new(0), Ending::Periodic)]);
        assert_eq!(complete(&mut coordinator, 0, Ending::Periodic, 1_000_000), []);
        assert_eq!(coordinator.hear(Event::Wanted, secs(1_000_000)), []);
        assert!(!coordinator.hear(Event::Tick, secs(1_000_001)).is_empty());
    }

    #[test]
    fn one_that_takes_long_is_told_of_once() {
        let mut coordinator: Coordinator<u32> = Coordinator::new(RULES, Epoch::new(0));
        coordinator.hear(Event::Tick, secs(10));
        assert_eq!(coordinator.hear(Event::Tick, secs(69)), []);
        assert_eq!(coordinator.hear(Event::Tick, secs(70)), [Command::Overdue(Epoch::new(0))]);
        assert_eq!(coordinator.hear(Event::Tick, secs(71)), []);
        assert_eq!(coordinator.pending_since(), Some(secs(10)));
    }
}
