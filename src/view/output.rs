//! From a view's changes to what sinks and people see.
//!
//! The model: the changes of a view meet on one worker, so that a step is whole in one place. They wait until their time is closed;
//! then they are added up, what is in the view afterwards and was not before is inserted, and the reverse is deleted. Rows of
//! windows that have expired leave the state without a word. What an earlier run had put into the view comes at the least time and
//! is not said again.

use super::board::ViewBoard;
use super::{View, ViewChange, ViewOp, ViewRow};
use crate::event::{DefinitionIndex, fnv};
use crate::sink::{ResultBatch, ResultRow};
use crate::time::{EventTime, Time};
use differential_dataflow::consolidation::consolidate;
use std::collections::{BTreeMap, BTreeSet};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Timestamp;
use timely::progress::frontier::MutableAntichain;

/// A view's content and what changes it, without timely.
#[derive(Debug, Default)]
pub struct Content {
    rows: BTreeMap<ViewRow, isize>,
}

impl Content {
    /// Adds up what changes. Returns the rows that went and came: rows that went first, each in order.
    pub fn apply(&mut self, mut updates: Vec<(ViewRow, isize)>) -> Vec<(ViewOp, ViewRow)> {
        consolidate(&mut updates);
        let mut changes = Vec::new();
        for (row, change) in updates {
            let before = self.rows.get(&row).copied().unwrap_or(0);
            let after = before + change;
            match after {
                0 => self.rows.remove(&row),
                _ => self.rows.insert(row.clone(), after),
            };
            match (before > 0, after > 0) {
                (false, true) => changes.push((ViewOp::Insert, row)),
                (true, false) => changes.push((ViewOp::Delete, row)),
                _ => {}
            }
        }
        changes.sort();
        changes
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What is said of the rows that went and came at a frontier: nothing of windows that end before `horizon`.
pub fn say(changes: Vec<(ViewOp, ViewRow)>, frontier: EventTime, horizon: EventTime) -> Vec<ViewChange> {
    let inserted: BTreeSet<_> =
        changes.iter().filter(|(op, _)| *op == ViewOp::Insert).map(|(_, row)| (row.window, row.key.clone())).collect();
    let said = changes.into_iter().filter(|(_, row)| row.window.end >= horizon).map(|(op, row)| ViewChange {
        is_replaced: op == ViewOp::Delete && inserted.contains(&(row.window, row.key.clone())),
        row,
        op,
        frontier,
    });
    said.collect()
}

/// Changes that wait for their time to be closed, and what allows them to be said.
type Waiting = BTreeMap<Time, (Capability<Time>, Vec<(ViewRow, isize)>)>;

/// Builds the operator of a view. `stream`: what the view's changes are among the results of a job; `closed`: up to where an earlier
/// run had closed.
pub fn output<'scope>(
    changes: Stream<'scope, Time, Vec<(ViewRow, Time, isize)>>,
    view: &View,
    place: usize,
    board: ViewBoard,
    encode: impl Fn(ViewChange) -> ResultRow + 'static,
    stream: DefinitionIndex,
    closed: EventTime,
) -> Stream<'scope, Time, Vec<ResultBatch>> {
    let keeper = fnv(view.name.as_bytes());
    let retain = view.retain;
    let scope = changes.scope();
    let is_here = keeper % scope.peers() as u64 == scope.index() as u64;
    let mut builder = OperatorBuilder::new(format!("view-{}", view.name), scope);
    let mut input = builder.new_input(changes, Exchange::new(move |_: &(ViewRow, Time, isize)| keeper));
    let (output, results) = builder.new_output::<Vec<ResultBatch>>();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<ResultBatch>>>::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut content = Content::default();
        let mut waiting: Waiting = BTreeMap::new();
        if is_here {
            board.is_kept_here(place);
        }
        move |frontiers: &[MutableAntichain<Time>]| {
            input.for_each(|capability, updates| {
                for (row, time, change) in updates.drain(..) {
                    let at_its_time = || (capability.delayed(&time, 0), Vec::new());
                    waiting.entry(time).or_insert_with(at_its_time).1.push((row, change));
                }
            });
            while let Some(entry) = waiting.first_entry().filter(|entry| !frontiers[0].less_equal(entry.key())) {
                let (time, (capability, updates)) = entry.remove_entry();
                let changes = content.apply(updates);
                let frontier = if time == Time::minimum() { closed } else { time.event_time() };
                let horizon = frontier.saturating_sub(retain);
                board.apply(place, frontier, horizon, &changes);
                if time == Time::minimum() {
                    continue;
                }
                let rows: Vec<ResultRow> = say(changes, frontier, horizon).into_iter().map(&encode).collect();
                if !rows.is_empty() {
                    output.activate().session(&capability).give(ResultBatch::new(stream, rows));
                }
            }
        }
    });
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::GroupingKey;
    use crate::sink::TimeWindow;
    use crate::view::{Figure, names};

    fn row(end: i64, key: &str, rank: u64) -> ViewRow {
        let at = EventTime::from_millis;
        ViewRow {
            window: TimeWindow { start: at(end - 10), end: at(end) },
            key: GroupingKey::from_fields(&[("k", key)]),
            names: names(&["rank"]),
            figures: [Figure::Count(rank)].into(),
        }
    }

    #[test]
    fn what_comes_and_goes_in_one_step_is_not_said() {
        let mut content = Content::default();
        let changes = content.apply(vec![(row(10, "a", 1), 1), (row(10, "b", 2), 1), (row(10, "b", 2), -1)]);
        assert_eq!(changes, [(ViewOp::Insert, row(10, "a", 1))]);
        let changes = content.apply(vec![(row(10, "a", 2), 1), (row(10, "a", 1), -1), (row(10, "b", 1), 1)]);
        let [deleted, inserted, other] = &say(changes, EventTime::from_millis(20), EventTime::MIN)[..] else {
            panic!()
        };
        assert_eq!((deleted.op, deleted.is_replaced, &deleted.row), (ViewOp::Delete, true, &row(10, "a", 1)));
        assert_eq!((inserted.op, &inserted.row), (ViewOp::Insert, &row(10, "a", 2)));
        assert_eq!((other.op, &other.row), (ViewOp::Insert, &row(10, "b", 1)));
        assert_eq!(content.len(), 2);
    }

    #[test]
    fn nothing_is_said_of_windows_before_the_horizon() {
        let mut content = Content::default();
        content.apply(vec![(row(10, "a", 1), 1), (row(30, "a", 1), 1)]);
        let changes = content.apply(vec![(row(10, "a", 1), -1), (row(30, "a", 1), -1)]);
        let said = say(changes, EventTime::from_millis(50), EventTime::from_millis(20));
        assert_eq!(said.iter().map(|change| &change.row).collect::<Vec<_>>(), [&row(30, "a", 1)]);
        assert!(!said[0].is_replaced && content.is_empty());
    }

    #[test]
    fn rows_that_are_there_several_times_are_said_once() {
        let mut content = Content::default();
        assert_eq!(content.apply(vec![(row(10, "a", 1), 2)]).len(), 1);
        assert_eq!(content.apply(vec![(row(10, "a", 1), -1)]), []);
        assert_eq!(content.apply(vec![(row(10, "a", 1), -1)]), [(ViewOp::Delete, row(10, "a", 1))]);
    }
}
