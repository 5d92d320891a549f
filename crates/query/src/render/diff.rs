//! Two trees side by side.

use scoria_model::part::NONE;

use super::flamegraph::{Bars, Side};
use super::truncate::{OTHER, threshold, truncate};
use crate::merge::{TreeBuilder, TreeMerger, TreePartial};

/// A flame graph of two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlamegraphDiff {
    /// The first is `total`.
    pub names: Vec<String>,
    /// Bars from left to right, seven numbers each: distance, total and self of the left side, the
    /// same of the right side, name index.
    pub levels: Vec<Vec<i64>>,
    /// Of both sides together.
    pub total: i64,
    /// The largest self of any bar on either side.
    pub max_self: i64,
    pub left_ticks: i64,
    pub right_ticks: i64,
}

/// A difference wants values that are not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a difference cannot be drawn of negative values, and one stacktrace has {value}")]
pub struct NegativeValue {
    pub value: i64,
}

/// Draws two trees, each and then both together cut to about `max_nodes` nodes (0 = all).
///
/// # Errors
/// [`NegativeValue`].
pub fn diff(
    left: &TreePartial,
    right: &TreePartial,
    max_nodes: usize,
) -> Result<FlamegraphDiff, NegativeValue> {
    let (left, right) = (side(left, max_nodes)?, side(right, max_nodes)?);
    Ok(diff_of_sides(&left, &right, max_nodes))
}

/// One side of a difference, cut to about `max_nodes` nodes.
///
/// # Errors
/// [`NegativeValue`].
pub fn side(tree: &TreePartial, max_nodes: usize) -> Result<TreePartial, NegativeValue> {
    match tree.own().iter().copied().find(|&own| own < 0) {
        Some(value) => Err(NegativeValue { value }),
        None => Ok(truncate(tree.clone(), max_nodes)),
    }
}

/// Draws two trees that [`side`] has cut, both together cut once more.
pub fn diff_of_sides(left: &TreePartial, right: &TreePartial, max_nodes: usize) -> FlamegraphDiff {
    let mut both = TreeMerger::default();
    both.add(left);
    let mut of_left = both.own_so_far();
    both.add(right);
    let tree = both.finish();
    of_left.resize(tree.len(), 0);
    let of_right = tree.own().iter().zip(&of_left);
    let of_right = of_right
        .map(|(both, left)| both.saturating_sub(*left))
        .collect();
    let (tree, own) = cut(tree, [of_left, of_right], max_nodes);
    let sides = own.map(|own| Side {
        total: tree.totals_of(&own),
        own,
    });
    let (left_ticks, right_ticks) = (sides[0].total[0], sides[1].total[0]);
    let bars = Bars {
        names: tree.names(),
        parent: tree.parents(),
        name: tree.name_ids(),
        sides,
    };
    let laid = bars.lay_out();
    FlamegraphDiff {
        names: laid.names,
        levels: laid.levels,
        total: left_ticks.saturating_add(right_ticks),
        max_self: laid.max_self,
        left_ticks,
        right_ticks,
    }
}

/// Cuts nodes that are small on both sides; what is named `other` already stays and takes them in.
fn cut(tree: TreePartial, own: [Vec<i64>; 2], max_nodes: usize) -> (TreePartial, [Vec<i64>; 2]) {
    let totals = [tree.totals_of(&own[0]), tree.totals_of(&own[1])];
    let larger = |at: usize| totals[0][at].max(totals[1][at]);
    let counted = (1..tree.len()).map(larger).filter(|&total| total > 0);
    let least = threshold(counted, max_nodes);
    if least == 0 {
        return (tree, own);
    }
    let mut kept = TreeBuilder {
        names: tree.names().clone(),
        ..TreeBuilder::default()
    };
    let names = tree.names();
    let other = (0..names.len() as u32).find(|&name| names.get(name) == OTHER);
    let other = other.unwrap_or_else(|| kept.names.push(OTHER));
    let mut kept_own = [vec![own[0][0]], vec![own[1][0]]];
    let mut new_node = vec![NONE; tree.len()];
    new_node[0] = 0;
    let mut other_under: Vec<u32> = vec![NONE];
    let mut cut_under: Vec<[i64; 2]> = vec![[0; 2]];
    for at in 1..tree.len() {
        let above = new_node[tree.parents()[at] as usize];
        if above == NONE {
            continue;
        }
        let name = tree.name_ids()[at];
        if larger(at) >= least || name == other {
            new_node[at] = kept.push(above, name, 0);
            if name == other {
                other_under[above as usize] = new_node[at];
            }
            other_under.push(NONE);
            cut_under.push([0; 2]);
            kept_own
                .iter_mut()
                .zip(&own)
                .for_each(|(to, from)| to.push(from[at]));
        } else {
            let sums = &mut cut_under[above as usize];
            sums.iter_mut()
                .zip(&totals)
                .for_each(|(sum, totals)| *sum = sum.saturating_add(totals[at]));
        }
    }
    for (above, sums) in cut_under.into_iter().enumerate() {
        if sums == [0; 2] {
            continue;
        }
        let at = match other_under[above] {
            NONE => {
                kept_own.iter_mut().for_each(|own| own.push(0));
                kept.push(above as u32, other, 0)
            }
            at => at,
        };
        for (own, sum) in kept_own.iter_mut().zip(sums) {
            own[at as usize] = own[at as usize].saturating_add(sum);
        }
    }
    (kept.finish(), kept_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(stacks: &[(&str, i64)]) -> TreePartial {
        TreePartial::from_folded(stacks.iter().copied())
    }

    #[test]
    fn the_golden_vector() {
        let left = tree(&[("foo;bar", 1), ("foo;bar;baz", 1)]);
        let right = tree(&[("foo;bar", 1), ("foo;bar;buz", 2)]);
        let diff = diff(&left, &right, 0).unwrap();
        assert_eq!(diff.names, ["total", "foo", "bar", "buz", "baz"]);
        assert_eq!(
            diff.levels,
            [
                vec![0, 2, 0, 0, 3, 0, 0],
                vec![0, 2, 0, 0, 3, 0, 1],
                vec![0, 2, 1, 0, 3, 1, 2],
                vec![1, 1, 1, 1, 0, 0, 4, 0, 0, 0, 0, 2, 2, 3]
            ]
        );
        assert_eq!((diff.total, diff.left_ticks, diff.right_ticks), (5, 2, 3));
        assert_eq!(diff.max_self, 2);
    }

    #[test]
    fn empty_sides() {
        let none = diff(&tree(&[]), &tree(&[]), 10).unwrap();
        assert_eq!(none.levels, [[0, 0, 0, 0, 0, 0, 0]]);
        let half = diff(&tree(&[("a", 3)]), &tree(&[]), 10).unwrap();
        assert_eq!(half.levels[1], [0, 3, 3, 0, 0, 0, 1]);
    }

    #[test]
    fn a_node_stays_for_either_side_and_losers_pool() {
        let left = tree(&[("a", 10), ("b", 1), ("c", 1), ("d", 1)]);
        let right = tree(&[("a", 1), ("b", 20), ("c", 1), ("e", 1)]);
        let diff = diff(&left, &right, 2).unwrap();
        assert_eq!(diff.names, ["total", "other", "b", "a"]);
        assert_eq!(
            diff.levels[1],
            [
                0, 10, 10, 0, 1, 1, 3, 0, 1, 1, 0, 20, 20, 2, 0, 2, 2, 0, 2, 2, 1
            ]
        );
        assert_eq!((diff.left_ticks, diff.right_ticks), (13, 23));
    }

    #[test]
    fn negative_values_are_refused() {
        let error = diff(&tree(&[("a", -3)]), &tree(&[]), 10).unwrap_err();
        assert_eq!(error.value, -3);
    }
}
