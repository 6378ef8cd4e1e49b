//! What views contain at the moment, for whoever asks.
//!
//! The model: the worker that keeps a view puts each step's changes onto the board of its process in one go; whoever reads it sees
//! the content at a closed frontier and never a part of a step.

use super::{View, ViewOp, ViewRow};
use crate::time::EventTime;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The views of a process. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct ViewBoard {
    views: Arc<Vec<Mutex<Shown>>>,
}

/// What is shown of a view.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its name.
    pub name: Arc<str>,
    /// The word for what it shows.
    pub kind: &'static str,
    /// Whether a worker of this process keeps it; else another process shows it.
    pub is_here: bool,
    /// The frontier at which it was last changed; [`EventTime::MIN`] before that.
    pub frontier: EventTime,
    /// The steps in which it was changed.
    pub steps: u64,
    /// Its rows, in the order of windows and keys.
    pub rows: BTreeSet<ViewRow>,
}

impl ViewBoard {
    /// For these views, empty.
    pub fn new<'a>(views: impl IntoIterator<Item = &'a View>) -> Self {
        let shown = |view: &View| {
            Mutex::new(Shown {
                name: Arc::clone(&view.name),
                kind: view.kind.as_str(),
                is_here: false,
                frontier: EventTime::MIN,
                steps: 0,
                rows: BTreeSet::new(),
            })
        };
        Self { views: Arc::new(views.into_iter().map(shown).collect()) }
    }

    fn with<R>(&self, place: usize, look: impl FnOnce(&mut Shown) -> R) -> R {
        look(&mut self.views[place].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A worker of this process keeps the view at this place.
    pub fn is_kept_here(&self, place: usize) {
        self.with(place, |shown| shown.is_here = true);
    }

    /// A step: what went and came, and the windows that end before `horizon`, which are not shown any more.
    pub fn apply(&self, place: usize, frontier: EventTime, horizon: EventTime, changes: &[(ViewOp, ViewRow)]) {
        self.with(place, |shown| {
            for (op, row) in changes {
                match op {
                    ViewOp::Delete => shown.rows.remove(row),
                    ViewOp::Insert => row.window.end >= horizon && shown.rows.insert(row.clone()),
                };
            }
            if shown.rows.first().is_some_and(|row| row.window.end < horizon) {
                shown.rows.retain(|row| row.window.end >= horizon);
            }
            shown.frontier = shown.frontier.max(frontier);
            shown.steps += 1;
        });
    }

    /// How many views there are.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// Each view without its rows, and how many it has.
    pub fn list(&self) -> Vec<(Shown, usize)> {
        let without_rows = |place| {
            self.with(place, |shown| {
                let Shown { name, kind, is_here, frontier, steps, rows } = shown;
                let (name, kind, rows_there) = (Arc::clone(name), *kind, rows.len());
                let rows = BTreeSet::new();
                (Shown { name, kind, is_here: *is_here, frontier: *frontier, steps: *steps, rows }, rows_there)
            })
        };
        (0..self.len()).map(without_rows).collect()
    }

    /// The view of this name.
    pub fn find(&self, name: &str) -> Option<Shown> {
        let of_name = |place: &usize| self.with(*place, |shown| &*shown.name == name);
        (0..self.len()).find(of_name).map(|place| self.with(place, |shown| shown.clone()))
    }
}
