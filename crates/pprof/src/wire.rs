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

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    left: &'a [u8],
}

/// Number and wire type of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) number: u32,
    pub(crate) wire: u8,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Bytes that have not been read yet.
    pub(crate) const fn n_left(&self) -> usize {
        self.left.len()
    }

    /// The next field, `None` at the end of the message.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<Option<Tag>, DecodeError> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let raw = self.varint()?;
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
        match *self.left {
            [a, ref rest @ ..] if a < 0x80 => {
                self.left = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.left = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (at, &byte) in self.left.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err(DecodeError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.left = &self.left[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.left.len() < 10 {
            DecodeError::Truncated
        } else {
            DecodeError::Varint
        })
    }

    /// A length and that many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        self.take(length)
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .left
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated)?;
        self.left = rest;
        Ok(head)
    }

    /// A varint field of the message `what`.
    #[inline]
    pub(crate) fn int(&mut self, tag: Tag, what: &'static str) -> Result<u64, DecodeError> {
        expect(tag, VARINT, what)?;
        self.varint()
    }

    /// A field of the message `what` that has a length.
    #[inline]
    pub(crate) fn sub(&mut self, tag: Tag, what: &'static str) -> Result<&'a [u8], DecodeError> {
        expect(tag, BYTES, what)?;
        self.bytes()
    }

    /// Passes over a field that means nothing to us.
    pub(crate) fn skip(&mut self, tag: Tag) -> Result<(), DecodeError> {
        match tag.wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
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

/// Hands each element of a repeated integer field, packed or not, to `each`.
#[inline]
pub(crate) fn repeated<'a>(
    cursor: &mut Cursor<'a>,
    tag: Tag,
    what: &'static str,
    mut each: impl FnMut(u64),
) -> Result<(), DecodeError> {
    if tag.wire == VARINT {
        each(cursor.varint()?);
        return Ok(());
    }
    let mut packed: Cursor<'a> = Cursor::new(cursor.sub(tag, what)?);
    while !packed.left.is_empty() {
        each(packed.varint()?);
    }
    Ok(())
}
