//! What is left of a request's body when it is answered before all of it has come.
//!
//! A refusal is often ready while the client still sends. If the connection were closed then, with
//! bytes that nobody has read, the client's system would throw the answer away and report a broken
//! connection: what should not be sent again looks like something that should. So the rest is read
//! and forgotten first.
//!
//! # Invariants
//! - Nothing of what is read here is kept.
//! - It ends: after so many bytes, or so much time.
//! - A client that waits to be asked for its body, and was not, is answered at once instead.
//!
//! # What it must not know
//! Why the request was answered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::Version;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

/// More than this the client has to lose.
const BYTES_MAX: usize = 256 << 20;
const TIME_MAX: Duration = Duration::from_secs(10);

/// The body of a request, as long as it is not known what becomes of it.
#[derive(Clone)]
pub(super) struct Leftover(Arc<Shared>);

struct Shared {
    body: Mutex<Body>,
    /// Whether the client sends without being asked, or has been.
    is_sent: AtomicBool,
}

impl Leftover {
    /// Lends the body of a request to whoever handles it. `None` where nothing can be left over: in
    /// HTTP/2 an answer and the end of a body do not get in each other's way.
    pub(super) fn of(request: Request) -> (Request, Option<Self>) {
        let waits = request.headers().contains_key(EXPECT);
        if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
            return (request, None);
        }
        let (parts, body) = request.into_parts();
        let leftover = Self(Arc::new(Shared {
            body: Mutex::new(body),
            is_sent: AtomicBool::new(!waits),
        }));
        let lent = Body::new(Lent(leftover.clone()));
        (Request::from_parts(parts, lent), Some(leftover))
    }

    /// Reads what nobody else will.
    pub(super) async fn drain(self) {
        if !self.0.is_sent.load(Ordering::Relaxed) {
            return;
        }
        let mut body = std::mem::take(&mut *self.0.body.lock());
        let reading = async {
            let mut n = 0;
            while let Some(Ok(frame)) = body.frame().await {
                n += frame.data_ref().map_or(0, Bytes::len);
                if n > BYTES_MAX {
                    break;
                }
            }
        };
        // A client that is slower than that loses its answer.
        drop(tokio::time::timeout(TIME_MAX, reading).await);
    }
}

/// The body in the hands of a handler.
struct Lent(Leftover);

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let shared = &self.0.0;
        // Reading asks the client for it.
        shared.is_sent.store(true, Ordering::Relaxed);
        Pin::new(&mut *shared.body.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.0.body.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.0.body.lock().size_hint()
    }
}
