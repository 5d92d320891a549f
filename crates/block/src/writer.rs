//! Building a block: datasets in, encoded tables and their meta out.
//!
//! Datasets come in order and each becomes a run of rows in every table. What a head or a merge
//! has in order of arrival is put in the order of the format on the way: symbols sorted and stacks
//! in pre-order, profiles by (type, series, time), samples by stack rank within their profile.
//!
//! # Invariants
//! - The bytes of a block follow from its input and the format version alone.

use std::sync::Arc;

use bytes::Bytes;
use scoria_model::{BlockId, Labels, ProfileType, TenantId, Timestamp};
use scoria_symbols::Symbols;

use crate::dataset_rows::DatasetRows;
use crate::sample_writer::{RankedSamples, SampleWriter};
use crate::table_writer::TableWriter;
use crate::{
    BlockError, BlockMeta, DatasetMeta, FORMAT_VERSION, MergeScope, ProfileRows, SampleBatch,
    StreamRange, Table,
};

/// What a block is, apart from its rows.
#[derive(Debug, Clone)]
pub struct BlockSpec {
    pub id: BlockId,
    pub level: u8,
    pub streams: Vec<StreamRange>,
    pub inputs: Vec<BlockId>,
    /// What a merge took of its inputs.
    pub merge: Option<MergeScope>,
}

/// Everything one service of one tenant puts into a block.
#[derive(Debug, Clone, Copy)]
pub struct DatasetInput<'a> {
    pub tenant: &'a TenantId,
    pub service: &'a str,
    pub symbols: &'a Symbols,
    /// By series index. Series that no profile names are left out of the block.
    pub series: &'a [Labels],
    /// By kind index. Types that no profile has are left out of the block.
    pub kinds: &'a [ProfileType],
    /// In any order. `samples_start` points into `samples`.
    pub profiles: &'a ProfileRows,
    /// `stack` is a node of `symbols`.
    pub samples: &'a SampleBatch,
}

impl DatasetInput<'_> {
    pub(crate) fn refuse(&self, what: impl Into<String>) -> BlockError {
        BlockError::Input {
            tenant: self.tenant.to_string(),
            service: self.service.to_owned(),
            what: what.into(),
        }
    }
}

/// A finished block.
#[derive(Debug, Clone)]
pub struct EncodedBlock {
    pub meta: BlockMeta,
    /// Sorted by table; only those that have rows.
    pub tables: Vec<(Table, Bytes)>,
    /// `manifest.json`, to be written last.
    pub manifest: Bytes,
}

/// Takes datasets in (tenant, service) order. Holds the encoded tables, and of the sample tables
/// up to some hundred thousand rows that are not encoded yet.
#[derive(Debug)]
pub struct BlockWriter {
    spec: BlockSpec,
    datasets: Vec<DatasetMeta>,
    /// Series, profiles and the symbol tables, by [`Table::index`]; `None` for the sample tables.
    plain: [Option<TableWriter>; Table::COUNT],
    /// Samples and snapshots.
    samples: [SampleWriter; 2],
}

impl BlockWriter {
    /// # Errors
    /// Only if the Parquet encoder refuses the schema.
    pub fn new(spec: BlockSpec) -> Result<Self, BlockError> {
        let mut plain = [const { None }; Table::COUNT];
        for table in Table::ALL {
            if !matches!(table, Table::Samples | Table::Snapshots) {
                plain[table.index()] = Some(TableWriter::new(table)?);
            }
        }
        Ok(Self {
            spec,
            datasets: Vec::new(),
            plain,
            samples: [
                SampleWriter::new(Table::Samples),
                SampleWriter::new(Table::Snapshots),
            ],
        })
    }

    /// Adds a dataset; one without profiles leaves no trace.
    ///
    /// # Errors
    /// [`BlockError::Input`] if it does not sort after the dataset before it, or if a row names a
    /// series, type, stream, sample or stack that is not there.
    pub fn add(&mut self, input: DatasetInput<'_>) -> Result<(), BlockError> {
        self.check_order(input.tenant, input.service)?;
        if input.profiles.is_empty() {
            return Ok(());
        }
        let rows = DatasetRows::new(&input, self.spec.streams.len())?;
        let of = (input.tenant, input.service);
        let mut fill = |at: usize, out: &mut RankedSamples| {
            rows.fill_from(&input, at, out);
            Ok(())
        };
        self.append(of, &rows, &mut fill)
    }

    /// Appends the rows of a dataset; `fill` hands out the samples of a profile of the input, in
    /// the order of the file and once for each sample table.
    pub(crate) fn append(
        &mut self,
        (tenant, service): (&TenantId, &str),
        rows: &DatasetRows,
        fill: &mut dyn FnMut(usize, &mut RankedSamples) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let before = self.rows();
        for (table, columns) in rows.tables(self.datasets.len() as u32)? {
            if let Some(writer) = &mut self.plain[table.index()] {
                writer.write(columns)?;
            }
        }
        let first_profile = before[Table::Profiles.index()];
        for writer in &mut self.samples {
            rows.write_samples((tenant, service), first_profile, writer, fill)?;
        }
        let after = self.rows();
        self.datasets.push(DatasetMeta {
            tenant: tenant.clone(),
            service: Arc::from(service),
            min_time: rows.min_time(),
            max_time: rows.max_time(),
            rows: Table::ALL.map(|table| before[table.index()]..after[table.index()]),
            kinds: rows.kinds().to_vec(),
            n_stacks: rows.n_stacks(),
        });
        Ok(())
    }

    /// Refuses a dataset that does not sort after the one before it.
    pub(crate) fn check_order(&self, tenant: &TenantId, service: &str) -> Result<(), BlockError> {
        match self.datasets.last() {
            Some(last) if (&last.tenant, last.service.as_ref()) >= (tenant, service) => {
                Err(BlockError::Input {
                    tenant: tenant.to_string(),
                    service: service.to_owned(),
                    what: format!(
                        "it comes after {}/{}; datasets go in order of tenant and service, each once",
                        last.tenant, last.service
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// What the block is, apart from its rows.
    pub const fn spec(&self) -> &BlockSpec {
        &self.spec
    }

    /// Says that no other output of the same merge follows.
    pub fn ends_merge(&mut self) {
        if let Some(merge) = &mut self.spec.merge {
            merge.last = true;
        }
    }

    /// Size of what is encoded so far, roughly; some rows wait beside it.
    pub fn encoded_bytes(&self) -> u64 {
        let plain = self.plain.iter().flatten();
        let samples = self.samples.iter().map(SampleWriter::encoded_bytes);
        plain.map(TableWriter::encoded_bytes).chain(samples).sum()
    }

    /// Rows of each table so far.
    fn rows(&self) -> [u64; Table::COUNT] {
        let mut rows = [0; Table::COUNT];
        for writer in &self.samples {
            rows[writer.table().index()] = writer.rows();
        }
        for (at, writer) in self.plain.iter().enumerate() {
            if let Some(writer) = writer {
                rows[at] = writer.rows();
            }
        }
        rows
    }

    /// Whether no dataset has left a row.
    pub fn is_empty(&self) -> bool {
        self.datasets.is_empty()
    }

    /// # Errors
    /// Only if the Parquet encoder refuses.
    pub fn finish(self) -> Result<EncodedBlock, BlockError> {
        let [samples, snapshots] = self.samples;
        let mut finished = Vec::new();
        for writer in self.plain.into_iter().flatten() {
            finished.extend(writer.finish()?);
        }
        finished.extend(samples.finish()?);
        finished.extend(snapshots.finish()?);
        finished.sort_by_key(|(meta, _)| meta.table);
        let times = |of: fn(&DatasetMeta) -> Timestamp| self.datasets.iter().map(of);
        let meta = BlockMeta {
            id: self.spec.id,
            level: self.spec.level,
            version: FORMAT_VERSION,
            min_time: times(|d| d.min_time).min().unwrap_or_default(),
            max_time: times(|d| d.max_time).max().unwrap_or_default(),
            bytes: finished.iter().map(|(meta, _)| meta.bytes).sum(),
            tables: finished.iter().map(|(meta, _)| meta.clone()).collect(),
            datasets: self.datasets,
            streams: self.spec.streams,
            inputs: self.spec.inputs,
            merge: self.spec.merge,
        };
        let manifest = meta.to_manifest()?;
        Ok(EncodedBlock {
            meta,
            tables: finished
                .into_iter()
                .map(|(meta, bytes)| (meta.table, bytes))
                .collect(),
            manifest,
        })
    }
}
