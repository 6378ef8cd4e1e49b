//! Runs of a job against stores in memory and on disk, with one request that goes wrong, whichever it is.

use super::faulty::{Faulty, How};
use super::keys::{KeyOf, manifest_key, objects_of, parse};
use super::*;
use crate::checkpoint::{FaultKind, JobFingerprint, KnownFiles, SinkNames, SnapshotFiles, WorkerSnapshot, Written};
use crate::event::KEY_GROUPS;
use crate::sink::Generation;
use crate::time::{EventTime, Span};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const WORKERS: u32 = 2;
const RETAIN: usize = 2;
const NO_PATIENCE: Patience = Patience { total: Duration::ZERO, first_pause: Duration::from_millis(1) };
/// Enough for one request that fails.
const SOME_PATIENCE: Patience = Patience { total: Duration::from_secs(10), first_pause: Duration::from_millis(1) };

/// In memory, where there is room for files: these tests are about order, and write the same few files very often.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn remote(store: Arc<dyn ObjectStore>, patience: Patience) -> Remote {
    let url = ObjectUrl::parse("s3://bucket/jobs/feedback").unwrap().unwrap();
    let prefix = object_store::path::Path::from("jobs/feedback");
    Remote::new(ObjectClient::new(url, store, prefix).unwrap(), patience).unwrap()
}

fn manifest(epoch: Epoch, snapshots: Vec<WorkerSnapshot>) -> Manifest {
    Manifest {
        epoch,
        job: "feedback".to_owned(),
        generation: Generation(1),
        created_at: chrono::Utc::now(),
        program: "test".to_owned(),
        processes: 1,
        workers: WORKERS,
        part: None,
        key_groups: KEY_GROUPS,
        fingerprint: JobFingerprint::default(),
        definitions: Vec::new(),
        max_out_of_orderness: Span::ZERO,
        frontier: EventTime::MIN,
        finished: false,
        snapshots,
        sink_names: SinkNames::default(),
        sinks: Vec::new(),
        transactional_shards: BTreeSet::new(),
    }
}

/// A run of a job in one process. Its workers' tables are files with a byte repeated; each epoch has one more, and that of two
/// epochs ago is merged away.
struct Run {
    remote: Remote,
    local: CheckpointStore,
    uploaders: Vec<Uploader>,
    known: Vec<KnownFiles>,
    publisher: RemotePublisher,
    next: Epoch,
    restored: Option<Manifest>,
    _directory: TempDir,
}

impl Run {
    /// Begins with what is newest in the store, which must be whole.
    fn begin(store: Arc<dyn ObjectStore>, patience: Patience) -> ProcessorResult<Self> {
        let directory = scratch();
        Self::begin_in(store, patience, directory)
    }

    fn begin_in(store: Arc<dyn ObjectStore>, patience: Patience, directory: TempDir) -> ProcessorResult<Self> {
        let remote = remote(store, patience);
        let local = CheckpointStore::open(directory.path().join("c"))?;
        remote.check_conditions()?;
        let listed = remote.list()?;
        remote.distrust(&local, &listed)?;
        let newest = listed.iter().rev().find_map(|listed| listed.state.manifest().cloned());
        if let Some(manifest) = &newest {
            let fault = remote.fetch(&local, manifest, &RestoreProgress::new(1))?;
            assert_eq!(fault, None, "a checkpoint that is published is whole");
            check_copy(&local, manifest);
        }
        let no_end: IsOver = Arc::new(|| false);
        Ok(Self {
            uploaders: (0..WORKERS).map(|worker| remote.uploader(WorkerIndex(worker), no_end.clone())).collect(),
            known: (0..WORKERS).map(|_| KnownFiles::default()).collect(),
            publisher: remote.publisher(RETAIN, Vec::new(), no_end),
            next: Remote::first_after(&listed).max(Epoch::new(1)),
            restored: newest,
            remote,
            local,
            _directory: directory,
        })
    }

    /// Takes a checkpoint; each step is tried so often.
    fn checkpoint(&mut self, attempts: usize) -> ProcessorResult<Manifest> {
        let epoch = self.next;
        let mut snapshots = Vec::new();
        for worker in 0..WORKERS {
            let directory = self.local.worker_directory(epoch, WorkerIndex(worker));
            write_snapshot(&directory, epoch, worker);
            let files = SnapshotFiles::settle(&directory, &mut self.known[worker as usize])?;
            let uploader = &mut self.uploaders[worker as usize];
            let files = tried(attempts, || uploader.upload(epoch, &directory, &files))?;
            snapshots.push(WorkerSnapshot::new(WorkerIndex(worker), files, Written::default(), &[]));
        }
        forget_older(&self.local, epoch)?;
        let manifest = manifest(epoch, snapshots);
        tried(attempts, || self.publisher.publish(&manifest))?;
        // What fails here is done after the next.
        let _ = self.publisher.tidy(&manifest);
        self.next = epoch.next();
        Ok(manifest)
    }
}

fn tried<T>(attempts: usize, mut attempt: impl FnMut() -> ProcessorResult<T>) -> ProcessorResult<T> {
    let mut tried = attempt();
    for _ in 1..attempts {
        if tried.as_ref().is_err_and(|error| !matches!(error, ProcessorError::Refused(_))) {
            tried = attempt();
        }
    }
    tried
}

fn write_snapshot(directory: &Path, epoch: Epoch, worker: u32) {
    fs::create_dir_all(directory).unwrap();
    let number = epoch.number();
    for table in number.saturating_sub(1)..=number {
        let content = vec![table as u8 ^ worker as u8; 100 + table as usize];
        fs::write(directory.join(format!("{table:06}.sst")), content).unwrap();
    }
    fs::write(directory.join("CURRENT"), format!("MANIFEST-{number}-{worker}")).unwrap();
    if worker == 0 {
        fs::write(directory.join("EMPTY"), "").unwrap();
    }
}

/// The local copy has what the run that took the checkpoint wrote.
fn check_copy(local: &CheckpointStore, manifest: &Manifest) {
    let found = local.load(manifest.epoch).unwrap();
    assert_eq!(found, *manifest);
    for snapshot in &manifest.snapshots {
        let directory = local.directory(manifest.epoch).join(&snapshot.directory);
        assert_eq!(snapshot.files.check_contents(&directory), []);
        let current = fs::read_to_string(directory.join("CURRENT")).unwrap();
        assert_eq!(current, format!("MANIFEST-{}-{}", manifest.epoch.number(), snapshot.worker.0));
    }
}

fn epochs_in(store: &Arc<dyn ObjectStore>) -> Vec<u64> {
    let listed = remote(Arc::clone(store), NO_PATIENCE).list().unwrap();
    listed.iter().filter(|of| of.state.manifest().is_some()).map(|of| of.epoch.number()).collect()
}

/// Every object is a manifest or named by one, and every one that is named is there.
fn check_tidy(store: &Arc<dyn ObjectStore>) {
    let remote = remote(Arc::clone(store), NO_PATIENCE);
    let survey = Survey::take(&remote.client).unwrap();
    let mut named: BTreeSet<String> = survey.manifests.keys().map(|epoch| manifest_key(*epoch)).collect();
    for read in survey.manifests.values() {
        named.extend(objects_of(read.as_ref().expect("it can be read")));
    }
    let found: BTreeSet<String> = survey.objects.into_iter().map(|object| object.key).collect();
    assert_eq!(found, named);
}

/// Stores to test with; the directory is that of the second.
fn stores() -> Vec<(Arc<dyn ObjectStore>, Option<TempDir>)> {
    let directory = scratch();
    let local = LocalFileSystem::new_with_prefix(directory.path()).unwrap().with_automatic_cleanup(true);
    vec![(Arc::new(InMemory::new()), None), (Arc::new(local), Some(directory))]
}

#[test]
fn a_job_goes_on_from_the_store_and_keeps_as_many_as_it_should() {
    for (store, directory) in stores() {
        let mut run = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
        assert_eq!(run.restored, None);
        for _ in 0..5 {
            run.checkpoint(1).unwrap();
        }
        assert_eq!(run.local.epochs().unwrap().len(), 2, "the local directory keeps what the next start may need");
        drop(run);
        assert_eq!(epochs_in(&store), [4, 5]);
        check_tidy(&store);
        let mut run = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
        assert_eq!(run.restored.as_ref().map(|of| of.epoch.number()), Some(5));
        run.checkpoint(1).unwrap();
        assert_eq!(epochs_in(&store), [5, 6]);
        run.checkpoint(1).unwrap();
        assert_eq!(epochs_in(&store), [6, 7]);
        check_tidy(&store);
        if let Some(directory) = directory {
            let top = fs::read_dir(directory.path().join("jobs/feedback")).unwrap().count();
            assert_eq!(top, 3, "two epochs and the tables; empty directories go");
        }
    }
}

#[test]
fn tables_are_sent_once() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut run = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
    let (first, second) = (run.checkpoint(1).unwrap(), run.checkpoint(1).unwrap());
    let shared: Vec<String> = objects_of(&first).intersection(&objects_of(&second)).cloned().collect();
    assert!(!shared.is_empty() && shared.iter().all(|key| matches!(parse(key), Some(KeyOf::Table(_)))), "{shared:?}");
    let modified = |survey: &Survey, key: &String| {
        survey.objects.iter().find(|object| object.key == *key).map(|object| object.modified)
    };
    let before = Survey::take(&run.remote.client).unwrap();
    run.checkpoint(1).unwrap();
    let after = Survey::take(&run.remote.client).unwrap();
    let still: Vec<_> = shared.iter().filter(|key| modified(&after, key).is_some()).collect();
    assert!(!still.is_empty());
    assert!(still.into_iter().all(|key| modified(&before, key) == modified(&after, key)));
}

/// What a run in which one request goes wrong had done when it ended, with the fault.
fn run_with_fault(base: &Arc<dyn ObjectStore>, at: usize, how: How, attempts: usize) -> (Vec<u64>, bool) {
    let faulty = Faulty::new(Arc::clone(base), Some((at, how)));
    let patience = if attempts > 1 { SOME_PATIENCE } else { NO_PATIENCE };
    let mut published = Vec::new();
    if let Ok(mut run) = Run::begin(faulty.clone(), patience) {
        for _ in 0..2 {
            match run.checkpoint(attempts) {
                Ok(manifest) => published.push(manifest.epoch.number()),
                Err(error) => {
                    assert!(!matches!(error, ProcessorError::Refused(_)), "{at} {how:?}: {error}");
                    break;
                }
            }
        }
    }
    (published, faulty.has_failed())
}

/// A store in which a run has taken two checkpoints.
fn base_of(kind: usize) -> (Arc<dyn ObjectStore>, Option<TempDir>) {
    let (store, directory) = stores().swap_remove(kind);
    let mut run = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
    (0..2).for_each(|_| drop(run.checkpoint(1).unwrap()));
    (store, directory)
}

/// Runs of which a request goes wrong, each one in turn, and a run after each of them, which goes on from the newest
/// checkpoint and cleans up. `check` is told the epochs that the first run has published, the newest in the store, and
/// which request it was.
fn whichever_request(hows: [How; 2], attempts: usize, check: impl Fn(&[u64], u64, &str)) {
    let is_right_after = |kind: usize, how: How, at: usize| {
        let (base, _directory) = base_of(kind);
        let (published, has_failed) = run_with_fault(&base, at, how, attempts);
        let newest = *epochs_in(&base).last().unwrap();
        let which = format!("{at} {how:?}");
        check(&published, newest, &which);
        let mut next = Run::begin(Arc::clone(&base), NO_PATIENCE).unwrap();
        assert_eq!(next.restored.as_ref().map(|of| of.epoch.number()), Some(newest));
        next.checkpoint(1).unwrap();
        assert_eq!(epochs_in(&base), [newest, newest + 1], "{which}");
        check_tidy(&base);
        has_failed
    };
    for kind in 0..2 {
        for how in hows {
            let requests = (0..).take_while(|at| is_right_after(kind, how, *at)).count();
            assert!(requests > 30, "{requests} requests are no test");
        }
    }
}

#[test]
fn whichever_request_fails_once_everything_comes_right() {
    whichever_request([How::Fails, How::LosesItsAnswer], 3, |published, newest, which| {
        assert_eq!((published, newest), ([3, 4].as_slice(), 4), "{which}");
    });
}

#[test]
fn whichever_request_is_the_last_the_next_start_is_right() {
    whichever_request([How::IsNotMade, How::IsTheLast], 1, |published, newest, which| {
        let told = published.last().copied().unwrap_or(2);
        // The answer to the last one may not have come.
        assert!(newest == told || newest == told + 1, "{which}: {newest} after {told}");
    });
}

#[test]
fn of_two_runs_that_begin_with_the_same_one_is_refused() {
    for (store, _directory) in stores() {
        let mut first = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
        first.checkpoint(1).unwrap();
        let mut second = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
        let published = second.checkpoint(1).unwrap();
        let error = first.checkpoint(3).unwrap_err();
        assert!(
            matches!(&error, ProcessorError::Refused(why) if why.contains("s3://bucket/jobs/feedback/2/manifest.json")),
            "{error}"
        );
        let third = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
        assert_eq!(third.restored, Some(published), "what the refused one has written is beside it");
    }
}

#[test]
fn a_run_that_slept_while_its_epoch_came_and_went_is_refused() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut sleeper = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
    sleeper.checkpoint(1).unwrap();
    let mut other = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
    for _ in 0..5 {
        other.checkpoint(1).unwrap();
    }
    assert_eq!(epochs_in(&store), [5, 6]);
    let error = sleeper.checkpoint(3).unwrap_err();
    assert!(matches!(&error, ProcessorError::Refused(why) if why.contains("checkpoint 6")), "{error}");
    assert_eq!(epochs_in(&store), [5, 6]);
    other.checkpoint(1).unwrap();
    assert_eq!(epochs_in(&store), [6, 7]);
}

#[test]
fn what_a_peer_or_a_later_start_has_sent_is_not_taken_for_what_a_dead_run_left() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut run = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
    // One that has published and not yet swept, while another has begun with that and sends its snapshot.
    let manifest = {
        let epoch = run.next;
        let directory = run.local.worker_directory(epoch, WorkerIndex(0));
        write_snapshot(&directory, epoch, 0);
        let files = SnapshotFiles::settle(&directory, &mut KnownFiles::default()).unwrap();
        let files = run.uploaders[0].upload(epoch, &directory, &files).unwrap();
        let snapshot = |worker| WorkerSnapshot::new(WorkerIndex(worker), files.clone(), Written::default(), &[]);
        manifest(epoch, vec![snapshot(0), snapshot(1)])
    };
    run.publisher.publish(&manifest).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let later = remote(Arc::clone(&store), NO_PATIENCE);
    let scratch = scratch();
    write_snapshot(scratch.path(), Epoch::new(2), 0);
    let files = SnapshotFiles::settle(scratch.path(), &mut KnownFiles::default()).unwrap();
    let mut uploader = later.uploader(WorkerIndex(0), Arc::new(|| false));
    uploader.upload(Epoch::new(2), scratch.path(), &files).unwrap();
    let before = later.client.list().unwrap();
    run.publisher.tidy(&manifest).unwrap();
    assert_eq!(later.client.list().unwrap(), before);
}

#[test]
fn damage_is_named_by_the_url_of_the_object() {
    for (store, _directory) in stores() {
        let mut run = Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap();
        run.checkpoint(1).unwrap();
        let manifest = run.checkpoint(1).unwrap();
        let key = manifest.snapshots[1].files.0.iter().find(|file| file.name == "000002.sst").unwrap();
        let (key, bytes) = (key.object.clone().unwrap(), key.bytes as usize);
        let fetched = |run: &Run| {
            let directory = scratch();
            let local = CheckpointStore::open(directory.path()).unwrap();
            let fault = run.remote.fetch(&local, &manifest, &RestoreProgress::new(1)).unwrap();
            assert!(local.load(manifest.epoch).is_err(), "nothing damaged is published in the copy");
            fault.expect("it is damaged")
        };
        let url = format!("s3://bucket/jobs/feedback/{key}");
        let put = |content: Vec<u8>| run.remote.client.put(&key, content.into()).unwrap();
        put(vec![0; bytes]);
        let fault = fetched(&run);
        assert!(matches!(fault.kind, FaultKind::Checksum { .. }) && fault.file == Path::new(&url), "{fault}");
        for length in [bytes - 1, bytes + 1, 0] {
            put(vec![0; length]);
            let expected = FaultKind::Length { expected: bytes as u64, found: length as u64 };
            assert_eq!(fetched(&run), Fault::new(Path::new(&url), expected.clone()));
            let listed = run.remote.list().unwrap();
            let CheckpointState::Damaged { faults, .. } = &listed.last().unwrap().state else { panic!("{listed:?}") };
            assert_eq!(faults[..], [Fault::new(Path::new(&url), expected)]);
        }
        run.remote.client.delete(std::slice::from_ref(&key)).unwrap();
        assert_eq!(fetched(&run), Fault::new(Path::new(&url), FaultKind::Missing));
        run.remote.client.put("2/manifest.json", Bytes::from_static(b"{}")).unwrap();
        let listed = run.remote.list().unwrap();
        let error = run.remote.load(Epoch::new(2), &listed).unwrap_err().to_string();
        assert!(error.contains("s3://bucket/jobs/feedback/2/manifest.json: is damaged"), "{error}");
        let error = run.remote.load(Epoch::new(9), &listed).unwrap_err().to_string();
        assert!(error.contains("in s3://bucket/jobs/feedback is not there; there are 1"), "{error}");
    }
}

#[test]
fn what_is_here_already_does_not_come_again_and_nothing_here_counts_by_itself() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let directory = scratch();
    let place = directory.path().to_owned();
    let mut run = Run::begin_in(Arc::clone(&store), NO_PATIENCE, directory).unwrap();
    run.checkpoint(1).unwrap();
    let manifest = run.checkpoint(1).unwrap();
    let Run { _directory: directory, local, .. } = run;
    // A checkpoint of another course, and a file that was changed.
    fs::create_dir_all(local.directory(Epoch::new(7)).join("worker-0")).unwrap();
    fs::write(local.directory(Epoch::new(7)).join("manifest.json"), manifest.to_bytes().unwrap()).unwrap();
    fs::write(local.directory(Epoch::new(2)).join("worker-1/CURRENT"), "MANIFEST-x-x").unwrap();
    fs::write(local.directory(Epoch::new(2)).join("worker-1/000099.sst"), "left by somebody").unwrap();
    drop(local);
    let faulty = Faulty::new(Arc::clone(&store), None);
    let run = Run::begin_in(faulty.clone(), NO_PATIENCE, directory).unwrap();
    assert_eq!(run.restored, Some(manifest));
    assert!(!place.join("c/7").exists());
    assert!(!place.join("c/2/worker-1/000099.sst").exists());
    assert_eq!(faulty.gets.load(Ordering::SeqCst), 3, "two manifests and the file that was changed");
}

#[test]
fn a_store_that_does_not_answer_is_asked_for_a_while_and_then_named() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    Run::begin(Arc::clone(&store), NO_PATIENCE).unwrap().checkpoint(1).unwrap();
    let patience = Patience { total: Duration::from_millis(100), first_pause: Duration::from_millis(1) };
    let faulty = Faulty::new(store, Some((0, How::IsNotMade)));
    let begun = Instant::now();
    let error = remote(faulty, patience).list().unwrap_err().to_string();
    assert!(begun.elapsed() >= patience.total);
    assert!(error.contains("the checkpoints in s3://bucket/jobs/feedback cannot be read"), "{error}");
    assert!(error.contains("the connection was lost"), "{error}");
}

#[test]
fn whoever_waits_for_a_store_that_hangs_is_let_go_when_the_run_is_over() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), None);
    faulty.hangs.store(true, Ordering::SeqCst);
    let remote = remote(faulty, SOME_PATIENCE);
    let begun = Instant::now();
    let over: IsOver = Arc::new(move || begun.elapsed() > Duration::from_millis(50));
    let error = remote.client.until(over).get("x").unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Over);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_store_that_heeds_no_condition_is_refused() {
    let faulty = Faulty::new(Arc::new(InMemory::new()), None);
    remote(faulty.clone(), NO_PATIENCE).check_conditions().unwrap();
    faulty.heeds_no_condition.store(true, Ordering::SeqCst);
    let error = remote(faulty.clone(), NO_PATIENCE).check_conditions().unwrap_err();
    assert!(matches!(&error, ProcessorError::Config(why) if why.starts_with("state.checkpoint_path: ")), "{error}");
    assert_eq!(remote(faulty, NO_PATIENCE).client.list().unwrap(), [], "nothing is left of the question");
}

#[test]
fn long_files_go_and_come_in_parts() {
    for (store, _directory) in stores() {
        let remote = remote(store, NO_PATIENCE);
        let (from, to) = (scratch(), scratch());
        let content: Vec<u8> = (0..20_000_000_u32).map(|byte| (byte % 251) as u8).collect();
        fs::write(from.path().join("000001.sst"), &content).unwrap();
        let files = SnapshotFiles::settle(from.path(), &mut KnownFiles::default()).unwrap();
        let mut uploader = remote.uploader(WorkerIndex(0), Arc::new(|| false));
        let sent = uploader.upload(Epoch::new(1), from.path(), &files).unwrap();
        let key = sent.0[0].object.clone().unwrap();
        let come = to.path().join("000001.sst");
        transfer::receive(&remote.client, &key, &come, &sent.0[0], &|_| {}).unwrap();
        assert!(fs::read(&come).unwrap() == content);
        // One that somebody has changed since its checksum was taken is not sent.
        let mut changed = content;
        changed[12_345_678] ^= 1;
        fs::write(from.path().join("000001.sst"), &changed).unwrap();
        let error = uploader.upload(Epoch::new(2), from.path(), &files).map(drop);
        assert!(error.is_ok(), "it is there already");
        let mut uploader = remote.uploader(WorkerIndex(1), Arc::new(|| false));
        let error = uploader.upload(Epoch::new(2), from.path(), &files).unwrap_err().to_string();
        assert!(error.contains("somebody has changed it"), "{error}");
        let keys: Vec<String> = remote.client.list().unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(keys, [key], "and makes no object");
    }
}
