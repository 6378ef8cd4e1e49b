//! Restarts of jobs whose windows overlap or grow: nothing is lost, nothing is written that lacks events, and the offsets that
//! are committed never pass a record that an open window needs.

use crate::events::{BASE, Results, closing, event, numbered, results_in, results_of_files, results_of_runs};
use crate::program::{Program, Setup};
use kafka_broker::{Broker, TestRecord, fresh};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Events of this model make one session, from one number to the other, twice a second.
const LONG: Range<i64> = 900..2_600;
/// How long a commit may take.
const COMMITTED: Duration = Duration::from_secs(20);

fn setup(name: &str, windows: &str) -> (&'static Broker, Setup, String) {
    let (broker, topic) = (Broker::shared(), fresh(name));
    let results = format!("{topic}-results");
    broker.create_topic(&topic, 2, &[]);
    broker.create_topic(&results, 3, &[]);
    let setup = Setup::new(broker.servers(), &topic, &results, &topic);
    // What is still needed is kept track of by turns: short ones show what is committed more exactly.
    let consumer = "session_timeout_ms: 10000, max_poll_records: 250".to_owned();
    (broker, Setup { windows: Some(windows.to_owned()), consumer, ..setup }, results)
}

/// Ten events a second in each of two partitions, and those of the long session in the first.
fn stretch(numbers: Range<i64>) -> Vec<TestRecord> {
    let of_number = |number: i64| {
        let long = (LONG.contains(&number) && number % 5 == 0)
            .then(|| TestRecord::to(0, event(BASE + number * 100, "long", "one", number as f64)));
        [0, 1].map(|partition| TestRecord::to(partition, numbered(partition, number))).into_iter().chain(long)
    };
    numbers.flat_map(of_number).collect()
}

/// Where the first event of the long session is in its partition.
fn first_of_long() -> i64 {
    LONG.start
}

fn wait_for_frontier(program: &mut Program, seconds: i64) {
    program.wait_until("the frontier", |program| {
        program.metric("frontier_seconds", &[("operator", "sink")]) >= (BASE / 1_000 + seconds) as f64
    });
}

/// Waits until as much is committed of a partition, and gives what is.
fn committed(broker: &Broker, setup: &Setup, partition: i32, at_least: i64) -> i64 {
    let until = Instant::now() + COMMITTED;
    loop {
        let offset = broker.committed(&setup.group, &setup.topic, partition).map_or(-1, |(offset, _)| offset);
        if offset >= at_least {
            return offset;
        }
        assert!(Instant::now() < until, "partition {partition}: {offset} is committed, {at_least} would be right");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn assert_same(found: &Results, expected: &Results) {
    for (key, text) in expected {
        assert_eq!(found.get(key), Some(text), "{key}: {} and {} results", found.len(), expected.len());
    }
    assert_eq!(found.keys().find(|key| !expected.contains_key(*key)), None, "not expected");
}

/// Runs a job in three parts; the first is killed, the second asked to end. `between` looks at what the first has committed.
fn run_in_parts(broker: &Broker, setup: &Setup, results: &str, between: impl FnOnce()) {
    broker.produce(&setup.topic, "lz4", stretch(0..2_000));
    let mut first = Program::run(setup);
    wait_for_frontier(&mut first, 185);
    committed(broker, setup, 0, 500);
    std::thread::sleep(Duration::from_secs(3));
    first.kill();
    between();

    broker.produce(&setup.topic, "lz4", stretch(2_000..2_400));
    let mut second = Program::run(setup);
    wait_for_frontier(&mut second, 225);
    assert_eq!(second.stop().code, Some(0));

    broker.produce(&setup.topic, "lz4", stretch(2_400..4_000).into_iter().chain(closing(2)));
    let expected = results_of_files(setup, broker, 2);
    let mut third = Program::run(setup);
    wait_for_frontier(&mut third, 86_000);
    committed(broker, setup, 0, first_of_long() + 1_000);
    assert_eq!(third.stop().code, Some(0));
    let (all, doubles) = results_of_runs(broker, results);
    assert_same(&all, &expected);
    // The first run's last results may not have been known to be written, and come again.
    assert!(doubles < expected.len() / 4, "{doubles} of {} results came twice", expected.len());
}

#[test]
fn a_session_that_is_open_at_a_restart_is_read_again_whole() {
    let (broker, setup, results) = setup("sessions", "session: {gap: 900ms}");
    run_in_parts(broker, &setup, &results, || {
        let offset = broker.committed(&setup.group, &setup.topic, 0).expect("it is committed").0;
        // What is kept track of are the batches of a turn; before the session nothing is needed any more.
        assert!((first_of_long() - 700..=first_of_long()).contains(&offset), "{offset} is committed");
        assert!(committed(broker, &setup, 1, 200) <= first_of_long() + 20);
    });
    let (all, _) = results_of_runs(broker, &results);
    let long: Vec<&String> = all.values().filter(|text| text.contains("\"long\"")).collect();
    assert!(long.len() == 1 && long[0].contains("\"count\":340,"), "{long:?}");
}

#[test]
fn windows_that_overlap_are_whole_after_a_restart() {
    let (broker, setup, results) = setup("sliding", "sliding: {size: 10s, slide: 3s}");
    run_in_parts(broker, &setup, &results, || {
        let offset = broker.committed(&setup.group, &setup.topic, 1).expect("it is committed").0;
        assert!((900..2_000).contains(&offset), "{offset} is committed");
    });
}

#[test]
fn several_windows_over_one_topic_are_whole_after_a_restart() {
    let windows = "definitions: [{name: overlapping, type: sliding, size: 10s, slide: 3s}, \
                   {name: sessions, type: session, gap: 900ms}]";
    let (broker, setup, results) = setup("definitions", windows);
    run_in_parts(broker, &setup, &results, || {
        let offset = broker.committed(&setup.group, &setup.topic, 0).expect("it is committed").0;
        assert!(offset <= first_of_long(), "{offset} is committed, while a session needs {}", first_of_long());
    });
    let (all, _) = results_of_runs(broker, &results);
    let named = |name: &str| all.keys().filter(|key| key.ends_with(&format!(",\"name\":\"{name}\"}}"))).count();
    assert!(
        named("overlapping") > 100 && named("sessions") > 100 && named("overlapping") + named("sessions") == all.len()
    );
}

#[test]
fn windows_of_each_name_may_have_a_topic_of_their_own() {
    let (broker, single, results) = setup("topics", "tumbling: {size: 10s}");
    let other = format!("{results}-30");
    broker.create_topic(&other, 1, &[]);
    let windows = format!(
        "definitions: [{{name: tens, type: tumbling, size: 10s, sinks: [{{type: kafka}}]}}, \
         {{name: thirties, type: tumbling, size: 30s, sinks: [{{type: kafka, topic: {other}}}]}}]"
    );
    let several = Setup { windows: Some(windows), ..single.clone() };
    broker.produce(&several.topic, "lz4", stretch(0..1_000).into_iter().chain(closing(2)));
    let mut program = Program::run(&several);
    wait_for_frontier(&mut program, 86_000);
    assert_eq!(program.stop().code, Some(0));
    for (topic, name, size) in [(&results, "tens", "10s"), (&other, "thirties", "30s")] {
        let alone = Setup { windows: Some(format!("tumbling: {{size: {size}}}")), ..single.clone() };
        let name = format!(",\"name\":\"{name}\"");
        let without_name = |text: &String| {
            assert!(text.contains(&name), "{text}");
            text.replace(&name, "")
        };
        let found = results_in(broker, topic);
        let found = found.iter().map(|(key, text)| (without_name(key), without_name(text))).collect();
        assert_same(&found, &results_of_files(&alone, broker, 2));
    }
}
