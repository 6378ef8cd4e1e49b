//! A section of the document, as the readers of its settings see it.

use super::effective::{Step, dotted};
use super::raw::{Key, Node, Origin};

/// A section of the document, or the place where one could be.
#[derive(Clone, Debug)]
pub(super) struct Section<'t> {
    /// The way to it.
    pub(super) steps: Vec<Step>,
    /// Its path in the schema: the way without the items' numbers.
    pub(super) schema: String,
    /// Its entries in the order written, equal keys included.
    pub(super) entries: &'t [(Key, Node)],
    /// Where it begins; [`Origin::Default`] where it is not written.
    pub(super) origin: Origin,
}

impl<'t> Section<'t> {
    /// The node of a key, by any of its spellings.
    pub(super) fn node(&self, name: &str) -> Option<&'t Node> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// Whether the section is there, empty or not.
    pub(super) fn written(&self) -> bool {
        self.origin != Origin::Default
    }

    /// The dotted path of the section.
    pub(super) fn path(&self) -> String {
        dotted(&self.steps)
    }

    /// The dotted path of a key in it.
    pub(super) fn path_of(&self, name: &str) -> String {
        dotted(&self.step(name))
    }

    /// The way to a key in it.
    pub(super) fn step(&self, name: &str) -> Vec<Step> {
        self.steps.iter().cloned().chain([Step::Key(name.to_owned())]).collect()
    }
}
