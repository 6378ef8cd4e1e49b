//! The k best keys of a window.
//!
//! The model: keys are ranked by one figure, the largest (or the smallest) first; of equal ones, the key whose text comes first.
//! So ranks are 1, 2, 3, ... without doubles, and the same whatever the order in which results came. A key whose figure is null
//! has no rank.

use super::figure::ordered;
use super::{Fact, Figure, ViewRow, names};
use crate::event::GroupingKey;
use crate::sink::TimeWindow;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a leaderboard shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaderboard {
    /// The figure that ranks: `average`, `cost_usd.sum`, `p95`, ...
    pub by: Arc<str>,
    /// How many keys a window shows, at least 1.
    pub top: usize,
    /// Whether the smallest figure is the best.
    pub smallest: bool,
    /// Key fields with a leaderboard for each of their values; none: one leaderboard a window.
    pub per: Vec<Arc<str>>,
}

/// A key in the order of its rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ranked {
    /// The less, the better.
    place: u64,
    key: GroupingKey,
    figure: Figure,
}

/// A window, and what of the key its leaderboard is for.
pub type Board = (TimeWindow, GroupingKey);

impl Leaderboard {
    /// The leaderboard that a result is on, and how it ranks there; `None` where its figure is not a number.
    pub fn entry(&self, fact: &Fact) -> Option<(Board, Ranked)> {
        let figure = fact.figure(&self.by)?;
        let number = figure.number()? + 0.0;
        let place = if self.smallest { ordered(number) } else { !ordered(number) };
        let board = match self.per.is_empty() {
            true => GroupingKey::everything(),
            false => fact.key.of_fields(|name| self.per.iter().any(|per| &**per == name)),
        };
        Some(((fact.window, board), Ranked { place, key: fact.key.clone(), figure: figure.clone() }))
    }

    /// The best of some keys that are in order.
    pub fn best(&self, keys: &[&Ranked]) -> Vec<Ranked> {
        keys.iter().take(self.top).map(|ranked| (*ranked).clone()).collect()
    }

    /// The rows of a leaderboard that these keys are on, in order.
    pub fn rows<'a>(&self, window: TimeWindow, keys: impl IntoIterator<Item = &'a Ranked>) -> Vec<ViewRow> {
        let names = names(&["rank", &self.by]);
        let row = |(index, ranked): (usize, &Ranked)| ViewRow {
            window,
            key: ranked.key.clone(),
            names: Arc::clone(&names),
            figures: [Figure::Count(index as u64 + 1), ranked.figure.clone()].into(),
        };
        keys.into_iter().take(self.top).enumerate().map(row).collect()
    }
}
