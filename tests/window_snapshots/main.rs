//! Snapshots of windows: of whatever they are taken, windows that go on from them at any number of workers do what windows do
//! that were never stopped.

#[path = "../support/checkout.rs"]
mod checkout;
mod cost;
mod plan;
mod records;
mod workers;

use llm_optimizer_processor::config::WindowKind;
use plan::{Plan, TriggerPlan, plan};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use workers::{Happened, disturbed, undisturbed};

fn check(plan: &Plan) -> Happened {
    let steps = plan.job.steps(&plan.steps);
    let right = undisturbed(&plan.job, &steps);
    let happened = disturbed(plan, &steps).unwrap();
    assert_eq!(happened.results, right);
    happened
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("LONG_TESTS").is_some() { 20_000 } else { 600 },
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn windows_go_on_from_any_snapshot(plan in plan()) {
        check(&plan);
    }
}

/// What nobody draws nothing tests.
#[test]
fn everything_happens_that_is_to_be_tested() {
    let mut runner = TestRunner::deterministic();
    let strategy = plan();
    let kinds: [fn(&Plan) -> bool; 9] = [
        |plan| matches!(plan.job.kind, WindowKind::Tumbling { .. }),
        |plan| matches!(plan.job.kind, WindowKind::Sliding { size, slide, .. } if slide < size),
        |plan| matches!(plan.job.kind, WindowKind::Sliding { size, slide, .. } if slide > size),
        |plan| matches!(plan.job.kind, WindowKind::Session { max_length: None, .. }),
        |plan| matches!(plan.job.kind, WindowKind::Session { max_length: Some(_), .. }),
        |plan| plan.job.trigger == TriggerPlan::Purging,
        |plan| !matches!(plan.job.trigger, TriggerPlan::None) && matches!(plan.job.kind, WindowKind::Session { .. }),
        |plan| plan.job.lateness == 200,
        |plan| plan.run.workers > 1,
    ];
    let mut counts = [[0; 4]; 9];
    for _ in 0..400 {
        let plan = strategy.new_tree(&mut runner).unwrap().current();
        let happened = check(&plan);
        for (counts, _) in counts.iter_mut().zip(kinds).filter(|(_, is_kind)| is_kind(&plan)) {
            let retracted = happened.results.iter().filter(|result| result.contains("op: Retract")).count();
            for (count, more) in
                counts.iter_mut().zip([happened.snapshots, happened.restored, happened.cold, retracted])
            {
                *count += more;
            }
        }
    }
    for (number, [snapshots, restored, cold, retracted]) in counts.into_iter().enumerate() {
        assert!(snapshots > 20 && restored > 5 && cold > 5, "kind {number}: {snapshots}, {restored}, {cold}");
        assert!((number == 3) <= (retracted > 0), "sessions are taken back");
    }
}
