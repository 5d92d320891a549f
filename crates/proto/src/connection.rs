//! How a client reaches an ingester: over the network, or inside the process.
//!
//! ```text
//! IngesterClient ─► Connection ─┬─► Channel ─(HTTP/2)─► tonic Server ─► service
//!                               └─► memory::Local ───────────────────► service
//! ```
//!
//! Both ways take the requests that the generated client makes and return the responses that it
//! reads: messages are encoded, decoded and held to their limits alike, and failures are the same
//! statuses. Only who carries the bytes differs.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;

use crate::memory::Local;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The way to one ingester. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection(Way);

#[derive(Debug, Clone)]
enum Way {
    Network(Channel),
    Local(Local),
}

impl From<Channel> for Connection {
    fn from(channel: Channel) -> Self {
        Self(Way::Network(channel))
    }
}

impl From<Local> for Connection {
    fn from(local: Local) -> Self {
        Self(Way::Local(local))
    }
}

impl tower::Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.0 {
            Way::Network(channel) => channel.poll_ready(cx).map_err(BoxError::from),
            Way::Local(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &mut self.0 {
            Way::Network(channel) => {
                let response = channel.call(request);
                Box::pin(async move { response.await.map_err(BoxError::from) })
            }
            Way::Local(local) => local.call(request),
        }
    }
}
