//! What is decided about checkpoints and deliveries: functions over plain data, without I/O.
//!
//! The model: results of an epoch that wait for their checkpoint are the *outbox* of their shard, in chunks. A chunk becomes
//! visible in one transaction with a [`Marker`], which says how far its shard has come; the last marker of a shard is the truth
//! about it. A run *owns* a shard from the moment when its first marker is the shard's last one; that one delivers nothing.
//! Whoever finds a marker that is neither the one it knew nor the one it was writing has lost the shard to another run.
//!
//! A start has a [`Generation`], higher than that of the checkpoint it goes on from and the same in all its processes; [`RunId`]
//! tells two starts from one checkpoint apart. The [`OutboxFingerprint`] tells apart two checkpoints of the same epoch: where a job
//! is started from a copy of its checkpoints, a run that was fenced off may have published one, and its successor another. A chunk
//! number means nothing without it. For the same reason a checkpoint is of no use any more when a start that is later than the one
//! that published it has delivered something else than its outbox.
//!
//! The order of things, which the functions here rely on:
//! 1. a run fences its shards *before* it reads the markers that it decides by;
//! 2. all its processes write their first markers, look whether other runs have, and are ready, *before* any of them delivers
//!    anything;
//! 3. an epoch is published when all workers have reported, and delivered only after that;
//! 4. the next epoch is announced when the last is delivered everywhere, so that one outbox at most is on its way.
//!
//! `tests/simulation` runs these functions, and the coordinator's, through crashes at every step.

use crate::sink::{Generation, Shard};
use crate::time::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// One start of one process, by a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What the outbox of one shard and epoch holds, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxFingerprint(pub u64);

impl OutboxFingerprint {
    /// Of these chunks, in this order.
    pub fn of<C: AsRef<[u8]>>(chunks: &[C]) -> Self {
        let mut sum = flate2::Crc::new();
        let mut bytes = 0u64;
        for chunk in chunks.iter().map(AsRef::as_ref) {
            sum.update(&(chunk.len() as u64).to_le_bytes());
            sum.update(chunk);
            bytes += chunk.len() as u64;
        }
        OutboxFingerprint(u64::from(sum.sum()) << 32 | (bytes & 0xffff_ffff))
    }
}

/// How far a shard's deliveries have come: all before `epoch`, and the first `chunks` chunks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The newest epoch of which a marker was written.
    pub epoch: Epoch,
    /// How many of its chunks are visible.
    pub chunks: u32,
    /// Whose chunks they are.
    pub outbox: OutboxFingerprint,
    /// The start that made the last of them visible.
    pub by: Generation,
}

/// What is written in the transaction that makes a chunk visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Marker {
    /// How far the shard has come with this chunk; `None` where a job has delivered nothing yet.
    pub delivered: Option<Delivered>,
    /// The start that wrote it.
    pub generation: Generation,
    /// The same, unmistakable.
    pub run: RunId,
    /// Its process has fenced all that it is to fence, and found nothing that forbids the start.
    pub ready: bool,
}

/// The last marker of each shard of a job.
pub type Markers = BTreeMap<Shard, Marker>;

/// Why a run must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Results of a later epoch are visible already: going on from the restored one would double them.
    NewerMarker {
        /// The shard.
        shard: Shard,
        /// What it has delivered.
        delivered: Epoch,
        /// The checkpoint that was restored.
        restored: Option<Epoch>,
    },
    /// What was delivered last is of another checkpoint than the restored one and those before it.
    OtherCheckpoint {
        /// The shard.
        shard: Shard,
        /// The epoch of what was delivered.
        delivered: Epoch,
        /// The checkpoint that was restored.
        restored: Epoch,
    },
    /// There are results to deliver, and no marker says which of them are visible.
    NoMarker {
        /// The shard.
        shard: Shard,
        /// The checkpoint that was restored.
        restored: Epoch,
    },
    /// A later start of the job has been at work.
    LaterStart {
        /// The shard.
        shard: Shard,
        /// Of the marker.
        found: Generation,
        /// Of this start.
        own: Generation,
    },
    /// Another run has written a marker since this one fenced the shard.
    TakenOver {
        /// The shard.
        shard: Shard,
        /// Of the other run.
        by: Generation,
    },
    /// A marker that was visible is gone.
    MarkerLost {
        /// The shard.
        shard: Shard,
    },
}

/// What a restored checkpoint holds for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// How many chunks; there is one at least for each shard that the checkpoint's run had.
    pub chunks: u32,
    /// Which.
    pub outbox: OutboxFingerprint,
    /// What the shard had delivered when they were made.
    pub after: Option<Delivered>,
}

/// Whether markers forbid a start, whatever its outboxes hold: markers of any shard count. Asked before anything is fenced, so that
/// a start which cannot work leaves a healthy run alone, and again, by [`plan_recovery`], after.
pub fn refuses_start(own: Generation, restored: Option<Epoch>, markers: &Markers) -> Option<Refusal> {
    markers.iter().find_map(|(&shard, marker)| {
        let delivered = marker.delivered.map(|delivered| delivered.epoch);
        match delivered {
            Some(delivered) if restored.is_none_or(|restored| delivered > restored) => {
                Some(Refusal::NewerMarker { shard, delivered, restored })
            }
            _ if marker.generation > own => Some(Refusal::LaterStart { shard, found: marker.generation, own }),
            _ => None,
        }
    })
}

/// How many chunks of each shard's restored outbox are visible already; the rest is to be sent. `undelivered` has an entry for
/// each shard that is fenced; `markers` were read after that. `publisher` is the start that published the restored checkpoint,
/// where that is known: one of the processes knows it.
pub fn plan_recovery(
    own: Generation,
    restored: Option<Epoch>,
    publisher: Option<Generation>,
    undelivered: &BTreeMap<Shard, Undelivered>,
    markers: &Markers,
) -> Result<BTreeMap<Shard, u32>, Refusal> {
    if let Some(refusal) = refuses_start(own, restored, markers) {
        return Err(refusal);
    }
    if let (Some(restored), Some(publisher)) = (restored, publisher) {
        for (&shard, delivered) in markers.iter().filter_map(|(shard, marker)| Some((shard, marker.delivered?))) {
            if delivered.epoch != restored && delivered.by > publisher {
                return Err(Refusal::OtherCheckpoint { shard, delivered: delivered.epoch, restored });
            }
        }
    }
    undelivered.iter().map(|(&shard, &held)| Ok((shard, visible_chunks(shard, restored, held, markers)?))).collect()
}

fn visible_chunks(shard: Shard, restored: Option<Epoch>, held: Undelivered, markers: &Markers) -> Result<u32, Refusal> {
    let Some(restored) = restored else { return Ok(0) };
    match markers.get(&shard) {
        None if held.chunks == 0 => Ok(0),
        None => Err(Refusal::NoMarker { shard, restored }),
        Some(marker) => match marker.delivered {
            Some(delivered) if delivered.epoch == restored && delivered.outbox != held.outbox => {
                Err(Refusal::OtherCheckpoint { shard, delivered: restored, restored })
            }
            Some(delivered) if delivered.epoch == restored => Ok(delivered.chunks.min(held.chunks)),
            delivered if held.chunks == 0 || delivered == held.after => Ok(0),
            Some(delivered) => Err(Refusal::OtherCheckpoint { shard, delivered: delivered.epoch, restored }),
            None => Err(Refusal::NoMarker { shard, restored }),
        },
    }
}

/// What became of a transaction whose outcome is in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterDoubt {
    /// It was committed.
    Delivered,
    /// It was not, and never will be: it is to be done again.
    SendAgain,
    /// Another run is at work.
    Refuse(Refusal),
}

/// What became of the transaction with the marker `sending`. `known` was the shard's last marker before it, `found` is now.
///
/// A run that was fenced by another finds the other's marker. One whose transaction was timed out by the broker, which looks the
/// same to a producer, finds what it knew.
pub fn after_doubt(shard: Shard, known: Option<&Marker>, sending: &Marker, found: Option<&Marker>) -> AfterDoubt {
    if found == Some(sending) {
        return AfterDoubt::Delivered;
    }
    match lost(shard, known, found) {
        None => AfterDoubt::SendAgain,
        Some(refusal) => AfterDoubt::Refuse(refusal),
    }
}

/// Whether another run has written a marker since `known`, which was the last one that this one knew of.
pub fn lost(shard: Shard, known: Option<&Marker>, found: Option<&Marker>) -> Option<Refusal> {
    match found {
        found if found == known => None,
        Some(found) => Some(Refusal::TakenOver { shard, by: found.generation }),
        None => Some(Refusal::MarkerLost { shard }),
    }
}

/// Whether a marker shows for sure that another run has the shard. Asked before the shard is fenced again, so that the other is let
/// alone; what was read then may be behind by some markers, and nothing else can be concluded from it.
pub fn superseded(shard: Shard, own: Generation, found: Option<&Marker>) -> Option<Refusal> {
    found.filter(|found| found.generation > own).map(|found| Refusal::TakenOver { shard, by: found.generation })
}

/// The shards of other starts that `process` of `processes` is to fence beside those it knows of: those that have written a marker,
/// and whose process is none of this start's. A start that died before its first checkpoint is in no manifest.
///
/// Asked again after each round of first markers. Of two starts whose processes write their first markers at the same time, each
/// before it delivers anything, one reads the other's: the earlier start refuses itself, the later one fences.
pub fn strangers(
    sink: u16,
    process: u16,
    processes: u16,
    markers: &Markers,
    fenced: &BTreeSet<Shard>,
) -> BTreeSet<Shard> {
    let processes = processes.max(1);
    let mine = |shard: &&Shard| {
        shard.sink == sink
            && shard.process >= processes
            && shard.process % processes == process
            && !fenced.contains(shard)
    };
    markers.keys().filter(mine).copied().collect()
}

/// Whether all processes of a start are ready: before that none of them may deliver anything, as another may find that the start is
/// to be refused.
pub fn all_ready(own: Generation, sink: u16, processes: u16, markers: &Markers) -> bool {
    let is_ready =
        |process| markers.get(&Shard { sink, process }).is_some_and(|marker| marker.generation == own && marker.ready);
    (0..processes).all(is_ready)
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |epoch: &Epoch| epoch.number();
        match self {
            Refusal::NewerMarker { shard, delivered, restored: Some(restored) } => write!(
                f,
                "shard {shard} has delivered results of epoch {}, and the restored checkpoint is that of epoch {}: going on \
                 from it would write results twice. Start from the checkpoint of epoch {} or a later one, or give the job \
                 another name",
                number(delivered),
                number(restored),
                number(delivered)
            ),
            Refusal::NewerMarker { shard, delivered, restored: None } => write!(
                f,
                "shard {shard} has delivered results of epoch {}, and there is no checkpoint: beginning again would write \
                 results twice. Start from the checkpoint of epoch {} or a later one (is state.checkpoint_path the right \
                 one?), or give the job another name",
                number(delivered),
                number(delivered)
            ),
            Refusal::OtherCheckpoint { shard, delivered, restored } => write!(
                f,
                "shard {shard} has delivered results of epoch {} from a checkpoint that is none of those before the restored \
                 one, that of epoch {}: two runs of the job were at work at once, from copies of its checkpoints. Start from \
                 the other copy, or give the job another name",
                number(delivered),
                number(restored)
            ),
            Refusal::NoMarker { shard, restored } => write!(
                f,
                "the checkpoint of epoch {} holds results of shard {shard} to deliver, and no marker says which of them are \
                 visible already: the progress topic was deleted or is another one. Starting once with `delivery: \
                 at_least_once` delivers all of them, some of them perhaps again",
                number(restored)
            ),
            Refusal::LaterStart { shard, found, own } => write!(
                f,
                "a later start of the job (number {}) has been at work on shard {shard}, and this is start {}: it may be running \
                 still. Start again from the newest checkpoint",
                found.0, own.0
            ),
            Refusal::TakenOver { shard, by } => write!(
                f,
                "another run of the job (start {}) has taken over shard {shard}: nothing that this run has not delivered \
                 becomes visible. Do not start it again while the other is running",
                by.0
            ),
            Refusal::MarkerLost { shard } => write!(
                f,
                "the marker of shard {shard}, which was visible, is gone from the progress topic: the topic was deleted, or \
                 its cleanup.policy is not `compact`"
            ),
        }
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
