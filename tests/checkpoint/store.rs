//! Publishing, listing and removing, and what a crash between any two steps leaves.

use super::sample::{Job, manifest};
use llm_optimizer_processor::ExitCode;
use llm_optimizer_processor::checkpoint::{CheckpointState, CheckpointStore, Manifest};
use llm_optimizer_processor::time::Epoch;
use std::fs;
use std::path::Path;

/// The epochs that are there, and what they are: c(omplete), i(ncomplete), d(amaged).
fn states(store: &CheckpointStore) -> Vec<(u64, char)> {
    let letter = |state: &CheckpointState| match state {
        CheckpointState::Complete(_) => 'c',
        CheckpointState::Incomplete { .. } => 'i',
        CheckpointState::Damaged { .. } => 'd',
    };
    store.list().unwrap().iter().map(|listed| (listed.epoch.number(), letter(&listed.state))).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn opens(store: &CheckpointStore, epoch: u64) -> Manifest {
    let manifest = store.load(Epoch::new(epoch)).unwrap();
    assert_eq!(store.snapshots(&manifest).map(Result::unwrap).count(), manifest.workers as usize);
    manifest
}

#[test]
fn what_is_published_is_listed_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::with_windows(&folder.path().join("state"), &folder.path().join("c"), 2);
    assert!(states(&job.store).is_empty());
    let published: Vec<Manifest> = [1, 2, 10].map(|epoch| job.checkpoint(epoch).unwrap()).into();
    assert_eq!(states(&job.store), [(1, 'c'), (2, 'c'), (10, 'c')]);
    for manifest in &published {
        assert_eq!(&opens(&job.store, manifest.epoch.number()), manifest);
    }
    let error = job.checkpoint(2).unwrap_err().to_string();
    assert!(error.contains("c/2/manifest.json") && error.contains("already"), "{error}");
    let error = job.store.load(Epoch::new(3)).unwrap_err().to_string();
    assert!(error.contains("checkpoint 3") && error.contains("not there; there are 1, 2, 10"), "{error}");
    // Names of which none is that of an epoch.
    for name in ["007", "x", "3.incomplete", "-1"] {
        fs::create_dir(folder.path().join("c").join(name)).unwrap();
    }
    assert_eq!(states(&job.store).len(), 3);
    assert_eq!(job.store.retain(0).unwrap(), [Epoch::new(1)]);
    assert_eq!(states(&job.store), [(2, 'c'), (10, 'c')]);
    opens(&job.store, 2);
}

#[test]
fn one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path()).unwrap();
    let error = CheckpointStore::open(folder.path()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused);
    let text = error.to_string();
    assert!(text.contains("LOCK") && text.contains(&format!("process {} holds it", std::process::id())), "{text}");
    // Other processes of the job, and tools, do not lock.
    CheckpointStore::join(folder.path()).unwrap();
    CheckpointStore::offline(folder.path()).unwrap();
    let clone = store.clone();
    drop(store);
    CheckpointStore::open(folder.path()).unwrap_err();
    drop(clone);
    CheckpointStore::open(folder.path()).unwrap();
    let error = CheckpointStore::offline(folder.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent"), "{error}");
    let error = CheckpointStore::offline(folder.path().join("LOCK")).unwrap_err().to_string();
    assert!(error.contains("is no directory"), "{error}");
}

/// Every state in which a crash can leave the directory while checkpoint 3 is made: the ones before are as they were, 3 counts or does
/// not, and the next start can go on.
#[test]
fn a_crash_while_a_checkpoint_is_made_leaves_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut job = Job::with_windows(&folder.path().join("state"), &whole, 2);
    (1..=3).for_each(|epoch| drop(job.checkpoint(epoch).unwrap()));
    let three = |root: &Path| root.join("3");
    let unpublish = |root: &Path| fs::remove_file(three(root).join("manifest.json")).unwrap();
    type Spoil<'a> = Box<dyn Fn(&Path) + 'a>;
    let stages: Vec<(&str, bool, Spoil<'_>)> = vec![
        ("before it began", false, Box::new(|root| fs::remove_dir_all(three(root)).unwrap())),
        (
            "begun",
            false,
            Box::new(|root| {
                fs::remove_dir_all(three(root)).unwrap();
                fs::create_dir(three(root)).unwrap();
            }),
        ),
        (
            "RocksDB was at it",
            false,
            Box::new(|root| {
                unpublish(root);
                fs::remove_dir_all(three(root).join("worker-1")).unwrap();
                fs::rename(three(root).join("worker-0"), three(root).join("worker-0.tmp")).unwrap();
            }),
        ),
        (
            "one worker's is made",
            false,
            Box::new(|root| {
                unpublish(root);
                fs::remove_dir_all(three(root).join("worker-1")).unwrap();
            }),
        ),
        ("all are made", false, Box::new(|root| unpublish(root))),
        (
            "the manifest is half written",
            false,
            Box::new(|root| {
                let bytes = fs::read(three(root).join("manifest.json")).unwrap();
                fs::write(three(root).join("manifest.json.new"), &bytes[..bytes.len() / 2]).unwrap();
                unpublish(root);
            }),
        ),
        (
            "the manifest is written",
            false,
            Box::new(|root| {
                fs::rename(three(root).join("manifest.json"), three(root).join("manifest.json.new")).unwrap();
            }),
        ),
        ("renamed", true, Box::new(|_| ())),
    ];
    for (stage, counts, spoil) in stages {
        let root = folder.path().join("crashed");
        copy(&whole, &root);
        spoil(&root);
        let store = CheckpointStore::open(&root).unwrap();
        let there = states(&store);
        let complete: Vec<u64> = there.iter().filter(|state| state.1 == 'c').map(|state| state.0).collect();
        assert_eq!(complete, if counts { vec![1, 2, 3] } else { vec![1, 2] }, "{stage}: {there:?}");
        assert!(there.iter().all(|state| state.1 != 'd'), "{stage}: {there:?}");
        if !counts && there.len() == 3 {
            let error = store.load(Epoch::new(3)).unwrap_err().to_string();
            assert!(
                error.contains("checkpoint 3") && error.contains("not published; there are 1, 2"),
                "{stage}: {error}"
            );
            assert_eq!(store.remove_incomplete().unwrap(), [Epoch::new(3)], "{stage}");
        }
        complete.iter().for_each(|epoch| drop(opens(&store, *epoch)));
        drop(store);
        let mut next = Job::start(&folder.path().join("state-of-the-next"), &root, 2);
        next.checkpoint(4).unwrap();
        opens(&next.store, 4);
        drop(next);
        fs::remove_dir_all(&root).unwrap();
    }
}

/// The same while checkpoint 1 is removed.
#[test]
fn a_crash_while_a_checkpoint_is_removed_leaves_an_incomplete_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut job = Job::with_windows(&folder.path().join("state"), &whole, 2);
    (1..=3).for_each(|epoch| drop(job.checkpoint(epoch).unwrap()));
    let steps = ["manifest.json", "worker-0/CURRENT", "worker-0", "worker-1", ""];
    for count in 1..=steps.len() {
        let root = folder.path().join("crashed");
        copy(&whole, &root);
        for step in &steps[..count] {
            let path = root.join("1").join(step);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        let store = CheckpointStore::open(&root).unwrap();
        let expected = [(1, 'i'), (2, 'c'), (3, 'c')];
        assert_eq!(states(&store), expected[usize::from(count == steps.len())..], "after {count} steps");
        [2, 3].iter().for_each(|epoch| drop(opens(&store, *epoch)));
        // Either way of cleaning up finishes it.
        let gone = if count % 2 == 0 { store.retain(2) } else { store.remove_incomplete() };
        assert_eq!(gone.unwrap().len(), usize::from(count < steps.len()));
        assert_eq!(states(&store), expected[1..]);
        store.remove(Epoch::new(1)).unwrap();
        drop(store);
        fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn what_is_kept_can_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::start(&folder.path().join("state"), &folder.path().join("c"), 1);
    (1..=6).for_each(|epoch| drop(job.checkpoint(epoch).unwrap()));
    let at = |name: &str| folder.path().join("c").join(name);
    fs::write(at("2/manifest.json"), "{}").unwrap();
    fs::write(at("5/manifest.json"), "{}").unwrap();
    fs::remove_file(at("3/manifest.json")).unwrap();
    job.store.begin(Epoch::new(7)).unwrap();
    assert_eq!(states(&job.store), [(1, 'c'), (2, 'd'), (3, 'i'), (4, 'c'), (5, 'd'), (6, 'c'), (7, 'i')]);
    // 7 is being made, 3 is what an attempt left.
    assert_eq!(job.store.retain(9).unwrap(), [Epoch::new(3)]);
    assert_eq!(job.store.retain(2).unwrap(), [1, 2].map(Epoch::new));
    assert_eq!(states(&job.store), [(4, 'c'), (5, 'd'), (6, 'c'), (7, 'i')]);
    assert_eq!(job.store.remove_incomplete().unwrap(), [Epoch::new(7)]);
    [4, 6].iter().for_each(|epoch| drop(opens(&job.store, *epoch)));
}

#[test]
fn contradictions_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new("manifest.json");
    let mut job = Job::with_windows(&folder.path().join("state"), &folder.path().join("c"), 2);
    let whole = job.checkpoint(1).unwrap();
    let told = |manifest: &Manifest| Manifest::from_bytes(&manifest.to_bytes().unwrap(), path).unwrap_err().to_string();
    assert_eq!(Manifest::from_bytes(&whole.to_bytes().unwrap(), path).unwrap(), whole);
    let lacks = manifest(Epoch::new(1), vec![whole.snapshots[1].clone()]);
    assert!(told(&lacks).contains("1 workers, and not one snapshot of each"), "{}", told(&lacks));
    for name in ["../2/worker-0", "/etc", "", ".", "a/b", "a/"] {
        let mut elsewhere = whole.clone();
        elsewhere.snapshots[1].directory = name.into();
        assert!(told(&elsewhere).contains("is not the name of a file"), "{name}");
        let mut elsewhere = whole.clone();
        elsewhere.snapshots[0].files.0[0].name = name.into();
        assert!(told(&elsewhere).contains("is not the name of a file"), "{name}");
    }
    // A directory that was given another number.
    fs::rename(folder.path().join("c/1"), folder.path().join("c/5")).unwrap();
    let error = job.store.load(Epoch::new(5)).unwrap_err().to_string();
    assert!(error.contains("c/5/manifest.json: is that of epoch 1"), "{error}");
}

#[test]
fn what_has_lost_a_file_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::with_windows(&folder.path().join("state"), &folder.path().join("c"), 2);
    let manifest = job.checkpoint(1).unwrap();
    // Once more is no harm: it was not known whether the name is durable.
    job.store.publish(&manifest).unwrap();
    assert_eq!(job.store.lost(&manifest), None);
    fs::remove_file(folder.path().join("c/1/manifest.json")).unwrap();
    fs::remove_file(folder.path().join("c/1/worker-1/CURRENT")).unwrap();
    let error = job.store.publish(&manifest).unwrap_err().to_string();
    assert!(error.contains("c/1/worker-1/CURRENT: is missing"), "{error}");
    assert!(job.store.lost(&manifest).unwrap().contains("c/1/worker-1/CURRENT: is missing"));
    assert_eq!(states(&job.store), [(1, 'i')]);
}
