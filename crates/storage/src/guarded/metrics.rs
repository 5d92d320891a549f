//! What is counted of each request that is really sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Kind;
use crate::error::StoreErrorKind;
use crate::usage::Requests;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    bucket: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    purpose: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The counters of one store's requests. Clones share them.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    bucket: String,
    operations: Family<OperationLabels, Counter>,
    failures: Family<OperationLabels, Counter>,
    seconds: Family<OperationLabels, Histogram>,
    attempts: Family<AttemptLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    hedges: Family<OutcomeLabels, Counter>,
    in_flight: Gauge,
    priced: Arc<Priced>,
}

/// Requests as providers put prices on them.
#[derive(Debug)]
struct Priced {
    since: Instant,
    puts: AtomicU64,
    gets: AtomicU64,
}

fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 3.0, 10.0, 30.0, 120.0,
    ])
}

impl RequestMetrics {
    /// Counters that `registry` shows; `bucket` is the bucket's name in them.
    pub fn new(registry: &mut Registry, bucket: &str) -> Self {
        let metrics = Self::unregistered(bucket);
        let m = &metrics;
        registry.register(
            "objstore_bucket_operations",
            "Requests sent to the object store",
            m.operations.clone(),
        );
        registry.register(
            "objstore_bucket_operation_failures",
            "Requests to the object store that failed; that an object is not there is no failure",
            m.failures.clone(),
        );
        registry.register(
            "objstore_bucket_operation_duration_seconds",
            "Time of a request to the object store, its body included",
            m.seconds.clone(),
        );
        registry.register(
            "scoria_object_store_attempts",
            "Requests sent to the object store by what they were for; retries and second reads count",
            m.attempts.clone(),
        );
        registry.register(
            "scoria_object_store_retries",
            "Requests to the object store that were sent again after a failure",
            m.retries.clone(),
        );
        registry.register(
            "scoria_object_store_hedged_reads",
            "Late reads: second read answered first (won), did not (lost), was not sent (over_share)",
            m.hedges.clone(),
        );
        registry.register(
            "scoria_object_store_requests_in_flight",
            "Requests to the object store under way",
            m.in_flight.clone(),
        );
        metrics
    }

    /// Counters that nobody sees, for tests and tools.
    pub fn unregistered(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            operations: Family::default(),
            failures: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            attempts: Family::default(),
            retries: Family::default(),
            hedges: Family::default(),
            in_flight: Gauge::default(),
            priced: Arc::new(Priced {
                since: Instant::now(),
                puts: AtomicU64::new(0),
                gets: AtomicU64::new(0),
            }),
        }
    }

    /// The requests sent so far that cost money: writes and listings, and reads.
    pub fn priced(&self) -> Requests {
        Requests {
            puts: self.priced.puts.load(Ordering::Relaxed),
            gets: self.priced.gets.load(Ordering::Relaxed),
            seconds: self.priced.since.elapsed().as_secs_f64(),
        }
    }

    pub(super) fn retried(&self, operation: &'static str) {
        self.retries.get_or_create(&RetryLabels { operation }).inc();
    }

    pub(super) fn hedged(&self, outcome: &'static str) {
        self.hedges.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    fn ended(&self, what: Kind, took: Duration, outcome: Outcome) {
        let labels = OperationLabels {
            bucket: self.bucket.clone(),
            operation: what.operation,
        };
        self.operations.get_or_create(&labels).inc();
        match what.operation {
            "upload" | "iter" | "copy" => self.priced.puts.fetch_add(1, Ordering::Relaxed),
            // Deleting is free at all providers.
            "delete" => 0,
            _ => self.priced.gets.fetch_add(1, Ordering::Relaxed),
        };
        self.seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if outcome.is_failure() {
            self.failures.get_or_create(&labels).inc();
        }
        let labels = AttemptLabels {
            purpose: what.purpose.as_str(),
            operation: what.operation,
            outcome: outcome.as_str(),
        };
        self.attempts.get_or_create(&labels).inc();
    }

    #[cfg(test)]
    pub(super) fn attempts_of(
        &self,
        purpose: &'static str,
        operation: &'static str,
        outcome: &'static str,
    ) -> u64 {
        let labels = AttemptLabels {
            purpose,
            operation,
            outcome,
        };
        self.attempts.get_or_create(&labels).get()
    }

    #[cfg(test)]
    pub(super) fn hedges_of(&self, outcome: &'static str) -> u64 {
        self.hedges.get_or_create(&OutcomeLabels { outcome }).get()
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Done,
    Failed(StoreErrorKind),
    /// Nobody waits for it any more: a query that was cancelled, a second read that lost.
    Abandoned,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed(kind) => kind.as_str(),
            Self::Abandoned => "abandoned",
        }
    }

    const fn is_failure(self) -> bool {
        match self {
            Self::Done | Self::Abandoned => false,
            Self::Failed(kind) => {
                !matches!(kind, StoreErrorKind::NotFound | StoreErrorKind::Exists)
            }
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Timed<'a> {
    metrics: &'a RequestMetrics,
    what: Kind,
    started: Instant,
    outcome: Outcome,
}

impl<'a> Timed<'a> {
    pub(super) fn start(metrics: &'a RequestMetrics, what: Kind) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            what,
            started: Instant::now(),
            outcome: Outcome::Abandoned,
        }
    }

    pub(super) fn end(mut self, result: Result<(), &object_store::Error>) {
        self.outcome = match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(StoreErrorKind::of(error)),
        };
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics
            .ended(self.what, self.started.elapsed(), self.outcome);
    }
}
