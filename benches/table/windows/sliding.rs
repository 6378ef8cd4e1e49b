//! Sliding windows: what an event costs, and what a result costs, apart.
//!
//! A window of an hour that slides by a second makes a result a second and key, whatever else happens. To hold these out of the
//! figure of the update path there is one key and there are 25,000 events a second: some 4,080 results at most for 12 million events, and the
//! line says how many. The figure of the firing path has the events held out of it in turn: from the time of few events in many
//! windows that of the same events in one window is subtracted, and the rest is divided by the results.

use super::super::measure::{Table, in_turn};
use super::super::rows::Row;
use super::{latency, time};
use llm_optimizer_processor::config::{ProcessorConfig, WindowKind};
use llm_optimizer_processor::time::Span;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const SIZE_SECS: u32 = 3_600;
/// Size to slide.
const RATIOS: [u32; 5] = [1, 10, 60, 600, 3600];

pub fn run(table: &mut Table) {
    updating(table);
    firing(table);
}

/// The ratios of which this part is asked for.
fn ratios(table: &Table, part: &str) -> Vec<u32> {
    RATIOS.into_iter().filter(|ratio| table.wants(&format!("windows-{part}-{ratio}"))).collect()
}

fn slide(ratio: u32) -> Span {
    Span::from_millis(i64::from(SIZE_SECS / ratio) * 1_000)
}

fn sliding(ratio: u32) -> impl Fn(&mut ProcessorConfig) {
    move |config| config.windows.kind = WindowKind::sliding(Span::from_secs(SIZE_SECS), slide(ratio))
}

fn tumbling(secs: u32) -> impl Fn(&mut ProcessorConfig) {
    move |config| config.windows.kind = WindowKind::tumbling(Span::from_secs(secs))
}

/// 40 s each million rows, up to 2 s out of order.
fn updating(table: &mut Table) {
    const ROWS: i64 = 12_000_000;
    let ratios = ratios(table, "update");
    if ratios.is_empty() {
        return;
    }
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let row = |index: i64| Row {
        time: 1_700_000_000_000 + index * 40_000 / 1_000_000 - random.random_range(0..2_000),
        key: 0,
        value: latency(&mut random),
    };
    let rows: Arc<Vec<Row>> = Arc::new((0..ROWS).map(row).collect());
    for ratio in ratios {
        let mut results = 0;
        let sliding = || {
            let (time, summary) = time(&rows, sliding(ratio));
            results = summary.windows;
            time
        };
        let (floor, sliding) = in_turn(|| time(&rows, tumbling(SIZE_SECS)).0, sliding);
        let name =
            format!("windows: sliding, size/slide = {ratio}, to tumbling, update path with {results} results (CPU)");
        table.ratio(&name, floor, sliding, ROWS as u64, ">= 0.9");
    }
}

/// 30 keys. A window holds 64 events of each or more, whatever the ratio: so many that its percentiles are in bins, as reading
/// these off is the greater part of a result and would otherwise be cheaper where windows are of few slides. There are at least
/// four times as many slides as a window has: most windows are full.
fn firing(table: &mut Table) {
    const KEYS: u64 = 30;
    const EVENTS: i64 = 64;
    for ratio in ratios(table, "firing") {
        let (slides, of_slide) = ((4 * i64::from(ratio)).max(2_000), (EVENTS as u32).div_ceil(ratio));
        let slide_millis = slide(ratio).as_millis();
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let mut rows = Vec::new();
        for time in (0..slides).map(|n| n * slide_millis) {
            let all = (0..of_slide).flat_map(|_| 0..KEYS);
            rows.extend(all.map(|key| Row { time, key, value: latency(&mut random) }));
        }
        let rows = Arc::new(rows);
        let mut results = 0;
        let sliding = || {
            let (time, summary) = time(&rows, sliding(ratio));
            assert_eq!(summary.windows, KEYS * (slides as u64 + u64::from(ratio) - 1));
            results = summary.windows;
            time
        };
        let (floor, sliding) = in_turn(|| time(&rows, tumbling(u32::MAX)).0, sliding);
        let each = sliding.saturating_sub(floor).as_nanos() as f64 / results as f64;
        let name = format!("windows: sliding, size/slide = {ratio}, firing path, a window and key (CPU)");
        table.figure(&name, "", &format!("{each:.0} ns"), "flat");
    }
}
