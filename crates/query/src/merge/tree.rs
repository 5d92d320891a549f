//! Totals per stacktrace by function name.
//!
//! A tree is a shape, which functions call which, and a value for each of its nodes. The shape is
//! that of a dataset's symbols wherever most of it has values: it is kept beside the symbols, and a
//! tree of a million stacktraces is then a column of a million values and nothing else.
//!
//! # Invariants
//! - Node 0 is the root, whose name is meaningless; the parent of any other node is smaller than it.
//! - No two names are equal, and no two children of a node have the same name.
//! - A shape may have nodes without a value at or below them. No answer shows them.

mod builder;
mod merger;

use std::sync::Arc;

use scoria_model::part::NONE;

pub(crate) use builder::TreeBuilder;
pub use merger::TreeMerger;

use super::kept::{Kept, NodeSet};
use super::texts::Texts;
use super::totals::FunctionTotals;
use crate::functions::FunctionTree;

/// A tree shares a shape that has at most this many nodes for each one with a value.
const NODES_PER_VALUE: usize = 8;

/// Which functions call which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeShape {
    pub(crate) names: Texts,
    /// [`NONE`] for the root.
    pub(crate) parent: Vec<u32>,
    /// Ids in `names`.
    pub(crate) name: Vec<u32>,
}

impl Default for TreeShape {
    fn default() -> Self {
        Self {
            names: Texts::default(),
            parent: vec![NONE],
            name: vec![0],
        }
    }
}

impl TreeShape {
    /// Gives back what only growing needs.
    pub(crate) fn finish(&mut self) {
        self.names.finish();
        self.parent.shrink_to_fit();
        self.name.shrink_to_fit();
    }

    /// Memory held.
    pub(crate) fn bytes(&self) -> u64 {
        let columns = self.parent.capacity() + self.name.capacity();
        self.names.bytes() + 4 * columns as u64
    }
}

/// A tree of function names with the value that each stacktrace has of its own. A copy costs
/// nothing: shape and values are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePartial {
    shape: Arc<TreeShape>,
    /// What stacktraces that end at each node have.
    own: Arc<Vec<i64>>,
}

impl Default for TreePartial {
    fn default() -> Self {
        TreeBuilder::default().finish()
    }
}

impl TreePartial {
    /// Takes sums per function node. `below` says which of these nodes count.
    ///
    /// Where most nodes have values, nothing is held but the sums.
    pub fn of_sums(functions: &FunctionTree, sums: FunctionTotals, below: Option<&[bool]>) -> Self {
        let mut own = sums.into_vec();
        if let Some(below) = below {
            for (own, &counts) in own.iter_mut().zip(below) {
                if !counts {
                    *own = 0;
                }
            }
        }
        let shape = functions.shape();
        let used = used_of(&shape.parent, &own).numbered();
        if used.len() * NODES_PER_VALUE < own.len() {
            return Self::compact(shape, &own, &used);
        }
        Self {
            shape: Arc::clone(shape),
            own: Arc::new(own),
        }
    }

    /// The nodes that are used, in a shape of their own.
    fn compact(shape: &TreeShape, own: &[i64], used: &Kept) -> Self {
        let mut tree = TreeBuilder::with_capacity(used.len());
        tree.own[0] = own[0];
        let mut new_name = vec![NONE; shape.names.len()];
        for at in (1..own.len()).filter(|&at| used.contains(at)) {
            let name = shape.name[at];
            let known = &mut new_name[name as usize];
            if *known == NONE {
                *known = tree.names.push(shape.names.get(name));
            }
            tree.push(used.number(shape.parent[at]), *known, own[at]);
        }
        tree.finish()
    }

    /// Divides what each stacktrace has.
    pub(crate) fn divide(&mut self, by: i64) {
        let own = Arc::make_mut(&mut self.own);
        own.iter_mut().for_each(|own| *own /= by);
    }

    /// Builds a tree from stacktraces as `root;…;leaf` texts.
    pub fn from_folded<'a>(stacks: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let frames = |stack: &'a str| stack.split(';').filter(|name| !name.is_empty());
        let stacks = stacks.into_iter();
        Self::from_stacks(stacks.map(|(stack, value)| (frames(stack), value)))
    }

    /// Builds a tree from stacktraces as names from the root to the leaf. Names are not empty.
    pub fn from_stacks<'a, F: IntoIterator<Item = &'a str>>(
        stacks: impl IntoIterator<Item = (F, i64)>,
    ) -> Self {
        let mut merger = TreeMerger::default();
        for (frames, value) in stacks {
            merger.add_stack(frames, value);
        }
        merger.finish()
    }

    /// The stacktraces with a value, as `root;…;leaf` texts, sorted.
    pub fn to_folded(&self) -> Vec<(String, i64)> {
        let mut paths: Vec<String> = vec![String::new()];
        for at in 1..self.len() {
            let above = &paths[self.parents()[at] as usize];
            let name = self.names().get(self.name_ids()[at]);
            let comma = if above.is_empty() { "" } else { ";" };
            paths.push(format!("{above}{comma}{name}"));
        }
        let mut stacks: Vec<(String, i64)> = paths
            .into_iter()
            .zip(self.own.iter().copied())
            .filter(|&(_, own)| own != 0)
            .collect();
        stacks.sort();
        stacks
    }

    pub(crate) fn names(&self) -> &Texts {
        &self.shape.names
    }

    /// The parent of each node.
    pub(crate) fn parents(&self) -> &[u32] {
        &self.shape.parent
    }

    /// The name of each node.
    pub(crate) fn name_ids(&self) -> &[u32] {
        &self.shape.name
    }

    /// What stacktraces that end at each node have.
    pub(crate) fn own(&self) -> &[i64] {
        &self.own
    }

    /// The values, for who changes them in place; copied if another tree has them too.
    pub(crate) fn into_own(self) -> (Shape, Vec<i64>) {
        (Shape(self.shape), Arc::unwrap_or_clone(self.own))
    }

    /// Number of nodes of the shape, the root included.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether no stacktrace has a value.
    pub fn is_empty(&self) -> bool {
        self.own.iter().all(|&own| own == 0)
    }

    /// The sum of all values.
    pub fn total(&self) -> i64 {
        self.own.iter().fold(0, |sum, &own| sum.saturating_add(own))
    }

    /// The value of each node and of all below it.
    pub fn totals(&self) -> Vec<i64> {
        self.totals_of(&self.own)
    }

    /// As [`totals`](Self::totals), of other values for the same nodes.
    pub(crate) fn totals_of(&self, own: &[i64]) -> Vec<i64> {
        let mut totals = own.to_vec();
        add_up(self.parents(), &mut totals);
        totals
    }

    /// Which nodes have a value or lie above one: values below a node may cancel each other out.
    pub(crate) fn used(&self) -> NodeSet {
        used_of(self.parents(), &self.own)
    }

    /// Memory held, that which is shared included.
    pub fn bytes(&self) -> u64 {
        self.shape.bytes() + 8 * self.own.capacity() as u64
    }
}

/// The shape of a tree whose values were taken out.
#[derive(Debug)]
pub(crate) struct Shape(Arc<TreeShape>);

impl Shape {
    /// The tree of this shape with these values, one for each node.
    pub(crate) fn with(self, own: Vec<i64>) -> TreePartial {
        TreePartial {
            shape: self.0,
            own: Arc::new(own),
        }
    }
}

impl std::ops::Deref for Shape {
    type Target = TreeShape;

    fn deref(&self) -> &TreeShape {
        &self.0
    }
}

/// Adds to each node's value those of all below it, from the last node on.
pub(crate) fn add_up(parents: &[u32], values: &mut [i64]) {
    for at in (1..values.len()).rev() {
        let value = values[at];
        if value != 0 {
            let above = &mut values[parents[at] as usize];
            *above = above.saturating_add(value);
        }
    }
}

fn used_of(parents: &[u32], own: &[i64]) -> NodeSet {
    let mut used = NodeSet::of_root(own.len());
    for at in (1..own.len()).rev() {
        if own[at] != 0 || used.contains(at) {
            used.insert(at);
            used.insert(parents[at] as usize);
        }
    }
    used
}

#[cfg(test)]
mod tests;
