//! Heads: what has been logged and not flushed, ready to be asked.
//!
//! A [`Head`] holds the profiles of one dataset of one generation; [`Heads`] are all datasets of
//! it. They take the [`HeadAppend`]s of durable records and hand out [`HeadSnapshot`]s, which
//! queries and the flush read without holding anything up.
//!
//! ```text
//! HeadAppend ──► Head: series, kinds        copied when a snapshot still reads them
//!                      rows      ┐ frozen chunks, shared with snapshots
//!                      samples   ┘ and a tail, copied by snapshots
//!                      symbols     the record writer's dictionary
//!                      functions   the tree by function names, once a query needed it
//! ```
//! Samples stay as the record encoded them, in full: a few bytes each, decoded when asked for.
//!
//! # Invariants
//! - Only what is durable is appended: a head never shows what a crash could take back.
//! - A snapshot never changes, and its symbols hold every node that its samples name.
//! - Series and kinds are numbered as the records number them; rows stand in the order of records.
//!
//! # What it must not know
//! Logs, blocks' files, and who asks.

pub(crate) mod functions;
mod rows;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use scoria_model::{Labels, ProfileType, Seq, TenantId, Timestamp};

use crate::record::{HeadAppend, Push, SharedDictionary, samples};
use functions::KeptTree;
use rows::{Rows, SampleBytes};

pub use snapshot::HeadSnapshot;

/// The recent profiles of one (tenant, service).
#[derive(Debug)]
pub struct Head {
    tenant: TenantId,
    service: Arc<str>,
    dictionary: SharedDictionary,
    functions: Arc<KeptTree>,
    series: Arc<Vec<Labels>>,
    kinds: Arc<Vec<ProfileType>>,
    label_bytes: u64,
    rows: Rows,
    samples: SampleBytes,
    n_samples: u64,
    has_spans: bool,
    /// Of the earliest and the latest profile.
    times: Option<(Timestamp, Timestamp)>,
}

impl Head {
    /// An empty head for the dataset that the append speaks of.
    pub fn new(append: &HeadAppend) -> Self {
        Self {
            tenant: append.tenant.clone(),
            service: Arc::clone(&append.service),
            dictionary: Arc::clone(&append.dictionary),
            functions: Arc::default(),
            series: Arc::default(),
            kinds: Arc::default(),
            label_bytes: 0,
            rows: Rows::default(),
            samples: SampleBytes::default(),
            n_samples: 0,
            has_spans: false,
            times: None,
        }
    }

    /// Takes what the record with number `seq` says of this dataset: one of the heads of `push`.
    /// Records come in order, each once, and from the one generation that the head was made for.
    pub fn append(&mut self, append: &HeadAppend, push: &Push, seq: Seq) {
        if !append.series.is_empty() {
            self.label_bytes += append.series.iter().map(labels_bytes).sum::<u64>();
            Arc::make_mut(&mut self.series).extend_from_slice(&append.series);
        }
        if !append.kinds.is_empty() {
            Arc::make_mut(&mut self.kinds).extend_from_slice(&append.kinds);
        }
        let mut start = 0;
        for profile in &append.profiles {
            let end = profile.samples_end as usize;
            let samples = &append.samples[start..end];
            self.has_spans |= samples::has_links(samples);
            let samples_start = self.samples.push(samples);
            start = end;
            let write = push.write_of(profile);
            self.rows.push(profile, samples_start, (seq, write));
            self.n_samples += u64::from(profile.n_samples);
            let time = profile.time;
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
    }

    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    /// Number of profiles.
    pub fn n_profiles(&self) -> u64 {
        self.rows.len() as u64
    }

    pub fn n_samples(&self) -> u64 {
        self.n_samples
    }

    /// The times of the earliest and the latest profile.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        self.times
    }

    /// Memory held, symbols included; the function tree has memory of its own.
    pub fn bytes(&self) -> u64 {
        let tables = self.series.capacity() * size_of::<Labels>()
            + self.kinds.capacity() * size_of::<ProfileType>()
            + size_of::<Self>();
        self.rows.bytes()
            + self.samples.bytes()
            + self.label_bytes
            + tables as u64
            + self.dictionary.lock().bytes()
    }

    /// The head as it is now. Costs the number of chunks and one unfinished chunk of each column,
    /// not the number of profiles.
    pub fn snapshot(&self) -> HeadSnapshot {
        HeadSnapshot {
            tenant: self.tenant.clone(),
            service: Arc::clone(&self.service),
            symbols: self.dictionary.lock().snapshot(),
            functions: Arc::clone(&self.functions),
            series: Arc::clone(&self.series),
            kinds: Arc::clone(&self.kinds),
            rows: self.rows.snapshot(),
            samples: self.samples.snapshot(),
            n_samples: self.n_samples,
            has_spans: self.has_spans,
            times: self.times,
        }
    }
}

/// Two texts with their reference counts, and the pointers to them.
fn labels_bytes(labels: &Labels) -> u64 {
    let texts = labels
        .iter()
        .map(|label| label.name.len() + label.value.len() + 64);
    texts.sum::<usize>() as u64
}

/// The heads of one generation.
#[derive(Debug, Default)]
pub struct Heads {
    heads: BTreeMap<(TenantId, Arc<str>), Counted>,
    bytes: u64,
    samples: SampleCounts,
}

/// How many samples heads hold: what flushing them takes follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SampleCounts {
    /// Of the head with the most.
    pub largest: u64,
    /// Of all heads.
    pub all: u64,
}

#[derive(Debug)]
struct Counted {
    head: Head,
    /// What it last added to the sum.
    bytes: u64,
}

impl Heads {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a durable push, the record with number `seq`.
    pub fn append(&mut self, push: &Push, seq: Seq) {
        for append in &push.heads {
            let key = (append.tenant.clone(), Arc::clone(&append.service));
            let counted = self.heads.entry(key).or_insert_with(|| Counted {
                head: Head::new(append),
                bytes: 0,
            });
            let before = counted.head.n_samples();
            counted.head.append(append, push, seq);
            let n_samples = counted.head.n_samples();
            self.samples.all += n_samples - before;
            self.samples.largest = self.samples.largest.max(n_samples);
            let bytes = counted.head.bytes();
            self.bytes = self.bytes + bytes - counted.bytes;
            counted.bytes = bytes;
        }
    }

    /// In order of (tenant, service): the order in which a block takes datasets.
    pub fn iter(&self) -> impl Iterator<Item = &Head> {
        self.heads.values().map(|counted| &counted.head)
    }

    /// Those of one tenant, in order of service.
    pub fn of_tenant<'a>(&'a self, tenant: &'a TenantId) -> impl Iterator<Item = &'a Head> {
        let first = (tenant.clone(), Arc::from(""));
        self.heads
            .range(first..)
            .take_while(move |((of, _), _)| of == tenant)
            .map(|(_, counted)| &counted.head)
    }

    pub fn get(&self, tenant: &TenantId, service: &str) -> Option<&Head> {
        let key = (tenant.clone(), Arc::from(service));
        self.heads.get(&key).map(|counted| &counted.head)
    }

    /// Number of datasets.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Memory held by all heads, as of each one's last append.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn samples(&self) -> SampleCounts {
        self.samples
    }
}

#[cfg(test)]
mod tests;
