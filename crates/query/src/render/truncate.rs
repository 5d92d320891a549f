//! Cutting a tree to its largest nodes.

use scoria_model::part::NONE;

use crate::merge::{Kept, NodeSet, TreeBuilder, TreePartial, TreeShape, add_up};

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
///
/// The values are added up in place if no other tree has them.
pub fn truncate(tree: TreePartial, max_nodes: usize) -> TreePartial {
    if max_nodes == 0 || tree.len() <= max_nodes {
        return tree;
    }
    // Sums that saturate do not tell what they are made of.
    let whole = (!fits(tree.own())).then(|| tree.clone());
    let (shape, mut totals) = tree.into_own();
    add_up(&shape.parent, &mut totals);
    let counted = totals[1..].iter().copied().filter(|&total| total > 0);
    let least = threshold(counted, max_nodes);
    if least == 0 {
        return whole.unwrap_or_else(|| {
            take_apart(&shape.parent, &mut totals);
            shape.with(totals)
        });
    }
    let names = &shape.names;
    let other = (0..names.len() as u32).find(|&name| names.get(name) == OTHER);
    let mut kept = NodeSet::of_root(totals.len());
    for (at, &total) in totals.iter().enumerate().skip(1) {
        let stays = total >= least && Some(shape.name[at]) != other;
        if stays && kept.contains(shape.parent[at] as usize) {
            kept.insert(at);
        }
    }
    cut(&shape, &totals, &kept.numbered(), whole.as_ref())
}

/// Whether no sum of these values saturates.
fn fits(own: &[i64]) -> bool {
    let sum = own.iter().try_fold(0u64, |sum, own| {
        let sum = sum.checked_add(own.unsigned_abs())?;
        (sum <= i64::MAX as u64).then_some(sum)
    });
    sum.is_some()
}

/// The opposite of [`add_up`].
fn take_apart(parents: &[u32], totals: &mut [i64]) {
    for at in 1..totals.len() {
        // What lies below this node stands behind it, and was not taken from it yet.
        totals[parents[at] as usize] -= totals[at];
    }
}

/// The tree of the nodes that are kept. Their own values are those of `whole`, or what is left of
/// their totals without those of all below them.
fn cut(shape: &TreeShape, totals: &[i64], kept: &Kept, whole: Option<&TreePartial>) -> TreePartial {
    let mut tree = TreeBuilder::with_capacity(kept.len());
    let mut new_name = vec![NONE; shape.names.len()];
    let mut name = |tree: &mut TreeBuilder, name: u32| {
        let known = &mut new_name[name as usize];
        if *known == NONE {
            *known = tree.names.push(shape.names.get(name));
        }
        *known
    };
    tree.own[0] = totals[0];
    // What is cut under each node that stays.
    let mut cut_under: Vec<i64> = vec![0; kept.len()];
    for (at, &total) in totals.iter().enumerate().skip(1) {
        let parent = shape.parent[at];
        if !kept.contains(parent as usize) {
            continue;
        }
        let above = kept.number(parent) as usize;
        tree.own[above] = tree.own[above].saturating_sub(total);
        if kept.contains(at) {
            let name = name(&mut tree, shape.name[at]);
            tree.push(above as u32, name, total);
        } else {
            cut_under[above] = cut_under[above].saturating_add(total);
        }
    }
    if let Some(whole) = whole {
        let own = whole.own().iter().enumerate();
        let own = own.filter(|&(at, _)| kept.contains(at));
        tree.own = own.map(|(_, &own)| own).collect();
    }
    let other = tree.names.push(OTHER);
    for (parent, sum) in (0..).zip(cut_under).filter(|&(_, sum)| sum > 0) {
        tree.push(parent, other, sum);
    }
    tree.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(stacks: &[(&str, i64)], max_nodes: usize) -> Vec<(String, i64)> {
        truncate(TreePartial::from_folded(stacks.iter().copied()), max_nodes).to_folded()
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

    #[test]
    fn sums_that_saturate_leave_own_values_as_they_are() {
        let half = i64::MAX / 2 + 1;
        let stacks = [("a", 5), ("a;b", half), ("a;c", half), ("d", 1), ("e", 1)];
        let cut = cut(&stacks, 3);
        let expected = [("a", 5), ("a;b", half), ("a;c", half), ("other", 2)];
        assert_eq!(cut, owned(&expected));
        assert_eq!(self::cut(&stacks[..3], 2), owned(&stacks[..3]));
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

        /// Values that no other tree has are added up in place; the tree is the same.
        #[test]
        fn in_place_and_beside(
            stacks in proptest::collection::vec(("[a-c](;([a-d]|other)){0,4}", -20..1000i64), 1..60),
            max_nodes in 0..40usize,
        ) {
            let tree = || TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
            let kept = tree();
            let beside = truncate(kept.clone(), max_nodes);
            prop_assert_eq!(truncate(tree(), max_nodes).to_folded(), beside.to_folded());
            prop_assert_eq!(kept.to_folded(), tree().to_folded());
        }

        #[test]
        fn the_total_stays_exact(
            stacks in proptest::collection::vec(("[a-c](;([a-d]|other)){0,4}", 1..1000i64), 1..60),
            max_nodes in 0..40usize,
        ) {
            let tree = TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
            let cut = truncate(tree.clone(), max_nodes);
            prop_assert_eq!(cut.total(), tree.total());
            let roots = |tree: &TreePartial| -> i64 {
                let totals = tree.totals();
                (1..tree.len()).filter(|&at| tree.parents()[at] == 0).map(|at| totals[at]).sum()
            };
            prop_assert_eq!(roots(&cut), roots(&tree));
        }
    }
}
