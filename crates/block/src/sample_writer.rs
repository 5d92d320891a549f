//! Encodes a sample table. The encoding of its values is chosen by trial, once, on the first rows.
//!
//! # Invariants
//! - A table that is encoded in one go has span columns exactly if a sample names a span or a trace; a
//!   larger one always has them, since a span may still come when its schema is already fixed, unless
//!   its writer was told that none will.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use crate::layout::{self, ColumnEncoding, OptionalColumns};
use crate::table_writer::{TableWriter, encode_error};
use crate::{BlockError, Table, TableMeta};

/// How many rows wait before they are encoded: a row group's worth.
const WAITING_ROWS: usize = 1024 * 1024;
/// The value encoding is tried on pages of this many rows from all over the waiting rows, which are
/// sorted by profile type: the first ones alone would speak for one type.
const TRIAL_PAGE_ROWS: usize = 16 * 1024;
const TRIAL_PAGES: usize = 16;

/// One sample in the order of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Distance to the rank of the profile's sample before, or the first one's rank.
    pub(crate) rank_delta: u32,
    pub(crate) value: i64,
    /// Row of the profile.
    pub(crate) profile: u32,
    pub(crate) span: u64,
    pub(crate) trace: [u8; 16],
}

/// The samples of one profile on their way into the order of the format.
///
/// Most have neither span nor trace: those are sorted as plain numbers.
#[derive(Debug, Default)]
pub(crate) struct RankedSamples {
    /// Rank, then the place in `values`.
    plain: Vec<u64>,
    values: Vec<i64>,
    /// All of the profile's samples as soon as one has a span or a trace.
    spanned: Vec<(u32, u64, [u8; 16], i64)>,
}

impl RankedSamples {
    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.values.clear();
        self.spanned.clear();
    }

    pub(crate) fn push(&mut self, rank: u32, value: i64, (span, trace): (u64, [u8; 16])) {
        if span == 0 && trace == [0; 16] && self.spanned.is_empty() {
            self.push_plain(rank, value);
            return;
        }
        let plain = self.plain.drain(..).zip(self.values.drain(..));
        self.spanned
            .extend(plain.map(|(key, value)| (rank_of(key), 0, [0; 16], value)));
        self.spanned.push((rank, span, trace, value));
    }

    /// A sample of a profile none of whose samples has a span or a trace.
    pub(crate) fn push_plain(&mut self, rank: u32, value: i64) {
        // A profile has fewer than 2^32 samples.
        let place = self.values.len() as u64;
        self.plain.push(u64::from(rank) << 32 | place);
        self.values.push(value);
    }

    /// Hands out (rank, value, (span, trace)), sorted by rank, span, trace and value.
    pub(crate) fn sorted(&mut self, mut visit: impl FnMut(u32, i64, (u64, [u8; 16]))) {
        self.plain.sort_unstable();
        let value = |key: u64| self.values[(key & u64::from(u32::MAX)) as usize];
        for of_rank in self.plain.chunk_by(|&a, &b| rank_of(a) == rank_of(b)) {
            if let &[key] = of_rank {
                visit(rank_of(key), value(key), (0, [0; 16]));
                continue;
            }
            let mut values: Vec<i64> = of_rank.iter().map(|&key| value(key)).collect();
            values.sort_unstable();
            let rank = of_rank.first().map_or(0, |&key| rank_of(key));
            for value in values {
                visit(rank, value, (0, [0; 16]));
            }
        }
        self.spanned.sort_unstable();
        for &(rank, span, trace, value) in &self.spanned {
            visit(rank, value, (span, trace));
        }
    }
}

const fn rank_of(key: u64) -> u32 {
    (key >> 32) as u32
}

#[derive(Debug)]
pub(crate) struct SampleWriter {
    table: Table,
    writer: Option<(TableWriter, OptionalColumns)>,
    rows: u64,
    /// No sample will name a span or a trace.
    spanless: bool,
    rank_delta: Vec<u32>,
    value: Vec<i64>,
    profile: Vec<u32>,
    /// Shorter than `value` where the last samples have none.
    span: Vec<u64>,
    trace: Vec<[u8; 16]>,
}

impl SampleWriter {
    pub(crate) const fn new(table: Table) -> Self {
        Self {
            table,
            writer: None,
            rows: 0,
            spanless: false,
            rank_delta: Vec::new(),
            value: Vec::new(),
            profile: Vec::new(),
            span: Vec::new(),
            trace: Vec::new(),
        }
    }

    pub(crate) const fn table(&self) -> Table {
        self.table
    }

    /// No sample that is pushed will name a span or a trace.
    pub(crate) const fn without_spans(&mut self) {
        self.spanless = true;
    }

    /// Bytes that are encoded already, roughly.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        let writer = self.writer.as_ref();
        writer.map_or(0, |(writer, _)| writer.encoded_bytes())
    }

    /// Rows pushed so far.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        let at = self.value.len();
        self.rank_delta.push(sample.rank_delta);
        self.value.push(sample.value);
        self.profile.push(sample.profile);
        if sample.span != 0 {
            self.span.resize(at, 0);
            self.span.push(sample.span);
        }
        if sample.trace != [0; 16] {
            self.trace.resize(at, [0; 16]);
            self.trace.push(sample.trace);
        }
        self.rows += 1;
    }

    /// Encodes what waits if that is enough; called between profiles.
    pub(crate) fn encode_full(&mut self) -> Result<(), BlockError> {
        if self.value.len() < WAITING_ROWS {
            return Ok(());
        }
        let spans = OptionalColumns {
            span: !self.spanless,
            trace: !self.spanless,
            ..OptionalColumns::default()
        };
        self.encode(spans)?;
        self.rank_delta.reserve(WAITING_ROWS);
        self.value.reserve(WAITING_ROWS);
        self.profile.reserve(WAITING_ROWS);
        Ok(())
    }

    /// Encodes what waits; `spans` counts the first time only.
    fn encode(&mut self, spans: OptionalColumns) -> Result<(), BlockError> {
        if self.spanless && !(self.span.is_empty() && self.trace.is_empty()) {
            let what = "a sample names a span or a trace, and the table was begun without them";
            return Err(BlockError::Encode {
                table: self.table,
                what: what.to_owned(),
            });
        }
        let (writer, spans) = match &mut self.writer {
            Some((writer, spans)) => (writer, *spans),
            None => {
                let value = smallest_encoding(self.table, &self.value)?;
                let writer = TableWriter::with_shape(self.table, spans, value)?;
                let (writer, spans) = self.writer.insert((writer, spans));
                (writer, *spans)
            }
        };
        let n = self.value.len();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(std::mem::take(&mut self.rank_delta))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.value))),
            Arc::new(UInt32Array::from(std::mem::take(&mut self.profile))),
        ];
        if spans.span {
            self.span.resize(n, 0);
            columns.push(Arc::new(UInt64Array::from(std::mem::take(&mut self.span))));
        }
        if spans.trace {
            self.trace.resize(n, [0; 16]);
            let bytes = Buffer::from_vec(self.trace.as_flattened().to_vec());
            self.trace.clear();
            let array = FixedSizeBinaryArray::try_new(16, bytes, None)
                .map_err(|e| encode_error(self.table, &e))?;
            columns.push(Arc::new(array));
        }
        writer.write(columns)
    }

    pub(crate) fn finish(mut self) -> Result<Option<(TableMeta, Bytes)>, BlockError> {
        let spans = OptionalColumns {
            span: !self.span.is_empty(),
            trace: !self.trace.is_empty(),
            ..OptionalColumns::default()
        };
        if !self.value.is_empty() {
            self.encode(spans)?;
        }
        match self.writer {
            Some((writer, _)) => writer.finish(),
            None => Ok(None),
        }
    }
}

/// Encodes the values every way and keeps the way that took the fewest bytes.
fn smallest_encoding(table: Table, values: &[i64]) -> Result<ColumnEncoding, BlockError> {
    let schema = Arc::new(Schema::new(vec![Field::new(
        "value",
        DataType::Int64,
        false,
    )]));
    let array: ArrayRef = Arc::new(Int64Array::from(trial_rows(values)));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array])
        .map_err(|e| encode_error(table, &e))?;
    let size = |encoding| -> Result<usize, parquet::errors::ParquetError> {
        let options = ArrowWriterOptions::new()
            .with_properties(layout::properties(table, encoding)?)
            .with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
        writer.write(&batch)?;
        Ok(writer.into_inner()?.len())
    };
    let mut best = (usize::MAX, ColumnEncoding::Plain);
    for encoding in ColumnEncoding::FOR_VALUES {
        let bytes = size(encoding).map_err(|e| encode_error(table, &e))?;
        if bytes < best.0 {
            best = (bytes, encoding);
        }
    }
    Ok(best.1)
}

/// All values if they are few, else evenly spread pages of them.
fn trial_rows(values: &[i64]) -> Vec<i64> {
    if values.len() <= TRIAL_PAGES * TRIAL_PAGE_ROWS {
        return values.to_vec();
    }
    let step = (values.len() - TRIAL_PAGE_ROWS) / (TRIAL_PAGES - 1);
    (0..TRIAL_PAGES)
        .flat_map(|page| &values[page * step..page * step + TRIAL_PAGE_ROWS])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: i64, span: u64) -> Sample {
        Sample {
            rank_delta: 1,
            value,
            profile: 0,
            span,
            trace: [0; 16],
        }
    }

    /// More rows than are encoded in one go, the last of which names `span`.
    fn large(mut writer: SampleWriter, span: u64) -> Result<TableMeta, BlockError> {
        for at in 0..WAITING_ROWS as i64 {
            writer.push(sample(at % 7, 0));
        }
        writer.encode_full()?;
        writer.push(sample(1, span));
        let (meta, _) = writer.finish()?.unwrap();
        assert_eq!(meta.rows, WAITING_ROWS as u64 + 1);
        Ok(meta)
    }

    fn spanless(table: Table) -> SampleWriter {
        let mut writer = SampleWriter::new(table);
        writer.without_spans();
        writer
    }

    #[test]
    fn a_large_table_has_span_columns_unless_none_will_come() {
        let has_spans = |meta: &TableMeta| crate::OpenTable::new(meta).unwrap().has_spans();
        let any = SampleWriter::new(Table::Samples);
        assert!(has_spans(&large(any, 7).unwrap()));
        let none = large(spanless(Table::Samples), 0).unwrap();
        assert!(!has_spans(&none));
        let refused = large(spanless(Table::Samples), 7).unwrap_err();
        assert!(refused.to_string().contains("names a span"), "{refused}");
        // Sums are of many samples and name none.
        large(spanless(Table::Rollup5m), 0).unwrap();
    }

    #[test]
    fn samples_are_sorted_by_rank_then_origin_then_value() {
        let sorted = |samples: &[(u32, i64, u64)]| {
            let mut ranked = RankedSamples::default();
            for &(rank, value, span) in samples {
                ranked.push(rank, value, (span, [0; 16]));
            }
            let mut out = Vec::new();
            ranked.sorted(|rank, value, (span, _)| out.push((rank, value, span)));
            out
        };
        assert_eq!(
            sorted(&[(9, 1, 0), (2, 5, 0), (2, -5, 0), (2, 3, 0), (0, 1, 0)]),
            [(0, 1, 0), (2, -5, 0), (2, 3, 0), (2, 5, 0), (9, 1, 0)]
        );
        assert_eq!(
            sorted(&[(9, 1, 0), (2, 5, 0), (2, -5, 8), (2, 3, 0), (0, 1, 0)]),
            [(0, 1, 0), (2, 3, 0), (2, 5, 0), (2, -5, 8), (9, 1, 0)]
        );
    }
}
