//! Takes the Content-Encoding off a request body.
//!
//! # Invariants
//! - Memory is taken from the budget before it is filled, and never more than the limit.
//!
//! # What it must not know
//! What the body is.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, DiscardReason, Permit};
use scoria_pprof::gunzip::is_gzip;

use crate::outcome::RefusalKind;

/// Read at a time.
const STEP_BYTES: u64 = 256 * 1024;

/// A body as the client meant it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) body: Bytes,
    /// Covers the body if it is a decompressed one.
    pub(crate) permit: Option<Permit>,
}

/// Why the encoding could not be taken off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error("the Content-Encoding {encoding:?} is not supported; send the body plain or as gzip")]
    Encoding { encoding: String },
    #[error("the body does not decompress: {detail}")]
    Corrupt { detail: String },
    #[error(
        "the body exceeds the body size limit (ingestion_body_limit_bytes, actual: more than {limit} decompressed, limit: {limit})"
    )]
    TooLarge { limit: u64 },
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Memory(BudgetExceeded),
}

impl ContentError {
    /// What the client can do about it.
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::TooLarge { .. } => RefusalKind::TooLarge,
            Self::Memory(exceeded) => RefusalKind::of_memory(exceeded),
            Self::Encoding { .. } | Self::Corrupt { .. } => RefusalKind::Invalid {
                reason: DiscardReason::MalformedProfile,
            },
        }
    }
}

/// `limit` is in decompressed bytes; 0 means none.
///
/// A body that is declared as gzip and does not start like it was decompressed on its way, and is
/// taken as it is.
pub(crate) fn decode(
    encoding: Option<&str>,
    body: Bytes,
    limit: u64,
    budget: &ByteBudget,
) -> Result<Content, ContentError> {
    let encoding = encoding.unwrap_or_default().trim();
    let is_plain = encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
    if !is_plain && !encoding.eq_ignore_ascii_case("gzip") {
        return Err(ContentError::Encoding {
            encoding: encoding.chars().take(64).collect(),
        });
    }
    if is_plain || !is_gzip(&body) {
        return Ok(Content { body, permit: None });
    }
    let mut permit = budget.nothing();
    let mut reader = MultiGzDecoder::new(&body[..]);
    let mut plain = Vec::new();
    loop {
        permit.grow(STEP_BYTES).map_err(ContentError::Memory)?;
        let read = (&mut reader).take(STEP_BYTES).read_to_end(&mut plain);
        let read = read.map_err(|error| ContentError::Corrupt {
            detail: error.to_string(),
        })?;
        if limit != 0 && plain.len() as u64 > limit {
            return Err(ContentError::TooLarge { limit });
        }
        if (read as u64) < STEP_BYTES {
            break;
        }
    }
    permit.shrink_to(plain.len() as u64);
    Ok(Content {
        body: Bytes::from(plain),
        permit: Some(permit),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        Bytes::from(encoder.finish().unwrap())
    }

    #[test]
    fn gzip_is_taken_off_once_and_paid_for() {
        let budget = ByteBudget::new("bodies", 1 << 20);
        let plain = vec![7; 600_000];
        let inner = gzip(&plain);
        let content = decode(Some("gzip"), gzip(&inner), 0, &budget).unwrap();
        assert_eq!(content.body, inner);
        drop(content);
        let content = decode(Some(" GZIP"), inner.clone(), 600_000, &budget).unwrap();
        assert_eq!(content.body, plain);
        assert_eq!(budget.used(), 600_000);
        drop(content);
        assert_eq!(budget.used(), 0);
        assert_eq!(decode(None, inner.clone(), 0, &budget).unwrap().body, inner);
    }

    #[test]
    fn a_body_that_was_decompressed_on_its_way_passes() {
        let budget = ByteBudget::new("bodies", 0);
        let body = Bytes::from_static(b"plain");
        for encoding in [Some("gzip"), Some("identity"), Some(""), None] {
            assert_eq!(
                decode(encoding, body.clone(), 1, &budget).unwrap().body,
                body
            );
        }
    }

    #[test]
    fn refused() {
        let budget = ByteBudget::new("bodies", 1 << 20);
        let body = gzip(&vec![7; 600_000]);
        let error = |encoding, body: &Bytes, limit| {
            decode(Some(encoding), body.clone(), limit, &budget).unwrap_err()
        };
        assert_eq!(
            error("gzip", &body, 599_999),
            ContentError::TooLarge { limit: 599_999 }
        );
        assert!(matches!(
            error("zstd", &body, 0),
            ContentError::Encoding { .. }
        ));
        let cut = body.slice(..body.len() - 9);
        assert!(matches!(
            error("gzip", &cut, 0),
            ContentError::Corrupt { .. }
        ));
        let bomb = gzip(&vec![0; 4 << 20]);
        assert!(matches!(error("gzip", &bomb, 0), ContentError::Memory(_)));
        assert_eq!(budget.used(), 0);
    }
}
