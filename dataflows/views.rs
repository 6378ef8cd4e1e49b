//! Results in, the changes of all views of a job out.
//!
//! ```text
//! results --+--stamps--> closings --+
//!           +-----------------------+--> release --+--> program of one view ------> output --+--> changes
//!                                                  +--> program of another view --> output --+
//! ```

use crate::event::DefinitionIndex;
use crate::sink::{ResultBatch, ResultRow};
use crate::time::{Epoch, Time};
use crate::view::closing::closings;
use crate::view::output::output;
use crate::view::release::{Keeper, release};
use crate::view::retained::Retained;
use crate::view::{Figures, View, ViewBoard, ViewChange};
use differential_dataflow::AsCollection;
use std::rc::Rc;
use timely::dataflow::Stream;
use timely::dataflow::operators::Concatenate;

/// What the views of one worker need from their surroundings.
pub struct ViewParts {
    /// The views.
    pub views: Vec<View>,
    /// What figures are made with, one a view.
    pub figures: Vec<Figures>,
    /// What an earlier run had.
    pub retained: Retained,
    /// Keeps what is retained, in a job that takes checkpoints.
    pub keeper: Option<Box<dyn Keeper>>,
    /// The first epoch.
    pub first: Epoch,
    /// Where the content is shown.
    pub board: ViewBoard,
    /// Makes the record of a change of the view at a place.
    pub encode: Rc<dyn Fn(usize, ViewChange) -> ResultRow>,
    /// What the changes of the first view are among the results; those of the others follow.
    pub first_stream: DefinitionIndex,
}

/// Wires the views. The changes are results of streams of their own.
pub fn views<'scope>(
    results: Stream<'scope, Time, Vec<ResultBatch>>,
    parts: ViewParts,
) -> Stream<'scope, Time, Vec<ResultBatch>> {
    let ViewParts { views, figures, retained, keeper, first, board, encode, first_stream } = parts;
    let scope = results.scope();
    let closed = retained.closed();
    let closings = closings(results.clone(), &retained, first);
    let facts = release(results, closings, retained, keeper, &views);
    let changes = facts.into_iter().zip(&views).zip(figures).enumerate().map(|(place, ((facts, view), figures))| {
        let rows = view.build(facts.as_collection(), figures);
        let encode = Rc::clone(&encode);
        let stream = DefinitionIndex(first_stream.0 + place as u8);
        output(rows.inner, view, place, board.clone(), move |change| encode(place, change), stream, closed)
    });
    let changes: Vec<_> = changes.collect();
    scope.concatenate(changes)
}
