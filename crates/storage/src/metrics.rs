//! What storage counts. The registry is the caller's.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use scoria_model::CatalogueVersion;

use crate::block_store::Purpose;
use crate::catalogue::{CatalogueState, CommitError};
use crate::error::StoreErrorKind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    purpose: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    purpose: &'static str,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// How a commit ended, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitResult {
    Committed,
    Conflict,
    Unknown,
    Failed,
}

impl CommitResult {
    pub(crate) fn of(result: &Result<CatalogueVersion, CommitError>) -> Self {
        match result {
            Ok(_) => Self::Committed,
            Err(CommitError::Conflict(_)) => Self::Conflict,
            Err(CommitError::Unknown { .. }) => Self::Unknown,
            Err(_) => Self::Failed,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// What became of a snapshot of the catalogue, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotResult {
    Written,
    Failed,
    Damaged,
}

impl SnapshotResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
        }
    }
}

/// The counters of storage. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    bytes: Family<BytesLabels, Counter>,
    commits: Family<OutcomeLabels, Counter>,
    commit_seconds: Histogram,
    version: Gauge,
    blocks: Gauge,
    streams: Gauge,
    snapshots: Family<OutcomeLabels, Counter>,
    cache_ranges: Family<OutcomeLabels, Counter>,
    cache_bytes: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Counters that `registry` shows.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        let m = &metrics;
        registry.register(
            "scoria_object_store_requests",
            "Requests to the object store",
            m.requests.clone(),
        );
        registry.register(
            "scoria_object_store_bytes",
            "Bytes read from and written to the object store",
            m.bytes.clone(),
        );
        registry.register(
            "scoria_catalogue_commits",
            "Commits to the catalogue by how they ended",
            m.commits.clone(),
        );
        registry.register(
            "scoria_catalogue_commit_duration_seconds",
            "Time of a commit, tries included",
            m.commit_seconds.clone(),
        );
        registry.register(
            "scoria_catalogue_version",
            "Newest version of the catalogue that this process has seen",
            m.version.clone(),
        );
        registry.register(
            "scoria_catalogue_blocks",
            "Live blocks in the catalogue",
            m.blocks.clone(),
        );
        registry.register(
            "scoria_catalogue_streams",
            "Streams in the catalogue, finished ones included",
            m.streams.clone(),
        );
        registry.register(
            "scoria_catalogue_snapshots",
            "Snapshots of the catalogue written, failed to write, and found damaged",
            m.snapshots.clone(),
        );
        registry.register(
            "scoria_block_cache_ranges",
            "Byte ranges of blocks asked for, by whether they were in the cache",
            m.cache_ranges.clone(),
        );
        registry.register(
            "scoria_block_cache_bytes",
            "Bytes of blocks held in the cache",
            m.cache_bytes.clone(),
        );
        metrics
    }

    /// Counters that nobody sees, for tests and tools.
    pub fn unregistered() -> Self {
        Self {
            requests: Family::default(),
            bytes: Family::default(),
            commits: Family::default(),
            commit_seconds: Histogram::new([
                0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ]),
            version: Gauge::default(),
            blocks: Gauge::default(),
            streams: Gauge::default(),
            snapshots: Family::default(),
            cache_ranges: Family::default(),
            cache_bytes: Gauge::default(),
        }
    }

    pub(crate) fn request(
        &self,
        purpose: Purpose,
        operation: &'static str,
        result: Result<u64, StoreErrorKind>,
    ) {
        let purpose = purpose.as_str();
        let outcome = match result {
            Ok(_) => "ok",
            Err(kind) => kind.as_str(),
        };
        let labels = RequestLabels {
            purpose,
            operation,
            outcome,
        };
        self.requests.get_or_create(&labels).inc();
        if let Ok(bytes) = result {
            let labels = BytesLabels { purpose, operation };
            self.bytes.get_or_create(&labels).inc_by(bytes);
        }
    }

    pub(crate) fn catalogue_request(
        &self,
        operation: &'static str,
        result: Result<u64, StoreErrorKind>,
    ) {
        self.request(Purpose::Catalogue, operation, result);
    }

    pub(crate) fn commit_ended(&self, result: CommitResult, took: Duration) {
        let labels = OutcomeLabels {
            outcome: result.as_str(),
        };
        self.commits.get_or_create(&labels).inc();
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn catalogue_at(&self, state: &Arc<CatalogueState>) {
        self.version.set(state.version().0 as i64);
        self.blocks.set(state.blocks().len() as i64);
        self.streams.set(state.streams().len() as i64);
    }

    pub(crate) fn snapshot(&self, result: SnapshotResult) {
        let labels = OutcomeLabels {
            outcome: result.as_str(),
        };
        self.snapshots.get_or_create(&labels).inc();
    }

    pub(crate) fn cache_looked_up(&self, hits: u64, misses: u64) {
        for (outcome, n) in [("hit", hits), ("miss", misses)] {
            self.cache_ranges
                .get_or_create(&OutcomeLabels { outcome })
                .inc_by(n);
        }
    }

    pub(crate) fn cache_holds(&self, bytes: u64) {
        self.cache_bytes.set(bytes);
    }
}
