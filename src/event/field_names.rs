//! Names of value fields that come as they are, and the index of each.

use super::FieldIndex;
use std::collections::HashMap;
use std::sync::Arc;

/// How many distinct fields one decoder takes where they come as they are: past that, the names are most likely data.
pub(super) const MAX_FIELDS: usize = 256;

/// The names seen so far. It only grows.
///
/// Events of one kind list their fields in one order, so a name is first looked for behind the field before it.
#[derive(Debug, Default)]
pub(super) struct FieldNames {
    names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, FieldIndex>,
}

impl FieldNames {
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The index of `name`, given the field that came before it in the event; `None` where there are [`MAX_FIELDS`] others.
    #[inline]
    pub(super) fn index_of(&mut self, name: &str, before: Option<FieldIndex>) -> Option<FieldIndex> {
        let likely = FieldIndex(before.map_or(0, |before| before.0 + 1));
        match self.names.get(likely.0 as usize) {
            Some(next) if **next == *name => Some(likely),
            _ => self.look_up(name),
        }
    }

    fn look_up(&mut self, name: &str) -> Option<FieldIndex> {
        if let Some(index) = self.by_name.get(name) {
            return Some(*index);
        }
        if self.names.len() >= MAX_FIELDS {
            return None;
        }
        let index = FieldIndex(self.names.len() as u16);
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.by_name.insert(name, index);
        Some(index)
    }
}

/// Appends a value to an event's; a second one of the same field replaces the first.
#[inline]
pub(super) fn put_value(values: &mut Vec<(FieldIndex, f64)>, index: FieldIndex, value: f64) {
    // Ascending indices cannot repeat.
    if values.last().is_some_and(|(last, _)| *last >= index)
        && let Some((_, present)) = values.iter_mut().find(|(present, _)| *present == index)
    {
        *present = value;
        return;
    }
    values.push((index, value));
}
