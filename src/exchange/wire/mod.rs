//! Rows between processes: what crosses a link, and how.
//!
//! The model: within a process a batch moves by pointer. Between processes timely asks the container of batches for bytes, and the
//! other side's for batches: [`Batches`] is that container. [`message`] lays out a message and checks one that arrives, [`columns`]
//! writes and reads the columns with abomonation, as they lie in memory. Peers have proved that they are of the same build and
//! know the job's secret (`runtime/handshake.rs`); nothing here is meant for a file or for anybody else. Everything else that
//! processes tell each other is small and goes by timely's own encoding.
//!
//! How it fails: bytes that are no message make [`Batches`] without rows that say what is wrong ([`Damage`]). Timely has no other way
//! to hear of it; the operator that takes the batches ends the run with it. Memory is safe whatever the bytes are.

#[cfg(test)]
mod check;
mod columns;
mod message;
#[cfg(test)]
mod tests;

pub use message::{Damage, decode, encode, length};

use crate::event::RowBatch;
use std::io::Write;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::container::{DrainContainer, PushInto, SizableContainer};
use timely::dataflow::channels::ContainerBytes;

/// Batches on their way through the dataflow.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    batches: Vec<RowBatch>,
    damage: Option<Damage>,
}

impl Batches {
    /// The batches, or why they could not be read.
    pub fn received(&mut self) -> Result<&mut Vec<RowBatch>, Damage> {
        match self.damage {
            Some(damage) => Err(damage),
            None => Ok(&mut self.batches),
        }
    }
}

impl Accountable for Batches {
    /// What cannot be read counts as well, or its operator would not be told.
    fn record_count(&self) -> i64 {
        self.batches.record_count() + i64::from(self.damage.is_some())
    }
}

impl DrainContainer for Batches {
    type Item<'a> = RowBatch;
    type DrainIter<'a> = std::vec::Drain<'a, RowBatch>;

    fn drain(&mut self) -> Self::DrainIter<'_> {
        self.batches.drain(..)
    }
}

impl SizableContainer for Batches {
    fn at_capacity(&self) -> bool {
        self.batches.at_capacity()
    }

    fn ensure_capacity(&mut self, stash: &mut Option<Self>) {
        let mut room = stash.take().map(|stash| stash.batches);
        self.batches.ensure_capacity(&mut room);
        *stash = room.map(|batches| Self { batches, damage: None });
    }
}

impl PushInto<RowBatch> for Batches {
    fn push_into(&mut self, batch: RowBatch) {
        self.batches.push(batch);
    }
}

impl ContainerBytes for Batches {
    fn from_bytes(bytes: Bytes) -> Self {
        match decode(&bytes) {
            Ok(batches) => Self { batches, damage: None },
            Err(damage) => Self { batches: Vec::new(), damage: Some(damage) },
        }
    }

    fn length_in_bytes(&self) -> usize {
        length(&self.batches)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        encode(&self.batches, writer).expect("timely has made room for the message");
    }
}

#[cfg(test)]
mod container_tests {
    use super::*;
    use crate::event::WorkerIndex;
    use timely::bytes::arc::BytesMut;

    fn batch(rows: usize) -> RowBatch {
        RowBatch { sender: WorkerIndex(2), times: vec![5; rows], keys: vec![6; rows], ..RowBatch::default() }
    }

    fn bytes_of(batches: &Batches) -> Vec<u8> {
        let mut bytes = Vec::new();
        batches.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), batches.length_in_bytes());
        assert!(bytes.len().is_multiple_of(8), "what follows begins at a word");
        bytes
    }

    fn received(bytes: Vec<u8>) -> Batches {
        Batches::from_bytes(BytesMut::from(bytes).freeze())
    }

    #[test]
    fn batches_cross() {
        let mut sent = Batches::default();
        (0..3).for_each(|rows| sent.push_into(batch(rows)));
        let mut arrived = received(bytes_of(&sent));
        assert_eq!(arrived.record_count(), 3);
        assert_eq!(arrived.received().unwrap(), &sent.drain().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_damaged_is_told_to_the_operator() {
        let mut sent = Batches::default();
        sent.push_into(batch(2));
        let mut bytes = bytes_of(&sent);
        bytes[0] ^= 1;
        let mut arrived = received(bytes);
        assert_eq!(arrived.record_count(), 1);
        assert!(matches!(arrived.received(), Err(Damage::Mark(_))));
    }
}
