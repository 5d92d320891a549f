use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use proptest::prelude::*;
use scoria_block::TableMeta;

use super::*;
use crate::error::StoreErrorKind;
use crate::testing::{FaultPlan, FaultyStore, bare_meta, stream_id};

/// A block with one table of bytes that name their place.
fn block(id: u128, bytes: usize) -> EncodedBlock {
    let content: Bytes = (0..bytes).map(|at| (at % 251) as u8).collect();
    let mut meta = bare_meta(id, &stream_id(0), (0, 1));
    meta.bytes = bytes as u64;
    meta.tables = vec![TableMeta {
        table: Table::Samples,
        bytes: bytes as u64,
        rows: 1,
        checksum: xxhash_rust::xxh3::xxh3_64(&content),
        page_checksums: Vec::new(),
        tail: Bytes::new(),
    }];
    EncodedBlock {
        manifest: Bytes::from_static(b"{}"),
        tables: vec![(Table::Samples, content)],
        meta,
    }
}

fn block_store(cache_bytes: u64, coalesce_gap: u64) -> (FaultyStore, BlockStore) {
    let store = FaultyStore::new(Arc::new(InMemory::new()), FaultPlan::none());
    let options = BlockStoreOptions {
        metrics: Metrics::unregistered(),
        cache_bytes,
        coalesce_gap,
    };
    (store.clone(), BlockStore::new(Arc::new(store), options))
}

/// One range, where an array of it would look like a mistaken vector.
fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

async fn fetch(
    blocks: &BlockStore,
    block: &EncodedBlock,
    ranges: &[Range<u64>],
) -> Result<FetchedRanges, BlockReadError> {
    blocks
        .fetch(&block.meta, Table::Samples, ranges, Purpose::Query)
        .await
}

#[tokio::test]
async fn the_manifest_is_written_last_and_not_at_all_after_a_failure() {
    let (store, blocks) = block_store(0, 0);
    let block = block(1, 100);
    store.plan(FaultPlan::begin_outage);
    let error = blocks.put_block(&block).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    let table = keys::table(block.meta.id, Table::Samples);
    assert!(error.to_string().contains(table.as_ref()), "{error}");
    assert_eq!(store.requests(), [format!("put {table}")]);
    store.plan(FaultPlan::end_outage);
    blocks.put_block(&block).await.unwrap();
    let manifest = keys::manifest(block.meta.id);
    assert_eq!(
        store.requests()[1..],
        [format!("put {table}"), format!("put {manifest}")]
    );
}

#[tokio::test]
async fn near_ranges_share_a_request_and_come_from_the_cache_afterwards() {
    let (_, blocks) = block_store(1 << 20, 10);
    let block = block(1, 1000);
    blocks.put_block(&block).await.unwrap();
    let wanted = [500..600, 0..100, 105..110, 121..130];
    let first = fetch(&blocks, &block, &wanted).await.unwrap();
    let expected = FetchStats {
        requests: 3,
        bytes_fetched: 110 + 9 + 100,
        bytes_cached: 0,
        cache_hits: 0,
        cache_misses: 4,
    };
    assert_eq!(first.stats, expected);
    let mut sorted = wanted.to_vec();
    sorted.sort_by_key(|range| range.start);
    let ranges: Vec<_> = first
        .ranges
        .iter()
        .map(|(range, _)| range.clone())
        .collect();
    assert_eq!(ranges, sorted);

    let again = fetch(&blocks, &block, &wanted[..2]).await.unwrap();
    assert_eq!(again.stats.requests, 0);
    assert_eq!(again.stats.cache_hits, 2);
    assert_eq!(again.stats.bytes_cached, 200);
}

#[tokio::test]
async fn the_cache_keeps_to_its_budget() {
    let (_, blocks) = block_store(2000, 0);
    let block = block(1, 100_000);
    blocks.put_block(&block).await.unwrap();
    for at in 0..100 {
        fetch(&blocks, &block, &one(at * 1000..at * 1000 + 1000))
            .await
            .unwrap();
    }
    blocks.cache.run_pending_tasks();
    assert!(blocks.cache.weighted_size() <= 2000);
}

#[tokio::test]
async fn what_is_not_there_is_an_error_that_names_it() {
    let (store, blocks) = block_store(1 << 20, 0);
    let block = block(1, 100);
    let table = keys::table(block.meta.id, Table::Samples).to_string();
    let text = |result: Result<FetchedRanges, BlockReadError>| result.unwrap_err().to_string();
    let missing = text(fetch(&blocks, &block, &one(0..10)).await);
    assert!(missing.contains(&table), "{missing}");
    blocks.put_block(&block).await.unwrap();
    for wrong in [90..101, 5..5, Range { start: 6, end: 5 }] {
        let message = text(fetch(&blocks, &block, &one(wrong)).await);
        assert!(message.contains(&table), "{message}");
    }
    let other = blocks
        .fetch(&block.meta, Table::Series, &one(0..1), Purpose::Query)
        .await;
    assert!(text(other).contains("no table series"));
    store.plan(FaultPlan::begin_outage);
    let error = fetch(&blocks, &block, &one(0..10)).await.unwrap_err();
    assert!(error.is_unavailable());
}

#[tokio::test]
async fn whole_tables_are_checked() {
    let (store, blocks) = block_store(0, 0);
    let block = block(1, 100);
    blocks.put_block(&block).await.unwrap();
    let read = blocks
        .read_table(&block.meta, Table::Samples)
        .await
        .unwrap();
    assert_eq!(read, block.tables[0].1);
    let key = keys::table(block.meta.id, Table::Samples);
    for damaged in [vec![0; 100], vec![0; 99]] {
        store.put(&key, damaged.into()).await.unwrap();
        let error = blocks
            .read_table(&block.meta, Table::Samples)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(key.as_ref()), "{error}");
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
    store
        .put(&keys::manifest(block.meta.id), "{".into())
        .await
        .unwrap();
    let error = blocks.read_manifest(block.meta.id).await.unwrap_err();
    assert!(error.to_string().contains("manifest.json"), "{error}");
}

proptest! {
    /// Q5 for tables of any size: what is read along stays within a fifth of what is needed, or is
    /// little; and nothing that is needed is left out.
    #[test]
    fn what_is_read_along_stays_within_a_fifth(
        asked in prop::collection::vec((0u64..100_000_000, 1u64..3_000_000), 0..300),
        gap in 0u64..(1 << 20),
    ) {
        let mut asked: Vec<_> = asked.into_iter().map(|(start, n)| start..start + n).collect();
        asked.sort_unstable_by_key(|range| (range.start, range.end));
        let bytes = |ranges: &[Range<u64>]| ranges.iter().map(|r| r.end - r.start).sum::<u64>();
        let needed = bytes(&join(&asked, |_| false));
        let joined = coalesce(&asked, gap);
        prop_assert!(bytes(&joined) <= needed + (needed / 5).max(GAPS_SMALL));
        prop_assert!(joined.windows(2).all(|pair| pair[0].end < pair[1].start));
        for range in &asked {
            let inside = |one: &Range<u64>| one.start <= range.start && range.end <= one.end;
            prop_assert!(joined.iter().any(inside), "{range:?}");
        }
    }

    /// Whatever is asked for in whatever order, each range gets exactly its bytes.
    #[test]
    fn every_range_gets_its_bytes(
        asked in prop::collection::vec(prop::collection::vec((0u64..990, 1u64..60), 0..8), 1..5),
        gap in 0u64..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_, blocks) = block_store(4000, gap);
            let block = block(1, 1000);
            blocks.put_block(&block).await.unwrap();
            for ranges in asked {
                let ranges: Vec<_> = ranges
                    .into_iter()
                    .map(|(start, length)| start..(start + length).min(1000))
                    .collect();
                let fetched = fetch(&blocks, &block, &ranges).await.unwrap();
                for (range, bytes) in &fetched.ranges {
                    let whole = &block.tables[0].1;
                    assert_eq!(bytes, &whole.slice(range.start as usize..range.end as usize));
                }
                for range in ranges {
                    assert!(fetched.ranges.iter().any(|(found, _)| *found == range));
                }
            }
        });
    }
}
