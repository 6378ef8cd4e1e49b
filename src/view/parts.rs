//! What is behind a result, in the two parts that a rollup adds up apart: see [`crate::aggregate::Difference`].
//!
//! The model: [`Sums`] of many results are a difference in the sense of differential dataflow, so a changed result changes them at
//! the cost of itself. [`Spread`]s are combined, those of a group 16 at a time.

use crate::aggregate::{Bounds, Difference};
use differential_dataflow::difference::{IsZero, Multiply, Semigroup};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;

/// By field, ascending.
type ByField<T> = Vec<(Arc<str>, T)>;

/// What a number of results have in them together, less what others have. Cloning it copies a pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sums(Arc<Fields>);

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Fields {
    /// How many results. A group of results without values is there too.
    results: i64,
    fields: ByField<Difference>,
}

impl Sums {
    /// Of one result.
    pub fn of(fields: ByField<Difference>) -> Self {
        debug_assert!(fields.is_sorted_by(|one, other| one.0 < other.0), "each field once, in order");
        Self(Arc::new(Fields { results: 1, fields }))
    }

    /// Something that stands beside sums, once.
    pub fn one() -> Self {
        Self::of(Vec::new())
    }

    /// By field.
    pub fn fields(&self) -> &[(Arc<str>, Difference)] {
        &self.0.fields
    }
}

impl IsZero for Sums {
    fn is_zero(&self) -> bool {
        self.0.results == 0 && self.0.fields.is_empty()
    }
}

impl Semigroup for Sums {
    fn plus_equals(&mut self, other: &Self) {
        let mine = Arc::make_mut(&mut self.0);
        mine.results += other.0.results;
        add_by_field(&mut mine.fields, &other.0.fields, Semigroup::plus_equals);
        mine.fields.retain(|(_, difference)| !difference.is_zero());
    }
}

impl Multiply<isize> for Sums {
    type Output = Sums;

    /// A result comes, or goes; more of it at a time are added that often.
    fn multiply(mut self, times: &isize) -> Sums {
        if *times < 0 {
            let mine = Arc::make_mut(&mut self.0);
            mine.results = -mine.results;
            mine.fields.iter_mut().for_each(|(_, difference)| difference.negate());
        }
        let one = self.clone();
        match times.unsigned_abs() {
            0 => Sums(Arc::default()),
            times => {
                (1..times).for_each(|_| self.plus_equals(&one));
                self
            }
        }
    }
}

/// What of a number of results can only be combined. Cloning it copies a pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spread(Arc<ByField<Bounds>>);

impl Spread {
    /// Of one result.
    pub fn of(fields: ByField<Bounds>) -> Self {
        debug_assert!(fields.is_sorted_by(|one, other| one.0 < other.0), "each field once, in order");
        Self(Arc::new(fields))
    }

    /// Of all of these.
    pub fn combined(parts: &[&Spread]) -> Self {
        let mut all = parts.first().map_or_else(Vec::new, |first| first.0.to_vec());
        for part in parts.iter().skip(1) {
            add_by_field(&mut all, &part.0, Bounds::combine);
        }
        Self::of(all)
    }

    /// Of a field.
    pub fn field(&self, name: &str) -> Option<&Bounds> {
        let place = self.0.binary_search_by(|(own, _)| (**own).cmp(name)).ok()?;
        Some(&self.0[place].1)
    }
}

fn add_by_field<T: Clone>(all: &mut ByField<T>, more: &ByField<T>, add: impl Fn(&mut T, &T)) {
    let mut place = 0;
    for (field, one) in more {
        while all.get(place).is_some_and(|(own, _)| own < field) {
            place += 1;
        }
        match all.get_mut(place).map(|(own, own_one)| ((*own).cmp(field), own_one)) {
            Some((Ordering::Equal, own)) => add(own, one),
            _ => all.insert(place, (Arc::clone(field), one.clone())),
        }
    }
}

/// What is known of a group: its sums as often as they say, and its spread once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// They are the difference.
    Sums,
    /// It is the value.
    Spread(Spread),
}
