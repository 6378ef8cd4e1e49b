//! Runs views over a script.

use crate::script::{Action, PLAN, Script};
use kafka_broker::process::free_addresses;
use llm_optimizer_processor::dataflows::views::{ViewParts, views};
use llm_optimizer_processor::event::DefinitionIndex;
use llm_optimizer_processor::sink::{ResultBatch, ResultRow};
use llm_optimizer_processor::time::{Epoch, Time};
use llm_optimizer_processor::view::release::Keeper;
use llm_optimizer_processor::view::retained::Retained;
use llm_optimizer_processor::view::{Figures, View, ViewBoard, ViewChange, ViewOp, ViewRow};
use llm_optimizer_processor::window::Naming;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::UnorderedInput;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::{Handle, Probe};

#[derive(Clone, Copy, Debug)]
pub enum Workers {
    Threads(usize),
    /// Each with one worker.
    Processes(usize),
}

impl Workers {
    pub fn count(self) -> usize {
        match self {
            Workers::Threads(count) | Workers::Processes(count) => count,
        }
    }
}

/// A step's changes of a view.
#[derive(Clone, Debug)]
pub struct Said {
    pub time: Time,
    pub view: usize,
    pub changes: Vec<(ViewOp, ViewRow)>,
}

/// What each worker goes on from.
#[derive(Clone, Default)]
pub struct Start {
    pub epoch: Epoch,
    /// What is retained, on the worker at this place.
    #[allow(clippy::type_complexity)]
    pub retained: Option<Arc<dyn Fn(usize, &mut Retained) + Send + Sync>>,
    #[allow(clippy::type_complexity)]
    pub keeper: Option<Arc<dyn Fn(usize) -> Box<dyn Keeper> + Send + Sync>>,
}

pub fn figures() -> Figures {
    Figures {
        plan: Arc::clone(&PLAN),
        naming: Naming::Bare,
        fields: vec!["latency_ms".into()],
        fail: Rc::new(|error| panic!("{error}")),
    }
}

/// Runs a script to its end.
pub fn run(views: &[View], script: &Script, workers: Workers, start: Start) -> Vec<Said> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let configs = match workers {
        Workers::Threads(count) => vec![timely::Config::process(count)],
        Workers::Processes(count) => {
            let addresses: Vec<String> = free_addresses(count);
            let config = |process| timely::Config {
                communication: timely::CommunicationConfig::Cluster {
                    threads: 1,
                    process,
                    addresses: addresses.clone(),
                    report: false,
                    zerocopy: false,
                },
                worker: timely::WorkerConfig::default(),
            };
            (0..count).map(config).collect()
        }
    };
    let processes: Vec<_> = configs
        .into_iter()
        .map(|config| {
            let (views, script, said, start) = (views.to_vec(), script.clone(), Arc::clone(&said), start.clone());
            std::thread::spawn(move || {
                let board = ViewBoard::new(&views);
                let guards = timely::execute(config, move |worker| {
                    run_worker(worker, &views, &script, &start, board.clone(), &said);
                });
                guards.expect("workers start").join().into_iter().for_each(|worker| worker.expect("a worker ends"));
            })
        })
        .collect();
    processes.into_iter().for_each(|process| process.join().expect("a process ends"));
    Arc::try_unwrap(said).expect("all have ended").into_inner().unwrap()
}

fn run_worker(
    worker: &mut timely::worker::Worker,
    views_of_job: &[View],
    script: &Script,
    start: &Start,
    board: ViewBoard,
    said: &Arc<Mutex<Vec<Said>>>,
) {
    let index = worker.index();
    let actions = &script.workers[index];
    let mut random = ChaCha8Rng::seed_from_u64(index as u64 + 77);
    let mut retained = Retained::new(views_of_job);
    if let Some(restore) = &start.retained {
        restore(index, &mut retained);
    }
    let changes: Rc<RefCell<Vec<(usize, ViewChange)>>> = Rc::default();
    let (probe, taken) = (Handle::<Time>::new(), Rc::clone(&changes));
    let (mut input, mut capability) = worker.dataflow::<Time, _, _>(|scope| {
        let (input, results) = scope.new_unordered_input::<CapacityContainerBuilder<Vec<ResultBatch>>>();
        let parts = ViewParts {
            views: views_of_job.to_vec(),
            figures: views_of_job.iter().map(|_| figures()).collect(),
            retained,
            keeper: start.keeper.as_ref().map(|make| make(index)),
            first: start.epoch,
            board,
            encode: Rc::new(move |view, change: ViewChange| {
                let row = plain(&change);
                changes.borrow_mut().push((view, change));
                row
            }),
            first_stream: DefinitionIndex::of(2),
        };
        let said = Arc::clone(said);
        views(results, parts)
            .unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "say", move |_, _| {
                move |(input, _), _output| {
                    input.for_each(|capability, batches| {
                        let time = *capability.stamp().iter().next().unwrap();
                        for batch in batches.drain(..) {
                            let view = usize::from(batch.definition.0) - 2;
                            let mut of_batch = Vec::new();
                            let mut waiting = taken.borrow_mut();
                            let rest: Vec<_> = waiting.split_off(batch.rows.len());
                            for (of, change) in std::mem::replace(&mut *waiting, rest) {
                                assert_eq!((of, change.frontier), (view, time.event_time()));
                                of_batch.push((change.op, change.row));
                            }
                            said.lock().unwrap().push(Said { time, view, changes: of_batch });
                        }
                    });
                }
            })
            .probe_with(&probe);
        input
    });
    for action in actions {
        match action {
            Action::Send(sent) => {
                assert_eq!(sent.time, *capability.time(), "a script sends at its time");
                input.activate().session(&capability).give(ResultBatch::new(sent.definition(), vec![sent.row()]));
            }
            Action::Advance(time) => {
                capability.downgrade(time);
                while random.random_bool(0.5) {
                    worker.step();
                }
            }
            Action::Pause => std::thread::sleep(std::time::Duration::from_micros(random.random_range(0..300))),
        }
    }
    drop(capability);
    drop(input);
    while !probe.done() {
        worker.step_or_park(Some(std::time::Duration::from_millis(10)));
    }
}

/// The row is not looked at: only how many there are.
fn plain(change: &ViewChange) -> ResultRow {
    ResultRow {
        window: change.row.window,
        window_name: None,
        key: change.row.key.clone(),
        names: std::sync::Arc::default(),
        values: Vec::new(),
        revision: 0,
        op: llm_optimizer_processor::sink::ResultOp::Upsert,
        firing: llm_optimizer_processor::sink::Firing::OnTime,
        fired_at: change.frontier,
        complete: None,
        accumulators: None,
        view: None,
    }
}
