//! The roles of this process, put together: what each needs is made here, and they meet through
//! their `proto` clients over connections inside the process.
//!
//! ```text
//! store ─► catalogue, blocks ─► ingester ◄─ connection ─┬─ distributor ◄─ http
//!                         └──────────────► querier ◄─────┘       ▲
//!                                              └────────────── http
//! ```
//!
//! # Invariants
//! - A role that cannot start stops those that have, and says why.

mod clock;
mod compactor;
mod distributor;
mod ingester;
mod querier;
mod storage;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use scoria_cabinet::{Cabinet, CabinetSettings};
use scoria_cluster::{Member, MemberState, Membership, Zone};
use scoria_compactor::{Deletions, RunningCompactor};
use scoria_distributor::{Distributor, TenantLimits};
use scoria_model::{Clock, NodeId};
use scoria_proto::Connection;
use scoria_querier::Querier;
use scoria_storage::{Catalogue, RequestMetrics};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::memory::Memory;
use crate::readiness::Readiness;
use crate::targets::Target;
use ingester::IngesterRole;
use storage::Storage;

/// What the routes call.
#[derive(Debug)]
pub struct Roles {
    pub distributor: Distributor,
    pub querier: Querier,
    pub cabinet: Cabinet,
    pub membership: Membership,
    pub deletions: Deletions,
    pub clock: Arc<dyn Clock>,
    pub usage: UsageSource,
}

/// What the cost of the store is told from.
#[derive(Debug, Clone)]
pub struct UsageSource {
    pub catalogue: Catalogue,
    pub requests: RequestMetrics,
}

/// What must be stopped in order.
#[derive(Debug)]
pub(crate) struct RunningRoles {
    /// None where the process compacts only.
    ingester: Option<IngesterRole>,
    /// None where it does not.
    compactor: Option<RunningCompactor>,
}

/// What the roles are made of.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) memory: &'a Memory,
    pub(crate) readiness: &'a Arc<Readiness>,
    pub(crate) limits: &'a TenantLimits,
    pub(crate) registry: &'a mut Registry,
    /// Threads that queries may keep busy, whichever role works for them.
    pub(crate) query_threads: Arc<Semaphore>,
}

/// One core less than there are, so that queries leave one to ingest.
pub(crate) fn query_cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}

pub(crate) fn query_threads() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(query_cores()))
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The members of the cluster that the distributor and the querier speak to.
#[derive(Debug, Clone)]
struct Cluster {
    membership: Membership,
    ingesters: HashMap<NodeId, Connection>,
    clock: Arc<dyn Clock>,
    limits: TenantLimits,
}

/// Brings every role up.
///
/// # Errors
/// The store cannot be used, the catalogue or the log cannot be read, or a role cannot start.
pub(crate) async fn start(mut parts: Parts<'_>) -> anyhow::Result<(Option<Roles>, RunningRoles)> {
    let clock: Arc<dyn Clock> = Arc::new(clock::SystemClock::new());
    let mut waiting = storage::Waiting::new(parts.readiness);
    let storage = storage::open(&mut parts, &clock, &mut waiting).await?;
    let targets = &parts.config.server.target;
    let compactor = targets.contains(Target::Compactor);
    if !targets.contains(Target::Ingester) {
        let compactor = compactor.then(|| compactor::start(&mut parts, &storage, &clock));
        let running = RunningRoles {
            ingester: None,
            compactor,
        };
        return Ok((None, running));
    }
    let node = NodeId(Arc::from(parts.config.ingester.node.as_str()));
    let components = ingester::components(&mut parts, &storage, &clock);
    let (ingester, connection) =
        ingester::start(&parts, components, node.clone(), &mut waiting).await?;
    let cluster = Cluster {
        membership: Membership::fixed(vec![Member {
            node: node.clone(),
            zone: Zone(Arc::from("local")),
            state: MemberState::Active,
        }]),
        ingesters: HashMap::from([(node, connection)]),
        clock,
        limits: parts.limits.clone(),
    };
    let usage = UsageSource {
        catalogue: storage.catalogue.clone(),
        requests: storage.requests.clone(),
    };
    let compactor = compactor.then(|| compactor::start(&mut parts, &storage, &cluster.clock));
    let blocks = storage.blocks.clone();
    let clock = Arc::clone(&cluster.clock);
    let roles = Roles {
        cabinet: cabinet(&parts, &storage),
        membership: cluster.membership.clone(),
        deletions: Deletions::new(storage.catalogue.clone(), blocks, clock),
        distributor: distributor::start(&mut parts, &cluster),
        querier: querier::start(&mut parts, &cluster, storage),
        clock: Arc::clone(&cluster.clock),
        usage,
    };
    let running = RunningRoles {
        ingester: Some(ingester),
        compactor,
    };
    Ok((Some(roles), running))
}

fn cabinet(parts: &Parts<'_>, storage: &Storage) -> Cabinet {
    let settings = CabinetSettings {
        executable_bytes_max: parts.config.debug_info.max_upload_size.0,
    };
    let components = scoria_cabinet::Components {
        documents: storage.documents.clone(),
        files: storage.files.clone(),
        memory: parts.memory.queries.clone(),
    };
    Cabinet::new(settings, components)
}

impl RunningRoles {
    /// Stops them, the ones that others need last.
    pub(crate) async fn stop(self) {
        if let Some(compactor) = self.compactor {
            compactor.stop().await;
        }
        if let Some(ingester) = self.ingester {
            ingester.stop().await;
        }
    }
}
