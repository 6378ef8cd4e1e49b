//! The hub with sinks that fail, dawdle, panic and hang.

use super::*;
use crate::error::ProcessorError;
use crate::event::DefinitionIndex;
use crate::sink::context::NoObserver;
use crate::sink::encode::tests::documented_row;
use crate::sink::{ResultRow, ResultValue};
use std::sync::atomic::AtomicBool;

/// What a fake sink did, and what it is told to do.
#[derive(Default)]
struct Script {
    log: Mutex<Vec<String>>,
    /// The next calls that fail: of `write`, of `flush`.
    write_failures: AtomicU64,
    flush_failures: AtomicU64,
    panics: AtomicBool,
    /// While set, `flush` hangs.
    held: AtomicBool,
    refuses_to_open: AtomicBool,
}

impl Script {
    fn log(&self, entry: String) {
        self.log.lock().unwrap().push(entry);
    }

    fn entries(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

struct Fake {
    name: &'static str,
    script: Arc<Script>,
    context: Option<SinkContext>,
}

fn one_less(counter: &AtomicU64) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl ResultSink for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.context = Some(context);
        if self.script.refuses_to_open.load(Ordering::SeqCst) {
            return Err(ProcessorError::Kafka("topic `results` does not exist".into()));
        }
        Ok(())
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        assert!(!self.script.panics.load(Ordering::SeqCst), "the sink's own mistake");
        if one_less(&self.script.write_failures) {
            self.script.log("write failed".into());
            return Err(ProcessorError::Sink("no space".into()));
        }
        for row in rows {
            self.script.log(format!("{:?}", row.values[0]));
        }
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        while self.script.held.load(Ordering::SeqCst) {
            if self.context.as_ref().is_some_and(SinkContext::is_over) {
                return Err(ProcessorError::Sink("held until the end".into()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if one_less(&self.script.flush_failures) {
            self.script.log("flush failed".into());
            return Err(ProcessorError::Sink("no space".into()));
        }
        Ok(())
    }

    fn close(&mut self) -> ProcessorResult<()> {
        self.script.log("closed".into());
        Ok(())
    }
}

#[derive(Default)]
struct Counting {
    sent: AtomicU64,
    errors: AtomicU64,
    latencies: AtomicU64,
}

impl SinkObserver for Counting {
    fn sent(&self, _: &str, rows: u64) {
        self.sent.fetch_add(rows, Ordering::SeqCst);
    }

    fn latency(&self, _: &str, _: Duration) {
        self.latencies.fetch_add(1, Ordering::SeqCst);
    }

    fn error(&self, _: &str) {
        self.errors.fetch_add(1, Ordering::SeqCst);
    }
}

const QUICK: RetryPolicy =
    RetryPolicy { max_retries: 2, initial_delay: Duration::from_millis(1), max_delay: Duration::from_millis(2) };

fn batch(numbers: std::ops::Range<u64>) -> ResultBatch {
    let row = |number| ResultRow { values: vec![ResultValue::Count(number)], ..documented_row() };
    numbers.map(row).collect()
}

fn start(names: &[&'static str], control: &Control, observer: Arc<dyn SinkObserver>) -> (SinkHub, Vec<Arc<Script>>) {
    let scripts: Vec<_> = names.iter().map(|_| Arc::new(Script::default())).collect();
    let hub = start_scripted(names, &scripts, control, observer);
    (hub, scripts)
}

fn start_scripted(
    names: &[&'static str],
    scripts: &[Arc<Script>],
    control: &Control,
    observer: Arc<dyn SinkObserver>,
) -> SinkHub {
    let sinks = names.iter().zip(scripts).map(|(name, script)| {
        Box::new(Fake { name, script: Arc::clone(script), context: None }) as Box<dyn ResultSink>
    });
    SinkHub::start(sinks.collect(), QUICK, observer, control.clone()).unwrap()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Results of a window definition.
fn batch_of(definition: u8, numbers: std::ops::Range<u64>) -> ResultBatch {
    ResultBatch { definition: DefinitionIndex(definition), ..batch(numbers) }
}

#[test]
fn a_sink_takes_the_results_of_its_definitions_and_lets_the_others_pass() {
    let control = Control::new();
    let scripts = [Arc::new(Script::default()), Arc::new(Script::default())];
    let takes = [DefinitionSet::ALL, [DefinitionIndex(1)].into_iter().collect()];
    let sink = |(script, takes): (&Arc<Script>, DefinitionSet)| RoutedSink {
        sink: Box::new(Fake { name: "file", script: Arc::clone(script), context: None }),
        takes,
    };
    let sinks: Vec<RoutedSink> = scripts.iter().zip(takes).map(sink).collect();
    let hub = SinkHub::start(sinks, QUICK, Arc::new(NoObserver), control).unwrap();
    let names: Vec<String> = hub.statuses().into_iter().map(|state| state.name).collect();
    assert_eq!(names, ["file", "file-2"]);

    // Nothing for the second sink: its acknowledgement does not wait for a flush of it.
    let first = hub.submit(batch_of(0, 0..2));
    wait_until("the first is acknowledged", || hub.acknowledged() == first);
    // The second sink is held with a batch of its own: what passes by does not overtake it.
    scripts[1].held.store(true, Ordering::SeqCst);
    hub.submit(batch_of(1, 2..3));
    hub.submit(batch_of(0, 3..4));
    wait_until("the first sink has all", || hub.statuses()[0].done == 4);
    assert_eq!((hub.acknowledged(), hub.backlog_rows()), (first, 1));
    scripts[1].held.store(false, Ordering::SeqCst);
    wait_until("all is acknowledged", || hub.acknowledged() == Ticket(3));
    let summary = hub.finish().unwrap();
    assert_eq!(summary.sinks.iter().map(|sink| sink.rows).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(scripts[1].entries(), ["Count(2)", "closed"]);
}

#[test]
fn every_sink_gets_every_batch_in_order() {
    let control = Control::new();
    let observer = Arc::new(Counting::default());
    let (hub, scripts) = start(&["a", "b"], &control, observer.clone());
    let mut last = Ticket(0);
    for number in 0..50 {
        let ticket = hub.submit(batch(2 * number..2 * number + 2));
        assert!(ticket > last);
        last = ticket;
    }
    let summary = hub.finish().unwrap();
    assert_eq!(hub.acknowledged(), last);
    assert_eq!(hub.backlog_rows(), 0);
    let mut expected: Vec<_> = (0..100).map(|number| format!("Count({number})")).collect();
    expected.push("closed".into());
    assert_eq!(scripts[0].entries(), expected);
    assert_eq!(scripts[1].entries(), expected);
    assert_eq!((summary.batches, summary.rows), (50, 100));
    assert_eq!(summary.sinks[1], SinkSummary { name: "b".into(), rows: 100, errors: 0 });
    assert_eq!(observer.sent.load(Ordering::SeqCst), 200);
    assert_eq!(observer.latencies.load(Ordering::SeqCst), 100);
    assert!(!control.has_failed());
}

#[test]
fn the_slowest_sink_decides_what_is_acknowledged() {
    let control = Control::new();
    let (hub, scripts) = start(&["quick", "slow"], &control, Arc::new(NoObserver));
    let woken = Arc::new(AtomicU64::new(0));
    let (seen, counter) = (Arc::clone(&woken), hub.clone());
    hub.on_acknowledged(Arc::new(move || {
        seen.fetch_max(counter.acknowledged().0, Ordering::SeqCst);
    }));
    scripts[1].held.store(true, Ordering::SeqCst);
    let first = hub.submit(batch(0..3));
    let second = hub.submit(batch(3..5));
    wait_until("the quick sink is done", || scripts[0].entries().len() == 5);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(hub.acknowledged(), Ticket(0));
    assert_eq!(hub.backlog_rows(), 5);
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    scripts[1].held.store(false, Ordering::SeqCst);
    wait_until("all is acknowledged", || hub.acknowledged() == second);
    wait_until("the waker saw it", || woken.load(Ordering::SeqCst) == second.0);
    assert_eq!(first, Ticket(1));
    assert_eq!(hub.backlog_rows(), 0);
    hub.finish().unwrap();
}

#[test]
fn a_failed_write_is_tried_again_and_mends() {
    let control = Control::new();
    let observer = Arc::new(Counting::default());
    let (hub, scripts) = start(&["a"], &control, observer.clone());
    scripts[0].write_failures.store(2, Ordering::SeqCst);
    hub.submit(batch(0..1));
    wait_until("written", || hub.acknowledged() == Ticket(1));
    assert_eq!(hub.troubles(), []);
    scripts[0].flush_failures.store(1, Ordering::SeqCst);
    hub.submit(batch(1..2));
    wait_until("flushed", || hub.acknowledged() == Ticket(2));
    let summary = hub.finish().unwrap();
    let expected = ["write failed", "write failed", "Count(0)", "Count(1)", "flush failed", "closed"];
    assert_eq!(scripts[0].entries(), expected);
    assert_eq!(summary.sinks[0].errors, 3);
    assert_eq!(observer.errors.load(Ordering::SeqCst), 3);
    assert!(!control.has_failed());
}

#[test]
fn when_retries_are_used_up_the_run_fails_with_the_reason() {
    let control = Control::new();
    let (hub, scripts) = start(&["good", "bad"], &control, Arc::new(NoObserver));
    scripts[1].write_failures.store(u64::MAX, Ordering::SeqCst);
    hub.submit(batch(0..4));
    wait_until("the run failed", || control.has_failed());
    assert_eq!(hub.troubles()[0].sink, "bad");
    let error = hub.finish().unwrap_err().to_string();
    assert!(error.contains("`bad` ended early, 4 rows are not acknowledged: sink: no space"), "{error}");
    let failure = control.take_failure().unwrap().to_string();
    assert_eq!(failure, "sink: `bad`, writing: no space (gave up after 2 retries)");
    assert_eq!(hub.acknowledged(), Ticket(0));
    assert_eq!(scripts[1].entries(), ["write failed", "write failed", "write failed"]);
    assert!(!scripts[0].entries().contains(&"closed".into()), "a failed run completes no file");
}

#[test]
fn a_panic_in_a_sink_is_a_failure_and_no_hang() {
    let control = Control::new();
    let (hub, scripts) = start(&["broken"], &control, Arc::new(NoObserver));
    scripts[0].panics.store(true, Ordering::SeqCst);
    hub.submit(batch(0..1));
    wait_until("the run failed", || control.has_failed());
    let failure = control.take_failure().unwrap().to_string();
    assert_eq!(failure, "sink: sink `broken` panicked while writing: the sink's own mistake");
    hub.submit(batch(1..2));
    let begun = Instant::now();
    assert!(hub.finish().is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_sink_that_cannot_open_fails_the_run_at_once() {
    let control = Control::new();
    let script = Arc::new(Script::default());
    script.refuses_to_open.store(true, Ordering::SeqCst);
    let hub = start_scripted(&["kafka"], &[script], &control, Arc::new(NoObserver));
    wait_until("the run failed", || control.has_failed());
    let failure = control.take_failure().unwrap();
    assert_eq!(failure.to_string(), "kafka: sink `kafka`, opening: topic `results` does not exist");
    assert!(hub.finish().is_err());
}

#[test]
fn the_end_waits_for_seconds_and_names_the_stuck_sink() {
    struct Hanging(Arc<AtomicBool>);

    impl ResultSink for Hanging {
        fn name(&self) -> &str {
            "hanging"
        }

        fn write(&mut self, _: &[ResultRow]) -> ProcessorResult<()> {
            while !self.0.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }

        fn flush(&mut self) -> ProcessorResult<()> {
            Ok(())
        }
    }

    let control = Control::new();
    let released = Arc::new(AtomicBool::new(false));
    let script = Arc::new(Script::default());
    script.held.store(true, Ordering::SeqCst);
    let sinks: Vec<Box<dyn ResultSink>> =
        vec![Box::new(Hanging(Arc::clone(&released))), Box::new(Fake { name: "waiting", script, context: None })];
    let hub = SinkHub::start(sinks, QUICK, Arc::new(NoObserver), control.clone()).unwrap();
    hub.submit(batch(0..6));
    let begun = Instant::now();
    let error = hub.finish_within(Duration::from_millis(100), Duration::from_millis(200)).unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(error.contains("`hanging` is stuck: it did not end in time, 6 rows are not acknowledged"), "{error}");
    assert!(error.contains("`waiting` ended early, 6 rows are not acknowledged: sink: held until the end"), "{error}");
    assert!(!control.has_failed(), "the caller has the reason");
    released.store(true, Ordering::SeqCst);
}

#[test]
fn without_a_sink_everything_is_acknowledged() {
    let hub = SinkHub::start(Vec::<RoutedSink>::new(), QUICK, Arc::new(NoObserver), Control::new()).unwrap();
    let ticket = hub.submit(batch(0..3));
    assert_eq!((hub.acknowledged(), hub.backlog_rows()), (ticket, 0));
    assert_eq!(hub.finish().unwrap().rows, 3);
}

#[test]
fn after_the_end_nothing_is_taken_and_without_an_end_nothing_is_closed() {
    let control = Control::new();
    let (hub, scripts) = start(&["a"], &control, Arc::new(NoObserver));
    hub.finish().unwrap();
    let late = hub.submit(batch(0..1));
    assert!(hub.acknowledged() < late);
    assert_eq!(scripts[0].entries(), ["closed"]);

    let (hub, scripts) = start(&["a"], &control, Arc::new(NoObserver));
    hub.submit(batch(0..1));
    drop(hub);
    wait_until("written", || !scripts[0].entries().is_empty());
    wait_until("the thread ended", || Arc::strong_count(&scripts[0]) == 1);
    assert_eq!(scripts[0].entries(), ["Count(0)"], "an atomic file must not appear when the run was abandoned");
}
