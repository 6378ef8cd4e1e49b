//! Accumulators against exact rational arithmetic and sorted vectors: results, and the same bytes whatever the way values came.

use llm_optimizer_processor::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan, CustomAggregate};
use llm_optimizer_processor::config::{AggregateKind, AggregationConfig};
use llm_optimizer_processor::sink::ResultValue;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{FromPrimitive, Signed, ToPrimitive, Zero};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::sync::Arc;

const PERCENTILES: [f64; 9] = [0.0, 1.0, 10.0, 50.0, 75.0, 95.0, 99.0, 99.9, 100.0];

fn plan(relative_error: f64) -> Arc<AggregatePlan> {
    let config =
        AggregationConfig { enabled: AggregateKind::ALL.to_vec(), percentiles: PERCENTILES.to_vec(), relative_error };
    Arc::new(AggregatePlan::new(&config).unwrap())
}

/// Values of every kind: ordinary latencies, whole numbers, any bits, the ends of the range, and those that cancel each other.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 1.0f64..10_000.0,
        2 => (-1000i32..1000).prop_map(f64::from),
        1 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
        1 => (0u64..1 << 52, any::<bool>()).prop_map(|(bits, negative)| {
            if negative { -f64::from_bits(bits) } else { f64::from_bits(bits) }
        }),
        1 => prop::sample::select(vec![
            0.0, -0.0, f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 5e-324, -5e-324, 1e300, -1e300, 1e-300, 1e15, 1e15 + 1.0,
        ]),
    ]
}

fn values(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![prop::collection::vec(value(), count.clone()), prop::collection::vec(10.0f64..1000.0, count)]
}

/// Few values, some of them very often.
fn repeated() -> impl Strategy<Value = Vec<f64>> {
    let times = prop::sample::select(vec![1, 3, 33, 127, 128, 200, 255, 256, 300, 32_768, 65_535, 65_536]);
    let value = prop::sample::select(vec![1.0, 1.001, 90.0, 100.0, 101.0, 4_000.0, 5e6, -3.0, 0.0]);
    prop::collection::vec((value, times), 0..6)
        .prop_map(|parts| parts.into_iter().flat_map(|(value, times)| vec![value; times]).collect())
}

fn fill(store: &mut AccumulatorStore, values: &[f64]) -> AccumulatorId {
    let id = store.create();
    store.add_column(&vec![id; values.len()], values);
    id
}

fn encoded(store: &AccumulatorStore, id: AccumulatorId) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.encode(id, &mut bytes).unwrap();
    bytes
}

fn results(store: &AccumulatorStore, id: AccumulatorId) -> Vec<(String, ResultValue)> {
    let mut out = Vec::new();
    store.result(id, &mut out);
    assert_eq!(out.len(), store.plan().names().len());
    store.plan().names().iter().map(|name| name.to_string()).zip(out).collect()
}

fn find(results: &[(String, ResultValue)], name: &str) -> Option<f64> {
    match &results.iter().find(|(found, _)| found == name).unwrap().1 {
        ResultValue::Number(number) => Some(*number),
        ResultValue::Null => None,
        other => panic!("{name} is {other:?}"),
    }
}

fn exact(value: f64) -> BigRational {
    BigRational::from_f64(value).unwrap()
}

/// Whether no other `f64` is nearer to `truth` than `found`; `None` is right from half a unit beyond the greatest.
fn is_nearest(found: Option<f64>, truth: &BigRational) -> bool {
    let greatest = exact(f64::MAX);
    let beyond = &greatest + exact(2f64.powi(969)) * BigRational::from_integer(BigInt::from(2));
    let Some(found) = found else { return truth.abs() >= beyond };
    let distance = |value: f64| (exact(value) - truth).abs();
    let neighbours = [found.next_up(), found.next_down()];
    truth.abs() < beyond
        && neighbours.iter().filter(|other| other.is_finite()).all(|other| {
            let (mine, theirs) = (distance(found), distance(*other));
            mine < theirs || (mine == theirs && found.to_bits() & 1 == 0)
        })
}

fn rank(percent: f64, count: usize) -> usize {
    let thousandths = (percent * 1000.0).round() as usize;
    (thousandths * count).div_ceil(100_000).clamp(1, count)
}

/// Adds `values` in the order and with the cuts and merges that `choices` say.
fn scattered(store: &mut AccumulatorStore, values: &[f64], choices: &[u64]) -> AccumulatorId {
    let choice = |index: usize| choices[index % choices.len()].rotate_left((index / choices.len()) as u32 % 64);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|index| choice(*index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let parts: Vec<AccumulatorId> = (0..1 + choices[0] as usize % 5).map(|_| store.create()).collect();
    let (mut ids, mut batch) = (Vec::new(), Vec::new());
    for index in order {
        ids.push(parts[choice(index + 1) as usize % parts.len()]);
        batch.push(values[index]);
        if choice(index + 2) % 7 == 0 {
            ids.push(parts[0]);
            batch.push(f64::NAN);
            store.add_column(&std::mem::take(&mut ids), &std::mem::take(&mut batch));
        }
    }
    store.add_dense(&ids, &batch);
    let mut parts = parts;
    while parts.len() > 1 {
        let from = parts.swap_remove(choice(parts.len()) as usize % parts.len());
        let into = parts[0];
        store.merge(into, from);
        store.remove(from);
    }
    parts[0]
}

#[test]
fn values_that_cancel_have_a_deviation() {
    let mut store = AccumulatorStore::new(plan(0.01));
    for (values, deviation) in [
        (vec![1.0, -1.0], std::f64::consts::SQRT_2),
        (vec![5.0, -5.0, 0.0], 5.0),
        (vec![3e-300, -3e-300, 0.0], 3e-300),
        (vec![1e300, -1e300, 0.0], 1e300),
        (vec![1e15, -1e15, 7.0, -7.0, 0.0], 1e15 / std::f64::consts::SQRT_2),
    ] {
        let id = fill(&mut store, &values);
        let found = results(&store, id);
        assert_eq!(find(&found, "sum"), Some(0.0));
        let stddev = find(&found, "stddev").unwrap();
        assert!((stddev / deviation - 1.0).abs() < 1e-15, "{values:?}: {stddev}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_way_values_came_leaves_no_trace(values in values(0..120), choices in prop::collection::vec(any::<u64>(), 1..40)) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let straight = fill(&mut store, &values);
        let way = scattered(&mut store, &values, &choices);
        prop_assert_eq!(encoded(&store, straight), encoded(&store, way));
        prop_assert_eq!(results(&store, straight), results(&store, way));

        let mut other = AccumulatorStore::new(plan(0.01));
        let half = fill(&mut other, &values[values.len() / 2..]);
        let merged = fill(&mut store, &values[..values.len() / 2]);
        store.merge_from(merged, &other, half).unwrap();
        prop_assert_eq!(encoded(&store, straight), encoded(&store, merged));
    }

    /// Whatever the target held before.
    #[test]
    fn a_sum_of_two_is_all_their_values(
        parts in prop::collection::vec((values(0..90), values(0..90)), 1..5), before in values(0..90)
    ) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let target = fill(&mut store, &before);
        for (one, other) in parts {
            let (first, second) = (fill(&mut store, &one), fill(&mut store, &other));
            store.set_to_sum(target, first, second);
            let all = fill(&mut store, &[one, other].concat());
            prop_assert_eq!(encoded(&store, target), encoded(&store, all));
            prop_assert_eq!(results(&store, target), results(&store, all));
        }
    }

    /// Counters of 8, 16 and 32 bits on either side, and those that overflow by the sum.
    #[test]
    fn counters_of_every_width_are_added(one in repeated(), other in repeated(), before in repeated()) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let (all, target) = (fill(&mut store, &one), fill(&mut store, &before));
        let (first, second) = (fill(&mut store, &one), fill(&mut store, &other));
        store.add_dense(&vec![all; other.len()], &other);
        store.set_to_sum(target, first, second);
        prop_assert_eq!(encoded(&store, target), encoded(&store, all));
        store.merge(first, second);
        prop_assert_eq!(encoded(&store, first), encoded(&store, all));
        prop_assert_eq!(results(&store, first), results(&store, all));
    }

    #[test]
    fn sums_and_means_are_the_nearest_numbers(values in values(1..80)) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let id = fill(&mut store, &values);
        let results = results(&store, id);
        let sum: BigRational = values.iter().map(|value| exact(*value)).sum();
        let mean = &sum / BigRational::from_integer(BigInt::from(values.len()));
        prop_assert_eq!(&results[0].1, &ResultValue::Count(values.len() as u64));
        prop_assert!(is_nearest(find(&results, "sum"), &sum), "{:?}", results);
        prop_assert!(is_nearest(find(&results, "average"), &mean), "{:?}", results);
        prop_assert_eq!(find(&results, "min"), values.iter().copied().reduce(f64::min));
        prop_assert_eq!(find(&results, "max"), values.iter().copied().reduce(f64::max));
    }

    #[test]
    fn the_deviation_is_right_to_the_last_bits(values in values(2..60)) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let id = fill(&mut store, &values);
        let found = find(&results(&store, id), "stddev");
        let count = BigRational::from_integer(BigInt::from(values.len()));
        let mean = values.iter().map(|value| exact(*value)).sum::<BigRational>() / &count;
        let squares: BigRational = values.iter().map(|value| (exact(*value) - &mean).pow(2)).sum();
        let variance = squares / (count - BigRational::from_integer(BigInt::from(1)));
        match found {
            Some(found) if variance.is_zero() => prop_assert_eq!(found, 0.0),
            // Around the least numbers the result has fewer than 53 bits.
            Some(found) if found < 1e-300 => {
                let (low, high) = (exact((found - 1e-323).max(0.0)).pow(2), exact(found + 1e-323).pow(2));
                prop_assert!(low <= variance && variance <= high * exact(1.0 + 1e-14));
            }
            Some(found) => {
                let error = (exact(found).pow(2) / &variance - exact(1.0)).abs();
                prop_assert!(error.to_f64().unwrap() < 2e-15, "{} {:?}", found, error.to_f64());
            }
            None => prop_assert!(variance > exact(f64::MAX * (1.0 - 1e-15)).pow(2)),
        }
    }

    #[test]
    fn percentiles_are_exact_or_within_the_error(values in values(1..200), error in 0.001f64..0.1) {
        let mut store = AccumulatorStore::new(plan(error));
        let id = fill(&mut store, &values);
        let results = results(&store, id);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for percent in PERCENTILES {
            let truth = sorted[rank(percent, sorted.len()) - 1];
            let found = find(&results, &format!("p{percent}")).unwrap();
            let tolerance = if sorted.len() <= 32 || percent == 100.0 { 0.0 } else { error * truth.abs() + 5e-324 };
            prop_assert!((found - truth).abs() <= tolerance, "p{}: {} for {}", percent, found, truth);
        }
    }

    #[test]
    fn what_was_encoded_is_decoded(before in values(0..100), after in values(0..60)) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let id = fill(&mut store, &before);
        let bytes = encoded(&store, id);
        let copy = store.decode(&bytes).unwrap();
        prop_assert_eq!(&encoded(&store, copy), &bytes);
        prop_assert_eq!(results(&store, copy), results(&store, id));
        for target in [id, copy] {
            store.add_column(&vec![target; after.len()], &after);
        }
        prop_assert_eq!(encoded(&store, copy), encoded(&store, id));
    }

    #[test]
    fn damage_is_an_error_or_another_accumulator(
        values in values(0..100),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut store = AccumulatorStore::new(plan(0.01));
        let id = fill(&mut store, &values);
        let mut bytes = encoded(&store, id);
        let length = bytes.len();
        prop_assert!(store.decode(&bytes[..cut.index(length)]).is_err());
        for (index, bit) in flips {
            bytes[index.index(length)] ^= 1 << bit;
        }
        check_decoded(&mut store, &bytes);
    }

    #[test]
    fn any_bytes_are_an_error_or_an_accumulator(noise in prop::collection::vec(any::<u8>(), 0..200), count in 0u8..60) {
        let mut store = AccumulatorStore::new(plan(0.01));
        check_decoded(&mut store, &noise);
        check_decoded(&mut store, &[&[1, 0b11111, count][..], &noise].concat());
    }
}

/// What a store accepts must be whole: it can be read, merged, fed, and written as it was.
fn check_decoded(store: &mut AccumulatorStore, bytes: &[u8]) {
    let before = store.len();
    match store.decode(bytes) {
        Ok(id) => {
            assert_eq!(encoded(store, id), bytes);
            results(store, id);
            let other = fill(store, &[1.0, -1e300, 0.0, 1e-310]);
            store.merge(other, id);
            store.merge(id, other);
            results(store, id);
        }
        Err(error) => {
            assert!(error.to_string().starts_with("state: an encoded accumulator of "), "{error}");
            assert_eq!(store.len(), before);
        }
    }
}

#[test]
fn close_values_far_from_zero_have_the_right_deviation() {
    let mut store = AccumulatorStore::new(plan(0.01));
    let id = fill(&mut store, &[1e15, 1e15 + 1.0, 1e15 + 2.0]);
    assert_eq!(find(&results(&store, id), "stddev"), Some(1.0));
    let id = fill(&mut store, &[1e300, -1e300, 1.0, 2.0, 3.0]);
    assert_eq!(find(&results(&store, id), "sum"), Some(6.0));
}

#[test]
fn what_does_not_exist_is_null() {
    let mut store = AccumulatorStore::new(plan(0.01));
    let id = store.create();
    let empty = results(&store, id);
    assert_eq!(empty[0].1, ResultValue::Count(0));
    assert_eq!(find(&empty, "sum"), Some(0.0));
    assert!(empty[2..].iter().all(|(_, value)| *value == ResultValue::Null), "{empty:?}");
    store.add_column(&[id, id, id], &[f64::NAN, 7.0, f64::INFINITY]);
    let one = results(&store, id);
    assert_eq!((store.count(id), find(&one, "stddev"), find(&one, "p50")), (1, None, Some(7.0)));
    store.add(id, f64::MAX);
    store.add(id, f64::MAX);
    assert_eq!(find(&results(&store, id), "sum"), None, "beyond the range");
    assert!(find(&results(&store, id), "average").is_some());
}

#[test]
fn many_values_in_one_bin_widen_its_counter() {
    let mut store = AccumulatorStore::new(plan(0.01));
    let batch: Vec<f64> = (0..1000).map(|index| if index == 0 { 900.0 } else { 100.0 }).collect();
    let id = store.create();
    for _ in 0..100 {
        store.add_dense(&vec![id; batch.len()], &batch);
    }
    let results = results(&store, id);
    assert_eq!((find(&results, "p99.9"), store.count(id)), (Some(100.0), 100_000));
    let copy = store.decode(&encoded(&store, id)).unwrap();
    assert_eq!(encoded(&store, copy), encoded(&store, id));
}

#[test]
fn a_removed_accumulator_leaves_nothing_to_the_next() {
    let mut store = AccumulatorStore::new(plan(0.01));
    let fresh = store.create();
    let first = fill(&mut store, &[1.0, -2.0, 1e300, 1e-300]);
    store.remove(first);
    let second = store.create();
    assert_eq!(second, first, "the place is used again");
    assert_eq!(encoded(&store, second), encoded(&store, fresh));
    assert_eq!(store.len(), 2);
}

#[test]
fn other_plans_are_refused() {
    let mut store = AccumulatorStore::new(plan(0.01));
    let many: Vec<f64> = (1..100).map(f64::from).collect();
    let id = fill(&mut store, &many);
    let bytes = encoded(&store, id);
    let mut coarse = AccumulatorStore::new(plan(0.05));
    let message = coarse.decode(&bytes).unwrap_err().to_string();
    assert!(message.contains("35 bins an octave"), "{message}");
    let target = coarse.create();
    assert!(coarse.merge_from(target, &store, id).is_err());
    let only_sum = AggregationConfig { enabled: vec![AggregateKind::Sum], ..AggregationConfig::everything() };
    let mut sums = AccumulatorStore::new(Arc::new(AggregatePlan::new(&only_sum).unwrap()));
    let message = sums.decode(&bytes).unwrap_err().to_string();
    assert!(message.contains("it keeps 0b11111 where the configured aggregates keep 0b00001"), "{message}");
}

/// The spread of values: a custom aggregate with a state of its own.
struct Spread(&'static str);

impl CustomAggregate for Spread {
    type State = Option<(f64, f64)>;

    fn name(&self) -> &str {
        self.0
    }

    fn create(&self) -> Self::State {
        None
    }

    fn add(&self, state: &mut Self::State, value: f64) {
        let (least, most) = state.unwrap_or((value, value));
        *state = Some((least.min(value), most.max(value)));
    }

    fn merge(&self, state: &mut Self::State, other: &Self::State) {
        if let Some((least, most)) = other {
            self.add(state, *least);
            self.add(state, *most);
        }
    }

    fn result(&self, state: &Self::State) -> serde_json::Value {
        state.map_or(serde_json::Value::Null, |(least, most)| (most - least).into())
    }
}

#[test]
fn custom_aggregates_come_last_and_survive_encoding() {
    let config = AggregationConfig { enabled: vec![AggregateKind::Count], ..AggregationConfig::everything() };
    let plan = AggregatePlan::new(&config).unwrap().with_custom(Spread("spread")).unwrap();
    assert!(
        plan.clone()
            .with_custom(Spread("count"))
            .unwrap_err()
            .to_string()
            .contains("two aggregates are called `count`")
    );
    let mut store = AccumulatorStore::new(Arc::new(plan));
    let (left, right) = (fill(&mut store, &[0.1, 5.7]), fill(&mut store, &[-0.3, f64::NAN]));
    store.merge(left, right);
    let expected = vec![
        ("count".to_owned(), ResultValue::Count(3)),
        ("spread".to_owned(), ResultValue::Json((5.7 - -0.3).into())),
    ];
    assert_eq!(results(&store, left), expected);
    let bytes = encoded(&store, left);
    let copy = store.decode(&bytes).unwrap();
    assert_eq!((results(&store, copy), encoded(&store, copy)), (expected, bytes.clone()));
    let damaged = String::from_utf8_lossy(&bytes).replace('[', "(").into_bytes();
    let message = store.decode(&damaged).unwrap_err().to_string();
    assert!(message.contains("the saved state of the aggregate `spread` cannot be read"), "{message}");
    let mut other = AccumulatorStore::new(Arc::clone(store.plan()));
    let target = other.create();
    other.merge_from(target, &store, right).unwrap();
    assert_eq!(results(&other, target)[1].1, ResultValue::Json(0.0.into()));
}
