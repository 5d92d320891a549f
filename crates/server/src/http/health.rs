//! `grpc.health.v1.Health`: what `/ready` says, for probes that speak gRPC.
//!
//! # Invariants
//! - It is asked without a tenant and answered while the roles are still coming up.
//! - All services of a process are up or none is.
//! - Who watches is told at once how things stand, then of every change that lasts for
//!   [`LOOK_EVERY`], and last that the server stops; the stop waits for no watcher.

use std::sync::Arc;
use std::time::Duration;

use connectrpc::{
    ConnectError, RequestContext, Response, Router, ServiceRequest, ServiceResult, ServiceStream,
};
use futures::stream;
use scoria_proto::public::grpc::health::v1::health_check_response::ServingStatus;
use scoria_proto::public::grpc::health::v1::{
    Health, HealthCheckRequest, HealthCheckResponse, HealthExt,
};

use super::App;
use super::rpc_paths;
use crate::readiness::Readiness;

/// The methods and their labels, as those of tenants in `rpc_paths`.
pub(super) const RPCS: [(&str, &str); 2] = [
    (
        "/grpc.health.v1.Health/Check",
        "grpc_health_v1_health_check",
    ),
    (
        "/grpc.health.v1.Health/Watch",
        "grpc_health_v1_health_watch",
    ),
];

/// How often a watcher looks: what the roles say of themselves is asked for, they do not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct HealthRpc(Arc<Readiness>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(HealthRpc(Arc::clone(&app.readiness))).register(router)
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants opaque types; the messages are all there is"
)]
impl Health for HealthRpc {
    async fn check(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, HealthCheckRequest>,
    ) -> ServiceResult<HealthCheckResponse> {
        let service = request.to_owned_message().service;
        if !is_served(&service) {
            let what = format!("there is no service {service}; no name is the server as a whole");
            return Err(ConnectError::not_found(what));
        }
        Response::ok(message(status(&self.0)))
    }

    async fn watch(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, HealthCheckRequest>,
    ) -> ServiceResult<ServiceStream<HealthCheckResponse>> {
        let watcher = Watcher {
            readiness: Arc::clone(&self.0),
            is_served: is_served(&request.to_owned_message().service),
            told: None,
        };
        Response::stream_ok(stream::unfold(watcher, Watcher::next))
    }
}

/// One who wants to know of changes.
struct Watcher {
    readiness: Arc<Readiness>,
    is_served: bool,
    told: Option<ServingStatus>,
}

impl Watcher {
    /// Waits for a status that it was not told last; none comes after the stop of the server.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, ConnectError>, Self)> {
        loop {
            // Asked first, so that what is told below is told of a server that stops.
            let last = self.readiness.is_draining();
            let now = match self.is_served {
                true => status(&self.readiness),
                // Not an error here: one that watches may have come before the service.
                false => ServingStatus::SERVICE_UNKNOWN,
            };
            if self.told != Some(now) {
                self.told = Some(now);
                return Some((Ok(message(now)), self));
            }
            if last {
                return None;
            }
            tokio::select! {
                () = self.readiness.drained() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

fn status(readiness: &Readiness) -> ServingStatus {
    match readiness.red().is_empty() {
        true => ServingStatus::SERVING,
        false => ServingStatus::NOT_SERVING,
    }
}

fn message(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// Whether this is a service of the public port, or the server as a whole.
fn is_served(service: &str) -> bool {
    let service_of = |path: &'static str| path.strip_prefix('/')?.split('/').next();
    service.is_empty()
        || rpc_paths::RPCS
            .iter()
            .any(|(path, _)| service_of(path) == Some(service))
}
