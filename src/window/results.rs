//! From accumulators to results.

use super::keys::KeySlot;
use super::names::{NameTable, Naming};
use super::state::WindowCounts;
use super::tables::Tables;
use crate::aggregate::{AccumulatorId, AccumulatorStore};
use crate::sink::{Firing, ResultOp, ResultRow, ResultValue, TimeWindow};
use crate::time::EventTime;
use crate::view::put_accumulators;
use std::sync::Arc;

/// What a result says of itself, beside its figures.
pub(super) struct Label {
    pub window: TimeWindow,
    pub key: KeySlot,
    pub revision: u32,
    pub op: ResultOp,
    pub firing: Firing,
    pub fired_at: EventTime,
    /// Of an early result: the share of partitions that were past the window's end.
    pub complete: Option<f64>,
}

/// What results are made with, borrowed together.
pub(super) struct ResultMaker<'a> {
    /// The definition's name, where there are several.
    pub window_name: Option<&'a Arc<str>>,
    pub names: &'a mut NameTable,
    pub fields: &'a [Arc<str>],
    /// The indices of the fields, by name.
    pub fields_by_name: &'a [usize],
    pub counts: &'a mut WindowCounts,
    /// Whether results take their accumulators along.
    pub takes_accumulators: bool,
}

impl ResultMaker<'_> {
    /// Makes the result of these accumulators, and counts it; retractions are counted by those who decide that they stand.
    pub(super) fn make(&mut self, label: Label, id: AccumulatorId, tables: &mut Tables<'_>) -> ResultRow {
        tables.read(id);
        let Label { window, key, revision, op, firing, fired_at, complete } = label;
        match (op, firing) {
            (ResultOp::Retract, _) => {}
            (ResultOp::Upsert, Firing::Late) => self.counts.refined += 1,
            (ResultOp::Upsert, Firing::Early) => self.counts.early += 1,
            (ResultOp::Upsert, Firing::OnTime) => self.counts.fired += 1,
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
        let accumulators = (self.takes_accumulators && op == ResultOp::Upsert).then(|| self.accumulators(id, stores));
        ResultRow {
            window,
            window_name: self.window_name.cloned(),
            key: tables.keys.key(key),
            names,
            values,
            revision,
            op,
            firing,
            fired_at,
            complete,
            accumulators,
            view: None,
        }
    }

    /// The accumulators of the fields that have values.
    fn accumulators(&self, id: AccumulatorId, stores: &[AccumulatorStore]) -> Arc<[u8]> {
        let of_field = |field: &usize| (&*self.fields[*field], &stores[*field], id);
        let present: Vec<_> =
            self.fields_by_name.iter().filter(|field| stores[**field].count(id) > 0).map(of_field).collect();
        let mut encoded = Vec::new();
        match put_accumulators(present.into_iter(), &mut encoded) {
            Ok(()) => encoded.into(),
            Err(error) => {
                // Nothing is no list of accumulators: whoever reads it ends the run.
                tracing::error!(target: "view", "a result's accumulators cannot be written: {error}");
                Arc::default()
            }
        }
    }
}
