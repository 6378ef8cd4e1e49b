//! Everything at once: storages, runs, the broker, and the requests between them; what may happen next, and what must hold.

use crate::broker::{Broker, Completed, Outcome, Request};
use crate::job::{Manifest, Place, Storage, Writer, all_results};
use crate::parts::PROCESSES;
use crate::process::{Process, Start, Step};
use crate::rules::{Broken, Generations};
use llm_optimizer_processor::checkpoint::{Command, Coordinator, Event, Placement, ProcessIndex, Rules};
use llm_optimizer_processor::event::WorkerIndex;
use llm_optimizer_processor::sink::{Generation, Shard};
use llm_optimizer_processor::time::Epoch;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

#[path = "publishing.rs"]
mod publishing;

/// So often a job is started while things go wrong.
const MOST_STARTS: usize = 5;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A process does what it can.
    Step(usize, usize),
    /// The coordinator hears of something, or of the time.
    Coordinate(usize),
    /// The publisher writes the manifest.
    Publish(usize),
    /// A process prepares its part of a checkpoint.
    Prepare(usize, usize),
    /// A process makes its part of a published checkpoint count.
    Keep(usize, usize),
    /// The broker does what a process asked, and its answer arrives: the how-many-eth request of it that is on its way.
    Answer(usize, usize, usize),
    /// The same, and the request will come once more.
    AnswerAndKeep(usize, usize, usize),
    /// The answer is lost.
    AnswerIsLost(usize, usize, usize),
    /// A process does not wait for an answer any longer.
    GiveUp(usize, usize),
    /// A commit that was decided is completed.
    Complete(Shard),
    /// The broker's patience with an open transaction ends.
    TimeOut(Shard),
    /// A process ends, as by `kill -9`.
    Crash(usize, usize),
    /// A process stops, as by SIGSTOP.
    Pause(usize, usize),
    /// A stopped process goes on.
    Resume(usize, usize),
    /// A process notices that a peer is gone, and ends.
    Notice(usize, usize),
    /// The job is started from a storage with so many processes.
    Start(usize, u16),
    /// The storage is copied, as for a second cluster.
    Copy,
    /// The newest checkpoint is damaged.
    Damage(usize),
}

/// How likely it is that nothing goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Odds {
    /// How many times likelier than faults everything else is.
    pub calm: u32,
    /// How many times likelier than other faults it is that what is stopped goes on.
    pub awake: u32,
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Message {
    run: usize,
    process: usize,
    number: u32,
    request: Request,
    /// It was answered; this is the same once more.
    is_copy: bool,
}

struct Run {
    storage: usize,
    start: Start,
    processes: Vec<Process>,
    coordinator: Coordinator<u16>,
    words: VecDeque<Event<u16>>,
    said_at_end: BTreeSet<usize>,
    announced: Option<Epoch>,
    to_publish: Option<(Epoch, Vec<u16>)>,
    /// By process.
    to_prepare: BTreeMap<usize, Epoch>,
    to_keep: BTreeMap<usize, Epoch>,
    published: Option<Epoch>,
    shards: BTreeSet<Shard>,
    is_broken: bool,
    is_finished: bool,
}

impl Run {
    fn is_alive(&self) -> bool {
        self.processes.iter().any(|process| process.is_alive)
    }
}

/// What went wrong with the protocol.
pub type Violation = String;

pub struct World {
    broken: Option<Broken>,
    broker: Broker,
    storages: Vec<Storage>,
    runs: Vec<Run>,
    network: Vec<Message>,
    requests: u32,
    visible: Vec<Outcome>,
    expected: Vec<Outcome>,
    /// The latest start all of whose processes have recovered.
    recovered: Option<usize>,
    generations: Generations,
    placement: Placement,
    has_damaged: bool,
    /// What has happened.
    pub story: Vec<String>,
}

impl World {
    pub fn new(generations: Generations, placement: Placement, broken: Option<Broken>) -> Self {
        World {
            generations,
            placement,
            broken,
            broker: Broker::default(),
            storages: vec![Storage::default()],
            runs: Vec::new(),
            network: Vec::new(),
            requests: 0,
            visible: Vec::new(),
            expected: all_results(),
            recovered: None,
            has_damaged: false,
            story: Vec::new(),
        }
    }

    pub fn is_finished(&self) -> bool {
        self.runs.iter().any(|run| run.is_finished)
    }

    /// All that may happen, with how likely it is. Without odds: without what nobody wants.
    pub fn actions(&self, odds: Option<Odds>, actions: &mut Vec<(Action, u32)>) {
        actions.clear();
        let faults = odds.is_some();
        let odds = odds.unwrap_or(Odds { calm: 1, awake: 1 });
        let mut add = |action, weight| {
            let factor = match action {
                Action::Resume(..) => odds.awake,
                action if is_fault(action) => 1,
                _ => odds.calm,
            };
            actions.push((action, weight * factor));
        };
        for (at, message) in self.network.iter().enumerate() {
            let Message { run, process, is_copy, .. } = *message;
            let nth = self.network[..at].iter().filter(|other| (other.run, other.process) == (run, process)).count();
            let is_awaited = self.runs[run].processes[process].waits_for == Some(message.number) && !is_copy;
            add(Action::Answer(run, process, nth), if is_awaited { 12 } else { 1 });
            if faults && !is_copy {
                add(Action::AnswerIsLost(run, process, nth), 1);
                // A client notices when a connection breaks, and with it that a commit may come again.
                if !matches!(message.request, Request::Commit(..)) {
                    add(Action::AnswerAndKeep(run, process, nth), 1);
                }
            }
        }
        for shard in self.broker.committing() {
            add(Action::Complete(shard), 8);
        }
        for (number, run) in self.runs.iter().enumerate() {
            self.actions_of_run(number, run, faults, &mut add);
        }
        for shard in self.broker.open() {
            add(Action::TimeOut(shard), 1);
        }
        if !faults {
            return;
        }
        if self.runs.len() < MOST_STARTS {
            let likely = if self.runs.iter().any(Run::is_alive) { 1 } else { 6 };
            let most = if self.generations == Generations::CheckpointsAlone { 1 } else { 3 };
            for storage in (0..self.storages.len()).filter(|storage| !self.is_locked(*storage)) {
                let all = if self.is_apart() { PROCESSES..=PROCESSES } else { 1..=most };
                all.for_each(|processes| add(Action::Start(storage, processes), likely));
            }
        }
        let may_copy = self.generations != Generations::Checkpoints;
        if may_copy && self.storages.len() == 1 && !self.runs.is_empty() {
            add(Action::Copy, 1);
        }
        for storage in (0..self.storages.len()).filter(|_| !self.has_damaged) {
            if self.is_apart() || !self.storages[storage].manifests.is_empty() {
                add(Action::Damage(storage), 1);
            }
        }
    }

    fn actions_of_run(&self, number: usize, run: &Run, faults: bool, add: &mut impl FnMut(Action, u32)) {
        for (index, process) in run.processes.iter().enumerate().filter(|(_, process)| process.is_alive) {
            if process.is_paused {
                add(Action::Resume(number, index), 1);
                continue;
            }
            match process.waits_for {
                None => add(Action::Step(number, index), 10),
                Some(waits_for) => {
                    let is_on_its_way =
                        self.network.iter().any(|message| message.number == waits_for && !message.is_copy);
                    if faults || !is_on_its_way {
                        add(Action::GiveUp(number, index), if is_on_its_way { 1 } else { 8 });
                    }
                }
            }
            if run.to_prepare.contains_key(&index) {
                add(Action::Prepare(number, index), 8);
            }
            if run.to_keep.contains_key(&index) {
                add(Action::Keep(number, index), 4);
            }
            if run.is_broken {
                add(Action::Notice(number, index), 2);
            }
            if index == 0 {
                add(Action::Coordinate(number), 4);
                if run.to_publish.is_some() {
                    add(Action::Publish(number), 8);
                }
            }
            if faults {
                add(Action::Crash(number, index), 1);
                add(Action::Pause(number, index), 1);
            }
        }
    }

    fn is_apart(&self) -> bool {
        self.placement == Placement::PerProcess
    }

    /// The first process of a run has the lock of its storage until it ends; each has that of its own disk.
    fn is_locked(&self, storage: usize) -> bool {
        let holds = |run: &Run| if self.is_apart() { run.is_alive() } else { run.processes[0].is_alive };
        self.runs.iter().any(|run| run.storage == storage && holds(run))
    }

    /// Has it happen.
    pub fn act(&mut self, action: Action) -> Result<(), Violation> {
        let story = self.tell(action);
        self.story.push(story);
        match action {
            Action::Step(run, process) => self.step(run, process)?,
            Action::Coordinate(run) => self.coordinate(run),
            Action::Publish(run) if self.is_apart() => self.commit(run)?,
            Action::Publish(run) => self.publish(run)?,
            Action::Prepare(run, process) => self.prepare(run, process),
            Action::Keep(run, process) => self.keep(run, process)?,
            Action::Answer(run, process, nth) => {
                let message = self.network.remove(self.message(run, process, nth));
                self.answer(&message, true);
            }
            Action::AnswerAndKeep(run, process, nth) => {
                let at = self.message(run, process, nth);
                let message = self.network[at].clone();
                self.network[at].is_copy = true;
                self.answer(&message, true);
            }
            Action::AnswerIsLost(run, process, nth) => {
                let message = self.network.remove(self.message(run, process, nth));
                self.answer(&message, false);
            }
            Action::GiveUp(run, process) => self.runs[run].processes[process].gave_up(),
            Action::Complete(shard) => self.complete(shard)?,
            Action::TimeOut(shard) => self.broker.time_out(shard),
            Action::Crash(run, process) | Action::Notice(run, process) => self.end(run, process),
            Action::Pause(run, process) => self.runs[run].processes[process].is_paused = true,
            Action::Resume(run, process) => self.runs[run].processes[process].is_paused = false,
            Action::Start(storage, processes) => self.start(storage, processes),
            Action::Copy => self.storages.push(self.storages[0].clone()),
            Action::Damage(storage) => {
                self.has_damaged = true;
                self.storages[storage].parts.damage();
                if let Some(mut newest) = self.storages[storage].manifests.last_entry() {
                    newest.get_mut().is_damaged = true;
                }
            }
        }
        Ok(())
    }

    /// Where it is.
    fn message(&self, run: usize, process: usize, nth: usize) -> usize {
        let of_process =
            self.network.iter().enumerate().filter(|(_, other)| (other.run, other.process) == (run, process));
        of_process.map(|(at, _)| at).nth(nth).expect("the action was possible")
    }

    fn tell(&self, action: Action) -> String {
        let message = |run, process, nth| {
            format!("{:?} of run {run} process {process}", self.network[self.message(run, process, nth)].request)
        };
        match action {
            Action::Answer(run, process, nth) => format!("answer to {}", message(run, process, nth)),
            Action::AnswerAndKeep(run, process, nth) => {
                format!("answer to {}, which will come again", message(run, process, nth))
            }
            Action::AnswerIsLost(run, process, nth) => format!("lost answer to {}", message(run, process, nth)),
            Action::Step(run, process) => format!("run {run} process {process} goes on"),
            other => format!("{other:?}"),
        }
    }

    fn end(&mut self, run: usize, process: usize) {
        self.runs[run].processes[process].is_alive = false;
        self.runs[run].is_broken = true;
    }

    /// What a person does when all is over that may go wrong.
    pub fn repair(&mut self) {
        for storage in &mut self.storages {
            storage.parts.repair();
            storage.manifests.values_mut().for_each(|manifest| manifest.is_damaged = false);
        }
    }

    /// A start from the storage, where nobody has its lock.
    pub fn try_start(&mut self, storage: usize, processes: u16) -> bool {
        let storage = storage % self.storages.len();
        let processes = match (self.generations, self.placement) {
            (Generations::CheckpointsAlone, _) => 1,
            (_, Placement::PerProcess) => PROCESSES,
            _ => processes,
        };
        let may = !self.is_locked(storage);
        if may {
            self.story.push(format!("{:?}", Action::Start(storage, processes)));
            self.start(storage, processes);
        }
        may
    }

    /// Starts with the same generation may wait for each other in vain: a person ends them.
    pub fn end_what_hangs(&mut self) {
        if self.generations != Generations::Starts {
            self.story.push("all are ended".to_owned());
            let processes = self.runs.iter_mut().flat_map(|run| &mut run.processes);
            processes.for_each(|process| process.is_alive = false);
        }
    }

    pub fn has_living_run(&self) -> bool {
        self.runs.iter().any(Run::is_alive)
    }

    fn start(&mut self, storage: usize, processes: u16) {
        let is_apart = self.is_apart();
        let found = &mut self.storages[storage];
        let restored = match is_apart {
            true => found.restore_together(),
            false => found.restore().map(|restored| (restored, found.next_epoch())),
        };
        let Some((restored, first)) = restored else {
            self.story.push("  refused: no checkpoint is sound".to_owned());
            return;
        };
        if !is_apart {
            self.storages[storage].remove_incomplete();
        }
        let number = self.runs.len();
        let of_checkpoints = self.generations != Generations::Starts || self.broken == Some(Broken::SharedGenerations);
        let generation = match of_checkpoints {
            true => Generation(restored.generation.0 + 1),
            false => Generation(number as u64 + 1),
        };
        let start = Start { number, generation, processes, restored: restored.epoch, broken: self.broken };
        let rules = Rules {
            workers: usize::from(processes),
            processes: usize::from(processes),
            placement: self.placement,
            interval: Some(Duration::ZERO),
            timeout: Duration::from_secs(3600),
            least_pause: Duration::ZERO,
        };
        let own = (0..processes).map(|process| Shard { sink: 0, process });
        self.runs.push(Run {
            storage,
            start,
            processes: (0..processes).map(|index| Process::new(index, start, &restored)).collect(),
            coordinator: Coordinator::new(rules, first),
            words: VecDeque::new(),
            said_at_end: BTreeSet::new(),
            announced: None,
            to_publish: None,
            to_prepare: BTreeMap::new(),
            to_keep: BTreeMap::new(),
            published: None,
            shards: own.chain(restored.shards.iter().copied()).collect(),
            is_broken: false,
            is_finished: false,
        });
    }

    fn step(&mut self, number: usize, index: usize) -> Result<(), Violation> {
        let run = &mut self.runs[number];
        let process = &mut run.processes[index];
        let had_recovered = process.has_recovered();
        let step = process.step(run.announced, run.published);
        let has_recovered = process.has_recovered();
        if process.has_recovered() && process.is_at_end() && run.said_at_end.insert(index) {
            run.words.push_back(Event::Finished(WorkerIndex(index as u32)));
        }
        match step {
            Step::Nothing | Step::Done => {}
            Step::Request(request) => {
                self.requests += 1;
                process.waits_for = Some(self.requests);
                let number_of_request = self.requests;
                self.network.push(Message {
                    run: number,
                    process: index,
                    number: number_of_request,
                    request,
                    is_copy: false,
                });
            }
            Step::Cut(epoch, snapshot) => {
                let place = place(self.broken, epoch, index as u16, run.start.number);
                let storage = &mut self.storages[run.storage];
                let is_part = storage.parts.counts(index as u16, epoch);
                if is_part || storage.manifests.values().any(|manifest| manifest.snapshots.contains(&place)) {
                    return Err(format!("run {number} writes over a snapshot of the published checkpoint {epoch:?}"));
                }
                storage.snapshots.insert(place, snapshot);
                let reporters = match self.broken {
                    Some(Broken::PublishEarly) => 0..run.start.processes,
                    _ => index as u16..index as u16 + 1,
                };
                let report = |worker| Event::Reported(WorkerIndex(u32::from(worker)), epoch, worker);
                run.words.extend(reporters.map(report));
            }
            Step::Committed(epoch) => run.words.push_back(Event::Committed(ProcessIndex(index as u16), epoch)),
        }
        if has_recovered && !had_recovered {
            self.check_recovery(number)?;
        }
        Ok(())
    }

    /// When all processes of a start have recovered, nothing is visible that it would make again.
    fn check_recovery(&mut self, number: usize) -> Result<(), Violation> {
        let run = &self.runs[number];
        // Of two with the same generation it may be the earlier one that goes on.
        let either_may_win = self.generations == Generations::CheckpointsAlone;
        if either_may_win || !run.processes.iter().all(Process::has_recovered) {
            return Ok(());
        }
        let restored = run.start.restored;
        for (shard, marker) in self.broker.all_markers() {
            let delivered = marker.delivered.map(|delivered| delivered.epoch);
            // What a later start has delivered, this one cannot know; it is fenced.
            let is_of_earlier = ((marker.run.0 >> 16) as usize) < number;
            if is_of_earlier && delivered > restored {
                return Err(format!("run {number} goes on from {restored:?}, and {shard} has delivered {delivered:?}"));
            }
        }
        self.recovered = self.recovered.max(Some(number));
        Ok(())
    }

    fn coordinate(&mut self, number: usize) {
        let run = &mut self.runs[number];
        let event = run.words.pop_front().unwrap_or(Event::Tick);
        for command in run.coordinator.hear(event, Duration::ZERO) {
            match command {
                Command::Announce(epoch, _) => run.announced = Some(epoch),
                Command::Publish(epoch, _, reports) => run.to_publish = Some((epoch, reports)),
                Command::Prepare(epoch, _, reports) => {
                    let Start { number: writer, generation, processes, .. } = run.start;
                    let snapshots = reports.iter().map(|worker| place(self.broken, epoch, *worker, writer)).collect();
                    let shards = run.shards.iter().copied().collect();
                    let manifest = Manifest { snapshots, generation, writer, is_damaged: false, shards };
                    self.storages[run.storage].parts.announce(epoch, manifest);
                    run.to_publish = None;
                    run.to_prepare = (0..usize::from(processes)).map(|process| (process, epoch)).collect();
                }
                Command::Commit(epoch) => run.to_publish = Some((epoch, Vec::new())),
                Command::TellPublished(epoch, _) => {
                    run.published = Some(epoch);
                    let others = if self.placement == Placement::PerProcess { run.processes.len() } else { 0 };
                    run.to_keep = (1..others).map(|process| (process, epoch)).collect();
                }
                Command::TellOver(_) => {
                    run.is_finished = true;
                    run.processes.iter_mut().for_each(|process| process.is_alive = false);
                }
                Command::Overdue(_) => {}
            }
        }
    }

    fn answer(&mut self, message: &Message, arrives: bool) {
        let answer = self.broker.handle(&message.request);
        let process = &mut self.runs[message.run].processes[message.process];
        // A stopped process finds the answer when it goes on.
        let waits = process.is_alive && process.waits_for == Some(message.number) && !message.is_copy;
        if !arrives || !waits {
            return;
        }
        if let Err(refusal) = process.answered(answer) {
            self.story.push(format!("  run {} process {} is refused: {refusal:?}", message.run, message.process));
            self.end(message.run, message.process);
        }
    }

    fn complete(&mut self, shard: Shard) -> Result<(), Violation> {
        let Completed { results, start } = self.broker.complete(shard);
        if !results.is_empty() && start.is_none() {
            return Err(format!("{results:?} are visible without a marker"));
        }
        for result in results {
            self.story.push(format!("  visible: {result:?}"));
            if self.visible.contains(&result) {
                return Err(format!("{result:?} is visible twice"));
            }
            if !self.expected.contains(&result) {
                return Err(format!("{result:?} is wrong"));
            }
            // Of two with the same generation either may win.
            if self.generations == Generations::Starts && start < self.recovered {
                return Err(format!("run {start:?} has written after run {:?} has recovered", self.recovered));
            }
            self.visible.push(result);
        }
        Ok(())
    }

    /// At the very end.
    pub fn check_end(&self) -> Result<(), Violation> {
        let missing: Vec<&Outcome> = self.expected.iter().filter(|result| !self.visible.contains(result)).collect();
        if !missing.is_empty() {
            return Err(format!("never visible: {missing:?}"));
        }
        match self.broker.open().next() {
            Some(shard) => Err(format!("a transaction of {shard} is open")),
            None => Ok(()),
        }
    }
}

fn is_fault(action: Action) -> bool {
    use Action::*;
    match action {
        AnswerAndKeep(..) | AnswerIsLost(..) | GiveUp(..) | TimeOut(_) | Crash(..) | Copy | Damage(_) => true,
        Pause(..) | Resume(..) => true,
        Step(..) | Coordinate(_) | Publish(_) | Prepare(..) | Keep(..) | Answer(..) | Complete(_) | Notice(..)
        | Start(..) => false,
    }
}

fn place(broken: Option<Broken>, epoch: Epoch, worker: u16, writer: Writer) -> Place {
    (epoch, worker, Some(writer).filter(|_| broken != Some(Broken::SharedPlaces)))
}
