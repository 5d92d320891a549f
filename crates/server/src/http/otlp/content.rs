//! Takes the compression off an export.
//!
//! # Invariants
//! - What a message decompresses to is paid for as it grows and never longer than the limit.

use std::io::Read;

use bytes::Bytes;
use connectrpc::ErrorCode;
use http::StatusCode;

use super::super::body::{self, INLINE_BYTES, PaidBody};
use super::super::fault::Fault;

/// Read at a time.
const STEP_BYTES: usize = 256 << 10;
/// The window that every decoder of zstd in HTTP must have, as a power of two: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// How a message is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// # Errors
    /// 415 (unimplemented in gRPC) for a coding that is not known. `header` is where it stood.
    pub(super) fn of(name: &str, header: &str) -> Result<Self, Fault> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if name.is_empty() || is("identity") {
            Ok(Self::Identity)
        } else if is("gzip") {
            Ok(Self::Gzip)
        } else if is("zstd") {
            Ok(Self::Zstd)
        } else {
            let message =
                format!("{header} {name:?} is not supported; supported are gzip and zstd");
            Err(Fault::new(ErrorCode::Unimplemented, message)
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
        }
    }
}

/// The plain bytes.
///
/// # Errors
/// 400 for bytes that do not decompress, 413 over the limit, 503 without memory for the result.
pub(super) async fn decode(coding: Coding, body: PaidBody, limit: u64) -> Result<PaidBody, Fault> {
    let decompress = match coding {
        Coding::Identity => return Ok(body),
        Coding::Gzip => body::gunzip,
        Coding::Zstd => unzstd,
    };
    if body.bytes.len() <= INLINE_BYTES {
        return decompress(body, limit);
    }
    tokio::task::spawn_blocking(move || decompress(body, limit))
        .await
        .map_err(|_| Fault::new(ErrorCode::Internal, "decompressing the message failed"))?
}

fn unzstd(body: PaidBody, limit: u64) -> Result<PaidBody, Fault> {
    let corrupt =
        |error: std::io::Error| Fault::invalid(format!("the message is not zstd: {error}"));
    let PaidBody { bytes, mut permit } = body;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..]).map_err(corrupt)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(corrupt)?;
    let mut plain = Vec::new();
    loop {
        // Paid for with what growing holds at a time: the old and the new buffer.
        if plain.capacity() - plain.len() < STEP_BYTES {
            let more = plain.capacity().max(STEP_BYTES);
            permit.grow(more as u64).map_err(body::no_memory)?;
            plain.reserve_exact(more);
        }
        let read = decoder
            .by_ref()
            .take(STEP_BYTES as u64)
            .read_to_end(&mut plain);
        if read.map_err(corrupt)? == 0 {
            break;
        }
        if plain.len() as u64 > limit {
            return Err(body::too_large(plain.len() as u64, limit));
        }
    }
    let bytes = Bytes::from(plain);
    Ok(PaidBody { bytes, permit })
}

#[cfg(test)]
mod tests {
    use scoria_model::ByteBudget;

    use super::*;

    async fn inflated(bytes: Vec<u8>, limit: u64, budget: &ByteBudget) -> Result<usize, u16> {
        let body = PaidBody {
            bytes: Bytes::from(bytes),
            permit: budget.try_acquire(0).unwrap(),
        };
        let decoded = decode(Coding::Zstd, body, limit).await;
        decoded
            .map(|body| body.bytes.len())
            .map_err(|fault| fault.status().as_u16())
    }

    #[tokio::test]
    async fn zstd_is_bounded_and_paid_for() {
        let budget = ByteBudget::new("test", 8 << 20);
        let plain = vec![7; 1 << 20];
        let packed = zstd::encode_all(&plain[..], 1).unwrap();
        assert_eq!(
            inflated(packed.clone(), 1 << 20, &budget).await,
            Ok(1 << 20)
        );
        assert_eq!(
            inflated(packed.clone(), (1 << 20) - 1, &budget).await,
            Err(413)
        );
        assert_eq!(inflated(b"no zstd".to_vec(), 100, &budget).await, Err(400));
        assert_eq!(
            inflated(packed[..packed.len() - 3].to_vec(), 1 << 20, &budget).await,
            Err(400)
        );
        let small = ByteBudget::new("test", 1 << 19);
        assert_eq!(inflated(packed, 1 << 20, &small).await, Err(503));
        assert_eq!(budget.used() + small.used(), 0);
    }

    #[test]
    fn codings() {
        assert_eq!(Coding::of("", "x").unwrap(), Coding::Identity);
        assert_eq!(Coding::of("GZIP", "x").unwrap(), Coding::Gzip);
        let fault = Coding::of("br", "x").unwrap_err();
        assert_eq!(fault.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
