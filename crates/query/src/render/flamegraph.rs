//! Flame graphs in the encoding of flamebearer: levels of bars, each bar relative to the one on
//! its left.

use scoria_model::part::NONE;

use super::children::{Children, OtherAt};
use super::truncate::truncate;
use crate::merge::{Texts, TreePartial};

/// The name of the bar at level 0.
const TOTAL: &str = "total";

/// A flame graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flamegraph {
    /// The first is `total`.
    pub names: Vec<String>,
    /// Bars from left to right, four numbers each: distance from the end of the bar before, total,
    /// self, name index.
    pub levels: Vec<Vec<i64>>,
    pub total: i64,
    /// The largest self of any bar.
    pub max_self: i64,
}

/// Draws a tree, cut to about `max_nodes` nodes (0 = all).
pub fn flamegraph(tree: &TreePartial, max_nodes: usize) -> Flamegraph {
    let tree = truncate(tree.clone(), max_nodes);
    let bars = Bars {
        names: tree.names(),
        parent: tree.parents(),
        name: tree.name_ids(),
        sides: [Side {
            total: tree.totals(),
            own: tree.own().to_vec(),
        }],
    };
    let total = bars.sides[0].total[0];
    let laid = bars.lay_out();
    Flamegraph {
        names: laid.names,
        levels: laid.levels,
        total,
        max_self: laid.max_self,
    }
}

/// One side of a graph: the values of each node.
pub(super) struct Side {
    pub(super) total: Vec<i64>,
    pub(super) own: Vec<i64>,
}

/// A tree with one or two values per node, ready to be laid out.
pub(super) struct Bars<'a, const N: usize> {
    pub(super) names: &'a Texts,
    pub(super) parent: &'a [u32],
    pub(super) name: &'a [u32],
    pub(super) sides: [Side; N],
}

pub(super) struct LaidOut {
    pub(super) names: Vec<String>,
    /// `3 * N + 1` numbers a bar: distance, total and self of each side, name index.
    pub(super) levels: Vec<Vec<i64>>,
    pub(super) max_self: i64,
}

impl<const N: usize> Bars<'_, N> {
    pub(super) fn lay_out(&self) -> LaidOut {
        let shown = |at: usize| self.sides.iter().any(|side| side.total[at] > 0);
        let children = Children::sorted(self.names, (self.parent, self.name), OtherAt::End, shown);
        let (names, index) = self.name_indexes(&children);
        let mut levels = Vec::new();
        let mut max_self = 0;
        let mut level: Vec<(u32, [i64; N])> = vec![(0, [0; N])];
        while !level.is_empty() {
            let mut bars = Vec::with_capacity(level.len() * (3 * N + 1));
            let mut below = Vec::new();
            let mut end = [0i64; N];
            for &(node, x) in &level {
                let mut next_x = x;
                for (side, values) in self.sides.iter().enumerate() {
                    let (total, own) = (values.total[node as usize], values.own[node as usize]);
                    bars.extend([x[side].saturating_sub(end[side]), total, own]);
                    end[side] = x[side].saturating_add(total);
                    next_x[side] = x[side].saturating_add(own);
                    max_self = max_self.max(own);
                }
                bars.push(index[node as usize]);
                for &child in children.of(node) {
                    below.push((child, next_x));
                    for (side, values) in self.sides.iter().enumerate() {
                        next_x[side] = next_x[side].saturating_add(values.total[child as usize]);
                    }
                }
            }
            levels.push(bars);
            level = below;
        }
        LaidOut {
            names,
            levels,
            max_self,
        }
    }

    /// Names in the order of a walk that visits the last child first, and each node's index.
    fn name_indexes(&self, children: &Children) -> (Vec<String>, Vec<i64>) {
        let mut names = vec![TOTAL.to_owned()];
        let mut of_name = vec![NONE; self.names.len()];
        if let Some(total) = (0..self.names.len()).find(|&id| self.names.get(id as u32) == TOTAL) {
            of_name[total] = 0;
        }
        let mut index = vec![0i64; self.parent.len()];
        let mut stack = children.of(0).to_vec();
        while let Some(node) = stack.pop() {
            let name = self.name[node as usize];
            let known = &mut of_name[name as usize];
            if *known == NONE {
                *known = names.len() as u32;
                names.push(self.names.get(name).to_owned());
            }
            index[node as usize] = i64::from(*known);
            stack.extend_from_slice(children.of(node));
        }
        (names, index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(stacks: &[(&str, i64)], max_nodes: usize) -> Flamegraph {
        flamegraph(&TreePartial::from_folded(stacks.iter().copied()), max_nodes)
    }

    #[test]
    fn the_golden_vector() {
        let graph = graph(&[("foo", 1), ("foo;bar", 2), ("foo;baz", 3)], 0);
        assert_eq!(graph.names, ["total", "foo", "baz", "bar"]);
        assert_eq!(
            graph.levels,
            [
                vec![0, 6, 0, 0],
                vec![0, 6, 1, 1],
                vec![1, 2, 2, 3, 0, 3, 3, 2]
            ]
        );
        assert_eq!((graph.total, graph.max_self), (6, 3));
    }

    #[test]
    fn nothing_is_one_bar() {
        let graph = graph(&[], 100);
        assert_eq!(graph.names, ["total"]);
        assert_eq!(graph.levels, [[0, 0, 0, 0]]);
    }

    #[test]
    fn a_function_named_total_shares_its_index_and_other_stands_last() {
        let graph = graph(&[("total", 1), ("z", 5), ("a", 1), ("b", 1)], 1);
        assert_eq!(graph.names, ["total", "other", "z"]);
        assert_eq!(graph.levels[1], [0, 5, 5, 2, 0, 3, 3, 1]);
        let whole = self::graph(&[("total", 1)], 0);
        assert_eq!(whole.names, ["total"]);
    }

    /// Bars back to (path, self), by position as Grafana's converter does it.
    fn unfold(graph: &Flamegraph) -> Vec<(String, i64)> {
        let mut stacks = Vec::new();
        let mut above = vec![(0i64, i64::MAX, String::new())];
        for (depth, level) in graph.levels.iter().enumerate() {
            let mut here = Vec::new();
            let mut end = 0;
            for bar in level.chunks(4) {
                let x = end + bar[0];
                end = x + bar[1];
                let holder = above.iter().find(|(from, to, _)| *from <= x && end <= *to);
                let (_, _, path) = holder.expect("a bar outside its parent");
                let name = &graph.names[bar[3] as usize];
                let path = match depth {
                    0 => String::new(),
                    _ if path.is_empty() => name.clone(),
                    _ => format!("{path};{name}"),
                };
                if bar[2] > 0 {
                    stacks.push((path.clone(), bar[2]));
                }
                assert!(depth == 0 || bar[1] > 0, "a bar without width");
                here.push((x + bar[2], end, path));
            }
            above = here;
        }
        stacks.sort();
        stacks
    }

    proptest! {
        #[test]
        fn bars_give_the_tree_back(
            stacks in proptest::collection::vec(("[a-c](;[a-d]){0,4}", 1..1000i64), 0..60),
            max_nodes in 0..40usize,
        ) {
            let tree = TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
            let graph = flamegraph(&tree, max_nodes);
            prop_assert_eq!(unfold(&graph), truncate(tree.clone(), max_nodes).to_folded());
            prop_assert_eq!(graph.total, tree.total());
        }
    }
}
