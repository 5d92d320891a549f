//! `POST /ingest` and `/pyroscope/ingest`: from HTTP to the distributor, and back to statuses.
//!
//! # Invariants
//! - Success is 200 with an empty body; clients take nothing else for success.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use scoria_distributor::{IngestError, IngestRequest, RefusalKind};

use super::App;
use super::fault::Fault;
use super::push::refused;

pub(super) async fn ingest(State(app): State<Arc<App>>, request: Request) -> Response {
    match take(&app, request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(fault) => fault.into_response(),
    }
}

async fn take(app: &App, request: Request) -> Result<(), Fault> {
    let (parts, body) = request.into_parts();
    let tenant = app.scope(&parts.extensions)?.single()?;
    let header = |name: HeaderName| text(&parts.headers, &name);
    let request = IngestRequest {
        query: parts.uri.query().unwrap_or_default(),
        content_type: header(CONTENT_TYPE),
        content_encoding: header(CONTENT_ENCODING),
        body: whole(body).await?,
    };
    let distributor = &app.roles()?.distributor;
    distributor
        .ingest(tenant, request)
        .await
        .map(|_| ())
        .map_err(|error| fault_of(&error))
}

/// The body, which the edge has read already.
async fn whole(body: Body) -> Result<bytes::Bytes, Fault> {
    to_bytes(body, usize::MAX)
        .await
        .map_err(|error| Fault::invalid(format!("reading the request body: {error}")))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn fault_of(error: &IngestError) -> Fault {
    let message = error.to_string();
    if matches!(error, IngestError::Name(_)) {
        let message = if message.starts_with("name: ") {
            message
        } else {
            format!("name: {message}")
        };
        return Fault::invalid(message);
    }
    let kind = error.kind();
    let fault = refused(kind, message);
    match kind {
        RefusalKind::Invalid { .. } if error.is_about_body() => {
            fault.with_status(StatusCode::UNPROCESSABLE_ENTITY)
        }
        RefusalKind::TooLarge => fault.with_status(StatusCode::PAYLOAD_TOO_LARGE),
        _ => fault,
    }
}
