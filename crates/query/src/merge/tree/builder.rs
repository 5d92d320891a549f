//! A tree while nodes are added to it.

use std::sync::Arc;

use scoria_model::part::NONE;

use super::super::texts::Texts;
use super::{TreePartial, TreeShape};

/// A root, and whatever is pushed. Who pushes sees to the invariants of trees.
#[derive(Debug)]
pub(crate) struct TreeBuilder {
    pub(crate) names: Texts,
    pub(crate) parent: Vec<u32>,
    /// Ids in `names`.
    pub(crate) name: Vec<u32>,
    pub(crate) own: Vec<i64>,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::with_capacity(1)
    }
}

impl TreeBuilder {
    pub(crate) fn with_capacity(n: usize) -> Self {
        let mut tree = Self {
            names: Texts::default(),
            parent: Vec::with_capacity(n),
            name: Vec::with_capacity(n),
            own: Vec::with_capacity(n),
        };
        tree.push(NONE, 0, 0);
        tree
    }

    /// Appends a node; its number.
    pub(crate) fn push(&mut self, parent: u32, name: u32, own: i64) -> u32 {
        let at = self.parent.len() as u32;
        self.parent.push(parent);
        self.name.push(name);
        self.own.push(own);
        at
    }

    pub(crate) fn len(&self) -> usize {
        self.parent.len()
    }

    /// Memory held.
    pub(crate) fn bytes(&self) -> u64 {
        self.names.bytes() + 16 * self.parent.capacity() as u64
    }

    pub(crate) fn finish(self) -> TreePartial {
        TreePartial {
            shape: Arc::new(TreeShape {
                names: self.names,
                parent: self.parent,
                name: self.name,
            }),
            own: Arc::new(self.own),
        }
    }
}
