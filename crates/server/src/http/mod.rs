//! The public HTTP surface: every route of the listener, and what they share.
//!
//! # Invariants
//! - Routes convert and call the roles; they hold no logic of their own.
//! - Everything passes the edge first ([`edge`]), refusals included.

mod accept;
mod body;
mod delete;
mod edge;
mod fault;
mod health;
mod ingest;
mod label_values;
mod leftover;
mod limits;
mod otlp;
mod profiles;
mod push;
pub mod query;
mod render;
mod render_diff;
mod requests;
mod route;
mod rpc;
mod rpc_paths;
mod services;
mod status;
mod tenancy;
mod top;
mod url_parameters;
mod usage;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use connectrpc::ErrorCode;
use http::Extensions;
use prometheus_client::registry::Registry;
use scoria_distributor::{Refusal, TenantLimits};
use scoria_model::TenantId;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::config::Config;
use crate::memory::Memory;
use crate::query_runtime::QueryThreads;
use crate::readiness::Readiness;
use crate::roles::Roles;
use crate::runtime_config::RuntimeConfig;

pub use fault::Fault;
pub use requests::Requests;
pub use tenancy::TenantScope;

/// When to come back to a server that is starting.
const STARTING_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the routes share.
pub struct App {
    config: Arc<Config>,
    memory: Memory,
    readiness: Arc<Readiness>,
    policies: Policies,
    requests: Requests,
    queries: QueryThreads,
    /// Complete once the roles have registered theirs.
    registry: OnceLock<Registry>,
    /// There once they are up.
    roles: OnceLock<Roles>,
    body_bytes_max: u64,
}

/// What is in force for each tenant, and where it comes from.
#[derive(Debug, Clone)]
pub struct Policies {
    pub limits: TenantLimits,
    pub runtime: RuntimeConfig,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl App {
    pub fn new(
        config: Arc<Config>,
        memory: Memory,
        readiness: Arc<Readiness>,
        policies: Policies,
        queries: QueryThreads,
        registry: &mut Registry,
    ) -> Arc<Self> {
        let body_bytes_max = unlimited_if_0(config.limits.ingestion_body_limit_bytes.0);
        Arc::new(Self {
            config,
            memory,
            readiness,
            policies,
            requests: Requests::register(registry),
            queries,
            registry: OnceLock::new(),
            roles: OnceLock::new(),
            body_bytes_max,
        })
    }

    /// The roles are up: from now on requests reach them.
    pub fn started(&self, roles: Option<Roles>, registry: Registry) {
        // Set once by the start of the process; a second call would change nothing.
        if let Some(roles) = roles {
            drop(self.roles.set(roles));
        }
        drop(self.registry.set(registry));
        self.readiness.started();
    }

    fn roles(&self) -> Result<&Roles, Fault> {
        self.roles.get().ok_or_else(|| {
            Fault::unavailable(
                match self.readiness.red().is_empty() {
                    true => "this process only compacts; send it to one that runs all roles",
                    false => "the server is starting; send it again",
                },
                STARTING_RETRY_AFTER,
            )
        })
    }

    /// Largest body of a request for these tenants: the smallest of their limits.
    fn body_bytes_max(&self, tenants: &[TenantId]) -> u64 {
        let limits = tenants.iter().map(|tenant| self.policies.limits.of(tenant));
        limits
            .map(|limits| unlimited_if_0(limits.ingestion_body_limit_bytes))
            .fold(self.body_bytes_max, u64::min)
    }

    /// Lets a tenant see that its request was refused before any role had it.
    fn refused(&self, tenants: &[TenantId], fault: &Fault) {
        if let (Ok(roles), [tenant]) = (self.roles(), tenants) {
            let refusal = Refusal {
                kind: fault.kind(),
                message: fault.message.clone(),
                is_partial: false,
            };
            roles.distributor.refused(tenant, &refusal, 0, &[]);
        }
    }

    fn scope<'a>(&self, extensions: &'a Extensions) -> Result<&'a TenantScope, Fault> {
        extensions
            .get::<TenantScope>()
            .ok_or_else(|| Fault::new(ErrorCode::Internal, "the request came without a tenant"))
    }
}

const fn unlimited_if_0(limit: u64) -> u64 {
    match limit {
        0 => u64::MAX,
        limit => limit,
    }
}

/// Every route of the public listener.
pub fn routes(app: &Arc<App>) -> Router {
    let plain = Router::new()
        .route("/ingest", post(ingest::ingest))
        .route("/pyroscope/ingest", post(ingest::ingest))
        .route("/pyroscope/render", get(render::render))
        .route("/pyroscope/render-diff", get(render_diff::render_diff))
        .route("/pyroscope/label-values", get(label_values::label_values))
        .route("/api/v1/top", get(top::top))
        .route("/api/v1/usage", get(usage::usage))
        .route(route::OTLP_GRPC, post(otlp::export))
        .route(route::OTLP_HTTP, post(otlp::export))
        .route("/api/v1/delete", post(delete::delete))
        .route("/api/v1/deletions", get(delete::deletions))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/api/v1/status/buildinfo", get(status::buildinfo))
        .route("/buildinfo", get(status::buildinfo))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/runtime_config", get(limits::status))
        .route("/runtime_config", get(limits::runtime_config))
        .route("/api/v1/tenant_limits", get(limits::tenant_limits))
        .route("/config", get(status::config))
        .route("/api/v1/status/config/diff", get(status::config_diff))
        .route("/api/v1/status/config/default", get(status::config_default))
        .route("/services", get(status::services))
        .route("/ring", get(status::ring))
        .route("/distributor/ring", get(status::ring))
        .route("/ring-segment-writer", get(status::ring))
        .route("/api/v1/tenant/rejections", get(limits::rejections))
        .route("/", get(crate::ui::page))
        .route("/explore", get(crate::ui::page))
        .route("/comparison", get(crate::ui::page))
        .route("/comparison-diff", get(crate::ui::page))
        .route("/ui", get(crate::ui::moved))
        .layer(CompressionLayer::new());
    // Compressed already.
    let profiles = Router::new()
        .route("/pprof", get(profiles::pprof))
        .route("/pgo/go", get(profiles::pgo));
    plain
        .merge(profiles)
        .route(
            "/debuginfo.v1alpha1.DebuginfoService/Upload/{*gnu_build_id}",
            post(services::upload),
        )
        .route(
            "/debuginfo.v1alpha1.DebuginfoService/Upload/",
            post(services::upload_of_nothing),
        )
        .fallback_service(rpc::Rpc::new(app))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), edge::edge))
        .with_state(Arc::clone(app))
}

/// The routes of the listeners for OTLP alone.
pub fn otlp_routes(app: &Arc<App>) -> Router {
    Router::new()
        .route(route::OTLP_GRPC, post(otlp::export))
        .route(route::OTLP_HTTP, post(otlp::export))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), edge::edge))
        .with_state(Arc::clone(app))
}

/// A panic is ours: the client may send the request again, and the log says where it was.
fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("of unknown kind");
    tracing::error!(panic = text, "a request handler panicked");
    Fault::new(
        ErrorCode::Internal,
        "the server failed on this request; its log says why",
    )
    .into_response()
}
