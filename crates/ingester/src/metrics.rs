//! What the ingester counts. The registry is the caller's.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::stream::{CutReason, Refusal, StreamStats};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What ended well or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Badly,
}

impl Ended {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Well
        } else {
            Self::Badly
        }
    }

    const fn labels(self) -> OutcomeLabels {
        let outcome = match self {
            Self::Well => "ok",
            Self::Badly => "failed",
        };
        OutcomeLabels { outcome }
    }
}

/// What reading the log at the start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayFigures {
    pub segments: u64,
    pub records: u64,
    /// Bytes of torn tails that were cut off.
    pub torn_bytes: u64,
    /// Segments that are damaged in the middle or as a whole.
    pub damaged_segments: u64,
    pub took: Duration,
}

/// The counters of an ingester. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    parts: Family<OutcomeLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    batches: Family<OutcomeLabels, Counter>,
    batch_records: Histogram,
    append_seconds: Histogram,
    log_bytes: Counter,
    cuts: Family<ReasonLabels, Counter>,
    flushes: Family<OutcomeLabels, Counter>,
    flush_seconds: Histogram,
    flushed_blocks: Counter,
    flushed_bytes: Counter,
    flush_beyond_reserve: Counter,
    uncommitted_generations: Gauge,
    heads_bytes: Gauge<u64, AtomicU64>,
    retry_keys: Gauge,
    retry_keys_forgotten_early: Counter,
    replay_records: Counter,
    replay_torn_bytes: Counter,
    replay_damaged: Counter,
    replay_seconds: Gauge<f64, AtomicU64>,
    selects: Family<OutcomeLabels, Counter>,
    selects_gone: Counter,
    select_seconds: Histogram,
    function_nodes: Family<OutcomeLabels, Counter>,
    function_trees_bytes: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Counters that `registry` shows.
    #[allow(
        clippy::too_many_lines,
        reason = "one entry for each metric, with its help text"
    )]
    pub fn new(registry: &mut Registry) -> Self {
        let m = Self::unregistered();
        let mut counter = |name: &str, help: &str, metric: &Counter| {
            registry.register(name, help, metric.clone());
        };
        counter(
            "scoria_ingester_log_bytes",
            "Bytes written to the log",
            &m.log_bytes,
        );
        counter(
            "scoria_ingester_flushed_blocks",
            "Blocks committed by flushes",
            &m.flushed_blocks,
        );
        counter(
            "scoria_ingester_flushed_bytes",
            "Bytes of blocks committed by flushes",
            &m.flushed_bytes,
        );
        counter(
            "scoria_ingester_flush_beyond_reserve_bytes",
            "Memory that flushes needed beyond the whole reserve for writing blocks",
            &m.flush_beyond_reserve,
        );
        counter(
            "scoria_ingester_retry_keys_forgotten_early",
            "Retry keys forgotten before their window ended because there were too many",
            &m.retry_keys_forgotten_early,
        );
        counter(
            "scoria_ingester_replay_records",
            "Log records read back at the start",
            &m.replay_records,
        );
        counter(
            "scoria_ingester_replay_torn_bytes",
            "Bytes of torn tails cut off at the start",
            &m.replay_torn_bytes,
        );
        counter(
            "scoria_ingester_replay_damaged_segments",
            "Log segments found damaged and quarantined at the start",
            &m.replay_damaged,
        );
        counter(
            "scoria_ingester_selects_gone",
            "Queries that needed records dropped meanwhile and had to pin anew",
            &m.selects_gone,
        );
        registry.register(
            "scoria_ingester_parts",
            "Parts of pushes by what became of them",
            m.parts.clone(),
        );
        registry.register(
            "scoria_ingester_refusals",
            "Pushes refused because the ingester could not take them",
            m.refusals.clone(),
        );
        registry.register(
            "scoria_ingester_log_batches",
            "Batches written to the log and synced",
            m.batches.clone(),
        );
        registry.register(
            "scoria_ingester_log_batch_records",
            "Records in one batch",
            m.batch_records.clone(),
        );
        registry.register(
            "scoria_ingester_log_append_duration_seconds",
            "Time to write and sync one batch",
            m.append_seconds.clone(),
        );
        registry.register(
            "scoria_ingester_cuts",
            "Generations cut, by reason",
            m.cuts.clone(),
        );
        registry.register(
            "scoria_ingester_flushes",
            "Builds and uploads of a generation's blocks",
            m.flushes.clone(),
        );
        registry.register(
            "scoria_ingester_flush_duration_seconds",
            "Time to build and upload the blocks of a generation",
            m.flush_seconds.clone(),
        );
        registry.register(
            "scoria_ingester_uncommitted_generations",
            "Sealed generations that the catalogue does not hold yet",
            m.uncommitted_generations.clone(),
        );
        registry.register(
            "scoria_ingester_heads_bytes",
            "Memory of all heads",
            m.heads_bytes.clone(),
        );
        registry.register(
            "scoria_ingester_retry_keys",
            "Retry keys held",
            m.retry_keys.clone(),
        );
        registry.register(
            "scoria_ingester_replay_duration_seconds",
            "Time to read the log back at the start",
            m.replay_seconds.clone(),
        );
        registry.register(
            "scoria_ingester_selects",
            "Queries answered",
            m.selects.clone(),
        );
        registry.register(
            "scoria_ingester_select_duration_seconds",
            "Time to answer a query, waiting for its turn included",
            m.select_seconds.clone(),
        );
        registry.register(
            "scoria_ingester_function_nodes",
            "Stack tree nodes whose function names queries needed, by whether they were known",
            m.function_nodes.clone(),
        );
        registry.register(
            "scoria_ingester_function_trees_bytes",
            "Memory of function trees that heads keep between queries",
            m.function_trees_bytes.clone(),
        );
        m
    }

    /// Counters that nobody sees.
    pub fn unregistered() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 18));
        Self {
            parts: Family::default(),
            refusals: Family::default(),
            batches: Family::default(),
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            append_seconds: seconds(),
            log_bytes: Counter::default(),
            cuts: Family::default(),
            flushes: Family::default(),
            flush_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            flushed_blocks: Counter::default(),
            flushed_bytes: Counter::default(),
            flush_beyond_reserve: Counter::default(),
            uncommitted_generations: Gauge::default(),
            heads_bytes: Gauge::default(),
            retry_keys: Gauge::default(),
            retry_keys_forgotten_early: Counter::default(),
            replay_records: Counter::default(),
            replay_torn_bytes: Counter::default(),
            replay_damaged: Counter::default(),
            replay_seconds: Gauge::default(),
            selects: Family::default(),
            selects_gone: Counter::default(),
            select_seconds: seconds(),
            function_nodes: Family::default(),
            function_trees_bytes: Gauge::default(),
        }
    }

    pub(crate) fn parts(&self, stored: u64, duplicates: u64) {
        let labels = |outcome| OutcomeLabels { outcome };
        self.parts.get_or_create(&labels("stored")).inc_by(stored);
        self.parts
            .get_or_create(&labels("duplicate"))
            .inc_by(duplicates);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn batch(&self, records: usize, bytes: u64, took: Duration, ended: Ended) {
        self.batches.get_or_create(&ended.labels()).inc();
        self.batch_records.observe(records as f64);
        self.append_seconds.observe(took.as_secs_f64());
        self.log_bytes.inc_by(bytes);
    }

    pub(crate) fn cut(&self, reason: CutReason) {
        let reason = match reason {
            CutReason::Age => "age",
            CutReason::LogBytes => "log_bytes",
            CutReason::Memory => "memory",
            CutReason::Shutdown => "shutdown",
            CutReason::LogFailure => "log_failure",
            CutReason::Fenced => "fenced",
        };
        self.cuts.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn flush_ended(&self, took: Duration, ended: Ended) {
        self.flushes.get_or_create(&ended.labels()).inc();
        self.flush_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn committed(&self, blocks: u64, bytes: u64) {
        self.flushed_blocks.inc_by(blocks);
        self.flushed_bytes.inc_by(bytes);
    }

    /// A flush needs `bytes` more than the whole reserve.
    pub(crate) fn beyond_reserve(&self, bytes: u64) {
        self.flush_beyond_reserve.inc_by(bytes);
    }

    pub(crate) fn show(&self, stats: StreamStats, uncommitted: usize, heads_bytes: u64) {
        self.uncommitted_generations.set(uncommitted as i64);
        self.heads_bytes.set(heads_bytes);
        self.retry_keys.set(stats.retry_keys as i64);
        let seen = self.retry_keys_forgotten_early.get();
        self.retry_keys_forgotten_early
            .inc_by(stats.retry_keys_forgotten_early.saturating_sub(seen));
    }

    pub(crate) fn replayed(&self, figures: ReplayFigures) {
        self.replay_records.inc_by(figures.records);
        self.replay_torn_bytes.inc_by(figures.torn_bytes);
        self.replay_damaged.inc_by(figures.damaged_segments);
        self.replay_seconds.set(figures.took.as_secs_f64());
    }

    pub(crate) fn select(&self, took: Duration, ended: Ended) {
        self.selects.get_or_create(&ended.labels()).inc();
        self.select_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn function_nodes_kept(&self, nodes: usize) {
        self.function_nodes("kept", nodes);
    }

    pub(crate) fn function_nodes_built(&self, nodes: usize) {
        self.function_nodes("built", nodes);
    }

    fn function_nodes(&self, outcome: &'static str, nodes: usize) {
        let counter = self
            .function_nodes
            .get_or_create(&OutcomeLabels { outcome });
        counter.inc_by(nodes as u64);
    }

    pub(crate) fn function_trees(&self, bytes: u64) {
        self.function_trees_bytes.set(bytes);
    }

    pub(crate) fn select_gone(&self) {
        self.selects_gone.inc();
    }
}

impl Refusal {
    /// The name under which the refusal is counted.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::LogUnavailable { .. } => "log_unavailable",
            Self::Stopping => "stopping",
            Self::Fenced => "fenced",
        }
    }
}
