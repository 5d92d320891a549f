//! A head at one moment.

use std::sync::Arc;

use scoria_block::{ProfileRow, ProfileRows, SampleBatch};
use scoria_model::{Labels, ProfileType, TenantId, Timestamp};
use scoria_query::functions::FunctionTree;
use scoria_symbols::Symbols;

use super::functions::{KeptTree, TreeMemory};
use super::rows::SampleChunks;
use crate::record::samples::{self, SamplesError};

/// The profiles that a head had when it was taken. Clones share everything.
#[derive(Debug, Clone)]
pub struct HeadSnapshot {
    pub(super) tenant: TenantId,
    pub(super) service: Arc<str>,
    pub(super) symbols: Symbols,
    pub(super) functions: Arc<KeptTree>,
    pub(super) series: Arc<Vec<Labels>>,
    pub(super) kinds: Arc<Vec<ProfileType>>,
    pub(super) rows: Arc<[Arc<ProfileRows>]>,
    pub(super) samples: SampleChunks,
    pub(super) n_samples: u64,
    pub(super) has_spans: bool,
    pub(super) times: Option<(Timestamp, Timestamp)>,
}

impl HeadSnapshot {
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    /// What the samples' stacks are nodes of.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The function tree of [`HeadSnapshot::symbols`].
    pub(crate) fn functions(&self, memory: &TreeMemory) -> Arc<FunctionTree> {
        self.functions.of(&self.symbols, memory)
    }

    pub fn series(&self) -> &[Labels] {
        &self.series
    }

    pub fn kinds(&self) -> &[ProfileType] {
        &self.kinds
    }

    /// The profiles in the order of their records, in chunks. `samples_start` is an address that
    /// only [`HeadSnapshot::samples`] of this head understands.
    pub fn rows(&self) -> &[Arc<ProfileRows>] {
        &self.rows
    }

    pub fn n_profiles(&self) -> usize {
        self.rows.iter().map(|chunk| chunk.len()).sum()
    }

    pub fn n_samples(&self) -> u64 {
        self.n_samples
    }

    /// Whether a sample names a span or a trace.
    pub const fn has_spans(&self) -> bool {
        self.has_spans
    }

    /// The times of the earliest and the latest profile.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        self.times
    }

    /// Appends a profile's samples to `batch`, sorted by stack node.
    ///
    /// # Errors
    /// If the row is not one of this head's.
    pub fn samples(&self, row: &ProfileRow, batch: &mut SampleBatch) -> Result<(), SamplesError> {
        let bytes = self.samples.at_address(row.samples_start);
        samples::decode(bytes, row.n_samples as usize, batch)
    }

    /// The profiles that `keep` chooses with all their samples decoded, `samples_start` being the
    /// first sample's place in the batch: what a block is written from.
    ///
    /// # Errors
    /// As [`HeadSnapshot::samples`].
    pub fn collect(
        &self,
        mut keep: impl FnMut(&ProfileRow) -> bool,
    ) -> Result<(ProfileRows, SampleBatch), SamplesError> {
        let mut rows = ProfileRows::default();
        let mut batch = SampleBatch::default();
        for mut row in self.rows.iter().flat_map(|chunk| chunk.iter()) {
            if keep(&row) {
                let start = batch.len() as u64;
                self.samples(&row, &mut batch)?;
                row.samples_start = start;
                rows.push(row);
            }
        }
        Ok((rows, batch))
    }
}
