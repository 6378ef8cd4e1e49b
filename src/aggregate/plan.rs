//! Which aggregates are computed, what that needs, and what the results are called.

use super::custom::{CustomAggregate, ErasedAggregate};
use super::mapping::Mapping;
use super::quantiles::Percentile;
use crate::config::{AggregateKind, AggregationConfig};
use crate::error::{ProcessorError, ProcessorResult};
use std::sync::{Arc, LazyLock};

/// Relative errors that a configuration may ask for.
const RELATIVE_ERRORS: std::ops::RangeInclusive<f64> = 0.001..=0.1;

/// What an accumulator holds. The count is always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Components {
    pub(super) sum: bool,
    pub(super) squares: bool,
    pub(super) min: bool,
    pub(super) max: bool,
    pub(super) quantiles: bool,
}

impl Components {
    /// What the built-in aggregates need. Percentiles need the extremes: estimates do not leave their range.
    fn of(enabled: &[AggregateKind]) -> Self {
        let any = |kinds: &[AggregateKind]| enabled.iter().any(|kind| kinds.contains(kind));
        Self {
            sum: any(&[AggregateKind::Sum, AggregateKind::Average, AggregateKind::Stddev]),
            squares: any(&[AggregateKind::Stddev]),
            min: any(&[AggregateKind::Min, AggregateKind::Percentile]),
            max: any(&[AggregateKind::Max, AggregateKind::Percentile]),
            quantiles: any(&[AggregateKind::Percentile]),
        }
    }

    /// One bit each, for encoded accumulators.
    pub(super) fn to_bits(self) -> u8 {
        [self.sum, self.squares, self.min, self.max, self.quantiles]
            .iter()
            .enumerate()
            .fold(0, |bits, (index, held)| bits | u8::from(*held) << index)
    }
}

/// Which aggregates are computed, in which order, under which names.
///
/// Results come in the order of [`AggregationConfig::enabled`], percentiles in the place of `percentile`, custom aggregates last.
#[derive(Clone, Debug)]
pub struct AggregatePlan {
    config: AggregationConfig,
    names: Vec<Arc<str>>,
    components: Components,
    percentiles: Vec<Percentile>,
    mapping: Mapping,
    customs: Vec<ErasedAggregate>,
}

impl AggregatePlan {
    /// The plan of a configuration. The errors are those of a configuration that [`crate::config`] did not make: a doubled aggregate, a
    /// percentile outside 0 to 100, percentiles not ascending, a relative error outside 0.001 to 0.1.
    pub fn new(config: &AggregationConfig) -> ProcessorResult<Self> {
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut percentiles = Vec::new();
        for (index, kind) in config.enabled.iter().enumerate() {
            if config.enabled[..index].contains(kind) {
                return Err(refusal(format!("`{}` is enabled twice; once would be right", kind.as_str())));
            }
            if *kind != AggregateKind::Percentile {
                names.push(kind.as_str().into());
                continue;
            }
            for percent in &config.percentiles {
                let percentile = Percentile::new(*percent).ok_or_else(|| {
                    refusal(format!("the percentile {percent} does not exist; 0 to 100 would be right"))
                })?;
                names.push(format!("p{percent}").into());
                percentiles.push(percentile);
            }
            if !config.percentiles.is_sorted_by(|left, right| left < right) {
                let found = &config.percentiles;
                return Err(refusal(format!("percentiles {found:?} are not in ascending order, each once")));
            }
        }
        if !RELATIVE_ERRORS.contains(&config.relative_error) {
            let found = config.relative_error;
            return Err(refusal(format!("a relative error of {found} is not possible; 0.001 to 0.1 would be right")));
        }
        Ok(Self {
            components: Components::of(&config.enabled),
            mapping: Mapping::new(config.relative_error),
            config: config.clone(),
            names,
            percentiles,
            customs: Vec::new(),
        })
    }

    /// Adds an aggregate of the user's own, after those that are there. An empty name, or one that is taken, is an error.
    pub fn with_custom<A: CustomAggregate>(self, aggregate: A) -> ProcessorResult<Self> {
        self.with_erased(ErasedAggregate::new(aggregate))
    }

    fn with_erased(mut self, aggregate: ErasedAggregate) -> ProcessorResult<Self> {
        let name = aggregate.name();
        if name.is_empty() {
            return Err(refusal("a custom aggregate needs a name".to_owned()));
        }
        if self.names.contains(name) {
            return Err(refusal(format!("two aggregates are called `{name}`; the custom one needs another name")));
        }
        self.names.push(Arc::clone(name));
        self.customs.push(aggregate);
        Ok(self)
    }

    /// The plan of another configuration with the same custom aggregates.
    pub fn with_config(&self, config: &AggregationConfig) -> ProcessorResult<Self> {
        self.customs.iter().cloned().try_fold(Self::new(config)?, Self::with_erased)
    }

    /// The plan of [`AggregationConfig::everything`]: all aggregates, p50, p95 and p99, 1 % of relative error.
    pub fn everything() -> Arc<Self> {
        static PLAN: LazyLock<Arc<AggregatePlan>> = LazyLock::new(|| {
            Arc::new(AggregatePlan::new(&AggregationConfig::everything()).expect("the default aggregates are valid"))
        });
        Arc::clone(&PLAN)
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &AggregationConfig {
        &self.config
    }

    /// What an accumulator keeps, in words: accumulators of plans that keep the same can take each other's place.
    pub fn kept(&self) -> Vec<String> {
        let Components { sum, squares, min, max, quantiles } = self.components;
        let kept = [(true, "count"), (sum, "sum"), (squares, "squares"), (min, "min"), (max, "max")];
        let mut words: Vec<String> =
            kept.into_iter().filter(|(kept, _)| *kept).map(|(_, word)| word.to_owned()).collect();
        if quantiles {
            words.push(format!("percentiles within {}", self.config.relative_error));
        }
        words.extend(self.customs.iter().map(|custom| format!("custom {}", custom.name())));
        words
    }

    /// The names of the results of one value field, in the order in which [`super::AccumulatorStore::result`] gives them.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    pub(super) fn components(&self) -> Components {
        self.components
    }

    pub(super) fn percentiles(&self) -> &[Percentile] {
        &self.percentiles
    }

    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(super) fn customs(&self) -> &[ErasedAggregate] {
        &self.customs
    }
}

impl AggregationConfig {
    /// All aggregates, the percentiles 50, 95 and 99, a relative error of 1 %.
    pub fn everything() -> Self {
        Self { enabled: AggregateKind::ALL.to_vec(), percentiles: vec![50.0, 95.0, 99.0], relative_error: 0.01 }
    }
}

fn refusal(what: String) -> ProcessorError {
    ProcessorError::Config(format!("aggregation: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(enabled: &[AggregateKind], percentiles: &[f64]) -> ProcessorResult<AggregatePlan> {
        AggregatePlan::new(&AggregationConfig {
            enabled: enabled.to_vec(),
            percentiles: percentiles.to_vec(),
            relative_error: 0.01,
        })
    }

    #[test]
    fn names_follow_the_configured_order() {
        let plan = plan(
            &[AggregateKind::Max, AggregateKind::Percentile, AggregateKind::Count],
            &[0.0, 50.0, 99.0, 99.9, 100.0],
        )
        .unwrap();
        let names: Vec<&str> = plan.names().iter().map(|name| &**name).collect();
        assert_eq!(names, ["max", "p0", "p50", "p99", "p99.9", "p100", "count"]);
    }

    #[test]
    fn only_what_is_enabled_is_kept() {
        let bits = |kinds: &[AggregateKind]| plan(kinds, &[50.0]).unwrap().components().to_bits();
        assert_eq!(bits(&[AggregateKind::Count]), 0);
        assert_eq!(bits(&[AggregateKind::Average]), 0b1);
        assert_eq!(bits(&[AggregateKind::Stddev]), 0b11);
        assert_eq!(bits(&[AggregateKind::Min]), 0b100);
        assert_eq!(bits(&[AggregateKind::Percentile]), 0b11100);
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let message =
            |enabled: &[AggregateKind], percentiles: &[f64]| plan(enabled, percentiles).unwrap_err().to_string();
        let twice = [AggregateKind::Sum, AggregateKind::Sum];
        assert_eq!(message(&twice, &[]), "aggregation: `sum` is enabled twice; once would be right");
        assert!(message(&[AggregateKind::Percentile], &[101.0]).contains("101 does not exist"));
        assert!(message(&[AggregateKind::Percentile], &[50.0, 50.0]).contains("ascending"));
        let config = AggregationConfig { relative_error: 0.5, ..AggregationConfig::everything() };
        assert!(AggregatePlan::new(&config).unwrap_err().to_string().contains("0.001 to 0.1"));
    }
}
