//! Made-up results.

use llm_optimizer_processor::GroupingKey;
use llm_optimizer_processor::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan};
use llm_optimizer_processor::config::{AggregateKind, AggregationConfig};
use llm_optimizer_processor::event::DefinitionIndex;
use llm_optimizer_processor::sink::{Firing, ResultOp, ResultRow, ResultValue, TimeWindow};
use llm_optimizer_processor::time::{Epoch, EventTime, Time};
use llm_optimizer_processor::view::put_accumulators;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// The places of the definitions.
pub const TUMBLING: usize = 0;
pub const SESSIONS: usize = 1;
/// Milliseconds of a tumbling window: six hours.
pub const STEP: i64 = 6 * 60 * 60 * 1000;
/// How many windows a refinement may come late.
const LATE: i64 = 8;

pub static PLAN: LazyLock<Arc<AggregatePlan>> = LazyLock::new(|| {
    let enabled = vec![
        AggregateKind::Count,
        AggregateKind::Sum,
        AggregateKind::Average,
        AggregateKind::Stddev,
        AggregateKind::Percentile,
    ];
    let config = AggregationConfig { enabled, percentiles: vec![50.0, 95.0], relative_error: 0.01 };
    Arc::new(AggregatePlan::new(&config).unwrap())
});

/// A result, with the numbers that it is made of.
#[derive(Clone, Debug)]
pub struct Sent {
    pub time: Time,
    pub definition: usize,
    pub window: TimeWindow,
    pub key: GroupingKey,
    /// `None` takes the result back.
    pub numbers: Option<Vec<f64>>,
}

/// What a worker does.
#[derive(Clone, Debug)]
pub enum Action {
    Send(Sent),
    Advance(Time),
    Pause,
}

#[derive(Clone, Debug)]
pub struct Script {
    pub workers: Vec<Vec<Action>>,
    /// Where the last window ends.
    pub end: EventTime,
}

/// The accumulator of some numbers.
pub fn accumulate(numbers: &[f64]) -> (AccumulatorStore, AccumulatorId) {
    let mut store = AccumulatorStore::new(Arc::clone(&PLAN));
    let id = store.create();
    numbers.iter().for_each(|number| store.add(id, *number));
    (store, id)
}

impl Sent {
    pub fn row(&self) -> ResultRow {
        let (store, id) = accumulate(self.numbers.as_deref().unwrap_or_default());
        let mut values: Vec<ResultValue> = Vec::new();
        store.result(id, &mut values);
        let mut accumulators = Vec::new();
        put_accumulators([("latency_ms", &store, id)].into_iter(), &mut accumulators).unwrap();
        ResultRow {
            window: self.window,
            window_name: None,
            key: self.key.clone(),
            names: PLAN.names().into(),
            values,
            revision: 0,
            op: if self.numbers.is_some() { ResultOp::Upsert } else { ResultOp::Retract },
            firing: Firing::OnTime,
            fired_at: EventTime::from_millis(0),
            complete: None,
            accumulators: Some(accumulators.into()),
            view: None,
        }
    }

    pub fn definition(&self) -> DefinitionIndex {
        DefinitionIndex::of(self.definition)
    }
}

pub fn key(number: u32) -> GroupingKey {
    let (model, region) = (number % 5, number / 5);
    GroupingKey::from_fields(&[("model", format!("m{model}")), ("region", format!("r{region}"))])
}

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

struct Worker {
    random: ChaCha8Rng,
    actions: Vec<Action>,
    time: Time,
    /// The keys that it owns and that are alive.
    keys: Vec<u32>,
    results: BTreeMap<(usize, TimeWindow, GroupingKey), Vec<f64>>,
}

impl Script {
    /// So many windows for so many workers.
    pub fn random(seed: u64, workers: usize, windows: i64) -> Self {
        let script = |worker| Worker::new(seed, worker, workers as u32).script(windows);
        Self { workers: (0..workers as u32).map(script).collect(), end: at(windows * STEP) }
    }

    /// All results in the order in which their workers send them.
    pub fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.workers.iter().flatten().filter_map(|action| match action {
            Action::Send(sent) => Some(sent),
            Action::Advance(_) | Action::Pause => None,
        })
    }
}

impl Worker {
    fn new(seed: u64, worker: u32, workers: u32) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed * 1000 + u64::from(worker));
        let keys = (0..30).filter(|key| key % workers == worker).collect();
        let time = Time::new(Epoch::FIRST, at(0));
        Self { random, actions: vec![Action::Advance(time)], time, keys, results: BTreeMap::new() }
    }

    fn script(mut self, windows: i64) -> Vec<Action> {
        for window in 1..=windows {
            self.move_to(Time::new(self.time.epoch(), at(window * STEP)));
            self.fire(window);
            if self.random.random_bool(0.5) {
                self.move_to(Time::new(self.time.epoch(), at(window * STEP + STEP / 2)));
                self.revise(window);
            }
            if self.random.random_bool(0.3) {
                self.move_to(self.time.in_epoch(self.time.epoch().next()));
            }
            if self.random.random_bool(0.3) {
                self.actions.push(Action::Pause);
            }
        }
        self.actions
    }

    fn move_to(&mut self, time: Time) {
        self.time = time;
        self.actions.push(Action::Advance(time));
    }

    fn numbers(&mut self) -> Vec<f64> {
        let count = self.random.random_range(1..6);
        // Few different ones, so that there are ties.
        (0..count).map(|_| f64::from(self.random.random_range(1..12))).collect()
    }

    fn send(&mut self, definition: usize, window: TimeWindow, key: GroupingKey, numbers: Option<Vec<f64>>) {
        match &numbers {
            Some(numbers) => self.results.insert((definition, window, key.clone()), numbers.clone()),
            None => self.results.remove(&(definition, window, key.clone())),
        };
        self.actions.push(Action::Send(Sent { time: self.time, definition, window, key, numbers }));
    }

    fn fire(&mut self, number: i64) {
        let window = TimeWindow { start: at((number - 1) * STEP), end: at(number * STEP) };
        for key in self.keys.clone() {
            // Keys come and go, for a while each.
            if (i64::from(key) + number / 10) % 3 == 0 || self.random.random_bool(0.2) {
                continue;
            }
            let numbers = self.numbers();
            self.send(TUMBLING, window, self::key(key), Some(numbers));
            if self.random.random_bool(0.4) {
                let start = at((number - 1) * STEP + self.random.random_range(0..STEP / 2));
                let numbers = self.numbers();
                self.send(SESSIONS, TimeWindow { start, ..window }, self::key(key), Some(numbers));
            }
        }
    }

    /// Late events: refinements, windows that nobody had, windows that go, sessions that merge.
    fn revise(&mut self, number: i64) {
        let earliest = at((number - LATE) * STEP);
        let recent: Vec<_> = self.results.keys().filter(|(_, window, _)| window.end > earliest).cloned().collect();
        for _ in 0..self.random.random_range(0..6) {
            if recent.is_empty() || self.keys.is_empty() {
                return;
            }
            let (definition, window, key) = recent[self.random.random_range(0..recent.len())].clone();
            let Some(mut numbers) = self.results.get(&(definition, window, key.clone())).cloned() else { continue };
            match self.random.random_range(0..10) {
                0 => self.send(definition, window, key, None),
                1 | 2 => {
                    let key = self::key(self.keys[self.random.random_range(0..self.keys.len())]);
                    let numbers = self.numbers();
                    self.send(definition, window, key, Some(numbers));
                }
                3..=5 if definition == SESSIONS => self.merge(window, &key),
                6 => {
                    // Twice before anybody looks.
                    numbers.push(1.0);
                    self.send(definition, window, key.clone(), Some(numbers.clone()));
                    numbers.push(11.0);
                    self.send(definition, window, key, Some(numbers));
                }
                _ => {
                    numbers.extend(self.numbers());
                    self.send(definition, window, key, Some(numbers));
                }
            }
        }
    }

    fn merge(&mut self, window: TimeWindow, key: &GroupingKey) {
        let next = self
            .results
            .keys()
            .filter(|(definition, other, of)| *definition == SESSIONS && of == key && other.start >= window.end)
            .map(|(_, other, _)| *other)
            .min();
        let Some(next) = next else { return };
        let of = |worker: &Self, window| worker.results[&(SESSIONS, window, key.clone())].clone();
        let numbers = [of(self, window), of(self, next)].concat();
        self.send(SESSIONS, window, key.clone(), None);
        self.send(SESSIONS, next, key.clone(), None);
        let merged = TimeWindow { start: window.start, end: next.end };
        self.send(SESSIONS, merged, key.clone(), Some(numbers));
    }
}
