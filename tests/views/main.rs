//! Views against oracles that compute each step's content anew.
//!
//! The model: a made-up stream of results, with refinements, retractions, sessions that merge and keys that come and go, is dealt out
//! to workers that move on as they like; what the views say is applied step by step, and after each step compared with what the
//! oracle makes of the results that stand then.

mod oracle;
mod restart;
mod run;
mod script;

use llm_optimizer_processor::time::{Span, Time};
use llm_optimizer_processor::view::{
    Baseline, Compare, Leaderboard, Measure, Regressed, Rollup, View, ViewKind, ViewOp, ViewRow,
};
use oracle::Oracle;
use run::{Said, Workers, run};
use script::{SESSIONS, STEP, Script, TUMBLING};
use std::collections::{BTreeMap, BTreeSet};

pub fn view(name: &str, definition: usize, kind: ViewKind) -> View {
    let definition = llm_optimizer_processor::event::DefinitionIndex::of(definition);
    View { name: name.into(), definition, retain: Span::from_millis(16 * STEP), kind }
}

fn leaderboard(top: usize, smallest: bool, per: &[&str]) -> ViewKind {
    let per = per.iter().map(|field| (*field).into()).collect();
    ViewKind::Leaderboard(Leaderboard { by: "average".into(), top, smallest, per })
}

fn baseline(count: u32, daily: bool, regressed: Option<Regressed>) -> ViewKind {
    let step = Span::from_millis(STEP);
    ViewKind::Baseline(Baseline { of: "average".into(), count, daily, step, regressed })
}

fn rollup(by: &[&str]) -> ViewKind {
    ViewKind::Rollup(Rollup { by: by.iter().map(|field| (*field).into()).collect() })
}

fn compare() -> ViewKind {
    let [field, champion, challenger] = ["model", "m0", "m1"].map(Into::into);
    ViewKind::Compare(Compare { field, champion, challenger, of: None })
}

/// One view of each kind, and variants.
pub fn all_views() -> Vec<View> {
    let regressed = Regressed { measure: Measure::ZScore, above: true, at: 1.0, clear: 0.2, look_back: 6 };
    vec![
        view("best", TUMBLING, leaderboard(3, false, &[])),
        view("worst_per_region", TUMBLING, leaderboard(2, true, &["region"])),
        view("against_the_last", TUMBLING, baseline(5, false, Some(regressed))),
        view("by_model", TUMBLING, rollup(&["model"])),
        view("everything", TUMBLING, rollup(&[])),
        view("duel", TUMBLING, compare()),
        view("best_sessions", SESSIONS, leaderboard(4, false, &[])),
        view("sessions_by_region", SESSIONS, rollup(&["region"])),
        view("duel_of_sessions", SESSIONS, compare()),
    ]
}

/// Applies what was said, and looks at each step.
pub fn check(views: &[View], script: &Script, said: &[Said]) {
    let mut contents: Vec<BTreeSet<ViewRow>> = views.iter().map(|_| BTreeSet::new()).collect();
    check_from(views, script, said, &mut contents);
    let last = said.iter().map(|said| said.time).max().expect("something is said");
    assert!(last.event_time() >= script.end, "the last step is at the end: {last:?}");
}

/// The same for a run that goes on from contents.
pub fn check_from(views: &[View], script: &Script, said: &[Said], contents: &mut [BTreeSet<ViewRow>]) {
    let mut steps: BTreeMap<Time, Vec<&Said>> = BTreeMap::new();
    said.iter().for_each(|said| steps.entry(said.time).or_default().push(said));
    let chain: Vec<Time> = steps.keys().copied().collect();
    for pair in chain.windows(2) {
        assert!(timely::PartialOrder::less_equal(&pair[0], &pair[1]), "steps are a chain: {pair:?}");
    }
    let mut oracle = Oracle::new(script);
    for (time, said) in steps {
        for said in said {
            let content = &mut contents[said.view];
            for (op, row) in &said.changes {
                match op {
                    ViewOp::Delete => {
                        assert!(content.remove(row), "{} takes back {row:?}, which it has not", said.view)
                    }
                    ViewOp::Insert => assert!(content.insert(row.clone()), "{} says {row:?} twice", said.view),
                }
            }
        }
        oracle.advance(time);
        for (view, content) in views.iter().zip(contents.iter()) {
            let horizon = time.event_time().saturating_sub(view.retain);
            let expected = oracle.content(view, horizon);
            let found: BTreeSet<ViewRow> = content.iter().filter(|row| row.window.end >= horizon).cloned().collect();
            assert_eq!(found, expected, "{} at {time:?}", view.name);
        }
    }
}

fn all_hold(workers: Workers, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let views = all_views();
        let script = Script::random(seed, workers.count(), 70);
        let said = run(&views, &script, workers, run::Start::default());
        check(&views, &script, &said);
    }
}

#[test]
fn every_step_of_one_worker_is_what_a_recomputation_gives() {
    all_hold(Workers::Threads(1), 0..4);
}

#[test]
fn every_step_of_two_workers_is_what_a_recomputation_gives() {
    all_hold(Workers::Threads(2), 10..14);
}

#[test]
fn every_step_of_three_workers_is_what_a_recomputation_gives() {
    all_hold(Workers::Threads(3), 20..24);
}

#[test]
fn every_step_of_two_processes_is_what_a_recomputation_gives() {
    all_hold(Workers::Processes(2), 30..32);
}

#[test]
fn daily_baselines_and_thresholds_below_hold() {
    let below = Regressed { measure: Measure::Ratio, above: false, at: 0.9, clear: 1.0, look_back: 3 };
    let differing = Regressed { measure: Measure::Difference, above: true, at: 4.0, clear: 4.0, look_back: 1 };
    let views = vec![
        view("daily", TUMBLING, baseline(3, true, Some(below))),
        view("plain", TUMBLING, baseline(1, false, None)),
        view("sudden", TUMBLING, baseline(12, false, Some(differing))),
    ];
    for seed in 40..42 {
        // Steps of six hours, so that a few days pass.
        let script = Script::random(seed, 2, 70);
        let said = run(&views, &script, Workers::Threads(2), run::Start::default());
        check(&views, &script, &said);
    }
}
