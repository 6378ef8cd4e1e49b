//! A disk that is full at any moment of a checkpoint: an error that names a path, older checkpoints as they were, and the job goes on
//! when there is room.

use super::sample::{Job, changes};
use llm_optimizer_processor::checkpoint::{Changes, CheckpointState, CheckpointStore};
use llm_optimizer_processor::event::WorkerIndex;
use llm_optimizer_processor::time::Epoch;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A small file system in memory.
struct SmallDisk {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, and a line that says so, where this process may not mount.
    fn mount(kilobytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"]).arg(&path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(SmallDisk { path, _folder: folder }),
            Ok(output) => {
                println!("skipped: mount is not permitted here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: there is no mount: {error}");
                None
            }
        }
    }

    /// Fills it up to this many free bytes.
    fn fill(&self, free: u64) {
        const PAGE: u64 = 4_096;
        let filler = self.path.join("filler");
        let _ = fs::remove_file(&filler);
        let all = vec![0u8; 64 << 20];
        // As much as there is room for: the error is what says so.
        let _ = fs::write(&filler, all);
        let length = fs::metadata(&filler).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&filler).unwrap();
        file.set_len((length.saturating_sub(free)) / PAGE * PAGE).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What cannot be unmounted is left to whoever cleans the temporary directory.
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

/// It can be restored, and has what was written in its epoch.
fn is_whole(store: &CheckpointStore, epoch: u64) {
    let manifest = store.load(Epoch::new(epoch)).unwrap();
    let readers: Vec<_> = store.snapshots(&manifest).map(Result::unwrap).collect();
    for change in ballast(epoch).iter().chain(changes(Epoch::new(epoch), WorkerIndex(0)).iter()) {
        assert_eq!(readers[0].get(change.key).unwrap().as_deref(), change.value, "{}", change.key.escape_ascii());
    }
}

fn ballast(epoch: u64) -> Changes {
    let mut changes = Changes::default();
    for key in 0u64..200 {
        let noise = (epoch << 32 | key).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        changes.put(&[b"ballast", &key.to_be_bytes()[..]].concat(), &noise.repeat(32));
    }
    changes
}

fn attempt(job: &mut Job, epoch: u64) -> Result<(), String> {
    job.checkpoint(epoch).map(drop).map_err(|error| error.to_string())
}

/// Tries until it works, without a word of what was written before.
fn eventually(job: &mut Job, epoch: u64) -> Duration {
    let begin = Instant::now();
    while let Err(error) = attempt(job, epoch) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

/// With the databases on the small disk or elsewhere.
fn run(state: impl Fn(&Path) -> PathBuf) {
    let Some(disk) = SmallDisk::mount(8 << 10) else { return };
    let checkpoints = disk.path.join("checkpoints");
    let mut job = Job::start(&state(&disk.path), &checkpoints, 1);
    job.workers[0].store.write(ballast(1)).unwrap();
    attempt(&mut job, 1).unwrap();
    let (mut failures, mut epoch) = (0, 2);
    for step in 0..40 {
        disk.fill(step * 4_096);
        let written = job.workers[0].store.write(ballast(epoch)).map_err(|error| error.to_string());
        let made = written.and_then(|_| attempt(&mut job, epoch));
        is_whole(&job.store, epoch - 1);
        if let Err(error) = made {
            failures += 1;
            assert!(error.contains(disk.path.to_str().unwrap()), "no path: {error}");
            let listed = job.store.list().unwrap();
            let published = listed.iter().find(|listed| listed.epoch == Epoch::new(epoch));
            assert!(!matches!(published.map(|listed| &listed.state), Some(CheckpointState::Complete(_))), "{error}");
            disk.free();
            let waited = eventually(&mut job, epoch);
            println!("step {step}: {error}; made after {waited:?}");
        }
        is_whole(&job.store, epoch);
        job.store.retain(2).unwrap();
        epoch += 1;
    }
    assert!(failures >= 3, "{failures}");
}

#[test]
fn everything_on_a_full_disk() {
    run(|disk| disk.join("state"));
}

#[test]
fn checkpoints_on_a_full_disk_and_databases_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    run(|_| folder.path().join("state"));
}
