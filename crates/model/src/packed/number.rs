//! The numbers that columns are of, and how they are cut down to fewer bytes.

use std::fmt::Debug;

/// A number that may take fewer bytes than its type has. Of a signed one the sign is in the top bit
/// of what is left.
pub trait Number: Copy + Default + Eq + Debug {
    /// Bytes of the largest.
    const WIDTH_MAX: usize;

    /// The bytes that it takes, at least one.
    fn width(self) -> usize;

    /// Whether it takes no more bytes than that.
    fn fits(self, width: usize) -> bool;

    /// The number in the first `width` of the bytes, of which there must be so many.
    fn read(bytes: &[u8], width: usize) -> Self;

    /// Appends it in `width` bytes, which it fits.
    fn put(self, width: usize, out: &mut Vec<u8>);

    /// Appends it as wide as it can be.
    fn put_whole(self, out: &mut Vec<u8>);

    /// Appends all of them in `width` bytes each, which they fit.
    fn put_all(values: &[Self], width: usize, out: &mut Vec<u8>) {
        match width {
            1 => put_wide::<Self, 1>(values, out),
            2 => put_wide::<Self, 2>(values, out),
            3 => put_wide::<Self, 3>(values, out),
            4 => put_wide::<Self, 4>(values, out),
            8 => put_wide::<Self, 8>(values, out),
            width => values.iter().for_each(|value| value.put(width, out)),
        }
    }

    /// Whether the bytes, of which there are so many, hold just these in `width` bytes each.
    fn all_are(values: &[Self], bytes: &[u8], width: usize) -> bool {
        match width {
            1 => are_wide::<Self, 1>(values, bytes),
            2 => are_wide::<Self, 2>(values, bytes),
            3 => are_wide::<Self, 3>(values, bytes),
            4 => are_wide::<Self, 4>(values, bytes),
            8 => are_wide::<Self, 8>(values, bytes),
            width => {
                let held = bytes.chunks_exact(width);
                let mut held = held.map(|place| Self::read(place, width));
                values.iter().all(|value| held.next() == Some(*value))
            }
        }
    }

    /// The bits of the number, widened.
    fn bits(self) -> u64;

    /// Fills the bytes, as many as it fits, with it.
    fn write(self, bytes: &mut [u8]);
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

fn put_wide<T: Number, const WIDTH: usize>(values: &[T], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() * WIDTH, 0);
    let places = out[start..].as_chunks_mut::<WIDTH>().0;
    for (place, value) in places.iter_mut().zip(values) {
        place.copy_from_slice(&value.bits().to_le_bytes()[..WIDTH]);
    }
}

fn are_wide<T: Number, const WIDTH: usize>(values: &[T], bytes: &[u8]) -> bool {
    let mut places = bytes.as_chunks::<WIDTH>().0.iter().zip(values);
    places
        .all(|(place, value)| place[..] == value.bits().to_le_bytes()[..WIDTH] && value.fits(WIDTH))
}

#[inline]
fn read(bytes: &[u8], width: usize) -> u64 {
    match width {
        1 => u64::from(bytes[0]),
        2 => u64::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        3 => u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])),
        4 => u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        width => {
            let mut whole = [0; 8];
            whole[..width].copy_from_slice(&bytes[..width]);
            u64::from_le_bytes(whole)
        }
    }
}

#[inline]
fn put(bits: u64, width: usize, out: &mut Vec<u8>) {
    let bytes = bits.to_le_bytes();
    match width {
        1 => out.push(bytes[0]),
        2 => out.extend_from_slice(&bytes[..2]),
        3 => out.extend_from_slice(&bytes[..3]),
        4 => out.extend_from_slice(&bytes[..4]),
        width => out.extend_from_slice(&bytes[..width]),
    }
}

fn write(bits: u64, bytes: &mut [u8]) {
    let width = bytes.len();
    bytes.copy_from_slice(&bits.to_le_bytes()[..width]);
}

impl Number for u64 {
    const WIDTH_MAX: usize = 8;

    fn width(self) -> usize {
        bytes_of(Self::BITS - self.leading_zeros())
    }

    #[inline]
    fn fits(self, width: usize) -> bool {
        self <= largest(width)
    }

    #[inline]
    fn read(bytes: &[u8], width: usize) -> Self {
        match bytes.first_chunk() {
            Some(whole) if width == Self::WIDTH_MAX => Self::from_le_bytes(*whole),
            _ => read(bytes, width),
        }
    }

    #[inline]
    fn put(self, width: usize, out: &mut Vec<u8>) {
        put(self, width, out);
    }

    #[inline]
    fn put_whole(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    #[inline]
    fn bits(self) -> u64 {
        self
    }

    fn write(self, bytes: &mut [u8]) {
        write(self, bytes);
    }
}

impl Number for u32 {
    const WIDTH_MAX: usize = 4;

    fn width(self) -> usize {
        u64::from(self).width()
    }

    #[inline]
    fn fits(self, width: usize) -> bool {
        u64::from(self).fits(width)
    }

    #[inline]
    fn read(bytes: &[u8], width: usize) -> Self {
        match bytes.first_chunk() {
            Some(whole) if width == Self::WIDTH_MAX => Self::from_le_bytes(*whole),
            _ => read(bytes, width) as Self,
        }
    }

    #[inline]
    fn put(self, width: usize, out: &mut Vec<u8>) {
        put(u64::from(self), width, out);
    }

    #[inline]
    fn put_whole(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    #[inline]
    fn bits(self) -> u64 {
        u64::from(self)
    }

    fn write(self, bytes: &mut [u8]) {
        write(u64::from(self), bytes);
    }
}

impl Number for i64 {
    const WIDTH_MAX: usize = 8;

    fn width(self) -> usize {
        let magnitude = if self < 0 { !self } else { self };
        // And the sign.
        bytes_of(Self::BITS - magnitude.leading_zeros() + 1)
    }

    #[inline]
    fn fits(self, width: usize) -> bool {
        extended(self as u64, width) == self
    }

    #[inline]
    fn read(bytes: &[u8], width: usize) -> Self {
        match bytes.first_chunk() {
            Some(whole) if width == Self::WIDTH_MAX => Self::from_le_bytes(*whole),
            _ => extended(read(bytes, width), width),
        }
    }

    #[inline]
    fn put(self, width: usize, out: &mut Vec<u8>) {
        put(self as u64, width, out);
    }

    #[inline]
    fn put_whole(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    #[inline]
    fn bits(self) -> u64 {
        self as u64
    }

    fn write(self, bytes: &mut [u8]) {
        write(self as u64, bytes);
    }
}

/// The number whose lowest `width` bytes these are.
#[inline]
const fn extended(bits: u64, width: usize) -> i64 {
    let above = 64 - 8 * width as u32;
    (bits << above) as i64 >> above
}
