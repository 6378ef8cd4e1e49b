//! What the numbers of a result are called.

use crate::config::ValueFields;
use hashbrown::HashMap;
use std::sync::Arc;

/// How results are named and which fields they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// One configured field: bare names.
    Bare,
    /// Several configured fields: `field.aggregate`, every field in every result.
    Qualified,
    /// Fields as they come: those present in the window, in the order of their names; bare names where there is only one.
    AsTheyCome,
}

impl Naming {
    /// The naming for these value fields.
    pub fn of(values: &ValueFields) -> Self {
        match values {
            ValueFields::Listed(fields) if fields.len() == 1 => Naming::Bare,
            ValueFields::Listed(_) => Naming::Qualified,
            ValueFields::EveryNumberUnder(_) => Naming::AsTheyCome,
        }
    }
}

/// The names of results, made once for each set of fields.
#[derive(Debug)]
pub struct NameTable {
    naming: Naming,
    aggregates: Vec<Arc<str>>,
    made: HashMap<Vec<usize>, Arc<[Arc<str>]>>,
}

impl NameTable {
    /// For the aggregates of these names.
    pub fn new(naming: Naming, aggregates: Vec<Arc<str>>) -> Self {
        Self { naming, aggregates, made: HashMap::new() }
    }

    /// The naming.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// The names of a result that shows these fields, in this order; `fields` are the names of all.
    pub fn names(&mut self, shown: &[usize], fields: &[Arc<str>]) -> Arc<[Arc<str>]> {
        if let Some(names) = self.made.get(shown) {
            return Arc::clone(names);
        }
        let names = self.make(shown, fields);
        self.made.insert(shown.to_vec(), Arc::clone(&names));
        names
    }

    fn make(&self, shown: &[usize], fields: &[Arc<str>]) -> Arc<[Arc<str>]> {
        let bare = match self.naming {
            Naming::Bare => true,
            Naming::Qualified => false,
            Naming::AsTheyCome => shown.len() == 1,
        };
        if bare {
            return self.aggregates.as_slice().into();
        }
        let qualified = |field: &usize| {
            let field = &fields[*field];
            self.aggregates.iter().map(move |aggregate| Arc::from(format!("{field}.{aggregate}")))
        };
        shown.iter().flat_map(qualified).collect()
    }
}
