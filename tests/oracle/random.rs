//! Any case: which jobs and inputs there are, and how often.

use super::case::{
    AggregatePlan, Behind, Case, Cell, EventPlan, KEYS, Keys, Line, Packing, PartitionPlan, RunPlan, TimePlan, Values,
    What,
};
use super::{Policy, Rules, Windows};
use proptest::prelude::*;
use proptest::sample::select;

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0u32..5_000_000).prop_map(|thousandths| f64::from(thousandths) / 1000.0),
        3 => (-9i32..10).prop_map(f64::from),
        1 => select(vec![0.0, -0.0, 1e15, 1e15 + 1.0, -1e15, 1e-9, 0.1, -123_456_789.125, 1e300, -1e300, 2.5e-300]),
    ]
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![8 => number().prop_map(Cell::Number), 2 => Just(Cell::Absent), 1 => Just(Cell::Null)]
}

fn behind() -> impl Strategy<Value = Behind> {
    prop_oneof![
        8 => (0i64..=100).prop_map(Behind::WithinDisorder),
        3 => (0i64..=110).prop_map(Behind::Anywhere),
        1 => (-2i64..=2).prop_map(Behind::AroundTheLimit),
        1 => (-2i64..=2).prop_map(Behind::AroundTheWatermark),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    let what = prop_oneof![
        60 => Just(What::Event),
        7 => select(vec![
            What::Future, What::OtherType, What::NotJson, What::NoTimestamp, What::WrongTimestamp, What::NoKey,
            What::NotANumber,
        ]),
    ];
    let step = prop_oneof![3 => Just(0i64), 12 => 0i64..=200, 1 => 200i64..2000];
    let end = prop_oneof![20 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\n\n")];
    (what, step, behind(), 0..KEYS, [cell(), cell(), cell()], 0usize..3, end).prop_map(
        |(what, step, behind, key, cells, first_cell, end)| Line { what, step, behind, key, cells, first_cell, end },
    )
}

fn partitions() -> impl Strategy<Value = Vec<PartitionPlan>> {
    let longest = prop_oneof![5 => Just(12usize), 4 => Just(80), 1 => Just(400)];
    longest.prop_flat_map(|longest| {
        let packing = prop_oneof![6 => Just(Packing::Plain), 1 => Just(Packing::Gzip), 1 => Just(Packing::Zstd)];
        let ahead = prop_oneof![3 => Just(0i64), 1 => 0i64..10];
        let lines = prop::collection::vec(line(), 0..=longest);
        let partition =
            (packing, ahead, lines).prop_map(|(packing, ahead, lines)| PartitionPlan { packing, ahead, lines });
        prop::collection::vec(partition, 1..=5)
    })
}

fn windows() -> impl Strategy<Value = Windows> {
    let length = || select(vec![1i64, 7, 100, 1000, 10_000, 60_000, 61_234]);
    let tumbling = (length(), prop_oneof![2 => Just(0i64), 1 => 1i64..100])
        .prop_map(|(size, percent)| Windows::Fixed { size, slide: size, offset: size * percent / 100 });
    // With slides that divide the size, slides that do not, and gaps between windows.
    let sliding =
        (length(), select(vec![5i64, 14, 33, 40, 50, 70, 130, 300]), 0i64..100).prop_map(|(size, percent, offset)| {
            let slide = (size * percent / 100).max(1);
            Windows::Fixed { size, slide, offset: slide * offset / 100 }
        });
    let sessions = (length(), select(vec![None, Some(50i64), Some(100), Some(300)])).prop_map(|(gap, percent)| {
        Windows::Session { gap, max_length: percent.map(|percent| (gap * percent / 100).max(1)) }
    });
    let berlin = (select(vec![1i64, 6, 24, 48]), select(vec![0i64, 0, 5]))
        .prop_map(|(hours, offset_hours)| Windows::Berlin { hours, offset_hours });
    prop_oneof![4 => tumbling, 4 => sliding, 4 => sessions, 1 => berlin]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![6 => Just(Policy::Refine), 1 => Just(Policy::FinalOnly), 1 => Just(Policy::Drop)]
}

fn time_plan() -> impl Strategy<Value = TimePlan> {
    windows().prop_flat_map(|windows| {
        let scale = windows.scale();
        let out_of_orderness = select(vec![0, 1, scale / 3, scale, scale * 5 / 2]);
        let lateness = select(vec![0, 1, scale / 2, scale, scale * 4]);
        let pace = match windows {
            // A session is an accident where events come at the pace of its gap.
            Windows::Session { gap, .. } => select(vec![gap / 20, gap / 3, gap]),
            _ => select(vec![scale / 20, scale / 3, scale]),
        };
        let pace = pace.prop_map(|pace| pace.max(1));
        let begin = match windows {
            // Before the clocks change, forward and back, in 2015: long runs stay behind the wall clock.
            Windows::Berlin { .. } => select(vec![1_427_300_000_000i64, 1_445_400_000_000]),
            // Before and behind 1970, and at no multiple of anything.
            _ => select(vec![-50 * scale, 1_000_000_000_007, 1_700_000_000_000]),
        };
        (out_of_orderness, lateness, policy(), pace, begin).prop_map(
            move |(out_of_orderness, lateness, policy, pace, begin)| TimePlan {
                rules: Rules { windows, lateness, out_of_orderness, policy },
                begin,
                pace,
            },
        )
    })
}

fn event_plan() -> impl Strategy<Value = EventPlan> {
    let keys = select(vec![Keys::Everything, Keys::Model, Keys::ModelAndRegion, Keys::Literal]);
    let values = select(vec![Values::One, Values::Several, Values::SameWord, Values::AsTheyCome]);
    (keys, values, any::<bool>(), any::<bool>()).prop_map(|(keys, values, rfc3339, filter)| EventPlan {
        keys,
        values,
        rfc3339,
        filter,
    })
}

fn aggregate_plan() -> impl Strategy<Value = AggregatePlan> {
    let all = vec!["count", "sum", "average", "min", "max", "stddev", "percentile"];
    let enabled = prop_oneof![
        3 => Just(all),
        1 => select(vec![vec!["count"], vec!["percentile"], vec!["stddev", "min"], vec!["max", "average", "percentile"]]),
    ];
    let percentiles = select(vec![vec![50.0, 95.0, 99.0], vec![0.0, 12.5, 99.9, 100.0]]);
    (enabled, percentiles, select(vec![0.001, 0.01, 0.1]))
        .prop_map(|(enabled, percentiles, relative_error)| AggregatePlan { enabled, percentiles, relative_error })
}

fn run_plan() -> impl Strategy<Value = RunPlan> {
    let workers = select(vec![1usize, 2, 3, 8]);
    let buffer_size = select(vec![10_000usize, 100, 7, 1]);
    let emit_interval_ms = prop_oneof![3 => Just(None), 1 => select(vec![Some(1u32), Some(5)])];
    (workers, buffer_size, emit_interval_ms).prop_map(|(workers, buffer_size, emit_interval_ms)| RunPlan {
        workers,
        buffer_size,
        emit_interval_ms,
    })
}

/// Windows beside others over the same events; lateness in percent of their scale.
fn other() -> impl Strategy<Value = (Windows, i64, Policy)> {
    let lateness = select(vec![0i64, 50, 100, 400]);
    (windows(), lateness, policy()).prop_map(|(windows, percent, policy)| {
        let lateness = windows.scale() * percent / 100;
        (windows, lateness, policy)
    })
}

/// Any case.
pub fn case() -> impl Strategy<Value = Case> {
    let others = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(other(), 1..=2)];
    let every_events = prop_oneof![4 => Just(None), 1 => (1u64..6).prop_map(Some)];
    let jobs = (time_plan(), others, every_events, event_plan(), aggregate_plan());
    (jobs, partitions(), [run_plan(), run_plan()]).prop_map(|(job, partitions, runs)| {
        let (time, others, every_events, event, aggregates) = job;
        let of = |(windows, lateness, policy)| Rules { windows, lateness, policy, ..time.rules };
        let others = others.into_iter().map(of).collect();
        Case { time, others, every_events, event, aggregates, partitions, runs }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    /// A kind that nobody draws is a kind that nothing tests.
    #[test]
    fn every_kind_of_windows_and_every_policy_is_drawn() {
        let mut runner = TestRunner::deterministic();
        let plan = time_plan();
        let rules: Vec<Rules> =
            (0..1_000).map(|_| plan.new_tree(&mut runner).expect("a plan").current().rules).collect();
        let kinds: [fn(&Windows) -> bool; 7] = [
            |windows| matches!(windows, Windows::Fixed { size, slide, .. } if size == slide),
            |windows| matches!(windows, Windows::Fixed { size, slide, .. } if size > slide && size % slide == 0),
            |windows| matches!(windows, Windows::Fixed { size, slide, .. } if size > slide && size % slide != 0),
            |windows| matches!(windows, Windows::Fixed { size, slide, .. } if size < slide),
            |windows| matches!(windows, Windows::Berlin { .. }),
            |windows| matches!(windows, Windows::Session { max_length: None, .. }),
            |windows| matches!(windows, Windows::Session { max_length: Some(_), .. }),
        ];
        for (number, is_kind) in kinds.iter().enumerate() {
            for policy in [Policy::Refine, Policy::FinalOnly, Policy::Drop] {
                let drawn = rules.iter().filter(|rules| is_kind(&rules.windows) && rules.policy == policy).count();
                assert!(drawn > 0, "kind {number}, {policy:?}: none of {}", rules.len());
            }
        }
    }
}
