//! JSON lines to results, against a loop that only parses.

use super::events::{self, file_source, folder, job, job_of, write_files};
use super::measure::{Table, cpu, in_turn, wall};
use llm_optimizer_processor::config::{self, ProcessorConfig};
use llm_optimizer_processor::event::{Decoder, JsonDecoder, RowScratch};
use std::hint::black_box;
use std::path::Path;

const EVENTS: u64 = 1_000_000;

/// One file, one worker.
fn one_file(table: &mut Table) {
    let folder = folder();
    let one = write_files(folder.path(), 1, EVENTS);
    let out = folder.path().join("results.jsonl");
    let sink = format!("[{{type: file, path: \"{}\", mode: atomic}}]", out.display());
    let (floor, time) = in_turn(
        || cpu(|| parse_only(&one[0])),
        || cpu(|| assert_eq!(events::run(job(&file_source(&one), &sink), 1).events, EVENTS)),
    );
    table.ratio("JSON lines file -> results, 1 worker (CPU)", floor, time, EVENTS, ">= 0.80");
}

/// Three window definitions, of each kind one, all with all aggregates: what is read is read and sent once. The floor is the
/// first of them alone.
const THREE: &str = "{definitions: [{name: minutes, type: tumbling, size: 60s}, \
                     {name: sliding, type: sliding, size: 10m, slide: 1m}, {name: visits, type: session, gap: 30s}]}";

/// Three definitions over one file, against one.
fn definitions(table: &mut Table) {
    let folder = folder();
    let one = write_files(folder.path(), 1, EVENTS);
    let sink = format!("[{{type: file, path: \"{}\", mode: atomic}}]", folder.path().join("results.jsonl").display());
    let (floor, time) = in_turn(
        || cpu(|| assert_eq!(events::run(job(&file_source(&one), &sink), 1).events, EVENTS)),
        || cpu(|| assert_eq!(events::run(job_of(THREE, &file_source(&one), &sink, ""), 1).events, EVENTS)),
    );
    table.ratio("three window definitions over one stream, to one, JSON lines (CPU)", floor, time, EVENTS, ">= 0.6");
}

/// Four files, by one worker and by two.
fn four_files(table: &mut Table) {
    let folder = folder();
    let out = folder.path().join("results.jsonl");
    let sink = format!("[{{type: file, path: \"{}\", mode: atomic}}]", out.display());
    let parts = tempfile::tempdir().expect("a temporary folder");
    let four = write_files(parts.path(), 4, 4 * EVENTS);
    let (single, double) = in_turn(
        || wall(|| assert_eq!(events::run(job(&file_source(&four), &sink), 1).events, 4 * EVENTS)),
        || wall(|| assert_eq!(events::run(job(&file_source(&four), &sink), 2).events, 4 * EVENTS)),
    );
    table.ratio("the same, four files, 2 workers to 1 (wall)", single, double, 4 * EVENTS, ">= 1.8");
}

pub fn run(table: &mut Table) {
    table.run(&[("files-1", one_file), ("files-definitions", definitions), ("files-4", four_files)]);
}

/// The fastest loop that does nothing but parse: the bytes mapped, the same parser, the same four fields.
fn parse_only(path: &Path) {
    let file = std::fs::File::open(path).expect("the events");
    // SAFETY: nobody writes to the file while it is mapped.
    let bytes = unsafe { memmap2::MmapOptions::new().populate().map(&file) }.expect("a mapping");
    parse_all(&bytes);
}

/// Parses every line.
pub fn parse_all(bytes: &[u8]) {
    let mut decoder = JsonDecoder::new(&bench_config("[stdout]").event);
    let mut row = RowScratch::default();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        row.clear();
        black_box(decoder.decode(&bytes[start..end], &mut row).expect("a good record"));
        black_box(&row);
        start = end + 1;
    }
}

/// The configuration of the measured job, but for its source.
pub fn bench_config(sinks: &str) -> ProcessorConfig {
    let text = format!(
        "processor:\n  job: bench\n  source: stdin\n  event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
         windows: {{tumbling: {{size_secs: 60}}}}\n  watermark: {{max_out_of_orderness_secs: 5}}\n  sinks: {sinks}\n  \
         metrics: {{enabled: false}}\n"
    );
    config::load_str("bench", &text, std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}")).config
}
