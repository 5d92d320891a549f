//! Room in vectors for what a sender sent.
//!
//! A vector that doubles holds up to twice what is in it, and three times while it moves. Requests
//! are large and there are many at a time: large vectors grow by a sixteenth instead.

use scoria_model::packed::{Number, Row};
use scoria_model::part::{Function, Line};
use scoria_model::{Packed, Rows};

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
    /// The largest of them.
    pub frame_max: u32,
    /// Of one sample type.
    pub samples: usize,
    /// Labels of all samples.
    pub labels: usize,
}

impl Room {
    /// In a part or a draft, with what finds its entries.
    pub(crate) fn bytes(self) -> usize {
        self.text
            + self.text / 16
            + self.strings * (4 + TABLE_BYTES)
            + self.functions * (size_of::<Function>() + TABLE_BYTES)
            + self.locations * (16 + size_of::<Line>() + TABLE_BYTES)
            + self.stacks * (4 + TABLE_BYTES)
            + self.frames * self.frame_max.width()
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

/// What grows by entries.
pub(crate) trait Column {
    fn n_entries(&self) -> usize;
    /// Whether there is room for `more`.
    fn has_room(&self, more: usize) -> bool;
    /// Of what is there.
    fn n_bytes(&self) -> usize;
    /// Makes room for `more`, and for some after them.
    fn reserve(&mut self, more: usize);
    fn reserve_exact(&mut self, more: usize);
}

impl<T> Column for Vec<T> {
    fn n_entries(&self) -> usize {
        self.len()
    }

    #[inline]
    fn has_room(&self, more: usize) -> bool {
        self.capacity() - self.len() >= more
    }

    fn n_bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }

    fn reserve(&mut self, more: usize) {
        self.reserve(more);
    }

    fn reserve_exact(&mut self, more: usize) {
        self.reserve_exact(more);
    }
}

impl<T: Number> Column for Packed<T> {
    fn n_entries(&self) -> usize {
        self.len()
    }

    #[inline]
    fn has_room(&self, more: usize) -> bool {
        self.has_room(more)
    }

    fn n_bytes(&self) -> usize {
        self.bytes().len()
    }

    fn reserve(&mut self, more: usize) {
        self.reserve(more);
    }

    fn reserve_exact(&mut self, more: usize) {
        self.reserve_exact(more);
    }
}

impl<R: Row> Column for Rows<R> {
    fn n_entries(&self) -> usize {
        self.len()
    }

    #[inline]
    fn has_room(&self, more: usize) -> bool {
        self.has_room(more)
    }

    fn n_bytes(&self) -> usize {
        self.bytes()
    }

    fn reserve(&mut self, more: usize) {
        self.reserve(more);
    }

    fn reserve_exact(&mut self, more: usize) {
        self.reserve_exact(more);
    }
}

/// Makes room for `more` entries.
#[inline]
pub(crate) fn make_room(column: &mut impl Column, more: usize) {
    if !column.has_room(more) {
        grow(column, more);
    }
}

/// As [`make_room`], for numbers that are no wider than `most`.
pub(crate) fn make_room_up_to<T: Number>(column: &mut Packed<T>, more: usize, most: T) {
    match column.is_empty() {
        true => column.reserve_up_to(more, most),
        false => make_room(column, more),
    }
}

#[cold]
fn grow(column: &mut impl Column, more: usize) {
    if column.n_bytes() < DOUBLED_BYTES {
        column.reserve(more);
    } else {
        column.reserve_exact(more.max(column.n_entries() / SHARE));
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
