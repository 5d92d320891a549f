//! Trees as bytes, for clients that ask for format TREE.
//!
//! ```text
//! node = uvarint length of name, name, uvarint self, uvarint number of children
//! ```
//! Nodes stand in pre-order from a nameless root; of the children of a node, which are sorted by
//! name, the last comes first. A tree without values is no bytes.

use scoria_model::varint::{Reader, VarintError, put_bytes, put_u64};

use super::children::{Children, OtherAt};
use super::truncate::truncate;
use crate::merge::{TreeBuilder, TreePartial};

/// What is wrong with the bytes of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeBytesError {
    #[error(transparent)]
    Varint(#[from] VarintError),
    #[error("the name of node {node} is not UTF-8")]
    Utf8 { node: usize },
    #[error("the value of node {node} does not fit")]
    Value { node: usize },
    #[error("node {node} claims {children} children, but only {left} bytes are left")]
    Children {
        node: usize,
        children: u64,
        left: usize,
    },
    #[error("{left} bytes are left over after the tree")]
    LeftOver { left: usize },
}

/// A tree as bytes, cut to about `max_nodes` nodes (0 = all).
pub fn tree_bytes(tree: &TreePartial, max_nodes: usize) -> Vec<u8> {
    let tree = truncate(tree.clone(), max_nodes);
    let totals = tree.totals();
    if totals[0] == 0 {
        return Vec::new();
    }
    let children = Children::sorted(
        tree.names(),
        (tree.parents(), tree.name_ids()),
        OtherAt::ItsName,
        |at| totals[at] != 0,
    );
    let mut out = Vec::new();
    let mut stack = vec![0u32];
    while let Some(node) = stack.pop() {
        let name = match node {
            0 => "",
            node => tree.names().get(tree.name_ids()[node as usize]),
        };
        put_bytes(&mut out, name.as_bytes());
        put_u64(&mut out, tree.own()[node as usize] as u64);
        let below = children.of(node);
        put_u64(&mut out, below.len() as u64);
        stack.extend_from_slice(below);
    }
    out
}

/// The tree that [`tree_bytes`] wrote.
///
/// # Errors
/// See [`TreeBytesError`].
pub fn decode_tree(bytes: &[u8]) -> Result<TreePartial, TreeBytesError> {
    /// A node takes at least a byte each for name length, value and number of children.
    const NODE_BYTES_MIN: usize = 3;
    let mut tree = TreeBuilder::default();
    let mut from = Reader::new(bytes);
    if from.is_empty() {
        return Ok(tree.finish());
    }
    // Nodes whose children are still to come, and how many.
    let mut open: Vec<(u32, u64)> = Vec::new();
    for node in 0.. {
        let name = std::str::from_utf8(from.bytes()?).map_err(|_| TreeBytesError::Utf8 { node })?;
        let own = i64::try_from(from.u64()?).map_err(|_| TreeBytesError::Value { node })?;
        let children = from.u64()?;
        let left = from.rest().len();
        if children > (left / NODE_BYTES_MIN) as u64 {
            return Err(TreeBytesError::Children {
                node,
                children,
                left,
            });
        }
        let at = match open.last_mut() {
            None => {
                tree.own[0] = own;
                0
            }
            Some((parent, expected)) => {
                *expected -= 1;
                let parent = *parent;
                let name = tree.names.intern(name);
                tree.push(parent, name, own)
            }
        };
        open.push((at, children));
        while open.last().is_some_and(|&(_, expected)| expected == 0) {
            open.pop();
        }
        if open.is_empty() {
            break;
        }
    }
    match from.rest().len() {
        0 => Ok(tree.finish()),
        left => Err(TreeBytesError::LeftOver { left }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_child_is_written_first() {
        let tree = TreePartial::from_folded([("a;x", 1), ("b", 300)]);
        assert_eq!(
            tree_bytes(&tree, 0),
            [0, 0, 2, 1, b'b', 0xac, 2, 0, 1, b'a', 0, 1, 1, b'x', 1, 0]
        );
        assert!(tree_bytes(&TreePartial::default(), 0).is_empty());
    }

    #[test]
    fn what_is_cut_is_sorted_in_by_its_name() {
        let tree = TreePartial::from_folded([("a", 9), ("z", 9), ("b", 1), ("c", 1)]);
        let back = decode_tree(&tree_bytes(&tree, 2)).unwrap();
        let names: Vec<&str> = back.names().iter().collect();
        assert_eq!(names, ["z", "other", "a"]);
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = tree_bytes(&TreePartial::from_folded([("a;b", 1), ("c;d", 300)]), 0);
        for length in 1..bytes.len() {
            assert!(decode_tree(&bytes[..length]).is_err(), "{length}");
        }
        assert!(decode_tree(&[bytes, vec![0]].concat()).is_err());
        assert!(decode_tree(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }

    proptest! {
        #[test]
        fn trees_come_back(
            stacks in proptest::collection::vec(("[a-c](;[a-dé]){0,4}", 1..1000i64), 0..40)
        ) {
            let tree = TreePartial::from_folded(stacks.iter().map(|(s, v)| (s.as_str(), *v)));
            let back = decode_tree(&tree_bytes(&tree, 0)).unwrap();
            prop_assert_eq!(back.to_folded(), tree.to_folded());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_tree(&bytes);
        }
    }
}
