//! The bytes of records, and what is not one.

use crate::checkout::ROOT;
use crate::plan::{JobPlan, RowPlan, StepPlan, TriggerPlan};
use crate::workers::{Records, Workers, full_snapshot};
use llm_optimizer_processor::ProcessorError;
use llm_optimizer_processor::checkpoint::Table;
use llm_optimizer_processor::config::{LatePolicy, WindowKind};
use llm_optimizer_processor::sink::ResultValue;
use llm_optimizer_processor::time::{EventTime, Span};
use llm_optimizer_processor::window::{EntryOf, Naming, RecordContent, RecordView, WindowState};

fn millis(millis: i64) -> Span {
    Span::from_millis(millis)
}

fn sessions(max_length: Option<i64>) -> JobPlan {
    JobPlan {
        kind: WindowKind::Session { gap: millis(100), max_length: max_length.map(millis) },
        policy: LatePolicy::Refine,
        lateness: 500,
        naming: Naming::Qualified,
        trigger: TriggerPlan::EveryEvents(2),
        everything: true,
    }
}

fn sliding() -> JobPlan {
    JobPlan { kind: WindowKind::sliding(millis(100), millis(40)), ..sessions(None) }
}

fn row(ahead: i64, key: u32, value: i32) -> RowPlan {
    RowPlan { ahead, key, values: [Some(value), None] }
}

/// Windows that have records of every kind that they can have.
fn filled(job: &JobPlan) -> WindowState {
    let both = RowPlan { values: [Some(24), Some(1)], ..row(30, 1, 0) };
    let rows = vec![row(10, 0, 8), row(20, 0, 16), both, row(170, 0, 32), row(180, 0, 40)];
    let steps = [
        StepPlan::Rows(0, rows),
        StepPlan::Advance(0, 250),
        StepPlan::Advance(1, 240),
        // Late, and ahead of the frontier.
        StepPlan::Rows(0, vec![row(-100, 0, 48), row(10, 1, 56)]),
    ];
    let steps = job.steps(&steps);
    let mut workers = Workers::new(job, 1, None);
    let mut watermarks = [EventTime::MIN; 2];
    for (number, step) in steps[..4].iter().enumerate() {
        if let crate::plan::Step::Watermarks(moved) = step {
            watermarks = *moved;
        }
        workers.step(number, step, watermarks, &mut Vec::new(), |_| {});
    }
    workers.workers.remove(0).state
}

fn restore(job: &JobPlan, records: &Records) -> Result<WindowState, ProcessorError> {
    let mut state = WindowState::new(job.settings());
    state.track_changes();
    records.iter().try_for_each(|(key, value)| state.restore(key, value))?;
    state.finish_restore()?;
    Ok(state)
}

fn tables(records: &Records) -> Vec<Table> {
    let mut tables: Vec<Table> = records.keys().filter_map(|key| Table::of(key)).collect();
    tables.dedup();
    tables
}

/// Any part of any record cut off is an error, and so is anything behind it; any bit flipped is one or makes another record.
#[test]
fn damage_is_an_error_and_no_panic() {
    let with_panes = [Table::Window, Table::Entry, Table::Pane, Table::Waiting];
    let with_revisions = [Table::Window, Table::Entry, Table::Revision, Table::Pane, Table::Waiting];
    let jobs = [(sessions(None), &with_panes[..]), (sessions(Some(150)), &with_panes), (sliding(), &with_revisions)];
    for (job, expected) in jobs {
        let records = full_snapshot(&mut filled(&job));
        assert_eq!(tables(&records), expected);
        assert!(restore(&job, &records).is_ok());
        let damaged = |key: &[u8], value: &[u8], with: (&[u8], &[u8])| {
            assert_eq!(records.get(key).map(Vec::as_slice), Some(value));
            let mut records = records.clone();
            records.remove(key);
            records.insert(with.0.to_vec(), with.1.to_vec());
            restore(&job, &records)
        };
        for (key, value) in &records {
            for length in 0..value.len() {
                let error = damaged(key, value, (key, &value[..length])).err();
                assert!(matches!(error, Some(ProcessorError::State(_))), "{key:?} cut to {length}");
            }
            for length in 1..key.len() {
                let error = damaged(key, value, (&key[..length], value)).err();
                assert!(matches!(error, Some(ProcessorError::State(_))), "the key {key:?} cut to {length}");
            }
            let error = damaged(key, value, (key, &[value, &[0][..]].concat())).err();
            assert!(matches!(error, Some(ProcessorError::State(_))), "{key:?} with a byte more");
            for bit in 0..8 * value.len() {
                let mut flipped = value.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Err(error) = damaged(key, value, (key, &flipped)) {
                    assert!(matches!(error, ProcessorError::State(_)), "{error}");
                }
            }
        }
    }
}

/// What is restored writes the same again, but for the places of its accumulators.
#[test]
fn what_is_restored_has_the_same_records() {
    for job in [sessions(None), sessions(Some(150)), sliding()] {
        let records = full_snapshot(&mut filled(&job));
        let again = full_snapshot(&mut restore(&job, &records).unwrap());
        let values = |records: &Records| {
            let mut values: Vec<(Table, Vec<u8>)> =
                records.iter().map(|(key, value)| (Table::of(key).unwrap(), value.clone())).collect();
            values.sort();
            values
        };
        assert_eq!(values(&again), values(&records));
    }
}

#[test]
fn records_of_other_windows_are_refused() {
    let records = full_snapshot(&mut filled(&sliding()));
    let refused = |job: &JobPlan| restore(job, &records).err().unwrap().to_string();
    let error = refused(&sessions(None));
    assert!(error.contains("it is of a slice, and these are sessions"), "{error}");
    let error = refused(&JobPlan { kind: WindowKind::sliding(millis(100), millis(30)), ..sliding() });
    assert!(error.contains("no slice of these windows is from 1970-01-01T00:16:4"), "{error}");
    let error = refused(&JobPlan { everything: false, ..sliding() });
    assert!(error.contains("where the configured aggregates keep"), "{error}");
    let error = refused(&JobPlan { naming: Naming::Bare, ..sliding() });
    assert!(error.contains("the field `latency` is none of those that are configured"), "{error}");
    let records = full_snapshot(&mut filled(&sessions(None)));
    let other_gap = JobPlan { kind: WindowKind::session(millis(90)), ..sessions(None) };
    let error = restore(&other_gap, &records).err().unwrap().to_string();
    assert!(error.contains("no session from 1970-01-01T00:16:40"), "{error}");
}

/// Without triggers their records mean nothing.
#[test]
fn triggers_may_go() {
    let records = full_snapshot(&mut filled(&sessions(None)));
    let without = JobPlan { trigger: TriggerPlan::None, ..sessions(None) };
    let again = full_snapshot(&mut restore(&without, &records).unwrap());
    assert_eq!(tables(&again), [Table::Window, Table::Entry, Table::Waiting]);
}

/// Tools read records without the windows that wrote them.
#[test]
fn records_say_what_they_hold() {
    let job = JobPlan { trigger: TriggerPlan::None, ..sessions(None) };
    let records = full_snapshot(&mut filled(&job));
    let mut shown = Vec::new();
    for (key, value) in &records {
        let record = RecordView::read(key, value).unwrap();
        assert_eq!(record.definition.0, 3);
        let RecordContent::Entry(entry) = record.content else { continue };
        assert_eq!(record.group, Some(entry.key.key_group()));
        let EntryOf::Session { window, last, fired } = entry.of else { panic!("{:?} is no session", entry.of) };
        let results = entry.results(&job.settings().plan).unwrap();
        let [("cost", values), others @ ..] = &results[..] else { panic!("{results:?}") };
        assert!(others.iter().all(|(field, values)| *field == "latency" && values[0] == ResultValue::Count(1)));
        let bounds = [window.start, window.end, last].map(|time| time.as_millis() - 1_000_000);
        shown.push((entry.key.as_json().to_owned(), bounds, fired, values[0].clone(), values[1].clone()));
    }
    shown.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.cmp(&other.1)));
    let count = ResultValue::Count;
    let sum = ResultValue::Number;
    let session = |key: u32, bounds, fired, counted, summed| {
        (format!(r#"{{"k":"key-{key}"}}"#), bounds, fired, count(counted), sum(summed))
    };
    assert_eq!(
        shown,
        [
            session(0, [10, 120, 20], Some(0), 2, 3.0),
            session(0, [170, 280, 180], None, 2, 9.0),
            session(1, [30, 130, 30], Some(0), 1, 3.0),
            session(1, [260, 360, 260], None, 1, 7.0),
        ]
    );
}

/// Version 1, to the byte: a reader of it must always be able to read this.
#[test]
fn the_first_version_stays_readable() {
    let job = JobPlan { everything: false, naming: Naming::Bare, ..sliding() };
    let records = full_snapshot(&mut filled(&job));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: Vec<String> = records.iter().map(|(key, value)| format!("{} {}\n", hex(key), hex(value))).collect();
    let path = ROOT.join("tests/window_snapshots/version_1.txt");
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        std::fs::write(&path, lines.concat()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    let fixture: Records = pairs.map(|(key, value)| (unhex(key), unhex(value))).collect();
    assert_eq!(tables(&fixture), [Table::Window, Table::Entry, Table::Revision, Table::Pane, Table::Waiting]);
    let restored = full_snapshot(&mut restore(&job, &fixture).unwrap());
    assert_eq!(restored.len(), fixture.len());
    assert_eq!(lines.concat(), text, "what is written today is what was written then");
}
