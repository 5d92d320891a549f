//! Protobuf's wire format, read from the front of a slice.
//!
//! # Invariants
//! - Never reads beyond the slice; a length that points beyond it is an error.
//! - Groups, which no profile has used, are refused rather than skipped.

use crate::raw::DecodeError;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// What is left of a message inside a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    /// Reaches beyond the message, so that eight bytes can be looked at near its end.
    buffer: &'a [u8],
    at: usize,
    /// Where the message ends; never beyond the buffer.
    end: usize,
}

/// Number and wire type of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) number: u32,
    pub(crate) wire: u8,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            buffer: bytes,
            at: 0,
            end: bytes.len(),
        }
    }

    /// A message inside a buffer; as much of it as the buffer holds.
    pub(crate) const fn within(buffer: &'a [u8], start: usize, length: usize) -> Self {
        let at = if start < buffer.len() {
            start
        } else {
            buffer.len()
        };
        let left = buffer.len() - at;
        let length = if length < left { length } else { left };
        Self {
            buffer,
            at,
            end: at + length,
        }
    }

    /// Where in the outermost message the next byte is.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    /// The next field, `None` at the end of the message.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<Option<Tag>, DecodeError> {
        if self.is_at_end() {
            return Ok(None);
        }
        // Every field of a profile has a tag of one byte.
        let raw = match self.buffer.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                u64::from(byte)
            }
            _ => self.long_varint()?,
        };
        let number = u32::try_from(raw >> 3).unwrap_or_default();
        if number == 0 {
            return Err(DecodeError::Tag { tag: raw });
        }
        Ok(Some(Tag {
            number,
            wire: (raw & 7) as u8,
        }))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        if let Some((word, _)) = rest.split_first_chunk::<8>()
            && let Some((value, length)) = of_word(u64::from_le_bytes(*word))
            && length <= self.end - self.at
        {
            self.at += length;
            return Ok(value);
        }
        self.long_varint()
    }

    /// A varint at the end of the buffer, or a long or broken one.
    #[cold]
    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let left = self.buffer.get(self.at..self.end).unwrap_or_default();
        let mut value = 0u64;
        for (at, &byte) in left.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err(DecodeError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.at += at + 1;
                return Ok(value);
            }
        }
        Err(if left.len() < 10 {
            DecodeError::Truncated
        } else {
            DecodeError::Varint
        })
    }

    /// A length and that many bytes, as a message of their own.
    #[inline]
    fn message(&mut self) -> Result<Self, DecodeError> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let at = self.at;
        self.pass(length)?;
        Ok(Self {
            buffer: self.buffer,
            at,
            end: self.at,
        })
    }

    #[inline]
    fn pass(&mut self, length: usize) -> Result<(), DecodeError> {
        if length > self.end - self.at {
            return Err(DecodeError::Truncated);
        }
        self.at += length;
        Ok(())
    }

    /// The eight bytes of a fixed field.
    pub(crate) fn eight(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        self.pass(8)?;
        let bytes = self.buffer.get(at..).unwrap_or_default();
        let bytes = bytes.first_chunk().ok_or(DecodeError::Truncated)?;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// A varint field of the message `what`.
    #[inline]
    pub(crate) fn int(&mut self, tag: Tag, what: &'static str) -> Result<u64, DecodeError> {
        expect(tag, VARINT, what)?;
        self.varint()
    }

    /// A field of the message `what` that has a length.
    #[inline]
    pub(crate) fn sub(&mut self, tag: Tag, what: &'static str) -> Result<Self, DecodeError> {
        expect(tag, BYTES, what)?;
        self.message()
    }

    /// Bytes that have not been read yet.
    pub(crate) const fn n_left(&self) -> usize {
        self.end - self.at
    }

    /// Those bytes.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.buffer[self.at..self.end]
    }

    /// Passes over a field that means nothing to us.
    pub(crate) fn skip(&mut self, tag: Tag) -> Result<(), DecodeError> {
        match tag.wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.pass(8),
            BYTES => self.message().map(drop),
            FIXED32 => self.pass(4),
            wire => Err(DecodeError::UnknownWireType {
                field: tag.number,
                wire,
            }),
        }
    }
}

#[inline]
fn expect(tag: Tag, wire: u8, what: &'static str) -> Result<(), DecodeError> {
    if tag.wire == wire {
        return Ok(());
    }
    Err(DecodeError::WireType {
        what,
        field: tag.number,
        wire: tag.wire,
    })
}

/// The varint at the start of eight bytes and its length, if it ends in them. Ids of one and of two
/// bytes come mixed, so that a branch for each length would be guessed wrong every third time.
#[inline]
fn of_word(word: u64) -> Option<(u64, usize)> {
    const BOTH: u64 = 0x8080;
    if word & BOTH == BOTH {
        return of_long_word(word);
    }
    let has_second = word >> 7 & 1;
    let second = word >> 1 & 0x3f80 & has_second.wrapping_neg();
    Some((word & 0x7f | second, 1 + has_second as usize))
}

/// As [`of_word`], of any length.
fn of_long_word(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // Bits up to the end of the first byte without a continuation bit.
    let bits = ends.trailing_zeros() + 1;
    let groups = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = (groups & 0x007f_007f_007f_007f) | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    let value = (fours & 0x0000_0000_0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4;
    Some((value, bits as usize / 8))
}

/// Hands each element of a repeated integer field, packed or not, to `each`.
#[inline]
pub(crate) fn repeated(
    cursor: &mut Cursor<'_>,
    tag: Tag,
    what: &'static str,
    mut each: impl FnMut(u64),
) -> Result<(), DecodeError> {
    if tag.wire == VARINT {
        each(cursor.varint()?);
        return Ok(());
    }
    let mut packed = cursor.sub(tag, what)?;
    while !packed.is_at_end() {
        each(packed.varint()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint_of(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    #[test]
    fn short_words_are_read_as_long_ones_are() {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..200_000_u64 {
            word = word.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(23) ^ n;
            for word in [word, word | 0x80, word & !0x8000 | 0x80, word & !0x80] {
                assert_eq!(of_word(word), of_long_word(word), "{word:#x}");
            }
        }
        // Longer than they need be.
        for (bytes, length) in [([0x80, 0, 7, 7], 2), ([0x80, 0x80, 0, 7], 3)] {
            let mut word = [0; 8];
            word[..4].copy_from_slice(&bytes);
            assert_eq!(of_word(u64::from_le_bytes(word)), Some((0, length)));
        }
    }

    #[test]
    fn integers_of_every_length_read_the_same_with_and_without_room_behind() {
        for bit in 0..64 {
            for value in [1u64 << bit, (1u64 << bit) - 1, u64::MAX >> (63 - bit)] {
                let tight = varint_of(value);
                let roomy = [&tight[..], &[0xff; 9]].concat();
                for bytes in [&tight, &roomy] {
                    let mut cursor = Cursor::new(bytes);
                    assert_eq!(cursor.varint().ok(), Some(value));
                    assert_eq!(cursor.at(), tight.len());
                }
            }
        }
    }

    #[test]
    fn an_integer_that_reaches_beyond_its_message_is_cut_off() {
        // A message of one byte whose integer would go on in the bytes behind it.
        let bytes = [1, 0x80, 0x01, 0, 0, 0, 0, 0, 0, 0];
        let mut message = Cursor::new(&bytes).message().unwrap();
        assert_eq!(message.varint(), Err(DecodeError::Truncated));
    }
}
