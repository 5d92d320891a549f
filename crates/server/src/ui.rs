//! The page at `/`, and where bookmarks of Pyroscope's own pages lead: one embedded file that asks
//! the public API like any other client.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};

const PAGE: &str = include_str!("../ui/index.html");

/// Nothing from outside: the page is whole in itself and talks to its own server only.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";

pub(crate) async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, PAGE).into_response()
}

/// Where the page once was.
pub(crate) async fn moved() -> Response {
    (StatusCode::FOUND, [(LOCATION, "/")]).into_response()
}
