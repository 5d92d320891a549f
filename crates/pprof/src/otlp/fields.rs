//! The fields of one message inside an export's bytes, with their places in them.
//!
//! # Invariants
//! - Every place that is handed out lies inside the body.
//! - A field that is known and has another wire type than it can have is an error that names it.

use crate::raw::DecodeError;
use crate::wire::{BYTES, Cursor, FIXED64, Tag, VARINT};

/// Bytes of the body: 32 bits, because tables are full of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Span {
    /// All of a body that is at most [`u32::MAX`] bytes long.
    pub(super) const fn whole(body: &[u8]) -> Self {
        Self {
            start: 0,
            length: body.len() as u32,
        }
    }

    pub(super) fn of(self, body: &[u8]) -> &[u8] {
        let start = self.start as usize;
        body.get(start..start + self.length as usize)
            .unwrap_or_default()
    }

    pub(super) const fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// Bytes that are not the message that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("field {field} of {what} has wire type {wire}, which it never has")]
    WireType {
        what: &'static str,
        field: u32,
        wire: u8,
    },
    #[error("{what} cannot be read: {problem}")]
    Bytes {
        what: &'static str,
        problem: &'static str,
    },
}

impl Malformed {
    fn new(what: &'static str, error: &DecodeError) -> Self {
        let problem = match *error {
            DecodeError::WireType { field, wire, .. }
            | DecodeError::UnknownWireType { field, wire } => {
                return Self::WireType { what, field, wire };
            }
            DecodeError::Truncated => "it ends inside of a field",
            DecodeError::Varint => "an integer is longer than 64 bits",
            DecodeError::Tag { .. } => "a field has an impossible number",
            DecodeError::Empty | DecodeError::TooLong { .. } => "its length is impossible",
        };
        Self::Bytes { what, problem }
    }
}

/// Reads one message, field by field.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    cursor: Cursor<'a>,
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// `what` is the message's name as errors say it, with its article.
    pub(super) fn of(body: &'a [u8], span: Span, what: &'static str) -> Self {
        Self {
            cursor: Cursor::within(body, span.start as usize, span.length as usize),
            what,
        }
    }

    /// The next field, `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Tag>, Malformed> {
        self.cursor.tag().map_err(|e| Malformed::new(self.what, &e))
    }

    #[inline]
    pub(super) fn int(&mut self, tag: Tag) -> Result<u64, Malformed> {
        let int = self.cursor.int(tag, self.what);
        int.map_err(|e| Malformed::new(self.what, &e))
    }

    /// An index into a table: [`u32::MAX`], which no table reaches, if it is negative or too large.
    #[inline]
    pub(super) fn index(&mut self, tag: Tag) -> Result<u32, Malformed> {
        self.int(tag)
            .map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// A time or length of time, which generations write as a varint or as eight bytes.
    pub(super) fn nanos(&mut self, tag: Tag) -> Result<u64, Malformed> {
        if tag.wire != FIXED64 {
            return self.int(tag);
        }
        let eight = self.cursor.eight();
        eight.map_err(|e| Malformed::new(self.what, &e))
    }

    /// The place of a field that has a length.
    #[inline]
    pub(super) fn span(&mut self, tag: Tag) -> Result<Span, Malformed> {
        let inside = self.cursor.sub(tag, self.what);
        let inside = inside.map_err(|e| Malformed::new(self.what, &e))?;
        Ok(Span {
            start: inside.at() as u32,
            length: inside.n_left() as u32,
        })
    }

    /// Hands each element of a repeated integer field, packed or not, to `each`.
    #[inline]
    pub(super) fn ints(&mut self, tag: Tag, each: impl FnMut(u64)) -> Result<(), Malformed> {
        let read = crate::wire::repeated(&mut self.cursor, tag, self.what, each);
        read.map_err(|e| Malformed::new(self.what, &e))
    }

    #[inline]
    pub(super) fn skip(&mut self, tag: Tag) -> Result<(), Malformed> {
        let skipped = self.cursor.skip(tag);
        skipped.map_err(|e| Malformed::new(self.what, &e))
    }

    /// What a field is that has not the wire type it should have.
    pub(super) const fn unexpected(&self, tag: Tag) -> Malformed {
        Malformed::WireType {
            what: self.what,
            field: tag.number,
            wire: tag.wire,
        }
    }
}

/// The varints of a packed field, one after the other.
pub(super) fn packed<'a>(body: &'a [u8], span: Span, what: &'static str) -> Packed<'a> {
    Packed {
        cursor: Cursor::within(body, span.start as usize, span.length as usize),
        what,
    }
}

#[derive(Debug)]
pub(super) struct Packed<'a> {
    cursor: Cursor<'a>,
    what: &'static str,
}

impl Iterator for Packed<'_> {
    type Item = Result<u64, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_at_end() {
            return None;
        }
        let value = self.cursor.varint();
        if value.is_err() {
            // Nothing behind a broken integer can be made out.
            self.cursor = Cursor::new(&[]);
        }
        Some(value.map_err(|e| Malformed::new(self.what, &e)))
    }
}

impl Tag {
    /// Whether the field has a length, as every packed list has.
    pub(super) const fn is_packed(self) -> bool {
        self.wire == BYTES
    }

    pub(super) const fn is_varint(self) -> bool {
        self.wire == VARINT
    }
}
