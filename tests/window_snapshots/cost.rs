//! What snapshots cost, and what memory holds.

use crate::plan::{JobPlan, RowPlan, StepPlan, TriggerPlan};
use crate::workers::{Store, Workers, apply, full_snapshot};
use llm_optimizer_processor::checkpoint::Changes;
use llm_optimizer_processor::config::{LatePolicy, WindowKind};
use llm_optimizer_processor::sink::ResultRow;
use llm_optimizer_processor::time::{EventTime, Span};
use llm_optimizer_processor::window::{MemoryLimit, Naming, WindowState};
use std::rc::Rc;

fn job() -> JobPlan {
    JobPlan {
        kind: WindowKind::tumbling(Span::from_millis(1000)),
        policy: LatePolicy::Refine,
        lateness: 1000,
        naming: Naming::Bare,
        trigger: TriggerPlan::None,
        everything: true,
    }
}

/// A state with a store of its own.
struct Job {
    workers: Workers,
    store: Rc<Store>,
}

impl Job {
    fn new() -> Self {
        let workers = Workers::new(&job(), 1, None);
        Self { workers, store: Rc::default() }
    }

    fn state(&mut self) -> &mut WindowState {
        &mut self.workers.workers[0].state
    }

    fn limited(bytes: usize) -> Self {
        let mut job = Self::new();
        let cold = job.store.clone();
        job.state().limit_memory(MemoryLimit { bytes, cold });
        job
    }

    /// So many rows a key in one window.
    fn rows(&mut self, keys: std::ops::Range<u32>, rows: i64) {
        let row = |key| move |row: i64| RowPlan { ahead: row % 50, key, values: [Some(row as i32 * 8 + 1), None] };
        let rows = keys.flat_map(|key| (0..rows).map(row(key))).collect();
        let steps = job().steps(&[StepPlan::Rows(0, rows)]);
        self.workers.step(0, &steps[0], [EventTime::MIN; 2], &mut Vec::new(), |_| {});
    }

    /// Lets time go to this many milliseconds after the beginning.
    fn advance(&mut self, millis: i64) -> Vec<ResultRow> {
        let mut results = Vec::new();
        let step = crate::plan::Step::Watermarks([EventTime::from_millis(1_000_000 + millis); 2]);
        let crate::plan::Step::Watermarks(watermarks) = step else { unreachable!() };
        self.workers.step(0, &step, watermarks, &mut results, |_| {});
        results
    }

    /// Takes a snapshot, and stores it.
    fn snapshot(&mut self) -> Changes {
        let mut changes = Changes::default();
        self.state().begin_snapshot();
        assert!(self.state().write_snapshot(&mut changes, usize::MAX).unwrap());
        apply(&changes, &mut self.store.0.borrow_mut());
        self.state().snapshot_stored();
        changes
    }
}

/// Puts and deletions.
fn counts(changes: &Changes) -> (usize, usize) {
    let puts = changes.iter().filter(|change| change.value.is_some()).count();
    (puts, changes.len() - puts)
}

#[test]
fn a_snapshot_holds_what_has_changed() {
    let mut job = Job::new();
    job.rows(0..1000, 3);
    let full = job.snapshot();
    assert_eq!(counts(&full), (1001, 0), "the entries and the definition");
    assert_eq!(counts(&job.snapshot()), (0, 0));
    job.rows(7..17, 1);
    let changed = job.snapshot();
    assert_eq!(counts(&changed), (10, 0));
    assert!(changed.bytes() * 80 < full.bytes(), "{} of {}", changed.bytes(), full.bytes());
    // Their next revision is another; the definition's window is not to fire any more.
    assert_eq!(job.advance(1000).len(), 1000);
    assert_eq!(counts(&job.snapshot()), (1001, 0));
    job.advance(2000);
    assert_eq!(counts(&job.snapshot()), (1, 1000), "it is forgotten");
    assert_eq!(job.store.0.borrow().len(), 1);
    assert_eq!(full_snapshot(job.state()), *job.store.0.borrow());
}

#[test]
fn what_comes_and_goes_between_two_snapshots_is_not_written() {
    let mut job = Job::new();
    job.snapshot();
    for round in 0..3 {
        job.rows(0..100, 1);
        // Its watermark stays behind: the rows are on time.
        assert_eq!(job.workers.workers[0].state.open_windows(), 100, "round {round}");
    }
    job.advance(1000);
    job.advance(2000);
    assert_eq!(counts(&job.snapshot()), (1, 0));
}

#[test]
fn a_snapshot_is_written_in_portions() {
    let mut job = Job::new();
    job.rows(0..1000, 3);
    job.state().begin_snapshot();
    let (mut all, mut portions, mut longest) = (Changes::default(), 0, 0);
    loop {
        let mut changes = Changes::default();
        let done = job.state().write_snapshot(&mut changes, 1000).unwrap();
        longest = longest.max(changes.bytes());
        portions += 1;
        all.append(&mut changes);
        if done {
            break;
        }
        assert!(job.state().is_snapshot_under_way());
    }
    assert!(!job.state().is_snapshot_under_way());
    assert_eq!(counts(&all), (1001, 0));
    assert!(longest < 1500 && portions >= all.bytes() / 1500, "{portions} portions, the longest of {longest}");
}

#[test]
fn what_is_stored_and_unused_leaves_memory_and_comes_back() {
    let mut job = Job::limited(0);
    job.rows(0..1000, 60);
    let before = job.state().heap_bytes();
    assert_eq!(job.state().cold_windows(), 0, "nothing is stored");
    job.snapshot();
    assert_eq!(job.state().cold_windows(), 1000);
    let after = job.state().heap_bytes();
    assert!(after * 2 < before, "{after} of {before}");
    job.rows(0..3, 1);
    assert_eq!(job.state().cold_windows(), 997);
    assert_eq!(counts(&job.snapshot()), (3, 0), "to read is no change");
    let mut right = Job::new();
    right.rows(0..1000, 60);
    right.rows(0..3, 1);
    assert_eq!(job.advance(1000), right.advance(1000));
    assert!(job.state().take_error().is_none());
}

#[test]
fn what_is_restored_beyond_the_limit_stays_in_the_store() {
    let mut before = Job::new();
    before.rows(0..1000, 60);
    let records = full_snapshot(before.state());
    let restored = |bytes| {
        let workers = Workers::restored(&job(), 1, Some(bytes), std::slice::from_ref(&records)).unwrap();
        Job { store: workers.workers[0].store.clone(), workers }
    };
    let (mut all, mut none, mut half) = (restored(usize::MAX), restored(0), restored(1000 * 250));
    assert_eq!((all.state().cold_windows(), none.state().cold_windows()), (0, 1000));
    let cold = half.state().cold_windows();
    assert!((100..900).contains(&cold), "{cold}");
    assert!(none.state().heap_bytes() * 2 < all.state().heap_bytes());
    // The store has what the snapshot need not write; together they are all there is.
    half.rows(0..1000, 1);
    none.rows(0..10, 1);
    assert_eq!(none.state().cold_windows(), 990);
    assert_eq!(counts(&none.snapshot()), (11, 0));
    assert_eq!(none.store.0.borrow().len(), 1001);
    none.rows(10..1000, 1);
    all.rows(0..1000, 1);
    let right = all.advance(1000);
    assert_eq!(right.len(), 1000);
    assert_eq!(half.advance(1000), right);
    assert_eq!(none.advance(1000), right);
}

#[test]
fn nothing_leaves_while_a_snapshot_is_on_its_way() {
    let mut job = Job::limited(0);
    job.rows(0..1000, 60);
    let mut changes = Changes::default();
    job.state().begin_snapshot();
    assert!(job.state().write_snapshot(&mut changes, usize::MAX).unwrap());
    // Enough rows for memory to be measured again.
    job.rows(1000..1001, 20_000);
    job.state().wants_snapshot();
    assert_eq!(job.state().cold_windows(), 0, "the store has nothing yet");
    apply(&changes, &mut job.store.0.borrow_mut());
    job.state().snapshot_stored();
    assert_eq!(job.state().cold_windows(), 1000, "what has changed since is here");
}

#[test]
fn many_are_measured_and_dropped_in_several_goes() {
    const KEYS: u32 = 20_000;
    let mut job = Job::limited(0);
    job.rows(0..KEYS, 2);
    job.snapshot();
    let mut goes = vec![job.state().cold_windows()];
    while goes.last() != Some(&(KEYS as usize)) && goes.len() < 100 {
        assert!(!job.state().wants_snapshot(), "nothing has changed since the last");
        goes.push(job.state().cold_windows());
    }
    assert_eq!(goes.last(), Some(&(KEYS as usize)), "{goes:?}");
    assert!(goes.iter().take_while(|cold| **cold == 0).count() >= 2, "measured at once: {goes:?}");
    assert!(goes.windows(2).all(|pair| pair[1] - pair[0] <= 1_024), "{goes:?}");
}

#[test]
fn the_longest_unused_leaves_first() {
    let mut job = Job::limited(usize::MAX);
    job.rows(0..1000, 60);
    job.snapshot();
    // Two rounds without use: the first takes the marks away.
    job.rows(0..500, 1);
    let held = job.state().heap_bytes();
    let state = job.state();
    let middle = state.places() / 3;
    let in_parts = state.owned_bytes_within(0..middle) + state.owned_bytes_within(middle..state.places());
    assert_eq!(state.column_bytes() + in_parts, held, "measured in parts it is the same");
    let cold = job.store.clone();
    job.state().limit_memory(MemoryLimit { bytes: held - held / 10, cold });
    job.snapshot();
    let cold = job.state().cold_windows();
    assert!((1..500).contains(&cold), "{cold}");
    assert!(job.state().heap_bytes() <= held - held / 10);
}

#[test]
fn a_snapshot_is_wanted_where_changes_hold_the_memory() {
    let mut job = Job::limited(1 << 16);
    assert!(!job.state().wants_snapshot());
    job.rows(0..1000, 60);
    assert!(job.state().wants_snapshot());
    job.state().begin_snapshot();
    let mut changes = Changes::default();
    job.state().write_snapshot(&mut changes, usize::MAX).unwrap();
    apply(&changes, &mut job.store.0.borrow_mut());
    job.state().snapshot_stored();
    assert!(!job.state().wants_snapshot());
    let mut unlimited = Job::new();
    unlimited.rows(0..1000, 60);
    assert!(!unlimited.state().wants_snapshot());
}

#[test]
fn what_cannot_be_read_back_is_an_error() {
    for damage in [false, true] {
        let mut job = Job::limited(0);
        job.rows(0..10, 60);
        job.snapshot();
        match damage {
            true => job.store.0.borrow_mut().values_mut().for_each(|value| value.truncate(40)),
            false => job.store.0.borrow_mut().clear(),
        }
        job.state().apply(&Default::default(), |_| {});
        let state = &mut job.workers.workers[0].state;
        assert!(state.take_error().is_none());
        let due = state.next_due(EventTime::MAX).unwrap();
        while !state.fire(due, EventTime::MIN, 100, &mut Vec::new()) {}
        let error = state.take_error().unwrap().to_string();
        let expected = if damage { "damaged or of another version" } else { "is not in the store" };
        assert!(error.contains(expected), "{error}");
        assert!(state.take_error().is_none(), "it is said once");
        state.begin_snapshot();
        assert!(state.write_snapshot(&mut Changes::default(), usize::MAX).is_err(), "and never forgotten");
    }
}
