//! A server's life: bind, start the roles, serve, drain, stop.
//!
//! ```text
//! bind ─► listen (503 "starting") ─► roles up ─► ready ─► … stop ─► drain ─► roles down
//! ```
//!
//! # Invariants
//! - The port is bound before anything else, so that a mistake about it shows at once.
//! - Roles go down after the last request that may use them, so that what is acknowledged is
//!   flushed or in the log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use scoria_distributor::TenantLimits;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LimitError};
use crate::http::{App, Policies, otlp_routes, routes};
use crate::listener::Listener;
use crate::memory::{Memory, MemoryError};
use crate::query_runtime::{QueryRuntime, Standing};
use crate::readiness::Readiness;
use crate::roles::{self, RunningRoles};
use crate::runtime_config::{RuntimeConfig, RuntimeConfigError};
use crate::{self_profile, telemetry};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}; choose another one with --listen")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("limits.{0}")]
    Limits(#[from] LimitError),
    #[error(transparent)]
    RuntimeConfig(#[from] RuntimeConfigError),
    #[error("the threads of queries: {0}")]
    QueryThreads(std::io::Error),
    #[error("{0:#}")]
    Role(anyhow::Error),
}

/// A server whose roles are up.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
    listening: Vec<JoinHandle<()>>,
    otlp_addresses: Vec<SocketAddr>,
    watching: JoinHandle<()>,
    profiling: Option<self_profile::SelfProfiler>,
    roles: RunningRoles,
    queries: QueryRuntime,
}

async fn bind(address: SocketAddr, what: &str) -> Result<Listener, StartError> {
    let listener = Listener::bind(address)
        .await
        .map_err(|source| StartError::Bind { address, source })?;
    tracing::info!(address = %listener.address(), "{what}");
    Ok(listener)
}

impl Server {
    /// Binds the port and brings the roles up.
    ///
    /// # Errors
    /// The port is taken, the memory's division makes no sense, or a role cannot start.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let memory = Memory::new(&config.memory)?;
        let listener = bind(config.server.listen, "listening").await?;
        let address = listener.address();
        let mut otlp_listeners = Vec::new();
        let otlp = [config.otlp.grpc_listen, config.otlp.http_listen];
        for address in otlp.into_iter().flatten() {
            otlp_listeners.push(bind(address, "listening for OTLP").await?);
        }

        let mut registry = Registry::default();
        telemetry::register_process(&mut registry);
        memory.register(&mut registry);
        let readiness = Arc::new(Readiness::default());
        let policies = policies(&config, &mut registry).await?;
        let standing = Standing {
            niceness: config.querier.niceness,
            cores_left: config.querier.cores_left,
        };
        let queries = QueryRuntime::start(roles::query_cores(), standing)
            .map_err(StartError::QueryThreads)?;
        let app = App::new(
            Arc::clone(&config),
            memory.clone(),
            Arc::clone(&readiness),
            policies.clone(),
            queries.threads(),
            &mut registry,
        );
        memory
            .sample()
            .map_err(|error| StartError::Role(error.into()))?;
        let stop = CancellationToken::new();
        let otlp_addresses = otlp_listeners.iter().map(Listener::address).collect();
        let serve = |listener: Listener, routes: axum::Router| {
            let (config, stop) = (Arc::clone(&config), stop.clone());
            tokio::spawn(async move {
                listener.serve(routes, &config.server, stop).await;
            })
        };
        let mut listening = vec![serve(listener, routes(&app))];
        for listener in otlp_listeners {
            listening.push(serve(listener, otlp_routes(&app)));
        }

        let profiling = self_profile::start(&config, address).await;
        let parts = roles::Parts {
            config: &config,
            memory: &memory,
            readiness: &readiness,
            limits: &policies.limits,
            registry: &mut registry,
            query_threads: roles::query_threads(),
        };
        let (roles, running) = match roles::start(parts).await {
            Ok(started) => started,
            Err(error) => {
                stop.cancel();
                return Err(StartError::Role(error));
            }
        };
        let watching = tokio::spawn(policies.runtime.watch(stop.clone()));
        app.started(roles, registry);
        tracing::info!(%address, target = %config.server.target, "ready");
        Ok(Self {
            address,
            otlp_addresses,
            readiness,
            stop,
            listening,
            watching,
            profiling,
            roles: running,
            queries,
        })
    }

    /// Where it listens, the real port included.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for OTLP alone: gRPC, then HTTP, as far as they are switched on.
    pub fn otlp_addresses(&self) -> &[SocketAddr] {
        &self.otlp_addresses
    }

    /// Takes no more requests, finishes those under way, and stops the roles.
    pub async fn stop(self) {
        self.readiness.draining();
        drop(self.profiling);
        self.stop.cancel();
        for listening in self.listening {
            if let Err(error) = listening.await {
                tracing::error!(%error, "a listener did not stop as it should");
            }
        }
        if let Err(error) = self.watching.await {
            tracing::error!(%error, "the runtime file's watch did not end as it should");
        }
        self.roles.stop().await;
        drop(self.queries);
        tracing::info!("stopped");
    }
}

/// The limits of all tenants as the configuration and the runtime file give them.
async fn policies(config: &Config, registry: &mut Registry) -> Result<Policies, StartError> {
    let limits = TenantLimits::new(config.limits.to_policy()?, HashMap::new());
    let runtime = RuntimeConfig::start(
        config.runtime_config.clone(),
        config.limits.clone(),
        limits.clone(),
        registry,
    )
    .await?;
    Ok(Policies { limits, runtime })
}
