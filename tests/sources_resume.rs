//! Sources that go on from the cuts of a checkpoint, polled as a worker polls them, into a real intake.
//!
//! The oracle is a run that was never interrupted: whatever the interruptions, and whatever the number of workers before and after
//! them, each partition's records come in the same order, none twice and none left out, and the last cuts are the same.

use llm_optimizer_processor::checkpoint::PartitionCut;
use llm_optimizer_processor::config::{
    ErrorPolicy, GeneratorConfig, TimestampFormat, WatermarkConfig, WatermarkStrategy, WindowConfig, WindowKind,
};
use llm_optimizer_processor::event::{
    BadRecord, Decoded, Decoder, Offset, PartitionName, Reason, RowScratch, TypedDecoder, WorkerIndex,
};
use llm_optimizer_processor::source::file::{FileProgress, FileSource, expand};
use llm_optimizer_processor::source::generator::GeneratorSource;
use llm_optimizer_processor::source::memory::EventInput;
use llm_optimizer_processor::source::stdin::StdinSource;
use llm_optimizer_processor::source::{Intake, IntakeRules, Losses, Polled, Resume, Source};
use llm_optimizer_processor::time::disorder::Disorder;
use llm_optimizer_processor::time::{EventTime, Span};
use llm_optimizer_processor::window::{ClosedBefore, WindowSet, Windowing};
use llm_optimizer_processor::{GroupingKey, ProcessorError, ProcessorResult};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Partition, offset and bytes, in the order in which they were handed over.
type Handed = Vec<(PartitionName, i64, Vec<u8>)>;

/// Refuses everything, so that every record turns up among the dead letters.
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

fn intake(resume: Arc<Resume>, handed: &Arc<Mutex<Handed>>) -> Intake {
    let window = WindowConfig::of(WindowKind::tumbling(Span::from_secs(10)));
    let writer = handed.clone();
    let rules = IntakeRules {
        watermark: WatermarkConfig {
            strategy: WatermarkStrategy::BoundedOutOfOrderness,
            max_out_of_orderness: Span::from_secs(5),
            emit_interval: None,
            max_future_skew: Span::from_secs(60),
            idle_timeout: None,
            close_idle_after: None,
        },
        timestamp_format: TimestampFormat::Rfc3339,
        windows: WindowSet::one(Windowing::new(&window).unwrap()),
        closed: ClosedBefore::default(),
        policy: ErrorPolicy::DeadLetter,
        late: Arc::new(|_| ()),
        dead_letter: Arc::new(move |record| {
            writer.lock().unwrap().push((record.origin, record.offset.0, record.payload));
        }),
    };
    Intake::new(Box::new(RefuseAll), WorkerIndex(0), 1, 4096, rules).with_checkpoints(resume)
}

/// Polls until the end, or until at least `stop_after` records were handed over; answers with the cuts, and whether it was the end.
fn read(
    source: &mut dyn Source,
    resume: &Arc<Resume>,
    stop_after: usize,
    handed: &mut Handed,
) -> ProcessorResult<(Vec<PartitionCut>, bool)> {
    let records = Arc::new(Mutex::new(Vec::new()));
    let mut intake = intake(resume.clone(), &records);
    assert!(intake.cuts().is_none(), "nobody knows the partitions yet");
    let mut count = 0;
    let finished = loop {
        intake.begin_poll(EventTime::now(), 0, EventTime::MIN);
        let polled = source.poll(&mut intake, 37)?;
        intake.end_poll(Instant::now(), |_| ());
        match polled {
            Polled::Records(records) => count += records,
            Polled::Nothing(pause) => std::thread::sleep(pause.min(Duration::from_millis(5))),
            Polled::Finished => break true,
        }
        if count >= stop_after {
            break false;
        }
    };
    handed.append(&mut records.lock().unwrap());
    Ok((intake.cuts().expect("the source has announced its partitions"), finished))
}

/// Makes the source of a worker.
type Make<'a> = dyn Fn(WorkerIndex, usize, Arc<Resume>) -> Box<dyn Source> + 'a;

/// A run of several workers that is interrupted by each of `stops` (how many workers, and after how many records of each), and a
/// last one of `workers` that comes to the end.
fn run(
    make: &Make<'_>,
    stops: &[(usize, usize)],
    workers: usize,
) -> (BTreeMap<PartitionName, Handed>, Vec<PartitionCut>) {
    let mut resume = Arc::new(Resume::default());
    let mut handed = Handed::new();
    let last = (workers, usize::MAX);
    let mut cuts = Vec::new();
    for (workers, stop_after) in stops.iter().chain([&last]) {
        cuts.clear();
        for worker in 0..*workers {
            let mut source = make(WorkerIndex(worker as u32), *workers, resume.clone());
            let (of_worker, finished) = read(&mut *source, &resume, *stop_after, &mut handed).unwrap();
            assert!(finished || *stop_after < usize::MAX);
            cuts.extend(of_worker);
        }
        resume = Arc::new(Resume::from_cuts(cuts.clone(), false, Losses::default()));
    }
    cuts.sort_by(|a, b| a.name.cmp(&b.name));
    let mut by_partition: BTreeMap<PartitionName, Handed> = BTreeMap::new();
    handed.into_iter().for_each(|record| by_partition.entry(record.0.clone()).or_default().push(record));
    (by_partition, cuts)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Files of all packings, some with blank lines, carriage returns, a byte order mark, and a last line that does not end.
fn write_files(directory: &Path) -> Vec<String> {
    let lines = |count: usize, end: &str| (0..count).map(|line| format!("line {line}{end}")).collect::<String>();
    let marked = format!("\u{feff}{}", lines(120, "\r\n\n"));
    let files = [
        ("a.jsonl", lines(700, "\n").into_bytes()),
        ("b.jsonl", [lines(90, "\n").as_bytes(), b"the end"].concat()),
        ("c.jsonl.gz", gzip(lines(300, "\n \n").as_bytes())),
        ("d.jsonl.zst", zstd::encode_all(lines(150, "\n").as_bytes(), 1).unwrap()),
        ("e.jsonl", marked.into_bytes()),
        ("f.jsonl", Vec::new()),
    ];
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    vec![format!("{}/*", directory.display())]
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

/// Has no values: each event is a bad record.
fn nothing_in_it() -> TypedDecoder<i64> {
    TypedDecoder::new(|millis: &i64| EventTime::from_millis(*millis), |_| GroupingKey::everything(), |_, _| ())
        .with_payload(|millis| millis.to_string().into_bytes())
}

fn stops() -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((1usize..4, 0usize..300), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn files_go_on_where_they_were(stops in stops(), workers in 1usize..4) {
        let directory = tempfile::tempdir().unwrap();
        let files = expand(&write_files(directory.path())).unwrap();
        let make = |worker, peers, resume| -> Box<dyn Source> {
            Box::new(FileSource::resuming(&files, worker, peers, Arc::new(FileProgress::default()), resume))
        };
        let uninterrupted = run(&make, &[], 1);
        prop_assert_eq!(uninterrupted.0.values().map(Vec::len).sum::<usize>(), 700 + 91 + 300 + 150 + 120);
        prop_assert!(uninterrupted.1.iter().all(|cut| cut.closed));
        prop_assert_eq!(run(&make, &stops, workers), uninterrupted);
    }

    #[test]
    fn the_generator_goes_on_with_the_very_next_event(stops in stops(), workers in 1usize..4) {
        let make = |worker, peers, resume| -> Box<dyn Source> {
            Box::new(GeneratorSource::resuming(&generator(), worker, peers, resume))
        };
        let uninterrupted = run(&make, &[], 1);
        prop_assert_eq!(uninterrupted.0.values().map(Vec::len).sum::<usize>(), 1003);
        prop_assert_eq!(run(&make, &stops, workers), uninterrupted);
    }

    #[test]
    fn iterators_pass_over_what_was_had(stops in stops(), workers in 1usize..4) {
        let make = |worker: WorkerIndex, peers, resume| -> Box<dyn Source> {
            let input = EventInput::with_partitions([0..700i64, 0..0, 5..95]);
            let mut sources = input.into_sources(&nothing_in_it(), peers);
            Box::new(sources.swap_remove(worker.0 as usize).resuming(resume))
        };
        let uninterrupted = run(&make, &[], 1);
        prop_assert_eq!(uninterrupted.0.values().map(Vec::len).sum::<usize>(), 790);
        prop_assert_eq!(run(&make, &stops, workers), uninterrupted);
    }
}

fn cut(topic: &str, partition: i32, next: i64, closed: bool) -> PartitionCut {
    PartitionCut {
        name: PartitionName { topic: topic.into(), partition },
        next: Offset(next),
        max_seen: EventTime::from_millis(7_000),
        idle: false,
        returned: false,
        closed,
        records: 3,
        disorder: Disorder::default(),
    }
}

/// Reads one source that goes on from these cuts: what it handed over, and the cuts at its end.
fn go_on(
    make: &Make<'_>,
    cuts: &[PartitionCut],
    accept_loss: bool,
) -> (Arc<Resume>, ProcessorResult<(Handed, Vec<PartitionCut>)>) {
    let resume = Arc::new(Resume::from_cuts(cuts.to_vec(), accept_loss, Losses::default()));
    let mut handed = Handed::new();
    let outcome = read(&mut *make(WorkerIndex(0), 1, resume.clone()), &resume, usize::MAX, &mut handed);
    (resume, outcome.map(|(cuts, _)| (handed, cuts)))
}

/// That the cuts are refused with this reason, and read once the loss is accepted: so many records.
fn assert_lossy(make: &Make<'_>, cuts: &[PartitionCut], reason: &str, records: usize) {
    let refused = go_on(make, cuts, false).1.unwrap_err();
    assert!(matches!(&refused, ProcessorError::Refused(text) if text.contains(reason)), "{refused}");
    assert!(refused.to_string().contains("--accept-loss"), "{refused}");
    let (resume, read) = go_on(make, cuts, true);
    let (handed, after) = read.unwrap();
    assert_eq!((handed.len(), resume.losses.partitions()), (records, 1), "{reason}");
    assert!(after.iter().all(|cut| cut.closed));
}

#[test]
fn a_file_that_cannot_go_on_is_refused_and_what_there_is_is_read_where_the_loss_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let (plain, packed) = (directory.path().join("x.jsonl"), directory.path().join("x.jsonl.gz"));
    std::fs::write(&plain, "one\ntwo\nthree\n").unwrap();
    std::fs::write(&packed, gzip(b"one\ntwo\nthree\n")).unwrap();
    for path in [plain, packed] {
        let path = path.display().to_string();
        let files = expand(std::slice::from_ref(&path)).unwrap();
        let make = |worker, peers, resume| -> Box<dyn Source> {
            Box::new(FileSource::resuming(&files, worker, peers, Arc::default(), resume))
        };
        let read = go_on(&make, &[cut(&path, 0, 4, false)], false).1.unwrap();
        let texts: Vec<(i64, &[u8])> = read.0.iter().map(|(_, offset, text)| (*offset, &text[..])).collect();
        assert_eq!(texts, [(4, &b"two"[..]), (8, &b"three"[..])]);
        assert_eq!((read.1[0].next, read.1[0].records), (Offset(14), 5), "the count goes on");
        assert_lossy(
            &make,
            &[cut(&path, 0, 99, false)],
            &format!("{path}[0]: the checkpoint goes on at byte 99, and the file has 14"),
            0,
        );
        assert_lossy(&make, &[cut(&path, 0, 6, false)], "no line of the file begins there", 2);
        let gone = cut("gone.jsonl", 0, 4, false);
        assert_lossy(&make, &[cut(&path, 0, 4, false), gone], "gone.jsonl[0]: it is not there any more", 2);
        // What had ended may be gone, and is remembered, so that it is not read should it come back.
        let ended = cut("ended.jsonl", 0, 4, true);
        let (handed, cuts) = go_on(&make, &[cut(&path, 0, 14, true), ended.clone()], false).1.unwrap();
        assert_eq!((handed.len(), cuts.len()), (0, 2));
        assert!(cuts.contains(&ended));
    }
}

#[test]
fn what_has_been_taken_from_a_pipe_or_a_channel_does_not_come_again() {
    let stdin = |_, _, resume| -> Box<dyn Source> {
        let input = std::io::Cursor::new(b"more\nand more\n".to_vec());
        Box::new(StdinSource::from_reader(input, Arc::new(|| ())).unwrap().resuming(resume))
    };
    assert_lossy(&stdin, &[cut("stdin", 0, 500, false)], "stdin[0]: the checkpoint goes on at byte 500", 2);
    assert_eq!(go_on(&stdin, &[cut("stdin", 0, 500, true)], false).1.unwrap().0.len(), 0);
    let channel = |_, _, resume| -> Box<dyn Source> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (0..5).for_each(|event| sender.send(event).unwrap());
        let source = EventInput::from_channel(receiver).into_sources(&nothing_in_it(), 1).remove(0);
        Box::new(source.resuming(resume))
    };
    assert_lossy(&channel, &[cut("memory", 0, 500, false)], "memory[0]: the checkpoint goes on at event 500", 5);
    assert_eq!(go_on(&channel, &[cut("memory", 0, 0, false)], false).1.unwrap().0.len(), 5, "none was taken");
}

#[test]
fn an_iterator_that_has_become_shorter_and_partitions_that_are_gone_are_refused() {
    let iterator = |_, _, resume| -> Box<dyn Source> {
        Box::new(EventInput::from_events(0..10i64).into_sources(&nothing_in_it(), 1).remove(0).resuming(resume))
    };
    assert_lossy(&iterator, &[cut("memory", 0, 11, false)], "and the iterator has only 10", 0);
    assert_lossy(&iterator, &[cut("memory", 0, 4, false), cut("memory", 1, 4, false)], "memory[1]: it is not there", 6);
    let generator = |worker, peers, resume| -> Box<dyn Source> {
        Box::new(GeneratorSource::resuming(&generator(), worker, peers, resume))
    };
    let cuts = [cut("generator", 7, 4, false)];
    assert_lossy(&generator, &cuts, "generator[7]: it is not there any more", 1003);
}

#[test]
fn a_partition_is_what_its_cut_says_and_one_that_was_added_may_find_the_frontier_ahead() {
    let idle = PartitionCut { idle: true, ..cut("t", 0, 40, false) };
    let returned = PartitionCut { returned: true, ..cut("t", 1, 9, false) };
    let resume = Arc::new(Resume::from_cuts([idle.clone(), returned.clone()], false, Losses::default()));
    let mut intake = intake(resume, &Arc::default());
    for partition in 0..3 {
        intake.open_partition(PartitionName { topic: "t".into(), partition }, EventTime::MIN);
    }
    intake.set_ready();
    let cuts = intake.cuts().unwrap();
    assert_eq!(cuts[..2], [idle, returned]);
    assert!(cuts[2].returned && cuts[2].records == 0);
    let watermarks: Vec<EventTime> = intake.partitions().map(|partition| partition.watermark.watermark()).collect();
    assert_eq!(watermarks, [EventTime::from_millis(2_000), EventTime::from_millis(2_000), EventTime::MIN]);
}
