//! Aggregates of the user's own.
//!
//! The model: a [`CustomAggregate`] describes how a state is created, fed, merged and read; the store keeps the states of all
//! accumulators in one column, so that a batch costs one virtual call, not one per value.
//!
//! How it fails: a state that cannot be written as JSON or read back is a [`ProcessorError::State`] that names the aggregate.

use super::store::AccumulatorId;
use crate::error::{ProcessorError, ProcessorResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// An aggregate that the library does not have.
///
/// Results are the same at any number of workers and after any crash only if they depend on neither the order of values nor the
/// way they were split and merged; and its encoding only if equal states are equal JSON (no hash maps).
pub trait CustomAggregate: Send + Sync + 'static {
    /// What is kept per window and key. It is written to checkpoints as JSON.
    type State: Serialize + DeserializeOwned + Send + 'static;

    /// The name in results. No other aggregate of the plan may have it.
    fn name(&self) -> &str;

    /// The state of a window without values.
    fn create(&self) -> Self::State;

    /// Takes a value, which is finite.
    fn add(&self, state: &mut Self::State, value: f64);

    /// Takes all that another state took.
    fn merge(&self, state: &mut Self::State, other: &Self::State);

    /// The result.
    fn result(&self, state: &Self::State) -> serde_json::Value;
}

/// A custom aggregate without its types.
#[derive(Clone)]
pub(super) struct ErasedAggregate {
    name: Arc<str>,
    make: Arc<dyn Fn() -> Box<dyn CustomColumn> + Send + Sync>,
}

impl ErasedAggregate {
    pub(super) fn new<A: CustomAggregate>(aggregate: A) -> Self {
        let name = Arc::from(aggregate.name());
        let aggregate = Arc::new(aggregate);
        let make = Arc::new(move || -> Box<dyn CustomColumn> {
            Box::new(TypedColumn { aggregate: Arc::clone(&aggregate), states: Vec::new() })
        });
        Self { name, make }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// An empty column.
    pub(super) fn column(&self) -> Box<dyn CustomColumn> {
        (self.make)()
    }
}

impl fmt::Debug for ErasedAggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ErasedAggregate").field(&self.name).finish()
    }
}

/// The states of all accumulators of a store, for one custom aggregate.
pub(super) trait CustomColumn: Send + Any {
    /// Puts an empty state in the place of `id`, which is within the column or next to it.
    fn create(&mut self, id: AccumulatorId);
    /// Drops the state.
    fn remove(&mut self, id: AccumulatorId);
    /// Takes a batch.
    fn add(&mut self, ids: &[AccumulatorId], values: &[f64]);
    /// Merges within the column.
    fn merge(&mut self, into: AccumulatorId, from: AccumulatorId);
    /// Merges from the same aggregate's column of another store.
    fn merge_from(&mut self, into: AccumulatorId, other: &dyn CustomColumn, from: AccumulatorId);
    /// The result.
    fn result(&self, id: AccumulatorId) -> serde_json::Value;
    /// The state as JSON.
    fn encode(&self, id: AccumulatorId) -> ProcessorResult<Vec<u8>>;
    /// Replaces the state by an encoded one.
    fn decode(&mut self, id: AccumulatorId, bytes: &[u8]) -> ProcessorResult<()>;
    /// Bytes of the column itself; what the states own elsewhere is not known.
    fn heap_bytes(&self) -> usize;
}

struct TypedColumn<A: CustomAggregate> {
    aggregate: Arc<A>,
    states: Vec<Option<A::State>>,
}

impl<A: CustomAggregate> TypedColumn<A> {
    fn state(&self, id: AccumulatorId) -> &A::State {
        self.states[id.index()].as_ref().expect("an accumulator has a state from its creation to its removal")
    }
}

impl<A: CustomAggregate> CustomColumn for TypedColumn<A> {
    fn create(&mut self, id: AccumulatorId) {
        if id.index() == self.states.len() {
            self.states.push(None);
        }
        self.states[id.index()] = Some(self.aggregate.create());
    }

    fn remove(&mut self, id: AccumulatorId) {
        self.states[id.index()] = None;
    }

    fn add(&mut self, ids: &[AccumulatorId], values: &[f64]) {
        for (id, value) in ids.iter().zip(values) {
            if let Some(state) = &mut self.states[id.index()] {
                self.aggregate.add(state, *value);
            }
        }
    }

    fn merge(&mut self, into: AccumulatorId, from: AccumulatorId) {
        if let Some(mut state) = self.states[into.index()].take() {
            self.aggregate.merge(&mut state, self.state(from));
            self.states[into.index()] = Some(state);
        }
    }

    fn merge_from(&mut self, into: AccumulatorId, other: &dyn CustomColumn, from: AccumulatorId) {
        let other: &dyn Any = other;
        let other = other.downcast_ref::<Self>().expect("stores of one plan have columns of the same types");
        if let Some(state) = &mut self.states[into.index()] {
            self.aggregate.merge(state, other.state(from));
        }
    }

    fn result(&self, id: AccumulatorId) -> serde_json::Value {
        self.aggregate.result(self.state(id))
    }

    fn encode(&self, id: AccumulatorId) -> ProcessorResult<Vec<u8>> {
        sonic_rs::to_vec(self.state(id)).map_err(|error| {
            ProcessorError::State(format!("the state of the aggregate `{}` is no JSON: {error}", self.aggregate.name()))
        })
    }

    fn decode(&mut self, id: AccumulatorId, bytes: &[u8]) -> ProcessorResult<()> {
        let state = sonic_rs::from_slice(bytes).map_err(|error| {
            let name = self.aggregate.name();
            ProcessorError::State(format!("the saved state of the aggregate `{name}` cannot be read: {error}"))
        })?;
        self.states[id.index()] = Some(state);
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        self.states.capacity() * size_of::<Option<A::State>>()
    }
}
