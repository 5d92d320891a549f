use proptest::collection::vec;
use proptest::prelude::*;

use crate::tests::{any_part, interned, shown};
use crate::*;

proptest! {
    #[test]
    fn stacks_keep_their_meaning_and_tables_are_dense_and_sorted(
        parts in vec(any_part(), 1..4),
        keep in any::<u64>(),
    ) {
        let (dictionary, nodes) = interned(&parts);
        let symbols = dictionary.snapshot();
        let mut used = vec![false; symbols.nodes_len()];
        for (at, node) in nodes.iter().flatten().filter(|&&node| node != NONE).enumerate() {
            used[*node as usize] |= keep & (1 << (at % 64)) != 0;
        }
        let order = symbols.pre_order(&used);
        let dense = Symbols::from_tables(order.tables.clone()).unwrap();
        for (node, _) in used.iter().enumerate().filter(|(_, used)| **used) {
            let new = order.node_map[node];
            prop_assert_eq!(shown(&symbols, node as u32), shown(&dense, new));
        }
        check_tree(&order.tables)?;
        let strings: Vec<&str> =
            (0..dense.strings_len() as u32).map(|id| dense.string(id)).collect();
        prop_assert!(strings.is_sorted());
        let first_lines: Vec<Option<(u32, i64)>> = (0..dense.locations_len() as u32)
            .map(|id| dense.location(id).lines.first().map(|l| (l.function, l.line)))
            .collect();
        prop_assert!(first_lines.is_sorted());
        // Taking everything of a dense set changes nothing.
        let again = dense.pre_order(&vec![true; dense.nodes_len()]);
        prop_assert_eq!(&again.tables, &order.tables);
    }
}

/// Pre-order: a node's parent is the node before it or one of that node's ancestors, and siblings
/// rise by location.
fn check_tree(tables: &SymbolTables) -> Result<(), TestCaseError> {
    let mut path: Vec<(u32, u32)> = vec![(0, NONE)];
    for node in 1..tables.node_parent.len() {
        let (parent, location) = (tables.node_parent[node], tables.node_location[node]);
        let mut sibling = None;
        while path.last().is_some_and(|&(at, _)| at != parent) {
            sibling = path.pop();
        }
        prop_assert!(!path.is_empty(), "node {} has parent {}", node, parent);
        prop_assert!(sibling.is_none_or(|(_, before)| before < location));
        path.push((node as u32, location));
    }
    Ok(())
}

#[test]
fn nothing_used_leaves_the_root() {
    let symbols = Dictionary::new().snapshot();
    let order = symbols.pre_order(&[]);
    assert_eq!(order.tables, SymbolTables::default());
    assert_eq!(order.node_map, [ROOT]);
}
