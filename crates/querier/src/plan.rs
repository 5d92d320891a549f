//! Which datasets of which blocks a scan has to look at, from the catalogue alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use scoria_block::{BlockMeta, DatasetMeta, Table};
use scoria_model::TenantId;
use scoria_query::deletion::Deletion;
use scoria_query::scan::Scan;
use scoria_query::select::{matching_kinds, service_matches};
use scoria_storage::{CatalogueState, TombstoneId};

use crate::cache::DatasetKey;

/// The tables that symbols are decoded from.
pub(crate) const SYMBOL_TABLES: [Table; 5] = [
    Table::Stacks,
    Table::Locations,
    Table::Functions,
    Table::Mappings,
    Table::Strings,
];

/// One dataset of one block.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) block: Arc<BlockMeta>,
    /// Index into the block's datasets.
    pub(crate) dataset: usize,
    /// What was deleted on demand and may still lie in the dataset.
    pub(crate) deletions: Arc<[Arc<Deletion>]>,
}

impl Unit {
    pub(crate) fn dataset(&self) -> &DatasetMeta {
        &self.block.datasets[self.dataset]
    }

    /// What decoded parts and answers of the dataset are kept under. A dataset is live as a whole
    /// or not at all; whatever else changes what it answers would have to be told here, too.
    pub(crate) fn key(&self) -> DatasetKey {
        (self.block.id, self.dataset)
    }

    /// Whether every profile of the dataset lies in the scan's range.
    pub(crate) fn is_inside(&self, scan: &Scan) -> bool {
        let dataset = self.dataset();
        scan.range.contains(dataset.min_time) && scan.range.contains(dataset.max_time)
    }

    /// Stored bytes of the dataset's share of a table.
    fn share(&self, table: Table) -> u64 {
        let rows = self.dataset().rows(table);
        let meta = self.block.table(table);
        meta.map_or(0, |meta| {
            let part = u128::from(rows.end - rows.start) * u128::from(meta.bytes)
                / u128::from(meta.rows.max(1));
            part as u64
        })
    }

    /// What scanning the dataset takes at most, roughly.
    pub(crate) fn cost(&self, scan: &Scan) -> PlanCost {
        /// Decoded columns are a few times as large as stored ones.
        const DECODED: u64 = 4;
        /// A sum of a span in a profile.
        const SPAN: u64 = 40;
        let dataset = self.dataset();
        let n_rows = |table: Table| {
            let rows = dataset.rows(table);
            rows.end - rows.start
        };
        let index_bytes = self.share(Table::Series) + self.share(Table::Profiles);
        let mut cost = PlanCost {
            blocks: 0,
            datasets: 1,
            series: n_rows(Table::Series),
            profiles: n_rows(Table::Profiles),
            index_bytes,
            memory_bytes: (1 + DECODED) * index_bytes,
            ..PlanCost::default()
        };
        if !scan.what.wants_samples() {
            return cost;
        }
        cost.symbol_bytes = SYMBOL_TABLES.map(|table| self.share(table)).iter().sum();
        // A query is about one profile type, and a type's samples lie in one of the two.
        cost.samples = n_rows(Table::Samples).max(n_rows(Table::Snapshots));
        cost.sample_bytes = self.share(Table::Samples).max(self.share(Table::Snapshots));
        if let Some(rolled) = self.rolled(scan) {
            let rollups = [Table::Rollup5m, Table::Rollup1h];
            let rest = rolled.rest(self, scan);
            let scaled = |n: u64| (n as f64 * rest).ceil() as u64;
            cost.samples = scaled(cost.samples) + rollups.map(n_rows).iter().sum::<u64>();
            let of_rollups = rollups.map(|table| self.share(table));
            cost.sample_bytes = scaled(cost.sample_bytes) + of_rollups.iter().sum::<u64>();
            if !rolled.with_profiles {
                (cost.series, cost.profiles, cost.index_bytes) = (0, 0, 0);
            }
            cost.index_bytes += self.share(Table::Rollups);
            cost.memory_bytes = (1 + DECODED) * cost.index_bytes;
        }
        // Samples are decoded in batches and are gone once they are added up.
        cost.memory_bytes += (1 + DECODED) * cost.symbol_bytes
            + cost.sample_bytes
            + 24 * u64::from(dataset.n_stacks);
        if scan.what.collects_spans() {
            cost.memory_bytes += SPAN * cost.samples;
        }
        cost
    }
}

/// What a query would read, as far as the catalogue alone tells: an upper bound, since selectors
/// on stored labels are not evaluated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanCost {
    pub blocks: u64,
    pub datasets: u64,
    pub series: u64,
    pub profiles: u64,
    pub samples: u64,
    /// Stored bytes of series and profile rows.
    pub index_bytes: u64,
    pub symbol_bytes: u64,
    pub sample_bytes: u64,
    /// Memory that is taken before anything is fetched.
    pub memory_bytes: u64,
    /// Ingesters that are asked for what is in no block yet.
    pub ingesters: u64,
}

impl PlanCost {
    /// Stored bytes to read.
    pub fn bytes(&self) -> u64 {
        self.index_bytes + self.symbol_bytes + self.sample_bytes
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.datasets += other.datasets;
        self.series += other.series;
        self.profiles += other.profiles;
        self.samples += other.samples;
        self.index_bytes += other.index_bytes;
        self.symbol_bytes += other.symbol_bytes;
        self.sample_bytes += other.sample_bytes;
        self.memory_bytes += other.memory_bytes;
        self.ingesters = self.ingesters.max(other.ingesters);
    }
}

/// How many datasets of a query are fetched and decoded at the same time. Those that are waited
/// for cost nothing but memory, so that many small ones may be on their way together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    /// Whatever they take.
    pub(crate) always: usize,
    /// As long as they take no more than `bytes`.
    pub(crate) most: usize,
    pub(crate) bytes: u64,
}

impl InFlight {
    /// How many of datasets that take `memory`, the largest first, and what they take together.
    fn of(&self, memory: &[u64]) -> (usize, u64) {
        let (mut n, mut taken) = (0, 0u64);
        for bytes in memory.iter().take(self.most.max(self.always).max(1)) {
            if n >= self.always.max(1) && taken + bytes > self.bytes {
                break;
            }
            n += 1;
            taken += bytes;
        }
        (n, taken)
    }
}

/// The cost of a scan over `units`, and how many of them may be held in memory at a time.
pub(crate) fn cost(units: &[Unit], scan: &Scan, in_flight: InFlight) -> (PlanCost, usize) {
    let mut whole = PlanCost {
        blocks: n_blocks(units),
        ..PlanCost::default()
    };
    let mut memory: Vec<u64> = Vec::with_capacity(units.len());
    for unit in units {
        let cost = unit.cost(scan);
        memory.push(cost.memory_bytes);
        whole.merge(&cost);
    }
    memory.sort_unstable_by(|a, b| b.cmp(a));
    let (at_once, bytes) = in_flight.of(&memory);
    whole.memory_bytes = bytes;
    (whole, at_once)
}

/// Units stand block by block.
fn n_blocks(units: &[Unit]) -> u64 {
    let mut blocks: Vec<_> = units.iter().map(|unit| unit.block.id).collect();
    blocks.dedup();
    blocks.len() as u64
}

/// The datasets that may hold profiles of a scan. `tenants` are sorted.
pub(crate) fn units(state: &CatalogueState, tenants: &[TenantId], scan: &Scan) -> Vec<Unit> {
    let mut units = Vec::new();
    let deletions: Vec<Deletions> = tenants.iter().map(|t| deletions_of(state, t)).collect();
    let in_time = |min, max| scan.range.overlaps(min, max);
    for block in state.blocks() {
        if !in_time(block.min_time, block.max_time) {
            continue;
        }
        for (tenant, deletions) in tenants.iter().zip(&deletions) {
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
                        deletions: pending(state, deletions, block, dataset),
                    });
                }
            }
        }
    }
    units
}

/// The deletions of one tenant. One that cannot be read was never committed.
type Deletions = Vec<(TombstoneId, Arc<Deletion>)>;

fn deletions_of(state: &CatalogueState, tenant: &TenantId) -> Deletions {
    let of_tenant = state.deletions().filter(|d| d.tombstone.tenant == *tenant);
    of_tenant
        .filter_map(|kept| {
            let tombstone = &kept.tombstone;
            let deletion = Deletion::new(&tombstone.selector, tombstone.before).ok()?;
            Some((tombstone.id, Arc::new(deletion)))
        })
        .collect()
}

/// Those that a dataset may still hold profiles of.
fn pending(
    state: &CatalogueState,
    deletions: &Deletions,
    block: &BlockMeta,
    dataset: &DatasetMeta,
) -> Arc<[Arc<Deletion>]> {
    if deletions.is_empty() {
        return Arc::from([]);
    }
    let pending: BTreeSet<TombstoneId> = state
        .deletions_in(block, &dataset.tenant)
        .map(|kept| kept.tombstone.id)
        .collect();
    let hits = |(id, deletion): &&(TombstoneId, Arc<Deletion>)| {
        pending.contains(id)
            && deletion.may_hide(&dataset.service, &dataset.kinds, dataset.min_time)
    };
    let found = deletions.iter().filter(hits);
    found.map(|(_, deletion)| Arc::clone(deletion)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_datasets_fly_in_greater_numbers() {
        let in_flight = InFlight {
            always: 2,
            most: 5,
            bytes: 100,
        };
        for (memory, expected) in [
            (&[][..], (0, 0)),
            (&[500, 400, 1], (2, 900)),
            (&[50, 40, 10, 1], (3, 100)),
            (&[9; 7], (5, 45)),
            (&[300], (1, 300)),
        ] {
            assert_eq!(in_flight.of(memory), expected, "{memory:?}");
        }
        let least = InFlight {
            always: 0,
            most: 0,
            bytes: 0,
        };
        assert_eq!(least.of(&[7, 7]), (1, 7));
    }
}
