//! Byte ranges of an object, as they came from the store or a cache.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Some ranges of one object. Pieces may touch; where pieces overlap, either is used.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Sorted by where they start.
    pieces: Vec<(u64, Bytes)>,
}

impl Fetched {
    /// Takes pieces in any order, each with the offset at which it starts.
    pub fn new(mut pieces: Vec<(u64, Bytes)>) -> Self {
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        pieces.sort_by_key(|(start, _)| *start);
        Self { pieces }
    }

    /// All of an object.
    pub fn whole(object: Bytes) -> Self {
        Self::new(vec![(0, object)])
    }

    /// Memory held by the pieces, in bytes.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|(_, b)| b.len() as u64).sum()
    }

    /// The bytes of `range` if every one of them is there. Copies only what lies in two pieces.
    pub fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let first = self
            .pieces
            .partition_point(|(start, _)| *start <= range.start)
            .checked_sub(1)?;
        let (start, bytes) = &self.pieces[first];
        let from = usize::try_from(range.start - start).ok()?;
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let inside = bytes.len().checked_sub(from)?;
        if inside >= length {
            return Some(bytes.slice(from..from + length));
        }
        let mut joined = BytesMut::with_capacity(0);
        joined.extend_from_slice(&bytes[from..]);
        for (start, bytes) in &self.pieces[first + 1..] {
            if *start != range.start + joined.len() as u64 {
                return None;
            }
            let missing = length - joined.len();
            joined.extend_from_slice(&bytes[..bytes.len().min(missing)]);
            if joined.len() == length {
                return Some(joined.freeze());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched() -> Fetched {
        Fetched::new(vec![
            (20, Bytes::from_static(b"uvwxyz")),
            (0, Bytes::from_static(b"abcd")),
            (4, Bytes::from_static(b"efg")),
        ])
    }

    #[test]
    fn ranges_are_found_within_and_across_pieces() {
        let fetched = fetched();
        assert_eq!(fetched.get(&(1..3)).unwrap(), "bc");
        assert_eq!(fetched.get(&(2..6)).unwrap(), "cdef");
        assert_eq!(fetched.get(&(0..7)).unwrap(), "abcdefg");
        assert_eq!(fetched.get(&(20..26)).unwrap(), "uvwxyz");
        assert_eq!(fetched.bytes(), 13);
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let fetched = fetched();
        for range in [5..8, 7..9, 19..21, 25..27, 30..31, 6..21] {
            assert_eq!(fetched.get(&range), None, "{range:?}");
        }
        assert_eq!(Fetched::default().get(&(0..1)), None);
    }
}
