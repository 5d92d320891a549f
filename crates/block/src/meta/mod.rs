//! What the catalogue knows of a block: enough to plan every read without asking the store.
//!
//! # Invariants
//! - Datasets are sorted by (tenant, service), each once; in every table their row ranges follow
//!   each other without gaps from row 0 to the table's last row.
//! - A table without rows has no [`TableMeta`] and no object.

mod check;
mod codec;
mod manifest;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use scoria_model::{BlockId, ProfileType, Seq, ShardSet, StreamId, TenantId, Timestamp};

use crate::{Rolled, Table};

/// The version of the tables and of the manifest that this program writes.
pub const FORMAT_VERSION: u32 = 2;

/// What part of a stream a block covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRange {
    pub stream: StreamId,
    /// Exclusive: the last record that earlier blocks cover.
    pub from: Seq,
    /// Inclusive: the last record that this block covers.
    pub to: Seq,
}

/// One table of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    pub table: Table,
    /// Size of the object.
    pub bytes: u64,
    pub rows: u64,
    /// xxh3-64 of the whole object.
    pub checksum: u64,
    /// CRC-32 (IEEE) of every page with its header, in the order in which the pages lie in the
    /// file, dictionary pages included.
    pub page_checksums: Vec<u32>,
    /// The end of the object, from its page index on: page index, footer, length and magic.
    pub tail: Bytes,
}

/// One dataset of a block: what one service of one tenant stored in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetMeta {
    pub tenant: TenantId,
    pub service: Arc<str>,
    /// Time of the first profile.
    pub min_time: Timestamp,
    /// Time of the last profile.
    pub max_time: Timestamp,
    /// Its rows in each table, by [`Table::index`].
    pub rows: [Range<u64>; Table::COUNT],
    /// Its profile types, sorted; `kind` of a profile row points here.
    pub kinds: Vec<ProfileType>,
    /// Distinct stacks that samples name: stack ranks are below this.
    pub n_stacks: u32,
    /// What its roll-ups stand for, by kind; empty if it has none.
    pub rolled: Vec<Rolled>,
}

impl DatasetMeta {
    pub fn rows(&self, table: Table) -> Range<u64> {
        self.rows[table.index()].clone()
    }

    /// The shard of its service.
    pub fn shard(&self) -> ShardSet {
        ShardSet::of_service(&self.service)
    }

    fn n(&self, table: Table) -> u64 {
        let rows = &self.rows[table.index()];
        rows.end - rows.start
    }

    pub fn n_series(&self) -> u64 {
        self.n(Table::Series)
    }

    /// Profiles times their types.
    pub fn n_profiles(&self) -> u64 {
        self.n(Table::Profiles)
    }

    /// Samples of both classes.
    pub fn n_samples(&self) -> u64 {
        self.n(Table::Samples) + self.n(Table::Snapshots)
    }
}

/// What a merge took of each of its inputs, so that the catalogue can be rebuilt from manifests: the
/// output stands for these shards of these tenants of every input that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeScope {
    /// Sorted by tenant, each once.
    pub slices: Vec<(TenantId, ShardSet)>,
    /// Which of the merges of these inputs made it, see [`crate::merge_run`]: one that lost against
    /// a deletion may lie beside the one that went through it. 0 in blocks from before it was kept.
    pub run: u64,
    /// Which output of the merge this block is, from 0. Inputs are stood for only by all outputs
    /// together.
    pub part: u32,
    /// Whether it is the last output.
    pub last: bool,
}

/// A block's entry in the catalogue and the content of its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    pub id: BlockId,
    /// 0 as flushed by an ingester, 1 and 2 as compacted.
    pub level: u8,
    /// [`FORMAT_VERSION`] of the program that wrote it.
    pub version: u32,
    /// Time of the first profile.
    pub min_time: Timestamp,
    /// Time of the last profile.
    pub max_time: Timestamp,
    /// Size of all tables.
    pub bytes: u64,
    /// Sorted by table; only those that have rows.
    pub tables: Vec<TableMeta>,
    /// Sorted by (tenant, service).
    pub datasets: Vec<DatasetMeta>,
    /// The stream ranges whose records it holds.
    pub streams: Vec<StreamRange>,
    /// The blocks it was merged from; empty at level 0.
    pub inputs: Vec<BlockId>,
    /// What it took of them; `None` at level 0.
    pub merge: Option<MergeScope>,
    /// Labels by which its roll-ups are kept apart beside [`crate::ROLLUP_LABELS`].
    pub rollup_labels: Vec<Arc<str>>,
}

impl BlockMeta {
    /// The meta of a table, if the table has rows.
    pub fn table(&self, table: Table) -> Option<&TableMeta> {
        self.tables.iter().find(|meta| meta.table == table)
    }

    /// Datasets of one tenant.
    pub fn datasets_of(&self, tenant: &TenantId) -> &[DatasetMeta] {
        let start = self.datasets.partition_point(|d| d.tenant < *tenant);
        let end = self.datasets.partition_point(|d| d.tenant <= *tenant);
        &self.datasets[start..end]
    }

    /// The shards of a tenant that have datasets here.
    pub fn shards_of(&self, tenant: &TenantId) -> ShardSet {
        let services = self.datasets_of(tenant).iter();
        services.fold(ShardSet::EMPTY, |set, dataset| set.union(dataset.shard()))
    }

    /// The slices of the block: each tenant with the shards that it has here, in order.
    pub fn slices(&self) -> Vec<(TenantId, ShardSet)> {
        let mut slices: Vec<(TenantId, ShardSet)> = Vec::new();
        for dataset in &self.datasets {
            match slices.last_mut() {
                Some((tenant, shards)) if *tenant == dataset.tenant => {
                    *shards = shards.union(dataset.shard());
                }
                _ => slices.push((dataset.tenant.clone(), dataset.shard())),
            }
        }
        slices
    }

    pub fn dataset(&self, tenant: &TenantId, service: &str) -> Option<&DatasetMeta> {
        let of_tenant = self.datasets_of(tenant);
        let at = of_tenant
            .binary_search_by(|d| d.service.as_ref().cmp(service))
            .ok()?;
        Some(&of_tenant[at])
    }
}
