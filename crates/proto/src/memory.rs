//! A connection inside one process, so that roles sharing it use the clients that roles on
//! different machines use.
//!
//! ```text
//! client -> Channel -> connector --(DuplexStream)--> Incoming -> tonic Server -> service
//! ```
//!
//! Every connect makes a fresh pair of pipes; the server end comes out of [`Incoming`], which is
//! what `tonic::transport::Server::serve_with_incoming_shutdown` takes.
//!
//! # Invariants
//! - A channel whose [`Incoming`] is gone fails its calls with "unavailable"; it never hangs.
//! - Bytes in flight are bounded by [`PIPE_BYTES`] in each direction of a connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint, Server};

/// Bytes that one direction of a connection holds before the writer waits.
pub const PIPE_BYTES: usize = 1 << 20;

/// HTTP/2 flow-control windows. There is no network between the ends, so these only have to be
/// large enough that a push of ordinary size never waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest frame: fewer, larger frames cost less than the default of 16 KiB.
const FRAME_BYTES: u32 = 1 << 20;

/// Connections waiting to be accepted before a connect waits.
const BACKLOG: usize = 16;

/// The server's end: yields one stream for each connect.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<DuplexStream>);

impl Stream for Incoming {
    type Item = io::Result<DuplexStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

/// A client channel and the server end that it connects to. Connects at its first call, and again
/// when a connection broke. Must be called on a tokio runtime.
pub fn channel() -> (Channel, Incoming) {
    let (accept, incoming) = mpsc::channel(BACKLOG);
    let channel = Endpoint::from_static("http://in-process.scoria")
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_with_connector_lazy(Connector(accept));
    (channel, Incoming(incoming))
}

/// A server builder with windows and frames to match [`channel`].
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
}

#[derive(Clone)]
struct Connector(mpsc::Sender<DuplexStream>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let accept = self.0.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            accept.send(theirs).await.map_err(|_| {
                io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "the role in this process has stopped",
                )
            })?;
            Ok(TokioIo::new(ours))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tonic::{Code, Request, Response, Status};

    use super::*;
    use crate::ingester::{
        self, Ingester, Outcome, PushRequest, PushResponse, SelectRequest, SelectResponse,
    };

    struct Counts;

    #[tonic::async_trait]
    impl Ingester for Counts {
        async fn push(&self, r: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
            let outcomes = vec![Outcome::Stored.into(); r.get_ref().parts.len()];
            Ok(Response::new(PushResponse { outcomes }))
        }

        async fn select(
            &self,
            r: Request<SelectRequest>,
        ) -> Result<Response<SelectResponse>, Status> {
            let partial = Bytes::from(vec![7; r.get_ref().partial_bytes_max as usize]);
            Ok(Response::new(SelectResponse {
                partial,
                ..Default::default()
            }))
        }
    }

    #[tokio::test]
    async fn calls_of_many_megabytes_pass_both_ways() {
        let (channel, incoming) = channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(
            server()
                .add_service(ingester::server(Counts))
                .serve_with_incoming_shutdown(incoming, async {
                    let _ = stopped.await;
                }),
        );

        let mut client = ingester::client(channel);
        let push = PushRequest {
            tenant: "anonymous".into(),
            parts: vec![Bytes::from(vec![1; 20 << 20]), Bytes::new()],
        };
        let outcomes = client.push(push).await.unwrap().into_inner().outcomes;
        assert_eq!(outcomes, [1, 1]);

        let select = SelectRequest {
            partial_bytes_max: 20 << 20,
            ..Default::default()
        };
        let answer = client.clone().select(select).await.unwrap().into_inner();
        assert_eq!(answer.partial.len(), 20 << 20);

        drop(client);
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stopped_role_is_unavailable() {
        let (channel, incoming) = channel();
        drop(incoming);
        let status = ingester::client(channel)
            .push(PushRequest::default())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
}
