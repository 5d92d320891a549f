//! What a query took.

use scoria_model::CatalogueVersion;
use scoria_query::exec::ScanStats;
use scoria_storage::FetchStats;

/// What a query looked at and fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

impl QueryStats {
    pub(crate) fn add_fetch(&mut self, fetch: &FetchStats) {
        self.requests += fetch.requests;
        self.bytes_fetched += fetch.bytes_fetched;
        self.bytes_cached += fetch.bytes_cached;
    }

    pub(crate) fn add_scan(&mut self, scan: ScanStats) {
        self.profiles += scan.profiles;
        self.samples += scan.samples;
    }

    /// Adds what another query took, for answers that are made of several. The version is the
    /// newer one.
    pub fn merge(&mut self, other: &Self) {
        self.catalogue_version = self.catalogue_version.max(other.catalogue_version);
        self.blocks += other.blocks;
        self.datasets += other.datasets;
        self.ingesters += other.ingesters;
        self.profiles += other.profiles;
        self.samples += other.samples;
        self.requests += other.requests;
        self.bytes_fetched += other.bytes_fetched;
        self.bytes_cached += other.bytes_cached;
        self.decoded_hits += other.decoded_hits;
    }
}
