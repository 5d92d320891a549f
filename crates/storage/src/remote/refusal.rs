//! Answers that say that a request is wrong, as an error of its own type: what the store's client
//! makes of them cannot be told from a store in trouble, and would be tried again and again.

use async_trait::async_trait;
use futures::StreamExt;
use http::StatusCode;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

/// Most that is kept of what the store says about a refusal.
const TEXT_BYTES_MAX: usize = 2048;

/// An answer by which a store refused a request for good.
#[derive(Debug, thiserror::Error)]
#[error("the store answered {status}: {text}")]
pub struct Refusal {
    pub status: u16,
    /// The beginning of the body.
    pub text: String,
}

/// Makes clients that give [`Refusal`] as an error.
#[derive(Debug, Default)]
pub(super) struct Connector(ReqwestConnector);

#[derive(Debug)]
struct Client(HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Client(self.0.connect(options)?)))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.execute(request).await?;
        let status = response.status();
        if !refuses(status) {
            return Ok(response);
        }
        let refusal = Refusal {
            status: status.as_u16(),
            text: beginning(response.into_body()).await,
        };
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

/// Whether the same request will be refused again. Those that the client has an error for are left
/// to it.
fn refuses(status: StatusCode) -> bool {
    match status.as_u16() {
        304 | 401 | 403 | 404 | 408 | 409 | 412 | 425 | 429 => false,
        300..=499 | 501 => true,
        _ => false,
    }
}

async fn beginning(body: HttpResponseBody) -> String {
    let mut text = Vec::new();
    let mut pieces = body.bytes_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        let room = TEXT_BYTES_MAX - text.len();
        text.extend_from_slice(&piece[..piece.len().min(room)]);
        if text.len() == TEXT_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_is_no_refusal() {
        for status in [200, 206, 304, 404, 409, 412, 429, 500, 503] {
            assert!(!refuses(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [301, 400, 405, 416, 501] {
            assert!(refuses(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
