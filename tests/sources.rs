//! The sources other than Kafka, polled as a worker polls them, into a real intake.

use llm_optimizer_processor::config::{
    ErrorPolicy, GeneratorConfig, WatermarkConfig, WatermarkStrategy, WindowConfig, WindowKind,
};
use llm_optimizer_processor::event::{
    BadRecord, Decoded, Decoder, FeedbackEvent, Reason, RowBatch, RowScratch, TypedDecoder, WorkerIndex,
};
use llm_optimizer_processor::sink::SideRecord;
use llm_optimizer_processor::source::file::{FileProgress, FileSource, expand};
use llm_optimizer_processor::source::generator::GeneratorSource;
use llm_optimizer_processor::source::memory::EventInput;
use llm_optimizer_processor::source::stdin::StdinSource;
use llm_optimizer_processor::source::{Intake, IntakeRules, Polled, Source};
use llm_optimizer_processor::time::{EventTime, Span};
use llm_optimizer_processor::window::{ClosedBefore, WindowSet, Windowing};
use llm_optimizer_processor::{GroupingKey, ProcessorResult};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Refuses everything, so that every record turns up among the dead letters with its partition and offset.
struct RefuseAll;

impl Decoder for RefuseAll {
    fn decode(&mut self, _: &[u8], _: &mut RowScratch) -> Result<Decoded, BadRecord> {
        Err(BadRecord::new(Reason::Malformed, "refused"))
    }
    fn render_key(&self, _: &[u8]) -> GroupingKey {
        GroupingKey::everything()
    }
    fn fields(&self) -> &[Arc<str>] {
        &[]
    }
}

/// What a run of one source came to.
struct Run {
    partitions: Vec<String>,
    all_closed: bool,
    records: Vec<SideRecord>,
    late: Vec<SideRecord>,
    batches: Vec<RowBatch>,
    filtered: u64,
}

impl Run {
    /// Partition, offset and bytes of every record, in the order in which they were handed over.
    fn handed(&self) -> Vec<(String, i64, Vec<u8>)> {
        self.records.iter().map(|record| (record.origin.to_string(), record.offset.0, record.payload.clone())).collect()
    }
}

fn run(source: &mut dyn Source, decoder: Box<dyn Decoder>, max_records: usize) -> ProcessorResult<Run> {
    let (dead, late) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (dead_writer, late_writer) = (dead.clone(), late.clone());
    let window = WindowConfig::of(WindowKind::tumbling(Span::from_secs(10)));
    let rules = IntakeRules {
        watermark: WatermarkConfig {
            strategy: WatermarkStrategy::BoundedOutOfOrderness,
            max_out_of_orderness: Span::from_secs(5),
            emit_interval: None,
            max_future_skew: Span::from_secs(60),
            idle_timeout: None,
            close_idle_after: None,
        },
        timestamp_format: llm_optimizer_processor::config::TimestampFormat::Rfc3339,
        windows: WindowSet::one(Windowing::new(&window)?),
        closed: ClosedBefore::default(),
        policy: ErrorPolicy::DeadLetter,
        late: Arc::new(move |record| late_writer.lock().unwrap().push(record)),
        dead_letter: Arc::new(move |record| dead_writer.lock().unwrap().push(record)),
    };
    let mut intake = Intake::new(decoder, WorkerIndex(0), 1, 4096, rules);
    let mut batches = Vec::new();
    loop {
        intake.begin_poll(EventTime::now(), 0, EventTime::MIN);
        let polled = source.poll(&mut intake, max_records)?;
        intake.end_poll(Instant::now(), |batch| batches.push(batch));
        assert!(intake.is_ready(), "a source says when its first partitions are there");
        match polled {
            Polled::Records(count) => assert!((1..=max_records).contains(&count)),
            Polled::Nothing(pause) => std::thread::sleep(pause.min(Duration::from_millis(5))),
            Polled::Finished => break,
        }
    }
    let filtered = intake.take_counts().filtered;
    Ok(Run {
        partitions: intake.partitions().map(|partition| partition.name.to_string()).collect(),
        all_closed: intake.partitions().all(|partition| partition.closed),
        records: std::mem::take(&mut *dead.lock().unwrap()),
        late: std::mem::take(&mut *late.lock().unwrap()),
        batches,
        filtered,
    })
}

fn refuse(source: &mut dyn Source, max_records: usize) -> Run {
    run(source, Box::new(RefuseAll), max_records).expect("the source reads to its end")
}

#[test]
fn files_are_read_once_each_in_order_by_any_number_of_workers() {
    let directory = tempfile::tempdir().unwrap();
    let mut total = 0;
    for (name, lines) in [("a", 5_000), ("b", 50_000), ("c", 0), ("d", 10)] {
        let text: String = (0..lines).map(|line| format!("{name}{line:06}\n")).collect();
        total += text.len() as u64;
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let files = expand(&[format!("{}/*", directory.path().display())]).unwrap();
    for workers in [1, 2, 3, 8] {
        let progress = Arc::new(FileProgress::default());
        let mut sources: Vec<FileSource> = (0..workers)
            .map(|worker| FileSource::new(&files, WorkerIndex(worker as u32), workers, progress.clone()))
            .collect();
        assert_eq!(progress.bytes_total(), total);
        let mut handed = Vec::new();
        for source in &mut sources {
            let run = refuse(source, 700);
            assert!(run.all_closed);
            handed.extend(run.handed());
        }
        assert!(progress.is_finished());
        assert_eq!((progress.bytes_done(), progress.events()), (total, 55_010));
        // The sort is stable: within a file the order is the one of handing over.
        handed.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(handed.len(), 55_010);
        assert!(
            handed
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 || (pair[0].1 + 8 == pair[1].1 && pair[0].2 < pair[1].2))
        );
        assert!(handed[0].0.ends_with("/a[0]"), "{}", handed[0].0);
    }
}

#[test]
fn files_of_one_worker_advance_together() {
    let directory = tempfile::tempdir().unwrap();
    for (name, lines) in [("large", 200_000usize), ("small", 50_000)] {
        std::fs::write(directory.path().join(name), "xxxxxxxxxxxxxxx\n".repeat(lines)).unwrap();
    }
    let files = expand(&[format!("{}/*", directory.path().display())]).unwrap();
    let handed = refuse(&mut FileSource::new(&files, WorkerIndex(0), 1, Arc::default()), 4096).handed();
    let (mut large, mut small) = (0.0f64, 0.0f64);
    for (partition, _, _) in &handed {
        if partition.contains("large") {
            large += 1.0 / 200_000.0
        } else {
            small += 1.0 / 50_000.0
        }
        // Never further apart than what is read from the smaller file at a time.
        assert!((large - small).abs() < 0.03, "{large} {small}");
    }
}

#[test]
fn a_line_that_is_too_long_is_a_bad_record_and_the_next_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.jsonl");
    std::fs::write(&path, ["first\n", &"x".repeat(20 << 20), "\nlast"].concat()).unwrap();
    let files = expand(&[path.display().to_string()]).unwrap();
    let run = refuse(&mut FileSource::new(&files, WorkerIndex(0), 1, Arc::default()), 100);
    let found: Vec<(i64, Reason, usize)> =
        run.records.iter().map(|record| (record.offset.0, record.reason, record.payload.len())).collect();
    assert_eq!(found, [(0, Reason::Malformed, 5), (6, Reason::TooLarge, 4096), (20971527, Reason::Malformed, 4)]);
    assert!(run.records[1].detail.contains("20971520 bytes"), "{}", run.records[1].detail);
}

#[test]
fn a_file_that_vanished_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.jsonl");
    std::fs::write(&path, "x").unwrap();
    let files = expand(&[path.display().to_string()]).unwrap();
    std::fs::remove_file(&path).unwrap();
    let result = run(&mut FileSource::new(&files, WorkerIndex(0), 1, Arc::default()), Box::new(RefuseAll), 10);
    let expected = format!("source: cannot read the file {}: No such file or directory (os error 2)", path.display());
    assert_eq!(result.err().map(|error| error.to_string()), Some(expected));
}

#[test]
fn a_worker_without_files_is_finished_at_once() {
    let run = refuse(&mut FileSource::new(&[], WorkerIndex(3), 4, Arc::default()), 10);
    assert!(run.partitions.is_empty());
}

#[test]
fn standard_input_is_one_partition_and_wakes_the_worker() {
    let text: Vec<u8> = (0..200_000).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    let woken = Arc::new(AtomicUsize::new(0));
    let waker = woken.clone();
    let wake = Arc::new(move || {
        waker.fetch_add(1, Ordering::SeqCst);
    });
    let run = refuse(&mut StdinSource::from_reader(std::io::Cursor::new(text), wake).unwrap(), 1000);
    assert_eq!((run.records.len(), run.partitions, run.all_closed), (200_000, vec!["stdin[0]".to_owned()], true));
    assert_eq!(run.records.last().map(|record| record.payload.clone()), Some(b"line 199999".to_vec()));
    assert!(woken.load(Ordering::SeqCst) >= 2);
}

fn generator() -> GeneratorConfig {
    GeneratorConfig {
        rate: None,
        count: Some(1003),
        keys: NonZeroU32::new(48).unwrap(),
        seed: 1,
        disorder: Duration::from_secs(2),
        late_share: 0.01,
        malformed_share: 0.01,
        partitions: NonZeroU32::new(5).unwrap(),
    }
}

#[test]
fn the_generator_makes_the_same_events_for_any_number_of_workers() {
    let mut expected = None;
    for workers in [1, 2, 3, 8] {
        let mut handed = Vec::new();
        for worker in 0..workers {
            let run = refuse(&mut GeneratorSource::new(&generator(), WorkerIndex(worker), workers as usize), 100);
            assert!(run.all_closed);
            handed.extend(run.handed());
        }
        handed.sort();
        assert_eq!(handed.len(), 1003);
        assert_eq!(expected.get_or_insert_with(|| handed.clone()), &handed);
    }
}

#[test]
fn the_generator_keeps_its_rate() {
    let config = GeneratorConfig { rate: Some(500.0), count: Some(100), ..generator() };
    let begin = Instant::now();
    assert_eq!(refuse(&mut GeneratorSource::new(&config, WorkerIndex(0), 1), 1000).records.len(), 100);
    assert!(begin.elapsed() >= Duration::from_millis(195), "{:?}", begin.elapsed());
}

/// Events of milliseconds: 3 has no value, 4 is left out.
fn typed() -> TypedDecoder<i64> {
    TypedDecoder::new(
        |millis: &i64| EventTime::from_millis(*millis),
        |millis| GroupingKey::from_fields(&[("parity", if millis % 2 == 0 { "even" } else { "odd" })]),
        |millis, values| {
            if *millis != 3 {
                values.add("x", *millis as f64);
            }
        },
    )
    .with_filter(|millis| *millis != 4)
    .with_payload(|millis| millis.to_string().into_bytes())
}

#[test]
fn iterators_and_channels_of_typed_events() {
    let (to_crossbeam, crossbeam) = crossbeam_channel::bounded(2);
    let (to_tokio, tokio) = tokio::sync::mpsc::channel(2);
    let senders = [
        std::thread::spawn(move || (0..100).for_each(|millis| to_crossbeam.send(millis).unwrap())),
        std::thread::spawn(move || (0..100).for_each(|millis| to_tokio.blocking_send(millis).unwrap())),
    ];
    let input = EventInput::with_partitions([0..1000i64, 0..10])
        .and(EventInput::from_channel(crossbeam))
        .and(EventInput::from_tokio_channel(tokio));
    let (mut rows, mut sum, mut partitions) = (0, 0.0, Vec::new());
    for source in &mut input.into_sources(&typed(), 3) {
        let decoder = source.intake_decoder();
        let run = run(source, decoder, 64).unwrap();
        for batch in &run.batches {
            assert_eq!(*batch.fields, ["x".into()]);
            rows += batch.len();
            sum += batch.values[0].iter().sum::<f64>();
        }
        assert!(run.all_closed);
        assert!(run.records.iter().all(|record| record.reason == Reason::MissingValue && record.payload == b"3"));
        assert_eq!(run.records.len(), run.partitions.len());
        assert_eq!(run.filtered as usize, run.partitions.len());
        partitions.extend(run.partitions);
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    partitions.sort();
    assert_eq!(partitions, ["memory[0]", "memory[1]", "memory[2]", "memory[3]"]);
    assert_eq!(rows, 1210 - 8);
    assert_eq!(sum, 499_500.0 + 45.0 + 2.0 * 4950.0 - 4.0 * 7.0);
}

#[test]
fn a_late_typed_event_goes_to_the_side_output_with_its_own_time() {
    let source = &mut EventInput::from_events([100_000i64, 7, 95_000]).into_sources(&typed(), 1)[0];
    let decoder = source.intake_decoder();
    let run = run(source, decoder, 10).unwrap();
    let [late] = &run.late[..] else { panic!("{:?}", run.late) };
    assert_eq!((late.reason, late.timestamp, late.offset.0), (Reason::Late, Some(EventTime::from_millis(7)), 1));
    assert_eq!((late.late_by, late.payload.as_slice()), (Some(Span::from_millis(94_993)), &b"7"[..]));
    assert_eq!(run.batches.iter().map(RowBatch::len).sum::<usize>(), 2);
}

#[test]
fn feedback_events_have_a_decoder_of_their_own() {
    let event =
        FeedbackEvent::new(chrono::DateTime::UNIX_EPOCH, "s", "metric").with("latency_ms", 12.5).with("model", "m");
    let source = &mut EventInput::from_events([event]).into_sources(&TypedDecoder::default(), 1)[0];
    let decoder = source.intake_decoder();
    let run = run(source, decoder, 10).unwrap();
    assert_eq!(run.batches[0].values, [[12.5]]);
    assert_eq!(run.batches[0].dictionary[0].key, r#"{"source":"s","event_type":"metric"}"#);
}
