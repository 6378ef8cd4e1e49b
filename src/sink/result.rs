//! Results: what a fired window is, before any sink writes it.

use crate::event::{DefinitionIndex, GroupingKey};
use crate::time::EventTime;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A window's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// Inclusive.
    pub start: EventTime,
    /// Exclusive.
    pub end: EventTime,
}

/// What a result does to the result that stood there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResultOp {
    /// It is the window's result from now on.
    Upsert,
    /// It takes back the result with its identity.
    Retract,
}

impl ResultOp {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            ResultOp::Upsert => "upsert",
            ResultOp::Retract => "retract",
        }
    }
}

/// What made a window fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Firing {
    /// A trigger, before the window's end.
    Early,
    /// The frontier reached the window's end.
    OnTime,
    /// A late event, after that.
    Late,
}

impl Firing {
    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Firing::Early => "early",
            Firing::OnTime => "on_time",
            Firing::Late => "late",
        }
    }
}

/// One number of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum ResultValue {
    /// A count.
    Count(u64),
    /// A finite number.
    Number(f64),
    /// No value: the standard deviation of one event.
    Null,
    /// What a custom aggregate returned.
    Json(serde_json::Value),
}

/// The result of one window and key. `names` and `values` have the same length and order.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// The window.
    pub window: TimeWindow,
    /// The name of the window definition, where there are several.
    pub window_name: Option<Arc<str>>,
    /// The group.
    pub key: GroupingKey,
    /// `count`, `sum`, ... or `latency_ms.count`, ...; shared by all rows of a shape.
    pub names: Arc<[Arc<str>]>,
    /// One value a name.
    pub values: Vec<ResultValue>,
    /// 0 for the first result of this window and key, then 1, 2, ...
    pub revision: u32,
    /// Upsert or retract.
    pub op: ResultOp,
    /// What made it fire.
    pub firing: Firing,
    /// The wall clock's time at that moment.
    pub fired_at: EventTime,
    /// Of an early result: the share of partitions that were past the window's end, 0 to 1.
    pub complete: Option<f64>,
    /// The encoded accumulators behind the values, where a view reads them. Sinks do not.
    pub accumulators: Option<Arc<[u8]>>,
    /// Where it is a change of a view and no window's result: [`ResultOp::Upsert`] is an insertion, [`ResultOp::Retract`] a deletion.
    pub view: Option<ViewMark>,
}

/// What a change of a view says beside its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewMark {
    /// The view's name.
    pub name: Arc<str>,
    /// The frontier at which the change holds.
    pub frontier: EventTime,
    /// Of a deletion: whether a row of the same window and key comes in its place. Where the latest is kept by key, such a deletion is
    /// left out.
    pub is_replaced: bool,
}

impl ResultRow {
    /// Whether nothing is to be written of it where the latest is kept by key.
    pub fn is_replaced(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.is_replaced)
    }
}

/// A batch of results of one window definition, shared by the sinks.
#[derive(Clone, Debug)]
pub struct ResultBatch {
    /// The definition.
    pub definition: DefinitionIndex,
    /// The results.
    pub rows: Arc<[ResultRow]>,
}

impl ResultBatch {
    /// These results of a definition.
    pub fn new(definition: DefinitionIndex, rows: impl Into<Arc<[ResultRow]>>) -> Self {
        Self { definition, rows: rows.into() }
    }
}

/// Of a job with one definition.
impl FromIterator<ResultRow> for ResultBatch {
    fn from_iter<I: IntoIterator<Item = ResultRow>>(rows: I) -> Self {
        Self::new(DefinitionIndex::default(), rows.into_iter().collect::<Vec<_>>())
    }
}
