//! Where a transaction's records are, as its marker says.
//!
//! The model: a marker has a header `records`, `{"topic":"results","first":{"0":12,"3":7},"partitions":[0,3,3]}`: the topic of
//! the results, the offset of the first in each partition, and the partition of each, in the order of the chunk. A record with
//! the key of a marker and no value is a *sign*: it is in a transaction that is aborted, and its header `aborted`,
//! `{"marker":true,"partitions":[3]}`, says what of the last marker's transaction that one takes with it.

use rdkafka::Message;
use rdkafka::message::Headers;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The names of the headers.
pub(super) const RECORDS: &str = "records";
pub(super) const ABORTED: &str = "aborted";

/// Where a transaction's results are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reach {
    pub topic: String,
    /// The offset of the first in each partition.
    pub first: BTreeMap<i32, i64>,
    /// The partition of each, in the order of the chunk.
    pub partitions: Vec<i32>,
}

/// What of a transaction is aborted whatever its coordinator has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aborted {
    /// Its marker.
    pub marker: bool,
    /// Its results in these partitions.
    pub partitions: BTreeSet<i32>,
}

/// What follows from what has become of a transaction in its partitions, when all is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: all of it is committed, or nothing is.
    Nothing,
    /// The marker and the results in these partitions are sent again: the others are visible.
    SendAgain(BTreeSet<i32>),
}

/// `is_committed` is whether what is not `aborted` of the transaction is visible; where everything is aborted, it is not.
pub(super) fn rest(aborted: &Aborted, is_committed: bool) -> Rest {
    match is_committed && (aborted.marker || !aborted.partitions.is_empty()) {
        true => Rest::SendAgain(aborted.partitions.clone()),
        false => Rest::Nothing,
    }
}

impl Reach {
    /// Of a transaction that sent again what of this one was in the partitions `lost`, and has it at `first` now.
    pub fn with(&self, lost: &BTreeSet<i32>, first: BTreeMap<i32, i64>) -> Reach {
        let kept = self.first.iter().filter(|(partition, _)| !lost.contains(partition));
        let first = kept.map(|(partition, offset)| (*partition, *offset)).chain(first).collect();
        Reach { topic: self.topic.clone(), first, partitions: self.partitions.clone() }
    }
}

impl Aborted {
    /// Both.
    pub fn join(&mut self, other: Aborted) {
        self.marker |= other.marker;
        self.partitions.extend(other.partitions);
    }
}

/// As the value of a header.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers are JSON, and a Vec takes all bytes")
}

/// From the header of this name; `None` where there is none, an error where it is not what this program writes.
pub(super) fn decode<T: DeserializeOwned>(message: &impl Message, name: &str) -> Result<Option<T>, String> {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let Some(header) = headers.filter(|header| header.key == name).last() else { return Ok(None) };
    let value = serde_json::from_slice(header.value.unwrap_or_default());
    value.map(Some).map_err(|error| format!("its header {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_have_seen_decides() {
        let aborted = |marker, partitions: &[i32]| Aborted { marker, partitions: partitions.iter().copied().collect() };
        assert_eq!(rest(&aborted(false, &[]), true), Rest::Nothing);
        assert_eq!(rest(&aborted(true, &[0, 1]), false), Rest::Nothing);
        assert_eq!(rest(&aborted(true, &[1]), true), Rest::SendAgain([1].into()));
        assert_eq!(rest(&aborted(true, &[]), true), Rest::SendAgain([].into()));
        assert_eq!(rest(&aborted(false, &[0]), true), Rest::SendAgain([0].into()));
    }

    #[test]
    fn the_documented_headers() {
        let reach = Reach { topic: "results".to_owned(), first: [(0, 12), (3, 7)].into(), partitions: vec![0, 3, 3] };
        assert_eq!(encode(&reach), br#"{"topic":"results","first":{"0":12,"3":7},"partitions":[0,3,3]}"#);
        let aborted = Aborted { marker: true, partitions: [3].into() };
        assert_eq!(encode(&aborted), br#"{"marker":true,"partitions":[3]}"#);
        let again = reach.with(&aborted.partitions, [(3, 20)].into());
        assert_eq!(again, Reach { first: [(0, 12), (3, 20)].into(), ..reach });
    }
}
