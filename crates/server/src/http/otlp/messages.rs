//! The small messages that answer an export, in protobuf and in its JSON.

use std::time::Duration;

use base64::Engine as _;
use scoria_distributor::otlp::Exported;
use serde_json::json;

use super::super::fault::Fault;

const TYPE_PREFIX: &str = "type.googleapis.com/";

/// An `ExportProfilesServiceResponse`; empty if there is nothing to say.
pub(super) fn response(exported: &Exported) -> Vec<u8> {
    let mut partial = Vec::new();
    int(&mut partial, 1, exported.rejected_profiles);
    bytes(&mut partial, 2, exported.message.as_bytes());
    let mut out = Vec::new();
    bytes(&mut out, 1, &partial);
    out
}

pub(super) fn response_json(exported: &Exported) -> Vec<u8> {
    let json = if *exported == Exported::default() {
        json!({})
    } else {
        json!({"partialSuccess": {
            "rejectedProfiles": exported.rejected_profiles.to_string(),
            "errorMessage": exported.message,
        }})
    };
    json.to_string().into_bytes()
}

/// A `google.rpc.Status`.
pub(super) fn status(fault: &Fault) -> Vec<u8> {
    let mut out = Vec::new();
    int(&mut out, 1, u64::from(fault.code.grpc_code()));
    bytes(&mut out, 2, fault.message.as_bytes());
    if let Some(wait) = fault.retry_after {
        let mut any = Vec::new();
        let name = format!("{TYPE_PREFIX}{}", super::RETRY_INFO);
        bytes(&mut any, 1, name.as_bytes());
        bytes(&mut any, 2, &retry_info(wait));
        bytes(&mut out, 3, &any);
    }
    out
}

pub(super) fn status_json(fault: &Fault) -> Vec<u8> {
    let mut json = json!({"code": fault.code.grpc_code(), "message": fault.message});
    if let Some(wait) = fault.retry_after {
        json["details"] = json!([{
            "@type": format!("{TYPE_PREFIX}{}", super::RETRY_INFO),
            "retryDelay": format!("{}s", wait.as_secs_f64()),
        }]);
    }
    json.to_string().into_bytes()
}

/// A `google.rpc.RetryInfo`.
pub(super) fn retry_info(wait: Duration) -> Vec<u8> {
    let mut duration = Vec::new();
    int(&mut duration, 1, wait.as_secs());
    int(&mut duration, 2, u64::from(wait.subsec_nanos()));
    let mut out = Vec::new();
    bytes(&mut out, 1, &duration);
    out
}

/// As error details are carried.
pub(super) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An integer; 0 is left out.
fn int(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        out.push(number << 3);
        put(out, value);
    }
}

/// A field with a length; an empty one is left out.
fn bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(number << 3 | 2);
        put(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use connectrpc::ErrorCode;

    use super::*;

    #[test]
    fn a_full_success_is_empty() {
        assert_eq!(response(&Exported::default()), b"");
        assert_eq!(response_json(&Exported::default()), b"{}");
        let partial = Exported {
            rejected_profiles: 300,
            message: "x".to_owned(),
        };
        assert_eq!(response(&partial), [0x0a, 6, 0x08, 0xac, 2, 0x12, 1, b'x']);
        let json = String::from_utf8(response_json(&partial)).unwrap();
        assert!(json.contains(r#""rejectedProfiles":"300""#), "{json}");
    }

    #[test]
    fn a_status_says_when_to_come_back() {
        let fault = Fault::unavailable("later", Duration::from_millis(1500));
        let out = status(&fault);
        assert_eq!(out[..9], [0x08, 14, 0x12, 5, b'l', b'a', b't', b'e', b'r']);
        assert!(
            out.ends_with(&[0x0a, 8, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 1]),
            "{out:x?}"
        );
        let json = String::from_utf8(status_json(&fault)).unwrap();
        assert!(json.contains(r#""retryDelay":"1.5s""#), "{json}");
        let plain = Fault::new(ErrorCode::InvalidArgument, "no");
        assert_eq!(status(&plain), [0x08, 3, 0x12, 2, b'n', b'o']);
    }
}
