//! What the querier counts. The registry is the caller's.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::QueryError;
use crate::stats::QueryStats;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// Why a query was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It needs more memory than queries have together.
    Memory,
    /// It needs more than its tenant may have.
    TenantMemory,
    /// It reads more than its tenant's queries may.
    Bytes,
    /// Too many wait already.
    Line,
    /// It waited too long.
    Waited,
}

impl Refusal {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TenantMemory => "tenant_memory",
            Self::Bytes => "bytes",
            Self::Line => "line",
            Self::Waited => "waited",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
}

/// Counters of one querier.
#[derive(Debug, Clone)]
pub struct Metrics {
    refused: Family<RefusalLabels, Counter>,
    running: Gauge,
    waiting: Gauge,
    wait_seconds: Histogram,
    lacking: Counter,
    result_hits: Counter,
    rolled: Counter,
    cache_hits: Family<CacheLabels, Counter>,
    cache_misses: Family<CacheLabels, Counter>,
    queries: Family<QueryLabels, Counter>,
    seconds: Family<QueryLabels, Histogram, fn() -> Histogram>,
    fetched_bytes: Counter,
    cached_bytes: Counter,
    samples: Counter,
    profiles: Counter,
    repins: Counter,
    cache_bytes: Family<CacheLabels, Gauge<u64, AtomicU64>>,
}

/// Under a millisecond to half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 4.0, 9))
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            queries: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            fetched_bytes: Counter::default(),
            cached_bytes: Counter::default(),
            samples: Counter::default(),
            profiles: Counter::default(),
            repins: Counter::default(),
            cache_bytes: Family::default(),
            refused: Family::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            wait_seconds: seconds(),
            lacking: Counter::default(),
            result_hits: Counter::default(),
            rolled: Counter::default(),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
        };
        metrics.register_lines(registry);
        metrics.register_caches(registry);
        registry.register(
            "scoria_queries",
            "Questions by kind and outcome",
            metrics.queries.clone(),
        );
        registry.register(
            "scoria_query_duration_seconds",
            "Time from question to merged answer",
            metrics.seconds.clone(),
        );
        registry.register(
            "scoria_query_fetched_bytes",
            "Bytes of blocks that came from the object store",
            metrics.fetched_bytes.clone(),
        );
        registry.register(
            "scoria_query_cached_bytes",
            "Bytes of blocks that came from the cache of ranges",
            metrics.cached_bytes.clone(),
        );
        registry.register(
            "scoria_query_samples",
            "Samples added up",
            metrics.samples.clone(),
        );
        registry.register(
            "scoria_query_profiles",
            "Profiles selected",
            metrics.profiles.clone(),
        );
        registry.register(
            "scoria_query_repins",
            "Queries begun anew with a newer catalogue version",
            metrics.repins.clone(),
        );
        metrics
    }

    fn register_lines(&self, registry: &mut Registry) {
        registry.register(
            "scoria_queries_refused",
            "Queries that were not let in, by reason",
            self.refused.clone(),
        );
        registry.register(
            "scoria_queries_running",
            "Queries that scan",
            self.running.clone(),
        );
        registry.register(
            "scoria_queries_waiting",
            "Queries that wait for a slot or for memory",
            self.waiting.clone(),
        );
        registry.register(
            "scoria_query_wait_seconds",
            "Time that queries waited before they were let in",
            self.wait_seconds.clone(),
        );
        registry.register(
            "scoria_query_partial_answers",
            "Answers that lack data, which their callers had allowed",
            self.lacking.clone(),
        );
    }

    fn register_caches(&self, registry: &mut Registry) {
        registry.register(
            "scoria_query_result_hits",
            "Datasets whose answer was kept from an earlier query",
            self.result_hits.clone(),
        );
        registry.register(
            "scoria_query_rolled_datasets",
            "Datasets that were answered by their roll-ups, wholly or in part",
            self.rolled.clone(),
        );
        registry.register(
            "scoria_query_cache_bytes",
            "Bytes that a cache of queries holds: footers (tables), profile rows (indexes), buckets of roll-ups (rollups), symbols, and answers of datasets (results)",
            self.cache_bytes.clone(),
        );
        registry.register(
            "scoria_query_cache_hits",
            "What was found in a cache of queries",
            self.cache_hits.clone(),
        );
        registry.register(
            "scoria_query_cache_misses",
            "What was not found in a cache of queries",
            self.cache_misses.clone(),
        );
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        let reason = reason.as_str();
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    pub(crate) fn lines(&self, running: usize, waiting: usize) {
        self.running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait_seconds.observe(time.as_secs_f64());
    }

    /// The counters of a cache: hits and misses.
    pub(crate) fn of_cache(&self, cache: &'static str) -> (Counter, Counter) {
        let labels = CacheLabels { cache };
        (
            self.cache_hits.get_or_create(&labels).clone(),
            self.cache_misses.get_or_create(&labels).clone(),
        )
    }

    pub(crate) fn repinned(&self) {
        self.repins.inc();
    }

    pub(crate) fn cache_holds(&self, cache: &'static str, bytes: u64) {
        let labels = CacheLabels { cache };
        self.cache_bytes.get_or_create(&labels).set(bytes);
    }

    pub(crate) fn took(&self, stats: &QueryStats) {
        self.fetched_bytes.inc_by(stats.bytes_fetched);
        self.cached_bytes.inc_by(stats.bytes_cached);
        self.samples.inc_by(stats.samples);
        self.profiles.inc_by(stats.profiles);
        self.result_hits.inc_by(stats.result_hits);
        self.rolled.inc_by(stats.rolled);
        self.lacking.inc_by(u64::from(stats.missing.n > 0));
    }

    pub(crate) fn ended(&self, kind: &'static str, took: Duration, error: Option<&QueryError>) {
        let labels = QueryLabels {
            kind,
            outcome: error.map_or("ok", |error| error.kind().as_str()),
        };
        self.queries.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}
