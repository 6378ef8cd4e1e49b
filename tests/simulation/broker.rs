//! A Kafka broker, as far as transactions go.
//!
//! The model: each transactional id has a producer epoch, which [`Broker::init`] raises; whoever comes with an older one is fenced.
//! A commit is decided at once and *completed* later; until then its marker is undecided in the progress topic, and hides all that
//! follows from readers of committed records. Broken rules of clients show here only as wrong results, as in reality.

use llm_optimizer_processor::checkpoint::protocol::{Marker, Markers};
use llm_optimizer_processor::sink::Shard;
use std::collections::BTreeMap;

/// A result: of a partition, the how-many-eth, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    pub partition: u8,
    pub number: u8,
    pub sum: u32,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Request {
    Init(Shard),
    /// With the producer's epoch, and a sequence number: what comes twice does nothing the second time.
    Send(Shard, u32, u32, Vec<Outcome>),
    Mark(Shard, u32, u32, Marker),
    /// It has no sequence number.
    Commit(Shard, u32),
    /// What is decided before the first open transaction.
    ReadNow,
    /// The same, when nothing is open any more before this end; without one, before the present end.
    ReadEnd(Option<usize>),
}

/// What the broker answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Epoch(u32),
    Done,
    Fenced,
    /// A commit is not complete.
    Later,
    Markers(Markers),
    /// Something is open before this end.
    Wait(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Undecided,
    Committed,
    Aborted,
}

#[derive(Clone, Debug)]
struct Entry {
    shard: Shard,
    marker: Marker,
    fate: Fate,
}

#[derive(Clone, Debug, Default)]
struct Id {
    epoch: u32,
    sequence: u32,
    open: Option<Open>,
    has_committed: bool,
}

#[derive(Clone, Debug, Default)]
struct Open {
    results: Vec<Outcome>,
    entries: Vec<usize>,
    is_committing: bool,
}

/// What a completed transaction made visible.
pub struct Completed {
    pub results: Vec<Outcome>,
    /// Of which start.
    pub start: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Broker {
    ids: BTreeMap<Shard, Id>,
    progress: Vec<Entry>,
}

impl Broker {
    pub fn handle(&mut self, request: &Request) -> Answer {
        match request {
            Request::Init(shard) => self.init(*shard),
            Request::Send(shard, epoch, sequence, results) => {
                self.change(*shard, *epoch, *sequence, |open, _| open.results.extend(results))
            }
            Request::Mark(shard, epoch, sequence, marker) => {
                let (shard, marker) = (*shard, *marker);
                self.change(shard, *epoch, *sequence, |open, progress| {
                    open.entries.push(progress.len());
                    progress.push(Entry { shard, marker, fate: Fate::Undecided });
                })
            }
            Request::Commit(shard, epoch) => self.commit(*shard, *epoch),
            Request::ReadNow => Answer::Markers(self.markers()),
            Request::ReadEnd(end) => {
                let end = end.unwrap_or(self.progress.len());
                match self.decided() >= end {
                    true => Answer::Markers(self.markers()),
                    false => Answer::Wait(end),
                }
            }
        }
    }

    fn init(&mut self, shard: Shard) -> Answer {
        let id = self.ids.entry(shard).or_default();
        if id.open.as_ref().is_some_and(|open| open.is_committing) {
            return Answer::Later;
        }
        id.epoch += 1;
        (id.sequence, id.has_committed) = (0, false);
        let epoch = id.epoch;
        self.abort(shard);
        Answer::Epoch(epoch)
    }

    fn change(
        &mut self,
        shard: Shard,
        epoch: u32,
        sequence: u32,
        change: impl FnOnce(&mut Open, &mut Vec<Entry>),
    ) -> Answer {
        let id = self.ids.entry(shard).or_default();
        if id.epoch != epoch {
            return Answer::Fenced;
        }
        if id.open.as_ref().is_some_and(|open| open.is_committing) {
            return Answer::Later;
        }
        if sequence > id.sequence {
            (id.sequence, id.has_committed) = (sequence, false);
            change(id.open.get_or_insert_default(), &mut self.progress);
        }
        Answer::Done
    }

    /// Asking again is answered as the first time was.
    fn commit(&mut self, shard: Shard, epoch: u32) -> Answer {
        let id = self.ids.entry(shard).or_default();
        if id.epoch != epoch {
            return Answer::Fenced;
        }
        match &mut id.open {
            Some(open) => {
                open.is_committing = true;
                Answer::Done
            }
            None if id.has_committed => Answer::Done,
            None => Answer::Fenced,
        }
    }

    /// The ids whose commit is decided and not complete.
    pub fn committing(&self) -> impl Iterator<Item = Shard> {
        self.ids
            .iter()
            .filter(|(_, id)| id.open.as_ref().is_some_and(|open| open.is_committing))
            .map(|(shard, _)| *shard)
    }

    /// The ids that have a transaction whose end nobody has asked for.
    pub fn open(&self) -> impl Iterator<Item = Shard> {
        self.ids
            .iter()
            .filter(|(_, id)| id.open.as_ref().is_some_and(|open| !open.is_committing))
            .map(|(shard, _)| *shard)
    }

    pub fn complete(&mut self, shard: Shard) -> Completed {
        let id = self.ids.entry(shard).or_default();
        id.has_committed = true;
        let open = id.open.take().unwrap_or_default();
        let start = open.entries.first().map(|&entry| (self.progress[entry].marker.run.0 >> 16) as usize);
        open.entries.iter().for_each(|&entry| self.progress[entry].fate = Fate::Committed);
        Completed { results: open.results, start }
    }

    /// The broker's patience with an open transaction ends.
    pub fn time_out(&mut self, shard: Shard) {
        self.ids.entry(shard).or_default().epoch += 1;
        self.abort(shard);
    }

    fn abort(&mut self, shard: Shard) {
        if let Some(open) = self.ids.entry(shard).or_default().open.take() {
            open.entries.iter().for_each(|&entry| self.progress[entry].fate = Fate::Aborted);
        }
    }

    fn decided(&self) -> usize {
        self.progress.iter().position(|entry| entry.fate == Fate::Undecided).unwrap_or(self.progress.len())
    }

    fn markers(&self) -> Markers {
        let decided = self.progress[..self.decided()].iter().filter(|entry| entry.fate == Fate::Committed);
        decided.map(|entry| (entry.shard, entry.marker)).collect()
    }

    /// What is committed, whether or not readers see it yet.
    pub fn all_markers(&self) -> Markers {
        let committed = self.progress.iter().filter(|entry| entry.fate == Fate::Committed);
        committed.map(|entry| (entry.shard, entry.marker)).collect()
    }
}
