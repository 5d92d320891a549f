//! `grpc.health.v1.Health`: what `/ready` says, for probes that speak gRPC.
//!
//! # Invariants
//! - It is asked without a tenant and answered while the roles are still coming up.
//! - All services of a process are up or none is.

use std::sync::Arc;

use connectrpc::{ConnectError, RequestContext, Response, Router, ServiceRequest, ServiceResult};
use scoria_proto::public::grpc::health::v1::health_check_response::ServingStatus;
use scoria_proto::public::grpc::health::v1::{
    Health, HealthCheckRequest, HealthCheckResponse, HealthExt,
};

use super::App;
use super::rpc_paths::RPCS;
use crate::readiness::Readiness;

/// The one method that probes call.
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";

struct HealthRpc(Arc<Readiness>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(HealthRpc(Arc::clone(&app.readiness))).register(router)
}

#[allow(
    refining_impl_trait,
    reason = "the generated trait wants an opaque type; the message is all there is"
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
        let status = match self.0.red().is_empty() {
            true => ServingStatus::SERVING,
            false => ServingStatus::NOT_SERVING,
        };
        Response::ok(HealthCheckResponse {
            status: status.into(),
        })
    }
}

/// Whether this is a service of the public port, or the server as a whole.
fn is_served(service: &str) -> bool {
    let service_of = |path: &'static str| path.strip_prefix('/')?.split('/').next();
    service.is_empty()
        || RPCS
            .iter()
            .any(|(path, _)| service_of(path) == Some(service))
}
