//! The RPC services on the public port: Connect (proto and JSON), gRPC and gRPC-Web on the same
//! paths.
//!
//! # Invariants
//! - JSON is read as protojson's lenient readers do it: unknown fields and unknown enum names are
//!   passed over, and a message is an object and nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use buffa::json::{JsonParseOptions, with_json_parse_options};
use connectrpc::{
    CompressionRegistry, ConnectRpcService, ErrorCode, GzipProvider, Limits, Protocol, Router,
};
use http::StatusCode;
use scoria_proto::public::push::v1::PusherServiceExt;
use scoria_proto::public::querier::v1::QuerierServiceExt;
use tower::Service;

use super::App;
use super::fault::Fault;
use super::health;
use super::push::PushRpc;
use super::query::QueryRpc;
use super::route::Route;
use super::services::ServicesRpc;

/// Memory that the many small elements of one request (labels, matchers) may take decoded.
const ELEMENT_BYTES_MAX: usize = 64 << 20;

/// Every path that no other route has.
#[derive(Clone)]
pub(super) struct Rpc(ConnectRpcService);

impl Rpc {
    pub(super) fn new(app: &Arc<App>) -> Self {
        let router = Arc::new(PushRpc::new(app)).register(Router::new());
        let router = Arc::new(QueryRpc::new(app)).register(router);
        let router = ServicesRpc::new(app).register(router);
        let router = health::register(app, router);
        let body_bytes = usize::try_from(app.body_bytes_max).unwrap_or(usize::MAX);
        let limits = Limits::default()
            .with_max_request_body_size(body_bytes)
            .with_max_message_size(body_bytes)
            .with_element_memory_limit(ELEMENT_BYTES_MAX);
        let compression = CompressionRegistry::new().register(GzipProvider::with_level(1));
        let service = ConnectRpcService::new(router)
            .with_limits(limits)
            .with_compression(compression);
        Self(service)
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<Request> for Rpc {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Answer {
        let unknown = Route::of(request.uri().path()) == Route::Unknown;
        if unknown && Protocol::detect(request.headers()).is_none() {
            let path = request.uri().path().to_owned();
            let fault = Fault::new(ErrorCode::Unimplemented, format!("there is no path {path}"))
                .with_status(StatusCode::NOT_FOUND);
            return Box::pin(std::future::ready(Ok(fault.into_response())));
        }
        let answer = self.0.call(request);
        Box::pin(LenientJson(Box::pin(async move {
            Ok(answer.await?.map(axum::body::Body::new))
        })))
    }
}

/// Polls a future with the JSON reader set to pass over unknown enum names: the setting is the
/// thread's, and a future may be polled on any thread.
struct LenientJson(Answer);

impl Future for LenientJson {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let options = JsonParseOptions::new().ignore_unknown_enum_values(true);
        with_json_parse_options(&options, || self.0.as_mut().poll(cx))
    }
}
