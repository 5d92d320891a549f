//! The header of a segment.

use scoria_model::{Seq, StreamId, Timestamp};

use crate::stream::Generation;

/// Longest header: the stream id is bounded.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + STREAM_BYTES_MAX + CRC_BYTES;

const MAGIC: &[u8; 8] = b"SCORIALG";
const VERSION: u16 = 1;
/// The fields of fixed size, and those with their own checksum: without it, a damaged length could
/// make a segment look as if its creation had been cut off.
const FIELDS_BYTES: usize = 42;
const FIXED_BYTES: usize = FIELDS_BYTES + CRC_BYTES;
const STREAM_BYTES_MAX: usize = 512;
const CRC_BYTES: usize = 4;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    pub stream: StreamId,
    pub generation: Generation,
    /// The first sequence number that the segment may give out; from it on, records of older
    /// segments do not count.
    pub first_seq: Seq,
    pub created: Timestamp,
    /// Starts the checksums of the frames. Different in every segment.
    pub salt: u32,
}

/// Why a header was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// The bytes end before the header does.
    Short,
    Version(u16),
    Broken(&'static str),
}

impl SegmentHeader {
    /// The bytes with which the segment begins.
    pub fn encode(&self) -> Vec<u8> {
        let stream = self.stream.to_string();
        let mut out = Vec::with_capacity(FIXED_BYTES + stream.len() + CRC_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.generation.0.to_le_bytes());
        out.extend_from_slice(&self.first_seq.0.to_le_bytes());
        out.extend_from_slice(&self.created.millis().to_le_bytes());
        out.extend_from_slice(&(stream.len() as u16).to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(stream.as_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header off the front of `bytes`; its length too.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let shown = bytes.len().min(MAGIC.len());
        if bytes[..shown] != MAGIC[..shown] {
            return Err(HeaderError::Broken("it does not start with its magic"));
        }
        let fixed: &[u8; FIXED_BYTES] = bytes.first_chunk().ok_or(HeaderError::Short)?;
        let (fields, crc) = fixed.split_at(FIELDS_BYTES);
        if crc32fast::hash(fields).to_le_bytes() != crc {
            return Err(HeaderError::Broken("its header's checksum does not match"));
        }
        let length = usize::from(u16::from_le_bytes([fixed[40], fixed[41]]));
        if length > STREAM_BYTES_MAX {
            return Err(HeaderError::Broken("its stream id is too long"));
        }
        let total = FIXED_BYTES + length + CRC_BYTES;
        let bytes = bytes.get(..total).ok_or(HeaderError::Short)?;
        let (covered, crc) = bytes.split_at(total - CRC_BYTES);
        if crc32fast::hash(covered).to_le_bytes() != crc {
            return Err(HeaderError::Broken("its header's checksum does not match"));
        }
        let version = u16::from_le_bytes([fixed[8], fixed[9]]);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let u64_at = |at: usize| {
            let bytes = fixed[at..at + 8].try_into().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let stream = std::str::from_utf8(&covered[FIXED_BYTES..])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(HeaderError::Broken("its stream id does not parse"))?;
        let header = Self {
            stream,
            generation: Generation(u64_at(16)),
            first_seq: Seq(u64_at(24)),
            created: Timestamp::from_millis(u64_at(32) as i64),
            salt: u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]),
        };
        if header.first_seq.0 == 0 {
            return Err(HeaderError::Broken("its first sequence number is 0"));
        }
        Ok((header, total))
    }
}
