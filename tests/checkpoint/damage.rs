//! Every flipped bit, and files that are missing, cut off, longer, or not for this user, are found and named.

use super::sample::Job;
use llm_optimizer_processor::ExitCode;
use llm_optimizer_processor::checkpoint::{CheckpointState, CheckpointStore, Crc32, Fault, FaultKind, Manifest};
use llm_optimizer_processor::time::Epoch;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a file up to which each of its bits is flipped; of larger ones, one bit of each byte.
const EVERY_BIT: u64 = 4_096;

struct Sample {
    _folder: tempfile::TempDir,
    root: PathBuf,
    store: CheckpointStore,
    manifest: Manifest,
}

impl Sample {
    fn new() -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("c");
        let mut job = Job::with_windows(&folder.path().join("state"), &root, 2);
        job.checkpoint(1).unwrap();
        let manifest = job.checkpoint(2).unwrap();
        drop(job);
        let store = CheckpointStore::offline(&root).unwrap();
        Sample { _folder: folder, root, store, manifest }
    }

    fn files(&self) -> Vec<PathBuf> {
        let directory = self.root.join("2");
        let files = self.manifest.snapshots.iter().flat_map(|snapshot| {
            snapshot.files.0.iter().map(|file| directory.join(&snapshot.directory).join(&file.name))
        });
        files.chain([directory.join("manifest.json")]).collect()
    }

    /// What is found wrong with checkpoint 2 when it is restored.
    fn faults(&self) -> Vec<Fault> {
        match self.store.manifest(Epoch::new(2)) {
            Err(fault) => vec![fault],
            Ok(manifest) => {
                let directory = self.root.join("2");
                let check = |snapshot: &llm_optimizer_processor::checkpoint::WorkerSnapshot| {
                    snapshot.files.check_contents(&directory.join(&snapshot.directory))
                };
                manifest.snapshots.iter().flat_map(check).collect()
            }
        }
    }

    /// What someone who wants to go on from it is told.
    fn told(&self) -> String {
        let opened = self.store.load(Epoch::new(2)).and_then(|manifest| {
            self.store.snapshots(&manifest).map(|reader| reader.map(drop)).collect::<Result<Vec<()>, _>>()
        });
        opened.unwrap_err().to_string()
    }
}

fn flip(file: &File, at: u64, bit: u32) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
}

#[test]
fn every_flipped_bit_is_found_and_its_file_is_named() {
    let sample = Sample::new();
    let mut flipped = 0;
    for path in sample.files() {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        for at in 0..length {
            let one = (at % 8) as u32;
            let bits = if length <= EVERY_BIT { 0..8 } else { one..one + 1 };
            for bit in bits {
                flip(&file, at, bit);
                let faults = sample.faults();
                let names: Vec<&Path> = faults.iter().map(|fault| fault.file.as_path()).collect();
                assert_eq!(names, [&path], "bit {bit} of byte {at}: {faults:?}");
                flip(&file, at, bit);
                flipped += 1;
            }
        }
        if length == 0 {
            continue;
        }
        flip(&file, length / 2, 3);
        let told = sample.told();
        assert!(told.contains(path.to_str().unwrap()) && told.contains("damaged"), "{told}");
        flip(&file, length / 2, 3);
    }
    assert_eq!(sample.faults(), []);
    assert!(flipped > 20_000, "{flipped}");
}

#[test]
fn truncated_longer_and_missing_files_are_named() {
    let sample = Sample::new();
    for path in sample.files() {
        let whole = fs::read(&path).unwrap();
        let is_manifest = path.ends_with("manifest.json");
        // Another file: those of snapshots are the same as the databases'.
        let put = |bytes: &[u8]| {
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        };
        let shorter = [0, 1, whole.len() / 2, whole.len().saturating_sub(1)];
        for keep in shorter.into_iter().filter(|keep| *keep < whole.len()) {
            put(&whole[..keep]);
            let told = sample.told();
            assert!(told.contains(path.to_str().unwrap()), "{told}");
            if !is_manifest {
                assert!(told.contains(&format!("ends at byte {keep}, and {} were written", whole.len())), "{told}");
            }
            assert!(matches!(sample.store.list().unwrap()[1].state, CheckpointState::Damaged { .. }));
        }
        put(&[&whole[..], b"x"].concat());
        let told = sample.told();
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        fs::remove_file(&path).unwrap();
        let told = sample.told();
        match is_manifest {
            true => assert!(told.contains("checkpoint 2") && told.contains("not published; there are 1"), "{told}"),
            false => assert!(told.ends_with(&format!("{}: is missing", path.display())), "{told}"),
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(sample.faults(), []);
    // A whole directory.
    fs::remove_dir_all(sample.root.join("2/worker-1")).unwrap();
    let told = sample.told();
    assert!(told.contains("2/worker-1/") && told.contains("is missing"), "{told}");
    sample.store.load(Epoch::new(1)).unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let sample = Sample::new();
    let path = sample.root.join("2/manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    // A later version may have anything after the first two members.
    let newer = "{\n  \"crc32\": \"00000000\",\n  \"format_version\": 2,\n  \"anything\": []\n}\n";
    let sum = Crc32(crc32_of(newer.as_bytes()));
    fs::write(&path, newer.replace("00000000", &sum.to_string())).unwrap();
    let error = sample.store.load(Epoch::new(2)).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Refused);
    let told = error.to_string();
    assert!(told.contains("2/manifest.json: is of format version 2, and this program reads up to 1"), "{told}");
    assert!(matches!(
        &sample.store.list().unwrap()[1].state,
        CheckpointState::Damaged { faults, .. } if matches!(faults[0].kind, FaultKind::NewerFormat { found: 2, known: 1 })
    ));
    // A right checksum in other digits, and one of nothing.
    let digits = &text[14..22];
    for bad in [text.replacen(digits, &digits.to_uppercase(), 1).replacen(digits, "ffffffff", 1), String::new()] {
        fs::write(&path, bad).unwrap();
        assert!(sample.told().contains("is damaged"), "{}", sample.told());
    }
}

fn crc32_of(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

/// Runs `work` in a thread that acts as a user who owns nothing; `None` where this process may not do that and is not such a user
/// itself.
fn as_another_user<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: it takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Some(work());
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The system call, not the C library's function: that changes all threads. It is for this thread alone, which ends
            // with `work`.
            // SAFETY: it takes integers; -1 leaves the real user and the saved one as they are.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1i64, NOBODY, -1i64) };
            (changed == 0).then(work)
        });
        thread.join().expect("no panic")
    })
}

#[test]
fn files_of_another_user_are_named() {
    let sample = Sample::new();
    // Everyone may come as far as the checkpoint.
    for directory in [sample._folder.path(), &sample.root] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for path in sample.files().into_iter().chain([sample.root.join("2/worker-0"), sample.root.join("2")]) {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let Some(told) = as_another_user(|| sample.told()) else {
            println!("skipped: this process can neither act as another user nor is it one");
            return;
        };
        fs::set_permissions(&path, before).unwrap();
        assert!(told.contains(path.to_str().unwrap()), "{told}");
        assert!(told.contains("cannot be read: Permission denied"), "{told}");
    }
    assert_eq!(sample.faults(), []);
}
