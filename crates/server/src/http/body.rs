//! Reading a request's body: bounded, paid for before it is read, and taken out of its gzip.
//!
//! # Invariants
//! - Bytes are taken from the budget before they are read: all of a declared length at once, else
//!   as the body grows. What a body decompresses to is paid for as well.
//! - Neither the body nor what it decompresses to is longer than the limit.
//! - The permit lives as long as the [`PaidBody`] that carries it.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use connectrpc::ErrorCode;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use scoria_model::budget::BudgetExceeded;
use scoria_model::{ByteBudget, Permit};
use scoria_pprof::{Decompressor, GunzipError};

use super::fault::Fault;

/// When a client that found no room should come back.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Bodies above this are decompressed off the threads that serve connections.
pub(super) const INLINE_BYTES: usize = 64 << 10;

/// A whole body and the permit for its bytes.
pub(super) struct PaidBody {
    pub(super) bytes: Bytes,
    pub(super) permit: Permit,
}

/// Reads the body of a request.
///
/// # Errors
/// 413 over the limit, 503 without memory for it, 408 when it breaks off.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
    budget: &ByteBudget,
) -> Result<PaidBody, Fault> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = declared
        && length > limit
    {
        return Err(too_large(length, limit));
    }
    let permit = budget.try_acquire(declared.unwrap_or_default());
    let mut permit = permit.map_err(|error| no_memory_for(declared.unwrap_or_default(), error))?;
    let bytes = collect(body, limit, &mut permit).await?;
    Ok(PaidBody { bytes, permit })
}

async fn collect(mut body: Body, limit: u64, permit: &mut Permit) -> Result<Bytes, Fault> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fault::new(
                ErrorCode::Unknown,
                format!("reading the request body: {error}"),
            )
            .with_status(StatusCode::REQUEST_TIMEOUT)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len() as u64;
        if length > limit {
            return Err(too_large(length, limit));
        }
        if length > permit.bytes() {
            let grown = permit.grow(length - permit.bytes());
            grown.map_err(|error| no_memory_for(length, error))?;
        }
        // One frame is passed on as it is; only several are copied together.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve((permit.bytes() as usize).max(first.len() + data.len()));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

/// Takes a gzip `Content-Encoding` off the body and out of the headers. Another encoding stays
/// where it is, for the protocol to refuse.
///
/// # Errors
/// 400 for bytes that are no gzip, 413 over the limit, 503 without memory for the result.
pub(super) async fn decode(
    headers: &mut HeaderMap,
    body: PaidBody,
    limit: u64,
) -> Result<PaidBody, Fault> {
    let gzip = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if !gzip {
        return Ok(body);
    }
    if body.bytes.is_empty() {
        headers.remove(CONTENT_ENCODING);
        return Ok(body);
    }
    if !body.bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(Fault::invalid(
            "the request says Content-Encoding: gzip, but its body is not gzip",
        ));
    }
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    if body.bytes.len() <= INLINE_BYTES {
        return gunzip(body, limit);
    }
    tokio::task::spawn_blocking(move || gunzip(body, limit))
        .await
        .map_err(|_| Fault::new(ErrorCode::Internal, "decompressing the request body failed"))?
}

/// # Errors
/// 501 for a body that is still encoded in some way.
pub(super) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Fault> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(());
    };
    if encoding.is_empty() || encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Unimplemented,
        format!("Content-Encoding {encoding:?} is not supported; supported is gzip"),
    ))
}

/// Takes a gzip off; the permit then covers the result.
///
/// # Errors
/// As [`decode`].
pub(super) fn gunzip(mut body: PaidBody, limit: u64) -> Result<PaidBody, Fault> {
    // The length that the body claims is paid for first; only a body that turns out longer, which
    // an honest client's is not, costs a second attempt at the full price.
    let claimed = body
        .bytes
        .last_chunk::<4>()
        .map_or(0, |b| u32::from_le_bytes(*b));
    let claimed = u64::from(claimed).clamp(1, limit.max(1));
    let compressed = body.permit.bytes();
    let grown = body.permit.grow(claimed);
    grown.map_err(|error| no_memory_for(compressed + claimed, error))?;
    let mut decompressor = Decompressor::new();
    let mut plain = decompressor.decompress(&body.bytes, claimed);
    let mut second = Decompressor::new();
    if matches!(plain, Err(GunzipError::TooLarge { .. })) && claimed < limit {
        // How much it is nobody knows; what is more than all that there is does not fit.
        let most = limit.min(body.permit.limit().saturating_sub(compressed));
        let more = most.saturating_sub(claimed);
        body.permit.grow(more).map_err(no_memory)?;
        plain = second.decompress(&body.bytes, most.max(claimed));
        if most < limit && matches!(plain, Err(GunzipError::TooLarge { .. })) {
            return Err(never_fits(most + 1, body.permit.limit()));
        }
    }
    let plain = plain.map_err(|error| match error {
        GunzipError::TooLarge { .. } => too_large(limit + 1, limit),
        error => Fault::invalid(format!("the request body: {error}")),
    })?;
    let bytes = Bytes::copy_from_slice(plain);
    let mut permit = body.permit;
    permit.shrink_to(bytes.len() as u64);
    Ok(PaidBody { bytes, permit })
}

pub(super) fn too_large(actual: u64, limit: u64) -> Fault {
    Fault::invalid(format!(
        "the request body is too large (ingestion_body_limit_bytes, actual: at least {actual}, limit: {limit}); send fewer profiles in one request"
    ))
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// A body that does not come keeps the memory that its length was promised.
pub(super) fn too_slow(within: Duration) -> Fault {
    let seconds = within.as_secs_f64();
    Fault::new(
        ErrorCode::Unknown,
        format!("the request body did not arrive within {seconds} s (server.read_timeout); send less at a time"),
    )
    .with_status(StatusCode::REQUEST_TIMEOUT)
}

/// For a body that takes `bytes` in all.
fn no_memory_for(bytes: u64, error: BudgetExceeded) -> Fault {
    match bytes > error.limit {
        true => never_fits(bytes, error.limit),
        false => no_memory(error),
    }
}

/// Coming back is no use.
fn never_fits(bytes: u64, limit: u64) -> Fault {
    Fault::invalid(format!(
        "the request body is too large for this server (it takes at least {bytes} bytes, all requests together may hold {limit} of memory.limit); send less at a time, or give the server more memory"
    ))
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

pub(super) fn no_memory(error: BudgetExceeded) -> Fault {
    Fault::unavailable(
        format!("no memory for the request now ({error}); send it again later"),
        RETRY_AFTER,
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    async fn both(body: Vec<u8>, limit: u64, budget: &ByteBudget) -> Result<Bytes, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
        let paid = read(&headers, Body::from(body), limit, budget).await;
        let paid = paid.map_err(|fault| fault.status().as_u16())?;
        decode(&mut headers, paid, limit)
            .await
            .map(|paid| paid.bytes)
            .map_err(|fault| fault.status().as_u16())
    }

    #[tokio::test]
    async fn bodies_are_bounded_before_and_after_gzip() {
        let budget = ByteBudget::new("test", 1 << 20);
        let plain = vec![7; 100_000];
        assert_eq!(both(gzip(&plain), 100_000, &budget).await.unwrap(), plain);
        assert_eq!(both(gzip(&plain), 99_999, &budget).await, Err(413));
        assert_eq!(both(vec![0x1f, 0x8b, 8, 0], 1000, &budget).await, Err(400));
        assert_eq!(both(b"plain".to_vec(), 1000, &budget).await, Err(400));
        assert_eq!(both(vec![1; 1001], 1000, &budget).await, Err(413));
        // Two members: the claimed length is that of the last one only.
        let mut two = gzip(&plain);
        two.extend(gzip(b"x"));
        assert_eq!(both(two, 200_000, &budget).await.unwrap().len(), 100_001);
        assert_eq!(budget.used(), 0, "everything is given back");
    }

    #[tokio::test]
    async fn without_memory_the_client_is_told_to_come_back() {
        let budget = ByteBudget::new("test", 50_000);
        let others = budget.try_acquire(10_000).unwrap();
        assert_eq!(
            both(gzip(&vec![7; 45_000]), 1 << 20, &budget).await,
            Err(503)
        );
        drop(others);
        assert_eq!(
            both(gzip(&vec![7; 100_000]), 1 << 20, &budget).await,
            Err(413)
        );
        // Two members, of which the last claims little.
        let mut two = gzip(&vec![7; 100_000]);
        two.extend(gzip(b"x"));
        assert_eq!(both(two, 1 << 20, &budget).await, Err(413));
        let others = budget.try_acquire(1).unwrap();
        assert_eq!(both(vec![1; 50_000], 1 << 20, &budget).await, Err(503));
        drop(others);
        // It would never fit.
        assert_eq!(both(vec![1; 60_000], 1 << 20, &budget).await, Err(413));
        assert_eq!(budget.used(), 0);
    }
}
