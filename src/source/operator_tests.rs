//! The source operator with sources and side outputs of the tests' own.

use super::*;
use crate::config;
use crate::error::ProcessorResult;
use crate::event::{JsonDecoder, Offset, PartitionName};
use crate::sink::{NoObserver, RetryPolicy, SideOutput, SideRecord, SideSink};
use crate::source::{IntakeRules, NoOrigin, PartitionSlot};
use crate::window::{ClosedBefore, WindowSet, Windowing};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One bad record a poll, faster than the output of bad records takes them.
struct Flood {
    next: i64,
    settled: Rc<RefCell<Vec<Settled>>>,
}

impl Source for Flood {
    fn poll(&mut self, intake: &mut Intake, _max_records: usize) -> ProcessorResult<Polled> {
        if self.next == 0 {
            let name = PartitionName { topic: "events".into(), partition: 0 };
            assert_eq!(intake.open_partition(name, EventTime::MIN), PartitionSlot(0));
            intake.set_ready();
        }
        intake.record(PartitionSlot(0), Offset(self.next), b"bad", &NoOrigin)?;
        self.next += 1;
        Ok(Polled::Records(1))
    }

    fn settled(&mut self, settled: &[Settled]) {
        self.settled.borrow_mut().extend_from_slice(settled);
    }
}

/// Takes its time for each batch.
struct Slow {
    written: Arc<AtomicU64>,
}

impl SideSink for Slow {
    fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()> {
        std::thread::sleep(Duration::from_millis(20));
        self.written.fetch_add(records.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        Ok(())
    }
}

#[test]
fn a_flood_of_bad_records_does_not_keep_offsets_from_being_settled() {
    let text = "processor: {source: stdin, error_handling: {policy: dead_letter, dead_letter_file: unused}}";
    let config = config::load_str("test", text, std::iter::empty()).unwrap().config;
    let control = Control::new();
    let written = Arc::new(AtomicU64::new(0));
    let retry = RetryPolicy::from(&config.error_handling);
    let slow = Box::new(Slow { written: Arc::clone(&written) });
    let dead_letter = SideOutput::start("bad", slow, retry, Arc::new(NoObserver), control.clone()).unwrap();
    let side_outputs = SideOutputs { late: SideOutput::counted_only(), dead_letter: dead_letter.clone() };

    timely::execute_directly(move |worker| {
        let settled = Rc::new(RefCell::new(Vec::new()));
        let (flood, bad) = (Flood { next: 0, settled: Rc::clone(&settled) }, dead_letter.clone());
        let rules = IntakeRules {
            watermark: config.watermark.clone(),
            timestamp_format: config.event.timestamp_format,
            windows: WindowSet::one(Windowing::new(&config.windows).unwrap()),
            closed: ClosedBefore::default(),
            policy: config.error_handling.policy,
            late: Arc::new(|_| {}),
            dead_letter: Arc::new(move |record| bad.send(record)),
        };
        let decoder = Box::new(JsonDecoder::new(&config.event));
        let intake = Intake::new(decoder, WorkerIndex(0), 1, 64, rules);
        let frontier = Rc::new(std::cell::Cell::new(0));
        let results = Rc::clone(&frontier);
        let settings = SourceSettings {
            worker: WorkerIndex(0),
            credits: Credits::new(1_000),
            control: control.clone(),
            emit_interval: None,
            close_idle_after: None,
            peers: PeerTable::new(1),
            tells_watermarks: true,
            written: Rc::new(move || Some(EventTime::from_millis(results.get()))),
            needed: Rc::new(|| None),
            side_outputs: side_outputs.clone(),
            epochs: None,
            observer: Box::new(|_| {}),
        };
        worker.dataflow::<Time, _, _>(|scope| {
            source(scope, Box::new(flood), intake, settings);
        });
        let (begun, mut seen, mut never_empty) = (Instant::now(), 0, true);
        while settled.borrow().len() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(20), "nothing is settled while bad records come");
            frontier.set(frontier.get() + 1);
            worker.step();
            never_empty &= !side_outputs.are_settled();
            for told in &settled.borrow()[seen..] {
                seen += 1;
                assert!(written.load(Ordering::SeqCst) >= told.offset.0.unsigned_abs(), "{told:?} is not written yet");
                assert!(told.offset.0 > 0);
            }
        }
        assert!(never_empty, "the output ran empty, so that this shows nothing");
        control.stop();
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
        dead_letter.finish().unwrap();
    });
}
