//! Results before a window's end.

use crate::calls::{Call, START, bounds, call, calls, of_calls, wait_until};
use llm_optimizer_processor::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a sink was told.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    taken_back: bool,
    bounds: (i64, i64),
    count: u64,
    sum: f64,
    revision: u32,
    firing: Firing,
    complete: Option<f64>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Told>>>);

impl Log {
    fn note(&self, taken_back: bool, result: &AggregationResult, info: &ResultInfo) {
        self.0.lock().unwrap().push(Told {
            taken_back,
            bounds: bounds(&result.window),
            count: result.results["count"].as_u64().unwrap(),
            sum: result.results["sum"].as_f64().unwrap(),
            revision: info.revision,
            firing: info.firing,
            complete: info.complete,
        });
    }

    fn all(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    /// Firing, revision and count of each.
    fn short(&self) -> Vec<(Firing, u32, u64)> {
        self.all().iter().map(|told| (told.firing, told.revision, told.count)).collect()
    }
}

#[async_trait]
impl EventSink<AggregationResult> for Log {
    async fn send(&self, _: AggregationResult) -> ProcessorResult<()> {
        unreachable!("results come with what is said of them")
    }

    async fn send_with(&self, result: AggregationResult, info: ResultInfo) -> ProcessorResult<()> {
        self.note(false, &result, &info);
        Ok(())
    }

    async fn retract_with(&self, result: AggregationResult, info: ResultInfo) -> ProcessorResult<()> {
        self.note(true, &result, &info);
        Ok(())
    }
}

fn every(events: u64) -> EveryEvents {
    EveryEvents(NonZeroU64::new(events).unwrap())
}

/// What must come of windows that end here, after every `n` events of each: bounds, count and sum, in the order of events.
fn after_every(n: u64, events: &[Call], windows: impl Fn(i64) -> Vec<(i64, i64)>) -> Vec<((i64, i64), u64, f64)> {
    let mut open: BTreeMap<(i64, i64), (u64, f64)> = BTreeMap::new();
    let mut early = Vec::new();
    for event in events {
        for window in windows(event.at_ms - START) {
            let (count, sum) = open.entry(window).or_default();
            (*count, *sum) = (*count + 1, *sum + event.millis);
            if *count % n == 0 {
                early.push((window, *count, *sum));
            }
        }
    }
    early
}

/// Whether it is taken back, bounds, count, sum and revision.
type Early = (bool, (i64, i64), u64, f64, u32);

/// The same of sessions ended by a silence of `gap`, of events in order; with what is taken back.
fn sessions_after_every(n: u64, events: &[Call], gap: i64) -> Vec<Early> {
    let (mut early, mut first, mut last) = (Vec::new(), i64::MIN, i64::MIN);
    let (mut count, mut sum) = (0, 0.0);
    let mut standing: Option<((i64, i64), u64, f64, u32)> = None;
    for event in events {
        let at = event.at_ms - START;
        if last == i64::MIN || at >= last + gap {
            (first, count, sum, standing) = (at, 0, 0.0, None);
        }
        (last, count, sum) = (at, count + 1, sum + event.millis);
        if count % n == 0 {
            let bounds = (first, last + gap);
            let revision = match standing.take() {
                Some((before, .., revision)) if before == bounds => revision + 1,
                Some((before, count, sum, revision)) => {
                    early.push((true, before, count, sum, revision));
                    0
                }
                None => 0,
            };
            standing = Some((bounds, count, sum, revision));
            early.push((false, bounds, count, sum, revision));
        }
    }
    early
}

/// Events of one key, in order, some at the same time.
fn events() -> impl Strategy<Value = Vec<Call>> {
    prop::collection::vec((0i64..4_000, 0i32..100), 1..60).prop_map(|steps| {
        let mut at = START;
        let next = |(step, value): (i64, i32)| {
            at += (step - 1_000).max(0);
            call(at, "opus", f64::from(value))
        };
        steps.into_iter().map(next).collect()
    })
}

fn run(pipeline: PipelineBuilder<Call>) -> (Vec<Told>, Summary) {
    let log = Log::default();
    let summary = pipeline.with_parallelism(1).with_sink(log.clone()).build().unwrap().run_blocking().unwrap();
    (log.all(), summary)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn windows_emit_after_every_n_events(events in events(), n in 1u64..8) {
        let fixed = |size: i64, slide: i64| move |time: i64| {
            let latest = time.div_euclid(slide) * slide;
            let starts = (0..).map(move |back| latest - back * slide).take_while(move |start| time < start + size);
            let mut windows: Vec<_> = starts.map(|start| (start, start + size)).collect();
            windows.reverse();
            windows
        };
        let pipeline = |kind| of_calls().with_iterator_source(events.clone()).with_windows(kind).with_trigger(every(n));
        for (size, slide) in [(10_000, 10_000), (10_000, 4_000)] {
            let kind = WindowKind::sliding(time::Span::from_millis(size), time::Span::from_millis(slide));
            let (told, summary) = run(pipeline(kind));
            let early: Vec<&Told> = told.iter().filter(|told| told.firing == Firing::Early).collect();
            let found: Vec<_> = early.iter().map(|told| (told.bounds, told.count, told.sum)).collect();
            prop_assert_eq!(&found, &after_every(n, &events, fixed(size, slide)));
            prop_assert_eq!(summary.early, found.len() as u64);
            // Whatever came early, a window emits what it holds in the end, as the next revision.
            for told in told.iter().filter(|told| told.firing == Firing::OnTime) {
                let before = found.iter().filter(|(bounds, ..)| *bounds == told.bounds).count() as u32;
                let all: Vec<f64> = events
                    .iter()
                    .filter(|event| (told.bounds.0..told.bounds.1).contains(&(event.at_ms - START)))
                    .map(|event| event.millis)
                    .collect();
                prop_assert_eq!((told.count, told.sum, told.revision), (all.len() as u64, all.iter().sum(), before));
            }
        }
    }

    #[test]
    fn sessions_emit_after_every_n_events(events in events(), n in 1u64..8) {
        let pipeline = of_calls().with_iterator_source(events.clone()).with_session_window(2 * SECOND);
        let (told, _) = run(pipeline.with_trigger(every(n)));
        let early = told.iter().filter(|told| told.firing == Firing::Early);
        let found: Vec<_> =
            early.map(|told| (told.taken_back, told.bounds, told.count, told.sum, told.revision)).collect();
        prop_assert_eq!(found, sessions_after_every(n, &events, 2_000));
        // What stands in the end are the sessions.
        let mut standing: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        for told in &told {
            match told.taken_back {
                true => prop_assert_eq!(standing.remove(&told.bounds), Some(told.count)),
                false => drop(standing.insert(told.bounds, told.count)),
            }
        }
        let (alone, _) = run(of_calls().with_iterator_source(events).with_session_window(2 * SECOND));
        let sessions: BTreeMap<_, _> = alone.iter().map(|told| (told.bounds, told.count)).collect();
        prop_assert_eq!(standing, sessions);
    }
}

#[tokio::test]
async fn windows_emit_every_interval_where_there_is_something_new() {
    let (log, (send, events)) = (Log::default(), crossbeam_channel::unbounded());
    let pipeline = of_calls()
        .with_channel_source(events)
        .with_trigger(EveryInterval(Duration::from_millis(100)))
        .with_parallelism(1)
        .with_sink(log.clone())
        .build()
        .unwrap();
    let run = tokio::spawn(pipeline.run());
    (0..3).for_each(|n| send.send(call(START + n, "opus", 1.0)).unwrap());
    wait_until("the first early result is there", || log.all().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(log.short(), [(Firing::Early, 0, 3)], "nothing new, no result");
    send.send(call(START + 5, "opus", 1.0)).unwrap();
    wait_until("the next is there", || log.all().len() == 2).await;
    drop(send);
    let summary = run.await.unwrap().unwrap();
    assert_eq!(log.short(), [(Firing::Early, 0, 3), (Firing::Early, 1, 4), (Firing::OnTime, 2, 4)]);
    assert_eq!((summary.windows, summary.early), (1, 2));
}

/// Four partitions on two workers; half of them past the end is enough.
#[tokio::test]
async fn windows_emit_when_enough_partitions_are_past_their_end() {
    let log = Log::default();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| crossbeam_channel::unbounded()).unzip();
    let pipeline = receivers.into_iter().fold(of_calls(), PipelineBuilder::with_channel_source);
    let pipeline = pipeline.with_trigger(WhenComplete(0.5)).with_parallelism(2).with_sink(log.clone()).build().unwrap();
    let run = tokio::spawn(pipeline.run());
    for sender in &senders {
        sender.send(call(START, "opus", 1.0)).unwrap();
    }
    senders[0].send(call(START + 11_000, "haiku", 1.0)).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(log.short(), [], "one of four is past the end");
    senders[3].send(call(START + 11_000, "haiku", 1.0)).unwrap();
    wait_until("the early result is there", || !log.all().is_empty()).await;
    // Who comes to the end later does not make another one.
    senders[1].send(call(START + 11_000, "haiku", 1.0)).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let early = log.all();
    assert_eq!(early.len(), 1);
    assert_eq!((early[0].bounds, early[0].count, early[0].complete), ((0, 10_000), 4, Some(0.5)));
    drop(senders);
    run.await.unwrap().unwrap();
    let of_first: Vec<_> = log.all().into_iter().filter(|told| told.bounds == (0, 10_000)).collect();
    let firings: Vec<_> = of_first.iter().map(|told| (told.firing, told.revision, told.complete)).collect();
    assert_eq!(firings, [(Firing::Early, 0, Some(0.5)), (Firing::OnTime, 1, None)]);
}

/// Fires after every three events and lets them go.
struct Threes;

impl WindowTrigger for Threes {
    fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
        window.events >= 3
    }

    fn should_purge(&self, window: &OpenWindow<'_>) -> bool {
        window.events >= 3
    }
}

#[test]
fn a_trigger_that_purges_makes_results_of_what_is_new() {
    let events = || (0..8).map(|n| call(START + n, "opus", f64::from(n as i32)));
    for pipeline in [of_calls(), of_calls().with_session_window(SECOND)] {
        let (told, summary) = run(pipeline.with_iterator_source(events()).with_trigger(Threes));
        let parts: Vec<_> = told.iter().map(|told| (told.firing, told.count, told.sum)).collect();
        assert_eq!(parts, [(Firing::Early, 3, 3.0), (Firing::Early, 3, 12.0), (Firing::OnTime, 2, 13.0)]);
        assert_eq!((summary.early, summary.windows, summary.retracted), (2, 1, 0));
    }
    // Six events: nothing is left for the end.
    let (told, summary) = run(of_calls().with_iterator_source(events().take(6)).with_trigger(Threes));
    assert_eq!((told.len(), summary.windows, summary.open), (2, 0, 0));
}

#[test]
fn windows_that_share_their_content_cannot_be_purged() {
    let sliding = of_calls().with_iterator_source(calls()).with_sliding_window(10 * SECOND, 5 * SECOND);
    let error = sliding.with_trigger(Threes).with_sink(StdoutSink).build().unwrap().run_blocking().unwrap_err();
    assert!(error.to_string().contains("sliding windows cannot be purged"), "{error}");
}

#[test]
fn triggers_add_up_and_windows_may_have_their_own() {
    let events: Vec<Call> = (0..10).map(|n| call(START + n, "opus", 1.0)).collect();
    let (told, _) = run(of_calls().with_iterator_source(events.clone()).with_trigger(every(4)).with_trigger(every(3)));
    assert_eq!(told.iter().map(|told| told.count).collect::<Vec<_>>(), [3, 6, 9, 10], "any of them fires");

    let log = Log::default();
    let named = |name, trigger| NamedWindows::tumbling(name, SECOND).with_trigger(trigger);
    let pipeline = create_pipeline::<Call>()
        .with_timestamp(|call| EventTime::from_millis(call.at_ms))
        .with_key(|_| GroupingKey::everything())
        .with_values(|call, values| values.add("millis", call.millis))
        .with_iterator_source(events)
        .with_trigger(every(5))
        .with_named_windows(named("own", every(9)))
        .with_named_windows(NamedWindows::tumbling("all", 2 * SECOND))
        .with_parallelism(1)
        .with_sink(log.clone());
    pipeline.build().unwrap().run_blocking().unwrap();
    let early = |end| {
        let of = log.all().into_iter().filter(move |told| told.bounds.1 == end && told.firing == Firing::Early);
        of.map(|told| told.count).collect::<Vec<_>>()
    };
    assert_eq!((early(1_000), early(2_000)), (vec![9], vec![5, 10]));
}
