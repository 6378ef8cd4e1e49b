//! The disk of the state and the checkpoints is full for a while: the job goes on, says so, and nothing is lost.

use super::interrupted::{Interrupted, PATIENCE, health, metric, while_it_runs};
use super::program::{Place, eventually};
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DISK: usize = 24 << 20;

/// A small disk of its own, for as long as the test runs.
struct Disk(PathBuf);

impl Disk {
    /// `None`, with the reason printed, where this user may not mount one.
    fn mount(at: PathBuf) -> Option<Disk> {
        fs::create_dir_all(&at).expect("a folder");
        let (target, kind) = (path_text(&at), c"tmpfs");
        let options = CString::new(format!("size={DISK}")).expect("no NUL");
        // SAFETY: mount reads the four texts, which live until it returns, and keeps none of them.
        let done = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if done == 0 {
            return Some(Disk(at));
        }
        println!("skipped: a tmpfs cannot be mounted: {}", std::io::Error::last_os_error());
        None
    }

    /// Fills it up to so many bytes.
    fn fill_but(&self, bytes: usize) {
        let mut ballast = fs::File::create(self.0.join("ballast")).expect("a file");
        let block = vec![1; 64 << 10];
        // Until nothing more goes in, whatever the job does at the same time; then as much as is to be free goes out.
        let mut size = 0;
        loop {
            match ballast.write(&block) {
                Ok(written) => size += written as u64,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => panic!("the ballast: {error}"),
            }
        }
        ballast.set_len(size.saturating_sub(bytes as u64)).expect("a shorter file");
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).expect("the ballast is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A program that is not dead yet may still have it open: it goes when that ends.
        // SAFETY: umount2 reads one text that lives until it returns.
        unsafe { libc::umount2(path_text(&self.0).as_ptr(), libc::MNT_DETACH) };
    }
}

fn path_text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

/// The job meets a disk with so many free bytes after so many checkpoints.
fn survives(delivery: &'static str, free: usize, after: u64) {
    let place = Place::new();
    let Some(disk) = Disk::mount(place.path("disk")) else { return };
    let job = Interrupted::on(place, delivery, disk.0.clone());
    let mut live = job.start();
    let pages = live.pages();
    job.wait_for_checkpoint(&live, after);
    disk.fill_but(free);
    let reasons = eventually("a degraded health", || match health(&pages) {
        (status, reasons) if status == "degraded" => Ok(reasons),
        other => Err(format!("{other:?}\n{}", live.err())),
    });
    assert!(
        reasons.contains("taking a checkpoint failed") && reasons.contains(" times in a row since checkpoint "),
        "{reasons}"
    );
    let before = job.published();
    let said = job.verify();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out.matches(": ok: ").count(), before.len(), "{said:?}");
    // The job goes on.
    let events = metric(&pages, "events_processed_total");
    eventually("more events", || match metric(&pages, "events_processed_total") {
        more if more > events => Ok(()),
        _ => Err(live.err()),
    });
    disk.empty();
    let newest = *before.last().expect("there were some");
    job.wait_for_checkpoint(&live, newest + 1);
    if live.child.try_wait().expect("a child").is_none() {
        eventually("a good health", || match health(&pages) {
            (status, _) if status == "ok" => Ok(()),
            // It may have come to its end meanwhile.
            (status, _) if status.is_empty() => Ok(()),
            other => Err(format!("{other:?}\n{}", live.err())),
        });
    }
    while_it_runs(&mut live, Duration::from_millis(150));
    if live.child.try_wait().expect("a child").is_none() {
        live.signal(libc::SIGKILL);
    }
    let (code, said) = live.end_within(PATIENCE);
    assert!(code.is_none_or(|code| code == 0), "{code:?} {said}");
    let said = job.verify();
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = job.end();
    assert!(said.contains("going on from checkpoint"), "{said}");
    // Where the disk was full for long and the machine is fast, it had come to its end before it was killed.
    assert!(said.contains("INFO checkpoint: restored ") || said.contains("there is nothing to do"), "{said}");
    job.check();
}

#[test]
fn a_disk_with_no_byte_left_delays_checkpoints_and_loses_nothing() {
    survives("exactly_once", 0, 2);
}

#[test]
fn a_disk_with_room_for_a_file_or_two_delays_checkpoints_and_loses_nothing() {
    survives("exactly_once", 24 << 10, 3);
}

#[test]
fn a_disk_with_room_for_half_a_checkpoint_delays_it_and_loses_nothing() {
    survives("exactly_once", 200 << 10, 4);
}

#[test]
fn a_disk_with_room_for_most_of_a_checkpoint_delays_it_and_loses_nothing() {
    survives("at_least_once", 400 << 10, 5);
}
