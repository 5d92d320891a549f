//! The live slices of a version of the catalogue, as the planner and retention look at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use scoria_block::{BlockMeta, DatasetMeta, Table};
use scoria_model::{ShardSet, TenantId, Timestamp};
use scoria_storage::CatalogueState;

/// One live slice.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) block: Arc<BlockMeta>,
    pub(crate) tenant: TenantId,
    /// One shard.
    pub(crate) shard: ShardSet,
    /// Time of its first and last profile.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// Its share of the block's tables.
    pub(crate) bytes: u64,
}

/// The live slices of `meta`.
pub(crate) fn pieces(state: &CatalogueState, meta: &Arc<BlockMeta>) -> Vec<Piece> {
    let mut pieces: BTreeMap<(&TenantId, ShardSet), Piece> = BTreeMap::new();
    for (_, dataset) in state.live_datasets(meta) {
        let piece = pieces
            .entry((&dataset.tenant, dataset.shard()))
            .or_insert_with(|| Piece {
                block: Arc::clone(meta),
                tenant: dataset.tenant.clone(),
                shard: dataset.shard(),
                first: dataset.min_time,
                last: dataset.max_time,
                bytes: 0,
            });
        piece.first = piece.first.min(dataset.min_time);
        piece.last = piece.last.max(dataset.max_time);
        piece.bytes += dataset_bytes(meta, dataset);
    }
    pieces.into_values().collect()
}

/// A dataset's share of the bytes of a block that a merge reads, by rows.
pub(crate) fn dataset_bytes(meta: &BlockMeta, dataset: &DatasetMeta) -> u64 {
    let share = |table: Table| {
        let rows = dataset.rows(table);
        meta.table(table).map_or(0, |of_table| {
            let rows = u128::from(rows.end.saturating_sub(rows.start));
            (rows * u128::from(of_table.bytes) / u128::from(of_table.rows.max(1))) as u64
        })
    };
    let tables = Table::ALL.into_iter();
    tables.filter(|table| !table.is_rollup()).map(share).sum()
}
