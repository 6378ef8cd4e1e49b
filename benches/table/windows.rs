//! Sliding windows and sessions against tumbling windows of the same rows.
//!
//! Updating and firing are measured apart. For the update path there are two keys, so that results are few whatever the ratio:
//! 4 million rows, and at most some 10,000 results. For the firing path there are few rows and 2,000 keys with an event in
//! each slide, and the figure is the time of all per result.

use super::measure::{Table, cpu, in_turn};
use super::rows::{Row, run_rows_in};
use llm_optimizer_processor::config::WindowKind;
use llm_optimizer_processor::time::Span;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

const ROWS: i64 = 4_000_000;
const SIZE_SECS: u32 = 3_600;
const RATIOS: [u32; 5] = [1, 10, 60, 600, 3600];

pub fn run(table: &mut Table) {
    if !table.wants("windows") {
        return;
    }
    sliding(table);
    firing(table);
    sessions(table);
}

/// Two minutes each million rows, up to 2 s out of order.
fn rows(keys: u64) -> Arc<Vec<Row>> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let row = |index: i64| Row {
        time: 1_700_000_000_000 + index * 120_000 / 1_000_000 - random.random_range(0..2_000),
        key: random.random_range(0..keys),
        value: 50.0 * (1.0 + 99.0 * random.random::<f64>().powi(3)),
    };
    Arc::new((0..ROWS).map(row).collect())
}

fn time(rows: &Arc<Vec<Row>>, kind: WindowKind) -> (std::time::Duration, u64) {
    let rows = Arc::clone(rows);
    let mut results = 0;
    let time = cpu(|| {
        let summary = run_rows_in((0..rows.len()).map(move |index| rows[index]), kind);
        results = summary.windows;
    });
    (time, results)
}

fn sliding(table: &mut Table) {
    let rows = rows(2);
    let size = Span::from_secs(SIZE_SECS);
    for ratio in RATIOS {
        let kind = WindowKind::sliding(size, Span::from_secs(SIZE_SECS / ratio));
        let tumbling = WindowKind::tumbling(size);
        let (floor, sliding) = in_turn(|| time(&rows, tumbling).0, || time(&rows, kind).0);
        let name = format!("windows: sliding, size/slide = {ratio}, to tumbling, update path (CPU)");
        table.ratio(&name, floor, sliding, ROWS as u64, ">= 0.9");
    }
}

fn firing(table: &mut Table) {
    const KEYS: u64 = 2_000;
    for ratio in [1u32, 10, 60, 600] {
        let slide = i64::from(SIZE_SECS / ratio) * 1_000;
        // Each key once in each of 300 slides.
        let of_slide = |n: i64| (0..KEYS).map(move |key| Row { time: n * slide, key, value: key as f64 });
        let rows: Arc<Vec<Row>> = Arc::new((0..300).flat_map(of_slide).collect());
        let kind = WindowKind::sliding(Span::from_secs(SIZE_SECS), Span::from_millis(slide));
        let (time, results) = time(&rows, kind);
        let each = format!("{:.0} ns a result", time.as_nanos() as f64 / results as f64);
        table.figure(&format!("windows: sliding, size/slide = {ratio}, firing path (CPU)"), "", &each, "flat");
    }
}

/// Keys have an event every 1.2 s on the average, so that one in 65 opens a session.
fn sessions(table: &mut Table) {
    let rows = rows(10_000);
    let (tumbling, kind) = (WindowKind::tumbling(Span::from_secs(60)), WindowKind::session(Span::from_secs(5)));
    let (floor, sessions) = in_turn(|| time(&rows, tumbling).0, || time(&rows, kind).0);
    table.ratio("windows: sessions, 10,000 keys, to tumbling (CPU)", floor, sessions, ROWS as u64, ">= 0.5");
}
