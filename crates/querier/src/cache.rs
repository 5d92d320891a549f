//! What queries keep: footers, profile rows and symbols of datasets, decoded, and the answers of
//! datasets to scans.
//!
//! # Invariants
//! - Blocks never change and everything is kept under its block, so nothing in here gets old.
//!   Compaction makes other blocks, and what it replaced is simply not asked for any more.
//! - An answer is kept only if the dataset lies wholly in the scan's range, and is then kept for
//!   that scan without its range: one that moves on with the clock finds it, too.
//! - Each cache holds at most its bytes.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use scoria_block::{DatasetSymbols, OpenTable, ProfileRows, Table};
use scoria_model::part::NONE;
use scoria_model::{BlockId, Labels};
use scoria_query::exec::SpanStats;
use scoria_query::functions::FunctionTree;
use scoria_query::merge::Partial;

use crate::metrics::Metrics;
use crate::rolled::RollupIndex;

/// A dataset by its block and its place in it.
pub(crate) type DatasetKey = (BlockId, usize);

/// Series and profiles of a dataset.
#[derive(Debug)]
pub(crate) struct DatasetIndex {
    pub(crate) series: Vec<Labels>,
    pub(crate) rows: ProfileRows,
}

impl DatasetIndex {
    pub(crate) fn bytes(&self) -> u64 {
        /// All columns of a profile row.
        const ROW: usize = 68;
        let labels: usize = self
            .series
            .iter()
            .flat_map(Labels::iter)
            .map(|label| 64 + label.name.len() + label.value.len())
            .sum();
        (labels + 32 * self.series.len() + ROW * self.rows.len()) as u64
    }
}

/// Symbols of a dataset and what follows from them.
#[derive(Debug)]
pub(crate) struct SymbolIndex {
    pub(crate) decoded: DatasetSymbols,
    pub(crate) functions: FunctionTree,
    /// The function node of each stack.
    pub(crate) function_of: Vec<u32>,
}

impl SymbolIndex {
    pub(crate) fn new(decoded: DatasetSymbols) -> Self {
        let functions = FunctionTree::of(&decoded.symbols);
        let node_of = functions.node_of();
        // A sample of a stack whose node is not there is told where it is read.
        let of = |&node: &u32| node_of.get(node as usize).copied().unwrap_or(NONE);
        Self {
            function_of: decoded.nodes.iter().map(of).collect(),
            decoded,
            functions,
        }
    }

    fn bytes(&self) -> u64 {
        self.decoded.symbols.bytes()
            + 4 * (self.decoded.nodes.capacity() + self.function_of.capacity()) as u64
            + self.functions.bytes()
    }
}

/// A dataset and a scan that does not depend on time, in its encoded form.
pub(crate) type ResultKey = (DatasetKey, Arc<[u8]>);

/// The answer of a dataset.
#[derive(Debug)]
pub(crate) struct Kept {
    /// `None` if the scan selects nothing.
    pub(crate) partial: Option<Partial>,
    /// Profiles that it is made of.
    pub(crate) profiles: u64,
    /// What was seen of spans, which explains an answer without any.
    pub(crate) spans: SpanStats,
}

/// A cache with a bound in bytes that counts its hits.
pub(crate) struct Cache<K, V> {
    name: &'static str,
    inner: moka::sync::Cache<K, Arc<V>>,
    hits: Counter,
    misses: Counter,
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Send + Sync + 'static> Cache<K, V> {
    fn new(
        (name, metrics): (&'static str, &Metrics),
        bytes: u64,
        weight: impl Fn(&K, &V) -> u64 + Send + Sync + 'static,
    ) -> Self {
        /// What an entry takes beside its value.
        const ENTRY: u64 = 128;
        let weigher = move |key: &K, value: &Arc<V>| {
            u32::try_from(weight(key, value) + ENTRY).unwrap_or(u32::MAX)
        };
        let (hits, misses) = metrics.of_cache(name);
        Self {
            name,
            inner: moka::sync::Cache::builder()
                .max_capacity(bytes)
                .weigher(weigher)
                .build(),
            hits,
            misses,
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        let found = self.inner.get(key);
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.inc();
        found
    }

    pub(crate) fn insert(&self, key: K, value: Arc<V>) {
        self.inner.insert(key, value);
    }

    fn report(&self, metrics: &Metrics) {
        // What was inserted a moment ago is counted, and what is too much goes, only then.
        self.inner.run_pending_tasks();
        metrics.cache_holds(self.name, self.inner.weighted_size());
    }
}

/// All caches of a querier.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) tables: Cache<(BlockId, Table), OpenTable>,
    pub(crate) indexes: Cache<DatasetKey, DatasetIndex>,
    pub(crate) rollups: Cache<DatasetKey, RollupIndex>,
    pub(crate) symbols: Cache<DatasetKey, SymbolIndex>,
    pub(crate) results: Cache<ResultKey, Kept>,
}

impl Caches {
    /// Divides `decoded` bytes: half for symbols, a quarter for footers, an eighth each for profile
    /// rows and for buckets of roll-ups.
    pub(crate) fn new(decoded: u64, results: u64, metrics: &Metrics) -> Self {
        Self {
            tables: Cache::new(("tables", metrics), decoded / 4, |_, table: &OpenTable| {
                table.memory_bytes()
            }),
            indexes: Cache::new(("indexes", metrics), decoded / 8, |_, index| {
                DatasetIndex::bytes(index)
            }),
            rollups: Cache::new(("rollups", metrics), decoded / 8, |_, rollups| {
                RollupIndex::bytes(rollups)
            }),
            symbols: Cache::new(("symbols", metrics), decoded / 2, |_, symbols| {
                SymbolIndex::bytes(symbols)
            }),
            results: Cache::new(
                ("results", metrics),
                results,
                |(_, scan): &ResultKey, kept: &Kept| {
                    scan.len() as u64 + kept.partial.as_ref().map_or(0, Partial::bytes)
                },
            ),
        }
    }

    /// Tells how much each holds.
    pub(crate) fn report(&self, metrics: &Metrics) {
        self.tables.report(metrics);
        self.indexes.report(metrics);
        self.rollups.report(metrics);
        self.symbols.report(metrics);
        self.results.report(metrics);
    }
}
