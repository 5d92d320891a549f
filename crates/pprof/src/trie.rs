//! The trie format: stacks as folded text, their common beginnings written once.
//!
//! ```text
//! node = varint name length, name, varint own value, varint number of children, the children
//! 00 00 01 | 03 "ma;" 00 02 | 01 "b" 01 00 | 02 "c;" ...
//! ```
//!
//! The stack of a node is the concatenation of the names from the root to it: unlike in a tree a
//! name is a fragment of text, which may begin and end inside of a frame's name. A node with a value
//! is a stack, also when it has children.
//!
//! # Invariants
//! - As for [`crate::tree`]. Frames that are complete are looked up once, not once for each stack
//!   below them.
//!
//! # What it must not know
//! What the values mean.

use scoria_model::varint::Reader;

use crate::stacks::{StackError, Stacks};
use crate::tree::bounded_name;

/// Where a node's children go on.
struct Open {
    /// Children still to come.
    left: u64,
    /// Bytes of text up to and with this node.
    text_end: usize,
    /// Frames that are complete in that text.
    n_frames: usize,
    /// Where the frame that is not complete begins in it.
    frame_start: usize,
}

/// Reads a trie. The bytes may end behind any node: there are no more children then, however many
/// were announced. An empty body is an empty trie.
///
/// # Errors
/// The bytes are not a trie, or one of its nodes is over a limit.
pub fn read_trie(body: &[u8], into: &mut Stacks) -> Result<(), StackError> {
    let mut walk = Walk {
        text: Vec::new(),
        frames: Vec::new(),
        open: Vec::new(),
    };
    let mut reader = Reader::new(body);
    let mut number = 0;
    while !reader.is_empty() {
        number += 1;
        if number > 1 && walk.open.is_empty() {
            let left = reader.rest().len();
            return Err(StackError::TrailingBytes { left });
        }
        walk.node(&mut reader, number, into)?;
    }
    Ok(())
}

struct Walk {
    /// The text of the node at hand.
    text: Vec<u8>,
    /// The complete frames of it, root first.
    frames: Vec<u64>,
    open: Vec<Open>,
}

impl Walk {
    fn node(
        &mut self,
        reader: &mut Reader<'_>,
        number: u64,
        into: &mut Stacks,
    ) -> Result<(), StackError> {
        let name = bounded_name(reader, number)?;
        let wrong = |error| StackError::Node {
            node: number,
            error,
        };
        let own = reader.u64().map_err(wrong)?;
        let left = reader.u64().map_err(wrong)?;
        let mut frame_start = 0;
        if let Some(parent) = self.open.last() {
            self.text.truncate(parent.text_end);
            self.frames.truncate(parent.n_frames);
            frame_start = parent.frame_start;
        }
        let mut from = self.text.len();
        self.text.extend_from_slice(name);
        while let Some(at) = memchr::memchr(b';', &self.text[from..]) {
            self.frames
                .push(into.frame(&self.text[frame_start..from + at])?);
            from += at + 1;
            frame_start = from;
        }
        let n_frames = self.frames.len();
        if own > 0 {
            if !self.text.is_empty() {
                self.frames.push(into.frame(&self.text[frame_start..])?);
            }
            into.add_frames(&self.frames, own)?;
            self.frames.truncate(n_frames);
        }
        self.open.push(Open {
            left,
            text_end: self.text.len(),
            n_frames,
            frame_start,
        });
        while let Some(open) = self.open.last_mut() {
            if open.left > 0 {
                open.left -= 1;
                break;
            }
            self.open.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::tests::{node, stacks, totals};

    fn read(body: &[u8]) -> Result<Vec<String>, StackError> {
        let mut into = stacks(1);
        read_trie(body, &mut into)?;
        Ok(totals(into))
    }

    #[test]
    fn fragments_join_to_stacks() {
        let body = [
            node("", 0, 2),
            node("main;wo", 0, 2),
            node("rk", 1, 1),
            node(";leaf", 2, 1),
            node("", 8, 0),
            node("nder", 3, 0),
            node("x", 4, 0),
        ];
        let expected = [
            "main;wonder = 3",
            "main;work = 1",
            "main;work;leaf = 10",
            "x = 4",
        ];
        assert_eq!(read(&body.concat()).unwrap(), expected);
        assert_eq!(read(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(read(&[0, 7, 0]).unwrap(), ["= 7"]);
    }

    #[test]
    fn what_is_no_trie_is_refused() {
        let error = |body: &[u8]| read(body).unwrap_err();
        assert_eq!(
            error(&[0, 0, 0, 0, 0, 0]),
            StackError::TrailingBytes { left: 3 }
        );
        assert!(matches!(
            error(&[5, b'a']),
            StackError::Node { node: 1, .. }
        ));
        let huge = [0xff, 0xff, 0xff, 0x7f, 0, 0];
        assert!(matches!(error(&huge), StackError::NodeLimit { .. }));
    }

    #[test]
    fn it_ends_where_its_bytes_do() {
        let endless = [&[0, 0][..], &[0xff; 9], &[1], &node("a", 2, 7)].concat();
        assert_eq!(read(&endless).unwrap(), ["a = 2"]);
        assert!(read(&[0, 0, 1]).unwrap().is_empty());
        assert!(matches!(
            read(&[0, 0, 1, 1]).unwrap_err(),
            StackError::Node { node: 2, .. }
        ));
    }

    #[test]
    fn repeating_a_long_beginning_is_bounded() {
        let mut body = vec![node("", 0, 1), node(&"f".repeat(60_000), 0, 100_000)];
        body.extend(std::iter::repeat_n(node("", 1, 0), 100_000));
        assert_eq!(read(&body.concat()).unwrap_err(), StackError::Work);
    }
}
