//! Combining many values so that a change costs what it changes, not what is there.
//!
//! The model: the values of a group fall into buckets by a hash; each bucket is combined, then some buckets at a time into one of the
//! next level, until one is left. A changed value changes one bucket a level, so it costs the size of a bucket and as many
//! combined values a level as buckets go into one. What is combined must not depend on order or grouping: the k first, or the sum
//! of exact accumulators.

use crate::time::Time;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use differential_dataflow::{ExchangeData, VecCollection};
use serde::{Deserialize, Serialize};
use std::hash::Hash;

/// Bits of the buckets of each level, from the leaves; the last is the whole group.
pub type Levels = &'static [u32];

/// Where every change goes through all levels: each looks at few values.
pub const ALL_LEVELS_CHANGE: Levels = &[12, 8, 4, 0];
/// Where most changes are without consequence beyond their leaf: of the ten best of some fifty keys two in five changes of a key
/// change something, of those of four hundred one in twenty. So the lowest levels are close together.
pub const LEAVES_CHANGE: Levels = &[11, 8, 4, 0];

/// A value, told apart from an equal one of another bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Placed<V> {
    value: V,
    bucket: u32,
}

/// Values on their way through the levels: in the buckets of so many bits.
struct Level<'scope, G: 'static, V: 'static> {
    bits: u32,
    values: VecCollection<'scope, Time, ((u32, G), Placed<V>)>,
}

impl<'scope, G: ExchangeData + Hash, V: ExchangeData> Level<'scope, G, V> {
    /// Combines each bucket, and puts what comes out into the buckets of the next level.
    fn combined(self, name: &'static str, bits: u32, combine: impl Fn(&[&V]) -> Vec<V> + 'static) -> Self {
        let shift = self.bits - bits;
        let values = self.reduced(
            name,
            move |_group, values| combine(values),
            move |(bucket, group), value| {
                ((bucket >> shift, group.clone()), Placed { value: value.clone(), bucket: *bucket })
            },
        );
        Self { bits, values }
    }

    /// Makes something of each bucket's values. It is read from where the operator keeps it anyway, in one step with what follows.
    fn reduced<R: ExchangeData, D: ExchangeData>(
        self,
        name: &'static str,
        make: impl Fn(&G, &[&V]) -> Vec<R> + 'static,
        read: impl Fn(&(u32, G), &R) -> D + 'static,
    ) -> VecCollection<'scope, Time, D> {
        let logic = move |(_, group): &(u32, G), values: &[(&Placed<V>, isize)], made: &mut Vec<(R, isize)>| {
            made.extend(make(group, &all(values)).into_iter().map(|made| (made, 1)));
        };
        self.values
            .arrange_by_key_named(name)
            .reduce_abelian::<_, ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, _, _>(
                name,
                logic,
                |updates, key, made| {
                    updates.clear();
                    updates.extend(made.drain(..).map(|(made, time, change)| ((key.clone(), made), time, change)));
                },
            )
            .as_collection(read)
    }
}

/// The values, each as often as it is there.
fn all<'a, V>(values: &[(&'a Placed<V>, isize)]) -> Vec<&'a V> {
    let times = |times: isize| usize::try_from(times).unwrap_or(0);
    values.iter().flat_map(|(placed, count)| std::iter::repeat_n(&placed.value, times(*count))).collect()
}

/// Combines the values of each group. `enter` says what of a record takes part: its group, a hash of what it is of, and the value.
/// `combine` is given values in their order, several equal ones too, and returns those that stand for them; no value may stand there
/// twice.
pub fn tournament<'scope, F, G, V, I>(
    name: &'static str,
    levels: Levels,
    records: VecCollection<'scope, Time, F>,
    enter: impl Fn(F) -> I + 'static,
    combine: impl Fn(&[&V]) -> Vec<V> + Clone + 'static,
) -> VecCollection<'scope, Time, (G, V)>
where
    F: Clone + 'static,
    G: ExchangeData + Hash,
    V: ExchangeData,
    I: IntoIterator<Item = ((G, u64), V)> + 'static,
{
    let finish = {
        let combine = combine.clone();
        move |_group: &G, values: &[&V]| combine(values)
    };
    tournament_into(name, levels, records, enter, combine, finish)
}

/// The same, and makes of each group's values something else at the end: `finish` is given what `combine` would be.
pub fn tournament_into<'scope, F, G, V, I, R>(
    name: &'static str,
    levels: Levels,
    records: VecCollection<'scope, Time, F>,
    enter: impl Fn(F) -> I + 'static,
    combine: impl Fn(&[&V]) -> Vec<V> + Clone + 'static,
    finish: impl Fn(&G, &[&V]) -> Vec<R> + 'static,
) -> VecCollection<'scope, Time, (G, R)>
where
    F: Clone + 'static,
    G: ExchangeData + Hash,
    V: ExchangeData,
    I: IntoIterator<Item = ((G, u64), V)> + 'static,
    R: ExchangeData,
{
    let (first, further) = levels.split_first().expect("a tournament has levels");
    let (bits, leaves) = (*first, (1 << first) - 1);
    let mixed = move |hash: u64| (hash ^ (hash >> 32) ^ (hash >> 17)) as u32 & leaves;
    let placed = move |((group, hash), value)| ((mixed(hash), group), Placed { value, bucket: 0 });
    let values = records.flat_map(move |record| enter(record).into_iter().map(placed));
    let level = Level { bits, values };
    let last = further.iter().fold(level, |level, bits| level.combined(name, *bits, combine.clone()));
    debug_assert_eq!(last.bits, 0, "the last level is the whole group");
    last.reduced(name, finish, |(_bucket, group), made| (group.clone(), made.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Epoch, EventTime};
    use differential_dataflow::AsCollection;
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::rc::Rc;
    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::operators::core::UnorderedInput;
    use timely::dataflow::operators::probe::Handle;

    /// A value and its hash.
    type Entry = (u64, u64);

    /// Feeds steps of changes to a tournament for the three least; what stands after each.
    fn least_after_each(levels: Levels, steps: Vec<Vec<(Entry, isize)>>) -> Vec<BTreeSet<u64>> {
        timely::execute_directly(move |worker| {
            let probe = Handle::new();
            let standing = Rc::new(RefCell::new(BTreeMap::<u64, isize>::new()));
            let seen = Rc::clone(&standing);
            let (mut input, mut capability) = worker.dataflow(|scope| {
                let (input, entries) =
                    scope.new_unordered_input::<CapacityContainerBuilder<Vec<(Entry, Time, isize)>>>();
                let enter = |(hash, value): Entry| Some((((), hash), value));
                let combine = |values: &[&u64]| values.iter().take(3).map(|value| **value).collect();
                let finish = |_group: &(), values: &[&u64]| values.iter().take(3).map(|value| **value).collect();
                tournament_into("test", levels, entries.as_collection(), enter, combine, finish)
                    .inspect(move |((_, value), _, change)| *seen.borrow_mut().entry(*value).or_default() += change)
                    .probe_with(&probe);
                input
            });
            let mut after = Vec::new();
            for (step, changes) in steps.into_iter().enumerate() {
                let at = *capability.time();
                let updates = changes.into_iter().map(|(entry, change)| (entry, at, change));
                input.activate().session(&capability).give_iterator(updates);
                let time = Time::new(Epoch::FIRST, EventTime::from_millis(step as i64));
                capability.downgrade(&time);
                worker.step_while(|| probe.less_than(&time));
                let standing = standing.borrow();
                assert!(standing.values().all(|count| (0..=1).contains(count)), "{standing:?}");
                after.push(standing.iter().filter(|(_, count)| **count > 0).map(|(value, _)| *value).collect());
            }
            after
        })
    }

    #[test]
    fn the_best_are_those_of_a_sorted_list_however_full_the_buckets_are() {
        for (levels, hashes) in [(LEAVES_CHANGE, 7), (LEAVES_CHANGE, u64::MAX), (ALL_LEVELS_CHANGE, 7), (&[0][..], 7)] {
            let entry = |value: u64| (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) % hashes, value);
            let mut steps = vec![(0..3_000).map(|index| (entry(index * 7_919 % 3_000), 1)).collect::<Vec<_>>()];
            // The best go, some of them come back, and others come that have no place among them.
            for step in 0..40 {
                let gone = (step * 2..step * 2 + 2).map(|value| (entry(value), -1));
                let back = (step % 3 == 0).then_some((entry(step * 2), 1));
                steps.push(gone.chain(back).chain([(entry(5_000 + step), 1)]).collect());
            }
            let mut all = BTreeSet::new();
            let mut expected = Vec::new();
            for step in &steps {
                for ((_, value), change) in step {
                    match change {
                        1 => all.insert(*value),
                        _ => all.remove(value),
                    };
                }
                expected.push(all.iter().take(3).copied().collect::<BTreeSet<u64>>());
            }
            assert_eq!(least_after_each(levels, steps), expected, "{levels:?}, {hashes} hashes");
        }
    }
}
