//! A connection inside one process, so that roles sharing it use the clients that roles on
//! different machines use.
//!
//! ```text
//! client ─(request: encoded messages)─► Local ─► service
//! ```
//!
//! A request goes to the service as the client has encoded it, without HTTP/2 below it: there is no
//! network whose pieces would have to be put in order and paced, and framing, header compression,
//! flow control and the tasks on both ends of a pipe cost more than storing a small profile does.
//!
//! # Invariants
//! - A connection whose [`Door`] is closed or gone fails its calls with "unavailable"; it never
//!   hangs.
//! - A call runs in its caller's task: dropping it ends what the service was doing for it.
//! - [`Door::close`] returns when no call is under way any more, and none begins after it.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use http::{Request, Response};
use tokio::sync::RwLock;
use tonic::Status;
use tonic::body::Body;

use crate::connection::BoxError;
use crate::prefix::prefix_first;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;
type Serve = Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// The service behind the door; `None` once that is closed. Calls under way hold it for reading.
type Room = RwLock<Option<Serve>>;

/// The client's end: see [`Connection`](crate::Connection).
#[derive(Clone)]
pub struct Local(Weak<Room>);

/// The server's end. Dropping it refuses further calls.
pub struct Door(Arc<Room>);

/// A service, which [`ingester::server`](crate::ingester::server) makes, and the way to it.
pub fn serve<S>(service: S) -> (Local, Door)
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    // A service of tonic is always ready, and its clones share what they serve.
    let serve: Serve = Box::new(move |request| Box::pin(service.clone().call(request)));
    let room = Arc::new(RwLock::new(Some(serve)));
    (Local(Arc::downgrade(&room)), Door(room))
}

impl Local {
    pub(crate) fn call(
        &self,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>> {
        let room = self.0.upgrade();
        Box::pin(async move {
            let stopped = || Status::unavailable("the role in this process has stopped");
            let open = room.ok_or_else(stopped)?.read_owned().await;
            let Some(serve) = open.as_ref() else {
                return Err(stopped().into());
            };
            match serve(request.map(prefix_first)).await {
                Ok(response) => Ok(response.map(prefix_first)),
                Err(never) => match never {},
            }
        })
    }
}

impl Door {
    /// Refuses further calls and waits for those under way.
    pub async fn close(self) {
        *self.0.write().await = None;
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::{Endpoint, Server};
    use tonic::{Code, Request, Response, Status};

    use super::*;
    use crate::Connection;
    use crate::ingester::{
        self, Ingester, Outcome, PushRequest, PushResponse, SelectRequest, SelectResponse,
    };

    #[derive(Default)]
    struct Counts {
        under_way: Arc<AtomicUsize>,
        gate: Arc<tokio::sync::Notify>,
    }

    /// Counts a call as long as somebody waits for it.
    struct UnderWay(Arc<AtomicUsize>);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tonic::async_trait]
    impl Ingester for Counts {
        async fn push(&self, r: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let _under_way = UnderWay(Arc::clone(&self.under_way));
            match r.get_ref().tenant.as_str() {
                "waits" => self.gate.notified().await,
                "refused" => {
                    let mut status = Status::resource_exhausted("full");
                    status.metadata_mut().insert("retry-after", 7.into());
                    return Err(status);
                }
                _ => {}
            }
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

    fn push_of(tenant: &str) -> PushRequest {
        PushRequest {
            tenant: tenant.into(),
            parts: vec![Bytes::from(vec![1; 20 << 20]), Bytes::new()],
        }
    }

    /// What every way to an ingester must do alike.
    async fn serves(connection: Connection) {
        let mut client = ingester::client(connection);
        let pushed = client.push(push_of("anonymous")).await.unwrap();
        assert_eq!(pushed.into_inner().outcomes, [1, 1]);

        let select = SelectRequest {
            partial_bytes_max: 20 << 20,
            ..Default::default()
        };
        let answer = client.clone().select(select).await.unwrap().into_inner();
        assert_eq!(answer.partial.len(), 20 << 20);

        let refused = client.push(push_of("refused")).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "full");
        assert_eq!(refused.metadata().get("retry-after").unwrap(), "7");
    }

    #[tokio::test]
    async fn calls_of_many_megabytes_pass_both_ways() {
        let (local, door) = serve(ingester::server(Counts::default()));
        serves(local.into()).await;
        door.close().await;
    }

    #[tokio::test]
    async fn the_network_does_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ingester::server(Counts::default()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let served = tokio::spawn(server);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        serves(endpoint.connect_lazy().into()).await;
        served.abort();
    }

    #[tokio::test]
    async fn a_stopped_role_is_unavailable() {
        let (dropped, door) = serve(ingester::server(Counts::default()));
        drop(door);
        let (closed, door) = serve(ingester::server(Counts::default()));
        door.close().await;
        for local in [dropped, closed] {
            let mut client = ingester::client(local);
            let status = client.push(PushRequest::default()).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }

    #[tokio::test]
    async fn closing_waits_for_the_call_under_way() {
        let counts = Counts::default();
        let (under_way, gate) = (Arc::clone(&counts.under_way), Arc::clone(&counts.gate));
        let (local, door) = serve(ingester::server(counts));
        let mut client = ingester::client(local);
        let call = tokio::spawn(async move { client.push(push_of("waits")).await });
        while under_way.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let closing = tokio::spawn(door.close());
        tokio::task::yield_now().await;
        assert!(!closing.is_finished());
        gate.notify_one();
        closing.await.unwrap();
        assert!(call.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_ends() {
        let counts = Counts::default();
        let under_way = Arc::clone(&counts.under_way);
        let (local, door) = serve(ingester::server(counts));
        let mut client = ingester::client(local);
        let call = tokio::spawn(async move { client.push(push_of("waits")).await });
        while under_way.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        door.close().await;
        assert_eq!(under_way.load(Ordering::SeqCst), 0);
    }
}
