//! From accumulators to results.

use super::keys::KeySlot;
use super::names::{NameTable, Naming};
use super::state::WindowCounts;
use super::tables::Tables;
use crate::aggregate::AccumulatorId;
use crate::sink::{Firing, ResultOp, ResultRow, ResultValue, TimeWindow};
use crate::time::EventTime;
use std::sync::Arc;

/// What a result says of itself, beside its figures.
pub(super) struct Label {
    pub window: TimeWindow,
    pub key: KeySlot,
    pub revision: u32,
    pub op: ResultOp,
    pub firing: Firing,
    pub fired_at: EventTime,
}

/// What results are made with, borrowed together.
pub(super) struct ResultMaker<'a> {
    pub names: &'a mut NameTable,
    pub fields: &'a [Arc<str>],
    /// The indices of the fields, by name.
    pub fields_by_name: &'a [usize],
    pub counts: &'a mut WindowCounts,
}

impl ResultMaker<'_> {
    /// Makes the result of these accumulators, and counts it; retractions are counted by those who decide that they stand.
    pub(super) fn make(&mut self, label: Label, id: AccumulatorId, tables: &Tables<'_>) -> ResultRow {
        let Label { window, key, revision, op, firing, fired_at } = label;
        match (op, firing) {
            (ResultOp::Retract, _) => {}
            (ResultOp::Upsert, Firing::Late) => self.counts.refined += 1,
            (ResultOp::Upsert, _) => self.counts.fired += 1,
        }
        let stores = &tables.stores;
        let shown: Vec<usize> = match self.names.naming() {
            Naming::Bare | Naming::Qualified => (0..self.fields.len()).collect(),
            Naming::AsTheyCome => {
                self.fields_by_name.iter().copied().filter(|field| stores[*field].count(id) > 0).collect()
            }
        };
        let names = self.names.names(&shown, self.fields);
        let mut values: Vec<ResultValue> = Vec::with_capacity(names.len());
        for field in &shown {
            stores[*field].result(id, &mut values);
        }
        ResultRow {
            window,
            window_name: None,
            key: tables.keys.key(key),
            names,
            values,
            revision,
            op,
            firing,
            fired_at,
        }
    }
}
