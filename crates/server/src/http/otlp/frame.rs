//! Takes the one message of a gRPC call out of its frame.
//!
//! ```text
//! flag (1 byte) │ length (4 bytes, big-endian) │ message
//! ```
//!
//! # Invariants
//! - What is handed on is all that was sent behind the frame, not a byte less.

use bytes::Bytes;
use http::HeaderMap;

use super::super::fault::Fault;
use super::content::Coding;

/// Flag and length in front of a gRPC message.
pub(super) const PREFIX_BYTES: usize = 5;
const ENCODING: &str = "grpc-encoding";

/// The one message of a unary call, and how it is compressed.
///
/// # Errors
/// 400 for a frame that is not the whole body, 501 for a compression that is not known.
pub(super) fn unframe(mut body: Bytes, headers: &HeaderMap) -> Result<(Bytes, Coding), Fault> {
    let [flag, length @ ..] = match body.first_chunk::<PREFIX_BYTES>() {
        Some(prefix) => *prefix,
        None => return Err(Fault::invalid("the gRPC call has no message")),
    };
    let length = u32::from_be_bytes(length) as usize;
    let there = body.len() - PREFIX_BYTES;
    if length != there {
        return Err(Fault::invalid(format!(
            "the gRPC message claims {length} bytes, but {there} follow; an export is one message"
        )));
    }
    let message = body.split_off(PREFIX_BYTES);
    if flag == 0 {
        return Ok((message, Coding::Identity));
    }
    let encoding = headers.get(ENCODING).and_then(|value| value.to_str().ok());
    let coding = Coding::of(encoding.unwrap_or_default(), ENCODING)?;
    if coding == Coding::Identity {
        return Err(Fault::invalid(
            "the gRPC message is marked as compressed, but grpc-encoding does not say how",
        ));
    }
    Ok((message, coding))
}

#[cfg(test)]
mod tests {
    use connectrpc::ErrorCode;

    use super::*;

    fn headers(encoding: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-encoding", encoding.parse().unwrap());
        headers
    }

    #[test]
    fn one_message_is_taken_out_of_its_frame() {
        let plain = headers("gzip");
        let framed = |bytes: &'static [u8]| unframe(Bytes::from_static(bytes), &plain);
        let (message, coding) = framed(b"\0\0\0\0\x02ab").unwrap();
        assert_eq!((&message[..], coding), (&b"ab"[..], Coding::Identity));
        assert_eq!(framed(b"\x01\0\0\0\x01a").unwrap().1, Coding::Gzip);
        for bad in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab"] {
            assert_eq!(framed(bad).unwrap_err().code, ErrorCode::InvalidArgument);
        }
        let none = headers("");
        assert!(unframe(Bytes::from_static(b"\x01\0\0\0\x01a"), &none).is_err());
    }
}
