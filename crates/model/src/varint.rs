//! Variable-length integers, as every format of ours that is not Parquet writes them: LEB128, with
//! zigzag for signed values.

/// The bytes ended inside a value, or a value does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    #[error("the bytes end inside a value")]
    Truncated,
    #[error("a variable-length integer is longer than its type")]
    Overflow,
    #[error("a length of {length} goes beyond the {left} bytes that are left")]
    Length { length: u64, left: usize },
}

pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// A length and then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a slice; never beyond its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.left
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, VarintError> {
        if let [first, rest @ ..] = self.left
            && *first < 0x80
        {
            self.left = rest;
            return Ok(u64::from(*first));
        }
        self.u64_long()
    }

    fn u64_long(&mut self) -> Result<u64, VarintError> {
        let mut value = 0u64;
        for (at, &byte) in self.left.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err(VarintError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.left = &self.left[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.left.len() < 10 {
            VarintError::Truncated
        } else {
            VarintError::Overflow
        })
    }

    #[inline]
    pub fn i64(&mut self) -> Result<i64, VarintError> {
        let raw = self.u64()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, VarintError> {
        u32::try_from(self.u64()?).map_err(|_| VarintError::Overflow)
    }

    pub fn u8(&mut self) -> Result<u8, VarintError> {
        Ok(self.take(1)?[0])
    }

    /// Exactly `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], VarintError> {
        let (head, rest) = self
            .left
            .split_at_checked(length)
            .ok_or(VarintError::Length {
                length: length as u64,
                left: self.left.len(),
            })?;
        self.left = rest;
        Ok(head)
    }

    /// A length and then that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], VarintError> {
        let length = self.u64()?;
        let left = self.left.len();
        let wanted = usize::try_from(length).map_err(|_| VarintError::Length { length, left })?;
        self.take(wanted)
    }

    /// A count of things that take at least one byte each, so that a hostile count can never
    /// reserve more memory than a small multiple of the input.
    pub fn count(&mut self) -> Result<usize, VarintError> {
        let count = self.u64()?;
        if count > self.left.len() as u64 {
            return Err(VarintError::Length {
                length: count,
                left: self.left.len(),
            });
        }
        Ok(count as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_round_trip() {
        let mut out = Vec::new();
        let unsigned = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        unsigned.iter().for_each(|&v| put_u64(&mut out, v));
        signed.iter().for_each(|&v| put_i64(&mut out, v));
        put_bytes(&mut out, b"abc");
        let mut reader = Reader::new(&out);
        for v in unsigned {
            assert_eq!(reader.u64(), Ok(v));
        }
        for v in signed {
            assert_eq!(reader.i64(), Ok(v));
        }
        assert_eq!(reader.bytes(), Ok(&b"abc"[..]));
        assert!(reader.is_empty());
    }

    #[test]
    fn damage_is_an_error() {
        assert_eq!(Reader::new(&[]).u64(), Err(VarintError::Truncated));
        assert_eq!(Reader::new(&[0x80]).u64(), Err(VarintError::Truncated));
        assert_eq!(Reader::new(&[0xff; 10]).u64(), Err(VarintError::Overflow));
        assert_eq!(Reader::new(&[0xff; 11]).u64(), Err(VarintError::Overflow));
        assert!(matches!(
            Reader::new(&[5, 1]).bytes(),
            Err(VarintError::Length { length: 5, left: 1 })
        ));
        assert!(matches!(
            Reader::new(&[9, 1]).count(),
            Err(VarintError::Length { .. })
        ));
    }
}
