//! Frames: one batch each.

use std::borrow::Cow;
use std::io::Read;

use scoria_model::Seq;
use scoria_model::varint::{self, Reader};

/// Most bytes of one batch before compression.
pub const FRAME_RAW_BYTES_MAX: u32 = 1 << 30;

pub(super) const FRAME_HEADER_BYTES: usize = 32;
pub(super) const MARKER: [u8; 4] = *b"SFRM";
const FLAG_ZSTD: u8 = 1;
/// Below this a batch is stored as it is: zstd has nothing to find.
const COMPRESS_FROM_BYTES: usize = 512;

/// What the records of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Records,
    /// Records without sequence numbers that carry the retry keys of earlier segments.
    RetryKeys,
    /// The segment was sealed in good order and ends here.
    End,
}

/// A batch as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    /// Where the frame starts in its file.
    pub offset: u64,
    pub first_seq: Seq,
    records: Vec<std::ops::Range<usize>>,
    body: Vec<u8>,
}

impl Frame {
    /// The records with their sequence numbers (which mean nothing for [`FrameKind::RetryKeys`]).
    pub fn records(&self) -> impl ExactSizeIterator<Item = (Seq, &[u8])> {
        let first = self.first_seq.0;
        self.records
            .iter()
            .enumerate()
            .map(move |(at, span)| (Seq(first + at as u64), &self.body[span.clone()]))
    }

    /// The last sequence number given out when the frame was written.
    pub fn last_seq(&self) -> Seq {
        Seq((self.first_seq.0 + self.records.len() as u64).saturating_sub(1))
    }
}

/// The checked fixed part of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) stored: u32,
    crc: u32,
    raw: u32,
    first_seq: u64,
    count: u32,
    zstd: bool,
}

/// Encodes batches; keeps its compressor from one to the next.
pub(super) struct FrameEncoder {
    salt: u32,
    compressor: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameEncoder")
            .field("salt", &self.salt)
            .finish_non_exhaustive()
    }
}

impl FrameEncoder {
    pub(super) fn new(salt: u32) -> std::io::Result<Self> {
        Ok(Self {
            salt,
            compressor: zstd::bulk::Compressor::new(1)?,
        })
    }

    /// Appends one frame to `out`.
    pub(super) fn encode(
        &mut self,
        kind: FrameKind,
        first_seq: Seq,
        records: &[impl AsRef<[u8]>],
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let mut raw = Vec::with_capacity(records.iter().map(|r| r.as_ref().len() + 5).sum());
        for record in records {
            varint::put_bytes(&mut raw, record.as_ref());
        }
        let too_large = |what| std::io::Error::new(std::io::ErrorKind::FileTooLarge, what);
        if raw.len() > FRAME_RAW_BYTES_MAX as usize {
            return Err(too_large(format!(
                "the batch has {} bytes; the limit is {FRAME_RAW_BYTES_MAX}",
                raw.len()
            )));
        }
        let body = self.compressed(&raw)?;
        let zstd = matches!(body, Cow::Owned(_));
        let start = out.len();
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        out.extend_from_slice(&first_seq.0.to_le_bytes());
        out.extend_from_slice(&(records.len() as u32).to_le_bytes());
        let kind = match kind {
            FrameKind::Records => 0,
            FrameKind::RetryKeys => 1,
            FrameKind::End => 2,
        };
        out.extend_from_slice(&[kind, if zstd { FLAG_ZSTD } else { 0 }, 0, 0]);
        out.extend_from_slice(&body);
        let crc = checksum(self.salt, &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// The body as it is stored: compressed where that saves at least a sixteenth.
    fn compressed<'a>(&mut self, raw: &'a [u8]) -> std::io::Result<Cow<'a, [u8]>> {
        if raw.len() < COMPRESS_FROM_BYTES {
            return Ok(Cow::Borrowed(raw));
        }
        let small = self.compressor.compress(raw)?;
        Ok(if small.len() + small.len() / 16 < raw.len() {
            Cow::Owned(small)
        } else {
            Cow::Borrowed(raw)
        })
    }
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

impl FrameHeader {
    /// Reads the fixed part; says what is wrong with it. The checksum is not checked yet.
    pub(super) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, &'static str> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if bytes[..4] != MARKER {
            return Err("a frame does not start with its marker");
        }
        let kind = match bytes[28] {
            0 => FrameKind::Records,
            1 => FrameKind::RetryKeys,
            2 => FrameKind::End,
            _ => return Err("a frame is of an unknown kind"),
        };
        let first_seq = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
        let header = Self {
            kind,
            crc: u32_at(4),
            stored: u32_at(8),
            raw: u32_at(12),
            first_seq,
            count: u32_at(24),
            zstd: bytes[29] == FLAG_ZSTD,
        };
        if bytes[29] > FLAG_ZSTD || bytes[30..] != [0, 0] {
            return Err("a frame has unknown flags");
        }
        // A record takes at least the byte of its length.
        let fits = header.raw <= FRAME_RAW_BYTES_MAX
            && header.count <= header.raw
            && (header.zstd || header.stored == header.raw);
        if !fits || first_seq == 0 || first_seq > u64::MAX / 2 {
            return Err("a frame's lengths contradict each other");
        }
        Ok(header)
    }

    /// Checks and unpacks the body; `fixed` are the bytes that [`FrameHeader::decode`] read.
    pub(super) fn open(
        &self,
        salt: u32,
        offset: u64,
        fixed: &[u8; FRAME_HEADER_BYTES],
        stored: Vec<u8>,
    ) -> Result<Frame, &'static str> {
        if !self.matches(salt, fixed, &stored) {
            return Err("a frame's checksum does not match");
        }
        let body = if self.zstd {
            decompress(&stored, self.raw as usize)?
        } else {
            stored
        };
        let mut reader = Reader::new(&body);
        let mut records = Vec::with_capacity(self.count as usize);
        for _ in 0..self.count {
            let record = reader
                .bytes()
                .map_err(|_| "a record reaches beyond its frame")?;
            let end = body.len() - reader.rest().len();
            records.push(end - record.len()..end);
        }
        if !reader.is_empty() {
            return Err("a frame has bytes behind its last record");
        }
        Ok(Frame {
            kind: self.kind,
            offset,
            first_seq: Seq(self.first_seq),
            records,
            body,
        })
    }

    pub(super) fn matches(
        &self,
        salt: u32,
        fixed: &[u8; FRAME_HEADER_BYTES],
        stored: &[u8],
    ) -> bool {
        let mut hasher = crc32fast::Hasher::new_with_initial(salt);
        hasher.update(&fixed[8..]);
        hasher.update(stored);
        hasher.finalize() == self.crc
    }
}

fn decompress(stored: &[u8], raw: usize) -> Result<Vec<u8>, &'static str> {
    let broken = "a frame does not decompress to its length";
    let decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(|_| broken)?;
    // Grows with what really comes out, whatever the header promised.
    let mut body = Vec::with_capacity(raw.min(stored.len().saturating_mul(8)));
    decoder
        .take(raw as u64 + 1)
        .read_to_end(&mut body)
        .map_err(|_| broken)?;
    if body.len() == raw {
        Ok(body)
    } else {
        Err(broken)
    }
}
