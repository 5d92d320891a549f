//! Totals per stacktrace by function name.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use scoria_model::part::NONE;
use scoria_symbols::Symbols;

use super::texts::Texts;
use crate::functions::{FunctionTree, UNKNOWN};

/// A tree of function names with the value that each stacktrace has of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePartial {
    pub(crate) names: Texts,
    /// [`NONE`] for node 0, the root; smaller than the node for all others.
    pub(crate) parent: Vec<u32>,
    /// Ids in `names`; the root's is meaningless.
    pub(crate) name: Vec<u32>,
    /// What stacktraces that end here have.
    pub(crate) own: Vec<i64>,
}

impl Default for TreePartial {
    fn default() -> Self {
        Self {
            names: Texts::default(),
            parent: vec![NONE],
            name: vec![0],
            own: vec![0],
        }
    }
}

impl TreePartial {
    /// Folds sums per stack to function names: one pass up, which adds, and one down, which keeps
    /// what has a value. `node_of_stack` names the node of each stack, unless stacks are nodes.
    /// `below` says which function nodes count.
    pub fn fold(
        (symbols, functions): (&Symbols, &FunctionTree),
        totals: &[i64],
        node_of_stack: Option<&[u32]>,
        below: Option<&[bool]>,
    ) -> Self {
        let node_of = functions.node_of();
        let mut own = vec![0i64; functions.len()];
        let mut put = |node: u32, total: i64| {
            if let Some(&at) = node_of.get(node as usize) {
                let sum = &mut own[at as usize];
                *sum = sum.saturating_add(total);
            }
        };
        let used = totals.iter().enumerate().filter(|&(_, &total)| total != 0);
        match node_of_stack {
            Some(nodes) => used.for_each(|(stack, &total)| {
                if let Some(&node) = nodes.get(stack) {
                    put(node, total);
                }
            }),
            None => used.for_each(|(stack, &total)| put(stack as u32, total)),
        }
        if let Some(below) = below {
            for (own, &counts) in own.iter_mut().zip(below) {
                if !counts {
                    *own = 0;
                }
            }
        }
        Self::of_used(symbols, functions, &own)
    }

    fn of_used(symbols: &Symbols, functions: &FunctionTree, own: &[i64]) -> Self {
        let parents = functions.parents();
        let used = used_of(parents, own);
        let mut tree = Self::default();
        let mut new_node = vec![NONE; own.len()];
        new_node[0] = 0;
        let mut new_name: Vec<u32> = vec![NONE; symbols.strings_len()];
        for at in 1..own.len() {
            if !used[at] {
                continue;
            }
            let name = functions.names()[at];
            let text = || functions.text(symbols, name);
            let name = match new_name.get_mut(name as usize) {
                Some(known) if *known != NONE => *known,
                Some(known) => {
                    *known = tree.names.push(text());
                    *known
                }
                None => tree.names.push(text()),
            };
            new_node[at] = tree.push(new_node[parents[at] as usize], name, own[at]);
        }
        if own[0] != 0 {
            // Samples without frames are part of the total; a root has no value of its own.
            let name = tree.names.push(UNKNOWN);
            tree.push(0, name, own[0]);
        }
        tree
    }

    /// Divides what each stacktrace has, and keeps what has a value then.
    pub(crate) fn divide(&mut self, by: i64) {
        let whole = std::mem::take(self);
        let own: Vec<i64> = whole.own.iter().map(|own| own / by).collect();
        let used = used_of(&whole.parent, &own);
        self.names = whole.names;
        let mut new_node = vec![0; own.len()];
        for at in 1..own.len() {
            if used[at] {
                let parent = new_node[whole.parent[at] as usize];
                new_node[at] = self.push(parent, whole.name[at], own[at]);
            }
        }
        self.own[0] = own[0];
    }

    /// Appends a node; its number.
    pub(crate) fn push(&mut self, parent: u32, name: u32, own: i64) -> u32 {
        let at = self.parent.len() as u32;
        self.parent.push(parent);
        self.name.push(name);
        self.own.push(own);
        at
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
            let mut at = 0;
            for name in frames {
                let name = merger.tree.names.intern(name);
                at = merger.child(at, name);
            }
            let own = &mut merger.tree.own[at as usize];
            *own = own.saturating_add(value);
        }
        merger.finish()
    }

    /// The stacktraces with a value, as `root;…;leaf` texts, sorted.
    pub fn to_folded(&self) -> Vec<(String, i64)> {
        let mut paths: Vec<String> = vec![String::new()];
        for at in 1..self.len() {
            let above = &paths[self.parent[at] as usize];
            let name = self.names.get(self.name[at]);
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

    /// Number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    /// The sum of all values.
    pub fn total(&self) -> i64 {
        self.own.iter().fold(0, |sum, &own| sum.saturating_add(own))
    }

    /// The value of each node and of all below it.
    pub fn totals(&self) -> Vec<i64> {
        totals_of(&self.parent, &self.own)
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        self.names.bytes() + 16 * self.parent.capacity() as u64
    }
}

/// Adds every node to its parent, last node first.
fn totals_of(parents: &[u32], own: &[i64]) -> Vec<i64> {
    let mut totals = own.to_vec();
    for at in (1..totals.len()).rev() {
        let total = totals[at];
        if total != 0 {
            let above = &mut totals[parents[at] as usize];
            *above = above.saturating_add(total);
        }
    }
    totals
}

/// Which nodes have a value or lie above one: values below a node may cancel each other out.
fn used_of(parents: &[u32], own: &[i64]) -> Vec<bool> {
    let mut used: Vec<bool> = own.iter().map(|&own| own != 0).collect();
    for at in (1..used.len()).rev() {
        if used[at] {
            used[parents[at] as usize] = true;
        }
    }
    used
}

fn key(parent: u32, name: u32) -> u64 {
    u64::from(parent) << 32 | u64::from(name)
}

/// A column of values whose root has `more` added.
fn with_root(own: &[i64], more: i64) -> Vec<i64> {
    let mut own = own.to_vec();
    if let Some(root) = own.first_mut() {
        *root = root.saturating_add(more);
    }
    own
}

/// Joins trees by their names.
#[derive(Debug, Default)]
pub struct TreeMerger {
    tree: TreePartial,
    /// Nodes by parent and name; only those below `indexed`.
    children: HashTable<u32>,
    /// Nodes from here on are not in `children` yet.
    indexed: u32,
}

impl TreeMerger {
    /// Takes one tree in.
    pub fn add(&mut self, other: &TreePartial) {
        let names: Vec<u32> = other
            .names
            .iter()
            .map(|name| self.tree.names.intern(name))
            .collect();
        if self.tree.is_empty() && names.iter().enumerate().all(|(at, &id)| at as u32 == id) {
            // The first tree, whose names are distinct, so that its nodes are too: most answers
            // come from one block, and need no index of nodes.
            self.tree.parent.clone_from(&other.parent);
            self.tree.name.clone_from(&other.name);
            self.tree.own = with_root(&other.own, self.tree.own[0]);
            return;
        }
        self.index(other.len());
        let mut new_node: Vec<u32> = Vec::with_capacity(other.len());
        for at in 0..other.len() {
            let node = match new_node.get(other.parent[at] as usize) {
                Some(&above) => self.child(above, names[other.name[at] as usize]),
                None => 0,
            };
            new_node.push(node);
            let own = &mut self.tree.own[node as usize];
            *own = own.saturating_add(other.own[at]);
        }
    }

    /// Puts all nodes into the index and makes room for more.
    fn index(&mut self, more: usize) {
        let state = foldhash::fast::FixedState::default();
        let tree = &self.tree;
        let hash =
            |&at: &u32| state.hash_one(key(tree.parent[at as usize], tree.name[at as usize]));
        let nodes = tree.len() as u32;
        let missing = nodes - self.indexed.max(1).min(nodes);
        self.children.reserve(missing as usize + more, hash);
        for at in self.indexed.max(1)..nodes {
            self.children.insert_unique(hash(&at), at, hash);
        }
        self.indexed = nodes;
    }

    fn child(&mut self, parent: u32, name: u32) -> u32 {
        let state = foldhash::fast::FixedState::default();
        let hash = |parent: u32, name: u32| state.hash_one(key(parent, name));
        let wanted = hash(parent, name);
        let tree = &self.tree;
        let same = |&at: &u32| tree.parent[at as usize] == parent && tree.name[at as usize] == name;
        if let Some(&at) = self.children.find(wanted, same) {
            return at;
        }
        let at = self.tree.push(parent, name, 0);
        let tree = &self.tree;
        self.children.insert_unique(wanted, at, |&at| {
            hash(tree.parent[at as usize], tree.name[at as usize])
        });
        self.indexed = at + 1;
        at
    }

    /// The values of the nodes so far; nodes that come later get higher numbers.
    pub(crate) fn own_so_far(&self) -> Vec<i64> {
        self.tree.own.clone()
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        self.tree.bytes() + 5 * self.children.capacity() as u64
    }

    /// The union of all trees.
    pub fn finish(self) -> TreePartial {
        self.tree
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trees_unite_by_name() {
        let mut merger = TreeMerger::default();
        merger.add(&TreePartial::from_folded([("a;b", 1), ("a", 2)]));
        merger.add(&TreePartial::from_folded([("c", 4), ("a;b", 3)]));
        let tree = merger.finish();
        let expected = [("a", 2), ("a;b", 4), ("c", 4)].map(|(s, v)| (s.to_owned(), v));
        assert_eq!(tree.to_folded(), expected);
        assert_eq!(tree.total(), 10);
    }

    fn stacks() -> impl Strategy<Value = Vec<(String, i64)>> {
        proptest::collection::vec(("[a-d](;[a-d]){0,4}", 1..100i64), 0..40)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_tree(stacks in stacks(), cuts in proptest::collection::vec(0..40usize, 0..4)) {
            let whole = TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
            let mut merger = TreeMerger::default();
            let mut cuts = cuts;
            cuts.extend([0, stacks.len()]);
            cuts.sort_unstable();
            // Pieces in reverse order: the order must not matter either.
            for pair in cuts.windows(2).rev() {
                let piece = &stacks[pair[0].min(stacks.len())..pair[1].min(stacks.len())];
                merger.add(&TreePartial::from_folded(piece.iter().map(|(s, v)| (s.as_str(), *v))));
            }
            let merged = merger.finish();
            prop_assert_eq!(merged.to_folded(), whole.to_folded());
            prop_assert_eq!(merged.total(), whole.total());
        }
    }
}
