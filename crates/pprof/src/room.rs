//! Room in vectors for what a sender sent.
//!
//! A vector that doubles holds up to twice what is in it, and three times while it moves. Requests
//! are large and there are many at a time: large vectors grow by a sixteenth instead.

use scoria_model::part::{Function, Line};

use crate::raw::{RawLabel, SampleEnds};

/// How much will come at most, where that is known beforehand: what grows need not move then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// That come one after the other.
    pub profiles: usize,
    /// Bytes of all strings.
    pub text: usize,
    pub strings: usize,
    pub functions: usize,
    /// Each with a line.
    pub locations: usize,
    pub stacks: usize,
    /// Frames of all stacktraces.
    pub frames: usize,
    /// Of one sample type.
    pub samples: usize,
    /// Labels of all samples.
    pub labels: usize,
}

impl Room {
    /// In a part or a draft, with what finds its entries.
    pub(crate) const fn bytes(self) -> usize {
        self.text
            + self.text / 16
            + self.strings * (4 + TABLE_BYTES)
            + self.functions * (size_of::<Function>() + TABLE_BYTES)
            + self.locations * (16 + size_of::<Line>() + TABLE_BYTES)
            + self.stacks * (4 + TABLE_BYTES)
            + self.frames * 4
            + self.samples * (size_of::<SampleEnds>() + 4 + 8 + TABLE_BYTES)
            + self.labels * size_of::<RawLabel>()
    }
}

/// An entry of a table at most.
const TABLE_BYTES: usize = 12;
/// Vectors up to this size double.
const DOUBLED_BYTES: usize = 64 * 1024;
/// The share by which larger ones grow.
const SHARE: usize = 16;

/// Makes room for `more` entries.
#[inline]
pub(crate) fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        grow(vec, more);
    }
}

#[cold]
fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.len() * size_of::<T>() < DOUBLED_BYTES {
        vec.reserve(more);
    } else {
        vec.reserve_exact(more.max(vec.len() / SHARE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_vectors_double_and_large_ones_grow_by_a_sixteenth() {
        let (mut vec, mut moves) = (Vec::new(), 0);
        for n in 0..1_000_000_u64 {
            let before = vec.capacity();
            make_room(&mut vec, 1);
            moves += usize::from(vec.capacity() != before);
            vec.push(n);
        }
        assert!(
            vec.capacity() < vec.len() * 17 / 16 + 1,
            "{}",
            vec.capacity()
        );
        // What is moved stays in proportion to what is there.
        assert!(moves < 120, "{moves}");
    }
}
