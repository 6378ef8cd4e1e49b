//! Inputs at random: windows, their rows with how their sources judged them, and when snapshots are taken and workers restarted.

use llm_optimizer_processor::aggregate::{AggregatePlan, CustomAggregate};
use llm_optimizer_processor::config::{
    AggregateKind, AggregationConfig, LatePolicy, TriggerConfig, WindowConfig, WindowKind,
};
use llm_optimizer_processor::event::DefinitionIndex;
use llm_optimizer_processor::time::{EventTime, Span};
use llm_optimizer_processor::window::{
    ClosedBefore, EveryEvents, Naming, OpenWindow, Triggers, WindowStateSettings, WindowTrigger, Windowing,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Partitions there are; each is a sender.
pub const PARTITIONS: usize = 2;
/// The value fields.
pub const FIELDS: [&str; 2] = ["cost", "latency"];
/// Where time begins.
const BEGIN: i64 = 1_000_000;

/// What is computed of which windows, of which input, and what happens to those who compute it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub job: JobPlan,
    pub steps: Vec<StepPlan>,
    pub run: RunPlan,
}

#[derive(Clone, Debug)]
pub struct JobPlan {
    pub kind: WindowKind,
    pub policy: LatePolicy,
    pub lateness: i64,
    pub naming: Naming,
    pub trigger: TriggerPlan,
    /// Whether there are all aggregates and one of the user's own, else only a count.
    pub everything: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TriggerPlan {
    None,
    EveryEvents(u64),
    Every(u64),
    Complete,
    Purging,
}

#[derive(Clone, Debug)]
pub enum StepPlan {
    /// Rows of a partition.
    Rows(usize, Vec<RowPlan>),
    /// A partition's watermark moves so many percent of the windows' scale.
    Advance(usize, i64),
    /// A partition forgets its dictionary.
    Generation(usize),
}

#[derive(Clone, Debug)]
pub struct RowPlan {
    /// From the watermark, percent of the windows' scale.
    pub ahead: i64,
    pub key: u32,
    /// By field; in one of them there is one.
    pub values: [Option<i32>; 2],
}

/// What happens to the workers.
#[derive(Clone, Debug)]
pub struct RunPlan {
    pub workers: usize,
    /// The steps after which a snapshot is begun, unless one is under way.
    pub snapshots: BTreeSet<usize>,
    /// Bytes that are written of it after each batch.
    pub portion: usize,
    /// After which steps the workers are lost, and how many there are from then on.
    pub losses: Vec<(usize, usize)>,
    /// How much of a state may be in memory.
    pub memory: Option<usize>,
}

/// What a worker is told of a row.
#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    pub key: String,
    pub values: [Option<f64>; 2],
    /// The watermark it was judged against, if it was late.
    pub late: Option<EventTime>,
}

/// A step, as it happens.
#[derive(Clone, Debug)]
pub enum Step {
    Rows(usize, Vec<Row>),
    /// The watermarks of all partitions now.
    Watermarks([EventTime; PARTITIONS]),
    Generation(usize),
}

impl JobPlan {
    fn config(&self) -> WindowConfig {
        WindowConfig {
            kind: self.kind,
            allowed_lateness: Span::from_millis(self.lateness),
            late_policy: self.policy,
            trigger: TriggerConfig::NONE,
        }
    }

    /// The settings of a worker's windows.
    pub fn settings(&self) -> WindowStateSettings {
        let enabled = if self.everything { AggregateKind::ALL.to_vec() } else { vec![AggregateKind::Count] };
        let config = AggregationConfig { enabled, ..AggregationConfig::everything() };
        let plan = AggregatePlan::new(&config).unwrap();
        let plan = if self.everything { plan.with_custom(Distinct).unwrap() } else { plan };
        let triggers = match self.trigger {
            TriggerPlan::None => Triggers::default(),
            TriggerPlan::EveryEvents(count) => Triggers(vec![Arc::new(EveryEvents(NonZeroU64::new(count).unwrap()))]),
            TriggerPlan::Every(millis) => {
                Triggers::of(&TriggerConfig { every: Some(Duration::from_millis(millis)), ..TriggerConfig::NONE })
            }
            TriggerPlan::Complete => Triggers::of(&TriggerConfig { complete: Some(0.5), ..TriggerConfig::NONE }),
            TriggerPlan::Purging => Triggers(vec![Arc::new(Purging)]),
        };
        let fields = match self.naming {
            Naming::Bare => &FIELDS[..1],
            Naming::Qualified => &FIELDS[..],
            Naming::AsTheyCome => &[],
        };
        WindowStateSettings {
            definition: DefinitionIndex::of(3),
            name: Some("d".into()),
            windowing: Windowing::new(&self.config()).unwrap(),
            plan: Arc::new(plan),
            naming: self.naming,
            fields: fields.iter().map(|field| Arc::from(*field)).collect(),
            closed: ClosedBefore::default(),
            triggers,
            takes_accumulators: false,
        }
    }

    /// What makes a difference in time.
    fn scale(&self) -> i64 {
        match self.kind {
            WindowKind::Tumbling { size, .. } => size.as_millis(),
            WindowKind::Sliding { size, slide, .. } => size.max(slide).as_millis(),
            WindowKind::Session { gap, .. } => gap.as_millis(),
        }
    }

    /// The steps as they happen.
    pub fn steps(&self, plans: &[StepPlan]) -> Vec<Step> {
        let lateness = self.settings().windowing.allowed_lateness().as_millis();
        let mut watermarks = [BEGIN; PARTITIONS];
        let step = |plan: &StepPlan| match plan {
            StepPlan::Rows(partition, rows) => {
                let watermark = watermarks[*partition];
                let row = |row: &RowPlan| {
                    let time = watermark + row.ahead * self.scale() / 100;
                    let late = (time < watermark).then(|| EventTime::from_millis(watermark));
                    let shown = if self.naming == Naming::Bare { 1 } else { 2 };
                    let value =
                        |field: usize| row.values[field].filter(|_| field < shown).map(|value| f64::from(value) / 8.0);
                    let key = format!("key-{}", row.key);
                    Row { time, key, values: [value(0), value(1)], late }
                };
                let is_accepted =
                    |row: &Row| row.time >= watermark - lateness && row.values.iter().any(Option::is_some);
                Step::Rows(*partition, rows.iter().map(row).filter(is_accepted).collect())
            }
            StepPlan::Advance(partition, by) => {
                watermarks[*partition] += by * self.scale() / 100;
                Step::Watermarks(watermarks.map(EventTime::from_millis))
            }
            StepPlan::Generation(partition) => Step::Generation(*partition),
        };
        let mut steps: Vec<Step> = plans.iter().map(step).collect();
        steps.push(Step::Watermarks([EventTime::MAX; PARTITIONS]));
        steps
    }
}

/// How many different values there were, with the greatest.
struct Distinct;

impl CustomAggregate for Distinct {
    type State = BTreeSet<i64>;

    fn name(&self) -> &str {
        "distinct"
    }

    fn create(&self) -> Self::State {
        BTreeSet::new()
    }

    fn add(&self, state: &mut Self::State, value: f64) {
        state.insert((value * 8.0) as i64);
    }

    fn merge(&self, state: &mut Self::State, other: &Self::State) {
        state.extend(other);
    }

    fn result(&self, state: &Self::State) -> serde_json::Value {
        serde_json::json!([state.len(), state.last()])
    }
}

/// A result after every third event, which is then forgotten.
struct Purging;

impl WindowTrigger for Purging {
    fn should_fire(&self, window: &OpenWindow<'_>) -> bool {
        window.events_since_firing >= 3
    }

    fn should_purge(&self, _: &OpenWindow<'_>) -> bool {
        true
    }
}

fn kind() -> impl Strategy<Value = WindowKind> {
    let millis = Span::from_millis;
    prop_oneof![
        2 => select(vec![20i64, 100]).prop_map(move |size| WindowKind::Tumbling {
            size: millis(size), offset: millis(7), time_zone: None,
        }),
        3 => (select(vec![30i64, 100]), select(vec![10i64, 14, 33, 70, 130])).prop_map(move |(size, percent)| {
            WindowKind::Sliding { size: millis(size), slide: millis((size * percent / 100).max(1)), offset: millis(3) }
        }),
        3 => select(vec![None, Some(25i64), Some(60)]).prop_map(move |max_length| {
            WindowKind::Session { gap: millis(20), max_length: max_length.map(millis) }
        }),
    ]
}

fn job() -> impl Strategy<Value = JobPlan> {
    let policy = prop_oneof![
        4 => Just(LatePolicy::Refine),
        1 => Just(LatePolicy::FinalOnly),
        1 => Just(LatePolicy::Drop),
    ];
    let trigger = prop_oneof![
        4 => Just(TriggerPlan::None),
        1 => (1u64..4).prop_map(TriggerPlan::EveryEvents),
        1 => (1u64..30).prop_map(TriggerPlan::Every),
        1 => Just(TriggerPlan::Complete),
        1 => Just(TriggerPlan::Purging),
    ];
    let naming = select(vec![Naming::Bare, Naming::Qualified, Naming::AsTheyCome]);
    (kind(), policy, select(vec![0i64, 15, 60, 200]), naming, trigger, prop::bool::weighted(0.7)).prop_map(
        |(kind, policy, lateness, naming, trigger, everything)| {
            // Windows that overlap cannot be purged.
            let trigger = match (trigger, kind) {
                (TriggerPlan::Purging, WindowKind::Sliding { .. }) => TriggerPlan::EveryEvents(2),
                (trigger, _) => trigger,
            };
            JobPlan { kind, policy, lateness, naming, trigger, everything }
        },
    )
}

fn row() -> impl Strategy<Value = RowPlan> {
    let value = || prop::option::weighted(0.7, prop_oneof![9 => 1i32..5000, 1 => -5000i32..=0]);
    let ahead = prop_oneof![5 => 0i64..150, 3 => -150i64..0, 1 => -400i64..600];
    (ahead, 0u32..8, [value(), value()]).prop_map(|(ahead, key, values)| RowPlan { ahead, key, values })
}

fn step() -> impl Strategy<Value = StepPlan> {
    let partition = || 0..PARTITIONS;
    let rows = prop_oneof![4 => 1usize..8, 1 => 20usize..80];
    prop_oneof![
        8 => (partition(), rows.prop_flat_map(|rows| prop::collection::vec(row(), rows)))
            .prop_map(|(partition, rows)| StepPlan::Rows(partition, rows)),
        8 => (partition(), 1i64..120).prop_map(|(partition, by)| StepPlan::Advance(partition, by)),
        1 => partition().prop_map(StepPlan::Generation),
    ]
}

fn run(steps: usize) -> impl Strategy<Value = RunPlan> {
    let losses = prop::collection::vec((0..steps + 1, 1usize..4), 0..4);
    let snapshots = prop::collection::btree_set(0..steps + 1, 1..12);
    let memory = prop_oneof![2 => Just(None), 1 => Just(Some(0)), 1 => (0usize..100_000).prop_map(Some)];
    (1usize..4, snapshots, select(vec![1usize, 100, 1000, 1 << 20]), losses, memory).prop_map(
        |(workers, snapshots, portion, losses, memory)| RunPlan { workers, snapshots, portion, losses, memory },
    )
}

/// Any plan.
pub fn plan() -> impl Strategy<Value = Plan> {
    let steps = prop_oneof![1 => Just(8usize), 3 => Just(60)];
    let steps = steps.prop_flat_map(|most| prop::collection::vec(step(), 2..=most));
    (job(), steps).prop_flat_map(|(job, steps)| {
        run(steps.len()).prop_map(move |run| Plan { job: job.clone(), steps: steps.clone(), run })
    })
}
