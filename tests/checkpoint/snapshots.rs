//! A worker's database against a map: after any changes each snapshot holds what the map held when it was made.

use super::sample::{Job, changes, chunk, cut};
use llm_optimizer_processor::checkpoint::{
    Changes, KnownFiles, SnapshotFiles, SnapshotReader, Table, WorkerStore, read_cut, read_outbox,
};
use llm_optimizer_processor::event::WorkerIndex;
use llm_optimizer_processor::time::Epoch;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

fn content(reader: &SnapshotReader) -> BTreeMap<Vec<u8>, Vec<u8>> {
    reader
        .scan(&[])
        .map(|record| record.map(|(key, value)| (key.into_vec(), value.into_vec())).expect("read"))
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Change(Vec<(u8, Option<u16>)>),
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (any::<u8>(), proptest::option::weighted(0.7, 0u16..2_000));
    let changes = proptest::collection::vec(change, 0..60).prop_map(Step::Change);
    proptest::collection::vec(prop_oneof![2 => changes, 1 => Just(Step::Snapshot)], 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn each_snapshot_is_what_was_written_until_then(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let store = WorkerStore::create(&folder.path().join("db")).unwrap();
        let (mut known, mut model, mut taken) = (KnownFiles::default(), BTreeMap::new(), Vec::new());
        for step in steps.into_iter().chain([Step::Snapshot]) {
            match step {
                Step::Change(list) => {
                    let mut changes = Changes::default();
                    for (key, length) in list {
                        match length {
                            Some(length) => {
                                let value = vec![key ^ 0x5a; usize::from(length)];
                                changes.put(&[key], &value);
                                model.insert(vec![key], value);
                            }
                            None => {
                                changes.delete(&[key]);
                                model.remove(&vec![key]);
                            }
                        }
                    }
                    let (count, bytes) = (changes.len() as u64, changes.bytes() as u64);
                    let written = store.write(changes).unwrap();
                    prop_assert_eq!((written.puts + written.deletions, written.bytes), (count, bytes));
                }
                Step::Snapshot => {
                    let directory = folder.path().join(format!("{}/worker-0", taken.len()));
                    let files = store.snapshot_to(&directory, &mut known).unwrap();
                    taken.push((directory, files, model.clone()));
                }
            }
        }
        for (directory, files, model) in taken {
            // As if nothing were known: the shortcut makes no difference.
            prop_assert_eq!(&listed(&directory), &files);
            let reader = SnapshotReader::open(&directory, &files).unwrap();
            prop_assert_eq!(&content(&reader), &model);
            let part = |from: u8, to: u8| model.range(vec![from]..vec![to]).count();
            prop_assert_eq!(reader.scan_range(&[40], &[200]).count(), part(40, 200));
            prop_assert_eq!(reader.scan(&[77]).count(), part(77, 78));
            prop_assert_eq!(reader.get(&[77]).unwrap(), model.get(&vec![77]).cloned());
            // Reading leaves nothing behind.
            prop_assert_eq!(&listed(&directory), &files);
        }
    }
}

/// The list of a directory, by reading all of it.
fn listed(directory: &Path) -> SnapshotFiles {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let (name, length) = (entry.file_name().into_string().unwrap(), bytes.len() as u64);
        let crc32 = llm_optimizer_processor::checkpoint::Crc32(slow_crc32(&bytes));
        files.push(llm_optimizer_processor::checkpoint::SnapshotFile { name, bytes: length, crc32, object: None });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    SnapshotFiles(files)
}

/// CRC-32 (IEEE 802.3) by its definition, a bit at a time.
fn slow_crc32(bytes: &[u8]) -> u32 {
    let mut remainder = !0u32;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = (remainder >> 1) ^ (0xedb8_8320 & (remainder & 1).wrapping_neg());
        }
    }
    !remainder
}

#[test]
fn the_checksum_is_the_one_that_everybody_computes() {
    assert_eq!(slow_crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_store_begins_empty_and_leaves_what_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/down");
    let mut changes = Changes::default();
    changes.put(b"key", b"value");
    let store = WorkerStore::create(&path).unwrap();
    store.write(changes).unwrap();
    assert_eq!(store.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    let error = WorkerStore::create(&path).unwrap_err().to_string();
    assert!(error.contains("deep/down") && error.contains("earlier run"), "{error}");
    assert_eq!(store.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    drop(store);
    std::fs::write(path.join("notes.txt"), "mine").unwrap();
    // A start that was cut off while it removed.
    std::fs::remove_file(path.join("CURRENT")).unwrap();
    let store = WorkerStore::create(&path).unwrap();
    assert_eq!(store.get(b"key").unwrap(), None);
    assert_eq!(std::fs::read_to_string(path.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn what_has_not_changed_is_neither_written_nor_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = WorkerStore::create(&folder.path().join("db")).unwrap();
    let mut known = KnownFiles::default();
    let mut big = Changes::default();
    let mut noise = 1u64;
    for key in 0u32..4_000 {
        // Bytes that cannot be packed.
        let mut next = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 33) as u8
        };
        let value: Vec<u8> = (0..500).map(|_| next()).collect();
        big.put(&key.to_be_bytes(), &value);
    }
    store.write(big).unwrap();
    let first = store.snapshot_to(&folder.path().join("0/worker-0"), &mut known).unwrap();
    let after_first = store.disk_bytes();
    assert!(after_first.flushed > 2_000_000, "{after_first:?}");
    let mut small = Changes::default();
    small.put(&7u32.to_be_bytes(), b"changed");
    store.write(small).unwrap();
    // A table whose name, length and inode are known is not read: damage that was done meanwhile is not noticed now, and it is by
    // whoever opens the snapshot.
    let table = first.0.iter().find(|file| file.name.ends_with(".sst") && file.bytes > 100_000).unwrap();
    let path = folder.path().join("db").join(&table.name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1_000] ^= 1;
    overwrite(&path, &bytes);
    let second = store.snapshot_to(&folder.path().join("1/worker-0"), &mut known).unwrap();
    let after_second = store.disk_bytes();
    assert!(after_second.flushed - after_first.flushed < 10_000, "{after_first:?} {after_second:?}");
    assert_eq!(after_second.merged, 0);
    assert!(second.0.contains(table));
    for (epoch, files) in [("0", &first), ("1", &second)] {
        let error = SnapshotReader::open(&folder.path().join(epoch).join("worker-0"), files).unwrap_err().to_string();
        assert!(error.contains(&table.name) && error.contains("damaged"), "{error}");
    }
}

/// The same file with other bytes.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Over many snapshots, with all merging of files, no more than three times what changed goes to disk.
#[test]
fn what_has_changed_is_written_few_times() {
    const KEYS: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let store = WorkerStore::create(&folder.path().join("db")).unwrap();
    let (mut known, mut changed, mut noise) = (KnownFiles::default(), 0, 1u64);
    // Bytes that cannot be packed.
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise >> 24
    };
    for epoch in 0..80 {
        let mut changes = Changes::default();
        // All of them at first, then a tenth.
        for number in 0..if epoch == 0 { KEYS } else { KEYS / 10 } {
            let key = if epoch == 0 { number } else { next() % KEYS };
            let value: Vec<u8> = (0..40).flat_map(|_| next().to_le_bytes()).collect();
            changes.put(&key.to_be_bytes(), &value);
        }
        changed += changes.bytes() as u64;
        store.write(changes).unwrap();
        store.snapshot_to(&folder.path().join(format!("{epoch}/worker-0")), &mut known).unwrap();
    }
    let written = store.disk_bytes();
    let ratio = (written.flushed + written.merged) as f64 / changed as f64;
    println!("{written:?} for {changed} bytes: {ratio:.2}");
    assert!(written.merged > 0 && ratio <= 3.0, "{written:?} for {changed} bytes: {ratio:.2}");
}

#[test]
fn cuts_and_outboxes_are_read_from_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::start(&folder.path().join("state"), &folder.path().join("checkpoints"), 2);
    job.checkpoint(1).unwrap();
    let manifest = job.checkpoint(2).unwrap();
    let readers: Vec<SnapshotReader> = job.store.snapshots(&manifest).map(Result::unwrap).collect();
    for (index, reader) in readers.iter().enumerate() {
        let worker = WorkerIndex(index as u32);
        let cuts: Vec<_> = reader.scan(&[Table::Cut as u8]).map(|record| record.unwrap()).collect();
        let cuts: Vec<_> = cuts.iter().map(|(key, value)| read_cut(key, value).unwrap()).collect();
        assert_eq!(cuts, [cut(Epoch::new(2), worker)]);
    }
    let outbox: Vec<_> = readers[0].scan(&[Table::Outbox as u8]).map(|record| record.unwrap()).collect();
    let outbox: Vec<_> = outbox.iter().map(|(key, value)| read_outbox(key, value).unwrap()).collect();
    let (key, bytes) = chunk(Epoch::new(2));
    assert_eq!(outbox, [(key, &bytes[..])]);
    assert_eq!(readers[1].scan(&[Table::Outbox as u8]).count(), 0);
    assert_eq!(
        manifest.snapshots[0].written.puts + manifest.snapshots[0].written.deletions,
        changes(Epoch::new(2), WorkerIndex(0)).len() as u64
    );
}
