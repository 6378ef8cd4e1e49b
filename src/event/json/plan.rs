//! Which members of a record are wanted: the configured paths as a tree, built once.

use crate::config::model::FieldPath;

/// A node of the tree, by its place in [`Plan::nodes`].
pub(super) type NodeIndex = u32;

/// A wanted value, by its place among the captured ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub usize);

/// The object at one path.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its wanted members. Few: they are compared one after another.
    children: Vec<(Box<[u8]>, NodeIndex)>,
    /// Where its own value goes, if that is wanted.
    pub slot: Option<Slot>,
    /// All slots of the members below it.
    pub slots_below: std::ops::Range<usize>,
    /// Whether each number directly in it is wanted.
    pub every_number: bool,
}

impl Node {
    /// Whether the value must be looked into.
    #[inline(always)]
    pub(super) fn has_members(&self) -> bool {
        !self.children.is_empty() || self.every_number
    }

    /// The wanted member of this name.
    #[inline(always)]
    pub(super) fn child(&self, name: &[u8]) -> Option<NodeIndex> {
        self.children.iter().find(|(wanted, _)| **wanted == *name).map(|(_, child)| *child)
    }
}

/// The tree; node 0 is the record itself.
#[derive(Debug)]
pub(super) struct Plan {
    pub nodes: Vec<Node>,
    pub slot_count: usize,
}

impl Plan {
    /// The tree of `wanted`, the slot of each in the same order, and, where `every_number_under` is given, with the numbers
    /// directly in that object. Equal paths share a slot.
    pub(super) fn new(wanted: &[&FieldPath], every_number_under: Option<&FieldPath>) -> (Self, Vec<Slot>) {
        let mut plan = Plan { nodes: vec![Node::default()], slot_count: 0 };
        let leaves: Vec<NodeIndex> = wanted.iter().map(|path| plan.node_at(path)).collect();
        for leaf in &leaves {
            plan.nodes[*leaf as usize].slot = Some(Slot(usize::MAX));
        }
        if let Some(path) = every_number_under {
            let node = plan.node_at(path);
            plan.nodes[node as usize].every_number = true;
        }
        plan.number_slots(0);
        let slots = leaves.iter().filter_map(|leaf| plan.nodes[*leaf as usize].slot).collect();
        (plan, slots)
    }

    fn node_at(&mut self, path: &FieldPath) -> NodeIndex {
        let mut node = 0;
        for part in &path.0 {
            node = match self.nodes[node as usize].child(part.as_bytes()) {
                Some(child) => child,
                None => {
                    let child = self.nodes.len() as NodeIndex;
                    self.nodes.push(Node::default());
                    self.nodes[node as usize].children.push((part.as_bytes().into(), child));
                    child
                }
            };
        }
        node
    }

    /// Numbers the slots depth first, so that those below a node are a range.
    fn number_slots(&mut self, node: NodeIndex) {
        if let Some(slot) = &mut self.nodes[node as usize].slot {
            *slot = Slot(self.slot_count);
            self.slot_count += 1;
        }
        let first = self.slot_count;
        for child in 0..self.nodes[node as usize].children.len() {
            self.number_slots(self.nodes[node as usize].children[child].1);
        }
        self.nodes[node as usize].slots_below = first..self.slot_count;
    }
}
