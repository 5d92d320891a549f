//! How a querier works, and what it works with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use scoria_model::{ByteBudget, Clock, Limits, NodeId, TenantId};
use scoria_proto::Connection;
use scoria_storage::{BlockStore, Catalogue};
use tokio::sync::Semaphore;

use crate::admission::AdmissionSettings;
use crate::background::BackgroundSettings;

/// How the querier works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that decode, over all queries; those of other roles in the process may share them.
    /// One core less than there are leaves room for ingest.
    pub threads: Arc<Semaphore>,
    /// Datasets of one query that are fetched and decoded at the same time, whatever their size;
    /// at least 1.
    pub datasets_in_flight: usize,
    /// Small ones that are, as long as together they take no more than an eighth of the memory for
    /// queries and no more than `in_flight_bytes`.
    pub datasets_in_flight_max: usize,
    pub in_flight_bytes: u64,
    /// Bytes of decoded footers, profile rows and symbols that are kept.
    pub decoded_cache_bytes: u64,
    /// Bytes of answers of datasets that are kept.
    pub result_cache_bytes: u64,
    pub admission: AdmissionSettings,
    pub background: BackgroundSettings,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).max(1);
        Self {
            threads: Arc::new(Semaphore::new(threads)),
            datasets_in_flight: 8,
            datasets_in_flight_max: 64,
            in_flight_bytes: 64 << 20,
            decoded_cache_bytes: 128 << 20,
            result_cache_bytes: 64 << 20,
            admission: AdmissionSettings {
                // Some fetch while others decode.
                running_max: 4 * threads,
                waiting_max: 1000,
                wait_max: Duration::from_secs(10),
            },
            background: BackgroundSettings {
                answers_bytes: 64 << 20,
                keep: Duration::from_secs(600),
            },
        }
    }
}

type LookUp = dyn Fn(&TenantId) -> Arc<Limits> + Send + Sync;

/// Looks up the limits of a tenant.
#[derive(Clone)]
pub struct LimitsOf(Arc<LookUp>);

impl LimitsOf {
    pub fn new(look_up: impl Fn(&TenantId) -> Arc<Limits> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look_up))
    }

    /// The same limits for everybody.
    pub fn all(limits: Limits) -> Self {
        let limits = Arc::new(limits);
        Self::new(move |_| Arc::clone(&limits))
    }
}

impl LimitsOf {
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<Limits> {
        (self.0)(tenant)
    }
}

impl fmt::Debug for LimitsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LimitsOf")
    }
}

/// What the querier works with.
#[derive(Debug, Clone)]
pub struct Components {
    pub catalogue: Catalogue,
    pub blocks: BlockStore,
    /// The way to every ingester that may hold records which are in no block.
    pub ingesters: Vec<(NodeId, Connection)>,
    /// The share of memory for queries.
    pub memory: ByteBudget,
    pub limits: LimitsOf,
    /// Measures how long queries take.
    pub clock: Arc<dyn Clock>,
}
