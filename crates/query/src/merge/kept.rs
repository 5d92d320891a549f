//! Which nodes of a tree stay, and which number each has among them: a bit and a half of a word per
//! 64 nodes, where a table of new numbers would take as much as the tree's own columns.

/// A set of nodes.
#[derive(Debug)]
pub(crate) struct NodeSet(Vec<u64>);

impl NodeSet {
    /// Of a tree of `n` nodes, holding only the root.
    pub(crate) fn of_root(n: usize) -> Self {
        let mut words = vec![0; n.div_ceil(64).max(1)];
        words[0] = 1;
        Self(words)
    }

    pub(crate) fn insert(&mut self, node: usize) {
        self.0[node / 64] |= 1 << (node % 64);
    }

    pub(crate) fn contains(&self, node: usize) -> bool {
        self.0[node / 64] & 1 << (node % 64) != 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The set as it is now, with the number of each node in it.
    pub(crate) fn numbered(self) -> Kept {
        let mut sum = 0;
        let before = self.0.iter().map(|word| {
            let before = sum;
            sum += word.count_ones();
            before
        });
        let before = before.collect();
        Kept {
            nodes: self,
            before,
            n: sum as usize,
        }
    }
}

/// The nodes that stay, numbered in their order.
#[derive(Debug)]
pub(crate) struct Kept {
    nodes: NodeSet,
    /// Nodes in the words before each word.
    before: Vec<u32>,
    n: usize,
}

impl Kept {
    pub(crate) const fn len(&self) -> usize {
        self.n
    }

    pub(crate) fn contains(&self, node: usize) -> bool {
        self.nodes.contains(node)
    }

    /// The number of a node that stays.
    pub(crate) fn number(&self, node: u32) -> u32 {
        let (word, bit) = (node as usize / 64, node % 64);
        let below = self.nodes.0[word] & ((1 << bit) - 1);
        self.before[word] + below.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nodes_are_numbered_in_their_order(
            nodes in proptest::collection::btree_set(1..500usize, 0..300),
            n in 500..600usize,
        ) {
            let mut set = NodeSet::of_root(n);
            nodes.iter().for_each(|&node| set.insert(node));
            let kept = set.numbered();
            let mut expected = vec![0];
            expected.extend(&nodes);
            prop_assert_eq!(kept.len(), expected.len());
            for (number, &node) in expected.iter().enumerate() {
                prop_assert!(kept.contains(node));
                prop_assert_eq!(kept.number(node as u32) as usize, number);
            }
            let there = (0..n).filter(|&node| kept.contains(node)).count();
            prop_assert_eq!(there, expected.len());
        }
    }
}
