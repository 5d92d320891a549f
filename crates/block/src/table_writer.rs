//! Encodes one table: Arrow batches in, a Parquet file and its [`TableMeta`] out.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use xxhash_rust::xxh3::xxh3_64;

use crate::layout::{self, ColumnEncoding, OptionalColumns};
use crate::pages::PageMap;
use crate::{BlockError, Table, TableMeta};

/// Grows by batches; encoded row groups are all it holds.
pub(crate) struct TableWriter {
    table: Table,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter")
            .field("table", &self.table)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl TableWriter {
    /// A table other than the sample tables; `writes` gives profiles the keys of their writes.
    pub(crate) fn new(table: Table, writes: bool) -> Result<Self, BlockError> {
        let optional = OptionalColumns {
            write: writes,
            ..OptionalColumns::default()
        };
        Self::with_shape(table, optional, ColumnEncoding::Plain)
    }

    pub(crate) fn with_shape(
        table: Table,
        optional: OptionalColumns,
        value: ColumnEncoding,
    ) -> Result<Self, BlockError> {
        let schema = layout::schema(table, optional);
        let refused = |e: parquet::errors::ParquetError| encode_error(table, &e);
        let properties = layout::properties(table, value).map_err(refused)?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_schema_root(table.name().to_owned());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)
            .map_err(refused)?;
        Ok(Self {
            table,
            schema,
            writer,
            rows: 0,
        })
    }

    /// Appends rows, given as one array per column.
    pub(crate) fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), BlockError> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|e| encode_error(self.table, &e))?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        self.writer
            .write(&batch)
            .map_err(|e| encode_error(self.table, &e))
    }

    /// Rows written so far.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of finished row groups and of what waits to become one.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// The file and its meta; nothing for a table without rows.
    pub(crate) fn finish(self) -> Result<Option<(TableMeta, Bytes)>, BlockError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let file = self
            .writer
            .into_inner()
            .map_err(|e| encode_error(self.table, &e))?;
        let file = Bytes::from(file);
        let pages = PageMap::of_file(self.table, &file)?;
        let page_checksums = pages
            .byte_ranges()
            .map(|range| crc32fast::hash(&file[range.start as usize..range.end as usize]))
            .collect();
        let meta = TableMeta {
            table: self.table,
            bytes: file.len() as u64,
            rows: self.rows,
            checksum: xxh3_64(&file),
            page_checksums,
            // A copy: the meta lives on in catalogues long after the file was written.
            tail: Bytes::copy_from_slice(&file[pages.end() as usize..]),
        };
        Ok(Some((meta, file)))
    }
}

pub(crate) fn encode_error(table: Table, error: &dyn std::error::Error) -> BlockError {
    BlockError::Encode {
        table,
        what: error.to_string(),
    }
}
