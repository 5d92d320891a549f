//! Where the pages of a table lie, as its footer and page index say.
//!
//! # Invariants
//! - Pages lie in the file without gaps, from the magic at its start to the page index: row group
//!   by row group, column by column, the dictionary page of a column first.
//! - The data pages of a column hold every row of the row group once, in order.

use std::ops::Range;

use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};

use crate::guard::guarded;
use crate::{BlockError, Table};

/// `PAR1`, before the first page.
const MAGIC_BYTES: u64 = 4;

/// A page with its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) bytes: Range<u64>,
    /// Rows of the table that it holds; of a dictionary page, all of the row group.
    pub(crate) rows: Range<u64>,
    /// Number of the leaf column.
    pub(crate) column: usize,
}

/// All pages of a table, in file order.
#[derive(Debug)]
pub(crate) struct PageMap {
    pages: Vec<Page>,
    /// Rows of each row group.
    row_groups: Vec<Range<u64>>,
    /// Where the page index starts.
    end: u64,
}

impl PageMap {
    /// Of a whole file.
    pub(crate) fn of_file(table: Table, file: &bytes::Bytes) -> Result<Self, BlockError> {
        let metadata = read_footer(table, file, file.len() as u64)?;
        Self::new(table, &metadata)
    }

    pub(crate) fn new(table: Table, metadata: &ParquetMetaData) -> Result<Self, BlockError> {
        let mut map = Self {
            pages: Vec::new(),
            row_groups: Vec::new(),
            end: MAGIC_BYTES,
        };
        let mut first_row = 0u64;
        for (at, group) in metadata.row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows())
                .ok()
                .and_then(|n| first_row.checked_add(n))
                .map(|end| first_row..end)
                .ok_or_else(|| BlockError::damaged(table, "a row group has an impossible size"))?;
            let index = metadata.page_index_for_row_group(at);
            for (column, chunk) in group.columns().iter().enumerate() {
                let locations = index.page_locations(column).ok_or_else(|| {
                    BlockError::damaged(table, format!("column {column} has no page index"))
                })?;
                let start = chunk_start(chunk);
                let before = map.end;
                if let Some(first) = locations.first()
                    && first.offset != start
                {
                    let length = first.offset.wrapping_sub(start);
                    let bytes = map.next_page(table, start, length)?;
                    map.pages.push(Page {
                        bytes,
                        rows: rows.clone(),
                        column,
                    });
                }
                map.data_pages(table, locations, (rows.clone(), column))?;
                // The Parquet reader relies on it.
                if u64::try_from(chunk.compressed_size()) != Ok(map.end - before) {
                    return Err(BlockError::damaged(
                        table,
                        format!("the size of column {column} is not that of its pages"),
                    ));
                }
            }
            first_row = rows.end;
            map.row_groups.push(rows);
        }
        Ok(map)
    }

    fn data_pages(
        &mut self,
        table: Table,
        locations: &[parquet::file::page_index::offset_index::PageLocation],
        place: (Range<u64>, usize),
    ) -> Result<(), BlockError> {
        let (rows, column) = place;
        let n = rows.end - rows.start;
        for (at, location) in locations.iter().enumerate() {
            let length = i64::from(location.compressed_page_size);
            let bytes = self.next_page(table, location.offset, length)?;
            let row = |index: Option<i64>| index.and_then(|row| u64::try_from(row).ok());
            let first = row(Some(location.first_row_index));
            let end = match locations.get(at + 1) {
                Some(next) => row(Some(next.first_row_index)),
                None => Some(n),
            };
            let (Some(first), Some(end)) = (first, end) else {
                return Err(BlockError::damaged(
                    table,
                    "a page starts at a negative row",
                ));
            };
            if first >= end || end > n || (at == 0 && first != 0) {
                return Err(BlockError::damaged(
                    table,
                    format!("page {at} of column {column} has rows {first}..{end} of {n}"),
                ));
            }
            self.pages.push(Page {
                bytes,
                rows: rows.start + first..rows.start + end,
                column,
            });
        }
        if locations.is_empty() {
            return Err(BlockError::damaged(
                table,
                format!("column {column} has no pages"),
            ));
        }
        Ok(())
    }

    /// Takes the next page in file order, which must start where the last one ended.
    fn next_page(
        &mut self,
        table: Table,
        offset: i64,
        length: i64,
    ) -> Result<Range<u64>, BlockError> {
        let start = u64::try_from(offset).ok().filter(|&at| at == self.end);
        let end = u64::try_from(length)
            .ok()
            .filter(|&length| length > 0)
            .and_then(|length| self.end.checked_add(length));
        match (start, end) {
            (Some(start), Some(end)) => {
                self.end = end;
                Ok(start..end)
            }
            _ => Err(BlockError::damaged(
                table,
                format!(
                    "a page of {length} bytes at {offset} where {} comes next",
                    self.end
                ),
            )),
        }
    }

    pub(crate) fn pages(&self) -> &[Page] {
        &self.pages
    }

    pub(crate) fn row_groups(&self) -> &[Range<u64>] {
        &self.row_groups
    }

    /// Byte ranges of the pages in file order.
    pub(crate) fn byte_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.pages.iter().map(|page| page.bytes.clone())
    }

    /// Where the last page ends and the page index starts.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }
}

/// Where the dictionary page lies, if there is one, else the first data page.
fn chunk_start(chunk: &ColumnChunkMetaData) -> i64 {
    chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset())
}

/// Parses the footer and page index at the end of `tail`, which may be the whole file of `size`
/// bytes.
pub(crate) fn read_footer(
    table: Table,
    tail: &bytes::Bytes,
    size: u64,
) -> Result<ParquetMetaData, BlockError> {
    guarded(table, || {
        let mut reader = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Skip);
        reader.try_parse_sized(tail, size)?;
        reader.finish()
    })
}
