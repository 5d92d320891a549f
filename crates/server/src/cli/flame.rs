//! A flame graph in the terminal: one line per bar, indented by depth.

use scoria_query::render::{Flamegraph, percentage, scaled};

/// Bars below this part of the whole are left out.
const SHARE_MIN: f64 = 0.01;

/// A bar and where it stands.
struct Bar {
    name: usize,
    x: i64,
    total: i64,
    /// Index of the bar below, in the level before.
    parent: usize,
}

/// The lines, root first, the widest of siblings first. Nothing for levels that make no sense.
pub(super) fn tree(graph: &Flamegraph, unit: &str) -> Vec<String> {
    let Some(levels) = read(graph) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut open = vec![(0_usize, 0_usize)];
    while let Some((depth, at)) = open.pop() {
        let Some(bar) = levels.get(depth).and_then(|level| level.get(at)) else {
            continue;
        };
        if (bar.total as f64) < SHARE_MIN * graph.total as f64 {
            continue;
        }
        let share = percentage(bar.total, graph.total);
        let value = scaled(bar.total, unit);
        let name = &graph.names[bar.name];
        lines.push(format!(
            "{share:>8}  {value:>10}  {}{name}",
            "  ".repeat(depth)
        ));
        if let Some(next) = levels.get(depth + 1) {
            let mut children: Vec<usize> =
                (0..next.len()).filter(|&c| next[c].parent == at).collect();
            children.sort_by_key(|&c| next[c].total);
            open.extend(children.into_iter().map(|c| (depth + 1, c)));
        }
    }
    lines
}

fn read(graph: &Flamegraph) -> Option<Vec<Vec<Bar>>> {
    let mut levels: Vec<Vec<Bar>> = Vec::with_capacity(graph.levels.len());
    for values in &graph.levels {
        let (tuples, _) = values.as_chunks::<4>();
        let mut edge = 0_i64;
        let mut parent = 0;
        let mut bars = Vec::with_capacity(tuples.len());
        for [distance, total, _, name] in tuples {
            let x = edge.checked_add(*distance)?;
            edge = x.checked_add(*total)?;
            if let Some(below) = levels.last() {
                while below.get(parent)?.x + below[parent].total <= x {
                    parent += 1;
                }
            }
            let name = usize::try_from(*name).ok()?;
            graph.names.get(name)?;
            bars.push(Bar {
                name,
                x,
                total: *total,
                parent,
            });
        }
        levels.push(bars);
    }
    Some(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(levels: &[&[i64]]) -> Flamegraph {
        Flamegraph {
            names: ["total", "foo", "baz", "bar"].map(str::to_owned).to_vec(),
            levels: levels.iter().map(|values| values.to_vec()).collect(),
            total: 6,
            max_self: 3,
        }
    }

    #[test]
    fn children_stand_under_their_parent_widest_first() {
        let graph = graph(&[&[0, 6, 0, 0], &[0, 6, 1, 1], &[1, 2, 2, 3, 0, 3, 3, 2]]);
        let lines = tree(&graph, "count");
        let names: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split_whitespace().last())
            .collect();
        assert_eq!(names, ["total", "foo", "baz", "bar"]);
        assert!(lines[2].ends_with("    baz"));
    }

    #[test]
    fn nonsense_gives_no_lines() {
        for levels in [&[&[0, 1, 0, 9][..]][..], &[&[0, 1, 0, 0], &[5, 1, 1, 0]]] {
            assert!(tree(&graph(levels), "count").is_empty());
        }
    }
}
