//! What goes into a view and what comes out of it.

use super::Figure;
use crate::event::GroupingKey;
use crate::sink::{ResultRow, TimeWindow};
use crate::time::{EventTime, Time};
use differential_dataflow::VecCollection;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A window's result as it stands: of the revisions of a window and key, one is a fact at a time. Cloning it copies pointers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// The window.
    pub window: TimeWindow,
    /// The group.
    pub key: GroupingKey,
    /// `count`, `sum`, ... or `latency_ms.count`, ...
    pub names: Arc<[Arc<str>]>,
    /// One a name.
    pub figures: Arc<[Figure]>,
    /// The encoded accumulators behind the figures, where a rollup reads them; else empty.
    pub accumulators: Arc<[u8]>,
}

impl Fact {
    /// Of a result; the accumulators are those that travel with it.
    pub fn of(row: &ResultRow) -> Self {
        Self {
            window: row.window,
            key: row.key.clone(),
            names: Arc::clone(&row.names),
            figures: row.values.iter().map(Figure::from).collect(),
            accumulators: row.accumulators.clone().unwrap_or_default(),
        }
    }

    /// The figure of this name; `None` where the result has none.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        let place = self.names.iter().position(|own| &**own == name)?;
        self.figures.get(place)
    }

    /// The figure of this name as a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.figure(name).and_then(Figure::number)
    }
}

/// One row of a view's content. In a view, window and key together have one row at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewRow {
    /// The window.
    pub window: TimeWindow,
    /// The group: the key of results, or some of its fields.
    pub key: GroupingKey,
    /// What its figures are called.
    pub names: Arc<[Arc<str>]>,
    /// One a name.
    pub figures: Arc<[Figure]>,
}

/// Whether a row came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ViewOp {
    /// It is not in the view any more.
    Delete,
    /// It is in the view from now on.
    Insert,
}

impl ViewOp {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            ViewOp::Delete => "delete",
            ViewOp::Insert => "insert",
        }
    }
}

/// One change of a view's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChange {
    /// The row.
    pub row: ViewRow,
    /// Whether it came or went.
    pub op: ViewOp,
    /// The frontier at which the change holds: every window that ends before it is complete but for late events.
    pub frontier: EventTime,
    /// Whether another row of the same window and key comes in its place, in the same step.
    pub is_replaced: bool,
}

/// The results of a window definition as they stand, in a view's dataflow.
pub type Facts<'scope> = VecCollection<'scope, Time, Fact>;

/// A view's content.
pub type ViewRows<'scope> = VecCollection<'scope, Time, ViewRow>;

/// Names shared by all rows of a view.
pub fn names(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}
