//! The tables of blocks in the object store: putting them there for good, and reading byte ranges
//! of them through a cache.
//!
//! # Invariants
//! - A block's manifest is written after all its tables; when [`BlockStore::put_block`] returns,
//!   everything is durable.
//! - The cache holds at most its budget of bytes. Blocks never change, so nothing in it gets old.
//! - Every request and every byte is counted, in [`Metrics`] by purpose and in the caller's
//!   [`FetchStats`].

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, PutOptions};
use scoria_block::{BlockError, BlockMeta, EncodedBlock, Fetched, Table};
use scoria_model::BlockId;

use crate::error::StoreError;
use crate::keys;
use crate::metrics::Metrics;

/// Requests of one fetch that are under way at the same time: more than the samples at the edge of a
/// range lie in pages for a hundred series. How many there are over all is the store's own limit.
const FETCHES_MAX: usize = 256;
/// Bytes between ranges of one fetch that are read along however few are needed: less than what a
/// store sends in a hundredth of a second.
const GAPS_SMALL: u64 = 64 << 10;
/// What an entry of the cache costs beside its bytes.
const CACHE_ENTRY_BYTES: u64 = 160;

/// What a request to the object store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The catalogue's log and snapshots.
    Catalogue,
    /// Blocks that an ingester writes.
    Flush,
    /// Ranges that a query reads.
    Query,
    /// Slices that a merge reads.
    Compact,
    /// Listing and deleting what nothing refers to, and deletions on demand.
    Collect,
    /// Whole objects that are read to be checked or shown.
    Inspect,
    /// What tenants keep beside their profiles.
    Tenant,
    /// What nothing said the purpose of.
    Other,
}

impl Purpose {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
            Self::Flush => "flush",
            Self::Query => "query",
            Self::Compact => "compact",
            Self::Collect => "collect",
            Self::Inspect => "inspect",
            Self::Tenant => "tenant",
            Self::Other => "other",
        }
    }
}

/// How a [`BlockStore`] behaves.
#[derive(Debug, Clone)]
pub struct BlockStoreOptions {
    pub metrics: Metrics,
    /// Most bytes that the cache holds.
    pub cache_bytes: u64,
    /// Bytes between two ranges that are read along when that saves a request; over all of a fetch
    /// a fifth of what is needed, or what takes no time.
    pub coalesce_gap: u64,
}

/// What a fetch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchStats {
    /// Requests sent to the object store.
    pub requests: u64,
    /// Bytes that came from the object store, gaps included.
    pub bytes_fetched: u64,
    /// Bytes that came from the cache.
    pub bytes_cached: u64,
    /// Ranges found in the cache.
    pub cache_hits: u64,
    /// Ranges that had to be fetched.
    pub cache_misses: u64,
}

impl FetchStats {
    /// Adds up what several fetches did.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bytes_fetched += other.bytes_fetched;
        self.bytes_cached += other.bytes_cached;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
    }
}

/// Byte ranges of one table.
#[derive(Debug, Clone, Default)]
pub struct FetchedRanges {
    /// The ranges as they were asked for, sorted, each with exactly its bytes.
    pub ranges: Vec<(Range<u64>, Bytes)>,
    pub stats: FetchStats,
}

impl FetchedRanges {
    /// The ranges as the block crate decodes them, and what fetching them took.
    pub fn into_parts(self) -> (Fetched, FetchStats) {
        let pieces = self
            .ranges
            .into_iter()
            .map(|(range, bytes)| (range.start, bytes))
            .collect();
        (Fetched::new(pieces), self.stats)
    }
}

/// Why a block could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BlockReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("block {block} has no table {table}")]
    NoTable { block: BlockId, table: Table },
    #[error("{key}: bytes {start}..{end} are not within its {bytes} bytes")]
    Range {
        key: Path,
        start: u64,
        end: u64,
        bytes: u64,
    },
    #[error("{key} is damaged: it has {found} bytes where {expected} were expected")]
    Length {
        key: Path,
        expected: u64,
        found: u64,
    },
    #[error(
        "{key} is damaged: its checksum is {found:016x}, the block's meta says {expected:016x}"
    )]
    Checksum {
        key: Path,
        expected: u64,
        found: u64,
    },
    #[error("{key}: {source}")]
    Damaged { key: Path, source: BlockError },
}

impl BlockReadError {
    /// Whether a later try may succeed: what a role answers with 503.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_unavailable())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    block: BlockId,
    table: Table,
    start: u64,
    end: u64,
}

/// The blocks of one object store. Clones share the cache.
#[derive(Debug, Clone)]
pub struct BlockStore {
    store: Arc<dyn ObjectStore>,
    metrics: Metrics,
    coalesce_gap: u64,
    cache: moka::sync::Cache<CacheKey, Bytes>,
}

impl BlockStore {
    pub fn new(store: Arc<dyn ObjectStore>, options: BlockStoreOptions) -> Self {
        let weigh = |_: &CacheKey, bytes: &Bytes| {
            let weight = bytes.len() as u64 + CACHE_ENTRY_BYTES;
            u32::try_from(weight).unwrap_or(u32::MAX)
        };
        Self {
            store,
            metrics: options.metrics,
            coalesce_gap: options.coalesce_gap,
            cache: moka::sync::Cache::builder()
                .max_capacity(options.cache_bytes)
                .weigher(weigh)
                .build(),
        }
    }

    /// Puts a block into the store: the tables side by side, then the manifest. Putting the same
    /// block again is harmless.
    ///
    /// # Errors
    /// The object that could not be written. What was written stays, as garbage that nothing
    /// refers to.
    pub async fn put_block(&self, block: &EncodedBlock) -> Result<(), StoreError> {
        let id = block.meta.id;
        let tables = block
            .tables
            .iter()
            .map(|(table, bytes)| self.put(keys::table(id, *table), bytes.clone()));
        // All are awaited even if one fails: a write still under way is none of the caller's.
        let written = futures::future::join_all(tables).await;
        written.into_iter().collect::<Result<(), _>>()?;
        self.put(keys::manifest(id), block.manifest.clone()).await
    }

    async fn put(&self, key: Path, bytes: Bytes) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        let mut options = PutOptions::default();
        options.extensions.insert(Purpose::Flush);
        let result = self
            .store
            .put_opts(&key, bytes.into(), options)
            .await
            .map(|_| length)
            .map_err(|source| StoreError::new("write", &key, source));
        let counted = result.as_ref().copied().map_err(|error| error.kind);
        self.metrics.request(Purpose::Flush, "write", counted);
        result.map(drop)
    }

    /// Reads byte ranges of one table, from the cache where it has them.
    ///
    /// # Errors
    /// The object that could not be read.
    pub async fn fetch(
        &self,
        meta: &BlockMeta,
        table: Table,
        ranges: &[Range<u64>],
        purpose: Purpose,
    ) -> Result<FetchedRanges, BlockReadError> {
        let block = meta.id;
        let Some(table_meta) = meta.table(table) else {
            return match ranges.first() {
                None => Ok(FetchedRanges::default()),
                Some(_) => Err(BlockReadError::NoTable { block, table }),
            };
        };
        let key = keys::table(block, table);
        let mut wanted = ranges.to_vec();
        wanted.sort_unstable_by_key(|range| (range.start, range.end));
        wanted.dedup();
        check_ranges(&key, &wanted, table_meta.bytes)?;

        let cache_key = |range: &Range<u64>| CacheKey {
            block,
            table,
            start: range.start,
            end: range.end,
        };
        let mut stats = FetchStats::default();
        let mut found: Vec<(Range<u64>, Option<Bytes>)> = wanted
            .into_iter()
            .map(|range| {
                let bytes = self.cache.get(&cache_key(&range));
                (range, bytes)
            })
            .collect();
        let mut missing = Vec::new();
        for (range, bytes) in &found {
            match bytes {
                Some(bytes) => {
                    stats.cache_hits += 1;
                    stats.bytes_cached += bytes.len() as u64;
                }
                None => missing.push(range.clone()),
            }
        }
        stats.cache_misses = missing.len() as u64;
        let spans = coalesce(&missing, self.coalesce_gap);
        let fetched = self.fetch_spans(&key, &spans, purpose, &mut stats).await?;
        for (range, bytes) in found.iter_mut().filter(|(_, bytes)| bytes.is_none()) {
            let cut = cut_out(&spans, &fetched, range);
            self.cache.insert(cache_key(range), cut.clone());
            *bytes = Some(cut);
        }
        self.metrics
            .cache_looked_up(stats.cache_hits, stats.cache_misses);
        self.metrics.cache_holds(self.cache.weighted_size());
        Ok(FetchedRanges {
            ranges: found
                .into_iter()
                .filter_map(|(range, bytes)| Some((range, bytes?)))
                .collect(),
            stats,
        })
    }

    /// One request per span, some at a time.
    async fn fetch_spans(
        &self,
        key: &Path,
        spans: &[Range<u64>],
        purpose: Purpose,
        stats: &mut FetchStats,
    ) -> Result<Vec<Bytes>, BlockReadError> {
        let requests = spans.iter().cloned().map(|span| async move {
            let range = Some(GetRange::Bounded(span.clone()));
            let options = GetOptions {
                range,
                ..for_purpose(purpose)
            };
            let read = async { self.store.get_opts(key, options).await?.bytes().await };
            let result = read
                .await
                .map_err(|source| StoreError::new("read", key, source));
            self.count_read(purpose, &result);
            let bytes = result?;
            let expected = span.end - span.start;
            if bytes.len() as u64 != expected {
                return Err(BlockReadError::Length {
                    key: key.clone(),
                    expected,
                    found: bytes.len() as u64,
                });
            }
            Ok(bytes)
        });
        let fetched: Vec<Bytes> = futures::stream::iter(requests)
            .buffered(FETCHES_MAX)
            .try_collect()
            .await?;
        stats.requests += fetched.len() as u64;
        stats.bytes_fetched += fetched.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        Ok(fetched)
    }

    fn count_read(&self, purpose: Purpose, result: &Result<Bytes, StoreError>) {
        let counted = match result {
            Ok(bytes) => Ok(bytes.len() as u64),
            Err(error) => Err(error.kind),
        };
        self.metrics.request(purpose, "read", counted);
    }

    /// Reads a whole table past the cache and checks it against its meta.
    ///
    /// # Errors
    /// The object that could not be read or does not match.
    pub async fn read_table(
        &self,
        meta: &BlockMeta,
        table: Table,
    ) -> Result<Bytes, BlockReadError> {
        let table_meta = meta.table(table).ok_or(BlockReadError::NoTable {
            block: meta.id,
            table,
        })?;
        let key = keys::table(meta.id, table);
        let bytes = self.read_whole(&key).await?;
        if bytes.len() as u64 != table_meta.bytes {
            return Err(BlockReadError::Length {
                key,
                expected: table_meta.bytes,
                found: bytes.len() as u64,
            });
        }
        let found = xxhash_rust::xxh3::xxh3_64(&bytes);
        if found != table_meta.checksum {
            return Err(BlockReadError::Checksum {
                key,
                expected: table_meta.checksum,
                found,
            });
        }
        Ok(bytes)
    }

    /// Reads a block's manifest.
    ///
    /// # Errors
    /// The manifest could not be read or is damaged.
    pub async fn read_manifest(&self, block: BlockId) -> Result<BlockMeta, BlockReadError> {
        let key = keys::manifest(block);
        let bytes = self.read_whole(&key).await?;
        BlockMeta::from_manifest(&bytes).map_err(|source| BlockReadError::Damaged { key, source })
    }

    async fn read_whole(&self, key: &Path) -> Result<Bytes, BlockReadError> {
        let options = for_purpose(Purpose::Inspect);
        let read = async { self.store.get_opts(key, options).await?.bytes().await };
        let result = read
            .await
            .map_err(|source| StoreError::new("read", key, source));
        self.count_read(Purpose::Inspect, &result);
        Ok(result?)
    }

    /// Names the object in an error that decoding its bytes gave.
    pub fn damaged(block: BlockId, table: Table, source: BlockError) -> BlockReadError {
        BlockReadError::Damaged {
            key: keys::table(block, table),
            source,
        }
    }
}

/// Options that tell the store below what a read is for.
fn for_purpose(purpose: Purpose) -> GetOptions {
    let mut options = GetOptions::default();
    options.extensions.insert(purpose);
    options
}

/// Refuses ranges that do not lie in the object.
fn check_ranges(key: &Path, ranges: &[Range<u64>], bytes: u64) -> Result<(), BlockReadError> {
    match ranges.iter().find(|r| r.start >= r.end || r.end > bytes) {
        None => Ok(()),
        Some(range) => Err(BlockReadError::Range {
            key: key.clone(),
            start: range.start,
            end: range.end,
            bytes,
        }),
    }
}

/// Joins sorted ranges that overlap or touch, and those that lie at most `gap` apart, the closest
/// first, as long as what is read along stays within a fifth of what is needed or [`GAPS_SMALL`]
/// bytes (Q5).
fn coalesce(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let needed = join(ranges, |_| false);
    let bytes: u64 = needed.iter().map(|range| range.end - range.start).sum();
    let most = (bytes / 5).max(GAPS_SMALL);
    let pairs = needed.iter().zip(needed.iter().skip(1));
    let mut gaps: Vec<(u64, u64)> = pairs
        .map(|(before, after)| (after.start - before.end, before.end))
        .filter(|(length, _)| *length <= gap)
        .collect();
    gaps.sort_unstable();
    let mut spent = 0;
    let fits = |(length, _): &&(u64, u64)| {
        spent += length;
        spent <= most
    };
    let bridged: HashSet<u64> = gaps.iter().take_while(fits).map(|(_, at)| *at).collect();
    join(&needed, |end| bridged.contains(&end))
}

/// Joins sorted ranges that overlap or touch, and those after whose end `bridged` says so.
fn join(ranges: &[Range<u64>], bridged: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end || bridged(last.end) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range.clone()),
        }
    }
    joined
}

/// The bytes of `range` out of the spans that were fetched. They are copied unless they are a whole
/// span, so that a small range in the cache does not keep a large answer alive.
fn cut_out(spans: &[Range<u64>], fetched: &[Bytes], range: &Range<u64>) -> Bytes {
    let at = spans.partition_point(|span| span.end < range.end);
    match (spans.get(at), fetched.get(at)) {
        (Some(span), Some(bytes)) if span == range => bytes.clone(),
        (Some(span), Some(bytes)) => {
            let start = (range.start - span.start) as usize;
            let end = (range.end - span.start) as usize;
            Bytes::copy_from_slice(&bytes[start..end])
        }
        _ => Bytes::new(),
    }
}

mod sweep;

#[cfg(test)]
mod tests;
