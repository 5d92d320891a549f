//! What a query took.

use scoria_model::CatalogueVersion;
use scoria_query::exec::{ScanStats, SpanStats};
use scoria_storage::FetchStats;

use crate::plan::PlanCost;

/// What a query looked at and fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// The version of the catalogue that was pinned.
    pub catalogue_version: CatalogueVersion,
    /// Blocks of which something was needed.
    pub blocks: u64,
    /// Datasets of these blocks.
    pub datasets: u64,
    pub ingesters: u64,
    /// Profiles selected, in blocks and heads.
    pub profiles: u64,
    /// Profiles that the answer is made of, those of answers that were there already included.
    pub merged_profiles: u64,
    /// Samples read, in blocks and heads.
    pub samples: u64,
    /// Requests to the object store.
    pub requests: u64,
    /// Bytes from the object store.
    pub bytes_fetched: u64,
    /// Bytes from the cache of ranges.
    pub bytes_cached: u64,
    /// Datasets whose symbols or profiles were decoded already.
    pub decoded_hits: u64,
    /// Datasets that were answered by their roll-ups, wholly or in part.
    pub rolled: u64,
    /// Datasets whose answer was there already.
    pub result_hits: u64,
    /// What was seen of spans, if the question was about some.
    pub spans: SpanStats,
    /// Why a question about spans found nothing.
    pub why_empty: Option<String>,
    /// What the question would cost, if it was only planned.
    pub plan: Option<PlanCost>,
    /// What the answer lacks, by name; never anything unless the caller allowed it.
    pub missing: Missing,
}

/// Pieces of data that an answer lacks, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing {
    /// The first few.
    pub named: Vec<String>,
    /// All of them.
    pub n: u64,
}

impl Missing {
    /// Those beyond are only counted.
    const NAMED_MAX: usize = 16;

    pub(crate) fn add(&mut self, what: String) {
        self.n += 1;
        if self.named.len() < Self::NAMED_MAX {
            self.named.push(what);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        let room = Self::NAMED_MAX.saturating_sub(self.named.len());
        self.named.extend(other.named.iter().take(room).cloned());
    }
}

impl QueryStats {
    pub(crate) fn add_fetch(&mut self, fetch: &FetchStats) {
        self.requests += fetch.requests;
        self.bytes_fetched += fetch.bytes_fetched;
        self.bytes_cached += fetch.bytes_cached;
    }

    pub(crate) fn add_scan(&mut self, scan: ScanStats) {
        self.profiles += scan.profiles;
        self.merged_profiles += scan.profiles;
        self.samples += scan.samples;
        self.spans.merge(scan.spans);
    }

    /// Stored bytes that were read, from the object store and from the cache of ranges.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_fetched + self.bytes_cached
    }

    /// Pieces that were at hand already, so that nothing was fetched or decoded for them.
    pub fn cache_hits(&self) -> u64 {
        self.decoded_hits + self.result_hits
    }

    /// Adds what another query took, for answers that are made of several. The version is the
    /// newer one.
    pub fn merge(&mut self, other: &Self) {
        self.catalogue_version = self.catalogue_version.max(other.catalogue_version);
        self.blocks += other.blocks;
        self.datasets += other.datasets;
        self.ingesters += other.ingesters;
        self.profiles += other.profiles;
        self.merged_profiles += other.merged_profiles;
        self.samples += other.samples;
        self.requests += other.requests;
        self.bytes_fetched += other.bytes_fetched;
        self.bytes_cached += other.bytes_cached;
        self.decoded_hits += other.decoded_hits;
        self.rolled += other.rolled;
        self.result_hits += other.result_hits;
        self.plan = match (self.plan, other.plan) {
            (Some(mut plan), Some(other)) => {
                plan.merge(&other);
                Some(plan)
            }
            (plan, other) => plan.or(other),
        };
        self.missing.merge(&other.missing);
        self.spans.merge(other.spans);
        if self.why_empty.is_none() {
            self.why_empty.clone_from(&other.why_empty);
        }
    }
}
