//! One process of a run: its source and state, and its sink, which goes the way of the program's transactional sink.
//!
//! The model: a process has at most one request on its way. [`Process::step`] does what can be done without an answer, or makes the
//! next request; [`Process::answered`] and [`Process::gave_up`] go on from there.

use crate::broker::{Answer, Outcome, Request};
use crate::job::{Partition, Restored, Snapshot, chunks, fingerprint};
use crate::rules::Broken;
use llm_optimizer_processor::checkpoint::protocol::{
    AfterDoubt, Delivered, Marker, Markers, OutboxFingerprint, Refusal, RunId, Undelivered, after_doubt, all_ready,
    lost, plan_recovery, refuses_start, strangers, superseded,
};
use llm_optimizer_processor::sink::{Generation, Shard};
use llm_optimizer_processor::time::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// What all processes of a run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Which of all.
    pub number: usize,
    pub generation: Generation,
    pub processes: u16,
    pub restored: Option<Epoch>,
    pub broken: Option<Broken>,
}

/// What a step comes to.
pub enum Step {
    Request(Request),
    /// The epoch's end was cut: what the snapshot holds.
    Cut(Epoch, Snapshot),
    /// The sinks have delivered the epoch.
    Committed(Epoch),
    /// Something was done that nobody else has to know.
    Done,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    FirstLook,
    Fence(usize),
    Plan,
    Claim(usize),
    LookAround,
    SetReady,
    Wait,
    SendRestored,
    Running,
}

#[derive(Clone, Debug, Default)]
struct Outbox {
    epoch: Option<Epoch>,
    /// The start that made it.
    writer: usize,
    generation: Generation,
    after: Option<Delivered>,
    chunks: Vec<Vec<Outcome>>,
    visible: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Send,
    Mark,
    Commit,
    Look,
    Take,
    Check,
}

#[derive(Clone, Debug)]
struct Transaction {
    shard: Shard,
    results: Vec<Outcome>,
    marker: Marker,
    stage: Stage,
    /// How often the commit was asked for.
    commits: u32,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub shard: Shard,
    pub is_alive: bool,
    pub is_paused: bool,
    /// The number of the request that an answer is awaited for.
    pub waits_for: Option<u32>,
    start: Start,
    phase: Phase,
    producers: BTreeMap<Shard, (u32, u32)>,
    known: BTreeMap<Shard, Marker>,
    outboxes: BTreeMap<Shard, Outbox>,
    fenced: BTreeSet<Shard>,
    new: Vec<Shard>,
    markers: Markers,
    read_to: Option<usize>,
    transaction: Option<Transaction>,
    partitions: BTreeMap<u8, Partition>,
    gathered: Vec<Outcome>,
    cut: Option<Epoch>,
    committed: Option<Epoch>,
}

impl Process {
    pub fn new(index: u16, start: Start, restored: &Restored) -> Self {
        let shard = Shard { sink: 0, process: index };
        let mine = |other: &Shard| other.process % start.processes == index;
        let empty = || Outbox { epoch: start.restored, ..Outbox::default() };
        let mut outboxes = BTreeMap::from([(shard, empty())]);
        outboxes.extend(restored.shards.iter().filter(|shard| mine(shard)).map(|shard| (*shard, empty())));
        let held = restored.outboxes.iter().filter(|(shard, _)| mine(shard));
        outboxes.extend(held.map(|(shard, held)| {
            let Snapshot { writer, generation, after, .. } = *held;
            (*shard, Outbox { writer, generation, after, chunks: held.outbox.clone(), ..empty() })
        }));
        let partitions = (0..crate::job::PARTITIONS).filter(|number| u16::from(*number) % start.processes == index);
        let partition = |number| (number, restored.partitions.get(&number).copied().unwrap_or_default());
        Process {
            shard,
            is_alive: true,
            is_paused: false,
            waits_for: None,
            start,
            phase: Phase::FirstLook,
            producers: BTreeMap::new(),
            known: BTreeMap::new(),
            outboxes,
            fenced: BTreeSet::new(),
            new: Vec::new(),
            markers: Markers::new(),
            read_to: None,
            transaction: None,
            partitions: partitions.map(partition).collect(),
            gathered: Vec::new(),
            cut: None,
            committed: None,
        }
    }

    pub fn has_recovered(&self) -> bool {
        self.phase == Phase::Running
    }

    pub fn is_at_end(&self) -> bool {
        self.partitions.values().all(|partition| partition.is_at_end())
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.start.broken == Some(rule)
    }

    /// `announced` and `published` are what the coordinator has said.
    pub fn step(&mut self, announced: Option<Epoch>, published: Option<Epoch>) -> Step {
        if let Some(transaction) = self.transaction.clone() {
            return Step::Request(self.request(&transaction));
        }
        match self.phase {
            Phase::FirstLook => Step::Request(Request::ReadNow),
            Phase::Fence(at) if at < self.new.len() => Step::Request(Request::Init(self.new[at])),
            Phase::Fence(_) => {
                match self.is_broken(Broken::FenceAfterReading) {
                    true => self.begin_claims(),
                    false => self.phase = Phase::Plan,
                }
                Step::Done
            }
            Phase::Plan => Step::Request(self.read_end()),
            Phase::Claim(at) if at < self.new.len() => {
                let shard = self.new[at];
                self.phase = Phase::Claim(at + 1);
                let delivered = self.known.get(&shard).and_then(|marker| marker.delivered);
                self.begin(shard, Vec::new(), delivered, false);
                Step::Done
            }
            Phase::Claim(_) if self.is_broken(Broken::NoLookAround) => {
                self.phase = Phase::SendRestored;
                Step::Done
            }
            Phase::Claim(_) => {
                self.phase = Phase::LookAround;
                Step::Done
            }
            Phase::LookAround | Phase::Wait => Step::Request(self.read_end()),
            Phase::SetReady => {
                self.phase = Phase::Wait;
                let delivered = self.known.get(&self.shard).and_then(|marker| marker.delivered);
                self.begin(self.shard, Vec::new(), delivered, true);
                Step::Done
            }
            Phase::SendRestored => {
                let next = self.outboxes.iter().find(|(_, outbox)| outbox.visible < outbox.chunks.len());
                match next.map(|(shard, _)| *shard) {
                    Some(shard) => self.begin_chunk(shard),
                    None => {
                        self.outboxes.retain(|shard, _| *shard == self.shard);
                        self.outboxes.insert(self.shard, Outbox::default());
                        self.phase = Phase::Running;
                    }
                }
                Step::Done
            }
            Phase::Running => self.run(announced, published),
        }
    }

    fn run(&mut self, announced: Option<Epoch>, published: Option<Epoch>) -> Step {
        let is_published = published.is_some() && published == self.cut;
        if (is_published || self.is_broken(Broken::DeliverBeforePublished)) && self.committed != self.cut {
            let outbox = &self.outboxes[&self.shard];
            if outbox.visible < outbox.chunks.len() {
                self.begin_chunk(self.shard);
                return Step::Done;
            }
            if let Some(epoch) = published.filter(|_| is_published) {
                self.outboxes.insert(self.shard, Outbox::default());
                self.committed = Some(epoch);
                return Step::Committed(epoch);
            }
        }
        if let Some(epoch) = announced.filter(|epoch| self.cut.is_none_or(|cut| *epoch > cut)) {
            let outbox = self.outboxes.entry(self.shard).or_default();
            let after = self.known.get(&self.shard).and_then(|marker| marker.delivered);
            let Start { number, generation, .. } = self.start;
            (outbox.epoch, outbox.writer, outbox.generation, outbox.after) = (Some(epoch), number, generation, after);
            outbox.chunks.extend(chunks(&std::mem::take(&mut self.gathered)));
            self.cut = Some(epoch);
            let (shard, partitions, outbox) = (self.shard, self.partitions.clone(), outbox.chunks.clone());
            return Step::Cut(epoch, Snapshot { partitions, shard, outbox, after, generation, writer: number });
        }
        let next = self.partitions.iter_mut().filter(|(_, partition)| !partition.is_at_end());
        let Some((number, partition)) = next.min_by_key(|(_, partition)| partition.next) else { return Step::Nothing };
        self.gathered.extend(partition.step(*number));
        Step::Done
    }

    fn begin_chunk(&mut self, shard: Shard) {
        let outbox = self.outboxes.get_mut(&shard).expect("a shard of this process");
        let results = outbox.chunks[outbox.visible].clone();
        outbox.visible += 1;
        let delivered = outbox.epoch.map(|epoch| Delivered {
            epoch,
            chunks: outbox.visible as u32,
            outbox: fingerprint(outbox.writer, &outbox.chunks),
            by: self.start.generation,
        });
        self.begin(shard, results, delivered, true);
    }

    fn begin(&mut self, shard: Shard, results: Vec<Outcome>, delivered: Option<Delivered>, ready: bool) {
        let run = RunId((self.start.number as u64) << 16 | u64::from(self.shard.process));
        let marker = Marker { delivered, generation: self.start.generation, run, ready };
        let stage = if results.is_empty() { Stage::Mark } else { Stage::Send };
        self.transaction = Some(Transaction { shard, results, marker, stage, commits: 0 });
    }

    fn request(&mut self, transaction: &Transaction) -> Request {
        let shard = transaction.shard;
        let (epoch, sequence) = self.producers.entry(shard).or_default();
        match transaction.stage {
            Stage::Send => Request::Send(shard, *epoch, *sequence + 1, transaction.results.clone()),
            Stage::Mark => Request::Mark(shard, *epoch, *sequence + 1, transaction.marker),
            Stage::Commit => Request::Commit(shard, *epoch),
            Stage::Look => Request::ReadNow,
            Stage::Take => Request::Init(shard),
            Stage::Check => self.read_end(),
        }
    }

    fn read_end(&self) -> Request {
        match self.is_broken(Broken::ReadToStable) {
            true => Request::ReadNow,
            false => Request::ReadEnd(self.read_to),
        }
    }

    /// The error ends the process, and says why it must not be started again.
    pub fn answered(&mut self, answer: Answer) -> Result<(), Refusal> {
        self.waits_for = None;
        if let Answer::Wait(end) = answer {
            self.read_to = Some(end);
            return Ok(());
        }
        if let Answer::Markers(_) = answer {
            self.read_to = None;
        }
        match self.transaction.take() {
            Some(transaction) => self.go_on(transaction, answer),
            None => self.recover(answer),
        }
    }

    /// The answer was waited for too long.
    pub fn gave_up(&mut self) {
        self.waits_for = None;
        let trusting = self.is_broken(Broken::TrustLateCommit);
        if let Some(transaction) = &mut self.transaction {
            transaction.stage = match transaction.stage {
                // The client asks again by itself; what is answered then is not trusted.
                Stage::Commit if trusting || transaction.commits < 2 => Stage::Commit,
                Stage::Send | Stage::Mark | Stage::Commit => Stage::Look,
                other => other,
            };
            transaction.commits += u32::from(transaction.stage == Stage::Commit);
        }
    }

    fn recover(&mut self, answer: Answer) -> Result<(), Refusal> {
        match (self.phase, answer) {
            (Phase::FirstLook, Answer::Markers(markers)) => self.look(markers),
            (Phase::Fence(at), Answer::Epoch(epoch)) => {
                self.producers.insert(self.new[at], (epoch, 0));
                self.phase = Phase::Fence(at + 1);
                Ok(())
            }
            (Phase::Plan, Answer::Markers(markers)) => {
                self.markers = markers;
                self.plan()?;
                match self.is_broken(Broken::FenceAfterReading) {
                    true => self.phase = Phase::Fence(0),
                    false => self.begin_claims(),
                }
                Ok(())
            }
            (Phase::LookAround, Answer::Markers(markers)) => self.look(markers),
            (Phase::Wait, Answer::Markers(markers)) => {
                let Start { generation, processes, restored, .. } = self.start;
                refuses_start(generation, restored, &markers).map_or(Ok(()), Err)?;
                lost(self.shard, self.known.get(&self.shard), markers.get(&self.shard)).map_or(Ok(()), Err)?;
                if all_ready(generation, 0, processes, &markers) {
                    self.phase = Phase::SendRestored;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is to be fenced; nothing more, once the markers say so.
    fn look(&mut self, markers: Markers) -> Result<(), Refusal> {
        let Start { generation, restored, processes, .. } = self.start;
        refuses_start(generation, restored, &markers).map_or(Ok(()), Err)?;
        if !self.is_broken(Broken::NoLookAround) {
            for shard in strangers(0, self.shard.process, processes, &markers, &self.fenced) {
                self.outboxes.entry(shard).or_insert(Outbox { epoch: restored, ..Outbox::default() });
            }
        }
        self.new = self.outboxes.keys().filter(|shard| !self.fenced.contains(shard)).copied().collect();
        self.phase = match self.new.is_empty() {
            true if processes == 1 || self.is_broken(Broken::NoBarrier) => Phase::SendRestored,
            true => Phase::SetReady,
            false if self.is_broken(Broken::FenceAfterReading) => Phase::Plan,
            false => Phase::Fence(0),
        };
        Ok(())
    }

    fn plan(&mut self) -> Result<(), Refusal> {
        let mut markers = self.markers.clone();
        let mut held: BTreeMap<Shard, Undelivered> = self.new.iter().map(|shard| (*shard, self.held(*shard))).collect();
        if self.is_broken(Broken::IgnoreHistory) {
            for (shard, held) in &mut held {
                held.after = markers.get(shard).and_then(|marker| marker.delivered);
            }
        }
        if self.is_broken(Broken::IgnoreFingerprints) {
            for (shard, marker) in &mut markers {
                let outbox = held.get(shard).map_or(OutboxFingerprint(0), |held| held.outbox);
                let of_restored = |delivered: &Delivered| Some(delivered.epoch) == self.start.restored;
                if let Some(delivered) = marker.delivered.as_mut().filter(|delivered| of_restored(delivered)) {
                    delivered.outbox = outbox;
                }
            }
        }
        let held_by = self.outboxes.values().find(|outbox| !outbox.chunks.is_empty()).map(|outbox| outbox.generation);
        let publisher = held_by.filter(|_| !self.is_broken(Broken::IgnoreHistory));
        let plan = plan_recovery(self.start.generation, self.start.restored, publisher, &held, &markers)?;
        let ignored = self.is_broken(Broken::IgnoreMarkers);
        for (shard, visible) in plan {
            let outbox = self.outboxes.get_mut(&shard).expect("planned for those that are there");
            outbox.visible = if ignored { 0 } else { visible as usize };
        }
        Ok(())
    }

    fn held(&self, shard: Shard) -> Undelivered {
        let Outbox { writer, chunks, after, .. } = &self.outboxes[&shard];
        Undelivered { chunks: chunks.len() as u32, outbox: fingerprint(*writer, chunks), after: *after }
    }

    fn begin_claims(&mut self) {
        for shard in &self.new {
            self.fenced.insert(*shard);
            self.known.extend(self.markers.get(shard).map(|marker| (*shard, *marker)));
        }
        self.phase = Phase::Claim(0);
    }

    fn go_on(&mut self, mut transaction: Transaction, answer: Answer) -> Result<(), Refusal> {
        let shard = transaction.shard;
        match (transaction.stage, answer) {
            (Stage::Send | Stage::Mark, Answer::Done) => {
                self.producers.entry(shard).or_default().1 += 1;
                transaction.stage = if transaction.stage == Stage::Send { Stage::Mark } else { Stage::Commit };
            }
            (Stage::Commit, Answer::Done) if transaction.commits == 0 || self.is_broken(Broken::TrustLateCommit) => {
                self.known.insert(shard, transaction.marker);
                return Ok(());
            }
            (Stage::Commit, Answer::Done) => transaction.stage = Stage::Look,
            (Stage::Send | Stage::Mark | Stage::Commit, Answer::Fenced) => transaction.stage = Stage::Look,
            (Stage::Look, Answer::Markers(markers)) => {
                superseded(shard, self.start.generation, markers.get(&shard)).map_or(Ok(()), Err)?;
                transaction.stage = Stage::Take;
            }
            (Stage::Take, Answer::Epoch(epoch)) => {
                self.producers.insert(shard, (epoch, 0));
                transaction.stage = Stage::Check;
            }
            (Stage::Check, Answer::Markers(markers)) => {
                let found = markers.get(&shard);
                match after_doubt(shard, self.known.get(&shard), &transaction.marker, found) {
                    AfterDoubt::Delivered if !self.is_broken(Broken::AssumeAborted) => {
                        self.known.insert(shard, transaction.marker);
                        return Ok(());
                    }
                    AfterDoubt::Delivered | AfterDoubt::SendAgain => {
                        transaction.commits = 0;
                        transaction.stage = if transaction.results.is_empty() { Stage::Mark } else { Stage::Send };
                    }
                    AfterDoubt::Refuse(refusal) => return Err(refusal),
                }
            }
            // Later: the same again.
            _ => {}
        }
        self.transaction = Some(transaction);
        Ok(())
    }
}
