//! What the records of one generation have said so far: the state that writer and reader share.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap, HashTable};
use parking_lot::Mutex;
use scoria_model::{Labels, ProfileType, TenantId};
use scoria_symbols::Dictionary;

use super::SharedDictionary;

/// Tenants and datasets by their numbers.
#[derive(Debug, Default)]
pub(super) struct Generation {
    pub(super) tenants: Vec<TenantId>,
    tenant_ids: HashMap<TenantId, u32>,
    pub(super) datasets: Vec<Dataset>,
    dataset_ids: HashMap<(u32, Arc<str>), u32>,
}

#[derive(Hash)]
struct DatasetName<'a>(u32, &'a str);

impl Equivalent<(u32, Arc<str>)> for DatasetName<'_> {
    fn equivalent(&self, key: &(u32, Arc<str>)) -> bool {
        self.0 == key.0 && self.1 == key.1.as_ref()
    }
}

impl Generation {
    pub(super) fn tenant_id(&self, tenant: &TenantId) -> Option<u32> {
        self.tenant_ids.get(tenant).copied()
    }

    /// Numbers a tenant that has none.
    pub(super) fn add_tenant(&mut self, tenant: TenantId) -> u32 {
        let id = self.tenants.len() as u32;
        self.tenant_ids.insert(tenant.clone(), id);
        self.tenants.push(tenant);
        id
    }

    pub(super) fn dataset_id(&self, tenant: u32, service: &str) -> Option<u32> {
        self.dataset_ids.get(&DatasetName(tenant, service)).copied()
    }

    /// Numbers a dataset that has none.
    pub(super) fn add_dataset(&mut self, tenant: u32, service: Arc<str>) -> u32 {
        let id = self.datasets.len() as u32;
        self.dataset_ids.insert((tenant, Arc::clone(&service)), id);
        self.datasets.push(Dataset::new(tenant, service));
        id
    }

    /// Memory held beside the dictionaries and what heads hold as well.
    pub(super) fn bytes(&self) -> u64 {
        let names = self.dataset_ids.allocation_size() + self.tenant_ids.allocation_size();
        let datasets = self.datasets.capacity() * size_of::<Dataset>();
        let within: u64 = self.datasets.iter().map(Dataset::bytes).sum();
        within + (names + datasets) as u64
    }
}

/// The last profile of a (series, kind), to which the next may be told as a difference.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// In full, as [`super::samples`] has it; empty when there is none.
    pub(super) samples: Box<[u8]>,
    pub(super) n_samples: u32,
    /// How many profiles in a row were smaller in full; only the writer counts.
    pub(super) misses: u8,
}

impl Base {
    /// Stands for a base that is no longer kept.
    pub(super) fn hopeless(misses: u8) -> Self {
        Self {
            misses,
            ..Self::default()
        }
    }
}

/// One (tenant, service).
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) tenant: u32,
    pub(super) service: Arc<str>,
    pub(super) dictionary: SharedDictionary,
    pub(super) series: Vec<Labels>,
    pub(super) kinds: Vec<ProfileType>,
    /// Of the last profile of each kind.
    pub(super) periods: Vec<i64>,
    /// Of the last profile.
    pub(super) duration_ns: i64,
    /// By (series, kind).
    bases: HashMap<(u32, u32), Base, RandomState>,
    base_bytes: u64,
    series_ids: HashTable<u32>,
    kind_ids: HashTable<u32>,
    seed: RandomState,
}

impl Dataset {
    fn new(tenant: u32, service: Arc<str>) -> Self {
        Self {
            tenant,
            service,
            dictionary: Arc::new(Mutex::new(Dictionary::new())),
            series: Vec::new(),
            kinds: Vec::new(),
            periods: Vec::new(),
            duration_ns: 0,
            bases: HashMap::default(),
            base_bytes: 0,
            series_ids: HashTable::new(),
            kind_ids: HashTable::new(),
            seed: RandomState::default(),
        }
    }

    fn bytes(&self) -> u64 {
        let tables = self.bases.allocation_size()
            + self.series_ids.allocation_size()
            + self.kind_ids.allocation_size()
            + self.series.capacity() * size_of::<Labels>();
        self.base_bytes + tables as u64
    }

    /// The series with these (name, value) pairs, which are sorted by name.
    pub(super) fn series_id<'a>(
        &self,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<u32> {
        let hash = hash_texts(&self.seed, pairs.clone().flat_map(|(n, v)| [n, v]));
        self.series_ids
            .find(hash, |&id| {
                let mut held = label_pairs(&self.series[id as usize]);
                pairs.clone().all(|pair| held.next() == Some(pair)) && held.next().is_none()
            })
            .copied()
    }

    /// The series' id, and whether it is new.
    pub(super) fn add_series(&mut self, labels: Labels) -> (u32, Added) {
        if let Some(id) = self.series_id(label_pairs(&labels)) {
            return (id, Added::Known);
        }
        let id = self.series.len() as u32;
        self.series.push(labels);
        let (seed, series) = (&self.seed, &self.series);
        let hash = |&id: &u32| {
            let pairs = label_pairs(&series[id as usize]);
            hash_texts(seed, pairs.flat_map(|(name, value)| [name, value]))
        };
        self.series_ids.insert_unique(hash(&id), id, hash);
        (id, Added::New)
    }

    /// The profile type of these five parts.
    pub(super) fn kind_id(&self, parts: [&str; 5]) -> Option<u32> {
        self.kind_ids
            .find(hash_texts(&self.seed, parts), |&id| {
                kind_parts(&self.kinds[id as usize]) == parts
            })
            .copied()
    }

    /// The profile type's id, and whether it is new.
    pub(super) fn add_kind(&mut self, kind: ProfileType) -> (u32, Added) {
        if let Some(id) = self.kind_id(kind_parts(&kind)) {
            return (id, Added::Known);
        }
        let id = self.kinds.len() as u32;
        self.kinds.push(kind);
        self.periods.push(0);
        let (seed, kinds) = (&self.seed, &self.kinds);
        let hash = |&id: &u32| hash_texts(seed, kind_parts(&kinds[id as usize]));
        self.kind_ids.insert_unique(hash(&id), id, hash);
        (id, Added::New)
    }

    pub(super) fn base(&self, series: u32, kind: u32) -> Option<&Base> {
        self.bases.get(&(series, kind))
    }

    pub(super) fn set_base(&mut self, series: u32, kind: u32, base: Base) {
        self.base_bytes += base.samples.len() as u64;
        if let Some(old) = self.bases.insert((series, kind), base) {
            self.base_bytes -= old.samples.len() as u64;
        }
    }

    pub(super) fn remove_base(&mut self, series: u32, kind: u32) {
        if let Some(old) = self.bases.remove(&(series, kind)) {
            self.base_bytes -= old.samples.len() as u64;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    New,
    Known,
}

pub(super) fn label_pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> + Clone {
    labels
        .iter()
        .map(|label| (label.name.as_ref(), label.value.as_ref()))
}

pub(super) fn kind_parts(kind: &ProfileType) -> [&str; 5] {
    [
        &kind.name,
        &kind.sample_type,
        &kind.sample_unit,
        &kind.period_type,
        &kind.period_unit,
    ]
}

fn hash_texts<'a>(seed: &RandomState, texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = seed.build_hasher();
    for text in texts {
        hash.write(text.as_bytes());
        hash.write_u8(0xff);
    }
    hash.finish()
}
