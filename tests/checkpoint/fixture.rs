//! Checkpoints of earlier versions: this program goes on from them.

use super::checkout;
use super::sample::Job;
use llm_optimizer_processor::ProcessorResult;
use llm_optimizer_processor::checkpoint::{
    CheckpointStore, Contents, Manifest, Restored, Selection, Table, key_groups_of,
};
use llm_optimizer_processor::event::WorkerIndex;
use llm_optimizer_processor::time::Epoch;
use std::path::Path;

const EPOCH: u64 = 3;

/// What windows, panes, revisions and waiting rows are, whichever worker they are on and whatever numbers they have there.
fn told(contents: &Contents) -> Vec<String> {
    let mut told: Vec<String> = contents.entries.first.iter().map(|entry| format!("{entry:?}")).collect();
    told.extend(contents.revisions.first.iter().map(|revision| format!("{revision:?}")));
    told.extend(contents.waiting.first.iter().map(|row| format!("{row:?}")));
    told.extend(contents.panes.first.iter().map(|(definition, pane)| {
        // The pane of a session is known by its entry's number.
        let of = format!("{:?}", pane.of);
        let of = if of.starts_with("Session") { "Session" } else { &of };
        format!(
            "{definition:?} {of} {} {} {} {} {} {} {} {:?} {}",
            pane.key,
            pane.events,
            pane.events_since_firing,
            pane.last_event,
            pane.firings,
            pane.fired_at,
            pane.complete_at_firing,
            pane.standing,
            pane.is_purged
        )
    }));
    told.sort();
    told
}

#[test]
fn version_1_is_gone_on_from_at_any_number_of_workers() {
    let store = CheckpointStore::offline(checkout::ROOT.join("tests/fixtures/checkpoint-v1")).unwrap();
    let fixture = Contents::read(&store, Epoch::new(EPOCH), &Selection::default()).unwrap();
    let is_there = |table: &Table| fixture.tables.contains_key(table) || Table::OF_VIEWS.contains(table);
    assert!(Table::ALL.iter().all(is_there), "{:?}", fixture.tables);
    let restored = Restored::open(&store, fixture.manifest.clone()).unwrap();
    assert_eq!(restored.cuts().unwrap(), fixture.cuts);
    for workers in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        let (state, checkpoints) = (folder.path().join("state"), folder.path().join("c"));
        let mut job = Job::restored(&state, &checkpoints, workers, &restored);
        job.checkpoint_of_all(EPOCH).unwrap();
        let again = Contents::read(&job.store, Epoch::new(EPOCH), &Selection::default()).unwrap();
        assert_eq!(told(&again), told(&fixture), "{workers} workers");
    }
}

impl Job {
    /// With windows that go on from a checkpoint, and no events.
    pub fn restored(state: &Path, checkpoints: &Path, workers: usize, from: &Restored) -> Job {
        let mut job = Self::with_windows(state, checkpoints, workers);
        for (index, worker) in job.workers.iter_mut().enumerate() {
            let groups = key_groups_of(WorkerIndex(index as u32), workers);
            for windows in &mut worker.windows {
                let definition = windows.definition();
                let restore = |key: &[u8], value: &[u8]| windows.restore(key, value);
                from.windows(definition, groups.clone(), restore).expect("records of windows");
                windows.finish_restore().expect("records that fit together");
            }
        }
        job
    }

    /// Each worker writes all that it has, then all is published.
    pub fn checkpoint_of_all(&mut self, epoch: u64) -> ProcessorResult<Manifest> {
        self.checkpoint_of(Epoch::new(epoch), |windows, _, _, _| windows.change_all())
    }
}
