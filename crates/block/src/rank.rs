//! Stack ranks: the numbers by which samples name stacks.
//!
//! The stack with the most samples has rank 0, and so on; stacks with equally many are ranked in
//! pre-order. The `stacks` table stores how many samples each stack has, from which the writer and
//! every reader derive the same ranks: that is smaller than storing the ranks themselves.

use std::cmp::Reverse;

/// The nodes that have samples, by rank.
pub(crate) fn nodes_by_rank(n_samples: &[u32]) -> Vec<u32> {
    let mut stacks: Vec<(Reverse<u32>, u32)> = n_samples
        .iter()
        .zip(0..)
        .filter(|&(&n, _)| n > 0)
        .map(|(&n, node)| (Reverse(n), node))
        .collect();
    stacks.sort_unstable();
    stacks.into_iter().map(|(_, node)| node).collect()
}
