//! An opened table: its footer and page index, parsed once from the meta, ready to plan reads and
//! to run them on fetched bytes.
//!
//! ```text
//! TableMeta ──OpenTable::new──► OpenTable ──ranges(rows, columns)──► the store fetches ──► Fetched
//!                                   └──────────────── read(rows, columns, fetched) ◄─────────┘
//! ```
//!
//! # Invariants
//! - [`OpenTable::ranges`] names whole pages, and exactly those that the same read will decode.
//! - A page is decoded only after its checksum was compared.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};

use crate::guard::guarded;
use crate::layout::{self, OptionalColumns};
use crate::pages::{PageMap, read_footer};
use crate::{BlockError, Fetched, Table, TableMeta};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 64 * 1024;

/// Which columns of a table a read needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Columns {
    /// What the table's decoder needs: everything but columns that are there for other readers of
    /// the files and, of samples, their spans and traces.
    Plain,
    /// Of samples: [`Columns::Plain`] and their spans and traces, where the table has them.
    WithSpans,
    /// Of profiles: [`Columns::Plain`] and the keys of their writes, where the table has them.
    WithWrites,
    /// Of profiles: type, series, time, period and how many samples there are, which is what adding
    /// stacks up takes and a third of the bytes.
    Placed,
}

impl Columns {
    fn names(self, table: Table) -> &'static [&'static str] {
        match (table, self) {
            (Table::Series, _) => &["labels"],
            (Table::Profiles, Self::WithWrites) => layout::KEYED_PROFILE_COLUMNS,
            (Table::Profiles, Self::Placed) => layout::PLACED_PROFILE_COLUMNS,
            (Table::Profiles, _) => layout::DECODED_PROFILE_COLUMNS,
            (Table::Samples | Table::Snapshots, Self::WithSpans) => &[
                layout::RANK_DELTA,
                layout::VALUE,
                layout::SPAN_ID,
                layout::TRACE_ID,
            ],
            (Table::Samples | Table::Snapshots, _) => &[layout::RANK_DELTA, layout::VALUE],
            (Table::Rollups, _) => layout::DECODED_ROLLUP_COLUMNS,
            (Table::Rollup5m | Table::Rollup1h, _) => &[layout::RANK_DELTA, layout::VALUE],
            (Table::Stacks, _) => &["up", "location", "n_samples"],
            (Table::Locations, _) => &["mapping", "address", "lines"],
            (Table::Functions, _) => &["name", "system_name", "filename", "start_line"],
            (Table::Mappings, _) => &["start", "limit", "offset", "filename", "build_id", "flags"],
            (Table::Strings, _) => &["string"],
        }
    }
}

/// A table whose footer has been parsed. Immutable and worth caching.
#[derive(Debug)]
pub struct OpenTable {
    table: Table,
    rows: u64,
    bytes: u64,
    pages: PageMap,
    page_checksums: Vec<u32>,
    arrow: ArrowReaderMetadata,
    /// The root column of each leaf column.
    roots: Vec<usize>,
}

impl OpenTable {
    /// Parses the table's tail.
    ///
    /// # Errors
    /// [`BlockError::Damaged`] if the tail is no footer, does not fit the meta, or describes other
    /// columns than the table has.
    pub fn new(meta: &TableMeta) -> Result<Self, BlockError> {
        let table = meta.table;
        let metadata = Arc::new(read_footer(table, &meta.tail, meta.bytes)?);
        let pages = PageMap::new(table, &metadata)?;
        let rows = pages.row_groups().last().map_or(0, |rows| rows.end);
        let tail_start = meta.bytes.checked_sub(meta.tail.len() as u64);
        if rows != meta.rows
            || tail_start != Some(pages.end())
            || pages.pages().len() != meta.page_checksums.len()
        {
            return Err(BlockError::damaged(
                table,
                format!(
                    "its footer tells of {rows} rows in {} pages up to byte {}, its meta of {} rows in {} pages up to {tail_start:?}",
                    pages.pages().len(),
                    pages.end(),
                    meta.rows,
                    meta.page_checksums.len()
                ),
            ));
        }
        let parquet = metadata.file_metadata().schema_descr();
        let names: Vec<&str> = parquet
            .root_schema()
            .get_fields()
            .iter()
            .map(|field| field.name())
            .collect();
        let schema = layout::schema(
            table,
            OptionalColumns {
                span: names.contains(&layout::SPAN_ID),
                trace: names.contains(&layout::TRACE_ID),
                write: names.contains(&layout::WRITE_KEY),
            },
        );
        let roots = (0..parquet.num_columns())
            .map(|leaf| parquet.get_column_root_idx(leaf))
            .collect();
        let options = ArrowReaderOptions::new()
            .with_page_index_policy(PageIndexPolicy::Required)
            .with_schema(schema);
        let arrow = guarded(table, || ArrowReaderMetadata::try_new(metadata, options))?;
        Ok(Self {
            table,
            rows,
            bytes: meta.bytes,
            pages,
            page_checksums: meta.page_checksums.clone(),
            arrow,
            roots,
        })
    }

    pub const fn table(&self) -> Table {
        self.table
    }

    /// Rows of the whole table.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether its samples may name spans or traces.
    pub fn has_spans(&self) -> bool {
        let schema = self.arrow.schema();
        let has = |name| schema.field_with_name(name).is_ok();
        has(layout::SPAN_ID) || has(layout::TRACE_ID)
    }

    /// Every page with its header, in file order, as [`TableMeta::page_checksums`] has them.
    pub fn page_ranges(&self) -> Vec<Range<u64>> {
        self.pages.byte_ranges().collect()
    }

    /// Memory that the opened table holds, in bytes, roughly.
    pub fn memory_bytes(&self) -> u64 {
        let pages = self.pages.pages().len() * 48 + self.page_checksums.len() * 4;
        (self.arrow.metadata().memory_size() + pages) as u64
    }

    /// The byte ranges that a read of `rows` (sorted, not overlapping) needs: whole pages and the
    /// dictionary pages that go with them, in file order, with touching ranges joined.
    ///
    /// # Errors
    /// [`BlockError::Rows`] if the table does not have the rows.
    pub fn ranges(
        &self,
        rows: &[Range<u64>],
        columns: Columns,
    ) -> Result<Vec<Range<u64>>, BlockError> {
        self.check_rows(rows)?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for page in self.needed(rows, columns) {
            let bytes = &self.pages.pages()[page].bytes;
            match ranges.last_mut() {
                Some(last) if last.end == bytes.start => last.end = bytes.end,
                _ => ranges.push(bytes.clone()),
            }
        }
        Ok(ranges)
    }

    /// Numbers of the pages that a read needs, in file order.
    fn needed<'a>(
        &'a self,
        rows: &'a [Range<u64>],
        columns: Columns,
    ) -> impl Iterator<Item = usize> + 'a {
        let wanted = self.wanted_roots(columns);
        let pages = self.pages.pages().iter().enumerate();
        pages
            .filter(move |(_, page)| {
                wanted
                    .get(self.roots[page.column])
                    .copied()
                    .unwrap_or(false)
                    && any_overlap(rows, &page.rows)
            })
            .map(|(at, _)| at)
    }

    /// Whether each root column is wanted.
    fn wanted_roots(&self, columns: Columns) -> Vec<bool> {
        let names = columns.names(self.table);
        self.arrow
            .schema()
            .fields()
            .iter()
            .map(|field| names.contains(&field.name().as_str()))
            .collect()
    }

    fn check_rows(&self, rows: &[Range<u64>]) -> Result<(), BlockError> {
        let mut next = 0;
        for range in rows {
            if range.start < next || range.end < range.start || range.end > self.rows {
                return Err(BlockError::Rows {
                    table: self.table,
                    start: range.start,
                    end: range.end,
                    rows: self.rows,
                });
            }
            next = range.end;
        }
        Ok(())
    }

    /// Decodes `rows` (sorted, not overlapping) and hands them to `visit` in order, in batches.
    pub(crate) fn read(
        &self,
        (rows, columns): (&[Range<u64>], Columns),
        fetched: &Fetched,
        visit: &mut dyn FnMut(RecordBatch) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let mut batches = self.batches((rows, columns), fetched, BATCH_ROWS)?;
        while let Some(batch) = batches.next()? {
            visit(batch)?;
        }
        Ok(())
    }

    /// The same as [`OpenTable::read`], for a reader that goes at its own pace.
    pub(crate) fn batches(
        &self,
        (rows, columns): (&[Range<u64>], Columns),
        fetched: &Fetched,
        batch_rows: usize,
    ) -> Result<Batches, BlockError> {
        self.check_rows(rows)?;
        let asked = rows.iter().map(|rows| rows.end - rows.start).sum();
        let mut batches = Batches {
            table: self.table,
            asked,
            decoded: 0,
            reader: None,
        };
        if asked == 0 {
            return Ok(batches);
        }
        let planned = self.verified_pages(rows, columns, fetched)?;
        let (groups, selection) = self.selection(rows);
        let wanted = self.wanted_roots(columns);
        let mask = ProjectionMask::roots(
            self.arrow.parquet_schema(),
            (0..wanted.len()).filter(|&root| wanted[root]),
        );
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(planned, self.arrow.clone())
                .with_row_groups(groups)
                .with_row_selection(selection)
                .with_row_selection_policy(RowSelectionPolicy::Selectors)
                .with_projection(mask)
                .with_batch_size(batch_rows);
        batches.reader = Some(guarded(self.table, || builder.build())?);
        Ok(batches)
    }

    /// Finds the pages of a read in `fetched` and compares their checksums.
    fn verified_pages(
        &self,
        rows: &[Range<u64>],
        columns: Columns,
        fetched: &Fetched,
    ) -> Result<PlannedPages, BlockError> {
        let mut pages = Vec::new();
        for at in self.needed(rows, columns) {
            let range = &self.pages.pages()[at].bytes;
            let bytes = fetched.get(range).ok_or(BlockError::NotFetched {
                table: self.table,
                start: range.start,
                end: range.end,
            })?;
            let (stored, computed) = (self.page_checksums[at], crc32fast::hash(&bytes));
            if stored != computed {
                return Err(BlockError::damaged(
                    self.table,
                    format!(
                        "the page at bytes {}..{} has checksum {computed:08x}, its meta says {stored:08x}",
                        range.start, range.end
                    ),
                ));
            }
            pages.push((range.start, bytes));
        }
        Ok(PlannedPages {
            table: self.table,
            size: self.bytes,
            pages,
        })
    }

    /// The row groups that hold `rows`, and which of their rows those are.
    fn selection(&self, rows: &[Range<u64>]) -> (Vec<usize>, RowSelection) {
        let mut groups = Vec::new();
        let mut chosen: Vec<Range<usize>> = Vec::new();
        let mut before = 0u64;
        for (at, group) in self.pages.row_groups().iter().enumerate() {
            if !any_overlap(rows, group) {
                continue;
            }
            groups.push(at);
            let first = rows.partition_point(|range| range.end <= group.start);
            for range in rows[first..].iter().take_while(|r| r.start < group.end) {
                let start = range.start.max(group.start) - group.start + before;
                let end = range.end.min(group.end) - group.start + before;
                chosen.push(start as usize..end as usize);
            }
            before += group.end - group.start;
        }
        let selection = RowSelection::from_consecutive_ranges(chosen.into_iter(), before as usize);
        (groups, selection)
    }
}

/// The rows of one read, batch by batch.
pub(crate) struct Batches {
    table: Table,
    asked: u64,
    decoded: u64,
    reader: Option<ParquetRecordBatchReader>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches")
            .field("table", &self.table)
            .field("asked", &self.asked)
            .field("decoded", &self.decoded)
            .finish_non_exhaustive()
    }
}

impl Batches {
    /// The next rows; `None` once all that were asked for came.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, BlockError> {
        if let Some(reader) = &mut self.reader
            && let Some(batch) = guarded(self.table, || reader.next().transpose())?
        {
            self.decoded += batch.num_rows() as u64;
            return Ok(Some(batch));
        }
        self.reader = None;
        if self.decoded == self.asked {
            return Ok(None);
        }
        Err(BlockError::damaged(
            self.table,
            format!(
                "{} rows came out where {} were asked for",
                self.decoded, self.asked
            ),
        ))
    }
}

/// Whether any of the sorted `ranges` shares a row with `rows`.
fn any_overlap(ranges: &[Range<u64>], rows: &Range<u64>) -> bool {
    let first = ranges.partition_point(|range| range.end <= rows.start);
    ranges[first..]
        .iter()
        .take_while(|range| range.start < rows.end)
        .any(|range| !range.is_empty())
}

/// The pages of one read. Anything else that the Parquet reader asks for is an error.
#[derive(Debug)]
struct PlannedPages {
    table: Table,
    size: u64,
    /// Sorted by offset.
    pages: Vec<(u64, Bytes)>,
}

impl Length for PlannedPages {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for PlannedPages {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Err(self.outside(start, start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        self.pages
            .binary_search_by_key(&start, |(at, _)| *at)
            .ok()
            .and_then(|at| self.pages.get(at))
            .filter(|(_, bytes)| bytes.len() == length)
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| self.outside(start, end))
    }
}

impl PlannedPages {
    fn outside(&self, start: u64, end: u64) -> ParquetError {
        ParquetError::External(Box::new(BlockError::NotFetched {
            table: self.table,
            start,
            end,
        }))
    }
}
