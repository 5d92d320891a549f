//! Takes the gzip off a body, if there is any.
//!
//! A body that starts with 1f 8b is gzip, anything else passes through. A body of one member goes
//! through libdeflate in one shot, with the length that the member claims as a hint; whatever does
//! not fit that picture (several members, a wrong length, garbage behind) goes through a streaming
//! reader, which also finds the precise error.
//!
//! # Invariants
//! - No more than the limit is ever decompressed, and the claimed length is believed only as far as
//!   the limit and the best possible compression of the body allow.

use std::fmt;
use std::io::Read;

use scoria_model::DiscardReason;

use crate::Rejection;
use crate::rejection::LabelText;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Magic and the only compression method: how a further member starts.
const MEMBER: [u8; 3] = [0x1f, 0x8b, 8];
/// Ten bytes of header and eight of trailer.
const MEMBER_OVERHEAD: usize = 18;
/// No deflate stream expands more than this.
const MAX_EXPANSION: u64 = 1032;
/// Memory that is kept from one body to the next.
const KEPT_BYTES: usize = 1024 * 1024;

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GunzipError {
    #[error(
        "the profile is larger than {limit} bytes when decompressed (max_profile_size_bytes, limit: {limit})"
    )]
    TooLarge { limit: u64 },
    #[error("the gzip data ends too early, after {compressed} bytes")]
    Truncated { compressed: usize },
    #[error("the gzip data is corrupt: {detail}")]
    Corrupt { detail: String },
}

impl GunzipError {
    pub const fn reason(&self) -> DiscardReason {
        match self {
            Self::TooLarge { .. } => DiscardReason::ProfileSizeLimit,
            Self::Truncated { .. } | Self::Corrupt { .. } => DiscardReason::MalformedProfile,
        }
    }

    /// The refusal of a profile that came with `labels`.
    pub fn rejection(&self, labels: &[(&str, &str)]) -> Rejection {
        let labels = LabelText(labels);
        match self {
            Self::TooLarge { limit } => Rejection::new(
                self.reason(),
                format!(
                    "the profile with labels '{labels}' exceeds the size limit (max_profile_size_bytes, actual: more than {limit}, limit: {limit})"
                ),
            ),
            Self::Truncated { .. } | Self::Corrupt { .. } => Rejection::malformed(&labels, self),
        }
    }
}

/// Whether `body` starts like gzip.
pub fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&MAGIC)
}

/// Decompresses bodies, one after the other, into memory that it keeps.
pub struct Decompressor {
    one_shot: libdeflater::Decompressor,
    out: Vec<u8>,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("capacity", &self.out.capacity())
            .finish_non_exhaustive()
    }
}

impl Decompressor {
    pub fn new() -> Self {
        Self {
            one_shot: libdeflater::Decompressor::new(),
            out: Vec::new(),
        }
    }

    /// The plain bytes of `body`: itself if it is not gzip.
    ///
    /// `limit` is the largest allowed result in bytes; 0 means none.
    ///
    /// # Errors
    /// The result would exceed the limit, or the gzip data is cut off or damaged.
    pub fn decompress<'a>(
        &'a mut self,
        body: &'a [u8],
        limit: u64,
    ) -> Result<&'a [u8], GunzipError> {
        let cap = if limit == 0 { u64::MAX } else { limit };
        if !is_gzip(body) {
            return if body.len() as u64 > cap {
                Err(GunzipError::TooLarge { limit })
            } else {
                Ok(body)
            };
        }
        match self.one_member(body, cap) {
            Some(length) => self.out.truncate(length),
            None => self.stream(body, cap)?,
        }
        Ok(&self.out)
    }

    /// What came out of the last body that was gzip.
    pub fn plain(&self) -> &[u8] {
        &self.out
    }

    /// Gives the memory of a large body back; to be called when it is done with.
    pub fn give_back(&mut self) {
        if self.out.capacity() > KEPT_BYTES {
            self.out = Vec::new();
        }
    }

    /// The number of bytes decompressed if `body` is one intact member and nothing else.
    fn one_member(&mut self, body: &[u8], cap: u64) -> Option<usize> {
        let claimed = body.last_chunk::<4>().map(|b| u32::from_le_bytes(*b))?;
        let claimed = u64::from(claimed);
        let possible = (body.len() as u64).saturating_mul(MAX_EXPANSION);
        if body.len() < MEMBER_OVERHEAD || claimed > cap || claimed > possible {
            return None;
        }
        // A second member cannot start without these bytes; that they turn up by chance only costs
        // the slower way.
        let inside = &body[MEMBER_OVERHEAD - 8..];
        if memchr::memmem::find(inside, &MEMBER).is_some() {
            return None;
        }
        let claimed = usize::try_from(claimed).ok()?;
        self.out.resize(claimed, 0);
        let length = self.one_shot.gzip_decompress(body, &mut self.out).ok()?;
        (length == claimed).then_some(length)
    }

    fn stream(&mut self, body: &[u8], cap: u64) -> Result<(), GunzipError> {
        self.out.clear();
        let mut reader = flate2::bufread::MultiGzDecoder::new(body).take(cap.saturating_add(1));
        reader
            .read_to_end(&mut self.out)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => GunzipError::Truncated {
                    compressed: body.len(),
                },
                _ => GunzipError::Corrupt {
                    detail: e.to_string(),
                },
            })?;
        if self.out.len() as u64 > cap {
            return Err(GunzipError::TooLarge { limit: cap });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn text(n: usize) -> Vec<u8> {
        (0..n)
            .flat_map(|i| format!("line {i}\n").into_bytes())
            .collect()
    }

    #[test]
    fn plain_bytes_pass_through_up_to_the_limit() {
        let mut decompressor = Decompressor::new();
        assert_eq!(decompressor.decompress(b"abc", 3), Ok(&b"abc"[..]));
        assert_eq!(decompressor.decompress(b"abc", 0), Ok(&b"abc"[..]));
        assert_eq!(
            decompressor.decompress(b"abcd", 3),
            Err(GunzipError::TooLarge { limit: 3 })
        );
        assert_eq!(decompressor.decompress(b"", 3), Ok(&b""[..]));
    }

    #[test]
    fn one_member_and_several_members() {
        let mut decompressor = Decompressor::new();
        let plain = text(5000);
        let one = gzip(&plain);
        assert!(decompressor.one_member(&one, 1 << 20).is_some());
        assert_eq!(decompressor.decompress(&one, 1 << 20), Ok(&plain[..]));
        let twice = [one.clone(), one].concat();
        let both = [plain.clone(), plain].concat();
        assert_eq!(decompressor.decompress(&twice, 1 << 20), Ok(&both[..]));
    }

    #[test]
    fn the_limit_holds_for_every_way() {
        let mut decompressor = Decompressor::new();
        let plain = text(5000);
        let one = gzip(&plain);
        let twice = [one.clone(), one.clone()].concat();
        let mut liar = one.clone();
        let at = liar.len() - 4;
        liar[at..].copy_from_slice(&10u32.to_le_bytes());
        for body in [one, twice, liar] {
            assert_eq!(
                decompressor.decompress(&body, 1000),
                Err(GunzipError::TooLarge { limit: 1000 })
            );
        }
        let fits = gzip(&plain);
        let exact = plain.len() as u64;
        assert!(decompressor.decompress(&fits, exact).is_ok());
        assert!(decompressor.decompress(&fits, exact - 1).is_err());
    }

    #[test]
    fn damage_is_named() {
        let mut decompressor = Decompressor::new();
        let body = gzip(&text(5000));
        for cut in [2, 9, 17, body.len() / 2, body.len() - 1] {
            assert!(
                matches!(
                    decompressor.decompress(&body[..cut], 1 << 20),
                    Err(GunzipError::Truncated { .. })
                ),
                "{cut}"
            );
        }
        let mut flipped = body.clone();
        let crc = flipped.len() - 8;
        flipped[crc] ^= 1;
        assert!(matches!(
            decompressor.decompress(&flipped, 1 << 20),
            Err(GunzipError::Corrupt { .. })
        ));
        let garbage = [body, b"garbage".to_vec()].concat();
        assert!(decompressor.decompress(&garbage, 1 << 20).is_err());
    }

    #[test]
    fn a_claimed_length_reserves_nothing_that_cannot_be() {
        let mut decompressor = Decompressor::new();
        let mut body = gzip(b"small");
        let at = body.len() - 4;
        body[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decompressor.decompress(&body, 0).is_err());
        assert!(decompressor.out.capacity() < 1 << 20);
    }
}
