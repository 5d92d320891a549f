//! Totals per stacktrace by function name.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use scoria_model::part::NONE;
use scoria_symbols::Symbols;

use super::kept::NodeSet;
use super::texts::Texts;
use super::totals::StackTotals;
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
    ///
    /// Holds one column more than the tree at its peak: 16 bytes a function node and little else.
    pub fn fold(
        (symbols, functions): (&Symbols, &FunctionTree),
        totals: StackTotals,
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
        let totals = totals.into_vec();
        let used = totals.iter().enumerate().filter(|&(_, &total)| total != 0);
        match node_of_stack {
            Some(nodes) => used.for_each(|(stack, &total)| {
                if let Some(&node) = nodes.get(stack) {
                    put(node, total);
                }
            }),
            None => used.for_each(|(stack, &total)| put(stack as u32, total)),
        }
        // Its memory is that of the tree's other columns.
        drop(totals);
        if let Some(below) = below {
            for (own, &counts) in own.iter_mut().zip(below) {
                if !counts {
                    *own = 0;
                }
            }
        }
        Self::of_used(symbols, functions, own)
    }

    fn of_used(symbols: &Symbols, functions: &FunctionTree, mut own: Vec<i64>) -> Self {
        let parents = functions.parents();
        let used = used_of(parents, &own).numbered();
        // Samples without frames are part of the total; a root has no value of its own.
        let without_frames = std::mem::take(&mut own[0]);
        let n = used.len() + usize::from(without_frames != 0);
        let mut tree = Self {
            names: Texts::default(),
            parent: Vec::with_capacity(n),
            name: Vec::with_capacity(n),
            own: Vec::new(),
        };
        tree.parent.push(NONE);
        tree.name.push(0);
        let mut new_name: Vec<u32> = vec![NONE; symbols.strings_len()];
        for at in (1..own.len()).filter(|&at| used.contains(at)) {
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
            tree.parent.push(used.number(parents[at]));
            tree.name.push(name);
        }
        used.compact(&mut own);
        tree.own = own;
        if without_frames != 0 {
            let name = tree.names.push(UNKNOWN);
            tree.push(0, name, without_frames);
        }
        tree
    }

    /// Divides what each stacktrace has, and keeps what has a value then.
    pub(crate) fn divide(&mut self, by: i64) {
        self.own.iter_mut().for_each(|own| *own /= by);
        let used = used_of(&self.parent, &self.own).numbered();
        for parent in &mut self.parent[1..] {
            // Those of nodes that go are gone with them.
            if used.contains(*parent as usize) {
                *parent = used.number(*parent);
            }
        }
        used.compact(&mut self.parent);
        used.compact(&mut self.name);
        used.compact(&mut self.own);
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
        self.totals_of(&self.own)
    }

    /// As [`totals`](Self::totals), of other values for the same nodes: each with all below it,
    /// added up from the last node on.
    pub(crate) fn totals_of(&self, own: &[i64]) -> Vec<i64> {
        let mut totals = own.to_vec();
        for at in (1..totals.len()).rev() {
            let total = totals[at];
            if total != 0 {
                let above = &mut totals[self.parent[at] as usize];
                *above = above.saturating_add(total);
            }
        }
        totals
    }

    /// Memory held.
    pub fn bytes(&self) -> u64 {
        self.names.bytes() + 16 * self.parent.capacity() as u64
    }
}

/// Which nodes have a value or lie above one: values below a node may cancel each other out.
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

fn key(parent: u32, name: u32) -> u64 {
    u64::from(parent) << 32 | u64::from(name)
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
        let names = self.names_of(other);
        if self.is_first(&names) {
            self.become_first(other.clone());
        } else {
            self.join(other, &names);
        }
    }

    /// As [`add`](Self::add), for a tree that nobody else needs: the first one is not copied.
    pub fn take(&mut self, other: TreePartial) {
        let names = self.names_of(&other);
        if self.is_first(&names) {
            self.become_first(other);
        } else {
            self.join(&other, &names);
        }
    }

    /// The ids here of another tree's names.
    fn names_of(&mut self, other: &TreePartial) -> Vec<u32> {
        let names = other.names.iter();
        names.map(|name| self.tree.names.intern(name)).collect()
    }

    /// Whether a tree is the first and its names are distinct, so that its nodes are too: most
    /// answers come from one block, and need no index of nodes.
    fn is_first(&self, names: &[u32]) -> bool {
        self.tree.is_empty() && names.iter().zip(0..).all(|(&id, at)| id == at)
    }

    fn become_first(&mut self, other: TreePartial) {
        let root = self.tree.own[0];
        self.tree = TreePartial {
            // Not those of the other tree, which may not be ready to intern more.
            names: std::mem::take(&mut self.tree.names),
            ..other
        };
        let own = &mut self.tree.own[0];
        *own = own.saturating_add(root);
    }

    fn join(&mut self, other: &TreePartial, names: &[u32]) {
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
