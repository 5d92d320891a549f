//! Cutting a tree to its largest nodes.

use scoria_model::part::NONE;

use crate::merge::TreePartial;

/// What was cut is shown under this name.
pub const OTHER: &str = "other";

/// The value below which nodes are cut so that about `max_nodes` stay: the `max_nodes`-th largest;
/// 0 if nothing needs to be cut. `totals` are those of the nodes that count.
pub(super) fn threshold(mut totals: Vec<i64>, max_nodes: usize) -> i64 {
    if max_nodes == 0 || totals.len() <= max_nodes {
        return 0;
    }
    let (_, nth, _) = totals.select_nth_unstable_by(max_nodes - 1, |a, b| b.cmp(a));
    *nth
}

/// Cuts a tree to about `max_nodes` nodes (0 = all): nodes smaller than the `max_nodes`-th largest
/// become, per parent, one leaf [`OTHER`] with their sum, and so do real nodes of that name. A tree
/// that is small enough stays as it is.
pub fn truncate(tree: &TreePartial, max_nodes: usize) -> TreePartial {
    let totals = tree.totals();
    let counted = totals[1..].iter().copied().filter(|&total| total > 0);
    let least = threshold(counted.collect(), max_nodes);
    if least == 0 {
        return tree.clone();
    }
    let other = (0..tree.names.len() as u32).find(|&name| tree.names.get(name) == OTHER);
    let mut cut = TreePartial {
        names: tree.names.clone(),
        ..TreePartial::default()
    };
    cut.own[0] = tree.own[0];
    let other_name = other.unwrap_or_else(|| cut.names.push(OTHER));
    let mut new_node = vec![NONE; tree.len()];
    new_node[0] = 0;
    // What is cut under each node that stays.
    let mut cut_under: Vec<i64> = vec![0];
    for at in 1..tree.len() {
        let above = new_node[tree.parent[at] as usize];
        let Some(sum) = cut_under.get_mut(above as usize) else {
            continue;
        };
        if totals[at] >= least && tree.name[at] != other_name {
            new_node[at] = cut.push(above, tree.name[at], tree.own[at]);
            cut_under.push(0);
        } else {
            *sum = sum.saturating_add(totals[at]);
        }
    }
    for (parent, sum) in cut_under
        .into_iter()
        .enumerate()
        .filter(|&(_, sum)| sum > 0)
    {
        cut.push(parent as u32, other_name, sum);
    }
    cut
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
