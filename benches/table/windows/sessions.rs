//! Sessions of 10,000 keys, of which one event in a hundred merges two.
//!
//! How the events are made. A key's life is cycles of 100 events. Most follow the one before after 0.2 to 2.2 s; twice a cycle
//! there is a silence longer than the gap of 5 s, which ends a session; and once a cycle comes a bridge: `a`, 4.6 s later `m`,
//! 0.6 s later `b`, where `m` arrives after `b`. As `a` and `b` are more than a gap apart, `b` opens a session, and `m`, less than
//! a gap from both, makes it one with that of `a`. Every event arrives up to 2 s after its time, in the order of arrival of all
//! keys together.
//!
//! Why nothing else merges. When `x` arrives, everything of its key that is 2 s older has arrived. But for the bridges and the
//! silences one event follows another within 2.2 s, so there is always one less than 4.2 s before `x`, which is less than the gap.
//!
//! The share is not only meant to be one in a hundred: a list of intervals a key counts the merges, and the number of sessions that
//! it ends with is the number of results that the processor must have.

use super::super::measure::{Table, in_turn};
use super::super::rows::Row;
use super::{latency, time};
use llm_optimizer_processor::config::WindowKind;
use llm_optimizer_processor::time::Span;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const KEYS: u64 = 10_000;
const CYCLES: usize = 4;
const CYCLE: usize = 100;
const GAP: i64 = 5_000;
const MOST_DELAY: i64 = 2_000;

pub fn run(table: &mut Table) {
    if !table.wants("windows-sessions") {
        return;
    }
    let rows = Arc::new(rows());
    let (merges, left) = merges(&rows);
    let percent = 100.0 * merges as f64 / rows.len() as f64;
    assert!((0.99..=1.01).contains(&percent), "{percent} % of the events merge two sessions");
    let tumbling = || time(&rows, |config| config.windows.kind = WindowKind::tumbling(Span::from_secs(60))).0;
    let sessions = || {
        let (time, summary) = time(&rows, |config| config.windows.kind = WindowKind::session(Span::from_millis(GAP)));
        assert_eq!(summary.windows, left, "sessions by the list of intervals");
        time
    };
    let (floor, sessions) = in_turn(tumbling, sessions);
    let name = format!("windows: sessions, 10,000 keys, {percent:.2} % of the events merge two, to tumbling (CPU)");
    table.ratio(&name, floor, sessions, rows.len() as u64, ">= 0.5");
}

/// In the order of arrival.
fn rows() -> Vec<Row> {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut arrivals: Vec<(i64, Row)> = Vec::new();
    for key in 0..KEYS {
        // Keys are at any point of their cycles.
        let mut time = 1_700_000_000_000 + random.random_range(0..150_000);
        for _ in 0..CYCLES {
            for (distance, delay) in cycle(&mut random) {
                time += distance;
                arrivals.push((time + delay, Row { time, key, value: latency(&mut random) }));
            }
        }
    }
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    arrivals.into_iter().map(|(_, row)| row).collect()
}

/// For each event of a cycle: how long after the event before it is, and how long after that it arrives.
fn cycle(random: &mut ChaCha8Rng) -> Vec<(i64, i64)> {
    // What comes in three parts of the cycle, before its other events.
    let bridge = random.random_range(0..3);
    let mut events = Vec::with_capacity(CYCLE);
    for part in 0..3 {
        let end = (part + 1) * CYCLE / 3;
        let special = random.random_range(events.len() + 3..end - 6);
        while events.len() < end {
            if events.len() != special {
                events.push((random.random_range(200..2_200), random.random_range(0..MOST_DELAY)));
            } else if part == bridge {
                let delay_of_b = random.random_range(0..MOST_DELAY - 700);
                events.push((4_600, 600 + delay_of_b + 50));
                events.push((600, delay_of_b));
            } else {
                events.push((random.random_range(GAP..3 * GAP), random.random_range(0..MOST_DELAY)));
            }
        }
    }
    events
}

/// How many events merge two sessions, and how many sessions there are in the end.
fn merges(rows: &[Row]) -> (u64, u64) {
    let mut merges = 0;
    let mut sessions: Vec<Vec<(i64, i64)>> = vec![Vec::new(); KEYS as usize];
    for row in rows {
        let of_key = &mut sessions[row.key as usize];
        let touches = |(first, last): &(i64, i64)| *first < row.time + GAP && row.time < *last + GAP;
        let touched = of_key.extract_if(.., |session| touches(session)).collect::<Vec<_>>();
        merges += u64::from(touched.len() > 1);
        let all = touched.into_iter().chain([(row.time, row.time)]);
        of_key.push(all.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).expect("one event at least"));
    }
    (merges, sessions.iter().map(|of_key| of_key.len() as u64).sum())
}
