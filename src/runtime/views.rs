//! The views of a run: what one worker's share of them is made of, and how their changes become records.

use super::job::Running;
use crate::checkpoint::WorkerEpochs;
use crate::config::{ProcessorConfig, ViewConfig, WindowDefinition};
use crate::dataflows::views::ViewParts;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::DefinitionIndex;
use crate::metrics::ProcessorMetrics;
use crate::sink::{Firing, ResultOp, ResultRow, ResultValue, ViewMark};
use crate::time::Epoch;
use crate::view::check::Surroundings;
use crate::view::keeper::EpochKeeper;
use crate::view::release::Keeper;
use crate::view::retained::Retained;
use crate::view::{Figures, View, ViewChange, ViewOp};
use std::rc::Rc;
use std::sync::Arc;

/// What is wrong with the views of a job, given what its aggregates are called, by definition. What the configuration's own reader has
/// found is found again here only for views of a program.
pub fn check(config: &ProcessorConfig, aggregates: &[Vec<Arc<str>>]) -> ProcessorResult<()> {
    let definitions = config.window_definitions();
    let streams = definitions.len() + config.views.len();
    if streams > DefinitionIndex::MOST {
        return Err(ProcessorError::Config(format!(
            "{} views beside {} window definitions; {} together at most would be right",
            config.views.len(),
            definitions.len(),
            DefinitionIndex::MOST
        )));
    }
    let of_view = |ViewConfig { view, .. }: &ViewConfig| {
        let place = usize::from(view.definition.0);
        let surroundings =
            Surroundings { windows: &definitions[place].windows, aggregates: &aggregates[place], key_fields: None };
        let line = |problem: crate::view::check::ViewProblem| {
            let (found, right) = (problem.found, problem.right);
            format!("view {}: {}: {found}; {right} would be right", view.name, problem.key)
        };
        view.problems(surroundings).into_iter().map(line).collect::<Vec<_>>()
    };
    let problems: Vec<String> = config.views.iter().flat_map(of_view).collect();
    if problems.is_empty() { Ok(()) } else { Err(ProcessorError::Config(problems.join("\n"))) }
}

/// What the views of a worker are made of, with what an earlier run had; `None` where there are none.
pub fn parts(running: &Running, local: usize, epochs: Option<WorkerEpochs>) -> ProcessorResult<Option<ViewParts>> {
    let job = &running.job;
    if job.config.views.is_empty() {
        return Ok(None);
    }
    let views: Vec<View> = job.config.views.iter().map(|config| config.view.clone()).collect();
    let mut retained = Retained::new(&views);
    if let Some(checkpoints) = running.checkpoints() {
        retained.track_changes();
        checkpoints.restore_views(local, &mut retained)?;
    }
    let definitions = job.config.window_definitions();
    let first = epochs.as_ref().map_or(Epoch::FIRST, |epochs| epochs.first().epoch);
    let keeper = epochs.map(|epochs| Box::new(EpochKeeper::new(epochs)) as Box<dyn Keeper>);
    let figures = views.iter().map(|view| figures(running, view)).collect();
    Ok(Some(ViewParts {
        figures,
        retained,
        keeper,
        first,
        board: job.board.views(),
        encode: encoder(&views, &definitions, &job.metrics),
        first_stream: DefinitionIndex::of(definitions.len()),
        views,
    }))
}

fn figures(running: &Running, view: &View) -> Figures {
    let control = running.control().clone();
    let (plan, naming, fields) = running.figures_of(view.definition);
    Figures { plan, naming, fields, fail: Rc::new(move |error| control.fail(error)) }
}

/// What makes records of changes, and counts them.
fn encoder(
    views: &[View],
    definitions: &[WindowDefinition],
    metrics: &ProcessorMetrics,
) -> Rc<dyn Fn(usize, ViewChange) -> ResultRow> {
    let named = |view: &View| {
        let window_name = definitions[usize::from(view.definition.0)].name.clone();
        (Arc::clone(&view.name), window_name, metrics.view(&view.name))
    };
    let names: Vec<_> = views.iter().map(named).collect();
    Rc::new(move |place, change: ViewChange| {
        let ViewChange { row, op, frontier, is_replaced } = change;
        let (name, window_name, metrics) = &names[place];
        metrics.record_change(op);
        ResultRow {
            window: row.window,
            window_name: window_name.clone(),
            key: row.key,
            names: row.names,
            values: row.figures.iter().map(ResultValue::from).collect(),
            revision: 0,
            op: match op {
                ViewOp::Insert => ResultOp::Upsert,
                ViewOp::Delete => ResultOp::Retract,
            },
            firing: Firing::OnTime,
            fired_at: frontier,
            complete: None,
            accumulators: None,
            view: Some(ViewMark { name: Arc::clone(name), frontier, is_replaced }),
        }
    })
}
