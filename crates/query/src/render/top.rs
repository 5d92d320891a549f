//! Functions by what they and their callees take.

use scoria_model::part::NONE;

use super::children::{Children, OtherAt};
use crate::merge::TreePartial;

/// One function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopRow {
    pub name: String,
    /// Of stacktraces that end in the function.
    pub own: i64,
    /// Of stacktraces that the function is on, each counted once however often it is on it.
    pub total: i64,
}

/// All functions of a tree, the largest own value first, then the largest total, then by name.
/// Give it a tree that was not cut: what is cut has no functions.
pub fn top(tree: &TreePartial) -> Vec<TopRow> {
    let mut rows: Vec<TopRow> = tree
        .names()
        .iter()
        .map(|name| TopRow {
            name: name.to_owned(),
            own: 0,
            total: 0,
        })
        .collect();
    let totals = tree.totals();
    for at in 1..tree.len() {
        let row = &mut rows[tree.name_ids()[at] as usize];
        row.own = row.own.saturating_add(tree.own()[at]);
    }
    let mut on_path = vec![0u32; tree.names().len()];
    walk(tree, &totals, |step| match step {
        Step::Enter(node) => {
            let name = tree.name_ids()[node as usize] as usize;
            if on_path[name] == 0 {
                rows[name].total = rows[name].total.saturating_add(totals[node as usize]);
            }
            on_path[name] += 1;
        }
        Step::Leave(node) => on_path[tree.name_ids()[node as usize] as usize] -= 1,
    });
    rows.retain(|row| row.total != 0);
    rows.sort_by(|a, b| {
        let key = |row: &TopRow| (row.own, row.total);
        key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
    });
    rows
}

/// One step of a walk: down into a node, or back out of it.
pub(super) enum Step {
    Enter(u32),
    Leave(u32),
}

/// Walks depth first over all nodes with a value but the root.
pub(super) fn walk(tree: &TreePartial, totals: &[i64], mut visit: impl FnMut(Step)) {
    let children = Children::sorted(
        tree.names(),
        (tree.parents(), tree.name_ids()),
        OtherAt::ItsName,
        |at| totals[at] != 0,
    );
    let mut stack: Vec<(u32, u32)> = children.of(0).iter().rev().map(|&at| (at, NONE)).collect();
    while let Some((node, entered)) = stack.pop() {
        if entered != NONE {
            visit(Step::Leave(node));
            continue;
        }
        visit(Step::Enter(node));
        stack.push((node, 0));
        stack.extend(children.of(node).iter().rev().map(|&at| (at, NONE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursion_counts_once() {
        let tree = TreePartial::from_folded([("a;b;a", 3), ("a;b", 1), ("b", 2), ("c", 4)]);
        let rows: Vec<(String, i64, i64)> = top(&tree)
            .into_iter()
            .map(|row| (row.name, row.own, row.total))
            .collect();
        let expected = [("c", 4, 4), ("b", 3, 6), ("a", 3, 4)];
        assert_eq!(rows, expected.map(|(n, o, t)| (n.to_owned(), o, t)));
    }
}
