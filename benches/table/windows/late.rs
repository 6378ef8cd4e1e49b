//! Late events that are accepted, against the same events none of which is late.
//!
//! Events are up to 2 s behind the latest one, which is the bound, and 5 % of them, in the one set of rows, are behind the bound by
//! up to 2 s more, as in a stream of which a part comes by a slower way. They are within the allowed lateness, and each is judged late
//! by the watermark that its partition had: the summary's count says so. Whether an event finds its window fired is left to chance, as
//! in such a stream: with windows of 5 minutes the watermark has just passed a window's end for one late event in some 300. Only those
//! make a new result each (or share one, where two are of one window, key and watermark), and the line says how many. What such a
//! result costs is a line of its own, where every late event makes one: there windows are of a second and end before any late
//! event comes.

use super::super::measure::{Table, in_turn};
use super::super::rows::Row;
use super::{latency, time};
use llm_optimizer_processor::config::{LatePolicy, ProcessorConfig, WindowKind};
use llm_optimizer_processor::time::Span;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const ROWS: i64 = 8_000_000;
const KEYS: u64 = 48;
const BOUND: i64 = 2_000;

pub fn run(table: &mut Table) {
    table.run(&[("windows-late", late), ("windows-refinements", refinements)]);
}

/// Two minutes each million rows. One in twenty is `late` by up to as much beyond the bound.
fn rows(count: i64, late: bool, beyond: std::ops::Range<i64>) -> Arc<Vec<Row>> {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let row = |index: i64| {
        let on_time = random.random_range(0..BOUND);
        let beyond = random.random_range(beyond.clone());
        let behind = if late && index % 20 == 19 { BOUND + beyond } else { on_time };
        let time = 1_700_000_000_000 + index * 120_000 / 1_000_000 - behind;
        Row { time, key: random.random_range(0..KEYS), value: latency(&mut random) }
    };
    Arc::new((0..count).map(row).collect())
}

fn tumbling(millis: i64) -> impl Fn(&mut ProcessorConfig) {
    move |config| {
        config.windows.kind = WindowKind::tumbling(Span::from_millis(millis));
        config.windows.allowed_lateness = Span::from_secs(60);
        config.windows.late_policy = LatePolicy::Refine;
        config.watermark.max_out_of_orderness = Span::from_millis(BOUND);
    }
}

fn late(table: &mut Table) {
    // The watermark is some 20 ms behind where it would be if the latest event were always at hand.
    let beyond = 100..2_100;
    let (on_time, late) = (rows(ROWS, false, beyond.clone()), rows(ROWS, true, beyond));
    let mut refined = 0;
    let floor = || {
        let (time, summary) = time(&on_time, tumbling(300_000));
        assert_eq!((summary.late, summary.refined), (0, 0));
        time
    };
    let with_late = || {
        let (time, summary) = time(&late, tumbling(300_000));
        assert_eq!(summary.late, ROWS as u64 / 20, "5 % are late");
        refined = summary.refined;
        time
    };
    let (floor, with_late) = in_turn(floor, with_late);
    let each = refined as f64 / (ROWS as f64 / 20.0);
    let name = format!("windows: 5 % late events, {each:.4} refinements each, to none late (CPU)");
    table.ratio(&name, floor, with_late, ROWS as u64, ">= 0.95");
}

/// The time of 5 % late events less that of the same without, a result.
fn refinements(table: &mut Table) {
    const ROWS: i64 = 2_000_000;
    let beyond = 1_100..2_100;
    let (on_time, late) = (rows(ROWS, false, beyond.clone()), rows(ROWS, true, beyond));
    let mut refined = 0;
    let with_late = || {
        let (time, summary) = time(&late, tumbling(1_000));
        refined = summary.refined;
        time
    };
    let (floor, with_late) = in_turn(|| time(&on_time, tumbling(1_000)).0, with_late);
    assert!(refined * 10 > ROWS as u64 / 20 * 9, "{refined} refinements");
    let each = with_late.saturating_sub(floor).as_nanos() as f64 / refined as f64;
    table.figure("windows: a late event that refines a window (CPU)", "", &format!("{each:.0} ns"), "");
}
