//! Reads what a recording is made of: integers of fixed and of variable length, and texts.
//!
//! # Invariants
//! - Never reads beyond its end, and every read but that of an empty run moves forward.
//! - Each read is one step of the recording's allowance.
//!
//! # What it must not know
//! What the values mean.

use std::borrow::Cow;

use super::allowance::Allowance;
use super::error::JfrError;

/// A text as it stands in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Text<'a> {
    #[default]
    Null,
    Utf8(&'a [u8]),
    Latin1(&'a [u8]),
    /// UTF-16 units, each an integer of variable length.
    Units(&'a [u8]),
    /// Constant of the pool of texts.
    Constant(u64),
}

impl<'a> Text<'a> {
    /// What it says; a reference to a constant, and what is no text, says nothing.
    pub(crate) fn decode(self) -> Cow<'a, str> {
        match self {
            Self::Null | Self::Constant(_) => Cow::Borrowed(""),
            Self::Utf8(bytes) => String::from_utf8_lossy(bytes),
            Self::Latin1(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if bytes.is_ascii() => Cow::Borrowed(text),
                _ => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
            },
            Self::Units(bytes) => {
                let units = Units { left: bytes };
                let chars = char::decode_utf16(units);
                Cow::Owned(
                    chars
                        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                        .collect(),
                )
            }
        }
    }
}

/// The units of a text whose integers were checked when it was read.
struct Units<'a> {
    left: &'a [u8],
}

impl Iterator for Units<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let (unit, used) = varint(self.left)?;
        self.left = &self.left[used..];
        Some(unit as u16)
    }
}

/// The integer at the front of `bytes` and how many bytes it takes: seven bits in each of the first
/// eight bytes, the lowest first, and eight in the ninth.
#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    let last = *bytes.get(8)?;
    Some((value | u64::from(last) << 56, 9))
}

/// A run of a recording, read from its front.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a, 'w> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    allowance: &'w Allowance,
}

impl<'a, 'w> Cursor<'a, 'w> {
    pub(crate) const fn new(bytes: &'a [u8], allowance: &'w Allowance) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len(),
            allowance,
        }
    }

    /// A cursor over `from..to` of the same recording; both are brought inside of it.
    pub(crate) fn over(&self, from: usize, to: usize) -> Self {
        let end = to.min(self.bytes.len());
        Self {
            bytes: self.bytes,
            at: from.min(end),
            end,
            allowance: self.allowance,
        }
    }

    /// The place of the next byte in the recording.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// One past its last byte.
    pub(crate) const fn end(&self) -> usize {
        self.end
    }

    pub(crate) const fn n_left(&self) -> usize {
        self.end - self.at
    }

    pub(crate) const fn damaged(&self, problem: &'static str) -> JfrError {
        JfrError::Damaged {
            at: self.at,
            problem,
        }
    }

    pub(crate) const fn allowance(&self) -> &'w Allowance {
        self.allowance
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], JfrError> {
        self.allowance.step(1, self.at)?;
        if n > self.n_left() {
            return Err(self.damaged("it ends inside a value"));
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, JfrError> {
        Ok(self.take(1)?[0])
    }

    /// An integer of `N` bytes, the highest first.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], JfrError> {
        let at = self.at;
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| JfrError::Damaged {
            at,
            problem: "it ends inside a value",
        })
    }

    pub(crate) fn u16(&mut self) -> Result<u16, JfrError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, JfrError> {
        Ok(u64::from_be_bytes(self.fixed()?))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, JfrError> {
        self.allowance.step(1, self.at)?;
        match varint(&self.bytes[self.at..self.end]) {
            Some((value, used)) => {
                self.at += used;
                Ok(value)
            }
            None => Err(self.damaged("it ends inside an integer")),
        }
    }

    /// How many elements follow, of at least `element_bytes` each.
    #[inline]
    pub(crate) fn count(&mut self, element_bytes: usize) -> Result<usize, JfrError> {
        let at = self.at;
        let problem = "it counts more elements than it has bytes";
        let n = self.varint()?;
        let n = usize::try_from(n).map_err(|_| JfrError::Damaged { at, problem })?;
        // Elements of no bytes would be as many as somebody writes.
        if n > self.n_left() / element_bytes.max(1) || (element_bytes == 0 && n > 0) {
            return Err(JfrError::Damaged { at, problem });
        }
        Ok(n)
    }

    pub(crate) fn text(&mut self) -> Result<Text<'a>, JfrError> {
        const NULL: u8 = 0;
        const EMPTY: u8 = 1;
        const CONSTANT: u8 = 2;
        const UTF8: u8 = 3;
        const UNITS: u8 = 4;
        const LATIN1: u8 = 5;
        let at = self.at;
        match self.byte()? {
            NULL => Ok(Text::Null),
            EMPTY => Ok(Text::Utf8(b"")),
            CONSTANT => Ok(Text::Constant(self.varint()?)),
            UTF8 => {
                let n = self.count(1)?;
                Ok(Text::Utf8(self.take(n)?))
            }
            LATIN1 => {
                let n = self.count(1)?;
                Ok(Text::Latin1(self.take(n)?))
            }
            UNITS => {
                let n = self.count(1)?;
                let from = self.at;
                for _ in 0..n {
                    self.varint()?;
                }
                Ok(Text::Units(&self.bytes[from..self.at]))
            }
            _ => Err(JfrError::Damaged {
                at,
                problem: "a text has an encoding other than 0 to 5",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T>(bytes: &'a [u8], f: impl FnOnce(&mut Cursor<'a, '_>) -> T) -> T {
        let allowance = Allowance::of_test(bytes.len());
        f(&mut Cursor::new(bytes, &allowance))
    }

    #[test]
    fn integers() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[0x7f], 127),
            (&[0x80, 1], 128),
            (&[0x80, 0x80, 0], 0),
            (&[0xff; 9], u64::MAX),
        ] {
            assert_eq!(read(bytes, |c| (c.varint(), c.n_left())), (Ok(value), 0));
        }
        let cut = read(&[0xff; 8], |c| c.varint());
        assert!(matches!(cut, Err(JfrError::Damaged { at: 0, .. })));
        let fixed = read(&[1, 2, 0, 0, 0, 0, 0, 0, 1, 2], |c| (c.u16(), c.u64()));
        assert_eq!(fixed, (Ok(258), Ok(258)));
    }

    #[test]
    fn texts_of_every_encoding() {
        for (bytes, text) in [
            (&[0][..], ""),
            (&[1], ""),
            (&[3, 3, 0xc3, 0xa9, b'x'], "éx"),
            (&[5, 2, 0xe9, b'x'], "éx"),
            (&[4, 3, 0xbd, 0xb0, 3, 0x80, 0xb8, 3, b'x'], "\u{1f400}x"),
            (&[4, 1, 0x80, 0xb0, 3], "\u{fffd}"),
            (&[2, 7], ""),
        ] {
            let read = read(bytes, |c| {
                let text = c.text().map(|text| text.decode().into_owned());
                (text, c.n_left())
            });
            assert_eq!(read, (Ok(text.to_owned()), 0), "{bytes:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_where_it_stands() {
        let at = |result: Result<Text<'_>, JfrError>| match result {
            Err(JfrError::Damaged { at, .. }) => at,
            other => panic!("{other:?}"),
        };
        assert_eq!(at(read(&[6], |c| c.text())), 0);
        assert_eq!(at(read(&[3, 2, b'x'], |c| c.text())), 1);
        assert_eq!(at(read(&[4, 0xff, 0x7f, b'x'], |c| c.text())), 1);
        assert_eq!(at(read(&[], |c| c.text())), 0);
        assert!(read(&[1, 9], |c| c.count(0)).is_err());
        assert!(read(&[2, 9, 9, 9], |c| c.count(2)).is_err());
        assert_eq!(read(&[1, 9, 9], |c| c.count(2)), Ok(1));
    }
}
