//! Cutting a tree to its largest nodes.

use std::borrow::Cow;

use crate::merge::{NodeSet, TreePartial};

/// What was cut is shown under this name.
pub const OTHER: &str = "other";

/// The value below which nodes are cut so that about `max_nodes` stay: the `max_nodes`-th largest;
/// 0 if nothing needs to be cut. `totals` are those of the nodes that count. No more than twice
/// `max_nodes` of them are held at a time.
pub(super) fn threshold(totals: impl Iterator<Item = i64>, max_nodes: usize) -> i64 {
    if max_nodes == 0 {
        return 0;
    }
    let nth_of = |largest: &mut Vec<i64>| {
        let (_, nth, _) = largest.select_nth_unstable_by(max_nodes - 1, |a, b| b.cmp(a));
        *nth
    };
    let mut n: usize = 0;
    let mut largest = Vec::new();
    // What is not above it does not change the answer.
    let mut floor = i64::MIN;
    for total in totals {
        n += 1;
        if total > floor {
            largest.push(total);
        }
        if largest.len() >= max_nodes.saturating_mul(2) {
            floor = nth_of(&mut largest);
            largest.truncate(max_nodes);
        }
    }
    if n <= max_nodes {
        return 0;
    }
    nth_of(&mut largest)
}

/// Cuts a tree to about `max_nodes` nodes (0 = all): nodes smaller than the `max_nodes`-th largest
/// become, per parent, one leaf [`OTHER`] with their sum, and so do real nodes of that name. A tree
/// that is small enough stays as it is.
pub fn truncate(tree: &TreePartial, max_nodes: usize) -> Cow<'_, TreePartial> {
    if max_nodes == 0 || tree.len() <= max_nodes {
        return Cow::Borrowed(tree);
    }
    let totals = tree.totals();
    let counted = totals[1..].iter().copied().filter(|&total| total > 0);
    let least = threshold(counted, max_nodes);
    if least == 0 {
        return Cow::Borrowed(tree);
    }
    let mut names = tree.names.clone();
    let other = (0..names.len() as u32).find(|&name| names.get(name) == OTHER);
    let other = other.unwrap_or_else(|| names.push(OTHER));
    let mut kept = NodeSet::of_root(tree.len());
    for (at, &total) in totals.iter().enumerate().skip(1) {
        let stays = total >= least && tree.name[at] != other;
        if stays && kept.contains(tree.parent[at] as usize) {
            kept.insert(at);
        }
    }
    let kept = kept.numbered();
    let mut cut = TreePartial {
        names,
        ..TreePartial::default()
    };
    cut.own[0] = tree.own[0];
    // What is cut under each node that stays.
    let mut cut_under: Vec<i64> = vec![0; kept.len()];
    for (at, &total) in totals.iter().enumerate().skip(1) {
        let parent = tree.parent[at];
        if kept.contains(at) {
            cut.push(kept.number(parent), tree.name[at], tree.own[at]);
        } else if kept.contains(parent as usize) {
            let sum = &mut cut_under[kept.number(parent) as usize];
            *sum = sum.saturating_add(total);
        }
    }
    for (parent, sum) in (0..).zip(cut_under).filter(|&(_, sum)| sum > 0) {
        cut.push(parent, other, sum);
    }
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(stacks: &[(&str, i64)], max_nodes: usize) -> Vec<(String, i64)> {
        truncate(&TreePartial::from_folded(stacks.iter().copied()), max_nodes).to_folded()
    }

    fn owned(stacks: &[(&str, i64)]) -> Vec<(String, i64)> {
        stacks.iter().map(|&(s, v)| (s.to_owned(), v)).collect()
    }

    #[test]
    fn losers_become_other_per_parent() {
        let stacks = [("a;b", 5), ("a;c", 1), ("a;d", 1), ("e", 2)];
        assert_eq!(cut(&stacks, 0), owned(&stacks));
        assert_eq!(cut(&stacks, 5), owned(&stacks));
        assert_eq!(
            cut(&stacks, 3),
            owned(&[("a;b", 5), ("a;other", 2), ("e", 2)])
        );
        assert_eq!(cut(&stacks, 1), owned(&[("a;other", 7), ("other", 2)]));
    }

    #[test]
    fn ties_stay_and_a_real_other_is_cut_when_anything_is() {
        let stacks = [("a", 2), ("b", 2), ("other;x", 9), ("c", 1)];
        assert_eq!(cut(&stacks, 3), owned(&[("a", 2), ("b", 2), ("other", 10)]));
        assert_eq!(cut(&stacks, 9), cut(&stacks, 0));
    }

    proptest! {
        #[test]
        fn the_nth_largest_of_any_values(
            values in proptest::collection::vec(1..50i64, 0..200),
            max_nodes in 0..40usize,
        ) {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let expected = match max_nodes {
                0 => 0,
                n if sorted.len() <= n => 0,
                n => sorted[n - 1],
            };
            prop_assert_eq!(threshold(values.into_iter(), max_nodes), expected);
        }

        #[test]
        fn the_total_stays_exact(
            stacks in proptest::collection::vec(("[a-c](;([a-d]|other)){0,4}", 1..1000i64), 1..60),
            max_nodes in 0..40usize,
        ) {
            let tree = TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
            let cut = truncate(&tree, max_nodes);
            prop_assert_eq!(cut.total(), tree.total());
            let roots = |tree: &TreePartial| -> i64 {
                let totals = tree.totals();
                (1..tree.len()).filter(|&at| tree.parent[at] == 0).map(|at| totals[at]).sum()
            };
            prop_assert_eq!(roots(&cut), roots(&tree));
        }
    }
}
