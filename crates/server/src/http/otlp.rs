//! OTLP profiles over gRPC and over HTTP: from either's framing to the distributor, and back.
//!
//! Both paths take both transports, told apart by `Content-Type`. The message itself is handed on as
//! bytes: its generations differ in ways that generated decoders refuse or misread.
//!
//! # Invariants
//! - Every answer is in the request's own form, refusals of the edge included: gRPC's trailers, or
//!   a `google.rpc.Status` in protobuf or JSON.
//! - What is worth sending again says so and when: `RetryInfo`, and `Retry-After` over HTTP.

mod content;
mod frame;
mod messages;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use connectrpc::ErrorCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use scoria_distributor::RefusalKind;
use scoria_distributor::otlp::{Encoding, ExportRequest, Exported};

use super::App;
use super::body::PaidBody;
use super::fault::Fault;
use super::push::refused as fault_of;
use content::Coding;
use frame::{PREFIX_BYTES, unframe};

/// What an error says at most over gRPC, where it travels in headers.
const GRPC_MESSAGE_MAX: usize = 2000;
const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// How a request is framed and encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Grpc,
    Protobuf,
    Json,
}

impl Form {
    /// The form that the content type says; its parameters change nothing.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let media = text(headers, &CONTENT_TYPE).split(';').next();
        let media = media.unwrap_or_default().trim();
        let is = |wanted: &str| media.eq_ignore_ascii_case(wanted);
        if is("application/grpc") || is("application/grpc+proto") {
            Some(Self::Grpc)
        } else if is("application/x-protobuf")
            || is("application/protobuf")
            || is("application/proto")
        {
            Some(Self::Protobuf)
        } else if is("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }
}

pub(super) async fn export(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(form) = Form::of(&parts.headers) else {
        return refused(unsupported(&parts.headers), &parts.headers);
    };
    match take(&app, &parts, body, form).await {
        Ok(exported) => accepted(&exported, form),
        Err(fault) => refused(fault, &parts.headers),
    }
}

async fn take(app: &App, parts: &Parts, body: Body, form: Form) -> Result<Exported, Fault> {
    let scope = app.scope(&parts.extensions)?;
    let tenant = scope.single()?;
    let distributor = &app.roles()?.distributor;
    let opened = open(app, parts, body, form).await;
    let request = opened.inspect_err(|fault| app.refused(scope.tenants(), fault))?;
    let exported = distributor.export(tenant, request).await;
    exported.map_err(|error| {
        let fault = fault_of(error.kind, error.message);
        match error.kind {
            RefusalKind::TooLarge => fault.with_status(StatusCode::PAYLOAD_TOO_LARGE),
            _ => fault,
        }
    })
}

/// Takes framing and compression off; what comes out is not longer than its tenant's bodies may be.
async fn open(app: &App, parts: &Parts, body: Body, form: Form) -> Result<ExportRequest, Fault> {
    let limit = app.body_bytes_max(app.scope(&parts.extensions)?.tenants());
    let body = to_bytes(body, usize::MAX)
        .await
        .map_err(|error| Fault::invalid(format!("reading the request body: {error}")))?;
    let headers = &parts.headers;
    let (message, coding) = match form {
        Form::Grpc => unframe(body, headers)?,
        // The edge has taken gzip off already.
        Form::Protobuf | Form::Json => {
            let coding = Coding::of(text(headers, &CONTENT_ENCODING), "Content-Encoding")?;
            (body, coding)
        }
    };
    let paid = PaidBody {
        bytes: message,
        permit: app.memory.bodies.nothing(),
    };
    let plain = content::decode(coding, paid, limit).await?;
    Ok(ExportRequest {
        body: plain.bytes,
        encoding: match form {
            Form::Json => Encoding::Json,
            Form::Grpc | Form::Protobuf => Encoding::Protobuf,
        },
        user_agent: text(headers, &USER_AGENT).to_owned(),
    })
}

fn accepted(exported: &Exported, form: Form) -> Response {
    let protobuf = || messages::response(exported);
    match form {
        Form::Grpc => {
            let message = protobuf();
            let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.extend_from_slice(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body =
                Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
            let headers = [
                (CONTENT_TYPE, "application/grpc"),
                (HeaderName::from_static("grpc-accept-encoding"), "gzip,zstd"),
            ];
            (headers, Body::new(body)).into_response()
        }
        Form::Protobuf => ([(CONTENT_TYPE, "application/x-protobuf")], protobuf()).into_response(),
        Form::Json => {
            let json = messages::response_json(exported);
            ([(CONTENT_TYPE, "application/json")], json).into_response()
        }
    }
}

fn unsupported(headers: &HeaderMap) -> Fault {
    let given = text(headers, &CONTENT_TYPE);
    let message = format!(
        "the content type {given:?} is not supported; OTLP profiles come as application/x-protobuf, application/json or application/grpc"
    );
    Fault::new(ErrorCode::InvalidArgument, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// An error in the form of the request that it answers.
pub(super) fn refused(mut fault: Fault, request: &HeaderMap) -> Response {
    match Form::of(request) {
        Some(Form::Grpc) => {
            let end = fault.message.floor_char_boundary(GRPC_MESSAGE_MAX);
            fault.message.truncate(end);
            grpc_error(&fault)
        }
        Some(Form::Json) => answer(&fault, "application/json", messages::status_json(&fault)),
        Some(Form::Protobuf) | None => {
            answer(&fault, "application/x-protobuf", messages::status(&fault))
        }
    }
}

/// gRPC's answer without a message: all that it says is in the headers.
fn grpc_error(fault: &Fault) -> Response {
    let details = messages::base64(&messages::status(fault));
    let headers = [
        ("content-type", "application/grpc".to_owned()),
        ("grpc-status", fault.code.grpc_code().to_string()),
        ("grpc-message", percent_encoded(&fault.message)),
        ("grpc-status-details-bin", details),
    ];
    (headers, Body::empty()).into_response()
}

/// As gRPC writes messages: all but printable ASCII, and the percent sign, as `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn answer(fault: &Fault, media: &'static str, body: Vec<u8>) -> Response {
    let media = [(CONTENT_TYPE, media)];
    (fault.status(), fault.headers(), media, body).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(media: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, media.parse().unwrap());
        headers
    }

    #[test]
    fn forms() {
        for (media, form) in [
            ("application/grpc", Some(Form::Grpc)),
            ("application/grpc+proto", Some(Form::Grpc)),
            ("application/grpc+json", None),
            ("application/x-protobuf", Some(Form::Protobuf)),
            ("application/protobuf; x=y", Some(Form::Protobuf)),
            ("Application/JSON; charset=utf-8", Some(Form::Json)),
            ("text/plain", None),
        ] {
            assert_eq!(Form::of(&headers(media)), form, "{media}");
        }
    }

    #[test]
    fn messages_travel_in_headers() {
        assert_eq!(percent_encoded("a 5 % of é\n"), "a 5 %25 of %C3%A9%0A");
        let fault = Fault::unavailable("later", std::time::Duration::from_secs(1));
        let answer = refused(fault, &headers("application/grpc"));
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert_eq!(answer.headers()["grpc-message"], "later");
        assert!(answer.headers().contains_key("grpc-status-details-bin"));
    }
}
