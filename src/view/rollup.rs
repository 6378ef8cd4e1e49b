//! Aggregates over fewer key fields, from the accumulators behind the results.
//!
//! The model: with a result travel its accumulators, one a value field; those of a group are added up, and the figures are read from
//! what comes out. Accumulators are exact and do not depend on the order of adding (see [`crate::aggregate`]), so a rollup's
//! percentiles and deviations are those of all events of the group, as if windows had been kept for it. What was added is taken out
//! again when a result changes (see [`super::parts`]), so it costs the same however large the group is. Where there are custom
//! aggregates nothing can be taken out: a changed member has its bucket of the group merged again, and the few levels above (see
//! [`super::tournament`]).

use super::parts::{Spread, Sums};
use super::{Fact, Figure, ViewRow};
use crate::aggregate::{AccumulatorId, AccumulatorStore, AggregatePlan, Reader, put_varint};
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::GroupingKey;
use crate::sink::{ResultValue, TimeWindow};
use crate::window::{NameTable, Naming};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What a rollup keeps apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollup {
    /// The key fields that stay; none: everything in one group.
    pub by: Vec<Arc<str>>,
}

impl Rollup {
    /// The group of a result.
    pub fn group(&self, fact: &Fact) -> (TimeWindow, GroupingKey) {
        (fact.window, fact.key.of_fields(|name| self.by.iter().any(|by| &**by == name)))
    }
}

/// Appends the accumulators of a result, each with the name of its field.
pub fn put_accumulators<'a>(
    parts: impl ExactSizeIterator<Item = (&'a str, &'a AccumulatorStore, AccumulatorId)>,
    out: &mut Vec<u8>,
) -> ProcessorResult<()> {
    put_varint(out, parts.len() as u64);
    let mut encoded = Vec::new();
    for (field, store, id) in parts {
        encoded.clear();
        store.encode(id, &mut encoded)?;
        for bytes in [field.as_bytes(), &encoded] {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

/// What figures are made with.
#[derive(Clone)]
pub struct Figures {
    /// The aggregates.
    pub plan: Arc<AggregatePlan>,
    /// How results are named.
    pub naming: Naming,
    /// The value fields that every result shows.
    pub fields: Vec<Arc<str>>,
    /// Told of accumulators that cannot be merged: the run must end.
    pub fail: Rc<dyn Fn(ProcessorError)>,
}

/// The names of figures.
type Names = Arc<[Arc<str>]>;

/// The accumulators of a group, by field.
type Merged<'a> = BTreeMap<&'a str, AccumulatorId>;

/// Merges accumulators and makes figures of them.
pub struct Merger {
    figures: Figures,
    /// The names of figures, by the fields that a row shows.
    names: RefCell<BTreeMap<Vec<Arc<str>>, Names>>,
    /// Where accumulators are merged, by field: empty between two calls, with its memory.
    stores: RefCell<BTreeMap<String, AccumulatorStore>>,
}

impl Merger {
    /// One that makes figures so.
    pub fn new(figures: Figures) -> Self {
        Self { figures, names: RefCell::default(), stores: RefCell::default() }
    }

    /// Whether accumulators can be taken apart with [`Merger::parts`]; if not, they can be merged with [`Merger::merge`].
    pub fn is_subtractable(&self) -> bool {
        self.figures.plan.is_subtractable()
    }

    /// Whether spreads say anything.
    pub fn has_spread(&self) -> bool {
        self.figures.plan.has_bounds()
    }

    /// A result's accumulators: what can be taken out again, and what cannot.
    pub fn parts(&self, accumulators: &Arc<[u8]>) -> (Sums, Spread) {
        let parts = self.with_merged(&[accumulators], |merged, stores| {
            let of_all = merged.iter().map(|(field, id)| (Arc::<str>::from(*field), &stores[*field], *id));
            let both = of_all
                .map(|(field, store, id)| ((Arc::clone(&field), store.difference(id)), (field, store.bounds(id))));
            let (sums, spread) = both.unzip();
            Ok(Some((Sums::of(sums), Spread::of(spread))))
        });
        self.or_fail(parts).unwrap_or_else(|| (Sums::one(), Spread::of(Vec::new())))
    }

    /// The row of a group that these are of.
    pub fn row_of(&self, window: TimeWindow, key: GroupingKey, sums: &Sums, spread: Option<&Spread>) -> ViewRow {
        let stores = &mut *self.stores.borrow_mut();
        let mut merged = Merged::new();
        let figures = sums.fields().iter().try_for_each(|(field, difference)| {
            let store = self.store_of(stores, field);
            merged.insert(field, store.insert(difference, spread.and_then(|spread| spread.field(field)))?);
            Ok(())
        });
        let figures = figures.map(|()| self.show(&merged, stores));
        give_back(merged, stores);
        let (names, figures) = self.or_fail(figures);
        ViewRow { window, key, names, figures: figures.into() }
    }

    /// What was done; where it failed, the run is told, and it is nothing.
    fn or_fail<R: Default>(&self, result: ProcessorResult<R>) -> R {
        result.unwrap_or_else(|error| {
            (self.figures.fail)(error);
            R::default()
        })
    }

    /// The accumulators of all of these.
    pub fn merge(&self, parts: &[&Arc<[u8]>]) -> Arc<[u8]> {
        if let [only] = parts {
            return Arc::clone(only);
        }
        let merged = self.with_merged(parts, |merged, stores| {
            let mut out = Vec::new();
            put_accumulators(merged.iter().map(|(field, id)| (*field, &stores[*field], *id)), &mut out)?;
            Ok(out.into())
        });
        self.or_fail(merged)
    }

    /// Has `work` done with the accumulators of all of these.
    fn with_merged<R>(
        &self,
        parts: &[&Arc<[u8]>],
        work: impl FnOnce(&Merged<'_>, &BTreeMap<String, AccumulatorStore>) -> ProcessorResult<R>,
    ) -> ProcessorResult<R> {
        let stores = &mut *self.stores.borrow_mut();
        let merged = self.merge_in(stores, parts)?;
        let done = work(&merged, stores);
        give_back(merged, stores);
        done
    }

    fn store_of<'a>(
        &self,
        stores: &'a mut BTreeMap<String, AccumulatorStore>,
        field: &str,
    ) -> &'a mut AccumulatorStore {
        if !stores.contains_key(field) {
            stores.insert(field.to_owned(), AccumulatorStore::new(Arc::clone(&self.figures.plan)));
        }
        stores.get_mut(field).expect("it was made above")
    }

    fn merge_in<'a>(
        &self,
        stores: &mut BTreeMap<String, AccumulatorStore>,
        parts: &[&'a Arc<[u8]>],
    ) -> ProcessorResult<Merged<'a>> {
        let mut merged = Merged::new();
        for part in parts {
            let mut reader = Reader::of("the accumulators of a result", part);
            for _ in 0..reader.varint()? {
                let name = reader.prefixed()?;
                let field = std::str::from_utf8(name).map_err(|_| reader.error("a field's name that is no text"))?;
                let bytes = reader.prefixed()?;
                let store = self.store_of(stores, field);
                let one = store.decode(bytes)?;
                match merged.get(field) {
                    Some(all) => {
                        store.merge(*all, one);
                        store.remove(one);
                    }
                    None => drop(merged.insert(field, one)),
                }
            }
            reader.finish()?;
        }
        Ok(merged)
    }

    /// The row of a group with these accumulators.
    pub fn row(&self, window: TimeWindow, key: GroupingKey, accumulators: &Arc<[u8]>) -> ViewRow {
        let figures = self.with_merged(&[accumulators], |merged, stores| Ok(self.show(merged, stores)));
        let (names, figures) = self.or_fail(figures);
        ViewRow { window, key, names, figures: figures.into() }
    }

    fn show(&self, merged: &Merged<'_>, stores: &BTreeMap<String, AccumulatorStore>) -> (Names, Vec<Figure>) {
        let fields: Vec<Arc<str>> = match self.figures.naming {
            Naming::Bare | Naming::Qualified => self.figures.fields.clone(),
            Naming::AsTheyCome => merged.keys().map(|field| Arc::from(*field)).collect(),
        };
        let mut empty = AccumulatorStore::new(Arc::clone(&self.figures.plan));
        let nothing = empty.create();
        let mut values: Vec<ResultValue> = Vec::new();
        for field in &fields {
            match merged.get(&**field) {
                Some(id) => stores[&**field].result(*id, &mut values),
                None => empty.result(nothing, &mut values),
            }
        }
        (self.names_of(fields), values.iter().map(Figure::from).collect())
    }

    fn names_of(&self, fields: Vec<Arc<str>>) -> Names {
        let make = |fields: &Vec<Arc<str>>| {
            let shown: Vec<usize> = (0..fields.len()).collect();
            NameTable::new(self.figures.naming, self.figures.plan.names().to_vec()).names(&shown, fields)
        };
        Arc::clone(self.names.borrow_mut().entry(fields).or_insert_with_key(make))
    }
}

/// The accumulators are free again.
fn give_back(merged: Merged<'_>, stores: &mut BTreeMap<String, AccumulatorStore>) {
    for (field, id) in merged {
        stores.get_mut(field).into_iter().for_each(|store| store.remove(id));
    }
}
