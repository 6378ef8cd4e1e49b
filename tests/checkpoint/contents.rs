//! What tools read in a checkpoint: every table, whichever worker wrote it, and what does not fit together.

use super::sample::{Job, changes, cut, frontier};
use llm_optimizer_processor::EventTime;
use llm_optimizer_processor::checkpoint::{
    Changed, Changes, CheckpointStore, Contents, Difference, Figures, OutboxKey, RecordKey, Selection, Table,
    WorkerSnapshot, compare, put_cut, put_outbox, verify,
};
use llm_optimizer_processor::event::{DefinitionIndex, KeyGroup, WorkerIndex};
use llm_optimizer_processor::sink::{ResultValue, Shard};
use llm_optimizer_processor::time::{Epoch, Span};
use llm_optimizer_processor::window::EntryOf;
use std::collections::BTreeMap;

fn job(workers: usize, epochs: u64) -> (tempfile::TempDir, Job) {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::with_windows(&folder.path().join("state"), &folder.path().join("c"), workers);
    (1..=epochs).for_each(|epoch| drop(job.checkpoint(epoch).unwrap()));
    (folder, job)
}

fn read(store: &CheckpointStore, epoch: u64, selection: &Selection) -> Contents {
    Contents::read(store, Epoch::new(epoch), selection).unwrap()
}

/// Definition, bounds and key, with the count and the sum or median of the field `latency_ms`.
fn windows(contents: &Contents) -> Vec<(u8, EventTime, EventTime, String, Vec<ResultValue>)> {
    let mut figures = Figures::new(&contents.manifest).unwrap();
    let told = contents.entries.first.iter().map(|entry| {
        let (_, encoded) = entry.fields.iter().find(|(name, _)| &**name == "latency_ms").unwrap();
        let values = figures.read(entry.definition, encoded).unwrap();
        let window = entry.of.window();
        (
            entry.definition.0,
            window.start,
            window.end,
            entry.key.to_string(),
            values.into_iter().map(|of| of.1).collect(),
        )
    });
    told.collect()
}

#[test]
fn every_table_is_there_and_is_the_same_at_any_number_of_workers() {
    let (_one, alone) = job(1, 3);
    let (_two, both) = job(2, 3);
    let (one, two) = (read(&alone.store, 3, &Selection::default()), read(&both.store, 3, &Selection::default()));
    let missing: Vec<Table> = Table::ALL.into_iter().filter(|table| !one.tables.contains_key(table)).collect();
    assert_eq!(missing, Table::OF_VIEWS, "a job without views has all others");
    assert_eq!(windows(&one), windows(&two));
    assert!(windows(&one).len() > 40, "{}", windows(&one).len());
    assert_eq!(one.revisions.first, two.revisions.first);
    assert_eq!(one.waiting.first, two.waiting.first);
    assert_eq!((one.panes.all, one.entries.all), (two.panes.all, two.entries.all));
    assert_eq!(two.cuts, [0, 1].map(|worker| cut(Epoch::new(3), WorkerIndex(worker))));
    assert_eq!((one.outbox.len(), two.outbox.len()), (1, 1));
    // Rows of sessions with a greatest length wait for their own time.
    let (late, on_time): (Vec<_>, Vec<_>) = one.waiting.first.iter().partition(|row| row.is_late);
    assert!(!late.is_empty() && !on_time.is_empty());
    // ... and all of theirs as much longer as a session may be.
    let done = frontier(Epoch::new(3)).saturating_sub(Span::from_secs(20));
    assert!(one.waiting.first.iter().all(|row| row.until > done));
    assert!(on_time.iter().all(|row| row.definition == DefinitionIndex(2) && row.until == row.time));
    assert!(one.panes.first.iter().any(|(_, pane)| !pane.standing.is_empty()));
    let kinds: Vec<bool> = [0u8, 1, 2]
        .map(|definition| {
            let mut of = one.entries.first.iter().filter(|entry| entry.definition.0 == definition);
            of.all(|entry| matches!(entry.of, EntryOf::Session { .. }) == (definition == 2))
        })
        .into();
    assert_eq!(kinds, [true; 3]);
    for job in [&alone, &both] {
        let found = verify(&job.store, Epoch::new(3));
        assert_eq!(found.faults, []);
        let records = two.tables.values().map(|size| size.records).sum::<u64>();
        // Each worker has what a definition is apart from its keys, and a partition of its own.
        assert!(records.abs_diff(found.records.values().sum()) <= 4);
    }
}

/// The events of the sample, added up: all 40 of the first epoch are in the first minute, the late ones as well.
#[test]
fn figures_are_those_of_the_events() {
    let (_folder, job) = job(2, 1);
    let contents = read(&job.store, 1, &Selection::default());
    let minute = windows(&contents).into_iter().filter(|(definition, ..)| *definition == 0).collect::<Vec<_>>();
    let mut expected: BTreeMap<usize, (u64, f64)> = BTreeMap::new();
    for number in 0..40i64 {
        let of = expected.entry((number * 7 % 11 % 6) as usize).or_default();
        of.0 += 1;
        of.1 += (number * 37 % 101) as f64 / 4.0;
    }
    let mut expected: Vec<(u64, f64)> = expected.into_values().collect();
    let mut found: Vec<(u64, f64)> = minute
        .iter()
        .map(|(.., values)| match values[..] {
            [ResultValue::Count(count), ResultValue::Number(sum), ..] => (count, sum),
            _ => panic!("{values:?}"),
        })
        .collect();
    let order = |one: &(u64, f64), other: &(u64, f64)| one.partial_cmp(other).unwrap();
    expected.sort_by(order);
    found.sort_by(order);
    assert_eq!(found, expected);
}

#[test]
fn selections_take_the_first_of_the_keys_asked_for() {
    let (_folder, job) = job(2, 3);
    let all = read(&job.store, 3, &Selection::default());
    let some = read(&job.store, 3, &Selection { key: Some("claude".into()), limit: None });
    let of_claude: Vec<_> = windows(&all).into_iter().filter(|(_, _, _, key, _)| key.contains("claude")).collect();
    assert_eq!(windows(&some), of_claude);
    assert!(some.entries.all < all.entries.all && some.entries.all as usize == of_claude.len());
    assert_eq!(some.tables, all.tables);
    for limit in [0, 1, 7, 1_000] {
        let few = read(&job.store, 3, &Selection { key: None, limit: Some(limit) });
        assert_eq!(windows(&few), windows(&all)[..limit.min(all.entries.all as usize)]);
        assert_eq!(few.entries.all, all.entries.all);
    }
}

/// What is different is what is different when all is read and compared.
#[test]
fn comparisons_find_what_was_added_removed_and_changed() {
    let (_folder, job) = job(2, 3);
    for (first, second) in [(1, 2), (2, 3), (3, 1), (2, 2)] {
        let mut shown = Vec::new();
        let comparison = compare(&job.store, Epoch::new(first), Epoch::new(second), |difference| {
            shown.push(difference);
            Ok(())
        })
        .unwrap();
        let entries = |epoch| {
            let contents = read(&job.store, epoch, &Selection::default());
            let identity = |entry: &llm_optimizer_processor::checkpoint::EntryContent| {
                let window = entry.of.window();
                let end = matches!(entry.of, EntryOf::Slice { .. }).then_some(window.end);
                (entry.definition, window.start, end, entry.key.clone())
            };
            contents.entries.first.into_iter().map(|entry| (identity(&entry), entry)).collect::<BTreeMap<_, _>>()
        };
        let (before, after) = (entries(first), entries(second));
        let counts = comparison.entries;
        assert_eq!(counts.added as usize, after.keys().filter(|of| !before.contains_key(of)).count());
        assert_eq!(counts.removed as usize, before.keys().filter(|of| !after.contains_key(of)).count());
        let unchanged = before.iter().filter(|(of, entry)| after.get(of) == Some(entry)).count();
        assert_eq!(counts.unchanged as usize, unchanged);
        assert_eq!((counts.unchanged + counts.changed + counts.removed) as usize, before.len());
        assert_eq!(shown.len() as u64, counts.added + counts.removed + counts.changed);
        let is_different = |difference: &Difference| match difference {
            Difference::Entry(Changed::Otherwise(before, after)) => before != after,
            Difference::Entry(_) => true,
            Difference::Fact(fact) => panic!("there are no views: {fact:?}"),
        };
        assert!(shown.iter().all(is_different));
        assert_eq!(comparison.cuts.len(), if first == second { 0 } else { 2 });
        if first < second {
            assert!(counts.added > 0 && counts.changed > 0, "{counts:?}");
        }
    }
}

#[test]
fn records_that_cannot_be_are_named() {
    let entry = RecordKey::of_group(Table::Entry, DefinitionIndex(0), KeyGroup(0), &[0, 0, 0, 9]).0;
    let chunk = OutboxKey { shard: Shard { sink: 4, process: 0 }, epoch: Epoch::new(1), chunk: 0 };
    type Spoil<'a> = &'a dyn Fn(&mut Changes);
    let cases: [(&str, Spoil<'_>, &str); 6] = [
        ("an unknown table", &|changes| changes.put(b"\x63rest", b"x"), "worker-0: the key crest is that of no table"),
        (
            "an entry of nothing",
            &|changes| changes.put(&entry, &[]),
            "worker-0: the value of a record of windows of 0 bytes",
        ),
        ("a later version", &|changes| changes.put(&entry, &[9, 0]), "format 9, this program reads 1"),
        (
            "a cut too short",
            &|changes| changes.put(&RecordKey::plain(Table::Cut, b"topic\x80\0\0\x07").0, &[1, 2]),
            "topic[7]",
        ),
        (
            "another cut",
            &|changes| {
                let mut other = cut(Epoch::new(1), WorkerIndex(0));
                other.next.0 += 1;
                put_cut(changes, &other);
            },
            "manifest.json: the cuts that it names are not those of the records",
        ),
        (
            "a chunk too many",
            &|changes| put_outbox(changes, chunk, b"more"),
            "manifest.json: 0 chunks in the outbox of shard 4-0, and there are 1",
        ),
    ];
    for (what, spoil, told) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut job = Job::start(&folder.path().join("state"), &folder.path().join("c"), 1);
        let mut spoiled = changes(Epoch::new(1), WorkerIndex(0));
        spoil(&mut spoiled);
        let directory = job.store.worker_directory(Epoch::new(1), WorkerIndex(0));
        job.store.begin(Epoch::new(1)).unwrap();
        let worker = &mut job.workers[0];
        let written = worker.store.write(spoiled).unwrap();
        let files = worker.store.snapshot_to(&directory, &mut worker.known).unwrap();
        let snapshot = WorkerSnapshot::new(WorkerIndex(0), files, written, &[cut(Epoch::new(1), WorkerIndex(0))]);
        job.store.publish(&super::sample::manifest(Epoch::new(1), vec![snapshot])).unwrap();
        let found = verify(&job.store, Epoch::new(1));
        let faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        assert!(faults.len() == 1 && faults[0].contains(told), "{what}: {faults:?}");
    }
}

/// A snapshot that was given another worker's records.
#[test]
fn records_of_another_workers_key_groups_are_found() {
    let (_folder, mut job) = job(2, 1);
    let directory = job.store.worker_directory(Epoch::new(2), WorkerIndex(0));
    let wrong = job.store.worker_directory(Epoch::new(2), WorkerIndex(1));
    job.store.begin(Epoch::new(2)).unwrap();
    let [one, other] = &mut job.workers[..] else { panic!("two workers") };
    let snapshots = vec![
        WorkerSnapshot::new(
            WorkerIndex(0),
            other.store.snapshot_to(&directory, &mut other.known).unwrap(),
            Default::default(),
            &[],
        ),
        WorkerSnapshot::new(
            WorkerIndex(1),
            one.store.snapshot_to(&wrong, &mut one.known).unwrap(),
            Default::default(),
            &[],
        ),
    ];
    job.store.publish(&super::sample::manifest(Epoch::new(2), snapshots)).unwrap();
    let faults: Vec<String> = verify(&job.store, Epoch::new(2)).faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].contains("2/worker-0: a record of key group") && faults[0].ends_with("which belongs to worker 1"),
        "{faults:?}"
    );
}
