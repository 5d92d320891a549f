//! Which datasets of which blocks a scan has to look at, from the catalogue alone.

use std::sync::Arc;

use scoria_block::{BlockMeta, DatasetMeta, Table};
use scoria_model::TenantId;
use scoria_query::scan::Scan;
use scoria_query::select::{matching_kinds, service_matches};
use scoria_storage::CatalogueState;

/// One dataset of one block.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) block: Arc<BlockMeta>,
    /// Index into the block's datasets.
    pub(crate) dataset: usize,
}

impl Unit {
    pub(crate) fn dataset(&self) -> &DatasetMeta {
        &self.block.datasets[self.dataset]
    }

    /// Whether every profile of the dataset lies in the scan's range.
    pub(crate) fn is_inside(&self, scan: &Scan) -> bool {
        let dataset = self.dataset();
        scan.range.contains(dataset.min_time) && scan.range.contains(dataset.max_time)
    }

    /// Memory that scanning the dataset takes at most, roughly: its share of each table as stored
    /// and decoded, and a sum per stack.
    pub(crate) fn bytes(&self, wants_samples: bool) -> u64 {
        /// Decoded columns are a few times as large as stored ones.
        const DECODED: u64 = 4;
        let dataset = self.dataset();
        let share = |table: Table| {
            let rows = dataset.rows(table);
            let meta = self.block.table(table);
            meta.map_or(0, |meta| {
                let part = u128::from(rows.end - rows.start) * u128::from(meta.bytes)
                    / u128::from(meta.rows.max(1));
                part as u64
            })
        };
        let index = share(Table::Series) + share(Table::Profiles);
        if !wants_samples {
            return (1 + DECODED) * index;
        }
        let symbols: u64 = [
            Table::Stacks,
            Table::Locations,
            Table::Functions,
            Table::Mappings,
            Table::Strings,
        ]
        .map(share)
        .iter()
        .sum();
        // Samples are decoded in batches and are gone once they are added up.
        let samples = share(Table::Samples).max(share(Table::Snapshots));
        (1 + DECODED) * (index + symbols) + samples + 24 * u64::from(dataset.n_stacks)
    }
}

/// The datasets that may hold profiles of a scan. `tenants` are sorted.
pub(crate) fn units(state: &CatalogueState, tenants: &[TenantId], scan: &Scan) -> Vec<Unit> {
    let mut units = Vec::new();
    let in_time = |min, max| scan.range.overlaps(min, max);
    for block in state.blocks() {
        if !in_time(block.min_time, block.max_time) {
            continue;
        }
        for tenant in tenants {
            let first = block.datasets.partition_point(|d| d.tenant < *tenant);
            for (at, dataset) in block.datasets_of(tenant).iter().enumerate() {
                if in_time(dataset.min_time, dataset.max_time)
                    && state.is_live(block, dataset)
                    && service_matches(&scan.matchers, &dataset.service)
                    && matching_kinds(&scan.matchers, &dataset.kinds).contains(&true)
                {
                    units.push(Unit {
                        block: Arc::clone(block),
                        dataset: first + at,
                    });
                }
            }
        }
    }
    units
}
