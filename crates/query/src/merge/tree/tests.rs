use proptest::prelude::*;

use super::*;

#[test]
fn trees_unite_by_name() {
    let mut merger = TreeMerger::default();
    merger.add(&TreePartial::from_folded([("a;b", 1), ("a", 2)]));
    merger.add(&TreePartial::from_folded([("c", 4), ("a;b", 3)]));
    let tree = merger.finish();
    let expected = [("a", 2), ("a;b", 4), ("c", 4)].map(|(s, v)| (s.to_owned(), v));
    assert_eq!(tree.to_folded(), expected);
    assert_eq!(tree.total(), 10);
}

#[test]
fn the_only_tree_is_not_copied() {
    let tree = TreePartial::from_folded([("a;b", 1), ("c", 2)]);
    let mut merger = TreeMerger::default();
    merger.add(&TreePartial::default());
    merger.add(&tree);
    assert_eq!(merger.finish(), tree);
    let mut merger = TreeMerger::default();
    merger.add(&tree);
    merger.add(&TreePartial::default());
    let merged = merger.finish();
    assert!(Arc::ptr_eq(&merged.shape, &tree.shape) && Arc::ptr_eq(&merged.own, &tree.own));
}

/// Ten functions under one another and beside each other, of which `values` have some.
fn spread(values: &[(usize, i64)]) -> TreePartial {
    let mut tree = TreeBuilder::default();
    let names: Vec<u32> = (0..10)
        .map(|n| tree.names.intern(&format!("f{n}")))
        .collect();
    for node in 0..100u32 {
        tree.push(node / 10, names[node as usize % 10], 0);
    }
    for &(at, value) in values {
        tree.own[at] = value;
    }
    tree.finish()
}

#[test]
fn nodes_without_values_are_nothing_to_anybody() {
    let tree = spread(&[(37, 5), (3, 2)]);
    let used = tree.used().numbered();
    let compact = TreePartial::compact(&tree.shape, &tree.own, &used);
    assert_eq!((compact.len(), compact.names().len()), (3, 2));
    assert_eq!(compact.to_folded(), tree.to_folded());
    let mut merger = TreeMerger::default();
    merger.add(&tree);
    merger.add(&compact);
    let both = merger.finish();
    assert_eq!((both.len(), both.total()), (3, 14));
    assert!(spread(&[]).is_empty());
}

fn stacks() -> impl Strategy<Value = Vec<(String, i64)>> {
    proptest::collection::vec(("[a-d](;[a-d]){0,4}", 1..100i64), 0..40)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_tree(stacks in stacks(), cuts in proptest::collection::vec(0..40usize, 0..4)) {
        let whole = TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
        let mut merger = TreeMerger::default();
        let mut cuts = cuts;
        cuts.extend([0, stacks.len()]);
        cuts.sort_unstable();
        // Pieces in reverse order: the order must not matter either.
        for pair in cuts.windows(2).rev() {
            let piece = &stacks[pair[0].min(stacks.len())..pair[1].min(stacks.len())];
            merger.add(&TreePartial::from_folded(piece.iter().map(|(s, v)| (s.as_str(), *v))));
        }
        let merged = merger.finish();
        prop_assert_eq!(merged.to_folded(), whole.to_folded());
        prop_assert_eq!(merged.total(), whole.total());
    }
}
