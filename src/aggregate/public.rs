//! One accumulator by itself: what a library user keeps per window.
//!
//! The model is the store's, with one accumulator in it: the same results, the same encoding.

use super::plan::AggregatePlan;
use super::store::{AccumulatorId, AccumulatorStore};
use crate::config::{AggregateKind, AggregationConfig};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::GroupingKey;
use crate::sink::ResultValue;
use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A window of time, of one group of events or of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Inclusive.
    pub start: DateTime<Utc>,
    /// Exclusive.
    pub end: DateTime<Utc>,
    /// The group; `None` where events are not grouped. Serialized as its canonical JSON text.
    #[serde(with = "key_as_text", default)]
    pub key: Option<GroupingKey>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}, {:?})", self.start, self.end)?;
        match &self.key {
            Some(key) => write!(f, " {key}"),
            None => Ok(()),
        }
    }
}

/// What was computed for a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregationResult {
    /// The window.
    pub window: Window,
    /// By name: `count`, `sum`, `average`, `min`, `max`, `stddev`, `p95`, ... Counts are whole numbers, the others finite numbers, or
    /// null where there is no value.
    pub results: HashMap<String, serde_json::Value>,
    /// When it was computed, by the wall clock.
    pub timestamp: DateTime<Utc>,
}

/// The aggregates of one window, fed by hand.
///
/// ```
/// use chrono::{DateTime, Utc};
/// use llm_optimizer_processor::aggregate::{AggregationState, Window};
/// let window = Window { start: DateTime::<Utc>::UNIX_EPOCH, end: DateTime::<Utc>::MAX_UTC, key: None };
/// let mut state = AggregationState::new(window);
/// state.add_value(42.0);
/// state.add_value(50.0);
/// let result = state.to_result();
/// assert_eq!(result.results["count"], 2);
/// assert_eq!(result.results["average"], 46.0);
/// assert_eq!(result.results["p95"], 50.0);
/// ```
pub struct AggregationState {
    window: Window,
    store: AccumulatorStore,
    id: AccumulatorId,
    rejected: u64,
}

impl AggregationState {
    /// All aggregates, with the percentiles 50, 95 and 99.
    pub fn new(window: Window) -> Self {
        Self::with_plan(window, AggregatePlan::everything())
    }

    /// The aggregates of a configuration. Fails as [`AggregatePlan::new`] does.
    pub fn with_config(window: Window, config: &AggregationConfig) -> ProcessorResult<Self> {
        Ok(Self::with_plan(window, Arc::new(AggregatePlan::new(config)?)))
    }

    /// The aggregates of a plan. A state with custom aggregates cannot be serialized, because what was saved would not say how to
    /// compute them.
    pub fn with_plan(window: Window, plan: Arc<AggregatePlan>) -> Self {
        let mut store = AccumulatorStore::new(plan);
        let id = store.create();
        Self { window, store, id, rejected: 0 }
    }

    /// The window.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.store.count(self.id)
    }

    /// How many values [`AggregationState::add_value`] passed over because they were no finite numbers.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Adds a value. NaN and infinities are passed over and counted in [`AggregationState::rejected`];
    /// [`AggregationState::try_add_value`] makes them errors.
    pub fn add_value(&mut self, value: f64) {
        if value.is_finite() {
            self.store.add(self.id, value);
        } else {
            self.rejected += 1;
        }
    }

    /// Adds a value, if it is a finite number.
    pub fn try_add_value(&mut self, value: f64) -> ProcessorResult<()> {
        if !value.is_finite() {
            let window = &self.window;
            return Err(ProcessorError::BadRecord(format!(
                "{value} cannot be aggregated in the window {window}: a finite number would be right"
            )));
        }
        self.store.add(self.id, value);
        Ok(())
    }

    /// Adds the values of another state, of this window or of a part of it; the window stays as it is. Fails where the two compute
    /// different aggregates.
    pub fn merge(&mut self, other: &AggregationState) -> ProcessorResult<()> {
        self.store.merge_from(self.id, &other.store, other.id)?;
        self.rejected = self.rejected.saturating_add(other.rejected);
        Ok(())
    }

    /// The results so far.
    pub fn to_result(&self) -> AggregationResult {
        let mut values = Vec::new();
        self.store.result(self.id, &mut values);
        let names = self.store.plan().names().iter().map(|name| name.to_string());
        AggregationResult {
            window: self.window.clone(),
            results: names.zip(values.into_iter().map(json)).collect(),
            timestamp: Utc::now(),
        }
    }

    /// The encoded accumulator: the same bytes for the same multiset of values. Fails only where a custom aggregate's state cannot
    /// be written.
    pub fn encode(&self) -> ProcessorResult<Vec<u8>> {
        let mut bytes = Vec::new();
        self.store.encode(self.id, &mut bytes)?;
        Ok(bytes)
    }
}

impl Clone for AggregationState {
    fn clone(&self) -> Self {
        let mut copy = Self::with_plan(self.window.clone(), Arc::clone(self.store.plan()));
        copy.store.merge_from(copy.id, &self.store, self.id).expect("both have one plan");
        copy.rejected = self.rejected;
        copy
    }
}

impl fmt::Debug for AggregationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregationState")
            .field("window", &self.window)
            .field("count", &self.count())
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

/// What is written of an [`AggregationState`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "AggregationState")]
struct Saved {
    window: Window,
    enabled: Vec<String>,
    percentiles: Vec<f64>,
    relative_error: f64,
    rejected: u64,
    /// The encoded accumulator in base64.
    accumulator: String,
}

impl Serialize for AggregationState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plan = self.store.plan();
        if !plan.customs().is_empty() {
            return Err(ser::Error::custom("a state with custom aggregates cannot be serialized"));
        }
        let config = plan.config();
        Saved {
            window: self.window.clone(),
            enabled: config.enabled.iter().map(|kind| kind.as_str().to_owned()).collect(),
            percentiles: config.percentiles.clone(),
            relative_error: config.relative_error,
            rejected: self.rejected,
            accumulator: BASE64_STANDARD.encode(self.encode().map_err(ser::Error::custom)?),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AggregationState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(deserializer)?;
        Self::restore(saved).map_err(de::Error::custom)
    }
}

impl AggregationState {
    fn restore(saved: Saved) -> ProcessorResult<Self> {
        let damaged = |what: String| ProcessorError::State(format!("a saved aggregation state: {what}"));
        let kind = |word: &String| {
            let kind = AggregateKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            kind.ok_or_else(|| damaged(format!("`{word}` is no aggregate")))
        };
        let config = AggregationConfig {
            enabled: saved.enabled.iter().map(kind).collect::<ProcessorResult<_>>()?,
            percentiles: saved.percentiles,
            relative_error: saved.relative_error,
        };
        let bytes = BASE64_STANDARD.decode(&saved.accumulator).map_err(|error| damaged(error.to_string()))?;
        let plan = match AggregatePlan::everything() {
            everything if *everything.config() == config => everything,
            _ => Arc::new(AggregatePlan::new(&config)?),
        };
        let mut store = AccumulatorStore::new(plan);
        let id = store.decode(&bytes)?;
        Ok(Self { window: saved.window, store, id, rejected: saved.rejected })
    }
}

/// A result as JSON.
fn json(value: ResultValue) -> serde_json::Value {
    match value {
        ResultValue::Count(count) => count.into(),
        ResultValue::Number(number) => number.into(),
        ResultValue::Null => serde_json::Value::Null,
        ResultValue::Json(value) => value,
    }
}

/// A key as its canonical text, which keeps the order of its fields in every format.
mod key_as_text {
    use crate::event::GroupingKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &Option<GroupingKey>, serializer: S) -> Result<S::Ok, S::Error> {
        key.as_ref().map(GroupingKey::as_json).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GroupingKey>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(GroupingKey::from_canonical_json))
    }
}
