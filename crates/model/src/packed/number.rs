//! The numbers that columns are of, and how they are cut down to fewer bytes: one, or a run of them,
//! for which the width is looked at once.

use std::fmt::Debug;
use std::ops::{BitOr, BitXor};

use zerocopy::{Immutable, IntoBytes};

/// A number that may take fewer bytes than its type has. Of a signed one the sign is in the top bit
/// of what is left.
pub trait Number:
    Copy + Default + Eq + Debug + BitOr<Output = Self> + BitXor<Output = Self> + IntoBytes + Immutable
{
    /// Bytes of the largest.
    const WIDTH_MAX: usize;

    /// The number whose lowest `width` bytes these are; no other bit is set.
    fn of_bits(bits: u64, width: usize) -> Self;

    /// The bits of the number, widened.
    fn bits(self) -> u64;

    /// A number from zero on that takes as many bytes. The union of several takes what the widest
    /// of them does.
    fn extent(self) -> Self;

    /// The bytes that it takes, at least one.
    fn width(self) -> usize;

    /// Whether it takes no more bytes than that.
    fn fits(self, width: usize) -> bool;
}

/// Has `$run` compiled for each width, from 1 to 8, as the constant `$known`.
macro_rules! by_width {
    ($width:expr, $known:ident => $run:expr) => {
        by_width!(@ $width, $known => $run, 1 2 3 4 5 6 7; 8)
    };
    (@ $width:expr, $known:ident => $run:expr, $($n:literal)*; $last:literal) => {
        match $width {
            $($n => {
                const $known: usize = $n;
                $run
            })*
            _ => {
                const $known: usize = $last;
                $run
            }
        }
    };
}

/// The largest number of this width, from 1 to 8.
#[inline]
const fn largest(width: usize) -> u64 {
    u64::MAX >> (64 - 8 * width)
}

/// Bytes for so many bits.
const fn bytes_of(bits: u32) -> usize {
    match bits {
        0 => 1,
        bits => bits.div_ceil(8) as usize,
    }
}

/// The number in `WIDTH` bytes.
#[inline]
fn of_place<T: Number, const WIDTH: usize>(place: &[u8; WIDTH]) -> T {
    let mut whole = [0; 8];
    whole[..WIDTH].copy_from_slice(place);
    T::of_bits(u64::from_le_bytes(whole), WIDTH)
}

/// The number in the first `width` of the bytes, of which there must be so many.
#[inline]
pub(super) fn read<T: Number>(bytes: &[u8], width: usize) -> T {
    // Whatever the width, eight bytes are read, of which some are not its.
    match bytes.first_chunk() {
        Some(word) => T::of_bits(u64::from_le_bytes(*word) & largest(width), width),
        None => read_last(bytes, width),
    }
}

/// As [`read`], near the end of the bytes.
#[inline(never)]
fn read_last<T: Number>(bytes: &[u8], width: usize) -> T {
    by_width!(width, WIDTH => {
        let mut word = [0; 8];
        word[..WIDTH].copy_from_slice(&bytes[..WIDTH]);
        T::of_bits(u64::from_le_bytes(word), WIDTH)
    })
}

/// What [`put`] writes, whatever the width.
pub(super) const PUT_BYTES: usize = size_of::<u64>();

/// Whether there is room for that.
#[inline]
pub(super) const fn has_room(out: &Vec<u8>) -> bool {
    out.capacity() - out.len() >= PUT_BYTES
}

/// Appends a number in `width` bytes, which it fits. There must be room for [`PUT_BYTES`], or the
/// vector grows for what is taken back.
#[inline]
pub(super) fn put<T: Number>(value: T, width: usize, out: &mut Vec<u8>) {
    let n = out.len();
    out.extend_from_slice(&value.bits().to_le_bytes());
    out.truncate(n + width);
}

/// As [`put`], where there may be room for just so much.
pub(super) fn put_last<T: Number>(value: T, width: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.bits().to_le_bytes()[..width]);
}

/// Fills the bytes, as many as it fits, with a number.
#[inline]
pub(super) fn write<T: Number>(value: T, bytes: &mut [u8]) {
    let word = value.bits().to_le_bytes();
    by_width!(bytes.len(), WIDTH => bytes.copy_from_slice(&word[..WIDTH]));
}

/// Moves numbers closer together, from a width to one that they fit.
pub(super) fn narrow<T: Number>(bytes: &mut [u8], (before, width): (usize, usize)) {
    by_width!(width, WIDTH => for at in 0..bytes.len() / before {
        // What is read next lies behind what is written.
        let value: T = read(&bytes[at * before..], before);
        bytes[at * WIDTH..][..WIDTH].copy_from_slice(&value.bits().to_le_bytes()[..WIDTH]);
    });
}

/// Moves `n` numbers apart, to a width for which there are bytes.
pub(super) fn widen<T: Number>(bytes: &mut [u8], (before, width): (usize, usize), n: usize) {
    // From the back, so that nothing is overwritten before it has moved.
    by_width!(width, WIDTH => for at in (0..n).rev() {
        let value: T = read(&bytes[at * before..], before);
        bytes[at * WIDTH..][..WIDTH].copy_from_slice(&value.bits().to_le_bytes()[..WIDTH]);
    });
}

/// What becomes of `start` with each number in turn, of `width` bytes each.
#[inline]
pub(super) fn fold<T: Number, A, F>(bytes: &[u8], width: usize, start: A, mut add: F) -> A
where
    F: FnMut(A, T) -> A,
{
    by_width!(width, WIDTH => {
        let places = bytes.as_chunks::<WIDTH>().0.iter();
        places.fold(start, |sum, place| add(sum, of_place(place)))
    })
}

/// The bytes of whole numbers, if they lie in memory as they do in columns.
fn as_they_are<T: Number>(values: &[T], width: usize) -> Option<&[u8]> {
    (width == T::WIDTH_MAX && cfg!(target_endian = "little")).then(|| values.as_bytes())
}

/// Appends the numbers, of `width` bytes each, to `out`.
pub(super) fn copy_to<T: Number>(bytes: &[u8], width: usize, out: &mut Vec<T>) {
    by_width!(width, WIDTH => {
        let places = bytes.as_chunks::<WIDTH>().0;
        out.extend(places.iter().map(|place| of_place::<T, WIDTH>(place)));
    });
}

/// Whether the bytes hold just these numbers, of which there must be as many, in `width` bytes each.
pub(super) fn all_are<T: Number>(values: &[T], bytes: &[u8], width: usize) -> bool {
    if let Some(whole) = as_they_are(values, width) {
        return whole == bytes;
    }
    // Nearly always they do, so that none is left out.
    let differ = by_width!(width, WIDTH => {
        let places = bytes.as_chunks::<WIDTH>().0.iter().zip(values);
        places.fold(T::default(), |differ, (place, &value)| {
            differ | (of_place::<T, WIDTH>(place) ^ value)
        })
    });
    differ == T::default()
}

/// Appends all of them in `width` bytes each, which they fit.
pub(super) fn put_all<T: Number>(values: &[T], width: usize, out: &mut Vec<u8>) {
    if let Some(bytes) = as_they_are(values, width) {
        return out.extend_from_slice(bytes);
    }
    let start = out.len();
    out.resize(start + values.len() * width, 0);
    by_width!(width, WIDTH => {
        let places = out[start..].as_chunks_mut::<WIDTH>().0;
        for (place, value) in places.iter_mut().zip(values) {
            place.copy_from_slice(&value.bits().to_le_bytes()[..WIDTH]);
        }
    });
}

/// A number that takes as many bytes as the widest of these.
pub fn extent<T: Number>(numbers: impl Iterator<Item = T>) -> T {
    numbers.fold(T::default(), |union, number| union | number.extent())
}

impl Number for u64 {
    const WIDTH_MAX: usize = 8;

    #[inline]
    fn of_bits(bits: u64, _: usize) -> Self {
        bits
    }

    #[inline]
    fn bits(self) -> u64 {
        self
    }

    #[inline]
    fn extent(self) -> Self {
        self
    }

    fn width(self) -> usize {
        bytes_of(Self::BITS - self.leading_zeros())
    }

    #[inline]
    fn fits(self, width: usize) -> bool {
        self <= largest(width)
    }
}

impl Number for u32 {
    const WIDTH_MAX: usize = 4;

    #[inline]
    fn of_bits(bits: u64, _: usize) -> Self {
        bits as Self
    }

    #[inline]
    fn bits(self) -> u64 {
        u64::from(self)
    }

    #[inline]
    fn extent(self) -> Self {
        self
    }

    fn width(self) -> usize {
        u64::from(self).width()
    }

    #[inline]
    fn fits(self, width: usize) -> bool {
        u64::from(self).fits(width)
    }
}

impl Number for i64 {
    const WIDTH_MAX: usize = 8;

    #[inline]
    fn of_bits(bits: u64, width: usize) -> Self {
        extended(bits, width)
    }

    #[inline]
    fn bits(self) -> u64 {
        self as u64
    }

    #[inline]
    fn extent(self) -> Self {
        // That of a negative one is the number that has its bits the other way round.
        self ^ (self >> 63)
    }

    fn width(self) -> usize {
        // And the sign.
        bytes_of(Self::BITS - self.extent().leading_zeros() + 1)
    }

    #[inline]
    fn fits(self, width: usize) -> bool {
        extended(self as u64, width) == self
    }
}

/// The number whose sign is in the top bit of its lowest `width` bytes.
#[inline]
const fn extended(bits: u64, width: usize) -> i64 {
    let above = 64 - 8 * width as u32;
    (bits << above) as i64 >> above
}
