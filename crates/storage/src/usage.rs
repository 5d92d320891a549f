//! What lies in the store by tenant, service and profile type, and what it costs.
//!
//! Services follow from the catalogue alone. Which part of a service is of which profile type only
//! the blocks know, so that [`profile_types`] reads the `profiles` table of each.
//!
//! Bytes of a table that several datasets share are divided by their rows in it, so that the shares
//! of a block add up to its size. A block's objects belong to each dataset by its share of the
//! bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use scoria_block::{
    BlockMeta, DatasetMeta, Fetched, OpenTable, ProfileRows, Sources, Table, decode_profiles,
};
use scoria_model::{TenantId, Timestamp};

use crate::block_store::{BlockReadError, BlockStore};
use crate::catalogue::CatalogueState;

/// Days of the month that prices are for.
const DAYS_PER_MONTH: f64 = 30.0;
const BYTES_PER_GB: f64 = 1e9;

/// What one service of one tenant has in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceUsage {
    pub tenant: TenantId,
    pub service: Arc<str>,
    /// In the order of their names.
    pub profile_types: BTreeSet<String>,
    pub bytes: f64,
    /// Shares of objects count as such.
    pub objects: f64,
    /// Blocks that have a part of it.
    pub blocks: u64,
    pub profiles: u64,
    pub samples: u64,
    pub min_time: Timestamp,
    pub max_time: Timestamp,
}

/// What the provider asks for, in one currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// For 10⁹ bytes kept for a month.
    pub gb_month: f64,
    /// For a thousand writes and listings.
    pub puts_1000: f64,
    /// For a thousand reads.
    pub gets_1000: f64,
}

/// Requests of a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Requests {
    pub puts: u64,
    pub gets: u64,
    /// Seconds in which they were sent.
    pub seconds: f64,
}

/// Money for a month.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Projection {
    pub storage: f64,
    pub puts: f64,
    pub gets: f64,
}

impl Projection {
    pub fn total(&self) -> f64 {
        self.storage + self.puts + self.gets
    }
}

/// The services in live blocks, sorted by tenant and name; only those of `tenant` if it is given.
pub fn services(state: &CatalogueState, tenant: Option<&TenantId>) -> Vec<ServiceUsage> {
    let mut services: BTreeMap<(TenantId, Arc<str>), ServiceUsage> = BTreeMap::new();
    for meta in state.blocks() {
        for (_, dataset) in state.live_datasets(meta) {
            if tenant.is_some_and(|tenant| *tenant != dataset.tenant) {
                continue;
            }
            let key = (dataset.tenant.clone(), Arc::clone(&dataset.service));
            let usage = services.entry(key).or_insert_with(|| ServiceUsage {
                tenant: dataset.tenant.clone(),
                service: Arc::clone(&dataset.service),
                profile_types: BTreeSet::new(),
                bytes: 0.0,
                objects: 0.0,
                blocks: 0,
                profiles: 0,
                samples: 0,
                min_time: dataset.min_time,
                max_time: dataset.max_time,
            });
            usage.add(meta, dataset);
        }
    }
    services.into_values().collect()
}

/// What one profile type of a service has in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeUsage {
    pub tenant: TenantId,
    pub service: Arc<str>,
    pub profile_type: String,
    /// Samples by their number in their table, the rest by the number of profiles.
    pub bytes: f64,
    pub profiles: u64,
    pub samples: u64,
}

/// The profile types in live blocks, sorted by tenant, service and name; only those of `tenant` if
/// it is given. Reads one table of every block, one block at a time.
///
/// # Errors
/// The block that cannot be read or is damaged.
pub async fn profile_types(
    blocks: &BlockStore,
    state: &CatalogueState,
    tenant: Option<&TenantId>,
) -> Result<Vec<TypeUsage>, BlockReadError> {
    let mut types: BTreeMap<(TenantId, Arc<str>, String), TypeUsage> = BTreeMap::new();
    for meta in state.blocks() {
        let wanted = |d: &DatasetMeta| tenant.is_none_or(|tenant| *tenant == d.tenant);
        let datasets: Vec<_> = state
            .live_datasets(meta)
            .map(|(_, dataset)| dataset)
            .filter(|dataset| wanted(dataset))
            .collect();
        if datasets.is_empty() {
            continue;
        }
        let table = Table::Profiles;
        let bytes = blocks.read_table(meta, table).await?;
        let damaged = |source| BlockStore::damaged(meta.id, table, source);
        let Some(table_meta) = meta.table(table) else {
            continue;
        };
        let mut sources = Sources::default();
        let open = OpenTable::new(table_meta).map_err(damaged)?;
        sources.insert(Arc::new(open), Fetched::whole(bytes));
        for dataset in datasets {
            let rows = decode_profiles(&sources, meta, dataset).map_err(damaged)?;
            for (kind, share) in shares(meta, dataset, &rows) {
                let key = (
                    dataset.tenant.clone(),
                    Arc::clone(&dataset.service),
                    kind.clone(),
                );
                let usage = types.entry(key).or_insert_with(|| TypeUsage {
                    tenant: dataset.tenant.clone(),
                    service: Arc::clone(&dataset.service),
                    profile_type: kind,
                    bytes: 0.0,
                    profiles: 0,
                    samples: 0,
                });
                usage.bytes += share.bytes;
                usage.profiles += share.profiles;
                usage.samples += share.samples;
            }
        }
    }
    Ok(types.into_values().collect())
}

/// Of one profile type in one dataset.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    bytes: f64,
    profiles: u64,
    samples: u64,
}

fn shares(meta: &BlockMeta, dataset: &DatasetMeta, rows: &ProfileRows) -> Vec<(String, Share)> {
    let mut counted = vec![Share::default(); dataset.kinds.len()];
    for row in rows.iter() {
        if let Some(share) = counted.get_mut(row.kind as usize) {
            share.profiles += 1;
            share.samples += u64::from(row.n_samples);
        }
    }
    let samples = [Table::Samples, Table::Snapshots];
    let sample_bytes = samples.map(|table| bytes_of(meta, dataset, table));
    let all: f64 = Table::ALL
        .iter()
        .map(|table| bytes_of(meta, dataset, *table))
        .sum();
    let rest = all - sample_bytes.iter().sum::<f64>();
    let profiles = (rows.len() as f64).max(1.0);
    let kinds = dataset.kinds.iter().zip(counted);
    kinds
        .map(|(kind, mut share)| {
            let at = usize::from(Table::of_kind(kind) == Table::Snapshots);
            let of_table = dataset.rows(samples[at]);
            let in_table = (of_table.end.saturating_sub(of_table.start) as f64).max(1.0);
            share.bytes = sample_bytes[at] * share.samples as f64 / in_table
                + rest * share.profiles as f64 / profiles;
            (kind.to_string(), share)
        })
        .collect()
}

/// The dataset's share of a table, by rows.
fn bytes_of(meta: &BlockMeta, dataset: &DatasetMeta, table: Table) -> f64 {
    let rows = dataset.rows(table);
    let rows = rows.end.saturating_sub(rows.start) as f64;
    meta.table(table)
        .map_or(0.0, |of| of.bytes as f64 * rows / (of.rows as f64).max(1.0))
}

impl ServiceUsage {
    fn add(&mut self, meta: &BlockMeta, dataset: &DatasetMeta) {
        let bytes: f64 = Table::ALL
            .iter()
            .map(|table| bytes_of(meta, dataset, *table))
            .sum();
        let of_block: u64 = meta.tables.iter().map(|table| table.bytes).sum();
        // The manifest is an object, too.
        let objects = meta.tables.len() as f64 + 1.0;
        self.bytes += bytes;
        self.objects += objects * bytes / (of_block.max(1) as f64);
        self.blocks += 1;
        self.profiles += dataset.n_profiles();
        self.samples += dataset.n_samples();
        self.min_time = self.min_time.min(dataset.min_time);
        self.max_time = self.max_time.max(dataset.max_time);
        self.profile_types
            .extend(dataset.kinds.iter().map(ToString::to_string));
    }
}

impl Prices {
    /// What a month costs if `bytes` stay and requests go on as `requests` did; `share` of the
    /// requests count.
    pub fn month(&self, bytes: f64, requests: &Requests, share: f64) -> Projection {
        let months = (requests.seconds / 86_400.0 / DAYS_PER_MONTH).max(f64::MIN_POSITIVE);
        let per_month = |count: u64| match requests.seconds > 0.0 {
            true => count as f64 / months * share,
            false => 0.0,
        };
        Projection {
            storage: bytes / BYTES_PER_GB * self.gb_month,
            puts: per_month(requests.puts) / 1000.0 * self.puts_1000,
            gets: per_month(requests.gets) / 1000.0 * self.gets_1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use scoria_block::TableMeta;
    use scoria_model::{Epoch, Seq};

    use super::*;
    use crate::catalogue::{Entry, Op, Txn};
    use crate::testing::{bare_meta, stream_id};

    fn dataset(tenant: &str, service: &str, rows: std::ops::Range<u64>) -> DatasetMeta {
        let mut of_table = std::array::from_fn(|_| 0..0);
        of_table[Table::Samples.index()] = rows;
        DatasetMeta {
            tenant: TenantId::parse(tenant).unwrap(),
            service: service.into(),
            min_time: Timestamp(0),
            max_time: Timestamp(1),
            rows: of_table,
            kinds: Vec::new(),
            n_stacks: 1,
            rolled: Vec::new(),
        }
    }

    fn state() -> CatalogueState {
        let stream = stream_id(0);
        let mut meta = bare_meta(1, &stream, (0, 1));
        meta.tables = vec![TableMeta {
            table: Table::Samples,
            bytes: 1000,
            rows: 100,
            checksum: 0,
            page_checksums: Vec::new(),
            tail: Bytes::new(),
        }];
        meta.datasets = vec![
            dataset("a", "x", 0..70),
            dataset("a", "y", 70..90),
            dataset("b", "x", 90..100),
        ];
        let mut ops = vec![Op::OpenStream {
            stream: stream.clone(),
            epoch: Epoch(1),
            owner: stream.node.clone(),
            members: vec![stream.node.clone()],
            quorum: 1,
        }];
        ops.extend(Txn::flush(&stream, Epoch(1), (Seq(0), Seq(1)), [Arc::new(meta)]).ops);
        let mut state = CatalogueState::default();
        let entry = Entry {
            version: scoria_model::CatalogueVersion(1),
            nonce: 1,
            ops,
        };
        state.apply(&entry).unwrap();
        state
    }

    #[test]
    fn shares_add_up_to_the_block() {
        let all = services(&state(), None);
        let named: Vec<(&str, &str, f64)> = all
            .iter()
            .map(|u| (u.tenant.as_str(), u.service.as_ref(), u.bytes))
            .collect();
        assert_eq!(
            named,
            [("a", "x", 700.0), ("a", "y", 200.0), ("b", "x", 100.0)]
        );
        let objects: f64 = all.iter().map(|u| u.objects).sum();
        assert!((objects - 2.0).abs() < 1e-9, "{objects}");
        let b = TenantId::parse("b").unwrap();
        assert_eq!(services(&state(), Some(&b)).len(), 1, "R1");
    }

    #[test]
    fn a_month_costs_what_prices_say() {
        let prices = Prices {
            gb_month: 0.02,
            puts_1000: 0.005,
            gets_1000: 0.0004,
        };
        let requests = Requests {
            puts: 1000,
            gets: 10_000,
            seconds: 86_400.0,
        };
        let month = prices.month(50e9, &requests, 0.5);
        assert!((month.storage - 1.0).abs() < 1e-9);
        assert!((month.puts - 0.075).abs() < 1e-9);
        assert!((month.gets - 0.06).abs() < 1e-9);
        assert!((month.total() - 1.135).abs() < 1e-9);
        let idle = prices.month(0.0, &Requests::default(), 1.0);
        assert_eq!(idle, Projection::default());
    }
}
