//! Columns of fixed-width little-endian numbers, read in place from bytes of any alignment.

/// A column of `u32`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Col32<'a>(&'a [[u8; 4]]);

/// A column of 64-bit numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Col64<'a>(&'a [[u8; 8]]);

impl<'a> Col32<'a> {
    /// `bytes` must be a multiple of four long; a rest is left out.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    pub const fn len(self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The value at `at`, which must be inside.
    #[inline]
    pub fn get(self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at])
    }

    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.0.iter().map(|&bytes| u32::from_le_bytes(bytes))
    }

    pub fn slice(self, range: std::ops::Range<usize>) -> Self {
        Self(&self.0[range])
    }

    /// For a column of ends: where the entry at `at` begins and stops.
    #[inline]
    pub fn span(self, at: usize) -> std::ops::Range<usize> {
        let start = if at == 0 {
            0
        } else {
            self.get(at - 1) as usize
        };
        start..self.get(at) as usize
    }
}

impl<'a> Col64<'a> {
    /// `bytes` must be a multiple of eight long; a rest is left out.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    pub const fn len(self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn get(self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at])
    }

    #[inline]
    pub fn get_i64(self, at: usize) -> i64 {
        i64::from_le_bytes(self.0[at])
    }

    pub fn iter(self) -> impl ExactSizeIterator<Item = u64> + 'a {
        self.0.iter().map(|&bytes| u64::from_le_bytes(bytes))
    }
}

pub fn put_u32s(out: &mut Vec<u8>, values: impl IntoIterator<Item = u32>) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub fn put_u64s(out: &mut Vec<u8>, values: impl IntoIterator<Item = u64>) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub fn put_i64s(out: &mut Vec<u8>, values: impl IntoIterator<Item = i64>) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}
