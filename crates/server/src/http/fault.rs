//! An answer that is not a success, in the form that the client's protocol has for it.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};
use http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use scoria_distributor::RefusalKind;
use scoria_model::{DiscardReason, varint};

/// What went wrong, for any protocol.
#[derive(Debug, Clone)]
pub struct Fault {
    pub code: ErrorCode,
    /// Where the status is not that of the code.
    pub status: Option<StatusCode>,
    pub message: String,
    /// When it is worth coming back.
    pub retry_after: Option<Duration>,
}

impl Fault {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            status: None,
            message: message.into(),
            retry_after: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(ErrorCode::Unavailable, message)
        }
    }

    pub fn with_status(self, status: StatusCode) -> Self {
        Self {
            status: Some(status),
            ..self
        }
    }

    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self {
            retry_after,
            ..self
        }
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.code.http_status())
    }

    /// What a refusal by the edge is counted as.
    pub fn kind(&self) -> RefusalKind {
        match (self.code, self.retry_after) {
            _ if self.status() == StatusCode::PAYLOAD_TOO_LARGE => RefusalKind::TooLarge,
            (ErrorCode::Unavailable, Some(retry_after)) => RefusalKind::Overloaded { retry_after },
            (ErrorCode::Unavailable | ErrorCode::Internal, _) => RefusalKind::Unavailable,
            _ => RefusalKind::Invalid {
                reason: DiscardReason::MalformedProfile,
            },
        }
    }

    /// `Retry-After`, if it is worth coming back.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(wait) = self.retry_after {
            // Whole seconds, never 0: a client must not come back at once.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        headers
    }

    /// The answer to an RPC, framed as the request's protocol wants it.
    pub fn into_rpc_response(self, request: &HeaderMap) -> Response {
        ConnectError::from(self)
            .into_http_response(request)
            .map(Body::new)
    }
}

impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> Self {
        let headers = fault.headers();
        let details = fault.retry_after.map(retry_info);
        let mut error = Self::new(fault.code, fault.message);
        if let Some(retry_info) = details {
            error = error.with_detail(retry_info);
        }
        if let Some(status) = fault.status {
            error = error.with_http_status(status);
        }
        if !headers.is_empty() {
            error = error.with_headers(headers);
        }
        error
    }
}

/// `google.rpc.RetryInfo`, by which clients of RPCs know that and when it is worth coming back.
fn retry_info(wait: Duration) -> ErrorDetail {
    const LENGTH_DELIMITED: u64 = 2;
    let mut duration = Vec::new();
    for (field, value) in [(1, wait.as_secs()), (2, u64::from(wait.subsec_nanos()))] {
        varint::put_u64(&mut duration, field << 3);
        varint::put_u64(&mut duration, value);
    }
    let mut message = Vec::new();
    varint::put_u64(&mut message, 1 << 3 | LENGTH_DELIMITED);
    varint::put_bytes(&mut message, &duration);
    ErrorDetail {
        type_url: "google.rpc.RetryInfo".to_owned(),
        value: Some(STANDARD_NO_PAD.encode(message)),
        debug: None,
    }
}

impl IntoResponse for Fault {
    /// The answer to a plain HTTP request.
    fn into_response(self) -> Response {
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let body = serde_json::json!({"code": code_name(&self), "message": self.message});
        (self.status(), headers, format!("{body}\n")).into_response()
    }
}

/// Statuses that no code maps to are "unknown" to clients of the plain routes.
fn code_name(fault: &Fault) -> &'static str {
    match fault.status() {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::REQUEST_TIMEOUT => {
            ErrorCode::Unknown.as_str()
        }
        _ => fault.code.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        let header = |wait| {
            let fault = Fault::unavailable("x", wait);
            fault.into_response().headers()[RETRY_AFTER]
                .to_str()
                .map(str::to_owned)
        };
        assert_eq!(header(Duration::ZERO).unwrap(), "1");
        assert_eq!(header(Duration::from_millis(1500)).unwrap(), "2");
        assert_eq!(header(Duration::from_secs(5)).unwrap(), "5");
    }

    #[test]
    fn an_rpc_error_keeps_status_and_header() {
        let fault = Fault::invalid("too large")
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
            .with_retry_after(Some(Duration::from_secs(3)));
        let mut request = HeaderMap::new();
        request.insert(CONTENT_TYPE, HeaderValue::from_static("application/proto"));
        let response = fault.into_rpc_response(&request);
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }
}
