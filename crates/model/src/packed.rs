//! Columns of numbers, of which the large ones take as many bytes a number as the largest needs.
//!
//! Nearly all numbers of a profile are small: frames name one of a few thousand locations, functions
//! one of a few thousand names. In four or eight bytes each they would be most of the memory of a
//! large request, and of what is sent of it. Most requests are small, and theirs stay whole, which
//! is faster.
//!
//! # Invariants
//! - All numbers of a column have the same width, at least a byte, little-endian.
//! - Whatever its width, a column is what was put into it.
//! - A whole column that outgrows its room beyond [`WHOLE_BYTES`] is made as narrow as it can be
//!   first. One that a large number made wide again stays as wide until it is whole.

mod number;
mod rows;

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Range;

pub use number::{Number, extent};
pub use rows::{Cells, ColumnsOf, Row, Rows};

/// Columns that grow are left as wide as their numbers' type up to this size.
pub const WHOLE_BYTES: usize = 32 * 1024;

/// The share of a column that there is room for after it got wider.
const SPARE_SHARE: usize = 16;

/// The owned column.
#[derive(Debug, Clone)]
pub struct Packed<T> {
    width: usize,
    bytes: Vec<u8>,
    of: PhantomData<T>,
}

/// A column, or a run of one, in place.
#[derive(Debug, Clone, Copy)]
pub struct PackedSlice<'a, T> {
    width: usize,
    bytes: &'a [u8],
    of: PhantomData<T>,
}

/// The numbers of a [`PackedSlice`].
#[derive(Debug, Clone)]
pub struct Iter<'a, T>(PackedSlice<'a, T>);

/// How many numbers of a width lie in so many bytes. Dividing takes longer than reading them.
#[inline]
const fn count(bytes: usize, width: usize) -> usize {
    match width {
        1 => bytes,
        2 => bytes >> 1,
        4 => bytes >> 2,
        8 => bytes >> 3,
        width => bytes / width,
    }
}

impl<T: Number> Default for Packed<T> {
    fn default() -> Self {
        Self {
            width: T::WIDTH_MAX,
            bytes: Vec::new(),
            of: PhantomData,
        }
    }
}

impl<T: Number> Packed<T> {
    /// A column as narrow as its numbers allow, however small it is.
    pub fn narrowest(numbers: impl ExactSizeIterator<Item = T> + Clone) -> Self {
        let width = number::extent(numbers.clone()).width();
        // The last is put as the others are.
        let mut bytes = Vec::with_capacity(numbers.len() * width + number::PUT_BYTES);
        numbers.for_each(|value| number::put(value, width, &mut bytes));
        Self {
            width,
            bytes,
            of: PhantomData,
        }
    }

    pub const fn len(&self) -> usize {
        count(self.bytes.len(), self.width)
    }

    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of each number.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The numbers as they lie there.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Memory held, in bytes.
    pub const fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// By how much the numbers could grow if one came that is as wide as can be.
    pub const fn narrowed_bytes(&self) -> usize {
        self.len() * (T::WIDTH_MAX - self.width)
    }

    /// How many numbers fit, at this width.
    pub const fn capacity(&self) -> usize {
        count(self.bytes.capacity(), self.width)
    }

    /// Whether there is room for `more` numbers.
    #[inline]
    pub const fn has_room(&self, more: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= more * self.width
    }

    pub const fn as_slice(&self) -> PackedSlice<'_, T> {
        PackedSlice {
            width: self.width,
            bytes: self.bytes.as_slice(),
            of: PhantomData,
        }
    }

    /// The number at `at`, which must be inside.
    #[inline]
    pub fn get(&self, at: usize) -> T {
        self.as_slice().get(at)
    }

    /// The numbers at these places, which must be inside.
    #[inline]
    pub fn slice(&self, places: Range<usize>) -> PackedSlice<'_, T> {
        self.as_slice().slice(places)
    }

    pub fn iter(&self) -> Iter<'_, T> {
        self.as_slice().iter()
    }

    #[inline]
    pub fn push(&mut self, value: T) {
        if number::has_room(&self.bytes) && value.fits(self.width) {
            number::put(value, self.width, &mut self.bytes);
        } else {
            self.push_slowly(value);
        }
    }

    /// As [`push`](Self::push), for any number and however much room there is.
    #[inline(never)]
    fn push_slowly(&mut self, value: T) {
        if !self.has_room(1) {
            self.reserve(1);
        }
        if !value.fits(self.width) {
            self.widen_for(value);
        }
        number::put_last(value, self.width, &mut self.bytes);
    }

    pub fn extend_from_slice(&mut self, values: &[T]) {
        if !self.has_room(values.len()) {
            self.reserve(values.len());
        }
        if let [value] = values {
            return self.push(*value);
        }
        let is_whole = self.width == T::WIDTH_MAX;
        if is_whole || number::extent(values.iter().copied()).fits(self.width) {
            number::put_all(values, self.width, &mut self.bytes);
        } else {
            values.iter().for_each(|&value| self.push(value));
        }
    }

    /// Appends the numbers of another column, or of a run of it.
    pub fn extend_from(&mut self, values: PackedSlice<'_, T>) {
        if values.width == self.width {
            if !self.has_room(values.len()) {
                self.reserve(values.len());
            }
            // It may have become narrower.
            if values.width == self.width {
                return self.bytes.extend_from_slice(values.bytes);
            }
        }
        values.iter().for_each(|value| self.push(value));
    }

    /// Puts another number in the place of the one at `at`, which must be inside.
    pub fn set(&mut self, at: usize, value: T) {
        if !value.fits(self.width) {
            self.widen_for(value);
        }
        let start = at * self.width;
        number::write(value, &mut self.bytes[start..start + self.width]);
    }

    /// Makes room for exactly `more` numbers, if there is less.
    pub fn reserve_exact(&mut self, more: usize) {
        self.narrow_for(more);
        self.bytes.reserve_exact(more * self.width);
    }

    /// Makes room for `more` numbers, and for some after them.
    pub fn reserve(&mut self, more: usize) {
        self.narrow_for(more);
        self.bytes.reserve(more * self.width);
    }

    /// Makes room for exactly `more` numbers that are no wider than `most`: what comes then moves
    /// nothing.
    pub fn reserve_up_to(&mut self, more: usize, most: T) {
        self.reserve_wide(more, most.width());
    }

    /// As [`reserve_up_to`](Self::reserve_up_to); if it is empty it is narrow from now on, however
    /// few are to come.
    fn reserve_narrow(&mut self, more: usize, most: T) {
        if self.is_empty() {
            self.width = most.width();
        }
        self.reserve_up_to(more, most);
    }

    /// Makes room for exactly `more` numbers of this width.
    pub fn reserve_wide(&mut self, more: usize, width: usize) {
        if self.is_empty() && more * T::WIDTH_MAX > WHOLE_BYTES {
            self.width = width;
        }
        if width > self.width {
            self.widen(width, more);
        } else {
            self.reserve_exact(more);
        }
    }

    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    pub fn truncate(&mut self, n: usize) {
        self.bytes.truncate(n * self.width);
    }

    /// Empties the column; its memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.width = T::WIDTH_MAX;
    }

    /// Narrows a column that is whole, and too large for that with `more` numbers, for which it has
    /// no room.
    fn narrow_for(&mut self, more: usize) {
        let is_whole = self.width == T::WIDTH_MAX && !self.has_room(more);
        if is_whole && !self.is_empty() && self.bytes.len() + more * self.width > WHOLE_BYTES {
            self.narrow();
        }
    }

    /// Makes the column as narrow as its numbers allow, however small it is.
    #[cold]
    fn narrow(&mut self) {
        let before = self.width;
        let width = number::extent(self.iter()).width();
        if width == before || self.is_empty() {
            return;
        }
        let n = self.len();
        number::narrow::<T>(&mut self.bytes, (before, width));
        self.bytes.truncate(n * width);
        self.width = width;
    }

    /// Makes the column wide enough for a number, with room for a few more: before it is narrow
    /// again as many must come, so that a sender who makes it go to and fro pays for each time.
    #[cold]
    fn widen_for(&mut self, value: T) {
        self.widen(value.width(), (self.len() / SPARE_SHARE).max(1));
    }

    /// Spreads what is there, with room for `more` numbers.
    #[cold]
    fn widen(&mut self, width: usize, more: usize) {
        let (n, before) = (self.len(), self.width);
        self.bytes.reserve_exact((n + more) * width - n * before);
        self.bytes.resize(n * width, 0);
        number::widen::<T>(&mut self.bytes[..], (before, width), n);
        self.width = width;
    }
}

/// Equal numbers, however wide.
impl<T: Number> PartialEq for Packed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Number> Eq for Packed<T> {}

impl<T: Number, const N: usize> PartialEq<[T; N]> for Packed<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.as_slice() == other[..]
    }
}

impl<T: Number, const N: usize> From<[T; N]> for Packed<T> {
    fn from(values: [T; N]) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Number> Extend<T> for Packed<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.push(value);
        }
    }
}

impl<T: Number> FromIterator<T> for Packed<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut column = Self::default();
        column.extend(values);
        column
    }
}

impl<T: Number> Default for PackedSlice<'_, T> {
    fn default() -> Self {
        Self {
            width: T::WIDTH_MAX,
            bytes: &[],
            of: PhantomData,
        }
    }
}

impl<'a, T: Number> PackedSlice<'a, T> {
    /// Numbers of `width` bytes in `bytes`; a rest is left out. `None` for a width that such a
    /// number never has.
    pub fn new(bytes: &'a [u8], width: usize) -> Option<Self> {
        let whole = bytes.len() - bytes.len().checked_rem(width)?;
        (width <= T::WIDTH_MAX).then_some(Self {
            width,
            bytes: &bytes[..whole],
            of: PhantomData,
        })
    }

    pub const fn len(self) -> usize {
        count(self.bytes.len(), self.width)
    }

    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The number at `at`, which must be inside.
    #[inline]
    pub fn get(self, at: usize) -> T {
        number::read(&self.bytes[at * self.width..], self.width)
    }

    /// The numbers at these places, which must be inside.
    #[inline]
    pub fn slice(self, places: Range<usize>) -> Self {
        Self {
            bytes: &self.bytes[places.start * self.width..places.end * self.width],
            ..self
        }
    }

    /// What is left without the first `n` numbers, of which there must be so many.
    pub fn skip(self, n: usize) -> Self {
        Self {
            bytes: &self.bytes[n * self.width..],
            ..self
        }
    }

    pub fn last(self) -> Option<T> {
        self.len().checked_sub(1).map(|at| self.get(at))
    }

    pub const fn iter(self) -> Iter<'a, T> {
        Iter(self)
    }

    /// Puts the numbers in place of what is in `out`.
    pub fn copy_to(self, out: &mut Vec<T>) {
        out.clear();
        number::copy_to(self.bytes, self.width, out);
    }
}

impl PackedSlice<'_, u32> {
    /// For a column of ends: where the entry at `at` begins and stops.
    #[inline]
    pub fn span(self, at: usize) -> Range<usize> {
        let start = match at.checked_sub(1) {
            Some(before) => self.get(before) as usize,
            None => 0,
        };
        start..self.get(at) as usize
    }
}

/// Equal numbers, however wide.
impl<T: Number> PartialEq for PackedSlice<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        match self.width == other.width {
            true => self.bytes == other.bytes,
            false => self.len() == other.len() && self.iter().eq(other.iter()),
        }
    }
}

impl<T: Number> Eq for PackedSlice<'_, T> {}

impl<T: Number> PartialEq<[T]> for PackedSlice<'_, T> {
    #[inline]
    fn eq(&self, other: &[T]) -> bool {
        self.bytes.len() == other.len() * self.width
            && number::all_are(other, self.bytes, self.width)
    }
}

impl<'a, T: Number> IntoIterator for PackedSlice<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Number> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let PackedSlice { width, bytes, .. } = self.0;
        if bytes.is_empty() {
            return None;
        }
        self.0.bytes = &bytes[width..];
        Some(number::read(bytes, width))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.0.len();
        (n, Some(n))
    }

    /// Looks at the width once for all of them.
    #[inline]
    fn fold<A, F: FnMut(A, T) -> A>(self, start: A, add: F) -> A {
        number::fold(self.0.bytes, self.0.width, start, add)
    }
}

impl<T: Number> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        let PackedSlice { width, bytes, .. } = self.0;
        let start = bytes.len().checked_sub(width)?;
        self.0.bytes = &bytes[..start];
        Some(number::read(&bytes[start..], width))
    }
}

impl<T: Number> ExactSizeIterator for Iter<'_, T> {}
impl<T: Number> FusedIterator for Iter<'_, T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of every width, near its edges too.
    fn bits() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32, -2..3_i64).prop_map(|(any, shift, near)| match any % 3 {
            0 => any >> shift,
            1 => (1_u64 << shift).wrapping_add_signed(near),
            _ => (1_u64 << shift).wrapping_add_signed(near).wrapping_neg(),
        })
    }

    fn is_what_was_put<T: Number>(numbers: &[T], room: Option<(usize, T)>, cut: usize) {
        let mut column = Packed::default();
        if let Some((more, most)) = room {
            column.width = most.width();
            column.reserve_up_to(more, most);
        }
        column.extend(numbers.iter().copied());
        holds(&column, numbers);
        column.narrow();
        holds(&column, numbers);
        // In another order, put there one by one.
        let mut other: Packed<T> = numbers.iter().rev().copied().collect();
        other.narrow();
        for (at, &number) in numbers.iter().enumerate() {
            other.set(at, number);
        }
        assert_eq!(other, column);
        let cut = cut.min(numbers.len());
        let rest = column.as_slice().skip(cut);
        assert_eq!(column.slice(cut..numbers.len()), rest);
        assert!(rest == numbers[cut..]);
        let mut whole: Packed<T> = numbers[..cut].iter().copied().collect();
        column.truncate(cut);
        assert_eq!(whole, column, "however wide");
        let rest: Packed<T> = numbers[cut..].iter().copied().collect();
        column.extend_from(rest.as_slice());
        whole.extend_from_slice(&numbers[cut..]);
        assert_eq!(whole, column);
        whole.truncate(cut);
        whole.narrow();
        whole.extend_from_slice(&numbers[cut..]);
        assert_eq!(whole, column);
    }

    fn holds<T: Number>(column: &Packed<T>, numbers: &[T]) {
        assert_eq!(column.len(), numbers.len());
        assert_eq!(column.bytes().len(), numbers.len() * column.width());
        assert!(column.iter().eq(numbers.iter().copied()));
        assert!(column.iter().rev().eq(numbers.iter().rev().copied()));
        for (at, &number) in numbers.iter().enumerate() {
            assert_eq!(column.get(at), number);
        }
        assert_eq!(column.as_slice().last(), numbers.last().copied());
        let again = PackedSlice::new(column.bytes(), column.width());
        assert_eq!(again, Some(column.as_slice()));
        let mut copied = vec![T::default(); 3];
        column.as_slice().copy_to(&mut copied);
        assert_eq!(copied, numbers);
        copied.clear();
        column.iter().for_each(|number| copied.push(number));
        assert_eq!(copied, numbers, "added up");
        let narrowest = Packed::narrowest(numbers.iter().copied());
        assert_eq!(narrowest, *column);
        assert!(narrowest.width() <= column.width());
        differs_from_others(column.as_slice(), numbers);
        differs_from_others(narrowest.as_slice(), numbers);
    }

    /// A column is not equal to numbers of which one is another, be it in a bit that it has not.
    fn differs_from_others<T: Number>(column: PackedSlice<'_, T>, numbers: &[T]) {
        assert!(column == *numbers);
        let mut other = numbers.to_vec();
        for at in 0..other.len() {
            for bit in [0, 7, 8, 15, 31, 63] {
                let flipped = T::of_bits(1 << (bit % (8 * T::WIDTH_MAX)), T::WIDTH_MAX);
                other[at] = numbers[at] ^ flipped;
                assert!(column != other[..], "{at}: {:?}", other[at]);
            }
            other[at] = numbers[at];
        }
    }

    proptest! {
        #[test]
        fn a_column_is_what_was_put_into_it(
            numbers in prop::collection::vec(bits(), 0..40),
            room in prop::option::of((0..50_usize, bits())),
            cut in 0..40_usize,
        ) {
            is_what_was_put(&numbers, room, cut);
            let signed: Vec<i64> = numbers.iter().map(|&n| n as i64).collect();
            is_what_was_put(&signed, room.map(|(more, most)| (more, most as i64)), cut);
            let short: Vec<u32> = numbers.iter().map(|&n| n as u32).collect();
            is_what_was_put(&short, room.map(|(more, most)| (more, most as u32)), cut);
        }
    }

    fn width_of<T: Number>(numbers: &[T]) -> usize {
        let mut column: Packed<T> = numbers.iter().copied().collect();
        assert_eq!(column.width(), T::WIDTH_MAX, "small ones are whole");
        column.narrow();
        column.width()
    }

    #[test]
    fn a_number_takes_what_the_largest_takes() {
        let widths = [(0_u32, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 3)];
        for (most, width) in widths.into_iter().chain([(0xff_ffff, 3), (0x100_0000, 4)]) {
            assert_eq!(width_of(&[0, most]), width, "{most}");
            assert_eq!(width_of(&[0, u64::from(most)]), width, "{most}");
        }
        assert_eq!(width_of(&[0, u64::MAX]), 8);
        let signed = [(127, 1), (-128, 1), (128, 2), (-129, 2), (10_000_000, 4)];
        for (most, width) in signed.into_iter().chain([(i64::MAX, 8), (i64::MIN, 8)]) {
            assert_eq!(width_of(&[0, most]), width, "{most}");
        }
    }

    #[test]
    fn with_room_for_what_comes_nothing_moves() {
        let mut column = Packed::<u32>::default();
        column.reserve_up_to(100_000, 70_000);
        let held = column.held_bytes();
        column.extend((0..100_000).map(|n| n % 70_001));
        assert_eq!((column.held_bytes(), column.width()), (held, 3));
        assert_eq!(held, 300_000);
    }

    #[test]
    fn a_large_column_is_narrow_and_a_small_one_whole() {
        let mut column = Packed::<u32>::default();
        let mut widths = std::collections::BTreeMap::new();
        for n in 0..200_000 {
            column.push(n % 300);
            widths.entry(column.width()).or_insert(n);
        }
        assert_eq!(widths, [(2, WHOLE_BYTES as u32 / 4), (4, 0)].into());
        assert!(column.held_bytes() <= 2 * column.bytes().len());
        column.push(u32::MAX);
        column.push(7);
        assert_eq!((column.get(200_000), column.get(200_001)), (u32::MAX, 7));
        assert!(
            column
                .iter()
                .take(200_000)
                .eq((0..200_000).map(|n| n % 300))
        );
        column.clear();
        assert_eq!(column.width(), 4);
    }

    #[test]
    fn going_to_and_fro_between_widths_takes_many_numbers_each_time() {
        let mut column: Packed<i64> = (0..50_000).map(|n| n % 100).collect();
        let (mut changes, mut before) = (0, column.width());
        for _ in 0..10_000 {
            column.set(0, 1 << 62);
            changes += usize::from(column.width() != before);
            before = column.width();
            column.set(0, 1);
            column.reserve_exact(1);
            column.push(1);
        }
        assert!(changes < 20, "{changes}");
    }

    #[test]
    fn numbers_that_are_taken_back_do_not_make_it_wide_and_narrow_each_time() {
        let mut column: Packed<i64> = (0..50_000).map(|n| n % 100).collect();
        let (mut changes, mut before) = (0, column.width());
        for _ in 0..10_000 {
            let n = column.len();
            column.reserve_exact(3);
            column.push(1 << 62);
            column.truncate(n);
            changes += usize::from(column.width() != before);
            before = column.width();
            column.push(1);
        }
        assert!(changes < 20, "{changes}");
    }

    #[test]
    fn a_column_that_got_wider_has_room_for_few_more() {
        let mut column = Packed::<u32>::default();
        column.reserve_up_to(1_000_000, 1);
        column.extend((0..1_000_000).map(|n| n % 2));
        column.push(256);
        assert!(column.held_bytes() <= 2 * 17 * 1_000_000 / 16 + 2);
    }

    #[test]
    fn only_widths_of_numbers_are_widths() {
        assert_eq!(PackedSlice::<u32>::new(&[1, 2, 3], 0), None);
        assert_eq!(PackedSlice::<u32>::new(&[1, 2, 3, 4, 5], 5), None);
        assert!(PackedSlice::<u64>::new(&[1, 2, 3, 4, 5], 5).is_some());
        assert_eq!(PackedSlice::<u64>::new(&[0; 9], 9), None);
        let rest = PackedSlice::<u32>::new(&[1, 0, 3], 2);
        assert_eq!(rest.map(PackedSlice::len), Some(1));
    }
}
