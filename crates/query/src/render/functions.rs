//! Functions as tables of their own: whole sums, and no row for what a flame graph leaves out.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use super::top::{TopRow, top};
use crate::merge::TreePartial;

/// The functions of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionTable {
    /// The largest own value first, then the largest total, then by name.
    pub rows: Vec<TopRow>,
    /// Of the whole profile.
    pub total: i64,
    /// Functions that there are, shown or not.
    pub n: usize,
}

/// The functions of two profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionTableDiff {
    /// The largest share of the total on either side first, then by name.
    pub rows: Vec<FunctionDiffRow>,
    pub left_total: i64,
    pub right_total: i64,
}

/// One function on both sides; zeros where it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDiffRow {
    pub name: String,
    /// Own value and total.
    pub left: (i64, i64),
    pub right: (i64, i64),
}

/// The functions of a tree that was not cut, at most `max_rows` of them (0 = all).
pub fn functions(tree: &TreePartial, max_rows: usize) -> FunctionTable {
    let mut rows = top(tree);
    let n = rows.len();
    shorten(&mut rows, max_rows);
    FunctionTable {
        rows,
        total: tree.total(),
        n,
    }
}

/// The functions of two trees that were not cut, at most `max_rows` of them (0 = all).
pub fn functions_diff(
    left: &TreePartial,
    right: &TreePartial,
    max_rows: usize,
) -> FunctionTableDiff {
    let mut sides: BTreeMap<String, [(i64, i64); 2]> = BTreeMap::new();
    for (side, tree) in [left, right].into_iter().enumerate() {
        for row in top(tree) {
            sides.entry(row.name).or_default()[side] = (row.own, row.total);
        }
    }
    let totals = [left.total(), right.total()];
    let rows = sides
        .into_iter()
        .map(|(name, [left, right])| FunctionDiffRow { name, left, right });
    let mut rows: Vec<FunctionDiffRow> = rows.collect();
    // They come sorted by name, and the sort is stable.
    rows.sort_by_key(|row| Reverse(larger_share(row, totals)));
    shorten(&mut rows, max_rows);
    FunctionTableDiff {
        rows,
        left_total: totals[0],
        right_total: totals[1],
    }
}

fn shorten<T>(rows: &mut Vec<T>, max_rows: usize) {
    if max_rows > 0 {
        rows.truncate(max_rows);
    }
}

fn larger_share(row: &FunctionDiffRow, totals: [i64; 2]) -> Share {
    let of = |part: i64, whole: i64| match whole {
        0 => Share { part: 0, whole: 1 },
        // Of values below 0 the whole may be, too; the order needs one that is not.
        whole => Share {
            part: i128::from(part) * i128::from(whole.signum()),
            whole: i128::from(whole).abs(),
        },
    };
    of(row.left.1, totals[0]).max(of(row.right.1, totals[1]))
}

/// A part of a whole that is larger than 0, compared without rounding.
#[derive(Debug, Clone, Copy)]
struct Share {
    part: i128,
    whole: i128,
}

impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        // Both fit 64 bits, so that their product fits.
        let cross = |a: &Self, b: &Self| a.part * b.whole;
        cross(self, other).cmp(&cross(other, self))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Share {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_and_sums_are_not() {
        let tree = TreePartial::from_folded([("a;b", 5), ("a;c", 1), ("d", 1)]);
        let table = functions(&tree, 2);
        let rows: Vec<(&str, i64, i64)> = table
            .rows
            .iter()
            .map(|row| (row.name.as_str(), row.own, row.total))
            .collect();
        assert_eq!(rows, [("b", 5, 5), ("c", 1, 1)]);
        assert_eq!((table.total, table.n), (7, 4));
        assert_eq!(functions(&tree, 0).rows.len(), 4);
    }

    #[test]
    fn the_larger_share_comes_first() {
        let left = TreePartial::from_folded([("a", 9), ("b", 1)]);
        let right = TreePartial::from_folded([("b", 400), ("c", 600)]);
        let diff = functions_diff(&left, &right, 0);
        let names: Vec<&str> = diff.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["a", "c", "b"]);
        assert_eq!((diff.left_total, diff.right_total), (10, 1000));
        assert_eq!(
            (diff.rows[2].left, diff.rows[2].right),
            ((1, 1), (400, 400))
        );
        let none = functions_diff(&left, &TreePartial::default(), 1);
        assert_eq!((none.rows.len(), none.right_total), (1, 0));
    }

    /// An order that contradicts itself is a wrong one, and may make a sort of many rows panic.
    #[test]
    fn shares_of_a_whole_below_zero_are_in_order_too() {
        let names: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
        let tree = |own: fn(i64) -> i64| {
            let rows = names.iter().zip(0..).map(|(f, n)| (f.as_str(), own(n)));
            TreePartial::from_folded(rows)
        };
        let (left, right) = (tree(|n| n * 37 % 101 - 30), tree(|n| 30 - n * 53 % 101));
        assert!(left.total() > 0 && right.total() < 0);
        let diff = functions_diff(&left, &right, 0);
        let share = |row: &FunctionDiffRow| {
            let of = |part: i64, whole: i64| part as f64 / whole as f64;
            of(row.left.1, diff.left_total).max(of(row.right.1, diff.right_total))
        };
        let shares: Vec<f64> = diff.rows.iter().map(share).collect();
        assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
    }
}
