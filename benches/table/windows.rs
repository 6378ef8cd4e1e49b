//! Windows of every kind, and late events, against tumbling windows of the same rows.

mod late;
mod sessions;
mod sliding;

use super::measure::{Table, cpu};
use super::rows::{Row, run_rows_in};
use llm_optimizer_processor::config::ProcessorConfig;
use llm_optimizer_processor::runtime::Summary;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Duration;

pub fn run(table: &mut Table) {
    sliding::run(table);
    sessions::run(table);
    late::run(table);
}

/// Latencies over two decades.
fn latency(random: &mut ChaCha8Rng) -> f64 {
    50.0 * (1.0 + 99.0 * random.random::<f64>().powi(3))
}

/// The CPU time of a run over all rows, each of which must be in a window.
fn time(rows: &Arc<Vec<Row>>, change: impl FnOnce(&mut ProcessorConfig)) -> (Duration, Summary) {
    let rows = Arc::clone(rows);
    let (count, mut summary) = (rows.len() as u64, Summary::default());
    let time = cpu(|| summary = run_rows_in((0..rows.len()).map(move |index| rows[index]), change));
    assert_eq!((summary.events, summary.in_no_window, summary.open), (count, 0, 0), "{summary:?}");
    (time, summary)
}
