//! The growing columns of a head.

use std::sync::Arc;

use scoria_block::{ProfileRow, ProfileRows, WriteKey};
use scoria_model::Seq;

use crate::record::AppendedProfile;

/// Rows after which a chunk is frozen.
const ROWS: usize = 256;

/// Bytes of samples after which the next profile starts a new chunk.
const SAMPLE_BYTES: usize = 16 << 10;

/// Bytes of a row over all columns.
const ROW_BYTES: usize = 5 * size_of::<u32>() + 6 * size_of::<u64>() + size_of::<WriteKey>();

/// Profile rows in frozen chunks and a tail.
#[derive(Debug, Default)]
pub(super) struct Rows {
    full: Vec<Arc<ProfileRows>>,
    tail: ProfileRows,
}

impl Rows {
    pub(super) fn push(
        &mut self,
        profile: &AppendedProfile,
        samples_start: u64,
        (seq, write): (Seq, WriteKey),
    ) {
        self.tail.push(ProfileRow {
            kind: profile.kind,
            series: profile.series,
            time_ns: profile.time.0,
            duration_ns: profile.duration_ns,
            period: profile.period,
            total: profile.total,
            samples_start,
            n_samples: profile.n_samples,
            seq: seq.0,
            place: profile.place,
            stream: 0,
            write,
        });
        if self.tail.len() == ROWS {
            self.full.push(Arc::new(std::mem::take(&mut self.tail)));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.full.len() * ROWS + self.tail.len()
    }

    pub(super) fn snapshot(&self) -> Arc<[Arc<ProfileRows>]> {
        let mut chunks = Vec::with_capacity(self.full.len() + 1);
        chunks.extend(self.full.iter().map(Arc::clone));
        if !self.tail.is_empty() {
            chunks.push(Arc::new(self.tail.clone()));
        }
        Arc::from(chunks)
    }

    pub(super) fn bytes(&self) -> u64 {
        ((self.full.len() * ROWS + self.tail.kind.capacity()) * ROW_BYTES) as u64
    }
}

/// Encoded samples in frozen chunks and a tail; a profile's bytes never cross chunks.
///
/// An address is the chunk in its upper half and the offset within it in its lower half.
#[derive(Debug, Default)]
pub(super) struct SampleBytes {
    full: Vec<Arc<[u8]>>,
    full_bytes: u64,
    tail: Vec<u8>,
}

impl SampleBytes {
    /// Adds one profile's samples; their address.
    pub(super) fn push(&mut self, samples: &[u8]) -> u64 {
        if !self.tail.is_empty() && self.tail.len() + samples.len() > SAMPLE_BYTES {
            self.full_bytes += self.tail.len() as u64;
            self.full.push(Arc::from(self.tail.as_slice()));
            self.tail.clear();
        }
        let address = (self.full.len() as u64) << 32 | self.tail.len() as u64;
        self.tail.extend_from_slice(samples);
        address
    }

    pub(super) fn snapshot(&self) -> SampleChunks {
        let mut chunks = Vec::with_capacity(self.full.len() + 1);
        chunks.extend(self.full.iter().map(Arc::clone));
        chunks.push(Arc::from(self.tail.as_slice()));
        SampleChunks(Arc::from(chunks))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.full_bytes + self.tail.capacity() as u64
    }
}

/// Encoded samples that no longer change.
#[derive(Debug, Clone)]
pub(super) struct SampleChunks(Arc<[Arc<[u8]>]>);

impl SampleChunks {
    /// Everything from an address to the end of its chunk; nothing for an address that none of
    /// these profiles has.
    pub(super) fn at_address(&self, address: u64) -> &[u8] {
        let (chunk, offset) = ((address >> 32) as usize, address as u32 as usize);
        let chunk = self.0.get(chunk).map(AsRef::as_ref).unwrap_or_default();
        chunk.get(offset..).unwrap_or_default()
    }
}
