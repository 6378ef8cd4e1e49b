//! Checkpoints that are damaged, removed, chosen or ignored.

use super::interrupted::{Interrupted, PATIENCE, copy, expected};
use super::program::{BINARY, Live, Place, Said, without_times};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// The largest table of the newest checkpoint that no other checkpoint has, or the least file where all tables are shared.
fn table_of_newest(job: &Interrupted) -> PathBuf {
    let newest = *job.published().last().expect("there are checkpoints");
    let entries = (0..2).flat_map(|worker| {
        let directory = job.checkpoints().join(format!("{newest}/worker-{worker}"));
        fs::read_dir(directory).expect("the directory is there").map(|entry| entry.expect("an entry").path())
    });
    let tables = entries.filter(|path| path.extension().is_some_and(|of| of == "sst"));
    tables.max_by_key(|path| fs::metadata(path).expect("it is there").len()).expect("there is a table")
}

/// Puts a changed copy in a file's place: the file itself may be in other checkpoints too.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::remove_file(path).expect("removed");
    fs::write(path, bytes).expect("written");
}

/// A kind of damage: makes it, and says what a message must name.
type Damage = fn(&Interrupted) -> PathBuf;

const DAMAGES: [(&str, Damage); 5] = [
    ("a table that was cut off", |job| {
        let table = table_of_newest(job);
        change(&table, |bytes| bytes.truncate(bytes.len() / 2));
        table
    }),
    ("a table with a flipped bit", |job| {
        let table = table_of_newest(job);
        change(&table, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 16;
        });
        table
    }),
    ("a worker's directory that is gone", |job| {
        let directory = table_of_newest(job).parent().expect("it is in one").to_owned();
        fs::remove_dir_all(&directory).expect("removed");
        directory
    }),
    ("an empty manifest", |job| {
        let newest = *job.published().last().expect("there are checkpoints");
        let manifest = job.checkpoints().join(format!("{newest}/manifest.json"));
        fs::write(&manifest, "").expect("written");
        manifest
    }),
    ("a manifest with one digit changed", |job| {
        let newest = *job.published().last().expect("there are checkpoints");
        let manifest = job.checkpoints().join(format!("{newest}/manifest.json"));
        change(&manifest, |bytes| {
            let digit = bytes.iter().rposition(u8::is_ascii_digit).expect("a digit");
            bytes[digit] = if bytes[digit] == b'1' { b'2' } else { b'1' };
        });
        manifest
    }),
];

/// Kills a job once, and has it go on once for each of these damages.
fn goes_on_from_the_one_before(delivery: &'static str, damages: &[(&str, Damage)]) {
    let job = Interrupted::new(delivery);
    job.kill_after_checkpoint(4);
    let (disk, saved) = (job.place.path("disk"), job.place.path("saved"));
    copy(&disk, &saved);
    fs::copy(job.place.path("results.jsonl"), job.place.path("saved.jsonl")).expect("copied");
    for (what, damage) in damages {
        fs::remove_dir_all(&disk).expect("removed");
        copy(&saved, &disk);
        fs::copy(job.place.path("saved.jsonl"), job.place.path("results.jsonl")).expect("copied");
        let before = job.published();
        let [.., second, _] = before[..] else { panic!("{before:?}") };
        let named = damage(&job);
        let said = job.end();
        let named = named.display().to_string();
        assert!(said.contains(&named), "{what}: {named} is not named:\n{said}");
        assert!(said.contains(&format!("going on from checkpoint {second}, ")), "{what}: {said}");
        job.check();
    }
}

#[test]
fn where_the_newest_checkpoint_is_damaged_the_one_before_is_used() {
    goes_on_from_the_one_before("at_least_once", &DAMAGES);
}

#[test]
fn a_file_of_results_is_cut_back_to_where_the_checkpoint_before_has_it() {
    goes_on_from_the_one_before("exactly_once", &DAMAGES[1..3]);
}

#[test]
fn a_copy_of_a_job_goes_on_and_leaves_the_original_alone() {
    let original = Interrupted::new("exactly_once");
    original.kill_after_checkpoint(4);
    let results = original.place.path("results.jsonl");
    // Behind what any checkpoint holds: who goes on cuts it off.
    let behind = [fs::read_to_string(&results).expect("results"), "{\"behind\": true}\n".to_owned()].concat();
    fs::write(&results, &behind).expect("written");
    let place = Place::new();
    let disk = place.path("disk");
    copy(&original.place.path("disk"), &disk);
    fs::copy(&results, place.path("results.jsonl")).expect("copied");
    let copied = Interrupted::on(place, "exactly_once", disk);
    let said = copied.end();
    assert!(said.contains("going on from checkpoint") && said.contains("was moved or copied"), "{said}");
    copied.check();
    assert!(original.place.read("results.jsonl") == behind, "the copy has changed the original's results");
    original.end();
    original.check();
}

#[test]
fn where_no_checkpoint_can_be_restored_the_job_is_not_begun_anew_unasked() {
    let job = Interrupted::new("at_least_once");
    job.kill_after_checkpoint(4);
    for epoch in job.published() {
        let directory = job.checkpoints().join(format!("{epoch}/worker-1"));
        fs::remove_dir_all(directory).expect("removed");
    }
    let before = job.place.read("results.jsonl");
    let (code, said) = Live::start(&mut job.command(&[])).end_within(PATIENCE);
    assert_eq!(code, Some(78), "{said}");
    for text in ["worker-1/", "is missing", "there is no older one that can", "--ignore-checkpoint"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert_eq!(job.place.read("results.jsonl"), before, "a job that is refused writes nothing");
    // Asked to, it begins anew.
    let said = job.end_with(&mut job.command(&["--ignore-checkpoint", "--yes"]));
    assert!(!said.contains("going on from"), "{said}");
    job.check();
}

#[test]
fn a_checkpoint_that_may_not_be_read_is_passed_over_by_name() {
    // The lock of the tests' own folder, and the binary's, must let the other user through.
    let job = Interrupted::new("at_least_once");
    job.kill_after_checkpoint(4);
    let table = table_of_newest(&job);
    let binary = job.place.path("processor");
    if fs::hard_link(BINARY, &binary).is_err() {
        fs::copy(BINARY, &binary).expect("copied");
    }
    if let Err(error) = give_away(job.place.path("."), NOBODY) {
        return println!("skipped: files cannot be given to another user: {error}");
    }
    change(&table, |_| {});
    fs::set_permissions(&table, fs::Permissions::from_mode(0o0)).expect("ours");
    let mut command = job.command(&[]);
    let mut as_nobody = std::process::Command::new(&binary);
    as_nobody.args(command.get_args()).current_dir(job.place.path(".")).env_clear().uid(NOBODY).gid(NOBODY);
    command = as_nobody;
    let said = job.end_with(&mut command);
    assert!(said.contains(&format!("{}: cannot be read: Permission denied", table.display())), "{said}");
    assert!(said.contains("going on from the older checkpoint"), "{said}");
    job.check();
}

/// Gives everything in a folder to another user.
fn give_away(path: PathBuf, user: u32) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(&path)? {
            give_away(entry?.path(), user)?;
        }
    }
    // The binary may be a link to the one that others use.
    if fs::metadata(&path)?.nlink() > 1 && path.file_name().is_some_and(|name| name == "processor") {
        return Ok(());
    }
    chown(path, Some(user), Some(user))
}

#[test]
fn checkpoints_that_are_removed_between_two_runs_are_a_new_job() {
    let job = Interrupted::new("at_least_once");
    job.kill_after_checkpoint(3);
    fs::remove_dir_all(job.checkpoints()).expect("removed");
    let said = job.end();
    assert!(!said.contains("going on from"), "{said}");
    job.check();
}

#[test]
fn checkpoints_that_are_removed_while_the_job_runs_are_made_anew() {
    let job = Interrupted::new("exactly_once");
    // Long enough that nothing is written while they are removed.
    job.set_interval("800ms");
    let mut live = job.start();
    job.wait_for_checkpoint(&live, 0);
    let newest = *job.published().last().expect("there are checkpoints");
    // The retention of old ones is done by then.
    std::thread::sleep(Duration::from_millis(100));
    fs::remove_dir_all(job.checkpoints()).expect("removed");
    job.wait_for_checkpoint(&live, newest + 1);
    let said = job.verify();
    assert_eq!(said.code, Some(0), "{said:?}\n{}", live.err());
    assert!(live.child.try_wait().expect("a child").is_none(), "it has ended already: {}", live.err());
    live.signal(libc::SIGKILL);
    live.end_within(PATIENCE);
    let said = job.end();
    assert!(said.contains("going on from checkpoint"), "{said}");
    job.check();
}

#[test]
fn a_job_whose_state_is_removed_ends_and_goes_on_at_the_next_start() {
    let job = Interrupted::new("exactly_once");
    let mut live = job.start();
    job.wait_for_checkpoint(&live, 2);
    let state = job.place.path("disk/state/worker-1");
    for entry in fs::read_dir(&state).expect("the state is there") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let (code, said) = live.end_within(PATIENCE);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot work any more: ") && said.contains(&state.display().to_string()), "{said}");
    assert_eq!(job.verify().code, Some(0));
    let said = job.end();
    assert!(said.contains("going on from checkpoint"), "{said}");
    job.check();
}

#[test]
fn a_job_whose_checkpoint_is_removed_before_it_is_published_ends_and_says_so() {
    let job = Interrupted::new("at_least_once");
    let mut live = job.start();
    job.wait_for_checkpoint(&live, 1);
    // A manifest cannot be written where there is a directory of its name: that leaves time.
    let epoch = job.published().last().expect("there are checkpoints") + 3;
    let directory = job.checkpoints().join(epoch.to_string());
    fs::create_dir_all(directory.join("manifest.json.new")).expect("a folder");
    live.wait_for("publishing a checkpoint failed and is tried again");
    fs::remove_dir_all(directory.join("worker-1")).expect("removed");
    fs::remove_dir(directory.join("manifest.json.new")).expect("removed");
    let (code, said) = live.end_within(PATIENCE);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("publishing a checkpoint cannot work any more: ") && said.contains("is missing"), "{said}");
    let said = job.end();
    assert!(said.contains("going on from checkpoint"), "{said}");
    job.check();
}

#[test]
fn the_checkpoint_to_go_on_from_can_be_chosen() {
    let job = Interrupted::new("exactly_once");
    job.kill_after_checkpoint(5);
    let published = job.published();
    let (first, second, newest) = (published[0], published[1], published[published.len() - 1]);
    let refused: Said = job.place.run(&["run", "--config", "c.yaml", "--from-checkpoint", "9999"]);
    let there_are = published.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    assert!(refused.code != Some(0) && refused.err.contains(&format!("there are {there_are}")), "{refused:?}");
    let said = job.end_with(&mut job.command(&["--from-checkpoint", &first.to_string()]));
    assert!(said.contains(&format!("going on from checkpoint {first}, ")), "{said}");
    assert!(job.published()[0] > newest || job.published()[0] == first, "{:?}", job.published());
    assert!(
        said.contains(&format!("the checkpoints {second} to {newest} are newer than the one asked for: ")),
        "{said}"
    );
    job.check();
}

#[test]
fn a_job_that_has_ended_does_nothing_until_it_is_told_to_begin_anew() {
    let job = Interrupted::new("exactly_once");
    job.kill_after_checkpoint(2);
    job.end();
    job.check();
    let (before, checkpoints) = (job.place.read("results.jsonl"), job.published());
    let said = job.end();
    assert!(said.contains("there is nothing to do; start with --ignore-checkpoint"), "{said}");
    assert_eq!((job.place.read("results.jsonl"), job.published()), (before.clone(), checkpoints));
    let refused = job.place.run(&["run", "--config", "c.yaml", "--ignore-checkpoint"]);
    assert!(refused.code == Some(2) && refused.err.contains("--yes"), "{refused:?}");
    let said = job.end_with(&mut job.command(&["--ignore-checkpoint", "--yes"]));
    assert!(!said.contains("nothing to do"), "{said}");
    // What the first run wrote stays; the second writes all of it once more.
    let after = job.place.read("results.jsonl");
    let again = after.strip_prefix(&before).expect("what was there is still there");
    assert_eq!(without_times(again), expected());
}

#[test]
fn a_file_that_hinders_a_checkpoint_is_named_and_out_of_the_way_later() {
    let job = Interrupted::new("exactly_once");
    let mut live = job.start();
    job.wait_for_checkpoint(&live, 2);
    // Names that the next checkpoints will want.
    let newest = *job.published().last().expect("there are checkpoints");
    let hindrances: Vec<PathBuf> =
        (newest + 3..newest + 6).map(|epoch| job.checkpoints().join(epoch.to_string())).collect();
    for path in &hindrances {
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    let line = live.wait_for("failed and is tried again");
    assert!(hindrances.iter().any(|path| line.contains(&path.display().to_string())), "{line}");
    for path in hindrances.iter().filter(|path| path.is_file()) {
        fs::remove_file(path).expect("removed");
    }
    let (code, said) = live.end_within(PATIENCE);
    assert_eq!(code, Some(0), "{said}");
    job.check();
}
