//! Trees become one, by their names.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use scoria_model::part::NONE;

use super::{TreeBuilder, TreePartial};

/// Joins trees by their names.
#[derive(Debug, Default)]
pub struct TreeMerger {
    /// The only one so far. Most answers come from one block, and need neither a copy nor an index
    /// of its nodes.
    first: Option<TreePartial>,
    /// All others, and the first one once there are others.
    tree: TreeBuilder,
    /// Nodes of `tree` by parent and name.
    children: HashTable<u32>,
}

impl TreeMerger {
    /// Takes one tree in.
    pub fn add(&mut self, other: &TreePartial) {
        self.take(other.clone());
    }

    /// As [`add`](Self::add), for a tree that nobody else needs.
    pub fn take(&mut self, other: TreePartial) {
        let nothing = self.tree.len() == 1 && self.tree.own[0] == 0;
        if nothing && self.first.as_ref().is_none_or(TreePartial::is_empty) {
            self.first = Some(other);
        } else if !other.is_empty() {
            self.settle();
            self.join(&other);
        }
    }

    /// Adds one stacktrace as names from the root to the leaf.
    pub(super) fn add_stack<'a>(&mut self, frames: impl IntoIterator<Item = &'a str>, value: i64) {
        self.settle();
        let mut at = 0;
        for name in frames {
            let name = self.tree.names.intern(name);
            at = self.child(at, name);
        }
        self.add_own(at, value);
    }

    /// Joins the first tree with the others, so that nodes have numbers that stay.
    fn settle(&mut self) {
        if let Some(first) = self.first.take() {
            self.join(&first);
        }
    }

    fn join(&mut self, other: &TreePartial) {
        let used = other.used();
        self.reserve(used.len());
        let mut new_name = vec![NONE; other.names().len()];
        let mut new_node = vec![NONE; other.len()];
        new_node[0] = 0;
        self.add_own(0, other.own()[0]);
        for at in (1..other.len()).filter(|&at| used.contains(at)) {
            let name = other.name_ids()[at];
            let known = &mut new_name[name as usize];
            if *known == NONE {
                *known = self.tree.names.intern(other.names().get(name));
            }
            let name = *known;
            let above = new_node[other.parents()[at] as usize];
            let node = self.child(above, name);
            new_node[at] = node;
            self.add_own(node, other.own()[at]);
        }
    }

    fn add_own(&mut self, node: u32, value: i64) {
        let own = &mut self.tree.own[node as usize];
        *own = own.saturating_add(value);
    }

    /// Makes room for nodes, so that the index is not rebuilt again and again while it grows.
    fn reserve(&mut self, more: usize) {
        let tree = &self.tree;
        self.children.reserve(more, |&at| hash_of(tree, at));
    }

    fn child(&mut self, parent: u32, name: u32) -> u32 {
        let wanted = hash(parent, name);
        let tree = &self.tree;
        let same = |&at: &u32| tree.parent[at as usize] == parent && tree.name[at as usize] == name;
        if let Some(&at) = self.children.find(wanted, same) {
            return at;
        }
        let at = self.tree.push(parent, name, 0);
        let tree = &self.tree;
        self.children
            .insert_unique(wanted, at, |&at| hash_of(tree, at));
        at
    }

    /// The values of the nodes so far; nodes that come later get higher numbers.
    pub(crate) fn own_so_far(&mut self) -> Vec<i64> {
        self.settle();
        self.tree.own.clone()
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        let first = self.first.as_ref().map_or(0, TreePartial::bytes);
        first + self.tree.bytes() + 5 * self.children.capacity() as u64
    }

    /// The union of all trees.
    pub fn finish(self) -> TreePartial {
        match self.first {
            Some(first) => first,
            None => self.tree.finish(),
        }
    }
}

fn hash(parent: u32, name: u32) -> u64 {
    FixedState::default().hash_one(u64::from(parent) << 32 | u64::from(name))
}

fn hash_of(tree: &TreeBuilder, at: u32) -> u64 {
    hash(tree.parent[at as usize], tree.name[at as usize])
}
