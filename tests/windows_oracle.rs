//! Whole jobs against a model that shares no code with them: random inputs, windows, keys, disorder and lateness, read from files
//! by any number of workers in any portions. Every result of every revision must be the model's, and so must every late record
//! and dead letter.

#[path = "support/job.rs"]
mod job;
mod oracle;
#[path = "support/scratch.rs"]
mod scratch;

use llm_optimizer_processor::runtime::Summary;
use oracle::case::{
    AggregatePlan, Behind, Case, Cell, EventPlan, Keys, Line, Packing, PartitionPlan, RunPlan, TimePlan, Values, What,
    rfc3339,
};
use oracle::random::case;
use oracle::{Contents, Identity, Kind, Op, Record, Refused, Rules, Whole, expect, figures};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use scratch::scratch;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A line of a result file, without its timestamp. Figures stay text, so that no parser rounds them.
#[derive(Deserialize)]
struct ResultLine {
    window: Bounds,
    key: Value,
    results: BTreeMap<String, Box<RawValue>>,
    revision: u64,
    op: String,
    firing: String,
}

#[derive(Deserialize)]
struct Bounds {
    start: String,
    end: String,
    #[serde(default)]
    name: Option<String>,
}

fn millis(text: &str) -> i64 {
    let time = chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let millis = time.timestamp_millis();
    assert_eq!(rfc3339(millis), text, "times are written in one way");
    millis
}

/// What a run wrote.
struct Output {
    summary: Summary,
    /// By window definition, in the order in which they came.
    in_order: Vec<Vec<String>>,
    late: Vec<Refused>,
    dead: Vec<Refused>,
}

fn run(case: &Case, run: RunPlan, files: &[PathBuf]) -> Output {
    let out = scratch();
    let summary = job::run(&case.yaml(run, files, out.path()), run.workers);
    Output {
        summary,
        in_order: (0..case.rules().count())
            .map(|place| job::results(&out.path().join(Case::result_file(place))))
            .collect(),
        late: refused(&out.path().join("late.jsonl"), files),
        dead: refused(&out.path().join("dead.jsonl"), files),
    }
}

/// The records of a side output, sorted.
fn refused(path: &Path, files: &[PathBuf]) -> Vec<Refused> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut records: Vec<Refused> = text
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let topic = value["topic"].as_str().expect("a topic");
            assert_eq!((&value["partition"], &value["payload_encoding"]), (&json!(0), &json!("utf-8")), "{line}");
            Refused {
                partition: files.iter().position(|file| file.to_str() == Some(topic)).expect("one of the files"),
                offset: value["offset"].as_u64().expect("an offset"),
                reason: value["reason"].as_str().expect("a reason").to_owned(),
                time: value["timestamp"].as_str().map(millis),
                watermark: value["watermark"].as_str().map(millis),
                late_by: value.get("late_by_ms").map(|by| by.as_i64().expect("milliseconds")),
                payload: value["payload"].as_str().expect("a payload").to_owned(),
                refused_by: value.get("refused_by").map_or(Vec::new(), |names| {
                    serde_json::from_value(names.clone()).expect("names of window definitions")
                }),
            }
        })
        .collect();
    records.sort();
    records
}

/// Compares the results of a definition with the model's, all of them both ways.
fn compare(lines: &[String], expected: &BTreeMap<Identity, Contents>, case: &Case, place: usize) -> Result<(), String> {
    let aggregates = case.aggregates_of(place);
    let mut seen: BTreeSet<Identity> = BTreeSet::new();
    for line in lines {
        let ResultLine { window, key, results, revision, op, firing } =
            serde_json::from_str(&format!("{line}}}")).map_err(|error| format!("{line}: {error}"))?;
        let op = match op.as_str() {
            "upsert" => Op::Upsert,
            "retract" => Op::Retract,
            other => return Err(format!("{line}: no operation is {other}")),
        };
        if window.name != case.name_of(place) {
            return Err(format!("{line}: the name {:?} is right", case.name_of(place)));
        }
        let identity = ((millis(&window.start), millis(&window.end)), key.to_string(), revision, op);
        let contents = expected.get(&identity).ok_or_else(|| format!("{line}: no such result is due"))?;
        if !seen.insert(identity) {
            return Err(format!("{line}: twice"));
        }
        if firing != contents.firing {
            return Err(format!("{line}: {} is right", contents.firing));
        }
        let figures = figures_of(contents, case.event.listed_fields(), &aggregates);
        if !figures.keys().eq(results.keys()) {
            return Err(format!("{line}: the names {:?} are right", figures.keys()));
        }
        for (name, (aggregate, values)) in figures {
            figures::check(&aggregate, values, results[&name].get(), aggregates.relative_error)
                .map_err(|problem| format!("{line}: {name}: {problem}"))?;
        }
    }
    match expected.keys().find(|identity| !seen.contains(*identity)) {
        None => Ok(()),
        Some(missing) => Err(format!("missing: {missing:?} with {:?}", expected[missing])),
    }
}

/// Which results stand: the window's bounds, the key, the revision.
type Standing = BTreeMap<((i64, i64), String), u64>;

/// Lets results take effect one after the other: each upsert is the next revision of its window and key, or the first after it was
/// taken back, and each retraction takes back what stands.
fn check_order(lines: &[String]) -> Result<Standing, String> {
    let mut standing = Standing::new();
    for line in lines {
        let ResultLine { window, key, revision, op, .. } =
            serde_json::from_str(&format!("{line}}}")).map_err(|error| format!("{line}: {error}"))?;
        let identity = ((millis(&window.start), millis(&window.end)), key.to_string());
        let before = standing.get(&identity).copied();
        match op.as_str() {
            "retract" if before == Some(revision) => drop(standing.remove(&identity)),
            "upsert" if before.map_or(0, |before| before + 1) == revision => drop(standing.insert(identity, revision)),
            _ => return Err(format!("{line}: what stands is revision {before:?}")),
        }
    }
    Ok(standing)
}

/// What stands in the end must be what the model has standing.
fn replay(lines: &[String], expected: &BTreeMap<Identity, Contents>) -> Result<(), String> {
    let standing = check_order(lines)?;
    let mut right = Standing::new();
    for (window, key, revision, _) in expected.keys().filter(|(.., op)| *op == Op::Upsert) {
        let last = right.entry((*window, key.clone())).or_default();
        *last = (*revision).max(*last);
    }
    right.retain(|(window, key), last| !expected.contains_key(&(*window, key.clone(), *last, Op::Retract)));
    if standing == right {
        Ok(())
    } else {
        Err(format!("what stands in the end: {standing:?} where {right:?} is right"))
    }
}

/// What a result shows: by name, which aggregate over which values.
fn figures_of<'a>(
    contents: &'a Contents,
    listed: Option<Vec<&'a str>>,
    aggregates: &AggregatePlan,
) -> BTreeMap<String, (String, &'a [f64])> {
    let fields = listed.unwrap_or_else(|| contents.values.keys().map(String::as_str).collect());
    let mut figures = BTreeMap::new();
    for field in &fields {
        let values = contents.values.get(*field).map_or(&[][..], Vec::as_slice);
        for aggregate in aggregates.names() {
            let name = if fields.len() == 1 { aggregate.clone() } else { format!("{field}.{aggregate}") };
            figures.insert(name, (aggregate, values));
        }
    }
    figures
}

/// Takes the early results away, and their retractions; numbers the revisions as if they had never been. What stays is what windows
/// that fire at their end alone would have emitted. Says how many were taken away: upserts, retractions.
fn without_early(lines: &[String]) -> Result<(Vec<String>, [u64; 2]), String> {
    let mut early: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
    let (mut rest, mut taken) = (Vec::new(), [0, 0]);
    for line in lines {
        let ResultLine { window, key, revision, op, firing, .. } =
            serde_json::from_str(&format!("{line}}}")).map_err(|error| format!("{line}: {error}"))?;
        let early = early.entry((format!("{} {}", window.start, window.end), key.to_string())).or_default();
        match (op.as_str(), firing.as_str()) {
            ("upsert", "early") => {
                early.insert(revision);
                taken[0] += 1;
                continue;
            }
            ("retract", _) if early.remove(&revision) => {
                taken[1] += 1;
                continue;
            }
            _ => {}
        }
        let before = early.iter().filter(|early| **early < revision).count() as u64;
        rest.push(
            line.replace(&format!(",\"revision\":{revision},"), &format!(",\"revision\":{},", revision - before)),
        );
    }
    Ok((rest, taken))
}

/// What the summary must say; so many results were early, and so many of them taken back.
fn compare_summary(summary: &Summary, expected: &Whole, [early, early_retracted]: [u64; 2]) -> Result<(), String> {
    let all = || expected.of_each.iter().flat_map(|expectation| &expectation.results);
    let results = |firing| {
        let upserts = all().filter(|((.., op), _)| *op == Op::Upsert);
        upserts.filter(|(_, contents)| contents.firing == firing).count() as u64
    };
    let retracted = all().filter(|((.., op), _)| *op == Op::Retract).count() as u64 + early_retracted;
    let in_no_window = expected.of_each.iter().map(|expectation| expectation.in_no_window).sum();
    let count = all().count() as u64 + early + early_retracted;
    let patient = expected.most_patient();
    let refused_by_all = expected.late.iter().filter(|record| record.refused_by.is_empty());
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    for record in refused_by_all.chain(&patient.dead) {
        *dropped.entry(record.reason.clone()).or_default() += 1;
    }
    let said: BTreeMap<String, u64> =
        summary.dropped.iter().map(|(reason, count)| (reason.to_string(), *count)).collect();
    let pairs = [
        ("events", summary.events, patient.accepted),
        ("late", summary.late, patient.accepted_late),
        ("refused", summary.refused, expected.refused),
        ("early", summary.early, early),
        ("filtered", summary.filtered, patient.filtered),
        ("windows", summary.windows, results("on_time")),
        ("refined", summary.refined, results("late")),
        ("retracted", summary.retracted, retracted),
        ("in_no_window", summary.in_no_window, in_no_window),
        ("results", summary.results, count),
        ("open", summary.open, 0),
        ("tombstones", summary.tombstones, 0),
        ("replayed", summary.replayed, 0),
    ];
    for (what, found, right) in pairs {
        if found != right {
            return Err(format!("summary: {what} is {found}, {right} is right"));
        }
    }
    if said == dropped { Ok(()) } else { Err(format!("summary: dropped is {said:?}, {dropped:?} is right")) }
}

fn check(case: &Case) -> Result<(), String> {
    let input = scratch();
    let lines = case.records();
    let write = |(number, lines): (usize, &Vec<(Record, &'static str)>)| {
        case.partitions[number].write(input.path(), number, lines)
    };
    let files: Vec<PathBuf> = lines.iter().enumerate().map(write).collect();
    let records: Vec<Vec<Record>> =
        lines.into_iter().map(|lines| lines.into_iter().map(|(record, _)| record).collect()).collect();
    let of_each = case.rules().enumerate().map(|(place, rules)| (case.name_of(place), expect(&records, rules)));
    let expected = Whole::of(of_each.collect());

    let mut of_runs = Vec::new();
    for output in case.runs.map(|plan| run(case, plan, &files)) {
        let (mut early, mut results_of_run) = ([0, 0], Vec::new());
        for (place, lines) in output.in_order.iter().enumerate() {
            let results = &expected.of_each[place].results;
            check_order(lines)?;
            let (lines, taken) = without_early(lines)?;
            replay(&lines, results)?;
            let lines = job::sorted(lines);
            compare(&lines, results, case, place)?;
            early = [early[0] + taken[0], early[1] + taken[1]];
            results_of_run.extend(lines);
        }
        of_runs.push(results_of_run);
        same("late", &output.late, &expected.late)?;
        same("dead letter", &output.dead, &expected.most_patient().dead)?;
        compare_summary(&output.summary, &expected, early)?;
    }
    same("result of the second run", &of_runs[1], &of_runs[0])
}

/// Both sorted.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &[T], right: &[T]) -> Result<(), String> {
    let pairs = found.iter().zip(right).find(|(found, right)| found != right);
    match pairs {
        Some((found, right)) => Err(format!("{what}: {found:?} where {right:?} is right")),
        None if found.len() == right.len() => Ok(()),
        None => Err(format!(
            "{what}: {} where {} are right: {:?}",
            found.len(),
            right.len(),
            found.get(right.len()).or(right.get(found.len()))
        )),
    }
}

/// How many cases are tried: in all tests, and in the long run.
const CASES: [u32; 2] = [400, 10_000];
/// So many at a time: a job has threads that wait for each other.
const AT_A_TIME: u32 = 4;

/// Cases one after the other, from a seed of their own.
fn try_cases(cases: u32) {
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 1000,
        source_file: Some(file!()),
        test_name: Some(concat!(module_path!(), "::a_job_computes_what_the_model_does")),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(&case(), |case| check(&case).map_err(TestCaseError::fail)) {
        panic!("{error}\n{runner}");
    }
}

#[test]
fn a_job_computes_what_the_model_does() {
    let [few, many] = CASES;
    let cases = if std::env::var_os("LONG_TESTS").is_some() { many } else { few };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| try_cases(cases.div_ceil(AT_A_TIME)));
        }
    });
}

/// The model itself, on an input whose outcome was worked out by hand: windows of 10, disorder of 2, lateness of 5.
#[test]
fn the_model_does_what_the_card_says() {
    let mut offset = 0;
    let mut event = |time: i64, key: &str| {
        offset += 1;
        let kind = Kind::Event { time, key: json!(key), values: vec![("v".to_owned(), time as f64)] };
        Record { offset, text: String::new(), kind }
    };
    let first = vec![
        event(3, "a"),
        event(14, "a"), // the watermark is 12 from here on
        event(12, "a"), // at the watermark: on time
        event(7, "a"),  // late by 5, accepted; its window had ended by 12: a refinement
        event(6, "a"),  // late by 6: refused
        event(15, "b"), // the watermark is 13
        event(9, "b"),  // the first of its window and key is a refinement
        event(8, "a"),
    ];
    let second = vec![
        event(9, "a"), // this partition is at 7: the window is open
        event(14, "b"),
        event(8, "a"), // at 12: one refinement with that of the other partition
    ];
    let expected = expect(&[first, second], Rules::tumbling(10, 5, 2));
    let values: Vec<(i64, &str, u64, &str, &[f64])> = expected
        .results
        .iter()
        .map(|(((start, _), key, revision, _), contents)| {
            (*start, key.trim_matches('"'), *revision, contents.firing, contents.values["v"].as_slice())
        })
        .collect();
    assert_eq!(
        values,
        [
            (0, "a", 0, "on_time", &[3.0, 9.0][..]),
            (0, "a", 1, "late", &[3.0, 7.0, 9.0, 8.0]),
            (0, "a", 2, "late", &[3.0, 7.0, 8.0, 9.0, 8.0]),
            (0, "b", 0, "late", &[9.0]),
            (10, "a", 0, "on_time", &[14.0, 12.0]),
            (10, "b", 0, "on_time", &[15.0, 14.0]),
        ]
    );
    let late: Vec<_> = expected.late.iter().map(|late| (late.offset, late.watermark, late.late_by)).collect();
    assert_eq!(late, [(5, Some(12), Some(6))]);
    assert_eq!((expected.accepted, expected.accepted_late), (10, 4));
}

/// A case with windows of 10 ms, no disorder and a lateness of 20 ms: per partition, when events happen and with which cells.
fn small_case(values: Values, partitions: &[&[(i64, [Cell; 3])]]) -> Case {
    let partition = |events: &&[(i64, [Cell; 3])]| {
        let mut latest = 0;
        let line = |(time, cells): &(i64, [Cell; 3])| {
            let (step, behind) = ((time - latest).max(0), (latest - time).max(0));
            latest += step;
            let (what, behind) = (What::Event, Behind::AroundTheWatermark(behind));
            Line { what, step, behind, key: 0, cells: *cells, first_cell: 0, end: "\n" }
        };
        PartitionPlan { packing: Packing::Plain, ahead: 0, lines: events.iter().map(line).collect() }
    };
    Case {
        time: TimePlan { rules: Rules::tumbling(10, 20, 0), begin: 0, pace: 100 },
        others: Vec::new(),
        every_events: None,
        event: EventPlan { keys: Keys::Everything, values, rfc3339: true, filter: false },
        aggregates: AggregatePlan {
            enabled: vec!["count", "sum", "average", "min", "max", "stddev", "percentile"],
            percentiles: vec![50.0],
            relative_error: 0.01,
        },
        partitions: partitions.iter().map(partition).collect(),
        runs: [RunPlan { workers: 1, buffer_size: 10_000, emit_interval_ms: None }; 2],
    }
}

/// Checks a case with many numbers of workers and portions.
fn check_many_ways(case: &Case) {
    for workers in [1, 2, 3] {
        for buffer_size in [1, 2, 3, 5, 100] {
            let second = RunPlan { workers, buffer_size, emit_interval_ms: None };
            let case = Case { runs: [case.runs[0], second], ..case.clone() };
            check(&case).unwrap_or_else(|problem| panic!("{problem}\n{second:?}"));
        }
    }
}

const fn only(number: f64) -> [Cell; 3] {
    [Cell::Number(number), Cell::Absent, Cell::Absent]
}

#[test]
fn values_that_cancel() {
    check_many_ways(&small_case(Values::One, &[&[(1, only(5.0)), (2, only(-5.0)), (3, only(0.0)), (12, only(-0.0))]]));
}

#[test]
fn rows_judged_against_a_watermark_that_is_the_end_of_their_window() {
    let first: &[(i64, [Cell; 3])] = &[
        (5, only(1.0)),
        (10, only(2.0)),
        (7, only(3.0)),
        (20, only(4.0)),
        (9, only(5.0)),
        (15, only(6.0)),
        (40, only(7.0)),
    ];
    let second: &[(i64, [Cell; 3])] =
        &[(6, only(1.5)), (10, only(2.5)), (20, only(3.5)), (8, only(4.5)), (40, only(5.5))];
    check_many_ways(&small_case(Values::One, &[first, second]));
    check_many_ways(&small_case(Values::One, &[second, first, second]));
}

#[test]
fn fields_that_come_in_another_order_in_each_partition() {
    let (a, b) = (only(1.0), [Cell::Absent, Cell::Number(2.0), Cell::Absent]);
    let c = [Cell::Absent, Cell::Absent, Cell::Number(3.0)];
    check_many_ways(&small_case(
        Values::AsTheyCome,
        &[&[(1, a), (2, b), (3, c), (11, a)], &[(1, b), (2, c), (3, a), (11, a)], &[(1, c), (2, a), (3, b), (11, b)]],
    ));
}
