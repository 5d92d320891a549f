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

/// Counters of one querier.
#[derive(Debug, Clone)]
pub struct Metrics {
    queries: Family<QueryLabels, Counter>,
    seconds: Family<QueryLabels, Histogram, fn() -> Histogram>,
    fetched_bytes: Counter,
    cached_bytes: Counter,
    samples: Counter,
    profiles: Counter,
    repins: Counter,
    cache_bytes: Gauge<u64, AtomicU64>,
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
            cache_bytes: Gauge::default(),
        };
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
        registry.register(
            "scoria_query_decoded_cache_bytes",
            "Bytes of decoded footers, profile rows and symbols that are kept",
            metrics.cache_bytes.clone(),
        );
        metrics
    }

    pub(crate) fn repinned(&self) {
        self.repins.inc();
    }

    pub(crate) fn cache_holds(&self, bytes: u64) {
        self.cache_bytes.set(bytes);
    }

    pub(crate) fn took(&self, stats: &QueryStats) {
        self.fetched_bytes.inc_by(stats.bytes_fetched);
        self.cached_bytes.inc_by(stats.bytes_cached);
        self.samples.inc_by(stats.samples);
        self.profiles.inc_by(stats.profiles);
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
