//! The tree format: frames in preorder, each with its own value and the number of its children.
//!
//! ```text
//! node = varint name length, name, varint own value, varint number of children, the children
//! 00 00 01 | 01 61 00 02 | 01 62 01 00 | 01 63 02 00     ""{ a{ b: 1, c: 2 } }
//! ```
//!
//! The name of the root is empty and no frame.
//!
//! # Invariants
//! - A name and a number of children are held against their limits and the bytes that are left
//!   before anything is done with them; nothing is reserved by what the bytes say.
//! - The walk is a loop over a list of open nodes: depth costs memory by bytes read, never stack.
//!
//! # What it must not know
//! What the values mean.

use scoria_model::varint::{Reader, VarintError};

use crate::stacks::{StackError, Stacks};

/// Bytes of a node's name.
pub const NAME_BYTES_MAX: u64 = 65_535;

/// Reads a whole tree. An empty body is an empty tree.
///
/// # Errors
/// The bytes are not a tree, or one of its nodes is over a limit.
pub fn read_tree(body: &[u8], into: &mut Stacks) -> Result<(), StackError> {
    if body.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(body);
    let mut path: Vec<u64> = Vec::new();
    // For each open node: children still to come, and whether it stands in the path.
    let mut open: Vec<(u64, bool)> = Vec::new();
    for number in 1_u64.. {
        let node = Node::read(&mut reader, number)?;
        let is_frame = !(node.name.is_empty() && open.is_empty());
        if is_frame {
            path.push(into.frame(node.name)?);
        }
        if node.own > 0 {
            into.add_frames(&path, node.own)?;
        }
        open.push((node.n_children, is_frame));
        while let Some((left, is_frame)) = open.last_mut() {
            if *left > 0 {
                *left -= 1;
                break;
            }
            if *is_frame {
                path.pop();
            }
            open.pop();
        }
        if open.is_empty() {
            break;
        }
        if reader.is_empty() {
            let missing = open.iter().map(|(left, _)| *left);
            let missing = missing.fold(1, u64::saturating_add);
            return Err(StackError::MissingNodes { missing });
        }
    }
    match reader.rest().len() {
        0 => Ok(()),
        left => Err(StackError::TrailingBytes { left }),
    }
}

struct Node<'a> {
    name: &'a [u8],
    own: u64,
    n_children: u64,
}

impl<'a> Node<'a> {
    /// # Errors
    /// The bytes end inside of it, or something of it is over a limit.
    fn read(reader: &mut Reader<'a>, number: u64) -> Result<Self, StackError> {
        let name = bounded_name(reader, number)?;
        let wrong = |error| StackError::Node {
            node: number,
            error,
        };
        let own = reader.u64().map_err(wrong)?;
        let n_children = reader.u64().map_err(wrong)?;
        if n_children > 0 && reader.is_empty() {
            return Err(StackError::MissingNodes {
                missing: n_children,
            });
        }
        // Each child takes three bytes at least.
        let possible = reader.rest().len() as u64 / 3;
        if n_children > possible {
            return Err(StackError::NodeLimit {
                node: number,
                what: "number of children",
                actual: n_children,
                limit: possible,
            });
        }
        Ok(Self {
            name,
            own,
            n_children,
        })
    }
}

/// A name with its length in front, not longer than a name may be.
pub(crate) fn bounded_name<'a>(reader: &mut Reader<'a>, node: u64) -> Result<&'a [u8], StackError> {
    let wrong = |error: VarintError| StackError::Node { node, error };
    let length = reader.u64().map_err(wrong)?;
    if length > NAME_BYTES_MAX {
        return Err(StackError::NodeLimit {
            node,
            what: "name length",
            actual: length,
            limit: NAME_BYTES_MAX,
        });
    }
    reader.take(length as usize).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::tests::{node, stacks, totals};

    fn read(body: &[u8]) -> Result<Vec<String>, StackError> {
        let mut into = stacks(1);
        read_tree(body, &mut into)?;
        Ok(totals(into))
    }

    #[test]
    fn the_example() {
        let body = [0, 0, 1, 1, b'a', 0, 2, 1, b'b', 1, 0, 1, b'c', 2, 0];
        assert_eq!(read(&body).unwrap(), ["a;b = 1", "a;c = 2"]);
        assert_eq!(read(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(read(&[0, 0, 0]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn inner_nodes_count_and_names_may_repeat() {
        let body = [
            node("", 5, 1),
            node("a", 1, 2),
            node("a", 2, 1),
            node("", 4, 0),
            node("a", 3, 0),
        ];
        let expected = ["= 5", "a = 1", "a;a = 5", "a;a; = 4"];
        assert_eq!(read(&body.concat()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let error = |body: &[u8]| read(body).unwrap_err();
        assert_eq!(error(&[0, 0, 1]), StackError::MissingNodes { missing: 1 });
        assert_eq!(
            error(&[0, 0, 2, 1, b'a', 0, 0]),
            StackError::NodeLimit {
                node: 1,
                what: "number of children",
                actual: 2,
                limit: 1
            }
        );
        let cut = [node("", 0, 2), node("a", 1, 0), node("b", 1, 0)].concat();
        assert!(matches!(
            error(&cut[..cut.len() - 1]),
            StackError::Node { node: 3, .. }
        ));
        let one_missing = [node("", 0, 2), node("long name", 1, 0)].concat();
        assert_eq!(error(&one_missing), StackError::MissingNodes { missing: 1 });
        assert_eq!(error(&[0, 0, 0, 9]), StackError::TrailingBytes { left: 1 });
        let huge = [0xff, 0xff, 0xff, 0x7f, 0, 0];
        assert!(matches!(
            error(&huge),
            StackError::NodeLimit {
                what: "name length",
                ..
            }
        ));
    }

    #[test]
    fn depth_and_repetition_are_bounded() {
        let mut deep = vec![node("", 0, 1)];
        deep.extend(std::iter::repeat_n(node("f", 1, 1), 200_000));
        deep.push(node("f", 1, 0));
        assert!(matches!(
            read(&deep.concat()),
            Err(StackError::Draft(_) | StackError::Work)
        ));
        let mut wide = vec![node("", 0, 1)];
        wide.extend(std::iter::repeat_n(node("f", 0, 1), 50_000));
        wide.push(node("f", 0, 50_000));
        wide.extend(std::iter::repeat_n(node("g", 1, 0), 50_000));
        assert_eq!(read(&wide.concat()).unwrap_err(), StackError::Work);
    }
}
