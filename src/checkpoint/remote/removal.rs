//! Which objects may go: decided from what is listed, apart from the store.
//!
//! The model: a checkpoint goes by its manifest first; then go the objects that it named and no manifest that is left names. What
//! runs that ended before have left without a manifest goes once in a run, after its first publication. A run that is still at work
//! beside this one is no exception: where its objects are older than this run's first manifest, it began before that was
//! published, and goes on from what was newest then; it can publish nothing more, as this run has taken its epoch.

use super::client::Object;
use super::keys::{KeyOf, RunId, parse};
use crate::checkpoint::LEAST_RETAINED;
use crate::time::Epoch;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// What the manifest of a checkpoint names; `None` where it cannot be read.
pub type Named = Option<BTreeSet<String>>;

/// The checkpoints that go when `newest` is published: those that count no more, and of the rest those that are older than the
/// `retain` newest that can be read.
pub fn checkpoints_to_remove(
    published: &BTreeMap<Epoch, Named>,
    newest: Epoch,
    discarded: &[Epoch],
    retain: usize,
) -> Vec<Epoch> {
    let counts = |epoch: &Epoch| *epoch <= newest && !discarded.contains(epoch);
    let readable: Vec<Epoch> =
        published.iter().filter(|(epoch, named)| counts(epoch) && named.is_some()).map(|(epoch, _)| *epoch).collect();
    let spare = readable.len().checked_sub(retain.max(LEAST_RETAINED));
    let oldest = spare.and_then(|spare| readable.get(spare).copied()).unwrap_or(Epoch::FIRST);
    published.keys().copied().filter(|epoch| discarded.contains(epoch) || (counts(epoch) && *epoch < oldest)).collect()
}

/// The objects that go with these checkpoints: what they name and no other does. None where another cannot be read: it may name any.
pub fn objects_to_remove(published: &BTreeMap<Epoch, Named>, removed: &[Epoch]) -> BTreeSet<String> {
    let (mut goes, mut stays) = (BTreeSet::new(), BTreeSet::new());
    for (epoch, named) in published {
        match (removed.contains(epoch), named) {
            (true, Some(named)) => goes.extend(named.iter().cloned()),
            (true, None) => {}
            (false, Some(named)) => stays.extend(named),
            (false, None) => return BTreeSet::new(),
        }
    }
    goes.retain(|key| !stays.contains(key));
    goes
}

/// What runs before have left: objects of other runs than `ours` that no manifest names and that are older than the manifest with
/// which this run began to count.
pub fn leftovers(
    objects: &[Object],
    published: &BTreeMap<Epoch, Named>,
    ours: &BTreeSet<RunId>,
    first_published: DateTime<Utc>,
) -> Vec<String> {
    let Some(named) = published.values().map(Option::as_ref).collect::<Option<Vec<_>>>() else { return Vec::new() };
    let is_left = |object: &&Object| {
        let run = match parse(&object.key) {
            Some(KeyOf::Table(run) | KeyOf::File(_, run)) => run,
            _ => return false,
        };
        !ours.contains(&run)
            && object.modified < first_published
            && !named.iter().any(|named| named.contains(&object.key))
    };
    objects.iter().filter(is_left).map(|object| object.key.clone()).collect()
}

/// Whether somebody who is gone was to write this object: of another run than `ours`, or any manifest, begun before the manifest with
/// which this run began to count.
pub fn is_abandoned(unfinished: &Object, ours: &BTreeSet<RunId>, first_published: DateTime<Utc>) -> bool {
    let is_others = match parse(&unfinished.key) {
        Some(KeyOf::Table(run) | KeyOf::File(_, run)) => !ours.contains(&run),
        Some(KeyOf::Manifest(_)) => true,
        None => false,
    };
    is_others && unfinished.modified < first_published
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::remote::keys::{file_key, manifest_key, table_key};
    use crate::event::WorkerIndex;

    fn epochs(numbers: &[u64]) -> Vec<Epoch> {
        numbers.iter().copied().map(Epoch::new).collect()
    }

    fn published(of: &[(u64, Option<&[&str]>)]) -> BTreeMap<Epoch, Named> {
        let named = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        of.iter().map(|(epoch, keys)| (Epoch::new(*epoch), keys.map(named))).collect()
    }

    #[test]
    fn so_many_of_the_newest_stay_and_a_damaged_one_is_none_of_them() {
        let none: &[&str] = &[];
        let all = published(&[(1, Some(none)), (2, Some(none)), (3, None), (4, Some(none)), (5, Some(none))]);
        let removed =
            |retain, discarded: &[u64]| checkpoints_to_remove(&all, Epoch::new(5), &epochs(discarded), retain);
        assert_eq!(removed(3, &[]), epochs(&[1]));
        assert_eq!(removed(2, &[]), epochs(&[1, 2, 3]));
        assert_eq!(removed(0, &[]), epochs(&[1, 2, 3]), "two stay whatever is asked");
        assert_eq!(removed(4, &[]), epochs(&[]));
        assert_eq!(removed(3, &[4]), epochs(&[4]), "what counts no more is none of the three");
        let zombie = checkpoints_to_remove(&all, Epoch::new(2), &[], 2);
        assert_eq!(zombie, epochs(&[]), "what is newer than the one just published is not looked at");
    }

    #[test]
    fn an_object_goes_with_the_last_manifest_that_names_it() {
        let all = published(&[(1, Some(&["a", "t"])), (2, Some(&["b", "t", "u"])), (3, Some(&["c", "u"]))]);
        let goes = |removed: &[u64]| objects_to_remove(&all, &epochs(removed)).into_iter().collect::<Vec<_>>();
        assert_eq!(goes(&[1]), ["a"]);
        assert_eq!(goes(&[1, 2]), ["a", "b", "t"]);
        assert_eq!(goes(&[]), Vec::<String>::new());
        let unread = published(&[(1, Some(&["a"])), (2, None)]);
        assert!(objects_to_remove(&unread, &epochs(&[1])).is_empty(), "2 may name it");
        assert_eq!(objects_to_remove(&unread, &epochs(&[1, 2])).len(), 1);
    }

    #[test]
    fn leftovers_are_old_of_other_runs_and_named_by_no_manifest() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        let (dead, ours, peer, newer) = (RunId(1), RunId(2), RunId(3), RunId(4));
        let worker = WorkerIndex(0);
        let named = table_key(dead, worker, "000001.sst");
        let left = [table_key(dead, worker, "000002.sst"), file_key(Epoch::new(6), dead, worker, "CURRENT")];
        let objects: Vec<Object> = [
            (named.clone(), 10),
            (left[0].clone(), 10),
            (left[1].clone(), 20),
            (file_key(Epoch::new(9), ours, worker, "CURRENT"), 20),
            (table_key(peer, worker, "000001.sst"), 20),
            (file_key(Epoch::new(9), newer, worker, "CURRENT"), 31),
            (table_key(newer, worker, "000001.sst"), 30),
            (manifest_key(Epoch::new(3)), 1),
            ("worker-0/notes".to_owned(), 1),
            ("4/worker-0/CURRENT".to_owned(), 1),
        ]
        .map(|(key, modified)| Object { key, bytes: 1, modified: at(modified) })
        .to_vec();
        let published = published(&[(8, Some(&[named.as_str()]))]);
        assert_eq!(leftovers(&objects, &published, &BTreeSet::from([ours, peer]), at(30)), left);
        let unread = BTreeMap::from([(Epoch::new(8), None)]);
        assert!(leftovers(&objects, &unread, &BTreeSet::from([ours, peer]), at(30)).is_empty());
    }

    #[test]
    fn what_others_began_before_and_did_not_finish_is_abandoned() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        let (dead, ours, worker) = (RunId(1), BTreeSet::from([RunId(2)]), WorkerIndex(0));
        let is_abandoned =
            |key: String, modified| is_abandoned(&Object { key, bytes: 1, modified: at(modified) }, &ours, at(30));
        assert!(is_abandoned(table_key(dead, worker, "000002.sst"), 29));
        assert!(is_abandoned(file_key(Epoch::new(6), dead, worker, "CURRENT"), 29));
        assert!(is_abandoned(manifest_key(Epoch::new(6)), 29));
        assert!(!is_abandoned(table_key(dead, worker, "000002.sst"), 30));
        assert!(!is_abandoned(manifest_key(Epoch::new(6)), 30));
        assert!(!is_abandoned(table_key(RunId(2), worker, "000002.sst"), 29));
        assert!(!is_abandoned("notes.txt".to_owned(), 29));
    }
}
