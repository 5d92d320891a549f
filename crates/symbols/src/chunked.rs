//! Append-only columns that can be looked at while they grow.
//!
//! The writer fills a tail; a full tail is frozen into a shared chunk. A snapshot clones the list
//! of chunks and copies the tail, so its cost does not grow with what was written before, and
//! nothing that the writer does later is seen by it.

use std::ops::Range;
use std::sync::Arc;

/// A chunk takes at most this much, so that a snapshot copies little and a dataset of few symbols
/// is held in little.
const CHUNK_BYTES: usize = 8 << 10;

/// A growing column.
#[derive(Debug, Clone)]
pub(crate) struct Chunked<T> {
    full: Vec<Arc<[T]>>,
    tail: Vec<T>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self {
            full: Vec::new(),
            tail: Vec::new(),
        }
    }
}

impl<T: Copy> Chunked<T> {
    /// Entries of a chunk are a power of two, which this is the exponent of.
    const SHIFT: u32 = (CHUNK_BYTES / size_of::<T>()).ilog2();
    const CHUNK: usize = 1 << Self::SHIFT;

    pub(crate) fn len(&self) -> usize {
        (self.full.len() << Self::SHIFT) + self.tail.len()
    }

    /// The entry at `at`, which must be inside.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> T {
        let (chunk, offset) = (at as usize >> Self::SHIFT, at as usize & (Self::CHUNK - 1));
        match self.full.get(chunk) {
            Some(chunk) => chunk[offset],
            None => {
                debug_assert_eq!(chunk, self.full.len());
                self.tail[offset]
            }
        }
    }

    /// The entries of a chunk up to `at`, which must be inside.
    #[inline]
    pub(crate) fn up_to(&self, at: u32) -> &[T] {
        let (chunk, offset) = (at as usize >> Self::SHIFT, at as usize & (Self::CHUNK - 1));
        let chunk = self.full.get(chunk).map_or(&self.tail[..], |chunk| chunk);
        &chunk[..=offset]
    }

    pub(crate) fn push(&mut self, value: T) -> u32 {
        let at = self.len() as u32;
        self.tail.push(value);
        if self.tail.len() == Self::CHUNK {
            self.full.push(Arc::from(self.tail.as_slice()));
            self.tail.clear();
        }
        at
    }

    pub(crate) fn snapshot(&self) -> Column<T> {
        let mut chunks = Vec::with_capacity(self.full.len() + 1);
        chunks.extend(self.full.iter().map(Arc::clone));
        if !self.tail.is_empty() {
            chunks.push(Arc::from(self.tail.as_slice()));
        }
        Column {
            shift: Self::SHIFT,
            len: self.len(),
            chunks: Arc::from(chunks),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        let entries = self.full.len() * Self::CHUNK + self.tail.capacity();
        (entries * size_of::<T>() + self.full.capacity() * size_of::<Arc<[T]>>()) as u64
    }
}

/// A finished column; clones share the entries.
#[derive(Debug, Clone)]
pub(crate) struct Column<T> {
    /// Which bits of an index choose the chunk: all chunks but the last have `1 << shift` entries.
    shift: u32,
    len: usize,
    chunks: Arc<[Arc<[T]>]>,
}

impl<T: Copy> Column<T> {
    pub(crate) fn from_vec(entries: Vec<T>) -> Self {
        Self {
            shift: u32::BITS,
            len: entries.len(),
            chunks: Arc::from([Arc::from(entries)]),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry at `at`, which must be inside.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> T {
        let at = at as usize;
        self.chunks[at >> self.shift][at & ((1usize << self.shift) - 1)]
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = T> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.len * size_of::<T>() + self.chunks.len() * size_of::<Arc<[T]>>()) as u64
    }
}

/// What an [`Arena`] keeps its runs in.
pub(crate) trait Buffer: Default + Clone {
    type Run: ?Sized;
    const UNIT_BYTES: usize;
    fn units(run: &Self::Run) -> usize;
    fn held(&self) -> usize;
    fn reserved_bytes(&self) -> usize;
    fn append(&mut self, run: &Self::Run);
    fn cut(&self, range: Range<usize>) -> &Self::Run;
}

impl Buffer for String {
    type Run = str;
    const UNIT_BYTES: usize = 1;
    fn units(run: &str) -> usize {
        run.len()
    }
    fn held(&self) -> usize {
        self.len()
    }
    fn reserved_bytes(&self) -> usize {
        self.capacity()
    }
    fn append(&mut self, run: &str) {
        self.push_str(run);
    }
    fn cut(&self, range: Range<usize>) -> &str {
        &self[range]
    }
}

impl<T: Copy> Buffer for Vec<T> {
    type Run = [T];
    const UNIT_BYTES: usize = size_of::<T>();
    fn units(run: &[T]) -> usize {
        run.len()
    }
    fn held(&self) -> usize {
        self.len()
    }
    fn reserved_bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
    fn append(&mut self, run: &[T]) {
        self.extend_from_slice(run);
    }
    fn cut(&self, range: Range<usize>) -> &[T] {
        &self[range]
    }
}

/// Where a run lies: runs never cross from one chunk into the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    chunk: u32,
    start: u32,
    len: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// A growing store of runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arena<B> {
    full: Vec<Arc<B>>,
    full_bytes: u64,
    tail: B,
}

impl<B: Buffer> Arena<B> {
    pub(crate) fn push(&mut self, run: &B::Run) -> Span {
        if self.tail.held() > 0 && self.tail.held() + B::units(run) > CHUNK_BYTES / B::UNIT_BYTES {
            self.full_bytes += self.tail.reserved_bytes() as u64;
            self.full.push(Arc::new(std::mem::take(&mut self.tail)));
        }
        let span = Span {
            chunk: self.full.len() as u32,
            start: self.tail.held() as u32,
            len: B::units(run) as u32,
        };
        self.tail.append(run);
        span
    }

    #[inline]
    pub(crate) fn get(&self, span: Span) -> &B::Run {
        match self.full.get(span.chunk as usize) {
            Some(chunk) => chunk.cut(span.range()),
            None => self.tail.cut(span.range()),
        }
    }

    pub(crate) fn snapshot(&self) -> Runs<B> {
        let mut chunks = Vec::with_capacity(self.full.len() + 1);
        chunks.extend(self.full.iter().map(Arc::clone));
        chunks.push(Arc::new(self.tail.clone()));
        Runs {
            chunks: Arc::from(chunks),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        let list = self.full.capacity() * size_of::<Arc<B>>();
        self.full_bytes + (self.tail.reserved_bytes() + list) as u64
    }
}

/// A finished store of runs; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Runs<B> {
    chunks: Arc<[Arc<B>]>,
}

impl<B: Buffer> Runs<B> {
    /// One chunk, to be cut by [`Runs::spans`].
    pub(crate) fn from_buffer(buffer: B) -> Self {
        Self {
            chunks: Arc::from([Arc::new(buffer)]),
        }
    }

    /// The spans that `ends` cut a store of one chunk into.
    pub(crate) fn spans(ends: &[u32]) -> Vec<Span> {
        let mut start = 0;
        ends.iter()
            .map(|&end| {
                let span = Span {
                    chunk: 0,
                    start,
                    len: end - start,
                };
                start = end;
                span
            })
            .collect()
    }

    #[inline]
    pub(crate) fn get(&self, span: Span) -> &B::Run {
        self.chunks[span.chunk as usize].cut(span.range())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| (chunk.reserved_bytes() + size_of::<Arc<B>>()) as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_keeps_what_it_saw() {
        const CHUNK: usize = Chunked::<u32>::CHUNK;
        let mut column = Chunked::default();
        for n in 0..(2 * CHUNK as u32 + 10) {
            assert_eq!(column.push(n), n);
        }
        let seen = column.snapshot();
        for n in 0..CHUNK as u32 {
            column.push(n);
        }
        assert_eq!(seen.len(), 2 * CHUNK + 10);
        assert!(seen.iter().eq(0..2 * CHUNK as u32 + 10));
        assert_eq!(column.get(2 * CHUNK as u32 + 10), 0);
        assert_eq!(
            column.up_to(CHUNK as u32 - 1),
            &(0..CHUNK as u32).collect::<Vec<_>>()
        );
        assert_eq!(
            column.up_to(CHUNK as u32 + 1),
            [CHUNK as u32, CHUNK as u32 + 1]
        );
        assert_eq!(column.up_to(3 * CHUNK as u32), [CHUNK as u32 - 10]);
        assert_eq!(seen.get(CHUNK as u32), CHUNK as u32);
        assert_eq!(Column::from_vec(vec![5, 6]).get(1), 6);
        assert_eq!(Chunked::<u32>::default().snapshot().len(), 0);
    }

    #[test]
    fn runs_never_cross_chunks_and_long_ones_get_their_own() {
        let mut arena = Arena::<String>::default();
        let long = "é".repeat(CHUNK_BYTES);
        let texts: Vec<String> = (0..4000).map(|n| format!("text {n}")).collect();
        let mut spans: Vec<Span> = texts.iter().map(|text| arena.push(text)).collect();
        spans.push(arena.push(&long));
        spans.push(arena.push(""));
        let seen = arena.snapshot();
        arena.push("later");
        for (text, &span) in texts
            .iter()
            .map(String::as_str)
            .chain([long.as_str(), ""])
            .zip(&spans)
        {
            assert_eq!(arena.get(span), text);
            assert_eq!(seen.get(span), text);
        }
    }
}
