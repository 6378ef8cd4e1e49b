//! A run that goes on from what another has kept at the end of an epoch.

use crate::run::{Said, Start, Workers, run};
use crate::script::{Action, Script};
use crate::{all_views, check_from};
use llm_optimizer_processor::time::{Epoch, Time};
use llm_optimizer_processor::view::keeper::ViewRestore;
use llm_optimizer_processor::view::record::changes;
use llm_optimizer_processor::view::release::Keeper;
use llm_optimizer_processor::view::retained::Retained;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The changes of records of each worker, by epoch.
type Kept = Arc<Mutex<BTreeMap<(usize, Epoch), Vec<(Vec<u8>, Option<Vec<u8>>)>>>>;

struct Recorder {
    worker: usize,
    epoch: Epoch,
    kept: Kept,
}

impl Keeper for Recorder {
    fn turn(&mut self, retained: &mut Retained, frontier: &[Time]) {
        while !frontier.is_empty() && frontier.iter().all(|time| time.epoch() > self.epoch) {
            let changes = changes(retained);
            let changes = changes.iter().map(|change| (change.key.to_vec(), change.value.map(<[u8]>::to_vec)));
            self.kept.lock().unwrap().insert((self.worker, self.epoch), changes.collect());
            self.epoch = self.epoch.next();
        }
    }

    fn wake_by(&mut self, _activator: timely::scheduling::Activator) {}
}

/// A run that begins with an epoch, from what was kept before it, and keeps as well.
fn start(first: Epoch, before: &Kept, kept: &Kept) -> Start {
    let (before, kept) = (Arc::clone(before), Arc::clone(kept));
    Start {
        epoch: first,
        retained: Some(Arc::new(move |worker, retained| {
            retained.track_changes();
            let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for ((of, epoch), changes) in before.lock().unwrap().iter() {
                for (key, value) in changes.iter().filter(|_| *of == worker && *epoch < first) {
                    match value {
                        Some(value) => records.insert(key.clone(), value.clone()),
                        None => records.remove(key),
                    };
                }
            }
            let mut restore = ViewRestore::default();
            for (key, value) in &records {
                restore.take(key, value, retained).unwrap();
            }
            restore.finish(retained);
        })),
        keeper: Some(Arc::new(move |worker| Box::new(Recorder { worker, epoch: first, kept: Arc::clone(&kept) }))),
    }
}

/// What workers do from an epoch on.
fn rest(script: &Script, first: Epoch) -> Script {
    let from = |actions: &Vec<Action>| {
        let is_later = |action: &Action| match action {
            Action::Send(sent) => sent.time.epoch() >= first,
            Action::Advance(time) => time.epoch() >= first,
            Action::Pause => true,
        };
        actions.iter().filter(|action| is_later(action)).cloned().collect()
    };
    Script { workers: script.workers.iter().map(from).collect(), end: script.end }
}

#[test]
fn what_is_said_after_a_restart_goes_on_where_it_ended() {
    for (seed, workers) in [(50, 1), (51, 2), (52, 3), (53, 2)] {
        let views = all_views();
        let script = Script::random(seed, workers, 70);
        let mut kept = Kept::default();
        let mut said = run(&views, &script, Workers::Threads(workers), start(Epoch::FIRST, &Kept::default(), &kept));
        let mut heard: Vec<Said> = Vec::new();
        // Twice: what a restored run keeps is all that the next one has.
        for first in [5, 11].map(Epoch::new) {
            let (before, after): (Vec<Said>, Vec<Said>) = said.into_iter().partition(|said| said.time.epoch() < first);
            assert!(!before.is_empty() && !after.is_empty(), "epoch {first} is in the middle");
            heard.extend(before);
            let next = Kept::default();
            said = run(&views, &rest(&script, first), Workers::Threads(workers), start(first, &kept, &next));
            assert!(said.iter().all(|said| said.time.epoch() >= first), "nothing is said of an earlier epoch");
            kept = next;
        }
        heard.extend(said);
        let mut contents: Vec<BTreeSet<_>> = views.iter().map(|_| BTreeSet::new()).collect();
        check_from(&views, &script, &heard, &mut contents);
    }
}
