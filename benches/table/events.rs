//! The events that are measured with, and jobs to run over them.

use llm_optimizer_processor::config::{self, GeneratorConfig};
use llm_optimizer_processor::runtime::{Control, Job, Summary, Topology};
use llm_optimizer_processor::source::generator::generate;
use llm_optimizer_processor::time::EventTime;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that goes with the value.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Feedback events of about 300 bytes a line, one partition a file.
pub fn write_files(folder: &Path, files: u32, events: u64) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = (0..files).map(|index| folder.join(format!("events-{index}.jsonl"))).collect();
    let mut outputs: Vec<_> = paths
        .iter()
        .map(|path| std::io::BufWriter::new(std::fs::File::create(path).expect("a file to write")))
        .collect();
    generate_events(files, events, |partition, payload| {
        let output = &mut outputs[partition as usize];
        output.write_all(payload).and_then(|()| output.write_all(b"\n")).expect("room on the disk");
    });
    paths
}

/// Hands over generated events, padded to 300 bytes.
pub fn generate_events(partitions: u32, events: u64, mut take: impl FnMut(i32, &[u8])) {
    let generator = GeneratorConfig {
        rate: None,
        count: Some(events),
        keys: NonZeroU32::new(48).expect("not zero"),
        seed: 7,
        disorder: Duration::from_secs(2),
        late_share: 0.0,
        malformed_share: 0.0,
        partitions: NonZeroU32::new(partitions).expect("at least one partition"),
    };
    let mut padded = Vec::with_capacity(320);
    generate(&generator, &Control::new(), &mut |partition, payload| {
        padded.clear();
        padded.extend_from_slice(payload);
        pad(&mut padded, 300);
        take(partition, &padded);
        Ok(())
    })
    .expect("events");
}

/// Lengthens the user's name at the end of the record until the record has `length` bytes.
fn pad(record: &mut Vec<u8>, length: usize) {
    let Some(missing) = length.checked_sub(record.len()).filter(|missing| *missing > 0) else { return };
    let end = record.len() - 3;
    assert_eq!(&record[end..], b"\"}}", "the record ends with the user's name");
    record.splice(end..end, std::iter::repeat_n(b'x', missing));
}

/// The job of the comparison: 48 keys, tumbling 60 s, all aggregates.
pub fn job(source: &str, sink: &str) -> Job {
    job_with(source, sink, "")
}

/// The same with further lines of the configuration.
pub fn job_with(source: &str, sink: &str, further: &str) -> Job {
    job_of(TUMBLING, source, sink, further)
}

/// Windows of a minute.
pub const TUMBLING: &str = "{tumbling: {size_secs: 60}}";

/// The same with other windows.
pub fn job_of(windows: &str, source: &str, sink: &str, further: &str) -> Job {
    job_named("bench", windows, source, sink, further)
}

/// The same with a name of its own: what it writes into Kafka tells jobs apart by their names.
pub fn job_named(name: &str, windows: &str, source: &str, sink: &str, further: &str) -> Job {
    let text = format!(
        "processor:\n  job: {name}\n  source: {source}\n  event: {{key: [data.model, data.region], values: [data.latency_ms]}}\n  \
         windows: {windows}\n  watermark: {{max_out_of_orderness_secs: 5}}\n  sinks: {sink}\n  metrics: {{enabled: false}}\n{further}"
    );
    let loaded = config::load_str("bench", &text, std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}"));
    Job::from_config(loaded.config).expect("a job")
}

/// A file source over these paths.
pub fn file_source(paths: &[PathBuf]) -> String {
    let list: Vec<String> = paths.iter().map(|path| format!("\"{}\"", path.display())).collect();
    format!("{{type: file, paths: [{}]}}", list.join(", "))
}

/// Runs a job on this many workers.
pub fn run(job: Job, workers: usize) -> Summary {
    let workers = NonZeroUsize::new(workers).expect("a worker");
    job.run(&Topology::single(workers)).expect("the job runs")
}

/// Appends the line of event number `number`, at `time`, of one of 48 keys.
pub fn event_json(line: &mut Vec<u8>, time: EventTime, number: u64) {
    let (model, region, latency) = (number % 8, number / 8 % 6, 100 + number * 37 % 900);
    writeln!(
        line,
        r#"{{"id":"{number:016x}","timestamp":"{time}","source":"bench","event_type":"metric","data":{{"model":"model-{model}","region":"region-{region}","latency_ms":{latency}.5}}}}"#
    )
    .expect("a vector takes all");
}
