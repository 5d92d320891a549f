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
use crate::rollup::{Resolution, Rolled, RollupSink};
use crate::sample_writer::{RankedSamples, SampleWriter};
use crate::table_writer::TableWriter;
use crate::{
    BlockError, BlockMeta, DatasetMeta, FORMAT_VERSION, MergeScope, ProfileRows, SampleBatch,
    StreamRange, Table,
};

/// Highest level whose profiles have the keys of their writes. A merge into it cannot have seen all
/// copies of a write where it took part of an hour; one into the next level sees a day.
const LEVEL_WITH_WRITES_MAX: u8 = 1;

const fn has_writes(level: u8) -> bool {
    level <= LEVEL_WITH_WRITES_MAX
}

/// What a block is, apart from its rows.
#[derive(Debug, Clone)]
pub struct BlockSpec {
    pub id: BlockId,
    pub level: u8,
    pub streams: Vec<StreamRange>,
    pub inputs: Vec<BlockId>,
    /// What a merge took of its inputs.
    pub merge: Option<MergeScope>,
    /// Labels by which roll-ups are kept apart beside [`crate::ROLLUP_LABELS`].
    pub rollup_labels: Vec<Arc<str>>,
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
    /// The tables without samples, by [`Table::index`].
    plain: [Option<TableWriter>; Table::COUNT],
    /// Samples and snapshots.
    samples: [SampleWriter; 2],
    /// Added-up samples, by [`Resolution::index`].
    sums: [SampleWriter; 2],
}

/// A dataset whose tables are written and whose roll-ups may follow.
pub(crate) struct Begun {
    /// Rows of each table before it.
    before: [u64; Table::COUNT],
}

impl BlockWriter {
    /// # Errors
    /// Only if the Parquet encoder refuses the schema.
    pub fn new(spec: BlockSpec) -> Result<Self, BlockError> {
        let mut plain = [const { None }; Table::COUNT];
        for table in Table::ALL {
            if !table.has_samples() {
                plain[table.index()] = Some(TableWriter::new(table, has_writes(spec.level))?);
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
            sums: Resolution::ALL.map(|resolution| {
                let mut sums = SampleWriter::new(resolution.table());
                sums.without_spans();
                sums
            }),
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
        let begun = self.begin(of, &rows, &mut fill)?;
        self.end(of, &rows, (begun, Vec::new()));
        Ok(())
    }

    /// Appends the rows of a dataset; `fill` hands out the samples of a profile of the input, in
    /// the order of the file and once for each sample table.
    pub(crate) fn begin(
        &mut self,
        (tenant, service): (&TenantId, &str),
        rows: &DatasetRows,
        fill: &mut dyn FnMut(usize, &mut RankedSamples) -> Result<(), BlockError>,
    ) -> Result<Begun, BlockError> {
        let before = self.rows();
        for (table, columns) in
            rows.tables(self.datasets.len() as u32, has_writes(self.spec.level))?
        {
            if let Some(writer) = &mut self.plain[table.index()] {
                writer.write(columns)?;
            }
        }
        let first_profile = before[Table::Profiles.index()];
        for writer in &mut self.samples {
            rows.write_samples((tenant, service), first_profile, writer, fill)?;
        }
        Ok(Begun { before })
    }

    /// Takes the roll-ups of the dataset that was begun; `labels` are what they are kept apart by.
    pub(crate) fn rollups<'a>(
        &'a mut self,
        labels: &'a [Labels],
        n_kinds: usize,
    ) -> Option<RollupSink<'a>> {
        let dataset = self.datasets.len() as u32;
        let index = self.plain[Table::Rollups.index()].as_mut()?;
        Some(RollupSink::new(
            index,
            &mut self.sums,
            (dataset, labels, n_kinds),
        ))
    }

    /// Ends the dataset; `rolled` says what its roll-ups stand for.
    pub(crate) fn end(
        &mut self,
        (tenant, service): (&TenantId, &str),
        rows: &DatasetRows,
        (begun, rolled): (Begun, Vec<Rolled>),
    ) {
        let (before, after) = (begun.before, self.rows());
        self.datasets.push(DatasetMeta {
            tenant: tenant.clone(),
            service: Arc::from(service),
            min_time: rows.min_time(),
            max_time: rows.max_time(),
            rows: Table::ALL.map(|table| before[table.index()]..after[table.index()]),
            kinds: rows.kinds().to_vec(),
            n_stacks: rows.n_stacks(),
            rolled,
        });
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

    /// Says that no sample of any dataset will name a span or a trace; adding one that does is
    /// refused. A large block then lacks their columns, which it must have else: one that is not
    /// yet there when the first rows are encoded cannot be added any more.
    pub fn without_spans(&mut self) {
        self.samples
            .iter_mut()
            .for_each(SampleWriter::without_spans);
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
        let samples = self.samples.iter().chain(&self.sums);
        let samples = samples.map(SampleWriter::encoded_bytes);
        plain.map(TableWriter::encoded_bytes).chain(samples).sum()
    }

    /// Rows of each table so far.
    fn rows(&self) -> [u64; Table::COUNT] {
        let mut rows = [0; Table::COUNT];
        for writer in self.samples.iter().chain(&self.sums) {
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
        let mut finished = Vec::new();
        for writer in self.plain.into_iter().flatten() {
            finished.extend(writer.finish()?);
        }
        for writer in self.samples.into_iter().chain(self.sums) {
            finished.extend(writer.finish()?);
        }
        let rolled = finished.iter().any(|(meta, _)| meta.table.is_rollup());
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
            rollup_labels: if rolled {
                self.spec.rollup_labels
            } else {
                Vec::new()
            },
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
