//! Snapshots of windows: of whatever they are taken, windows that go on from them at any number of workers do what windows do
//! that were never stopped.

mod plan;
mod workers;

use plan::{Plan, plan};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use workers::{disturbed, undisturbed};

fn check(plan: &Plan) {
    let steps = plan.job.steps(&plan.steps);
    let right = undisturbed(&plan.job, &steps);
    let happened = disturbed(plan, &steps).unwrap();
    assert_eq!(happened.results, right);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("LONG_TESTS").is_some() { 20_000 } else { 500 },
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn windows_go_on_from_any_snapshot(plan in plan()) {
        check(&plan);
    }
}
