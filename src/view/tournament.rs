//! Combining many values so that a change costs what it changes, not what is there.
//!
//! The model: the values of a group fall into 4,096 buckets by a hash; each bucket is combined, then 16 buckets at a time into one
//! of the next level, until one is left. A changed value changes one bucket a level, so it costs the size of a bucket and 16
//! combined values a level. What is combined must not depend on order or grouping: the k first, or the sum of exact accumulators.

use crate::time::Time;
use differential_dataflow::{ExchangeData, VecCollection};
use serde::{Deserialize, Serialize};
use std::hash::Hash;

/// Bits of the buckets of each level, from the leaves; the last is the whole group.
const LEVELS: [u32; 4] = [12, 8, 4, 0];

/// A value, told apart from an equal one of another bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Placed<V> {
    value: V,
    bucket: u32,
}

/// Combines the values of each group. `combine` is given values in their order, several equal ones too, and returns those that stand
/// for them; no value may stand there twice.
pub fn tournament<'scope, G, V>(
    name: &'static str,
    leaves: VecCollection<'scope, Time, ((G, u64), V)>,
    combine: impl Fn(&[&V]) -> Vec<V> + Clone + 'static,
) -> VecCollection<'scope, Time, (G, V)>
where
    G: ExchangeData + Hash,
    V: ExchangeData,
{
    let mixed = |hash: u64| (hash ^ (hash >> 32) ^ (hash >> 17)) as u32 & ((1 << LEVELS[0]) - 1);
    let mut level = leaves.map(move |((group, hash), value)| ((mixed(hash), group), Placed { value, bucket: 0 }));
    for (bits, finer) in LEVELS.iter().zip(std::iter::once(&LEVELS[0]).chain(&LEVELS)) {
        let (shift, combine) = (finer - bits, combine.clone());
        let buckets = match shift {
            0 => level,
            _ => level.map(move |((bucket, group), Placed { value, .. })| {
                ((bucket >> shift, group), Placed { value, bucket })
            }),
        };
        level = buckets.reduce_named(name, move |_bucket, values, combined| {
            let values: Vec<&V> = values
                .iter()
                .flat_map(|(placed, times)| std::iter::repeat_n(&placed.value, usize::try_from(*times).unwrap_or(0)))
                .collect();
            combined.extend(combine(&values).into_iter().map(|value| (Placed { value, bucket: 0 }, 1)));
        });
    }
    level.map(|((_, group), Placed { value, .. })| (group, value))
}
