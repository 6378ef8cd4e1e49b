//! Views: what ten changed results cost, against making the whole view anew; and memory over many windows.
//!
//! Anew is measured in two ways: by the same program, given all results once more, and by a plain loop that sorts or merges the one
//! window that has changed.

use super::measure::{Table, cpu_time};
use llm_optimizer_processor::GroupingKey;
use llm_optimizer_processor::aggregate::{AccumulatorStore, AggregatePlan};
use llm_optimizer_processor::dataflows::views::{ViewParts, views};
use llm_optimizer_processor::event::DefinitionIndex;
use llm_optimizer_processor::sink::{Firing, ResultBatch, ResultOp, ResultRow, ResultValue, TimeWindow, ViewMark};
use llm_optimizer_processor::time::{Epoch, EventTime, Span, Time};
use llm_optimizer_processor::view::retained::Retained;
use llm_optimizer_processor::view::{
    Baseline, Compare, Figures, Leaderboard, Rollup, View, ViewBoard, ViewChange, ViewKind, put_accumulators,
};
use llm_optimizer_processor::window::Naming;
use std::hint::black_box;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::UnorderedInput;
use timely::dataflow::operators::probe::{Handle, Probe};

const KEYS: [u64; 3] = [1_000, 10_000, 100_000];
/// Results that are revised in a step.
const CHANGES: u64 = 10;
const STEPS: u64 = 500;
const STEP: i64 = 60_000;
/// Windows of the memory's line, with so many keys each.
const WINDOWS: i64 = 10_000;
const WINDOW_KEYS: u64 = 100;

pub fn run(table: &mut Table) {
    for (kind, view) in kinds() {
        for keys in KEYS {
            if table.wants(&format!("views-{kind}-{keys}")) {
                cost(table, kind, &view, keys);
            }
        }
    }
    if table.wants("views-memory") {
        memory(table);
    }
}

fn kinds() -> [(&'static str, ViewKind); 4] {
    let by: Arc<str> = "average".into();
    let leaderboard = Leaderboard { by: Arc::clone(&by), top: 10, smallest: false, per: Vec::new() };
    let baseline = Baseline { of: by, count: 10, daily: false, step: Span::from_millis(STEP), regressed: None };
    let [field, champion, challenger] = ["side", "a", "b"].map(Into::into);
    [
        ("leaderboard", ViewKind::Leaderboard(leaderboard)),
        ("baseline", ViewKind::Baseline(baseline)),
        ("rollup", ViewKind::Rollup(Rollup { by: Vec::new() })),
        ("compare", ViewKind::Compare(Compare { field, champion, challenger, of: None })),
    ]
}

fn cost(table: &mut Table, kind: &str, view: &ViewKind, keys: u64) {
    let Measured { anew, change, mean } = measured(view, keys);
    let name = format!("{kind}, {keys} keys, {CHANGES} of them changed, against the program anew (CPU)");
    let fold = anew.as_secs_f64() / change.as_secs_f64();
    let each = change.as_secs_f64() * 1e6 / CHANGES as f64;
    let mean = mean.as_secs_f64() * 1e6 / CHANGES as f64;
    let figure =
        format!("{each:.1} us a changed result ({mean:.1} with the upkeep of arrangements), {fold:.0}-fold cheaper");
    let reach = if keys == 100_000 { ">= 1000-fold" } else { "" };
    table.figure(&name, &format!("{:.1} ms", anew.as_secs_f64() * 1e3), &figure, reach);
    if kind == "leaderboard" {
        let plain = plain_sort(keys);
        let fold = plain.as_secs_f64() / change.as_secs_f64();
        let name = format!("{kind}, {keys} keys, {CHANGES} of them changed, against sorting one window (CPU)");
        table.figure(&name, &format!("{:.1} ms", plain.as_secs_f64() * 1e3), &format!("{fold:.0}-fold cheaper"), "");
    }
}

fn key(number: u64) -> GroupingKey {
    let side = if number.is_multiple_of(2) { "a" } else { "b" };
    GroupingKey::from_fields(&[("side", side.to_owned()), ("key", (number / 2).to_string())])
}

fn value(key: u64, revision: u64) -> f64 {
    ((key * 2_654_435_761 + revision * 40_503) % 1_000_003) as f64
}

/// As windows give them out: the results of a key have one text.
fn keys(number: u64) -> Vec<GroupingKey> {
    (0..number).map(key).collect()
}

fn row(plan: &Arc<AggregatePlan>, window: i64, (number, key): (u64, &GroupingKey), revision: u64) -> ResultRow {
    let mut store = AccumulatorStore::new(Arc::clone(plan));
    let id = store.create();
    (0..3).for_each(|index| store.add(id, value(number, revision) + f64::from(index)));
    let (mut values, mut accumulators): (Vec<ResultValue>, _) = (Vec::new(), Vec::new());
    store.result(id, &mut values);
    put_accumulators([("v", &store, id)].into_iter(), &mut accumulators).expect("no custom aggregates");
    let at = EventTime::from_millis;
    ResultRow {
        window: TimeWindow { start: at((window - 1) * STEP), end: at(window * STEP) },
        window_name: None,
        key: key.clone(),
        names: plan.names().into(),
        values,
        revision: revision as u32,
        op: ResultOp::Upsert,
        firing: Firing::OnTime,
        fired_at: at(0),
        complete: None,
        accumulators: Some(accumulators.into()),
        view: None,
    }
}

/// One worker with a view: results go in by `send`, and `settle` returns when everything before a time has come out.
struct Views<'a> {
    worker: &'a mut timely::worker::Worker,
    input: timely::dataflow::operators::core::unordered_input::UnorderedHandle<
        Time,
        CapacityContainerBuilder<Vec<ResultBatch>>,
    >,
    capability: timely::dataflow::operators::ActivateCapability<Time>,
    probe: Handle<Time>,
}

impl<'a> Views<'a> {
    fn new(worker: &'a mut timely::worker::Worker, view: &View, plan: &Arc<AggregatePlan>) -> Self {
        let probe = Handle::new();
        let figures = Figures {
            plan: Arc::clone(plan),
            naming: Naming::Bare,
            fields: vec!["v".into()],
            fail: Rc::new(|error| panic!("{error}")),
        };
        let list = vec![view.clone()];
        let name = Arc::clone(&view.name);
        let parts = ViewParts {
            retained: Retained::new(&list),
            board: ViewBoard::new(&list),
            views: list,
            figures: vec![figures],
            keeper: None,
            first: Epoch::FIRST,
            encode: Rc::new(move |_, change: ViewChange| ResultRow {
                window: change.row.window,
                window_name: None,
                key: change.row.key,
                names: change.row.names,
                values: change.row.figures.iter().map(ResultValue::from).collect(),
                revision: 0,
                op: ResultOp::Upsert,
                firing: Firing::OnTime,
                fired_at: change.frontier,
                complete: None,
                accumulators: None,
                view: Some(ViewMark { name: Arc::clone(&name), frontier: change.frontier, is_replaced: false }),
            }),
            first_stream: DefinitionIndex::of(1),
        };
        let (input, capability) = worker.dataflow::<Time, _, _>(|scope| {
            let (input, results) = scope.new_unordered_input::<CapacityContainerBuilder<Vec<ResultBatch>>>();
            views(results, parts).probe_with(&probe);
            input
        });
        Self { worker, input, capability, probe }
    }

    fn send(&mut self, rows: Vec<ResultRow>) {
        self.input.activate().session(&self.capability).give(ResultBatch::new(DefinitionIndex::of(0), rows));
    }

    /// What is sent from now on is sent at this time.
    fn move_to(&mut self, millis: i64) {
        let time = Time::new(Epoch::FIRST, EventTime::from_millis(millis));
        self.capability.downgrade(&time);
        while self.probe.less_than(&time) {
            self.worker.step();
        }
    }

    /// Returns when what was sent is closed and, a moment of event time later, has come out.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.move_to(self.capability.time().event_time().as_millis() + 1);
        }
    }

    fn end(self) {
        let Self { worker, input, capability, probe } = self;
        drop((input, capability));
        while !probe.done() {
            worker.step();
        }
    }
}

fn of_kind(kind: &ViewKind, retain: i64) -> View {
    let retain = Span::from_millis(retain * STEP);
    View { name: "view".into(), definition: DefinitionIndex::of(0), retain, kind: kind.clone() }
}

/// What it costs to take in all results of a window, and a step with a few that are revised.
struct Measured {
    anew: Duration,
    /// The step in the middle of all.
    change: Duration,
    /// Now and then a step merges what earlier ones have left: its share is in the mean.
    mean: Duration,
}

fn measured(kind: &ViewKind, keys: u64) -> Measured {
    let view = of_kind(kind, 60);
    timely::execute_directly(move |worker| {
        let plan = AggregatePlan::everything();
        let mut views = Views::new(worker, &view, &plan);
        views.move_to(STEP);
        let texts = self::keys(keys);
        let row = |key: u64, revision| row(&plan, 1, (key, &texts[key as usize]), revision);
        let all: Vec<ResultRow> = (0..keys).map(|key| row(key, 0)).collect();
        views.send(all);
        let before = cpu_time();
        views.settle();
        let anew = cpu_time() - before;
        let mut changes: Vec<Duration> = Vec::new();
        for step in 1..=STEPS {
            let revised = |index| (step * CHANGES + index) * 7_919 % keys;
            let rows = (0..CHANGES).map(|index| row(revised(index), step)).collect();
            views.send(rows);
            let before = cpu_time();
            views.settle();
            changes.push(cpu_time() - before);
        }
        views.end();
        let mean = changes.iter().sum::<Duration>() / STEPS as u32;
        if std::env::var_os("STEPS_SHOWN").is_some() {
            eprintln!("{changes:?}");
        }
        changes.sort_unstable();
        Measured { anew, change: changes[changes.len() / 2], mean }
    })
}

fn plain_sort(keys: u64) -> Duration {
    let mut facts: Vec<(f64, GroupingKey)> = (0..keys).map(|number| (value(number, 0), key(number))).collect();
    let before = cpu_time();
    facts.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    black_box(facts.iter().take(10).cloned().collect::<Vec<_>>());
    cpu_time() - before
}

/// Memory after a tenth of the windows and at the end, each view in a process of its own.
fn memory(table: &mut Table) {
    for (kind, _) in kinds() {
        let program = std::env::current_exe().expect("this program has a path");
        let output = Command::new(program).arg(format!("--child=views:{kind}")).output().expect("a child process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let kilobytes: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [early, late] = kilobytes[..] else { panic!("two numbers, not {text}") };
        let name =
            format!("{kind}, {WINDOWS} windows of {WINDOW_KEYS} keys, 20 retained: memory at a tenth and at the end");
        let figure = format!("{:.1} MB, {:.2} times", late / 1024.0, late / early);
        table.figure(&name, &format!("{:.1} MB", early / 1024.0), &figure, "flat");
    }
}

/// What the child does.
pub fn child(kind: &str) {
    let (_, kind) = kinds().into_iter().find(|(name, _)| *name == kind).expect("a kind of view");
    let view = of_kind(&kind, 20);
    timely::execute_directly(move |worker| {
        let plan = AggregatePlan::everything();
        let mut views = Views::new(worker, &view, &plan);
        let keys = keys(WINDOW_KEYS);
        let row = |window, key: u64, revision| row(&plan, window, (key, &keys[key as usize]), revision);
        for window in 1..=WINDOWS {
            views.move_to(window * STEP);
            views.send((0..WINDOW_KEYS).map(|key| row(window, key, 0)).collect());
            // A few that are late.
            views.settle();
            views.send((0..3).map(|key| row((window - 5).max(1), key, window as u64)).collect());
            if window == WINDOWS / 10 || window == WINDOWS {
                println!("{}", resident());
            }
        }
        views.end();
    });
}

/// Kilobytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
